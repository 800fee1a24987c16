//! A UDP socket: made, bound, set.
//!
//! Promises: non-blocking and close-on-exec; options act on both families where a
//! dual-stack socket has both. Is not: sending and receiving (see `batch`).

use std::net::SocketAddr;

use crate::address::{Family, RawAddress};
use crate::filter::Program;
use crate::raw::{call, int};
use crate::{sockopt, Errno, Fd};

/// A UDP socket of ours, and the family it was made with.
#[derive(Debug)]
pub struct UdpSocket {
    /// The descriptor.
    pub fd: Fd,
    family: Family,
}

impl UdpSocket {
    /// A new socket, non-blocking, close-on-exec.
    ///
    /// # Errors
    /// As socket(2): `EAFNOSUPPORT` where the family is not there, `EMFILE`.
    pub fn new(family: Family) -> Result<Self, Errno> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        Self::of_kind(family, kind)
    }

    /// A socket for a program, which chooses how it behaves.
    ///
    /// # Errors
    /// As [`UdpSocket::new`].
    pub fn for_program(family: Family, nonblocking: bool, cloexec: bool) -> Result<Self, Errno> {
        let mut kind = libc::SOCK_DGRAM;
        for (wanted, flag) in [
            (nonblocking, libc::SOCK_NONBLOCK),
            (cloexec, libc::SOCK_CLOEXEC),
        ] {
            if wanted {
                kind |= flag;
            }
        }
        Self::of_kind(family, kind)
    }

    fn of_kind(family: Family, kind: i32) -> Result<Self, Errno> {
        let arguments = [
            int(family.domain()),
            int(kind),
            int(libc::IPPROTO_UDP),
            0,
            0,
            0,
        ];
        // SAFETY: socket takes integers only and makes a new descriptor.
        let answer = unsafe { call(libc::SYS_socket, arguments) }?;
        Ok(Self {
            fd: Fd::from_answer(answer),
            family,
        })
    }

    /// A socket that came from elsewhere (`pidfd_getfd`, `SCM_RIGHTS`). Its blocking
    /// mode is left as it is: the calls of this crate do not block either way.
    ///
    /// # Errors
    /// `ENOTSOCK`, `EAFNOSUPPORT` for other families, `EPROTOTYPE` for other types;
    /// the descriptor is then closed.
    pub fn from_fd(fd: Fd) -> Result<Self, Errno> {
        let family = match sockopt::domain(fd.as_raw())? {
            libc::AF_INET => Family::V4,
            libc::AF_INET6 => Family::V6,
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        if sockopt::socket_type(fd.as_raw())? != libc::SOCK_DGRAM {
            return Err(Errno::EPROTOTYPE);
        }
        Ok(Self { fd, family })
    }

    /// The family that the socket was made with.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The descriptor's number.
    #[must_use]
    pub fn as_raw(&self) -> i32 {
        self.fd.as_raw()
    }

    /// Binds; an IPv4 address on an IPv6 socket is bound as v4-mapped.
    ///
    /// # Errors
    /// As bind(2): `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`.
    pub fn bind(&self, address: SocketAddr) -> Result<(), Errno> {
        self.with_address(libc::SYS_bind, address)
    }

    /// Connects.
    ///
    /// # Errors
    /// As connect(2): `ENETUNREACH` and others.
    pub fn connect(&self, address: SocketAddr) -> Result<(), Errno> {
        self.with_address(libc::SYS_connect, address)
    }

    fn with_address(&self, number: libc::c_long, address: SocketAddr) -> Result<(), Errno> {
        let raw = RawAddress::encode(address, self.family)?;
        let bytes_at = raw.bytes.as_ptr() as usize;
        let length = raw.length as usize;
        // SAFETY: the kernel reads `length` (at most 28) bytes that live through the call.
        unsafe { call(number, [int(self.as_raw()), bytes_at, length, 0, 0, 0]) }.map(drop)
    }

    /// The address it is bound to, as the kernel has it.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> Result<SocketAddr, Errno> {
        sockopt::local_addr(self.as_raw())
    }

    /// `SO_REUSEADDR`.
    ///
    /// # Errors
    /// As setsockopt(2), here and below.
    pub fn set_reuse_address(&self, on: bool) -> Result<(), Errno> {
        self.set(libc::SOL_SOCKET, libc::SO_REUSEADDR, u32::from(on))
    }

    /// `SO_REUSEPORT`.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_reuse_port(&self, on: bool) -> Result<(), Errno> {
        self.set(libc::SOL_SOCKET, libc::SO_REUSEPORT, u32::from(on))
    }

    /// May be bound to an address that this host does not have (`IP_FREEBIND`, no
    /// privilege needed).
    ///
    /// # Errors
    /// As setsockopt(2); `ENOPROTOOPT` on IPv6 before 4.15.
    pub fn set_free_bind(&self, on: bool) -> Result<(), Errno> {
        match self.family {
            Family::V4 => self.set(libc::SOL_IP, libc::IP_FREEBIND, u32::from(on)),
            Family::V6 => self.set(libc::SOL_IPV6, libc::IPV6_FREEBIND, u32::from(on)),
        }
    }

    /// Binds to the interface `name` (`SO_BINDTODEVICE`).
    ///
    /// # Errors
    /// `ENODEV` where there is none, `EPERM` before 5.7 without `CAP_NET_RAW`.
    pub fn bind_to_device(&self, name: &[u8]) -> Result<(), Errno> {
        sockopt::set_bytes(self.as_raw(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name)
    }

    /// Asks for a receive buffer of `bytes`, above the system's limit where we may;
    /// what came of it, in the kernel's count (twice the bytes asked for).
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_receive_buffer(&self, bytes: u32) -> Result<u32, Errno> {
        self.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
            .or_else(|_| self.set(libc::SOL_SOCKET, libc::SO_RCVBUF, bytes))?;
        sockopt::get_u32(self.as_raw(), libc::SOL_SOCKET, libc::SO_RCVBUF)
    }

    /// Asks for a send buffer of `bytes`; as [`UdpSocket::set_receive_buffer`].
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_send_buffer(&self, bytes: u32) -> Result<u32, Errno> {
        self.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
            .or_else(|_| self.set(libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))?;
        sockopt::get_u32(self.as_raw(), libc::SOL_SOCKET, libc::SO_SNDBUF)
    }

    /// `IPV6_V6ONLY`, before bind; nothing to do on an IPv4 socket.
    ///
    /// # Errors
    /// `EINVAL` after bind.
    pub fn set_v6_only(&self, on: bool) -> Result<(), Errno> {
        match self.family {
            Family::V4 => Ok(()),
            Family::V6 => self.set(libc::SOL_IPV6, libc::IPV6_V6ONLY, u32::from(on)),
        }
    }

    /// Says with each datagram which address it was sent to. On an IPv6 socket this
    /// covers IPv4 too (as v4-mapped: `ip6_datagram_recv_common_ctl`).
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_packet_info(&self, on: bool) -> Result<(), Errno> {
        match self.family {
            Family::V4 => self.set(libc::SOL_IP, libc::IP_PKTINFO, u32::from(on)),
            Family::V6 => self.set(libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, u32::from(on)),
        }
    }

    /// May take and send datagrams of foreign addresses (`IP_TRANSPARENT`, both
    /// families on an IPv6 socket).
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW` or `CAP_NET_ADMIN`.
    pub fn set_transparent(&self, on: bool) -> Result<(), Errno> {
        self.set(libc::SOL_IP, libc::IP_TRANSPARENT, u32::from(on))?;
        match self.family {
            Family::V4 => Ok(()),
            Family::V6 => self.set(libc::SOL_IPV6, libc::IPV6_TRANSPARENT, u32::from(on)),
        }
    }

    /// `SO_MARK` of what it sends.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` (or `CAP_NET_RAW` since 5.17).
    pub fn set_mark(&self, mark: u32) -> Result<(), Errno> {
        self.set(libc::SOL_SOCKET, libc::SO_MARK, mark)
    }

    /// No DF on what it sends: larger datagrams are fragmented, here and on the way.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_no_path_mtu_discovery(&self) -> Result<(), Errno> {
        let never = libc::IP_PMTUDISC_DONT.cast_unsigned();
        self.set(libc::SOL_IP, libc::IP_MTU_DISCOVER, never)?;
        match self.family {
            Family::V4 => Ok(()),
            Family::V6 => self.set(libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, never),
        }
    }

    /// Takes runs of equal datagrams of one sender as one (`UDP_GRO`); the receiver
    /// splits them by `Received::segments`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` before 5.0.
    pub fn set_gro(&self, on: bool) -> Result<(), Errno> {
        self.set(libc::SOL_UDP, libc::UDP_GRO, u32::from(on))
    }

    /// Whether the kernel knows `UDP_SEGMENT` (4.18).
    #[must_use]
    pub fn knows_segmentation(&self) -> bool {
        sockopt::get_u32(self.as_raw(), libc::SOL_UDP, libc::UDP_SEGMENT).is_ok()
    }

    /// Bytes of the largest packet that the way to the peer takes, as far as is known.
    ///
    /// # Errors
    /// `ENOTCONN` on a socket that is not connected.
    pub fn path_mtu(&self) -> Result<u32, Errno> {
        match self.family {
            Family::V4 => sockopt::get_u32(self.as_raw(), libc::SOL_IP, libc::IP_MTU),
            Family::V6 => sockopt::get_u32(self.as_raw(), libc::SOL_IPV6, libc::IPV6_MTU),
        }
    }

    /// `SO_COOKIE`; 0, which no socket has, where the descriptor is gone.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        sockopt::cookie(self.as_raw()).unwrap_or(0)
    }

    /// The pending error, which is thereby cleared.
    #[must_use]
    pub fn take_error(&self) -> Option<Errno> {
        match sockopt::get_u32(self.as_raw(), libc::SOL_SOCKET, libc::SO_ERROR) {
            Ok(0) => None,
            Ok(number) => Some(Errno(number.cast_signed())),
            Err(errno) => Some(errno),
        }
    }

    /// Datagrams lost because the receive buffer was full, since the socket was made.
    #[must_use]
    pub fn drops(&self) -> u32 {
        sockopt::drops(self.as_raw()).unwrap_or(0)
    }

    /// [`sockopt::attach_filter`] on this socket.
    ///
    /// # Errors
    /// As there.
    pub fn attach_filter(&self, program: &Program) -> Result<(), Errno> {
        sockopt::attach_filter(self.as_raw(), program)
    }

    fn set(&self, level: i32, name: i32, value: u32) -> Result<(), Errno> {
        sockopt::set_u32(self.as_raw(), level, name, value)
    }
}
