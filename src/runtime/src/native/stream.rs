//! Which stream datagrams a native receiver takes, and what it counts.
//!
//! ```text
//!   token known (a status said it)   only that one
//!   not known, not strict            any but the one before: a new one starts anew
//!   not known, strict                none
//! ```
//! Promises: no datagram is taken twice (in a window of 65 536); what is missing
//! between the first and the last sequence is counted, across senders' restarts;
//! an end is told once, when stragglers have had their time. Is not a buffer that
//! puts datagrams in order: they are delivered as they come.

use std::time::Duration;

use flexcast_engine::{DuplicateWindow, Fresh, Time};
use flexcast_wire::{Kind, StreamToken, Trailer};

/// How long datagrams that are missing at the end of stream are waited for.
const STRAGGLERS: Duration = Duration::from_millis(100);
/// How long the end of stream itself is waited for, once a status has told it.
const AFTER_STATUS: Duration = Duration::from_millis(200);

/// What a receiver counted, over all streams of its channel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Datagrams delivered.
    pub datagrams: u64,
    /// Their bytes, without trailers.
    pub bytes: u64,
    /// Sequences that never came.
    pub lost: u64,
    /// Datagrams that came again, or after 65 535 newer ones, and were dropped.
    pub duplicates: u64,
    /// Datagrams that are not of the stream: another token, another source, no trailer.
    pub foreign: u64,
}

/// One channel's stream, as it arrives.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    strict: bool,
    known: Option<u64>,
    current: Option<u64>,
    former: Option<u64>,
    window: DuplicateWindow,
    counts: Counts,
    /// When the end is to be told.
    end_at: Time,
    /// Whether the present stream's end was told.
    ended: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Stream::new(false)
    }
}

impl Stream {
    pub(crate) fn new(strict: bool) -> Stream {
        Stream {
            strict,
            known: None,
            current: None,
            former: None,
            window: DuplicateWindow::new(),
            counts: Counts::default(),
            end_at: Time::NEVER,
            ended: false,
        }
    }

    /// Takes a stream datagram of the node that was asked; whether its body, of
    /// `length` bytes, is to be delivered.
    pub(crate) fn take(&mut self, now: Time, trailer: &Trailer, length: usize) -> bool {
        if !self.admits(trailer.token) {
            self.counts.foreign += 1;
            return false;
        }
        if self.current != Some(trailer.token) {
            self.turn_to(trailer.token);
        }
        let fresh = self.window.note(trailer.sequence) == Fresh::New;
        match trailer.kind {
            Kind::Data if fresh => {
                self.counts.datagrams += 1;
                self.counts.bytes += length as u64;
                true
            }
            Kind::Data => {
                self.counts.duplicates += 1;
                false
            }
            // The end comes three times with one sequence: not a duplicate.
            Kind::End => {
                let complete = self.window.lost() == 0;
                self.expect_end(now, if complete { Duration::ZERO } else { STRAGGLERS });
                false
            }
            Kind::Control => false,
        }
    }

    fn admits(&self, token: u64) -> bool {
        match self.known {
            Some(known) => known == token,
            None => !self.strict && self.former != Some(token),
        }
    }

    /// A status told the token, or (none) that the stream has ended.
    pub(crate) fn learn(&mut self, token: Option<StreamToken>) {
        self.known = token.map(|token| token.0);
        if let (Some(known), Some(current)) = (self.known, self.current) {
            if known != current {
                self.turn_to(known);
            }
        }
    }

    /// Another stream begins: its sequences have nothing to do with the last one's.
    fn turn_to(&mut self, token: u64) {
        self.counts.lost += self.window.lost();
        self.window = DuplicateWindow::new();
        self.former = self.current.replace(token);
        self.end_at = Time::NEVER;
        self.ended = false;
    }

    /// A status told that the stream has ended: its end may still be on the way.
    pub(crate) fn status_ended(&mut self, now: Time) {
        self.expect_end(now, AFTER_STATUS);
    }

    fn expect_end(&mut self, now: Time, wait: Duration) {
        if !self.ended {
            self.end_at = self.end_at.min(now + wait);
        }
    }

    /// When [`Stream::has_ended`] next says so.
    pub(crate) fn end_at(&self) -> Time {
        self.end_at
    }

    /// Whether the stream has ended; once for each stream.
    pub(crate) fn has_ended(&mut self, now: Time) -> bool {
        if self.end_at > now {
            return false;
        }
        self.end_at = Time::NEVER;
        self.ended = true;
        true
    }

