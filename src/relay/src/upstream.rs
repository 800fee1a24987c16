//! The relay's requesting sockets, one a channel: requests out, answers and the
//! stream in. From an ephemeral port, since from FP the relay above would capture
//! what is sent back. Is not the decision to ask (`engine`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use flexcast_udp::batch::{send_one, Class};
use flexcast_udp::process::{Epoll, Interest};
use flexcast_udp::{Errno, Family, UdpSocket};
use flexcast_wire::Channel;

/// The first epoll token that names a requesting socket.
pub(crate) const FIRST_TOKEN: u64 = 16;

/// The requesting sockets.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    sockets: HashMap<Channel, (UdpSocket, u64)>,
    channels: HashMap<u64, Channel>,
    next_token: u64,
}

impl Upstream {
    /// Opens a channel's socket and watches it.
    pub(crate) fn open(
        &mut self,
        channel: Channel,
        epoll: &Epoll,
        receive_buffer: u32,
    ) -> Result<(), Errno> {
        let family = Family::of(channel.sender);
        let socket = UdpSocket::new(family)?;
        let _ = socket.set_receive_buffer(receive_buffer);
        let _ = socket.set_gro(true);
        socket.bind(SocketAddr::new(family.any(), 0))?;
        let token = FIRST_TOKEN + self.next_token;
        self.next_token += 1;
        epoll.add(socket.as_raw(), token, Interest::READ)?;
        self.channels.insert(token, channel);
        if let Some((_, old)) = self.sockets.insert(channel, (socket, token)) {
            self.channels.remove(&old);
        }
        Ok(())
    }

    /// Closes a channel's socket.
    pub(crate) fn close(&mut self, channel: &Channel) {
        if let Some((_, token)) = self.sockets.remove(channel) {
            self.channels.remove(&token);
        }
    }

    /// The channel and socket behind an epoll token.
    pub(crate) fn by_token(&self, token: u64) -> Option<(Channel, &UdpSocket)> {
        let channel = *self.channels.get(&token)?;
        Some((channel, &self.sockets.get(&channel)?.0))
    }

    /// All requesting sockets.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.sockets.values().map(|(socket, _)| socket)
    }

    /// Whether channels of this sender are asked for.
    pub(crate) fn asks(&self, sender: IpAddr) -> bool {
        self.sockets.keys().any(|channel| channel.sender == sender)
    }

    /// Sends a request.
    pub(crate) fn ask(&self, channel: &Channel, to: SocketAddr, bytes: &[u8]) -> Result<(), Errno> {
        let (socket, _) = self.sockets.get(channel).ok_or(Errno::ENOTCONN)?;
        send_one(socket, to, None, Class::Control, &[bytes]).map(drop)
    }
}
