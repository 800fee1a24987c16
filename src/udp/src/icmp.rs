//! ICMP errors about datagrams that this host sent, read from a raw socket.
//!
//! ```text
//! IPv4 | IP header | type 3 | code | sum 2 | 0 2 | mtu 2 | quoted IP header | quoted UDP header |
//! IPv6 |             type 1, 2 | code | sum 2 | mtu 4    | quoted IP header | quoted UDP header |
//! ```
//! Promises: only errors that quote UDP, each with the quoted addresses; the kernel
//! sorts out other types. A raw socket and not `IP_RECVERR`: there the error of one
//! destination is told by the next send, whoever that was to.
//! Is not: proof. Whoever can guess both addresses can forge one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::{field, RawAddress};
use crate::raw::{call, int};
use crate::{sockopt, Errno, Family, Fd};

/// Longest message read: an error is at most 576 bytes long, 1280 on IPv6
/// (RFC 1812, RFC 4443); some routers send more.
const READ: usize = 2_048;
const UDP: u8 = 17;
const PACKET_TOO_BIG: u8 = 2;
/// `SOL_RAW` and `ICMP_FILTER` (include/uapi/linux/icmp.h): a bit set is a type
/// not wanted.
const SOL_RAW: i32 = 255;
const ICMP_FILTER: i32 = 1;
const ICMP6_FILTER: i32 = 1;

/// What an error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpKind {
    /// Nobody has the port, or the host is gone.
    Unreachable,
    /// A firewall on the way refuses.
    Prohibited,
    /// Too large for a link; its size in bytes.
    TooBig(u32),
}

/// An error about one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// What is wrong.
    pub kind: IcmpKind,
    /// Where the datagram came from.
    pub source: SocketAddr,
    /// Where it was sent.
    pub destination: SocketAddr,
}

/// Hears the ICMP errors that are delivered to this host.
#[derive(Debug)]
pub struct IcmpSocket {
    /// Readable when an error has come.
    pub fd: Fd,
    family: Family,
    buffer: [u8; READ],
}

