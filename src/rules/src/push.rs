//! What a datagram sent to an address means.
//!
//! Promises: allocates only for calls. Is not whether a process here listens
//! at an own address: then the caller asks [`Map::call`] first.

use std::net::{IpAddr, SocketAddr};

use flexcast_wire::{canonical, Channel, ChannelId};

use crate::map::Map;
use crate::rule::{Role, Rule, Senders};

/// What becomes of a datagram to an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Push<'a> {
    /// No rule takes it, or its rule leaves it alone: the kernel's.
    NotMapped,
    /// A channel of this host: to the whole audience.
    Own {
        /// The channel's id.
        channel_ids: ChannelId,
        /// The local address that is S; none: any local address.
        sender: Option<IpAddr>,
        /// The rule.
        rule: &'a Rule,
    },
    /// A group whose senders are others: dropped, counted, logged once; the
    /// call returns the datagram's length.
    Foreign {
        /// The rule.
        rule: &'a Rule,
    },
    /// Another host's unicast address: the channels are requested, and what is
    /// sent goes to S as ordinary unicast.
    Calls {
        /// One for each sender.
        channels: Vec<Channel>,
        /// The rule.
        rule: &'a Rule,
    },
}

impl Map {
    /// What a datagram to `to` means on this host. `is_local` says whether an
    /// address is this host's, `FLEXCAST_SELF` included; `own_source` is the
    /// source that the program chose (bind, IP_MULTICAST_IF), if it did: where
    /// several addresses of this host may be S, it decides.
    #[must_use]
    pub fn push(
        &self,
        to: SocketAddr,
        is_local: &dyn Fn(IpAddr) -> bool,
        own_source: Option<IpAddr>,
    ) -> Push<'_> {
        let Some(found) = self.match_of(to) else {
            return Push::NotMapped;
        };
        let (rule, id) = (found.rule, found.id);
        let address = canonical(to.ip());
        let own = |sender| Push::Own {
            channel_ids: id,
            sender,
            rule,
        };
        let chosen = own_source
            .map(canonical)
            .filter(|&a| !a.is_unspecified() && !a.is_multicast() && is_local(a));
        let own = match &rule.senders {
            Senders::Own => Some(own(None)),
            Senders::Unnamed if address.is_multicast() => Some(own(chosen)),
            Senders::Unnamed => is_local(address).then(|| own(Some(address))),
            Senders::Hosts(hosts) => {
                let mut local = hosts.iter().copied().filter(|&a| is_local(a));
                let first = local.next();
                let preferred = chosen.filter(|a| hosts.contains(a));
                first.map(|first| own(Some(preferred.unwrap_or(first))))
            }
        };
        match own {
            Some(own) if rule.allows(Role::Push) => own,
            Some(_) => Push::NotMapped,
            None if address.is_multicast() && rule.allows(Role::Push) => Push::Foreign { rule },
            None if address.is_multicast() => Push::NotMapped,
            None if rule.allows(Role::Call) => Push::Calls {
                channels: channels_called(rule, address, id),
                rule,
            },
            None => Push::NotMapped,
        }
    }
}

/// The channels of a call to `address`.
pub(crate) fn channels_called(rule: &Rule, address: IpAddr, id: ChannelId) -> Vec<Channel> {
    match &rule.senders {
        Senders::Hosts(_) => rule.named_channels(id),
        Senders::Unnamed | Senders::Own => vec![Channel::new(address, id)],
    }
}
