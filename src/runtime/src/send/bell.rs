//! Bells: datagrams of ours to a socket of the program's, so that whatever waits for
//! its descriptor (poll, select, epoll, a blocked call) sees what happened.
//!
//! ```text
//!   somebody asks for a channel ──► "!"      the listening socket is readable: accept
//!   its audience is gone        ──► nothing  the delivery reads the end of the file
//! ```
//! Promises: a socket that a bell hangs on hears bells and nothing else; whoever finds
//! the channel that waits finds the bell that was rung for it. Is not for whom it rings
//! (`listening`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use flexcast_udp::{filter, recv_parts, send_one, sockopt, Class, Errno, Family, UdpSocket};

use super::control::{index, Command, Controller};
use super::Sending;

/// Somebody waits.
pub(super) const CALL: &[u8] = b"!";
/// Nobody is there any more.
pub(super) const END: &[u8] = b"";

impl Sending {
    /// Where bells for addresses of a family ring from.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` where loopback is down.
    fn bells(&self, family: Family) -> Result<SocketAddr, Errno> {
        self.background.ask(|reply| Command::Bells(family, reply))?
    }

    /// Hangs a bell on a socket of the program's that is for nothing else: it is
    /// connected to where bells ring from. Where they are to ring at.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` where loopback is down; as bind(2) and connect(2).
    pub fn hang_bell(&self, raw: i32) -> Result<SocketAddr, Errno> {
        if sockopt::local_addr(raw)?.port() == 0 {
            let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
            sockopt::bind(raw, loopback)?;
        }
        sockopt::connect(raw, self.bells(Family::V4)?)?;
        canonical(sockopt::local_addr(raw)?)
    }

    /// Hangs a bell on a socket that the program has bound, and that stays bound and
    /// unconnected as it is: a filter keeps out what others send there, and what had
    /// come before is gone. Where it is to ring at.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` where loopback is down; as setsockopt(2) with SO_ATTACH_FILTER.
    pub fn hang_bell_where_bound(&self, raw: i32) -> Result<SocketAddr, Errno> {
        let bound = canonical(sockopt::local_addr(raw)?)?;
        let six = sockopt::domain(raw)? == Family::V6.domain();
        let ip = match bound.ip() {
            any if !any.is_unspecified() => any,
            IpAddr::V6(_) if sockopt::is_v6_only(raw)? => Ipv6Addr::LOCALHOST.into(),
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        let ringer = self.bells(Family::of(ip))?;
        let family = if six { Family::V6 } else { Family::V4 };
        sockopt::attach_filter(raw, &filter::only_from(ringer, family))?;
        let mut unread = [0; 8];
        while recv_parts(raw, &mut unread, &mut [], false, false).is_ok() {}
        Ok(SocketAddr::new(ip, bound.port()))
    }
}

fn canonical(address: SocketAddr) -> Result<SocketAddr, Errno> {
    match address.port() {
        0 => Err(Errno::EINVAL),
        port => Ok(SocketAddr::new(address.ip().to_canonical(), port)),
    }
}

impl Controller {
    /// The socket that bells of a family ring from, made when the first one hangs.
    fn ringer(&mut self, family: Family) -> Result<&UdpSocket, Errno> {
        let loopback: IpAddr = match family {
            Family::V4 => Ipv4Addr::LOCALHOST.into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        let ringer = &mut self.bells[index(loopback)];
        if ringer.is_none() {
            let socket = UdpSocket::new(family)?;
            socket.bind(SocketAddr::new(loopback, 0))?;
            *ringer = Some(socket);
        }
        ringer.as_ref().ok_or(Errno::EADDRNOTAVAIL)
    }

    pub(super) fn bells(&mut self, family: Family) -> Result<SocketAddr, Errno> {
        self.ringer(family)?.local_addr()
    }

    pub(super) fn ring(&mut self, bell: SocketAddr, message: &[u8]) {
        // A full queue rings already.
        let rung = self
            .ringer(Family::of(bell.ip()))
            .and_then(|socket| send_one(socket, bell, None, Class::Stream, &[message]));
        if let Err(errno) = rung {
            log::debug!("a bell: {errno}");
        }
    }
}
