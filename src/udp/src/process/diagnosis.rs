//! Which UDP sockets there are (sock_diag).
//!
//! Promises: unprivileged; sees sockets of all processes in this network namespace,
//! also those that share a port. Is not: a look-up of one socket, which does not
//! find members of a reuseport group: this is a dump, filtered by the kernel.

use super::netlink::dump;
use crate::address::field;
use crate::{Errno, Family};

/// `SOCK_DIAG_BY_FAMILY` (include/uapi/linux/sock_diag.h).
const BY_FAMILY: u16 = 20;

/// The cookies (`SO_COOKIE`) of all UDP sockets of `family` bound to `local_port`;
/// 0 asks for all ports. An IPv6 socket that also speaks IPv4 is `Family::V6`.
///
/// # Errors
/// `ENOENT` where the kernel has no udp_diag, else as socket calls on netlink.
pub fn udp_sockets(local_port: u16, family: Family) -> Result<Vec<u64>, Errno> {
    // struct inet_diag_req_v2: family, protocol, extensions, pad, states 4, then
    // inet_diag_sockid: sport 2, dport 2, src 16, dst 16, interface 4, cookie 8.
    let mut request = [0; 56];
    request[0] = u8::try_from(family.domain()).unwrap_or_default();
    request[1] = u8::try_from(libc::IPPROTO_UDP).unwrap_or_default();
    request[4..8].fill(0xFF);
    request[8..10].copy_from_slice(&local_port.to_be_bytes());
    let mut cookies = Vec::new();
    dump(
        libc::NETLINK_SOCK_DIAG,
        BY_FAMILY,
        &request,
        |kind, body| {
            // struct inet_diag_msg: family, state, timer, retransmits, sockid 48, ...
            if kind == BY_FAMILY && body.len() >= 52 {
                let low = u32::from_ne_bytes(field(body, 44));
                let high = u32::from_ne_bytes(field(body, 48));
                cookies.push(u64::from(high) << 32 | u64::from(low));
            }
        },
    )?;
    Ok(cookies)
}
