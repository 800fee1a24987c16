//! A socket whose program reads by our calls: trailers stay on, so that sequences can
//! be read by whoever takes a datagram.
//!
//! ```text
//!   S:FP ──data, end──► D (filter: source, token) ──► read(): trailer off,
//!   C ────wake────────► D                              duplicates out, losses counted
//! ```
//! Promises: one datagram a call, none twice, no lock held while the call waits; the
//! end of stream is told once, behind all that came before it; where the end itself
//! got lost, or nobody will ever send (a final refusal), a datagram of our own wakes
//! whoever waits. Processes that share the socket (fork) each get what they take, and
//! each count for themselves. Is not for plain receive calls: they would see trailers.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use flexcast_engine::Time;
use flexcast_udp::{process, recv_parts, Errno};
use flexcast_wire::{Kind, Sequence, Trailer, TRAILER_LEN};

use super::bytes::Bytes;
use super::ReceivingSocket;
use crate::across_forks::{AcrossForks, Forked};
use crate::background::{lock, now};
use crate::native::{Counts, Stream};

/// What the longest datagram needs behind a buffer without room for it.
pub(super) const LONGEST: usize = 65_535 + TRAILER_LEN;

thread_local! {
    /// Not in use while a signal handler's read has taken it.
    static BEHIND: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// What one call took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// A datagram of this length; the buffer holds as much of it as it has room for.
    Datagram(usize),
    /// The stream came to its end. Another may follow.
    End,
}

/// The reading half, shared by the program's threads and the background thread.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) wake_token: u64,
    own: AcrossForks<Own>,
}

/// What each process that reads has for itself.
#[derive(Default, Debug)]
struct Own {
    stream: Mutex<Stream>,
    bytes: Mutex<Bytes>,
    refused: AtomicBool,
    /// Datagrams are given whole, with their trailers, and so are ends.
    whole: AtomicBool,
    /// There is nobody any more whom a whole stream is for.
    over: AtomicBool,
    /// Threads in a receive call that waits.
    waiting: AtomicUsize,
}

impl Forked for Own {
    fn forked(&self) -> Own {
        Own {
            stream: self.stream.forked(),
            bytes: self.bytes.forked(),
            refused: AtomicBool::new(self.refused.load(Ordering::Acquire)),
            whole: AtomicBool::new(self.whole.load(Ordering::Acquire)),
            over: AtomicBool::new(self.over.load(Ordering::Acquire)),
            waiting: AtomicUsize::new(0),
        }
    }
}

/// What a datagram means.
pub(super) enum Heard {
    Body(usize),
    End,
    Nothing,
}

impl Reading {
    /// # Errors
    /// As getrandom(2).
    pub(super) fn new() -> Result<Reading, Errno> {
        Ok(Reading {
            wake_token: process::random_u64()? | 1,
            // D's filter knows the token at the moment of arrival; here it would be
            // ahead of what is still queued.
            own: AcrossForks::new(Own::default()),
        })
    }

