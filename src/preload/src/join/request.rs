//! What setsockopt asks about groups: every shape of joining, leaving and filtering.
//!
//! ```text
//!   IPv4   ip_mreq 8, ip_mreqn 12, ip_mreq_source 12, ip_msfilter 16 + 4 a source
//!   IPv6   ipv6_mreq 20
//!   either group_req 136, group_source_req 264, group_filter 144 + 128 a source
//! ```
//! Promises: reads within the length that the program gave; what the kernel would
//! refuse by its form alone is not read, and so is the kernel's to refuse. Is not
//! the answer (`memberships`), nor whether a rule takes the group.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::c_int;

use crate::name::Family;

pub(super) const IP_MSFILTER: c_int = 41;
const MCAST_JOIN_GROUP: c_int = 42;
const MCAST_BLOCK_SOURCE: c_int = 43;
const MCAST_UNBLOCK_SOURCE: c_int = 44;
const MCAST_LEAVE_GROUP: c_int = 45;
const MCAST_JOIN_SOURCE_GROUP: c_int = 46;
const MCAST_LEAVE_SOURCE_GROUP: c_int = 47;
pub(super) const MCAST_MSFILTER: c_int = 48;

/// As many sources as the kernel takes in one filter, by default (`igmp_max_msf`,
/// `mld_max_msf`).
pub(super) fn most_sources(family: Family) -> usize {
    match family {
        Family::V4 => 10,
        Family::V6 => 64,
    }
}

/// Where a membership is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Interface {
    /// Where the routes say.
    Default,
    /// By its index.
    Index(u32),
    /// By an address of its own.
    Address(Ipv4Addr),
}

impl Interface {
    fn of_index(index: u32) -> Interface {
        match index {
            0 => Interface::Default,
            index => Interface::Index(index),
        }
    }

    fn of_address(address: Ipv4Addr) -> Interface {
        if address.is_unspecified() {
            Interface::Default
        } else {
            Interface::Address(address)
        }
    }
}

/// Whether a list of sources says who is heard, or who is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// All but these (`MCAST_EXCLUDE`).
    Exclude,
    /// These alone (`MCAST_INCLUDE`).
    Include,
}

impl Mode {
    fn of(word: u32) -> Option<Mode> {
        match word {
            0 => Some(Mode::Exclude),
            1 => Some(Mode::Include),
            _ => None,
        }
    }

    /// The kernel's word for it.
    pub(super) fn word(self) -> u32 {
        match self {
            Mode::Exclude => 0,
            Mode::Include => 1,
        }
    }
}

/// What is to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Any source.
    Join,
    /// Whatever was joined.
    Leave,
    /// This source, too.
    Add(IpAddr),
    /// This source no longer.
    Drop(IpAddr),
    /// All but this source.
    Block(IpAddr),
    /// This source again.
    Unblock(IpAddr),
    /// The whole list.
    Filter(Mode, Vec<IpAddr>),
}

/// A change of one membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    /// The group, never v4-mapped.
    pub(super) group: IpAddr,
    /// As the program names it.
    pub(super) interface: Interface,
    /// What is asked.
    pub(super) change: Change,
    /// Of the option: IPv4 groups may be joined by an IPv6 socket.
    pub(super) family: Family,
}

