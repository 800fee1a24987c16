//! What a sender binds: channels of this host, some or all.
//! Is not what a receiver asks for, which is always one [`Channel`].

use std::net::IpAddr;

use flexcast_runtime::send::Scope;
use flexcast_wire::{Channel, ChannelId};

/// Channels of this host: of one of its addresses or of any, one id or (the wildcard)
/// every id that nobody else on the host has.
///
/// ```
/// use flexcast::{Binding, Channel};
///
/// let channel: Channel = "10.0.0.5#5000".parse().unwrap();
/// let one = Binding::from(channel);
/// assert_eq!(one.id, Some(channel.id));
/// assert_eq!(Binding::ANY.sender, None);
/// assert_eq!(Binding::of_id(channel.id).sender, None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Binding {
    /// The address of this host that receivers ask for; none: any.
    pub sender: Option<IpAddr>,
    /// The id; none: any.
    pub id: Option<ChannelId>,
}

impl Binding {
    /// Any address of this host, any id.
    pub const ANY: Binding = Binding {
        sender: None,
        id: None,
    };

    /// Any address of this host, this id.
    #[must_use]
    pub const fn of_id(id: ChannelId) -> Binding {
        Binding {
            sender: None,
            id: Some(id),
        }
    }

    pub(crate) fn scope(self, ipv4_only: bool, passing: bool) -> Scope {
        Scope {
            ipv4_only,
            passing,
            sender: self.sender.map(|sender| sender.to_canonical()),
            id: self.id,
            app_port: 0,
        }
    }
}

impl From<Channel> for Binding {
    fn from(channel: Channel) -> Binding {
        Binding {
            sender: Some(channel.sender),
            id: Some(channel.id),
        }
    }
}
