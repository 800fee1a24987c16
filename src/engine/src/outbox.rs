//! Control datagrams to be sent, gathered while the engine thinks. One buffer,
//! reused: nothing is allocated in the steady state. Is not a socket.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use flexcast_wire::{Channel, Control};

/// From which socket a control datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// From the node's FP socket, with this source address.
    Node(IpAddr),
    /// From the requesting socket of this channel.
    Upstream(Channel),
}

/// One datagram of an [`Outbox`].
#[derive(Clone, Debug)]
pub struct Letter {
    /// From which socket.
    pub route: Route,
    /// To whom.
    pub to: SocketAddr,
    bytes: Range<usize>,
}

/// Datagrams to be sent.
#[derive(Default, Debug)]
pub struct Outbox {
    buffer: Vec<u8>,
    letters: Vec<Letter>,
}

impl Outbox {
    /// An empty one.
    #[must_use]
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// Adds a control datagram.
    pub fn push(&mut self, route: Route, to: SocketAddr, control: &Control<'_>) {
        let start = self.buffer.len();
        control.emit(&mut self.buffer);
        self.letters.push(Letter {
            route,
            to,
            bytes: start..self.buffer.len(),
        });
    }

    /// Adds bytes that were read elsewhere (a leave passed on unchanged).
    pub fn push_raw(&mut self, route: Route, to: SocketAddr, bytes: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        self.letters.push(Letter {
            route,
            to,
            bytes: start..self.buffer.len(),
        });
    }

    /// What is in it, with the bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&Letter, &[u8])> {
        self.letters
            .iter()
            .map(|letter| (letter, &self.buffer[letter.bytes.clone()]))
    }

    /// How many datagrams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Bytes of all datagrams together.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Empties it, keeping the memory.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.letters.clear();
    }
}
