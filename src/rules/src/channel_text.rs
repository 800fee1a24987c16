//! CHANNEL on the command line:
//! `S#ID | self#ID | GROUP:PORT | ADDRESS:PORT` (through the rules).
//!
//! Promises: the same channels as the preload library derives from the map.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use flexcast_wire::{canonical, Channel, ChannelId};

use crate::join::Join;
use crate::map::Map;
use crate::push::{channels_called, Push};

/// A channel as it is named on a command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelText {
    /// `S#ID`.
    Channel(Channel),
    /// `self#ID`: this host's.
    Own(ChannelId),
    /// `ADDRESS:PORT`, which the rules turn into channels.
    Address(SocketAddr),
}

/// A channel of this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnChannel {
    /// The id.
    pub id: ChannelId,
    /// The local address that is S; none: any local address.
    pub sender: Option<IpAddr>,
}

/// A text that names no channel, or none that can be used so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelTextError {
    /// None of the four shapes.
    #[error(
        "{0:?} is no channel: write SENDER#ID (10.0.0.5#5000), self#ID, GROUP:PORT \
         (239.1.1.4:5000) or ADDRESS:PORT; IPv6 addresses in brackets"
    )]
    Syntax(String),
    /// An address that no rule takes.
    #[error(
        "no rule takes {0}: add one with --map, such as --map {0}=SENDER, \
         or name the channel as SENDER#ID"
    )]
    NotMapped(SocketAddr),
    /// A group whose senders nobody names.
    #[error(
        "nobody says who sends {0}: name the sender in its rule ({0}=SENDER), \
         or the channel as SENDER#ID"
    )]
    NoSender(SocketAddr),
    /// A channel of other hosts, where this host should send.
    #[error(
        "{0} is sent by another host: name an address of this host as its sender, \
         or set FLEXCAST_SELF if that address is this host's from outside"
    )]
    NotOwn(ChannelText),
}

impl ChannelText {
    /// The channels to request. `is_local` as for [`Map::push`].
    ///
    /// # Errors
    /// An address that no rule takes, or a group whose sender nobody names.
    pub fn to_receive(
        &self,
        map: &Map,
        is_local: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Vec<Channel>, ChannelTextError> {
        let address = match *self {
            ChannelText::Channel(channel) => return Ok(vec![channel]),
            ChannelText::Own(id) => {
                let loopback = IpAddr::from(std::net::Ipv4Addr::LOCALHOST);
                return Ok(vec![Channel::new(loopback, id)]);
            }
            ChannelText::Address(address) => address,
        };
        let found = map.match_of(address);
        let found = found.ok_or(ChannelTextError::NotMapped(address))?;
        if !address.ip().is_multicast() {
            return Ok(channels_called(found.rule, address.ip(), found.id));
        }
        match map.join(address.ip(), address.port(), None, is_local) {
            Join::Channels(channels, _) => Ok(channels),
            Join::LeaveToKernel => Err(ChannelTextError::NoSender(address)),
            Join::NotMapped => Err(ChannelTextError::NotMapped(address)),
        }
    }

    /// The channel to send as. `is_local` as for [`Map::push`].
    ///
    /// # Errors
    /// An address that no rule takes, or a channel that other hosts send.
    pub fn to_send(
        &self,
        map: &Map,
        is_local: &dyn Fn(IpAddr) -> bool,
    ) -> Result<OwnChannel, ChannelTextError> {
        match *self {
            ChannelText::Own(id) => Ok(OwnChannel { id, sender: None }),
            ChannelText::Channel(Channel { sender, id }) if is_local(sender) => Ok(OwnChannel {
                id,
                sender: Some(sender),
            }),
            ChannelText::Channel(_) => Err(ChannelTextError::NotOwn(*self)),
            ChannelText::Address(address) => match map.push(address, is_local, None) {
                Push::Own {
                    channel_ids: id,
                    sender,
                    ..
                } => Ok(OwnChannel { id, sender }),
                Push::Foreign { .. } | Push::Calls { .. } => Err(ChannelTextError::NotOwn(*self)),
                Push::NotMapped => Err(ChannelTextError::NotMapped(address)),
            },
        }
    }
}

impl FromStr for ChannelText {
    type Err = ChannelTextError;

    fn from_str(text: &str) -> Result<ChannelText, ChannelTextError> {
        let bad = || ChannelTextError::Syntax(text.to_owned());
        if let Some(id) = text.strip_prefix("self#") {
            let id = crate::parse::plain_number(id).and_then(ChannelId::new);
            return id.map(ChannelText::Own).ok_or_else(bad);
        }
        if text.contains('#') {
            return text.parse().map(ChannelText::Channel).map_err(|_| bad());
        }
        let address: SocketAddr = text.parse().map_err(|_| bad())?;
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(bad());
        }
        let address = SocketAddr::new(canonical(address.ip()), address.port());
        Ok(ChannelText::Address(address))
    }
}

impl fmt::Display for ChannelText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChannelText::Channel(channel) => channel.fmt(f),
            ChannelText::Own(id) => write!(f, "self#{id}"),
            ChannelText::Address(address) => address.fmt(f),
        }
    }
}