/// Reads an option; none where it is another, or its form is not the kernel's.
pub(super) fn read(level: c_int, name: c_int, value: &[u8]) -> Option<Request> {
    let family = family_of(level)?;
    let (group, interface, change) = match (family, name) {
        (Family::V4, libc::IP_ADD_MEMBERSHIP) => with(membership(value)?, Change::Join),
        (Family::V4, libc::IP_DROP_MEMBERSHIP) => with(membership(value)?, Change::Leave),
        (Family::V4, libc::IP_ADD_SOURCE_MEMBERSHIP) => source_membership(value, Change::Add)?,
        (Family::V4, libc::IP_DROP_SOURCE_MEMBERSHIP) => source_membership(value, Change::Drop)?,
        (Family::V4, libc::IP_BLOCK_SOURCE) => source_membership(value, Change::Block)?,
        (Family::V4, libc::IP_UNBLOCK_SOURCE) => source_membership(value, Change::Unblock)?,
        (Family::V4, IP_MSFILTER) => source_filter(value)?,
        (Family::V6, libc::IPV6_ADD_MEMBERSHIP) => with(membership_v6(value)?, Change::Join),
        (Family::V6, libc::IPV6_DROP_MEMBERSHIP) => with(membership_v6(value)?, Change::Leave),
        (_, MCAST_JOIN_GROUP) => with(generic(value, 136, family)?, Change::Join),
        (_, MCAST_LEAVE_GROUP) => with(generic(value, 136, family)?, Change::Leave),
        (_, MCAST_JOIN_SOURCE_GROUP) => generic_source(value, family, Change::Add)?,
        (_, MCAST_LEAVE_SOURCE_GROUP) => generic_source(value, family, Change::Drop)?,
        (_, MCAST_BLOCK_SOURCE) => generic_source(value, family, Change::Block)?,
        (_, MCAST_UNBLOCK_SOURCE) => generic_source(value, family, Change::Unblock)?,
        (_, MCAST_MSFILTER) => generic_filter(value, family)?,
        _ => return None,
    };
    // A v4-mapped group is none to the kernel's IPv6 options.
    let group = Some(group).filter(IpAddr::is_multicast)?;
    Some(Request {
        group,
        interface,
        change,
        family,
    })
}

/// Which membership a query for the list of sources means; none for other options.
pub(super) fn read_query(level: c_int, name: c_int, value: &[u8]) -> Option<(IpAddr, Interface)> {
    match (family_of(level)?, name) {
        (Family::V4, IP_MSFILTER) if value.len() >= 16 => {
            Some((v4(value, 0)?.into(), Interface::of_address(v4(value, 4)?)))
        }
        (family, MCAST_MSFILTER) => generic(value, 144, family),
        _ => None,
    }
}

/// More bytes than that are never looked at.
pub(crate) const LONGEST: usize = 144 + 64 * 128;

/// Whether an option may be one of these, before its value is looked at.
pub(crate) fn concerns(level: c_int, name: c_int) -> bool {
    let generic = (MCAST_JOIN_GROUP..=MCAST_MSFILTER).contains(&name);
    match family_of(level) {
        Some(Family::V4) => generic || (libc::IP_ADD_MEMBERSHIP..=IP_MSFILTER).contains(&name),
        Some(Family::V6) => {
            generic || name == libc::IPV6_ADD_MEMBERSHIP || name == libc::IPV6_DROP_MEMBERSHIP
        }
        None => false,
    }
}

fn family_of(level: c_int) -> Option<Family> {
    match level {
        libc::IPPROTO_IP => Some(Family::V4),
        libc::IPPROTO_IPV6 => Some(Family::V6),
        _ => None,
    }
}

type Read = (IpAddr, Interface, Change);

fn with((group, interface): (IpAddr, Interface), change: Change) -> Read {
    (group, interface, change)
}

fn membership(value: &[u8]) -> Option<(IpAddr, Interface)> {
    let (group, address) = (v4(value, 0)?, v4(value, 4)?);
    let interface = match word(value, 8) {
        None | Some(0) => Interface::of_address(address),
        Some(index) => Interface::Index(index),
    };
    Some((group.into(), interface))
}

fn source_membership(value: &[u8], change: fn(IpAddr) -> Change) -> Option<Read> {
    if value.len() != 12 {
        return None;
    }
    let (group, interface, source) = (v4(value, 0)?, v4(value, 4)?, v4(value, 8)?);
    let interface = Interface::of_address(interface);
    Some((group.into(), interface, change(source.into())))
}

