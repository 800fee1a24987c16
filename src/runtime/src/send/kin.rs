//! A forked child's way to an accepted channel of its parent: datagrams are handed to
//! the process that has the channel, which sends them in its order.
//!
//! ```text
//!   child   send() ── connection of its own ──► parent's thread ──► line ──► all
//!           EPIPE  ◄── Over ────────────────────┘
//!   | word 1 | number of the delivery 8 | body |     native byte order
//! ```
//! Promises: what a send has taken arrives, though the child ends at once; where the
//! connection is full a blocking send waits, and another helps for 10 ms, then drops and
//! counts; a connection whose number became somebody else's is never used. Is not the
//! parent's side (`kinship`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use flexcast_udp::process::{self, PollFd};
use flexcast_udp::unix::Stream;
use flexcast_udp::{sockopt, Errno};
use flexcast_wire::{MAX_BODY_V4, MAX_BODY_V6};

use super::line::Patience;
use super::node::Node;
use super::place::is_friend;
use crate::across_forks::Forked;
use crate::background::lock;

/// The connection's number is the lowest free one from here on.
const HIGH: i32 = 56;
/// How long the parent is waited for when the connection is made.
const ANSWER_US: u64 = 1_000_000;

/// What is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// Child → parent: I send on this delivery. Answered by Here or Over.
    Hello,
    /// Child → parent: a datagram.
    Data,
    /// Child → parent: its stream ends.
    End,
    /// Parent → child: go on.
    Here,
    /// Parent → child: nobody is there any more.
    Over,
}

const WORDS: [Word; 5] = [Word::Hello, Word::Data, Word::End, Word::Here, Word::Over];

/// A message.
pub(super) fn emit(word: Word, number: u64, body: &[&[u8]]) -> Vec<u8> {
    let code = WORDS.iter().position(|known| *known == word);
    let mut message = vec![code.and_then(|at| u8::try_from(at).ok()).unwrap_or(0)];
    message.extend_from_slice(&number.to_ne_bytes());
    body.iter().for_each(|part| message.extend_from_slice(part));
    message
}

/// A message read: word, number, body.
pub(super) fn parse(message: &[u8]) -> Option<(Word, u64, &[u8])> {
    let (code, rest) = message.split_first()?;
    let (number, body) = rest.split_first_chunk::<8>()?;
    let word = WORDS.get(usize::from(*code))?;
    Some((*word, u64::from_ne_bytes(*number), body))
}

#[derive(Debug)]
struct Connection {
    stream: Option<Stream>,
    cookie: u64,
    over: AtomicBool,
}

impl Connection {
    fn new(name: &[u8], number: u64) -> Result<Connection, Errno> {
        let low = Stream::connect(name)?;
        if !is_friend(low.peer()?.uid) {
            return Err(Errno::EPERM);
        }
        let stream = match low.fd.dup_above(HIGH) {
            Ok(fd) => Stream { fd },
            Err(_) => low,
        };
        let raw = stream.fd.as_raw();
        let connection = Connection {
            cookie: sockopt::cookie(raw)?,
            stream: Some(stream),
            over: AtomicBool::new(false),
        };
        connection.say(&emit(Word::Hello, number, &[]), &mut Patience::Never, None)?;
        let mut readable = [PollFd::new(raw, PollFd::IN)];
        process::poll(&mut readable, Some(ANSWER_US))?;
        connection.listen();
        Ok(connection)
    }

    /// The stream, where its number is still its own.
    fn stream(&self) -> Result<&Stream, Errno> {
        let stream = self.stream.as_ref().ok_or(Errno::EBADF)?;
        match sockopt::cookie(stream.fd.as_raw()) {
            Ok(cookie) if cookie == self.cookie => Ok(stream),
            _ => Err(Errno::EBADF),
        }
    }

    /// Takes in what the parent has said.
    fn listen(&self) {
        let Ok(stream) = self.stream() else {
            return;
        };
        let mut message = [0; 16];
        loop {
            let over = match stream.recv(&mut message) {
                Ok((length, _)) if length > 0 => {
                    matches!(parse(&message[..length]), Some((Word::Over, ..)))
                }
                Err(Errno::EINTR) => false,
                Err(Errno::EAGAIN) => return,
                // The process that has the channel is gone, and the channel with it.
                _ => true,
            };
            if over {
                self.over.store(true, Ordering::Release);
                return;
            }
        }
    }

