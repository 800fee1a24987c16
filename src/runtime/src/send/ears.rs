//! The sockets on which the owner of FP receives requests.
//!
//! ```text
//! 0.0.0.0:FP, [::]:FP (V6ONLY)      always
//! S:FP for each local address       while an owner that was overtaken still has ANY:FP:
//!                                   the more specific socket wins
//! ```
//! Promises: each datagram with the address that it was sent to; ICMP errors about
//! whatever left from FP, by whichever process. Never `SO_REUSEADDR`. IPv6 is
//! optional. Is not what is done with requests.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use flexcast_udp::process::{Epoll, Interest};
use flexcast_udp::{error_queue, Errno, Family, UdpSocket};

/// Room for requests while this thread is kept from the processor.
const BUFFER: u32 = 1 << 20;
/// Local addresses listened on, one by one, at most.
const MOST: usize = 256;

#[derive(Debug)]
struct Ear {
    socket: UdpSocket,
    address: IpAddr,
    token: u64,
}

/// The receiving sockets.
#[derive(Debug)]
pub(super) struct Ears {
    fp: u16,
    epoll: Rc<Epoll>,
    ears: Vec<Ear>,
    next_token: u64,
    /// Requests to other hosts are taken, where a rule hands them to us.
    transparent: bool,
}

impl Ears {
    /// Listens on FP of all addresses; epoll tokens from `first_token` on are used.
    ///
    /// # Errors
    /// `EADDRINUSE` where somebody has FP who does not share it with us.
    pub(super) fn open(
        fp: u16,
        epoll: Rc<Epoll>,
        first_token: u64,
        transparent: bool,
    ) -> Result<Ears, Errno> {
        let mut ears = Ears {
            fp,
            epoll,
            ears: Vec::new(),
            next_token: first_token,
            transparent,
        };
        let v4 = ears.add(Family::V4.any());
        let v6 = ears.add(Family::V6.any());
        match (v4, v6) {
            (Err(Errno::EADDRINUSE), _) | (_, Err(Errno::EADDRINUSE)) => Err(Errno::EADDRINUSE),
            (Err(errno), Err(_)) => Err(errno),
            _ => Ok(ears),
        }
    }

    /// Listens, beside ANY, on exactly these addresses; those that cannot be bound
    /// (just taken away from the host) are left out.
    pub(super) fn listen_also_on(&mut self, addresses: &[IpAddr]) {
        let epoll = self.epoll.clone();
        self.ears.retain(|ear| {
            let wanted = ear.address.is_unspecified() || addresses.contains(&ear.address);
            if !wanted {
                let _ = epoll.remove(ear.socket.as_raw());
            }
            wanted
        });
        for address in addresses.iter().take(MOST) {
            let there = self.ears.iter().any(|ear| ear.address == *address);
            // A link-local address alone does not say which link.
            let bindable = match address {
                IpAddr::V6(v6) => !v6.is_unicast_link_local(),
                IpAddr::V4(_) => true,
            };
            if !there && bindable {
                let _ = self.add(*address);
            }
        }
    }

    /// Takes requests to other hosts from now on.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    pub(super) fn set_transparent(&mut self) -> Result<(), Errno> {
        let mut ears = self.ears.iter();
        ears.try_for_each(|ear| ear.socket.set_transparent(true))?;
        self.transparent = true;
        Ok(())
    }

    /// All of them.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.ears.iter().map(|ear| &ear.socket)
    }

    /// The socket whose epoll events carry `token`.
    pub(super) fn get(&self, token: u64) -> Option<&UdpSocket> {
        let ear = self.ears.iter().find(|ear| ear.token == token)?;
        Some(&ear.socket)
    }

    fn add(&mut self, address: IpAddr) -> Result<(), Errno> {
        let socket = UdpSocket::new(Family::of(address))?;
        socket.set_v6_only(true)?;
        socket.set_reuse_port(true)?;
        socket.set_no_path_mtu_discovery()?;
        socket.set_packet_info(true)?;
        socket.set_receive_buffer(BUFFER)?;
        error_queue::keep_errors(&socket)?;
        if self.transparent {
            socket.set_transparent(true)?;
        }
        socket.bind(SocketAddr::new(address, self.fp))?;
        let token = self.next_token;
        self.next_token += 1;
        self.epoll.add(socket.as_raw(), token, Interest::READ)?;
        self.ears.push(Ear {
            socket,
            address,
            token,
        });
        Ok(())
    }
}