fn source_filter(value: &[u8]) -> Option<Read> {
    let (group, interface) = (v4(value, 0)?, Interface::of_address(v4(value, 4)?));
    let (mode, count) = (Mode::of(word(value, 8)?)?, word(value, 12)?);
    let count = usize::try_from(count).ok()?;
    if count > most_sources(Family::V4) {
        return None;
    }
    let source = |n: usize| v4(value, 16 + 4 * n).map(IpAddr::V4);
    let sources: Option<Vec<IpAddr>> = (0..count).map(source).collect();
    Some((group.into(), interface, Change::Filter(mode, sources?)))
}

fn membership_v6(value: &[u8]) -> Option<(IpAddr, Interface)> {
    let group: [u8; 16] = value.get(0..16)?.try_into().ok()?;
    let interface = Interface::of_index(word(value, 16)?);
    Some((Ipv6Addr::from(group).into(), interface))
}

fn generic(value: &[u8], least: usize, family: Family) -> Option<(IpAddr, Interface)> {
    if value.len() < least {
        return None;
    }
    let group = address(value, 8, family)?;
    Some((group, Interface::of_index(word(value, 0)?)))
}

fn generic_source(value: &[u8], family: Family, change: fn(IpAddr) -> Change) -> Option<Read> {
    let (group, interface) = generic(value, 264, family)?;
    Some((group, interface, change(address(value, 136, family)?)))
}

fn generic_filter(value: &[u8], family: Family) -> Option<Read> {
    let (group, interface) = generic(value, 144, family)?;
    let (mode, count) = (Mode::of(word(value, 136)?)?, word(value, 140)?);
    let count = usize::try_from(count).ok()?;
    if count > most_sources(family) || value.len() < 144 + 128 * count {
        return None;
    }
    let source = |n: usize| address(value, 144 + 128 * n, family);
    let sources: Option<Vec<IpAddr>> = (0..count).map(source).collect();
    Some((group, interface, Change::Filter(mode, sources?)))
}

