//! A connection to another sender process of this host.
//!
//! Promises: nothing blocks; what must not be lost (registrations, requesters) waits
//! in a queue of bounded length, what is repeated anyway (requests, errors) is dropped
//! where the other end does not read. Is not the meaning of messages (`local`).

use std::collections::VecDeque;
use std::rc::Rc;

use flexcast_udp::process::{Epoll, Interest};
use flexcast_udp::unix::{Peer as Credentials, Stream};
use flexcast_udp::Errno;

use super::local::Message;

/// Messages that wait for a peer that does not read. Higher: more memory for a
/// stopped process; lower: it has less when it wakes.
const WAITING: usize = 1_024;

/// The other end.
#[derive(Debug)]
pub(super) struct Peer {
    stream: Stream,
    epoll: Rc<Epoll>,
    token: u64,
    waiting: VecDeque<Vec<u8>>,
    /// epoll tells when there is room.
    awaits_room: bool,
    pub(super) credentials: Credentials,
}

/// What came of reading.
pub(super) enum Read {
    /// A message of this length is in the buffer.
    Message(usize),
    /// Nothing for now.
    Nothing,
    /// The other end is gone.
    Gone,
}

impl Peer {
    /// Watches `stream`; its events carry `token`.
    pub(super) fn new(stream: Stream, epoll: Rc<Epoll>, token: u64) -> Result<Peer, Errno> {
        let credentials = stream.peer()?;
        epoll.add(stream.fd.as_raw(), token, Interest::READ)?;
        Ok(Peer {
            stream,
            epoll,
            token,
            waiting: VecDeque::new(),
            awaits_room: false,
            credentials,
        })
    }

    /// Sends, now or as soon as the other end reads.
    pub(super) fn send(&mut self, message: &Message<'_>) {
        if self.waiting.len() >= WAITING {
            return;
        }
        self.waiting.push_back(message.emit());
        self.flush();
    }

    /// Sends now or not at all; whether it went.
    pub(super) fn offer(&mut self, message: &Message<'_>) -> bool {
        self.waiting.is_empty() && self.stream.send(&message.emit(), &[]).is_ok()
    }

    /// Goes on with what waits.
    pub(super) fn flush(&mut self) {
        while let Some(first) = self.waiting.front() {
            match self.stream.send(first, &[]) {
                Err(Errno::EAGAIN) => break,
                // Gone or too long: reading tells of the former.
                _ => self.waiting.pop_front(),
            };
        }
        let waits = !self.waiting.is_empty();
        if waits != self.awaits_room {
            self.awaits_room = waits;
            let interest = if waits {
                Interest::BOTH
            } else {
                Interest::READ
            };
            let raw = self.stream.fd.as_raw();
            let _ = self.epoll.modify(raw, self.token, interest);
        }
    }

    /// Takes one message.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Read {
        match self.stream.recv(buffer) {
            Ok((0, _)) => Read::Gone,
            Ok((length, _)) => Read::Message(length),
            Err(Errno::EAGAIN | Errno::EINTR) => Read::Nothing,
            Err(_) => Read::Gone,
        }
    }
}
