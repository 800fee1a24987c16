//! The calls of `flexcast.h`, in its order; those for many datagrams are in `messages`,
//! those for options in `options`.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void, CString};

use flexcast_runtime::kernel::{sockopt, Family, Fd, UdpSocket};
use flexcast_runtime::Errno;
use libc::{size_t, socklen_t, ssize_t};

use super::{address, call, call_int, memory, table};
use crate::endpoint::{Endpoint, Received};
use crate::{life, process, Binding};

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::new(CString::default());
}

fn family(domain: c_int) -> Result<Family, Errno> {
    match domain {
        libc::AF_INET => Ok(Family::V4),
        libc::AF_INET6 => Ok(Family::V6),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

fn number(fd: i32) -> Result<usize, Errno> {
    usize::try_from(fd).map_err(|_| Errno::EBADF)
}

/// See `flexcast.h`.
#[no_mangle]
pub(crate) extern "C" fn flexcast_socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    call_int(|| {
        let family = family(domain)?;
        let nonblocking = kind & libc::SOCK_NONBLOCK != 0;
        let cloexec = kind & libc::SOCK_CLOEXEC != 0;
        let kind = kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
        if kind != libc::SOCK_DGRAM || ![0, libc::IPPROTO_UDP].contains(&protocol) {
            return Err(Errno::EPROTONOSUPPORT);
        }
        let socket = UdpSocket::for_program(family, nonblocking, cloexec)?;
        table::add(socket.as_raw(), Endpoint::new(family))?;
        number(socket.fd.into_raw())
    })
}

/// See `flexcast.h`.
///
/// # Safety
/// `channel` is null or good to read for `length` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_connect(
    fd: c_int,
    channel: *const c_void,
    length: socklen_t,
) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        // SAFETY: as the caller vouches.
        let bytes = unsafe { memory::bytes(channel.cast(), length as usize) }?;
        let connected = endpoint.connect(fd, address::channel(bytes)?);
        table::note_port(fd);
        connected.map(|()| 0)
    })
}

/// See `flexcast.h`.
///
/// # Safety
/// `channel` is null or good to read for `length` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_bind(
    fd: c_int,
    channel: *const c_void,
    length: socklen_t,
) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        // SAFETY: as the caller vouches.
        let bytes = unsafe { memory::bytes(channel.cast(), length as usize) }?;
        endpoint.bind(address::binding(bytes)?)?;
        Ok(0)
    })
}

/// See `flexcast.h`.
#[no_mangle]
pub(crate) extern "C" fn flexcast_listen(fd: c_int, backlog: c_int) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        let listening = endpoint.listen(fd, usize::try_from(backlog).unwrap_or(0));
        table::note_port(fd);
        listening.map(|()| 0)
    })
}

/// Where a channel is to be written: null, or as long as the socket's family has them.
///
/// # Safety
/// `channel` and `length` are null or good to write, for as many bytes as `length` says.
unsafe fn room<'a>(
    channel: *mut c_void,
    length: *mut socklen_t,
    family: Family,
) -> Result<Option<(&'a mut [u8], &'a mut socklen_t)>, Errno> {
    if channel.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller vouches.
    let length = unsafe { memory::place(length) }?;
    let needed = address::length(family);
    if (*length as usize) < needed {
        return Err(Errno::EINVAL);
    }
    // SAFETY: as the caller vouches; there is room for that many bytes.
    let bytes = unsafe { memory::bytes_mut(channel.cast(), needed) }?;
    Ok(Some((bytes, length)))
}

fn show(room: Option<(&mut [u8], &mut socklen_t)>, binding: Binding, family: Family) {
    if let Some((bytes, length)) = room {
        let written = address::write(binding, family);
        bytes.copy_from_slice(&written);
        *length = socklen_t::try_from(written.len()).unwrap_or(0);
    }
}

