//! What a rule covers: addresses and ports.
//!
//! Promises: v4-mapped IPv6 addresses are the IPv4 addresses they stand for;
//! a prefix never covers the link-local groups that routers and service
//! discovery live on. Is not their text's reader (`parse`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use flexcast_wire::canonical;

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IPv4, v4-mapped addresses included.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address; a v4-mapped one is IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Family {
        match canonical(address) {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Bits in an address of this family.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// An address or a prefix. Bits beyond a prefix's length do not count, and are
/// not printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Range {
    network: IpAddr,
    length: u8,
}

impl Range {
    /// The range of exactly `address`.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Range {
        let network = canonical(address);
        Range {
            network,
            length: Family::of(network).bits(),
        }
    }

    /// The prefix of `length` bits that `address` is in. None where the length
    /// exceeds the family's bits.
    pub(crate) fn of_prefix(address: IpAddr, length: u8) -> Option<Range> {
        let address = canonical(address);
        (length <= Family::of(address).bits()).then(|| Range {
            network: masked(address, length),
            length,
        })
    }

    /// The first address.
    #[must_use]
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// Leading bits that count; all of them for a single address.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// The range's family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.network)
    }

    /// Whether this is one address, not a prefix.
    #[must_use]
    pub fn is_address(&self) -> bool {
        self.length == self.family().bits()
    }

    /// Whether `address` is in the range. A prefix covers no address of
    /// 224.0.0.0/24, ff01::/16 or ff02::/16; written out, they are covered.
    #[must_use]
    pub fn covers(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        self.family() == Family::of(address)
            && masked(address, self.length) == self.network
            && (self.is_address() || !is_link_group(address))
    }

    /// Whether some group is in the range.
    #[must_use]
    pub fn has_groups(&self) -> bool {
        let (groups, length) = self.all_groups();
        if self.length >= length {
            masked(self.network, length) == groups
        } else {
            masked(groups, self.length) == self.network
        }
    }

    /// Whether some unicast address is in the range.
    #[must_use]
    pub fn has_hosts(&self) -> bool {
        let (_, length) = self.all_groups();
        !self.has_groups() || self.length < length
    }

    /// Whether everything in the range is what a prefix never covers.
    pub(crate) fn covers_nothing(&self) -> bool {
        let least = match self.family() {
            Family::V4 => 24,
            Family::V6 => 16,
        };
        !self.is_address() && self.length >= least && is_link_group(self.network)
    }

    /// Whether both cover some same address.
    #[must_use]
    pub fn overlaps(&self, other: &Range) -> bool {
        let length = self.length.min(other.length);
        self.family() == other.family()
            && masked(self.network, length) == masked(other.network, length)
    }

    fn all_groups(&self) -> (IpAddr, u8) {
        match self.family() {
            Family::V4 => (Ipv4Addr::new(224, 0, 0, 0).into(), 4),
            Family::V6 => (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Bracketed(self.network))?;
        if self.is_address() {
            Ok(())
        } else {
            write!(f, "/{}", self.length)
        }
    }
}

/// An address as rules write it: IPv6 in brackets.
pub(crate) struct Bracketed(pub(crate) IpAddr);

impl fmt::Display for Bracketed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "[{v6}]"),
        }
    }
}

/// Ports from one to another, both included; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// What a rule without PORTS takes.
    pub const ALL: Ports = Ports {
        first: 1,
        last: u16::MAX,
    };

    /// Ports `first` to `last`; none for port 0 or where first exceeds last.
    #[must_use]
    pub fn new(first: u16, last: u16) -> Option<Ports> {
        (first != 0 && first <= last).then_some(Ports { first, last })
    }

    /// The lowest port.
    #[must_use]
    pub fn first(&self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub fn last(&self) -> u16 {
        self.last
    }

    /// Whether `port` is among them.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Whether `address` is a group that never leaves the link by custom: routing
/// protocols, neighbour and service discovery (RFC 5771 section 4, RFC 4291
/// section 2.7).
fn is_link_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.octets()[..3] == [224, 0, 0],
        IpAddr::V6(a) => matches!(a.segments()[0], 0xff01 | 0xff02),
    }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from(u32::from(a) & mask).into()
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from(u128::from(a) & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(network: &str, length: u8) -> Range {
        Range::of_prefix(network.parse().unwrap(), length).unwrap()
    }

    fn covers(range: Range, address: &str) -> bool {
        range.covers(address.parse().unwrap())
    }

    #[test]
    fn a_prefix_covers_its_addresses_and_no_others() {
        let range = prefix("239.1.0.0", 16);
        assert!(covers(range, "239.1.255.255"));
        assert!(covers(range, "::ffff:239.1.0.1"));
        assert!(!covers(range, "239.2.0.0"));
        assert!(!covers(range, "::239.1.0.0"));
        assert!(covers(prefix("0.0.0.0", 0), "255.1.2.3"));
        assert!(covers(prefix("ff3e::8000:0", 96), "ff3e::7fff:1"));
        assert!(!covers(prefix("::", 0), "::ffff:10.0.0.1"));
    }

    #[test]
    fn a_prefix_never_covers_the_groups_of_the_link() {
        for group in ["224.0.0.1", "224.0.0.251", "::ffff:224.0.0.9"] {
            assert!(!covers(prefix("224.0.0.0", 4), group), "{group}");
        }
        assert!(covers(prefix("224.0.0.0", 4), "224.0.1.0"));
        for group in ["ff01::1", "ff02::fb"] {
            assert!(!covers(prefix("ff00::", 8), group), "{group}");
        }
        assert!(covers(prefix("ff00::", 8), "ff05::1"));
        assert!(covers(
            Range::of_address("224.0.0.251".parse().unwrap()),
            "224.0.0.251"
        ));
        assert!(prefix("224.0.0.128", 25).covers_nothing());
        assert!(prefix("ff02::", 64).covers_nothing());
        assert!(!prefix("224.0.0.0", 23).covers_nothing());
    }

    #[test]
    fn ranges_know_whether_they_hold_groups_or_hosts() {
        for (network, length, groups, hosts) in [
            ("10.0.0.0", 24, false, true),
            ("239.0.0.0", 8, true, false),
            ("224.0.0.0", 4, true, false),
            ("192.0.0.0", 2, true, true),
            ("0.0.0.0", 0, true, true),
            ("0.0.0.0", 1, false, true),
            ("ff3e::", 16, true, false),
            ("2001:db8::", 32, false, true),
            ("8000::", 1, true, true),
        ] {
            let range = prefix(network, length);
            assert_eq!(range.has_groups(), groups, "{range}");
            assert_eq!(range.has_hosts(), hosts, "{range}");
        }
    }
}