    fn stream(&self) -> MutexGuard<'_, Stream> {
        lock(&self.own.get().stream)
    }

    /// How far this process has come that reads bytes.
    pub(super) fn bytes(&self) -> MutexGuard<'_, Bytes> {
        lock(&self.own.get().bytes)
    }

    /// What wakes a waiting program.
    pub(super) fn wake(&self) -> [u8; TRAILER_LEN] {
        let trailer = Trailer {
            token: self.wake_token,
            sequence: Sequence(0),
            kind: Kind::End,
        };
        trailer.bytes()
    }

    /// A status told the end; whether the program has yet to hear of it.
    pub(super) fn status_ended(&self, now: Time) {
        self.stream().status_ended(now);
    }

    pub(super) fn awaits_end(&self) -> bool {
        self.stream().end_at() != Time::NEVER
    }

    pub(super) fn set_refused(&self, refused: bool) {
        let own = self.own.get();
        own.refused.store(refused, Ordering::Release);
    }

    pub(super) fn set_whole(&self) {
        self.own.get().whole.store(true, Ordering::Release);
    }

    pub(super) fn set_over(&self) {
        self.own.get().over.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.own.get().over.load(Ordering::Acquire)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.own.get().refused.load(Ordering::Acquire)
    }

    /// Whether somebody waits in vain: what woke it was taken by another process.
    pub(super) fn is_overslept(&self) -> bool {
        let waits = self.own.get().waiting.load(Ordering::Acquire) > 0;
        waits && self.has_news()
    }

    /// Whether there is anything to wake for.
    pub(super) fn has_news(&self) -> bool {
        self.is_refused() || self.is_over() || self.awaits_end()
    }

    pub(super) fn counts(&self) -> Counts {
        self.stream().counts()
    }

    /// A datagram that stands in `first` and behind it in `second`.
    pub(super) fn hear(&self, length: usize, first: &[u8], second: &[u8]) -> Heard {
        let mut stream = self.stream();
        let Some(trailer) = trailer(length, first, second) else {
            stream.count_foreign();
            return Heard::Nothing;
        };
        let body = length - TRAILER_LEN;
        if self.own.get().whole.load(Ordering::Acquire) {
            return match trailer.kind {
                Kind::End if trailer.token == self.wake_token => match self.is_over() {
                    true => Heard::End,
                    false => Heard::Nothing,
                },
                Kind::Data if stream.take(Time(0), &trailer, body) => Heard::Body(length),
                // Who passes it on knows whether it has come before.
                Kind::End => {
                    stream.take(Time(0), &trailer, body);
                    stream.has_ended(Time::NEVER);
                    Heard::Body(length)
                }
                Kind::Data | Kind::Control => Heard::Nothing,
            };
        }
        match trailer.kind {
            Kind::End if trailer.token == self.wake_token => {
                // It stands behind all that came before it, whatever the hour.
                match stream.end_at() != Time::NEVER && stream.has_ended(Time::NEVER) {
                    true => Heard::End,
                    false => Heard::Nothing,
                }
            }
            Kind::Data if stream.take(Time(0), &trailer, body) => Heard::Body(body),
            Kind::End => {
                let now = now();
                stream.take(now, &trailer, body);
                match stream.is_complete() && stream.has_ended(now) {
                    true => Heard::End,
                    false => Heard::Nothing,
                }
            }
            Kind::Data | Kind::Control => Heard::Nothing,
        }
    }

    /// Nothing is queued: is the end due?
    pub(super) fn ends_now(&self) -> bool {
        let mut stream = self.stream();
        stream.end_at() != Time::NEVER && stream.has_ended(now())
    }
}

pub(super) fn trailer(length: usize, first: &[u8], second: &[u8]) -> Option<Trailer> {
    let start = length.checked_sub(TRAILER_LEN)?;
    let mut bytes = [0; TRAILER_LEN];
    for (at, byte) in (start..).zip(&mut bytes) {
        *byte = match first.get(at) {
            Some(there) => *there,
            None => *second.get(at - first.len())?,
        };
    }
    Trailer::split(&bytes).ok().map(|(_, trailer)| trailer)
}

impl ReceivingSocket {
    /// Takes the next datagram of a reading socket ([`ReceivingSocket::adopt_reader`])
    /// by its number `raw`. Waits as the descriptor's own mode says, where `wait` is
    /// set.
    ///
    /// # Errors
    /// `EAGAIN` where nothing is there (or the time of `SO_RCVTIMEO` is over), `EINTR`
    /// where a signal came, `ECONNREFUSED` where the stream is refused for good,
    /// `EINVAL` where it is no reading socket, else as recvmsg(2).
    pub fn read(&self, raw: i32, buffer: &mut [u8], wait: bool) -> Result<Read, Errno> {
        let reading = self.reading()?;
        with_room_behind(|behind| read(reading, raw, buffer, behind, wait))
    }

    /// Its reading half, of which this process's thread is told.
    pub(super) fn reading(&self) -> Result<&Reading, Errno> {
        let reading = self.0.shared.reading.as_ref().ok_or(Errno::EINVAL)?;
        if self.is_news() {
            // What fails now is tried again by the next call.
            let _ = self.process();
        }
        Ok(reading)
    }

    /// What a reading socket counted; none for any other.
    #[must_use]
    pub fn counts(&self) -> Option<Counts> {
        self.0.shared.reading.as_ref().map(Reading::counts)
    }
}

/// Lends this thread's [`LONGEST`] bytes.
pub(super) fn with_room_behind<T>(body: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut behind = BEHIND
        .take()
        .unwrap_or_else(|| vec![0; LONGEST].into_boxed_slice());
    let outcome = body(&mut behind);
    BEHIND.set(Some(behind));
    outcome
}

/// A thread in a receive call that waits.
pub(super) struct Waits<'a>(Option<&'a AtomicUsize>);

