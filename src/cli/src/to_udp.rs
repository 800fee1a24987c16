//! Where a gateway puts its datagrams: plain UDP, or multicast on the local link.
//!
//! Promises: one datagram out for each that came, as it came. What the kernel refuses is
//! counted; a full send buffer is waited for at most 10 ms. Is not a file (`output`).

use std::net::SocketAddr;

use flexcast_udp::process::{poll, PollFd};
use flexcast_udp::{send_one, Class, Family, UdpSocket};

use crate::failure::Failure;
use crate::link_address::LinkAddress;

/// How long a full send buffer is waited for, microseconds.
const PATIENCE: u64 = 10_000;

/// A socket that speaks to one address.
#[derive(Debug)]
pub(crate) struct ToUdp {
    socket: UdpSocket,
    to: SocketAddr,
    /// Refused by the kernel, or dropped with the buffer full.
    pub(crate) refused: u64,
}

impl ToUdp {
    /// `hops`: how many routers a group's datagrams may pass, this host included.
    pub(crate) fn open(to: &LinkAddress, hops: u8) -> Result<ToUdp, Failure> {
        let fail = |why: String| Failure::Gateway {
            address: to.to_string(),
            why,
        };
        if to.at.ip().is_unspecified() {
            return Err(fail("name the address, not only the port".to_owned()));
        }
        let interface = to.interface().map_err(fail)?;
        let family = Family::of(to.at.ip());
        let way = |socket: &UdpSocket| match to.is_group() {
            true => socket.set_multicast_way(interface, hops),
            false => Ok(()),
        };
        // Connecting asks for the route, and does nothing else.
        let tried = UdpSocket::new(family).and_then(|probe| {
            way(&probe)?;
            probe.connect(to.at)
        });
        tried.map_err(|errno| fail(format!("{errno}: no way there from this host")))?;
        let opened = UdpSocket::new(family).and_then(|socket| way(&socket).map(|()| socket));
        Ok(ToUdp {
            socket: opened.map_err(Failure::Kernel)?,
            to: to.at,
            refused: 0,
        })
    }

    /// Sends a datagram on.
    pub(crate) fn push(&mut self, datagram: &[u8]) {
        let send = || send_one(&self.socket, self.to, None, Class::Stream, &[datagram]);
        let mut sent = send();
        if sent.is_err_and(|errno| errno.would_block()) {
            let mut room = [PollFd::new(self.socket.as_raw(), PollFd::OUT)];
            let _ = poll(&mut room, Some(PATIENCE));
            sent = send();
        }
        self.refused += u64::from(sent.is_err());
    }
}
