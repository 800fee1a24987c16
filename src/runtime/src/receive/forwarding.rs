//! The path through user space: the background thread takes the stream on a socket of
//! its own and hands each datagram on to D over loopback.
//!
//! ```text
//!   S:FP ──stream, control──► U (private table, ephemeral port)
//!                              │ parsed: control → requester, data → its origin
//!                              ▼
//!            one origin a channel, 127.0.0.1:port ──► D    (source_of: port → S)
//! ```
//! For kernels that cannot strip and sort, and where D cannot have C beside it or a
//! filter of ours. D stays a socket that plain receive calls read: nothing has to be
//! parsed in the application's threads, control never wakes them, forged datagrams
//! stop at U. It costs one more copy through loopback.
//!
//! Promises: where D takes our filter it admits only what our origins send (under a
//! token of our own, in a trailer that D's kernel strips) and untrailed datagrams as
//! told. Duplicates end here. Is not for a D that is bound to an interface: loopback
//! does not reach it.

use std::net::SocketAddr;

use flexcast_engine::{DuplicateWindow, Fresh};
use flexcast_udp::filter::Source;
use flexcast_udp::{canonical_socket, Class, Errno, Family, SendBatch, UdpSocket};
use flexcast_wire::{Kind, Sequence, StreamToken, Trailer};

use super::identity::Bound;

/// Where loopback reaches D.
pub(super) fn within_host(bound: &Bound, family: Family) -> SocketAddr {
    let local = canonical_socket(bound.local);
    if local.ip().is_unspecified() {
        SocketAddr::new(family.loopback(), local.port())
    } else {
        local
    }
}

/// Where one channel's datagrams come from, for D.
#[derive(Debug)]
pub(super) struct Origin {
    socket: UdpSocket,
    /// Its address: what D sees.
    pub(super) address: SocketAddr,
    to: SocketAddr,
    waiting: SendBatch,
    /// A datagram, trailer included, while it is put together.
    bytes: Vec<u8>,
    token: Option<StreamToken>,
    window: DuplicateWindow,
    next: Sequence,
    refused: u64,
}

impl Origin {
    /// An origin for datagrams that come from `from`, on the way to the socket that
    /// is bound as told.
    ///
    /// # Errors
    /// As socket(2), bind(2): `EADDRNOTAVAIL` where loopback has no such address.
    pub(super) fn new(bound: &Bound, from: SocketAddr) -> Result<Origin, Errno> {
        let family = Family::of(from.ip());
        let to = within_host(bound, family);
        let mut at = to;
        at.set_port(0);
        let socket = UdpSocket::new(Family::of(at.ip()))?;
        socket.bind(at)?;
        Ok(Origin {
            address: socket.local_addr()?,
            socket,
            to,
            waiting: SendBatch::new(),
            bytes: Vec::new(),
            token: None,
            window: DuplicateWindow::new(),
            next: Sequence(0),
            refused: 0,
        })
    }

    /// What D's filter admits from it; without a token for a program that reads the
    /// stream's own trailers.
    pub(super) fn source(&self, token: Option<u64>) -> Source {
        Source {
            address: self.address.ip(),
            port: self.address.port(),
            token,
        }
    }

    /// Received, and lost by sequence, under the present token.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.window.received(), self.window.lost())
    }

    /// Datagrams that loopback refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes a datagram of the stream; a second copy is dropped. `token` is that of
    /// the trailer which D's kernel strips; none where D has no filter of ours.
    pub(super) fn take(&mut self, body: &[u8], trailer: &Trailer, token: Option<u64>) {
        if self.token != Some(StreamToken(trailer.token)) {
            self.token = Some(StreamToken(trailer.token));
            self.window = DuplicateWindow::new();
        }
        if self.window.note(trailer.sequence) != Fresh::New {
            return;
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(body);
        if let Some(token) = token {
            let stripped = Trailer {
                token,
                sequence: self.next,
                kind: Kind::Data,
            };
            self.next = self.next.next();
            self.bytes.extend_from_slice(&stripped.bytes());
        }
        self.waiting.push(self.to, None, Class::Stream, &self.bytes);
    }

    /// Takes a datagram for a program that reads trailers itself: as it is.
    pub(super) fn pass(&mut self, body: &[u8], trailer: &Trailer) {
        self.bytes.clear();
        self.bytes.extend_from_slice(body);
        self.bytes.extend_from_slice(&trailer.bytes());
        self.waiting.push(self.to, None, Class::Stream, &self.bytes);
    }

    /// Hands on what was taken.
    pub(super) fn flush(&mut self) {
        let refused = &mut self.refused;
        let flushed = self.waiting.flush(&self.socket, &mut |_, _| *refused += 1);
        if flushed.blocked_at.is_some() {
            self.refused += u64::try_from(self.waiting.len()).unwrap_or(0);
            self.waiting.clear();
        }
    }
}