/// The address in the `sockaddr_storage` at `at`; none where its family is another.
fn address(value: &[u8], at: usize, family: Family) -> Option<IpAddr> {
    let domain = u16::from_ne_bytes(value.get(at..at + 2)?.try_into().ok()?);
    match (family, c_int::from(domain)) {
        (Family::V4, libc::AF_INET) => v4(value, at + 4).map(IpAddr::V4),
        (Family::V6, libc::AF_INET6) => {
            let bytes: [u8; 16] = value.get(at + 8..at + 24)?.try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

fn v4(value: &[u8], at: usize) -> Option<Ipv4Addr> {
    let bytes: [u8; 4] = value.get(at..at + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(bytes))
}

fn word(value: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(value.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(group: &str, interface: Interface, change: Change) -> Option<Request> {
        let group: IpAddr = group.parse().unwrap();
        let family = match group {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        Some(Request {
            group,
            interface,
            change,
            family,
        })
    }

    fn storage(address: &str) -> Vec<u8> {
        let mut bytes = vec![0; 128];
        match address.parse().unwrap() {
            IpAddr::V4(ip) => {
                bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
                bytes[4..8].copy_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes[..2].copy_from_slice(&10_u16.to_ne_bytes());
                bytes[8..24].copy_from_slice(&ip.octets());
            }
        }
        bytes
    }

    fn source() -> IpAddr {
        "10.0.0.5".parse().unwrap()
    }

    #[test]
    fn both_sizes_of_the_oldest_shape_name_their_interface() {
        let (ip, add) = (libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP);
        let read = |value: &[u8]| read(ip, add, value);
        let joined = |interface| request("239.1.1.1", interface, Change::Join);
        let any = [239, 1, 1, 1, 0, 0, 0, 0];
        assert_eq!(read(&any), joined(Interface::Default));
        let by_address = [239, 1, 1, 1, 10, 0, 0, 9];
        let address = Interface::Address("10.0.0.9".parse().unwrap());
        assert_eq!(read(&by_address), joined(address));
        let with_index = [&by_address[..], &3_u32.to_ne_bytes()].concat();
        assert_eq!(read(&with_index), joined(Interface::Index(3)));
        assert_eq!(read(&any[..7]), None);
        assert_eq!(read(&[10, 1, 1, 1, 0, 0, 0, 0]), None);
    }

    #[test]
    fn source_shapes_are_read_in_the_order_that_linux_has() {
        let value = [232, 1, 1, 1, 0, 0, 0, 0, 10, 0, 0, 5];
        for (name, change) in [
            (libc::IP_ADD_SOURCE_MEMBERSHIP, Change::Add(source())),
            (libc::IP_DROP_SOURCE_MEMBERSHIP, Change::Drop(source())),
            (libc::IP_BLOCK_SOURCE, Change::Block(source())),
            (libc::IP_UNBLOCK_SOURCE, Change::Unblock(source())),
        ] {
            let expected = request("232.1.1.1", Interface::Default, change);
            assert_eq!(read(libc::IPPROTO_IP, name, &value), expected);
            assert_eq!(read(libc::IPPROTO_IP, name, &value[..11]), None);
        }
    }

    #[test]
    fn the_protocol_independent_shapes_are_read_for_both_families() {
        for (level, group, from) in [
            (libc::IPPROTO_IP, "239.1.1.1", "10.0.0.5"),
            (libc::IPPROTO_IPV6, "ff3e::8000:1", "2001:db8::5"),
        ] {
            let head = [&2_u32.to_ne_bytes()[..], &[0; 4], &storage(group)].concat();
            let whole = [&head[..], &storage(from)].concat();
            let from: IpAddr = from.parse().unwrap();
            for (name, value, change) in [
                (MCAST_JOIN_GROUP, &head, Change::Join),
                (MCAST_LEAVE_GROUP, &head, Change::Leave),
                (MCAST_JOIN_SOURCE_GROUP, &whole, Change::Add(from)),
                (MCAST_LEAVE_SOURCE_GROUP, &whole, Change::Drop(from)),
                (MCAST_BLOCK_SOURCE, &whole, Change::Block(from)),
                (MCAST_UNBLOCK_SOURCE, &whole, Change::Unblock(from)),
            ] {
                let expected = request(group, Interface::Index(2), change);
                assert_eq!(read(level, name, value), expected);
                assert_eq!(read(level, name, &value[..value.len() - 1]), None);
                assert!(concerns(level, name));
            }
        }
        // The family of the address is that of the level, or the kernel refuses.
        let four = [&[0; 8][..], &storage("239.1.1.1")].concat();
        assert_eq!(read(libc::IPPROTO_IPV6, MCAST_JOIN_GROUP, &four), None);
    }

    #[test]
    fn filters_are_read_whole_or_not_at_all() {
        let old = [
            239, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 10, 0, 0, 5,
        ];
        let change = Change::Filter(Mode::Include, vec![source()]);
        let expected = request("239.1.1.1", Interface::Default, change);
        assert_eq!(read(libc::IPPROTO_IP, IP_MSFILTER, &old), expected);
        assert_eq!(read(libc::IPPROTO_IP, IP_MSFILTER, &old[..19]), None);
        let head = [&[0; 8][..], &storage("239.1.1.1")].concat();
        let words = [&1_u32.to_ne_bytes()[..], &1_u32.to_ne_bytes()].concat();
        let new = [head, words, storage("10.0.0.5")].concat();
        assert_eq!(read(libc::IPPROTO_IP, MCAST_MSFILTER, &new), expected);
        assert_eq!(read(libc::IPPROTO_IP, MCAST_MSFILTER, &new[..271]), None);
    }

    #[test]
    fn other_options_are_not_ours() {
        assert!(!concerns(libc::SOL_SOCKET, libc::SO_REUSEADDR));
        assert!(!concerns(libc::IPPROTO_IP, libc::IP_MULTICAST_ALL));
        assert!(!concerns(libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP));
        assert_eq!(
            read(libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &[239; 12]),
            None
        );
    }
}
