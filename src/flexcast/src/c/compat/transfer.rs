//! Sending and receiving on sockets that became ours, and their end.
//!
//! ```text
//!   SOCK_STREAM   send: cut into datagrams of 1 316 bytes    recv: bytes, 0 at the end
//!   SOCK_DGRAM    send: one datagram                         recv: one datagram
//! ```
//! Promises: what needs a way back to the sender is EOPNOTSUPP, at once. Is not flow
//! control: nobody slows down for a reader.

use std::borrow::Cow;
use std::ffi::c_int;
use std::sync::atomic::Ordering;

use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::Errno;
use libc::{iovec, size_t, ssize_t};

use super::{answer_int, find, ours, ours_int};
use crate::c::{calls, memory, messages};
use crate::endpoint::{Endpoint, Received};

/// What a longer send is cut into: the size that README recommends, which fits every path
/// of 1 380 bytes, tunnels among them. Datagrams of one size leave in one batch.
const PIECE: usize = 1_316;
/// Pieces in one batch.
const BATCH: usize = 64;

/// Flags of send that change nothing here, and those of recv that do.
const SEND: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE | libc::MSG_EOR;
const RECV: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_CMSG_CLOEXEC;
const RECV_STREAM: c_int = RECV | libc::MSG_PEEK | libc::MSG_WAITALL;
const RECV_DATAGRAM: c_int = RECV | libc::MSG_TRUNC | libc::MSG_WAITALL;

/// # Safety
/// `parts` is null or an array of `count`.
unsafe fn list<'a>(parts: *const iovec, count: size_t) -> Result<&'a [iovec], Errno> {
    match (parts.is_null(), count) {
        (_, 0) => Ok(&[]),
        (_, count) if count > messages::MOST => Err(Errno::EMSGSIZE),
        (true, _) => Err(Errno::EFAULT),
        // SAFETY: as the caller vouches.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(parts, count) }),
    }
}

/// See `flexcast_compat.h`.
///
/// # Safety
/// `parts` is null or an array of `count` whose buffers are good to read.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_compat_send(
    fd: c_int,
    parts: *const iovec,
    count: size_t,
    flags: c_int,
) -> ssize_t {
    ours(fd, |endpoint, guise| {
        let mut slices: Vec<&[u8]> = Vec::new();
        // SAFETY: as the caller vouches.
        for part in unsafe { list(parts, count) }? {
            let start = part.iov_base.cast_const().cast();
            // SAFETY: as the caller vouches.
            slices.push(unsafe { memory::bytes(start, part.iov_len) }?);
        }
        if flags & !SEND != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let wait = flags & libc::MSG_DONTWAIT == 0;
        if !guise.is_stream {
            endpoint.send(fd, &[&slices], wait)?;
            return Ok(slices.iter().map(|slice| slice.len()).sum());
        }
        let bytes = match slices[..] {
            [one] => Cow::Borrowed(one),
            _ => Cow::Owned(slices.concat()),
        };
        send_bytes(endpoint, fd, &bytes, wait)
    })
}