impl IcmpSocket {
    /// Listens for errors of one family.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`, `EAFNOSUPPORT` where the family is not there.
    pub fn new(family: Family) -> Result<Self, Errno> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let protocol = match family {
            Family::V4 => libc::IPPROTO_ICMP,
            Family::V6 => libc::IPPROTO_ICMPV6,
        };
        let arguments = [int(family.domain()), int(kind), int(protocol), 0, 0, 0];
        // SAFETY: socket takes integers only and makes a new descriptor.
        let fd = Fd::from_answer(unsafe { call(libc::SYS_socket, arguments) }?);
        match family {
            Family::V4 => sockopt::set_u32(fd.as_raw(), SOL_RAW, ICMP_FILTER, !(1 << 3))?,
            Family::V6 => {
                let mut blocked = [0xFF; 32];
                blocked[..4].copy_from_slice(&(!(1_u32 << 1 | 1 << 2)).to_ne_bytes());
                let level = libc::IPPROTO_ICMPV6;
                sockopt::set_bytes(fd.as_raw(), level, ICMP6_FILTER, &blocked)?;
            }
        }
        let buffer = [0; READ];
        Ok(Self { fd, family, buffer })
    }

    /// The next error; none where nothing is queued. Others are skipped. With it its
    /// message, from the ICMP header on, for [`IcmpSocket::pass_on`].
    ///
    /// # Errors
    /// As recv(2), but `EAGAIN` and `EINTR`.
    pub fn receive(&mut self) -> Result<Option<(IcmpError, &[u8])>, Errno> {
        loop {
            let buffer_at = self.buffer.as_mut_ptr() as usize;
            let flags = int(libc::MSG_DONTWAIT);
            let arguments = [int(self.fd.as_raw()), buffer_at, READ, flags, 0, 0];
            // SAFETY: the kernel writes at most READ bytes into the buffer.
            let length = match unsafe { call(libc::SYS_recvfrom, arguments) } {
                Ok(length) => length.min(READ),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(other) => return Err(other),
            };
            let packet = &self.buffer[..length];
            let (error, header) = match self.family {
                Family::V4 => (
                    parse_v4(packet),
                    usize::from(packet.first().map_or(0, |b| b & 0x0F)) * 4,
                ),
                Family::V6 => (parse_v6(packet), 0),
            };
            if let Some(error) = error {
                return Ok(Some((
                    error,
                    self.buffer.get(header..length).unwrap_or(&[]),
                )));
            }
        }
    }

    /// Sends an error on to the host it was meant for, from an address of ours. Its
    /// checksum stays right on IPv4 and is the kernel's on IPv6.
    ///
    /// # Errors
    /// As sendto(2); `EAFNOSUPPORT` for an address of the other family.
    pub fn pass_on(&self, message: &[u8], to: IpAddr) -> Result<(), Errno> {
        if Family::of(to) != self.family {
            return Err(Errno::EAFNOSUPPORT);
        }
        let name = RawAddress::encode(SocketAddr::new(to, 0), self.family)?;
        let flags = int(libc::MSG_DONTWAIT);
        let arguments = [
            int(self.fd.as_raw()),
            message.as_ptr() as usize,
            message.len(),
            flags,
            name.bytes.as_ptr() as usize,
            name.length as usize,
        ];
        // SAFETY: the kernel reads the message and the address, both of which live
        // through the call, each with its true length.
        unsafe { call(libc::SYS_sendto, arguments) }.map(drop)
    }

    /// Tells this host's own kernel, as a router would, that a link between these two
    /// takes `mtu` bytes at most: what this host sends there is fragmented, for some
    /// minutes. `source` may be foreign, for a transparent socket. IPv6 alone.
    ///
    /// # Errors
    /// As sendto(2); `EAFNOSUPPORT` for IPv4.
    pub fn teach_path_mtu(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        mtu: u32,
    ) -> Result<(), Errno> {
        let (SocketAddr::V6(source), SocketAddr::V6(destination)) = (source, destination) else {
            return Err(Errno::EAFNOSUPPORT);
        };
        let mut message = [0; 8 + 40 + 8];
        message[0] = PACKET_TOO_BIG;
        message[4..8].copy_from_slice(&mtu.to_be_bytes());
        message[8] = 0x60;
        (message[13], message[14], message[15]) = (8, UDP, 64);
        message[16..32].copy_from_slice(&source.ip().octets());
        message[32..48].copy_from_slice(&destination.ip().octets());
        message[48..50].copy_from_slice(&source.port().to_be_bytes());
        message[50..52].copy_from_slice(&destination.port().to_be_bytes());
        message[53] = 8;
        self.pass_on(&message, Family::V6.loopback())
    }
}

/// An IP packet with an ICMP error that quotes UDP.
fn parse_v4(packet: &[u8]) -> Option<IcmpError> {
    let icmp = packet.get(usize::from(packet.first()? & 0x0F) * 4..)?;
    let quoted = icmp.get(8..)?;
    let udp = quoted.get(usize::from(quoted.first()? & 0x0F) * 4..)?;
    if icmp[0] != 3 || quoted.len() < 20 || quoted[9] != UDP || udp.len() < 4 {
        return None;
    }
    let kind = match icmp[1] {
        4 => IcmpKind::TooBig(u32::from(u16::from_be_bytes(field(icmp, 6)))),
        9 | 10 | 13 => IcmpKind::Prohibited,
        _ => IcmpKind::Unreachable,
    };
    let address = |at| IpAddr::V4(Ipv4Addr::from(field::<4>(quoted, at)));
    Some(error(kind, address(12), address(16), udp))
}

