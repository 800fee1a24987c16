//! Options of sockets that became ours.
//!
//! Promises: the type, the protocol, and the options of TCP read as the program made
//! them; those of `SOL_FLEXCAST` are the library's (`FLEXCAST_STATS`), all others the
//! kernel's. Is not what they are kept in (`guise`).

use std::ffi::{c_int, c_void};

use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::Errno;
use libc::socklen_t;

use super::guise::Guise;
use super::{find, ours_int};
use crate::c::{memory, options};
use crate::endpoint::Endpoint;

/// See `flexcast_compat.h`.
///
/// # Safety
/// As [`options::flexcast_setsockopt`].
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_compat_setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    if level == options::LEVEL && find(fd).is_some() {
        // SAFETY: as the caller vouches.
        return unsafe { options::flexcast_setsockopt(fd, level, name, value, length) };
    }
    ours_int(fd, |_, guise| {
        // SAFETY: as the caller vouches.
        let value = unsafe { memory::bytes(value.cast(), length as usize) }?;
        if guise.kept(level, name).is_none() {
            return sockopt::set_bytes(fd, level, name, value).map(|()| 0);
        }
        guise.keep(level, name, options::word(value)?);
        Ok(0)
    })
}

/// See `flexcast_compat.h`.
///
/// # Safety
/// As [`options::flexcast_getsockopt`].
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_compat_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    if level == options::LEVEL && find(fd).is_some() {
        // SAFETY: as the caller vouches.
        return unsafe { options::flexcast_getsockopt(fd, level, name, value, length) };
    }
    ours_int(fd, |endpoint, guise| {
        // SAFETY: as the caller vouches.
        let length = unsafe { memory::place(length) }?;
        // SAFETY: as the caller vouches.
        let value = unsafe { memory::bytes_mut(value.cast(), *length as usize) }?;
        let written = match shown(endpoint, guise, level, name) {
            None => sockopt::get_bytes(fd, level, name, value)?,
            Some(word) => {
                let bytes = word.to_ne_bytes();
                let written = bytes.len().min(value.len());
                value[..written].copy_from_slice(&bytes[..written]);
                written
            }
        };
        *length = socklen_t::try_from(written).map_err(|_| Errno::EINVAL)?;
        Ok(0)
    })
}

/// What the kernel would say of the socket that the program made; none: what it says.
fn shown(endpoint: &Endpoint, guise: &Guise, level: c_int, name: c_int) -> Option<u32> {
    let word = |int: c_int| u32::try_from(int).ok();
    match (level, name, guise.is_stream) {
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN, _) => Some(u32::from(endpoint.is_listening())),
        (libc::SOL_SOCKET, libc::SO_TYPE, true) => word(libc::SOCK_STREAM),
        (libc::SOL_SOCKET, libc::SO_PROTOCOL, true) => word(libc::IPPROTO_TCP),
        _ => guise.kept(level, name),
    }
}
