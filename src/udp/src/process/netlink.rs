//! Questions to the kernel over netlink: one dump at a time.
//!
//! Promises: a whole answer or an error; addresses of this network namespace.
//! Is not: a netlink library (the relay has one for rules and routes).
//!
//! ```text
//! | length 4 | type 2 | flags 2 | sequence 4 | port 4 | body ... | padding to 4 |
//! ```

use std::net::IpAddr;

use super::readiness::{poll, PollFd};
use crate::address::{canonical, field};
use crate::raw::{call, int};
use crate::{Errno, Fd};

const HEADER: usize = 16;
/// The kernel answers within the call; this only bounds a fault.
const PATIENCE_US: u64 = 2_000_000;

/// All addresses of this host, IPv4 and IPv6.
///
/// # Errors
/// As socket(2), sendto(2), recvfrom(2) on netlink.
pub fn local_addresses() -> Result<Vec<IpAddr>, Errno> {
    let mut addresses = Vec::new();
    each_address(|address, _| addresses.push(address))?;
    Ok(addresses)
}

/// The index of the interface that has `address`; none where no interface has it.
///
/// # Errors
/// As [`local_addresses`].
pub fn interface_of(address: IpAddr) -> Result<Option<u32>, Errno> {
    let address = canonical(address);
    let mut found = None;
    each_address(|known, index| {
        if known == address && found.is_none() {
            found = Some(index);
        }
    })?;
    Ok(found)
}

/// Calls `visit` with each address and its interface's index.
fn each_address(mut visit: impl FnMut(IpAddr, u32)) -> Result<(), Errno> {
    // struct ifaddrmsg: family (0: all), prefix length, flags, scope, index 4.
    dump(
        libc::NETLINK_ROUTE,
        libc::RTM_GETADDR,
        &[0; 8],
        |kind, body| {
            if kind != libc::RTM_NEWADDR || body.len() < 8 {
                return;
            }
            let index = u32::from_ne_bytes(field(body, 4));
            // IFA_LOCAL is our end of a point-to-point link; IPv6 mostly has IFA_ADDRESS.
            let attribute = |wanted| attributes(&body[8..]).find(|(kind, _)| *kind == wanted);
            let local = attribute(libc::IFA_LOCAL).or_else(|| attribute(libc::IFA_ADDRESS));
            let Some((_, value)) = local else { return };
            match value.len() {
                4 => visit(IpAddr::from(field::<4>(value, 0)), index),
                16 => visit(IpAddr::from(field::<16>(value, 0)), index),
                _ => {}
            }
        },
    )
}

/// Whether `address` is one of this host's; loopback addresses always are.
///
/// # Errors
/// As [`local_addresses`].
pub fn is_local(address: IpAddr) -> Result<bool, Errno> {
    let address = canonical(address);
    Ok(address.is_loopback() || local_addresses()?.contains(&address))
}

/// Sends one dump request and hands each message of the answer to `visit` (type,
/// body).
pub(super) fn dump(
    protocol: i32,
    request: u16,
    body: &[u8],
    mut visit: impl FnMut(u16, &[u8]),
) -> Result<(), Errno> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let arguments = [int(libc::AF_NETLINK), int(kind), int(protocol), 0, 0, 0];
    // SAFETY: socket takes integers only and makes a new descriptor.
    let socket = unsafe { call(libc::SYS_socket, arguments) }.map(Fd::from_answer)?;

    let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EINVAL)?;
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).unwrap_or_default();
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&request.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    // An unbound, unconnected netlink socket sends to the kernel.
    let arguments = [
        int(socket.as_raw()),
        message.as_ptr() as usize,
        message.len(),
        0,
        0,
        0,
    ];
    // SAFETY: the kernel reads message.len() bytes that live through the call.
    unsafe { call(libc::SYS_sendto, arguments) }?;

    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = next(&socket, &mut buffer)?;
        let mut rest = &buffer[..length.min(buffer.len())];
        while rest.len() >= HEADER {
            let length = u32::from_ne_bytes(field(rest, 0)) as usize;
            if length < HEADER || length > rest.len() {
                return Err(Errno::EPROTO);
            }
            let body = &rest[HEADER..length];
            match i32::from(u16::from_ne_bytes(field(rest, 4))) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => {
                    let errno = i32::from_ne_bytes(field(body, 0)).saturating_neg();
                    return if errno == 0 {
                        Ok(())
                    } else {
                        Err(Errno(errno))
                    };
                }
                _ => visit(u16::from_ne_bytes(field(rest, 4)), body),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

fn next(socket: &Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        let buffer_at = buffer.as_mut_ptr() as usize;
        let arguments = [int(socket.as_raw()), buffer_at, buffer.len(), 0, 0, 0];
        // SAFETY: the kernel writes at most buffer.len() bytes into the buffer.
        match unsafe { call(libc::SYS_recvfrom, arguments) } {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                if poll(
                    &mut [PollFd::new(socket.as_raw(), PollFd::IN)],
                    Some(PATIENCE_US),
                )? == 0
                {
                    return Err(Errno::ETIMEDOUT);
                }
            }
            outcome => return outcome,
        }
    }
}

/// Attributes: length 2, type 2, value, padding to 4.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(field(rest, 0)));
        if length < 4 || length > rest.len() {
            return None;
        }
        let attribute = (u16::from_ne_bytes(field(rest, 2)), &rest[4..length]);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(attribute)
    })
}
