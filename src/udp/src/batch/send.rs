//! Many datagrams out by `sendmmsg`, each to its own destination.
//!
//! Promises: a destination's error (ECONNREFUSED, ENETUNREACH, EPERM, EMSGSIZE ...)
//! is told and the rest go on; a full send buffer stops the flush, which can be
//! continued. Payloads are copied at push into one arena that is reused.
//! Is not: fan-out of the same bytes (see `fan_out`).

use std::net::{IpAddr, SocketAddr};

use super::Class;
use crate::address::RawAddress;
use crate::ancillary::Ancillary;
use crate::raw::{call, int, BatchHeader, IoVec, MessageHeader};
use crate::{Errno, Family, UdpSocket};

/// Datagrams handed over by one system call.
const SLOTS: usize = 64;

/// What became of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flushed {
    /// Datagrams that the kernel took in this call.
    pub sent: usize,
    /// Datagrams that were refused in this call; each was told with its error.
    pub failed: usize,
    /// The first datagram that still waits because the send buffer is full; the
    /// batch keeps it and those after it.
    pub blocked_at: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    to: SocketAddr,
    source: Option<IpAddr>,
    class: Class,
    start: usize,
    length: usize,
}

/// Datagrams to be sent, in order.
#[derive(Debug, Default)]
pub struct SendBatch {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    done: usize,
    names: Vec<RawAddress>,
    controls: Vec<Ancillary>,
    parts: Vec<IoVec>,
    headers: Vec<BatchHeader>,
}

impl SendBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self {
            names: vec![RawAddress::empty(); SLOTS],
            controls: vec![Ancillary::empty(); SLOTS],
            parts: vec![IoVec::default(); SLOTS],
            headers: vec![BatchHeader::default(); SLOTS],
            ..Self::default()
        }
    }

    /// Appends a datagram. `source` is the address it shall come from (the kernel
    /// chooses without).
    pub fn push(&mut self, to: SocketAddr, source: Option<IpAddr>, class: Class, payload: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(payload);
        self.entries.push(Entry {
            to,
            source,
            class,
            start,
            length: payload.len(),
        });
    }

    /// Datagrams that still wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - self.done
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets those that still wait.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.done = 0;
    }

    /// Sends what waits. `trouble` is told the index (in order of push since the
    /// batch was last empty) and the error of each datagram that was refused. After
    /// [`Flushed::blocked_at`], poll for writing and flush again, or clear.
    pub fn flush(&mut self, socket: &UdpSocket, trouble: &mut impl FnMut(usize, Errno)) -> Flushed {
        let mut flushed = Flushed::default();
        // Whether the datagram at `done` has been tried again after an error that
        // may have been an older datagram's (see `is_foreign`).
        let mut retried = false;
        while self.done < self.entries.len() {
            let outcome = self
                .prepare(socket.family())
                .and_then(|count| self.hand_over(socket, count));
            match outcome {
                Ok(0) | Err(Errno::EAGAIN) => {
                    flushed.blocked_at = Some(self.done);
                    return flushed;
                }
                Ok(count) => {
                    self.done += count;
                    flushed.sent += count;
                    retried = false;
                }
                Err(Errno::EINTR) => {}
                Err(errno) if is_foreign(errno) && !retried => retried = true,
                Err(errno) => {
                    trouble(self.done, errno);
                    self.done += 1;
                    flushed.failed += 1;
                    retried = false;
                }
            }
        }
        self.clear();
        flushed
    }

    /// Fills the slots from `done` on; stops before an entry that cannot be
    /// addressed, which is an error where it is the first.
    fn prepare(&mut self, family: Family) -> Result<usize, Errno> {
        let mut count = 0;
        for entry in self.entries[self.done..].iter().take(SLOTS) {
            let name = RawAddress::encode(entry.to, family);
            let control = &mut self.controls[count];
            let directed = control.direct(entry.to.ip(), entry.source, entry.class, None);
            match (name, directed) {
                (Ok(name), Ok(())) => self.names[count] = name,
                (Err(errno), _) | (_, Err(errno)) if count == 0 => return Err(errno),
                _ => break,
            }
            self.parts[count] = IoVec::reading(&self.arena[entry.start..][..entry.length]);
            self.headers[count].header = MessageHeader {
                name: self.names[count].bytes.as_ptr() as usize,
                name_length: self.names[count].length,
                parts: (&raw const self.parts[count]) as usize,
                part_count: 1,
                control: self.controls[count].bytes.as_ptr() as usize,
                control_length: self.controls[count].length,
                flags: 0,
            };
            count += 1;
        }
        Ok(count)
    }

    fn hand_over(&mut self, socket: &UdpSocket, count: usize) -> Result<usize, Errno> {
        let flags = int(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let headers_at = self.headers.as_mut_ptr() as usize;
        let arguments = [int(socket.as_raw()), headers_at, count, flags, 0, 0];
        // SAFETY: `prepare` has just written the first `count` headers; all they name
        // is memory of this batch, which &mut self keeps in place.
        unsafe { call(libc::SYS_sendmmsg, arguments) }
    }
}

/// Errors that a connected socket keeps from an earlier datagram (an ICMP answer) and
/// tells at the next call, without sending: worth a second try.
pub(crate) fn is_foreign(errno: Errno) -> bool {
    matches!(errno, Errno::ECONNREFUSED | Errno::EHOSTUNREACH)
}