    /// Whether nothing is missing up to the highest sequence.
    pub(crate) fn is_complete(&self) -> bool {
        self.window.lost() == 0
    }

    /// Counts a datagram that is nothing of ours.
    pub(crate) fn count_foreign(&mut self) {
        self.counts.foreign += 1;
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            lost: self.counts.lost + self.window.lost(),
            ..self.counts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flexcast_wire::Sequence;

    fn data(token: u64, sequence: u32) -> Trailer {
        Trailer {
            token,
            sequence: Sequence(sequence),
            kind: Kind::Data,
        }
    }

    fn end(token: u64, sequence: u32) -> Trailer {
        let kind = Kind::End;
        Trailer {
            kind,
            ..data(token, sequence)
        }
    }

    #[test]
    fn before_a_status_any_token_is_taken_and_then_only_the_right_one() {
        let mut stream = Stream::new(false);
        assert!(stream.take(Time(0), &data(7, 1), 10));
        stream.learn(Some(StreamToken(7)));
        assert!(!stream.take(Time(0), &data(8, 2), 10));
        assert!(stream.take(Time(0), &data(7, 3), 10));
        let expected = Counts {
            datagrams: 2,
            bytes: 20,
            lost: 1,
            duplicates: 0,
            foreign: 1,
        };
        assert_eq!(stream.counts(), expected);
    }

    #[test]
    fn strict_takes_nothing_without_a_token() {
        let mut stream = Stream::new(true);
        assert!(!stream.take(Time(0), &data(7, 1), 1));
        stream.learn(Some(StreamToken(7)));
        assert!(stream.take(Time(0), &data(7, 2), 1));
        stream.learn(None);
        assert!(!stream.take(Time(0), &data(7, 3), 1));
    }

    #[test]
    fn what_comes_again_is_dropped_and_counted_but_for_the_end() {
        let mut stream = Stream::new(false);
        assert!(stream.take(Time(0), &data(7, u32::MAX), 1));
        assert!(stream.take(Time(0), &data(7, 0), 1));
        assert!(!stream.take(Time(0), &data(7, u32::MAX), 1));
        for _ in 0..3 {
            assert!(!stream.take(Time(0), &end(7, 1), 0));
        }
        let counts = stream.counts();
        assert_eq!(
            (counts.datagrams, counts.lost, counts.duplicates),
            (2, 0, 1)
        );
    }

    #[test]
    fn an_end_is_told_once_and_waits_for_stragglers() {
        let mut stream = Stream::new(false);
        stream.take(Time(0), &data(7, 1), 1);
        stream.take(Time(0), &end(7, 3), 0);
        assert!(!stream.has_ended(Time(99_999)), "2 may still come");
        assert!(stream.take(Time(99_999), &data(7, 2), 1));
        assert!(stream.has_ended(Time(100_000)));
        stream.take(Time(100_001), &end(7, 3), 0);
        stream.status_ended(Time(100_002));
        assert!(!stream.has_ended(Time(9_000_000)), "told already");
        assert_eq!(stream.counts().lost, 0);
    }

    #[test]
    fn a_whole_stream_ends_at_once_and_a_lost_end_by_status() {
        let mut stream = Stream::new(false);
        stream.take(Time(5), &data(7, 1), 1);
        stream.take(Time(6), &end(7, 2), 0);
        assert!(stream.has_ended(Time(6)));
        let mut stream = Stream::new(false);
        stream.take(Time(5), &data(7, 1), 1);
        stream.status_ended(Time(6));
        assert!(!stream.has_ended(Time(200_005)));
        assert!(stream.has_ended(Time(200_006)));
    }

    #[test]
    fn a_restarted_sender_is_a_new_stream_and_the_old_one_stays_out() {
        let mut stream = Stream::new(false);
        stream.take(Time(0), &data(7, 1), 1);
        stream.take(Time(0), &data(7, 3), 1);
        stream.learn(None);
        stream.take(Time(0), &end(7, 4), 0);
        assert!(stream.has_ended(Time(100_000)));
        assert!(stream.take(Time(200_000), &data(8, 500), 1));
        assert!(!stream.take(Time(200_000), &data(7, 2), 1));
        stream.learn(Some(StreamToken(8)));
        stream.take(Time(200_000), &end(8, 501), 0);
        assert!(stream.has_ended(Time(200_000)), "each stream has its end");
        let counts = stream.counts();
        assert_eq!((counts.datagrams, counts.lost, counts.foreign), (3, 1, 1));
    }
}