/// An ICMPv6 error that quotes UDP behind an IPv6 header without extensions, or
/// with a fragment header (the first fragment).
fn parse_v6(icmp: &[u8]) -> Option<IcmpError> {
    const FRAGMENT: u8 = 44;
    let quoted = icmp.get(8..)?;
    let udp = match *quoted.get(6)? {
        UDP => quoted.get(40..44)?,
        FRAGMENT if *quoted.get(40)? == UDP && quoted.get(42..44)?[0] == 0 => quoted.get(48..52)?,
        _ => return None,
    };
    let kind = match (icmp[0], icmp[1]) {
        (1, 1 | 5 | 6) => IcmpKind::Prohibited,
        (1, _) => IcmpKind::Unreachable,
        (2, _) => IcmpKind::TooBig(u32::from_be_bytes(field(icmp, 4))),
        _ => return None,
    };
    let address = |at| IpAddr::V6(Ipv6Addr::from(field::<16>(quoted, at)));
    Some(error(kind, address(8), address(24), udp))
}

fn error(kind: IcmpKind, source: IpAddr, destination: IpAddr, udp: &[u8]) -> IcmpError {
    let port = |at| u16::from_be_bytes(field(udp, at));
    IcmpError {
        kind,
        source: SocketAddr::new(source, port(0)),
        destination: SocketAddr::new(destination, port(2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(code: u8, mtu: u16, protocol: u8) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet.extend_from_slice(&[3, code, 0, 0, 0, 0]);
        packet.extend_from_slice(&mtu.to_be_bytes());
        let mut quoted = vec![0; 20];
        quoted[0] = 0x45;
        quoted[9] = protocol;
        quoted[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend_from_slice(&quoted);
        packet.extend_from_slice(&[0x1D, 0x1A, 0x13, 0x89, 0, 0, 0, 0]);
        packet
    }

    fn v6(kind: u8, code: u8, mtu: u32) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend_from_slice(&mtu.to_be_bytes());
        let mut quoted = vec![0; 40];
        quoted[6] = UDP;
        (quoted[23], quoted[39]) = (1, 2);
        message.extend_from_slice(&quoted);
        message.extend_from_slice(&[0x1D, 0x1A, 0x13, 0x89, 0, 0, 0, 0]);
        message
    }

    #[test]
    fn errors_name_the_quoted_addresses() {
        let expected = |kind, source: &str, destination: &str| {
            Some(IcmpError {
                kind,
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
            })
        };
        let (s, d) = ("10.0.0.1:7450", "10.0.0.2:5001");
        assert_eq!(
            parse_v4(&v4(3, 0, UDP)),
            expected(IcmpKind::Unreachable, s, d)
        );
        assert_eq!(
            parse_v4(&v4(13, 0, UDP)),
            expected(IcmpKind::Prohibited, s, d)
        );
        assert_eq!(
            parse_v4(&v4(4, 1400, UDP)),
            expected(IcmpKind::TooBig(1400), s, d)
        );
        assert_eq!(parse_v4(&v4(3, 0, 6)), None, "about TCP");
        let (s, d) = ("[::1]:7450", "[::2]:5001");
        assert_eq!(
            parse_v6(&v6(1, 4, 0)),
            expected(IcmpKind::Unreachable, s, d)
        );
        assert_eq!(parse_v6(&v6(1, 1, 0)), expected(IcmpKind::Prohibited, s, d));
        assert_eq!(
            parse_v6(&v6(2, 0, 1280)),
            expected(IcmpKind::TooBig(1280), s, d)
        );
        assert_eq!(parse_v6(&v6(129, 0, 0)), None, "no error");
    }

    #[test]
    fn cut_off_errors_are_none() {
        let (four, six) = (v4(3, 0, UDP), v6(1, 4, 0));
        for end in 0..four.len() - 4 {
            assert_eq!(parse_v4(&four[..end]), None, "IPv4 cut at {end}");
        }
        for end in 0..six.len() - 4 {
            assert_eq!(parse_v6(&six[..end]), None, "IPv6 cut at {end}");
        }
    }
}
