//! Kernel multicast on one link: membership, and how what is sent leaves.
//!
//! For gateways between a link with multicast and our channels. Promises: both families
//! by one call. Is not what happens to the joins of programs (crate `preload`).

use std::net::{IpAddr, SocketAddr};

use crate::address::RawAddress;
use crate::{sockopt, Errno, Family, UdpSocket};

/// `MCAST_JOIN_GROUP` (include/uapi/linux/in.h, RFC 3678).
const MCAST_JOIN_GROUP: i32 = 42;
/// `struct group_req`: interface, padding, `struct sockaddr_storage`.
const GROUP_AT: usize = 8;
const STORAGE: usize = 128;

impl UdpSocket {
    /// Joins a group of the socket's family on an interface (0: the route's).
    ///
    /// # Errors
    /// `ENODEV` without such an interface or route, `EADDRINUSE` a second time,
    /// `EAFNOSUPPORT` for a group of the other family.
    pub fn join_group(&self, group: IpAddr, interface: u32) -> Result<(), Errno> {
        if Family::of(group) != self.family() {
            return Err(Errno::EAFNOSUPPORT);
        }
        let name = RawAddress::encode(SocketAddr::new(group, 0), self.family())?;
        let mut request = [0; GROUP_AT + STORAGE];
        request[..4].copy_from_slice(&interface.to_ne_bytes());
        let bytes = &name.bytes[..];
        request[GROUP_AT..GROUP_AT + bytes.len()].copy_from_slice(bytes);
        sockopt::set_bytes(self.as_raw(), self.ip_level(), MCAST_JOIN_GROUP, &request)
    }

    /// By which interface what is sent to groups leaves (0: the route's), and how many
    /// routers it may pass, itself included.
    ///
    /// # Errors
    /// `ENODEV` or `EADDRNOTAVAIL` without such an interface.
    pub fn set_multicast_way(&self, interface: u32, hops: u8) -> Result<(), Errno> {
        let (raw, level) = (self.as_raw(), self.ip_level());
        match self.family() {
            Family::V4 => {
                // struct ip_mreqn: two addresses, then the interface.
                let mut request = [0; 12];
                request[8..].copy_from_slice(&interface.to_ne_bytes());
                sockopt::set_bytes(raw, level, libc::IP_MULTICAST_IF, &request)?;
                sockopt::set_u32(raw, level, libc::IP_MULTICAST_TTL, u32::from(hops))
            }
            Family::V6 => {
                sockopt::set_u32(raw, level, libc::IPV6_MULTICAST_IF, interface)?;
                sockopt::set_u32(raw, level, libc::IPV6_MULTICAST_HOPS, u32::from(hops))
            }
        }
    }

    fn ip_level(&self) -> i32 {
        match self.family() {
            Family::V4 => libc::SOL_IP,
            Family::V6 => libc::SOL_IPV6,
        }
    }
}
