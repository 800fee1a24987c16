//! A refusal as a socket's own kernel tells it: the next receive or send call fails
//! with `ECONNREFUSED`, and poll and epoll report an error.
//!
//! ```text
//!   D, not connected ──empty──► a port of ours that hears nobody
//!     ◄── ICMP port unreachable, kept since IP_RECVERR is on for this moment
//! ```
//! Promises: nothing leaves the host; whoever waits in D is woken; the error is told
//! once, and the error queue is empty some microseconds later. Is not for a socket whose program
//! reads its error queue.

use std::net::{IpAddr, SocketAddr};

use crate::process::{poll, PollFd};
use crate::{send_one, sockopt, Class, Errno, Family, UdpSocket};

/// Where D shares its port with another socket, the kernel may choose that one for an
/// answer: by the port that the answer is from.
const TRIES: u32 = 32;

/// Has D, a bound socket that is not connected, tell its program of a refusal. `host`
/// is an address of this host that D can reach.
///
/// # Errors
/// `ETIMEDOUT` where no answer came (loopback is down, or filtered); as setsockopt(2),
/// bind(2) and sendmsg(2).
pub fn refuse(d: &UdpSocket, host: IpAddr) -> Result<(), Errno> {
    let (level, name) = match host.to_canonical() {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVERR),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVERR),
    };
    sockopt::set_u32(d.as_raw(), level, name, 1)?;
    let outcome = provoke(d, host);
    // Off again it empties the error queue, and leaves the socket's error.
    sockopt::set_u32(d.as_raw(), level, name, 0)?;
    outcome
}

fn provoke(d: &UdpSocket, host: IpAddr) -> Result<(), Errno> {
    for _ in 0..TRIES {
        // Connected to itself it hears nobody, and its port is nobody else's.
        let deaf = UdpSocket::new(Family::of(host))?;
        deaf.bind(SocketAddr::new(host, 0))?;
        let at = deaf.local_addr()?;
        deaf.connect(at)?;
        send_one(d, at, None, Class::Stream, &[])?;
        // Errors are reported whatever is asked for.
        if poll(&mut [PollFd::new(d.as_raw(), 0)], Some(0))? > 0 {
            return Ok(());
        }
    }
    Err(Errno::ETIMEDOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recv_one;

    fn bound(family: Family, at: IpAddr, port: u16) -> UdpSocket {
        let socket = UdpSocket::new(family).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(SocketAddr::new(at, port)).unwrap();
        socket
    }

    #[test]
    fn a_refusal_is_told_once_also_beside_another_socket_of_the_port() {
        for (family, at, host) in [
            (Family::V4, "0.0.0.0", "127.0.0.1"),
            (Family::V4, "127.0.0.1", "127.0.0.1"),
            (Family::V6, "::", "::1"),
            (Family::V6, "::", "127.0.0.1"),
        ] {
            let (at, host): (IpAddr, IpAddr) = (at.parse().unwrap(), host.parse().unwrap());
            let d = bound(family, at, 0);
            let other = bound(family, at, d.local_addr().unwrap().port());
            let mut room = [0; 10];
            for _ in 0..8 {
                assert_eq!(refuse(&d, host), Ok(()), "{at} {host}");
                let told = recv_one(&d, &mut room).map(drop);
                assert_eq!(told, Err(Errno::ECONNREFUSED));
                let after = recv_one(&d, &mut room).map(drop);
                assert_eq!(after, Err(Errno::EAGAIN), "once");
                let errors = poll(&mut [PollFd::new(d.as_raw(), 0)], Some(0));
                assert_eq!(errors, Ok(0), "nothing is left in the error queue");
                let others = recv_one(&other, &mut room).map(drop);
                assert_eq!(others, Err(Errno::EAGAIN));
            }
        }
    }
}
