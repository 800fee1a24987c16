//! Local sockets in the abstract name space: datagrams and connections, with
//! descriptors passed along.
//!
//! Promises: names belong to the network namespace and vanish with the socket;
//! non-blocking; received descriptors are close-on-exec and never leak. Names are
//! bytes without the leading NUL, at most 107.
//! Is not: path names, which would cross network namespaces.

use crate::ancillary::{records, Ancillary};
use crate::raw::{call, int, IoVec, MessageHeader};
use crate::{sockopt, Errno, Fd};

/// The most descriptors in one message.
pub const MAX_DESCRIPTORS: usize = 8;
/// Length of `sun_path`.
const PATH: usize = 108;

/// Who is at the other end, as the kernel saw it when the connection was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Process id; 0 where it is in a pid namespace that we do not see.
    pub pid: i32,
    /// Effective user id.
    pub uid: u32,
}

/// A datagram socket.
#[derive(Debug)]
pub struct UnixDatagram {
    /// The descriptor.
    pub fd: Fd,
}

impl UnixDatagram {
    /// A socket that is found under `name`.
    ///
    /// # Errors
    /// `EADDRINUSE` where the name is taken, `ENAMETOOLONG`.
    pub fn bind(name: &[u8]) -> Result<Self, Errno> {
        let socket = Self::unbound()?;
        bind(&socket.fd, name)?;
        Ok(socket)
    }

    /// A socket to send from.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn unbound() -> Result<Self, Errno> {
        Ok(Self {
            fd: new(libc::SOCK_DGRAM)?,
        })
    }

    /// Sends `bytes` to the socket found under `name`.
    ///
    /// # Errors
    /// `ECONNREFUSED` where there is none, `EAGAIN` where its queue is full.
    pub fn send_to(&self, name: &[u8], bytes: &[u8]) -> Result<usize, Errno> {
        send(&self.fd, Some(name), bytes, &[])
    }

    /// As [`UnixDatagram::send_to`], with descriptors.
    ///
    /// # Errors
    /// `EINVAL` for more than [`MAX_DESCRIPTORS`].
    pub fn send_to_with(&self, name: &[u8], bytes: &[u8], fds: &[i32]) -> Result<usize, Errno> {
        send(&self.fd, Some(name), bytes, fds)
    }

    /// Takes a datagram: its length in `buffer`, and the descriptors it brought.
    ///
    /// # Errors
    /// `EAGAIN` where none is queued.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<(usize, Vec<Fd>), Errno> {
        recv(&self.fd, buffer)
    }
}

/// Accepts connections (`SOCK_SEQPACKET`: message boundaries are kept).
#[derive(Debug)]
pub struct Listener {
    /// Readable when somebody knocks.
    pub fd: Fd,
}

impl Listener {
    /// Listens under `name`.
    ///
    /// # Errors
    /// `EADDRINUSE` where the name is taken: somebody else is there.
    pub fn bind(name: &[u8]) -> Result<Self, Errno> {
        let fd = new(libc::SOCK_SEQPACKET)?;
        bind(&fd, name)?;
        // SAFETY: listen takes integers only.
        unsafe { call(libc::SYS_listen, [int(fd.as_raw()), 128, 0, 0, 0, 0]) }?;
        Ok(Self { fd })
    }

    /// The next connection.
    ///
    /// # Errors
    /// `EAGAIN` where nobody knocks.
    pub fn accept(&self) -> Result<Stream, Errno> {
        let flags = int(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        // SAFETY: no address is asked for; a new descriptor is made.
        let answer = unsafe {
            call(
                libc::SYS_accept4,
                [int(self.fd.as_raw()), 0, 0, flags, 0, 0],
            )
        };
        Ok(Stream {
            fd: Fd::from_answer(answer?),
        })
    }
}

/// A connection that keeps message boundaries.
#[derive(Debug)]
pub struct Stream {
    /// Readable when a message, or the end, has come.
    pub fd: Fd,
}

impl Stream {
    /// Connects to the listener under `name`.
    ///
    /// # Errors
    /// `ECONNREFUSED` where there is none, `EAGAIN` where its queue is full (it may
    /// be stopped).
    pub fn connect(name: &[u8]) -> Result<Self, Errno> {
        let fd = new(libc::SOCK_SEQPACKET)?;
        let (address, length) = address(name)?;
        let arguments = [int(fd.as_raw()), address.as_ptr() as usize, length, 0, 0, 0];
        // SAFETY: the kernel reads `length` bytes of `address`, which lives on.
        unsafe { call(libc::SYS_connect, arguments) }?;
        Ok(Self { fd })
    }

    /// Two connected ends.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let kind = int(libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
        let mut ends = [-1_i32; 2];
        let ends_at = ends.as_mut_ptr() as usize;
        // SAFETY: the kernel writes two ints into `ends`.
        unsafe {
            call(
                libc::SYS_socketpair,
                [int(libc::AF_UNIX), kind, 0, ends_at, 0, 0],
            )
        }?;
        Ok((
            Self {
                fd: Fd::from_raw(ends[0]),
            },
            Self {
                fd: Fd::from_raw(ends[1]),
            },
        ))
    }

