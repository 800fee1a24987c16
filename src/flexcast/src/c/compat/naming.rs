//! Names: what getsockname and getpeername show of a socket that became ours.
//!
//! Promises: the addresses that the program wrote, or the first requester's; cut to the
//! room given, with their true length, as the kernel's. Is not a channel.

use std::ffi::{c_int, c_void};
use std::net::{IpAddr, SocketAddr};

use flexcast_runtime::kernel::{sockopt, Family};
use flexcast_runtime::Errno;
use libc::socklen_t;

use super::ours_int;
use crate::c::{address, memory};

/// As a socket of `family` has it.
pub(super) fn shown(address: SocketAddr, family: Family) -> SocketAddr {
    match (family, address.ip()) {
        (Family::V6, IpAddr::V4(v4)) => {
            SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), address.port())
        }
        _ => address,
    }
}

/// Writes a `sockaddr_in` or `sockaddr_in6`, where it is wanted.
///
/// # Safety
/// `name` and `length` are null or good to write, for as many bytes as `length` says.
pub(super) unsafe fn write_name(
    address: SocketAddr,
    name: *mut c_void,
    length: *mut socklen_t,
) -> Result<(), Errno> {
    if name.is_null() {
        return Ok(());
    }
    // SAFETY: as the caller vouches.
    let length = unsafe { memory::place(length) }?;
    let whole = if address.is_ipv4() { 16 } else { 28 };
    let room = (*length).min(whole);
    // SAFETY: as the caller vouches; there is room for that many bytes.
    let bytes = unsafe { memory::bytes_mut(name.cast(), room as usize) }?;
    address::write_socket(address, bytes);
    *length = whole;
    Ok(())
}

/// See `flexcast_compat.h`.
///
/// # Safety
/// `name` and `length` are null or good to write, for as many bytes as `length` says.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_compat_getsockname(
    fd: c_int,
    name: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    ours_int(fd, |endpoint, guise| {
        let local = match guise.local.get() {
            Some(local) => *local,
            None => sockopt::local_addr(fd)?,
        };
        // SAFETY: as the caller vouches.
        unsafe { write_name(shown(local, endpoint.family()), name, length) }?;
        Ok(0)
    })
}

/// See `flexcast_compat.h`.
///
/// # Safety
/// `name` and `length` are null or good to write, for as many bytes as `length` says.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_compat_getpeername(
    fd: c_int,
    name: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    ours_int(fd, |endpoint, guise| {
        let peer = *guise.peer.get().ok_or(Errno::ENOTCONN)?;
        // SAFETY: as the caller vouches.
        unsafe { write_name(shown(peer, endpoint.family()), name, length) }?;
        Ok(0)
    })
}