/// See `flexcast.h`.
///
/// # Safety
/// `channel` and `length` are null or good to write, for as many bytes as `length` says.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_accept(
    fd: c_int,
    channel: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        let family = endpoint.family();
        // SAFETY: as the caller vouches.
        let room = unsafe { room(channel, length, family) }?;
        let new = |family| UdpSocket::for_program(family, false, false);
        let (socket, accepted) = endpoint.accept(fd, true, new)?;
        let peer = accepted.peer()?;
        table::add(socket.as_raw(), accepted)?;
        show(room, peer.into(), family);
        number(socket.fd.into_raw())
    })
}

/// See `flexcast.h`.
///
/// # Safety
/// `buffer` is null or good to read for `length` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_send(
    fd: c_int,
    buffer: *const c_void,
    length: size_t,
) -> ssize_t {
    call(|| {
        let endpoint = table::find(fd)?;
        // SAFETY: as the caller vouches.
        let bytes = unsafe { memory::bytes(buffer.cast(), length) }?;
        endpoint.send(fd, &[&[bytes]], true)?;
        Ok(length)
    })
}

/// See `flexcast.h`.
///
/// # Safety
/// `buffer` is null or good to write for `length` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_recv(
    fd: c_int,
    buffer: *mut c_void,
    length: size_t,
) -> ssize_t {
    call(|| {
        let endpoint = table::find(fd)?;
        // SAFETY: as the caller vouches.
        let bytes = unsafe { memory::bytes_mut(buffer.cast(), length) }?;
        match endpoint.recv(fd, bytes, true)? {
            Received::Datagram(whole) => Ok(whole.min(length)),
            Received::End => Ok(0),
        }
    })
}

/// See `flexcast.h`.
///
/// # Safety
/// `channel` and `length` are null or good to write, for as many bytes as `length` says.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_getsockname(
    fd: c_int,
    channel: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: as the caller vouches.
    unsafe { name(fd, channel, length, |endpoint| Ok(endpoint.local())) }
}

/// See `flexcast.h`.
///
/// # Safety
/// `channel` and `length` are null or good to write, for as many bytes as `length` says.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_getpeername(
    fd: c_int,
    channel: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    // SAFETY: as the caller vouches.
    unsafe { name(fd, channel, length, |endpoint| Ok(endpoint.peer()?.into())) }
}

/// Writes one of an endpoint's names.
///
/// # Safety
/// `channel` and `length` are null or good to write, for as many bytes as `length` says.
unsafe fn name(
    fd: c_int,
    channel: *mut c_void,
    length: *mut socklen_t,
    of: impl Fn(&Endpoint) -> Result<Binding, Errno>,
) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        let family = endpoint.family();
        // SAFETY: as the caller vouches.
        let room = unsafe { room(channel, length, family) }?.ok_or(Errno::EFAULT)?;
        show(Some(room), of(&endpoint)?, family);
        Ok(0)
    })
}

/// See `flexcast.h`.
#[no_mangle]
pub(crate) extern "C" fn flexcast_shutdown(fd: c_int, how: c_int) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        let (sends, receives) = match how {
            libc::SHUT_RD => (false, true),
            libc::SHUT_WR => (true, false),
            libc::SHUT_RDWR => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        endpoint.shut_down(fd, sends, receives)?;
        Ok(0)
    })
}

/// See `flexcast.h`.
#[no_mangle]
pub(crate) extern "C" fn flexcast_close(fd: c_int) -> c_int {
    call_int(|| {
        let cookie = sockopt::cookie(fd)?;
        if !life::same_process() {
            // A child of vfork: its numbers are its own, the table is its parent's.
            drop(Fd::from_raw(fd));
            return Ok(0);
        }
        table::note_port(fd);
        drop(Fd::from_raw(fd));
        table::closed(cookie);
        Ok(0)
    })
}

/// See `flexcast.h`.
#[no_mangle]
pub(crate) extern "C" fn flexcast_strerror(error: c_int) -> *const c_char {
    let text = process::detail(Errno(error)).unwrap_or_else(|| Errno(error).to_string());
    let text = CString::new(text).unwrap_or_default();
    MESSAGE.with(|message| {
        *message.borrow_mut() = text;
        message.borrow().as_ptr()
    })
}