    /// Sends one message, with duplicates of `fds`.
    ///
    /// # Errors
    /// `EAGAIN` where the other end's queue is full, `EPIPE` where it is gone,
    /// `EINVAL` for more than [`MAX_DESCRIPTORS`], `EMSGSIZE`.
    pub fn send(&self, bytes: &[u8], fds: &[i32]) -> Result<usize, Errno> {
        send(&self.fd, None, bytes, fds)
    }

    /// Takes one message: its length in `buffer`, and the descriptors it brought.
    /// Length 0 without descriptors: the other end is gone.
    ///
    /// # Errors
    /// `EAGAIN` where none is queued, `ECONNRESET`.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<(usize, Vec<Fd>), Errno> {
        recv(&self.fd, buffer)
    }

    /// Who is at the other end (`SO_PEERCRED`).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn peer(&self) -> Result<Peer, Errno> {
        // struct ucred: pid, uid, gid.
        let mut value = [0; 12];
        sockopt::get_bytes(
            self.fd.as_raw(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            &mut value,
        )?;
        let word = |at: usize| crate::address::field::<4>(&value, at);
        Ok(Peer {
            pid: i32::from_ne_bytes(word(0)),
            uid: u32::from_ne_bytes(word(4)),
        })
    }
}

fn new(kind: i32) -> Result<Fd, Errno> {
    let kind = int(kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    // SAFETY: socket takes integers only and makes a new descriptor.
    unsafe { call(libc::SYS_socket, [int(libc::AF_UNIX), kind, 0, 0, 0, 0]) }.map(Fd::from_answer)
}

/// `sockaddr_un`: family 2, NUL, name; its length says where the name ends.
fn address(name: &[u8]) -> Result<([u8; 2 + PATH], usize), Errno> {
    if name.is_empty() || name.len() >= PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut address = [0; 2 + PATH];
    let family = u16::try_from(libc::AF_UNIX).unwrap_or_default();
    address[0..2].copy_from_slice(&family.to_ne_bytes());
    address[3..3 + name.len()].copy_from_slice(name);
    Ok((address, 3 + name.len()))
}

fn bind(fd: &Fd, name: &[u8]) -> Result<(), Errno> {
    let (address, length) = address(name)?;
    let arguments = [int(fd.as_raw()), address.as_ptr() as usize, length, 0, 0, 0];
    // SAFETY: the kernel reads `length` bytes of `address`, which lives on.
    unsafe { call(libc::SYS_bind, arguments) }.map(drop)
}

fn send(fd: &Fd, name: Option<&[u8]>, bytes: &[u8], fds: &[i32]) -> Result<usize, Errno> {
    if fds.len() > MAX_DESCRIPTORS {
        return Err(Errno::EINVAL);
    }
    let mut control = Ancillary::empty();
    if !fds.is_empty() {
        let mut numbers = [0; 4 * MAX_DESCRIPTORS];
        for (slot, raw) in numbers.chunks_exact_mut(4).zip(fds) {
            slot.copy_from_slice(&raw.to_ne_bytes());
        }
        control.push(
            libc::SOL_SOCKET,
            libc::SCM_RIGHTS,
            &numbers[..4 * fds.len()],
        )?;
    }
    let to = name.map(address).transpose()?;
    let part = IoVec::reading(bytes);
    let header = MessageHeader {
        name: to
            .as_ref()
            .map_or(0, |(address, _)| address.as_ptr() as usize),
        name_length: to
            .as_ref()
            .map_or(0, |(_, length)| u32::try_from(*length).unwrap_or(0)),
        parts: (&raw const part) as usize,
        part_count: 1,
        control: if fds.is_empty() {
            0
        } else {
            control.bytes.as_ptr() as usize
        },
        control_length: control.length,
        flags: 0,
    };
    let flags = int(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    let arguments = [
        int(fd.as_raw()),
        (&raw const header) as usize,
        flags,
        0,
        0,
        0,
    ];
    // SAFETY: the header names locals of this frame and the caller's bytes, each with
    // its true length; the kernel only reads them.
    unsafe { call(libc::SYS_sendmsg, arguments) }
}

fn recv(fd: &Fd, buffer: &mut [u8]) -> Result<(usize, Vec<Fd>), Errno> {
    let mut control = Ancillary::empty();
    let mut part = IoVec::writing(buffer);
    let mut header = MessageHeader {
        parts: (&raw mut part) as usize,
        part_count: 1,
        control: control.bytes.as_mut_ptr() as usize,
        control_length: Ancillary::CAPACITY,
        ..MessageHeader::default()
    };
    let flags = int(libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
    let arguments = [int(fd.as_raw()), (&raw mut header) as usize, flags, 0, 0, 0];
    // SAFETY: the header names locals of this frame and the caller's buffer, each
    // with its true length; nobody else holds them during the call.
    let length = unsafe { call(libc::SYS_recvmsg, arguments) }?;
    let mut fds = Vec::new();
    for record in records(&control.bytes[..header.control_length.min(Ancillary::CAPACITY)]) {
        if (record.level, record.kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            let number = |at: &[u8]| i32::from_ne_bytes(crate::address::field(at, 0));
            fds.extend(
                record
                    .data
                    .chunks_exact(4)
                    .map(|at| Fd::from_raw(number(at))),
            );
        }
    }
    Ok((length.min(buffer.len()), fds))
}

#[cfg(test)]
mod tests;