impl<'a> Waits<'a> {
    pub(super) fn in_call(reading: &'a Reading, wait: bool) -> Waits<'a> {
        let count = wait.then(|| &reading.own.get().waiting);
        if let Some(count) = count {
            count.fetch_add(1, Ordering::AcqRel);
        }
        Waits(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.0 {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn read(
    reading: &Reading,
    raw: i32,
    buffer: &mut [u8],
    behind: &mut [u8],
    wait: bool,
) -> Result<Read, Errno> {
    loop {
        let (refused, over) = (reading.is_refused(), reading.is_over());
        let wait = wait && !refused && !over;
        let waits = Waits::in_call(reading, wait);
        let arrival = recv_parts(raw, buffer, behind, wait, false);
        drop(waits);
        match arrival {
            // D's filter admits nothing that is empty: the socket was shut down.
            Ok(arrival) if arrival.length == 0 => return Ok(Read::End),
            Ok(arrival) => match reading.hear(arrival.length, buffer, behind) {
                Heard::Body(length) => return Ok(Read::Datagram(length)),
                Heard::End => return Ok(Read::End),
                Heard::Nothing => {}
            },
            Err(Errno::EAGAIN) if over || reading.ends_now() => return Ok(Read::End),
            Err(Errno::EAGAIN) if refused => return Err(Errno::ECONNREFUSED),
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(token: u64, sequence: u32, kind: Kind, body: &[u8]) -> Vec<u8> {
        let sequence = Sequence(sequence);
        let trailer = Trailer {
            token,
            sequence,
            kind,
        };
        [body, &trailer.bytes()].concat()
    }

    /// As a buffer of `room` bytes would hold it.
    pub(super) fn hear(reading: &Reading, datagram: &[u8], room: usize) -> Heard {
        let mut first = vec![0; room];
        let at = room.min(datagram.len());
        first[..at].copy_from_slice(&datagram[..at]);
        let mut second = vec![0; LONGEST];
        second[..datagram.len() - at].copy_from_slice(&datagram[at..]);
        reading.hear(datagram.len(), &first, &second)
    }

    #[test]
    fn the_trailer_is_found_wherever_the_buffer_ends() {
        let reading = Reading::new().unwrap();
        for room in 0..40 {
            let data = datagram(7, u32::try_from(room).unwrap(), Kind::Data, b"0123456789");
            assert!(matches!(hear(&reading, &data, room), Heard::Body(10)));
            assert!(matches!(hear(&reading, &data, room), Heard::Nothing));
        }
        let counts = reading.counts();
        assert_eq!((counts.datagrams, counts.duplicates), (40, 40));
        assert!(matches!(hear(&reading, b"short", 40), Heard::Nothing));
        assert_eq!(reading.counts().foreign, 1);
    }

    #[test]
    fn an_end_with_something_missing_waits_for_the_wake_and_is_told_once() {
        let reading = Reading::new().unwrap();
        hear(&reading, &datagram(7, 1, Kind::Data, b"a"), 9);
        let end = datagram(7, 3, Kind::End, b"");
        assert!(matches!(hear(&reading, &end, 9), Heard::Nothing));
        assert!(reading.awaits_end());
        let late = datagram(7, 2, Kind::Data, b"b");
        assert!(matches!(hear(&reading, &late, 9), Heard::Body(1)));
        let wake = reading.wake();
        assert!(matches!(hear(&reading, &wake, 9), Heard::End));
        assert!(matches!(hear(&reading, &wake, 9), Heard::Nothing));
        assert!(matches!(hear(&reading, &end, 9), Heard::Nothing));
        assert!(!reading.awaits_end());
    }

    #[test]
    fn a_reader_that_lags_behind_loses_nothing_to_a_new_stream() {
        let reading = Reading::new().unwrap();
        hear(&reading, &datagram(7, 1, Kind::Data, b"a"), 9);
        reading.status_ended(now());
        let rest = datagram(7, 2, Kind::Data, b"b");
        assert!(matches!(hear(&reading, &rest, 9), Heard::Body(1)));
        let end = datagram(7, 3, Kind::End, b"");
        assert!(matches!(hear(&reading, &end, 9), Heard::End));
        let next = datagram(8, 900, Kind::Data, b"c");
        assert!(matches!(hear(&reading, &next, 9), Heard::Body(1)));
        assert_eq!(reading.counts().lost, 0);
    }
}
