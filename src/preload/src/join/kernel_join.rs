//! Joins that waited for a bind and then turned out to be the kernel's.
//!
//! Promises: the same membership as the program's own call would have made. Is not
//! for groups that a rule takes.

use std::net::IpAddr;

use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::Errno;
use libc::c_int;

use super::memberships::Membership;
use super::request::{Interface, Mode};

const MCAST_JOIN_GROUP: c_int = 42;
const MCAST_BLOCK_SOURCE: c_int = 43;
const MCAST_JOIN_SOURCE_GROUP: c_int = 46;

/// Joins, with all its sources.
pub(super) fn join(fd: c_int, membership: &Membership) -> Result<(), Errno> {
    let level = match membership.group {
        IpAddr::V4(_) => libc::IPPROTO_IP,
        IpAddr::V6(_) => libc::IPPROTO_IPV6,
    };
    let index = match membership.interface {
        Interface::Index(index) => index,
        Interface::Default | Interface::Address(_) => 0,
    };
    // struct group_req, struct group_source_req.
    let mut group = vec![0; 8];
    group[..4].copy_from_slice(&index.to_ne_bytes());
    group.extend(storage(membership.group));
    let with = |source: IpAddr| [&group[..], &storage(source)].concat();
    let set = |name, value: &[u8]| sockopt::set_bytes(fd, level, name, value);
    match membership.mode {
        Mode::Exclude => {
            set(MCAST_JOIN_GROUP, &group)?;
            for source in &membership.sources {
                set(MCAST_BLOCK_SOURCE, &with(*source))?;
            }
        }
        Mode::Include => {
            for source in &membership.sources {
                set(MCAST_JOIN_SOURCE_GROUP, &with(*source))?;
            }
        }
    }
    Ok(())
}

/// `struct sockaddr_storage` with this address and port 0.
pub(super) fn storage(address: IpAddr) -> [u8; 128] {
    let mut bytes = [0; 128];
    let domain = match address {
        IpAddr::V4(ip) => {
            bytes[4..8].copy_from_slice(&ip.octets());
            libc::AF_INET
        }
        IpAddr::V6(ip) => {
            bytes[8..24].copy_from_slice(&ip.octets());
            libc::AF_INET6
        }
    };
    let domain = u16::try_from(domain).unwrap_or(0);
    bytes[..2].copy_from_slice(&domain.to_ne_bytes());
    bytes
}