/// As many of `bytes` as were sent.
fn send_bytes(endpoint: &Endpoint, fd: i32, bytes: &[u8], wait: bool) -> Result<usize, Errno> {
    let mut sent = 0;
    for batch in bytes.chunks(PIECE * BATCH) {
        let pieces: Vec<[&[u8]; 1]> = batch.chunks(PIECE).map(|piece| [piece]).collect();
        let views: Vec<&[&[u8]]> = pieces.iter().map(|piece| &piece[..]).collect();
        match endpoint.send(fd, &views, wait) {
            Ok(()) => sent += batch.len(),
            Err(_) if sent > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(sent)
}

/// See `flexcast_compat.h`.
///
/// # Safety
/// `parts` is null or an array of `count` whose buffers are good to write.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_compat_recv(
    fd: c_int,
    parts: *const iovec,
    count: size_t,
    flags: c_int,
) -> ssize_t {
    ours(fd, |endpoint, guise| {
        let mut buffers: Vec<&mut [u8]> = Vec::new();
        // SAFETY: as the caller vouches.
        for part in unsafe { list(parts, count) }? {
            // SAFETY: as the caller vouches.
            buffers.push(unsafe { memory::bytes_mut(part.iov_base.cast(), part.iov_len) }?);
        }
        let known = if guise.is_stream {
            RECV_STREAM
        } else {
            RECV_DATAGRAM
        };
        if flags & !known != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let wait = flags & libc::MSG_DONTWAIT == 0;
        if !guise.is_stream {
            let waits = wait && !endpoint.is_delivering();
            let outcome = recv_datagram(endpoint, fd, &mut buffers, flags, waits);
            return never_comes(outcome, endpoint, fd, wait);
        }
        let outcome = recv_bytes(endpoint, fd, &mut buffers, flags);
        let asked = buffers.iter().any(|buffer| !buffer.is_empty());
        let is_over = (outcome == Ok(0) && asked) || outcome == Err(Errno::ECONNRESET);
        if is_over && !guise.has_ended.swap(true, Ordering::Relaxed) {
            // As a connection would: no other stream follows, and it stays readable.
            let _ = endpoint.shut_down(fd, false, true);
        }
        never_comes(outcome, endpoint, fd, wait)
    })
}

/// Nothing will ever come from an audience: to wait for it is a mistake, which is told.
fn never_comes(
    outcome: Result<usize, Errno>,
    endpoint: &Endpoint,
    fd: i32,
    wait: bool,
) -> Result<usize, Errno> {
    if outcome == Err(Errno::EAGAIN) && wait && endpoint.is_delivering() {
        return Err(match sockopt::is_nonblocking(fd)? {
            true => Errno::EAGAIN,
            false => Errno::EOPNOTSUPP,
        });
    }
    outcome
}

/// Fills the buffers as far as what is there goes; to their end with `MSG_WAITALL`.
fn recv_bytes(
    endpoint: &Endpoint,
    fd: i32,
    buffers: &mut [&mut [u8]],
    flags: c_int,
) -> Result<usize, Errno> {
    let has = |flag| flags & flag != 0;
    let (peek, all) = (has(libc::MSG_PEEK), has(libc::MSG_WAITALL));
    let mut total = 0;
    for buffer in buffers {
        let mut at = 0;
        while at < buffer.len() {
            let wait = !has(libc::MSG_DONTWAIT) && (total == 0 || all);
            let length = match endpoint.recv_bytes(fd, &mut buffer[at..], wait, peek) {
                Ok(length) => length,
                Err(_) if total > 0 => return Ok(total),
                Err(errno) => return Err(errno),
            };
            (at, total) = (at + length, total + length);
            if length == 0 || peek || (!all && at < buffer.len()) {
                return Ok(total);
            }
        }
    }
    Ok(total)
}

fn recv_datagram(
    endpoint: &Endpoint,
    fd: i32,
    buffers: &mut [&mut [u8]],
    flags: c_int,
    wait: bool,
) -> Result<usize, Errno> {
    let room: usize = buffers.iter().map(|buffer| buffer.len()).sum();
    let mut whole = vec![0; room.min(65_536)];
    let Received::Datagram(length) = endpoint.recv(fd, &mut whole, wait)? else {
        return Ok(0);
    };
    let mut rest = &whole[..length.min(room)];
    for buffer in buffers {
        let (now, later) = rest.split_at(buffer.len().min(rest.len()));
        buffer[..now.len()].copy_from_slice(now);
        rest = later;
    }
    let told = if flags & libc::MSG_TRUNC != 0 {
        length
    } else {
        length.min(room)
    };
    Ok(told)
}

/// See `flexcast_compat.h`.
#[no_mangle]
pub(crate) extern "C" fn flexcast_compat_shutdown(fd: c_int, how: c_int) -> c_int {
    ours_int(fd, |endpoint, _| {
        let (sends, receives) = match how {
            libc::SHUT_RD => (false, true),
            libc::SHUT_WR => (true, false),
            libc::SHUT_RDWR => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        if !endpoint.is_listening() {
            return endpoint.shut_down(fd, sends, receives).map(|()| 0);
        }
        if receives {
            // Whoever waits in accept is told.
            sockopt::shut_down_receiving(fd)?;
        }
        Ok(0)
    })
}

/// See `flexcast_compat.h`.
#[no_mangle]
pub(crate) extern "C" fn flexcast_compat_close(fd: c_int) -> c_int {
    match find(fd) {
        Some(_) => calls::flexcast_close(fd),
        None => answer_int(|| Ok(None)),
    }
}
