//! Many datagrams a call: `flexcast_sendmmsg` and `flexcast_recvmmsg`.
//!
//! Promises: what was done before an error is what the call returns, as the kernel's
//! calls do. Is not faster to receive by than one call a datagram: it is one.

use std::ffi::{c_int, c_uint};
use std::time::{Duration, Instant};

use flexcast_runtime::Errno;
use libc::{iovec, mmsghdr, timespec};

use super::{call_int, memory, table};
use crate::endpoint::Received;

/// As the kernel's UIO_MAXIOV.
pub(super) const MOST: usize = 1_024;

/// # Safety
/// As [`memory::bytes_mut`], for `count` messages.
unsafe fn list<'a>(messages: *mut mmsghdr, count: c_uint) -> Result<&'a mut [mmsghdr], Errno> {
    let count = (count as usize).min(MOST);
    match (messages.is_null(), count) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Errno::EFAULT),
        // SAFETY: as the caller vouches.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts_mut(messages, count) }),
    }
}

/// The parts of a message.
///
/// # Safety
/// The message's vector is null or as long as the message says.
unsafe fn parts<'a>(message: &mmsghdr) -> Result<&'a [iovec], Errno> {
    let (first, count) = (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen);
    match (first.is_null(), count) {
        (_, 0) => Ok(&[]),
        (_, count) if count > MOST => Err(Errno::EMSGSIZE),
        (true, _) => Err(Errno::EFAULT),
        // SAFETY: as the caller vouches.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(first, count) }),
    }
}

/// See `flexcast.h`.
///
/// # Safety
/// `messages` is null or an array of `count` messages whose vectors and buffers are good
/// to read.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_sendmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        // SAFETY: as the caller vouches.
        let messages = unsafe { list(messages, count) }?;
        let mut datagrams: Vec<Vec<&[u8]>> = Vec::with_capacity(messages.len());
        for message in messages.iter() {
            let mut datagram = Vec::new();
            // SAFETY: as the caller vouches.
            for part in unsafe { parts(message) }? {
                // SAFETY: as the caller vouches.
                let bytes =
                    unsafe { memory::bytes(part.iov_base.cast_const().cast(), part.iov_len) };
                datagram.push(bytes?);
            }
            datagrams.push(datagram);
        }
        let views: Vec<&[&[u8]]> = datagrams.iter().map(Vec::as_slice).collect();
        endpoint.send(fd, &views, flags & libc::MSG_DONTWAIT == 0)?;
        for (message, datagram) in messages.iter_mut().zip(&datagrams) {
            let length: usize = datagram.iter().map(|part| part.len()).sum();
            message.msg_len = c_uint::try_from(length).unwrap_or(c_uint::MAX);
        }
        Ok(messages.len())
    })
}

/// The buffers of a message's parts: looked at before anything is taken, which would
/// else be lost.
///
/// # Safety
/// The message's vector is null or as long as the message says, its buffers null or good
/// to write, and nobody else's while the slices live.
unsafe fn buffers<'a>(message: &mmsghdr) -> Result<Vec<&'a mut [u8]>, Errno> {
    // SAFETY: as the caller vouches.
    let parts = unsafe { parts(message) }?.iter();
    // SAFETY: as the caller vouches.
    let bytes = |part: &iovec| unsafe { memory::bytes_mut(part.iov_base.cast(), part.iov_len) };
    parts.map(bytes).collect()
}

/// Spreads a datagram over a message's parts.
fn spread(mut datagram: &[u8], parts: &mut [&mut [u8]]) {
    for part in parts {
        let (now, later) = datagram.split_at(part.len().min(datagram.len()));
        part[..now.len()].copy_from_slice(now);
        datagram = later;
    }
}

/// See `flexcast.h`.
///
/// # Safety
/// `messages` is null or an array of `count` messages whose vectors and buffers are good
/// to write; `timeout` is null or a time.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_recvmmsg(
    fd: c_int,
    messages: *mut mmsghdr,
    count: c_uint,
    flags: c_int,
    timeout: *mut timespec,
) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        // SAFETY: as the caller vouches.
        let messages = unsafe { list(messages, count) }?;
        // SAFETY: as the caller vouches.
        let limit = unsafe { timeout.as_ref() }.map(duration).transpose()?;
        let begun = Instant::now();
        let mut wait = flags & libc::MSG_DONTWAIT == 0;
        for (done, message) in messages.iter_mut().enumerate() {
            // SAFETY: as the caller vouches.
            let mut parts = match unsafe { buffers(message) } {
                Ok(parts) => parts,
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            };
            let lengths = parts.iter().map(|part| part.len());
            let room = lengths.fold(0, usize::saturating_add);
            let mut buffer = vec![0; room.min(65_536)];
            let length = match endpoint.recv(fd, &mut buffer, wait) {
                Ok(Received::Datagram(length)) => length,
                Ok(Received::End) => {
                    message.msg_len = 0;
                    message.msg_hdr.msg_flags = libc::MSG_EOR;
                    return Ok(done + 1);
                }
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            };
            let taken = length.min(room);
            spread(&buffer[..taken], &mut parts);
            message.msg_len = c_uint::try_from(taken).unwrap_or(c_uint::MAX);
            message.msg_hdr.msg_flags = if length > room { libc::MSG_TRUNC } else { 0 };
            message.msg_hdr.msg_namelen = 0;
            message.msg_hdr.msg_controllen = 0;
            wait &= flags & libc::MSG_WAITFORONE == 0;
            if limit.is_some_and(|limit| begun.elapsed() >= limit) {
                return Ok(done + 1);
            }
        }
        Ok(messages.len())
    })
}

fn duration(time: &timespec) -> Result<Duration, Errno> {
    let seconds = u64::try_from(time.tv_sec).map_err(|_| Errno::EINVAL)?;
    let nanoseconds = u32::try_from(time.tv_nsec).map_err(|_| Errno::EINVAL)?;
    match nanoseconds {
        0..1_000_000_000 => Ok(Duration::new(seconds, nanoseconds)),
        _ => Err(Errno::EINVAL),
    }
}