    /// Hands a message over; false where there was no room for it.
    fn say(
        &self,
        message: &[u8],
        patience: &mut Patience,
        node: Option<&Node>,
    ) -> Result<bool, Errno> {
        let stream = self.stream()?;
        loop {
            match stream.send(message, &[]) {
                Ok(_) => return Ok(true),
                Err(Errno::EAGAIN) => {}
                Err(Errno::EBADF) => return Err(Errno::EBADF),
                Err(_) => return Err(Errno::EPIPE),
            }
            let Some(us) = node.and_then(|node| patience.slice(node)) else {
                return Ok(false);
            };
            let mut writable = [PollFd::new(stream.fd.as_raw(), PollFd::OUT)];
            process::poll(&mut writable, Some(us))?;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let ours = self.stream().is_ok();
        if let Some(stream) = self.stream.take().filter(|_| !ours) {
            // The number is nobody's, or somebody else's by now.
            let _ = stream.fd.into_raw();
        }
    }
}

/// The connection for one delivery, made when first needed.
#[derive(Default, Debug)]
pub(super) struct Kin {
    connection: Mutex<Option<Arc<Connection>>>,
    dropped: AtomicU64,
}

impl Forked for Kin {
    /// A child of a child has a connection of its own.
    fn forked(&self) -> Kin {
        Kin::default()
    }
}

impl Kin {
    fn connection(&self, node: &Node, number: u64) -> Result<Arc<Connection>, Errno> {
        let mut place = lock(&self.connection);
        if let Some(known) = place.as_ref().filter(|known| known.stream().is_ok()) {
            return Ok(known.clone());
        }
        let name = node.kin.get().ok_or(Errno::EOPNOTSUPP)?;
        let fresh = match Connection::new(name, number) {
            Err(Errno::ECONNREFUSED) => Err(Errno::EPIPE),
            outcome => outcome,
        };
        let fresh = Arc::new(fresh?);
        *place = Some(fresh.clone());
        Ok(fresh)
    }

    /// Whether nobody is there any more, as far as it was told.
    pub(super) fn is_over(&self) -> bool {
        let connection = lock(&self.connection).clone();
        connection.is_some_and(|connection| {
            connection.listen();
            connection.over.load(Ordering::Acquire)
        })
    }

    /// # Errors
    /// `EPIPE` where nobody is there any more, or the process that has the channel is
    /// gone; `EMSGSIZE`, and then nothing was sent; `EOPNOTSUPP` where the parent could
    /// not make itself known.
    pub(super) fn send(
        &self,
        node: &Node,
        number: u64,
        sender: IpAddr,
        datagrams: &[&[&[u8]]],
        block: bool,
    ) -> Result<(), Errno> {
        let limit = if sender.is_ipv4() {
            MAX_BODY_V4
        } else {
            MAX_BODY_V6
        };
        let length = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
        if datagrams.iter().any(|parts| length(parts) > limit) {
            return Err(Errno::EMSGSIZE);
        }
        let connection = self.connection(node, number)?;
        connection.listen();
        if connection.over.load(Ordering::Acquire) {
            return Err(Errno::EPIPE);
        }
        let mut patience = match block {
            true => Patience::Block,
            false => Patience::Help(None),
        };
        for parts in datagrams {
            let message = emit(Word::Data, number, parts);
            if !connection.say(&message, &mut patience, Some(node))? {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    pub(super) fn let_go(&self) {
        drop(lock(&self.connection).take());
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// As [`Kin::send`].
    pub(super) fn end(&self, node: &Node, number: u64) -> Result<(), Errno> {
        let connection = self.connection(node, number)?;
        connection.over.store(true, Ordering::Release);
        let end = emit(Word::End, number, &[]);
        connection
            .say(&end, &mut Patience::Block, Some(node))
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        for word in WORDS {
            let message = emit(word, 1 << 40, &[b"bo", b"dy"]);
            assert_eq!(parse(&message), Some((word, 1 << 40, &b"body"[..])));
            for end in 0..9 {
                assert_eq!(parse(&message[..end]), None);
            }
        }
        assert_eq!(parse(&[5; 9]), None);
    }
}
