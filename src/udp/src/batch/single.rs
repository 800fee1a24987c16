//! One datagram out, one in.
//!
//! Promises: as the batches, without their slots: everything is on the stack.
//! [`recv_parts`] alone may block, for it is a program's own receive call.
//! Is not: a way to send many.

use std::net::{IpAddr, SocketAddr};

use super::is_foreign;
use super::receive::received;
use super::{Class, Received};
use crate::address::RawAddress;
use crate::ancillary::Ancillary;
use crate::raw::{call, int, IoVec, MessageHeader};
use crate::{Errno, UdpSocket};

/// The most parts that [`send_one`] takes.
pub const MAX_PARTS: usize = 8;

/// Sends one datagram made of `payload`'s parts one after the other; the bytes sent.
///
/// # Errors
/// `EAGAIN` where the send buffer is full, `EINVAL` for more than [`MAX_PARTS`]
/// parts, `EAFNOSUPPORT` where socket, destination and source do not go together,
/// else as sendmsg(2).
pub fn send_one(
    socket: &UdpSocket,
    to: SocketAddr,
    source: Option<IpAddr>,
    class: Class,
    payload: &[&[u8]],
) -> Result<usize, Errno> {
    if payload.len() > MAX_PARTS {
        return Err(Errno::EINVAL);
    }
    let name = RawAddress::encode(to, socket.family())?;
    let mut control = Ancillary::empty();
    control.direct(to.ip(), source, class, None)?;
    let mut parts = [IoVec::default(); MAX_PARTS];
    for (part, bytes) in parts.iter_mut().zip(payload) {
        *part = IoVec::reading(bytes);
    }
    let header = MessageHeader {
        name: name.bytes.as_ptr() as usize,
        name_length: name.length,
        parts: parts.as_ptr() as usize,
        part_count: payload.len(),
        control: control.bytes.as_ptr() as usize,
        control_length: control.length,
        flags: 0,
    };
    let flags = int(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let header_at = (&raw const header) as usize;
    let mut retried = false;
    loop {
        let arguments = [int(socket.as_raw()), header_at, flags, 0, 0, 0];
        // SAFETY: the header names locals of this frame and the caller's slices, each
        // with its true length; the kernel only reads them.
        match unsafe { call(libc::SYS_sendmsg, arguments) } {
            Err(Errno::EINTR) => {}
            Err(errno) if is_foreign(errno) && !retried => retried = true,
            outcome => return outcome,
        }
    }
}

/// Takes one queued datagram into `buffer`.
///
/// # Errors
/// `EAGAIN` where none is queued, else as recvmsg(2).
pub fn recv_one<'a>(socket: &UdpSocket, buffer: &'a mut [u8]) -> Result<Received<'a>, Errno> {
    let mut name = RawAddress::empty();
    let mut control = Ancillary::empty();
    let mut part = IoVec::writing(buffer);
    let mut header = MessageHeader {
        name: name.bytes.as_mut_ptr() as usize,
        name_length: name.length,
        parts: (&raw mut part) as usize,
        part_count: 1,
        control: control.bytes.as_mut_ptr() as usize,
        control_length: Ancillary::CAPACITY,
        flags: 0,
    };
    let header_at = (&raw mut header) as usize;
    let arguments = [
        int(socket.as_raw()),
        header_at,
        int(libc::MSG_DONTWAIT),
        0,
        0,
        0,
    ];
    let length = loop {
        // SAFETY: the header names locals of this frame and the caller's buffer, each
        // with its true length; nobody else holds them during the call.
        match unsafe { call(libc::SYS_recvmsg, arguments) } {
            Err(Errno::EINTR) => {}
            outcome => break outcome?,
        }
    };
    name.length = header.name_length;
    let control = &control.bytes[..header.control_length.min(Ancillary::CAPACITY)];
    let length = length.min(buffer.len());
    Ok(received(&buffer[..length], name, control, header.flags))
}

/// What [`recv_parts`] took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Bytes of the datagram, also where the parts had no room for all of them.
    pub length: usize,
    /// Whether they had none.
    pub truncated: bool,
}

/// Takes one datagram of a socket that is not ours into `first`, and what follows into
/// `second`. Waits as the descriptor's own mode says (`O_NONBLOCK`, `SO_RCVTIMEO`),
/// where `wait` is set; `peek` leaves it queued.
///
/// # Errors
/// As recvmsg(2): `EAGAIN` where none is queued and none waited for, `EINTR` where a
/// signal came, `EBADF`, `ENOTSOCK`.
pub fn recv_parts(
    raw: i32,
    first: &mut [u8],
    second: &mut [u8],
    wait: bool,
    peek: bool,
) -> Result<Arrival, Errno> {
    let mut parts = [IoVec::writing(first), IoVec::writing(second)];
    let mut header = MessageHeader {
        parts: parts.as_mut_ptr() as usize,
        part_count: parts.len(),
        ..MessageHeader::default()
    };
    let mut flags = libc::MSG_TRUNC;
    if !wait {
        flags |= libc::MSG_DONTWAIT;
    }
    if peek {
        flags |= libc::MSG_PEEK;
    }
    let header_at = (&raw mut header) as usize;
    let arguments = [int(raw), header_at, int(flags), 0, 0, 0];
    // SAFETY: the header names locals of this frame and the caller's buffers, each
    // with its true length; nobody else holds them during the call.
    let length = unsafe { call(libc::SYS_recvmsg, arguments) }?;
    Ok(Arrival {
        length,
        truncated: header.flags & libc::MSG_TRUNC != 0,
    })
}
