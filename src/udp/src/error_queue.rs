//! ICMP errors about what left from a socket's address and port, read from that
//! socket's error queue (`IP_RECVERR`): no privilege needed.
//!
//! ```text
//! sock_extended_err | errno 4 | origin | type | code | 0 | info 4 | data 4 | offender ...
//! ```
//! The kernel looks the socket up by the quoted source, so a socket bound to a port
//! hears of datagrams that others sent from that port, too. Promises: errors of ICMP
//! alone, each with the quoted destination; the socket's pending error, which would
//! be told by its next call, goes with the last of them.
//! Is not: proof (see `icmp`), nor the quoted source, which the queue does not keep.

use std::net::SocketAddr;

use crate::address::{canonical_socket, RawAddress};
use crate::ancillary::{records, Ancillary};
use crate::icmp::IcmpKind;
use crate::raw::{call, int, IoVec, MessageHeader};
use crate::{sockopt, Errno, Family, UdpSocket};

/// `SO_EE_ORIGIN_ICMP` and `SO_EE_ORIGIN_ICMP6` (include/uapi/linux/errqueue.h).
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;

/// An error about one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueuedError {
    /// What is wrong.
    pub kind: IcmpKind,
    /// Where the datagram was sent.
    pub destination: SocketAddr,
}

/// Has the socket keep ICMP errors.
///
/// # Errors
/// As setsockopt(2).
pub fn keep_errors(socket: &UdpSocket) -> Result<(), Errno> {
    let (level, name) = match socket.family() {
        Family::V4 => (libc::SOL_IP, libc::IP_RECVERR),
        Family::V6 => (libc::SOL_IPV6, libc::IPV6_RECVERR),
    };
    sockopt::set_u32(socket.as_raw(), level, name, 1)
}

/// The next error that is queued; none where nothing is. Others are skipped.
///
/// # Errors
/// As recvmsg(2), but `EAGAIN` and `EINTR`.
pub fn next_error(socket: &UdpSocket) -> Result<Option<QueuedError>, Errno> {
    let mut quoted = [0; 16];
    loop {
        let mut name = RawAddress::empty();
        let mut control = Ancillary::empty();
        let mut part = IoVec::writing(&mut quoted);
        let mut header = MessageHeader {
            name: name.bytes.as_mut_ptr() as usize,
            name_length: name.length,
            parts: (&raw mut part) as usize,
            part_count: 1,
            control: control.bytes.as_mut_ptr() as usize,
            control_length: Ancillary::CAPACITY,
            flags: 0,
        };
        let flags = int(libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE);
        let arguments = [
            int(socket.as_raw()),
            (&raw mut header) as usize,
            flags,
            0,
            0,
            0,
        ];
        // SAFETY: the header names locals of this frame, each with its true length;
        // nobody else holds them during the call.
        match unsafe { call(libc::SYS_recvmsg, arguments) } {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => return Ok(None),
            Err(other) => return Err(other),
        }
        name.length = header.name_length;
        let control = &control.bytes[..header.control_length.min(Ancillary::CAPACITY)];
        let kind = records(control).find_map(|record| match (record.level, record.kind) {
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR) => {
                read(record.data)
            }
            _ => None,
        });
        if let (Some(kind), Some(destination)) = (kind, name.decode()) {
            let destination = canonical_socket(destination);
            return Ok(Some(QueuedError { kind, destination }));
        }
    }
}

/// A `sock_extended_err`; none where it is no ICMP error that matters.
fn read(error: &[u8]) -> Option<IcmpKind> {
    let info = u32::from_ne_bytes(error.get(8..12)?.try_into().ok()?);
    match (error[4], error[5], error[6]) {
        (ORIGIN_ICMP, 3, 4) | (ORIGIN_ICMP6, 2, _) => Some(IcmpKind::TooBig(info)),
        (ORIGIN_ICMP, 3, 9 | 10 | 13) | (ORIGIN_ICMP6, 1, 1 | 5 | 6) => Some(IcmpKind::Prohibited),
        (ORIGIN_ICMP, 3, _) | (ORIGIN_ICMP6, 1, _) => Some(IcmpKind::Unreachable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{poll, PollFd};
    use crate::{recv_one, send_one, Class};

    fn pair(family: Family) -> (UdpSocket, UdpSocket) {
        let (hears, speaks) = (
            UdpSocket::new(family).unwrap(),
            UdpSocket::new(family).unwrap(),
        );
        for socket in [&hears, &speaks] {
            socket.set_v6_only(true).unwrap();
            socket.set_reuse_port(true).unwrap();
        }
        hears.bind(SocketAddr::new(family.any(), 0)).unwrap();
        keep_errors(&hears).unwrap();
        let port = hears.local_addr().unwrap().port();
        let nowhere = match family {
            Family::V4 => "192.0.2.1",
            Family::V6 => "100::1",
        };
        speaks.set_free_bind(true).unwrap();
        let nowhere = SocketAddr::new(nowhere.parse().unwrap(), port);
        speaks.bind(nowhere).unwrap();
        (hears, speaks)
    }

    #[test]
    fn a_socket_hears_of_what_another_sent_from_its_port() {
        for family in [Family::V4, Family::V6] {
            let (hears, speaks) = pair(family);
            let closed = UdpSocket::new(family).unwrap();
            closed.bind(SocketAddr::new(family.loopback(), 0)).unwrap();
            let destination = closed.local_addr().unwrap();
            drop(closed);
            assert_eq!(next_error(&hears), Ok(None));
            let source = Some(family.loopback());
            send_one(&speaks, destination, source, Class::Stream, &[b"x"]).unwrap();
            let mut fds = [PollFd::new(hears.as_raw(), PollFd::IN)];
            assert_eq!(poll(&mut fds, Some(2_000_000)), Ok(1));
            let kind = IcmpKind::Unreachable;
            let expected = QueuedError { kind, destination };
            assert_eq!(next_error(&hears), Ok(Some(expected)), "{family:?}");
            assert_eq!(next_error(&hears), Ok(None));
            let mut buffer = [0; 8];
            let left = recv_one(&hears, &mut buffer).err();
            assert_eq!(left, Some(Errno::EAGAIN), "no error is left for recv");
        }
    }

    #[test]
    fn errors_that_are_not_icmps_are_none() {
        let mut error = [0; 16];
        (error[4], error[5], error[6]) = (1, 3, 3);
        assert_eq!(read(&error), None, "local");
        error[4] = ORIGIN_ICMP;
        assert_eq!(read(&error), Some(IcmpKind::Unreachable));
        error[6] = 13;
        assert_eq!(read(&error), Some(IcmpKind::Prohibited));
        assert_eq!(read(&error[..8]), None, "cut off");
        (error[4], error[5]) = (ORIGIN_ICMP6, 2);
        error[8..12].copy_from_slice(&1280_u32.to_ne_bytes());
        assert_eq!(read(&error), Some(IcmpKind::TooBig(1280)));
    }
}
