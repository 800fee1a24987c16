//! Channels: what receivers ask for, (S, id), and how ids follow from addresses.
//!
//! Promises: the same address gives the same id on both sides, for ever (golden
//! values below). Is not the map from rules to channels (crate `rules`).

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::str::FromStr;

use siphasher::sip::SipHasher24;

/// A channel's number, unique within its sender. 0, the wildcard, is only ever
/// bound and therefore has no value of this type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ChannelId(NonZeroU64);

impl ChannelId {
    /// The id `n`; none for 0.
    #[must_use]
    pub const fn new(n: u64) -> Option<ChannelId> {
        match NonZeroU64::new(n) {
            Some(n) => Some(ChannelId(n)),
            None => None,
        }
    }

    /// The number, never 0.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// A unicast address's channel is its port; none for port 0.
    #[must_use]
    pub fn from_unicast_port(port: u16) -> Option<ChannelId> {
        Self::new(u64::from(port))
    }

    /// A group's channel: `group << 16 | port` for IPv4; for IPv6 the top bit
    /// and 63 bits of SipHash-2-4 (zero key) over group and port, big-endian.
    #[must_use]
    pub fn from_group(group: IpAddr, port: u16) -> Option<ChannelId> {
        match canonical(group) {
            IpAddr::V4(g) => Self::new(u64::from(u32::from(g)) << 16 | u64::from(port)),
            IpAddr::V6(g) => {
                let mut bytes = [0; 18];
                bytes[..16].copy_from_slice(&g.octets());
                bytes[16..].copy_from_slice(&port.to_be_bytes());
                let mut hash = SipHasher24::new();
                hash.write(&bytes);
                Self::new(hash.finish() | 1 << 63)
            }
        }
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// (S, id): the host where a stream begins, and which of its streams.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Channel {
    /// S; never a v4-mapped IPv6 address when made by [`Channel::new`].
    pub sender: IpAddr,
    /// The number within S.
    pub id: ChannelId,
}

impl Channel {
    /// The channel `id` of `sender`; a v4-mapped sender becomes IPv4.
    #[must_use]
    pub fn new(sender: IpAddr, id: ChannelId) -> Channel {
        Channel {
            sender: canonical(sender),
            id,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.sender, self.id)
    }
}

/// `S#ID` was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no channel: write SENDER#ID, for example 10.0.0.5#5000")]
pub struct ChannelSyntax(String);

impl FromStr for Channel {
    type Err = ChannelSyntax;

    fn from_str(s: &str) -> Result<Channel, ChannelSyntax> {
        let bad = || ChannelSyntax(s.to_owned());
        let (sender, id) = s.split_once('#').ok_or_else(bad)?;
        let sender = sender
            .strip_prefix('[')
            .and_then(|s| s.strip_suffix(']'))
            .unwrap_or(sender);
        let id = ChannelId::new(id.parse().map_err(|_| bad())?).ok_or_else(bad)?;
        Ok(Channel::new(sender.parse().map_err(|_| bad())?, id))
    }
}

/// A v4-mapped IPv6 address as the IPv4 address it stands for.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// S on the wire: 16 bytes, IPv4 as v4-mapped.
pub(crate) fn to_wire(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address of 16 wire bytes, IPv4 where it is v4-mapped.
pub(crate) fn from_wire(bytes: [u8; 16]) -> IpAddr {
    canonical(IpAddr::V6(Ipv6Addr::from(bytes)))
}

/// Whether S can be a host's address at all.
pub(crate) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast()),
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(a: &str, port: u16) -> u64 {
        ChannelId::from_group(a.parse().unwrap(), port)
            .unwrap()
            .get()
    }

    #[test]
    fn ids_have_golden_values() {
        assert_eq!(ChannelId::from_unicast_port(5019).unwrap().get(), 5019);
        assert_eq!(group("239.1.1.4", 5000), 0xEF01_0104_1388);
        assert_eq!(group("::ffff:239.1.1.4", 5000), 0xEF01_0104_1388);
        assert_eq!(group("ff3e::8000:1", 5000), GOLDEN_V6);
        assert_ne!(group("ff3e::8000:1", 5001), GOLDEN_V6);
    }

    const GOLDEN_V6: u64 = 0x9D18_55D2_412C_8519;

    #[test]
    fn the_ids_of_ipv6_groups_have_the_top_bit() {
        assert!(group("ff3e::1", 1) >> 63 == 1);
    }

    #[test]
    fn zero_is_no_id() {
        assert_eq!(ChannelId::new(0), None);
        assert_eq!(ChannelId::from_unicast_port(0), None);
    }

    #[test]
    fn a_channel_reads_what_it_prints() {
        for text in ["10.0.0.5#5000", "2001:db8::1#18446744073709551615"] {
            assert_eq!(text.parse::<Channel>().unwrap().to_string(), text);
        }
        let mapped: Channel = "[::ffff:10.0.0.5]#7".parse().unwrap();
        assert_eq!(mapped.to_string(), "10.0.0.5#7");
        for bad in ["10.0.0.5", "10.0.0.5#0", "x#1", "10.0.0.5#-1", ""] {
            assert!(bad.parse::<Channel>().is_err(), "{bad}");
        }
    }
}
