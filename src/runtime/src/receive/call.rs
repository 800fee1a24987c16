//! A program's call, as one of its channels keeps it: whom the program thinks it has,
//! and what it is to be told.
//!
//! ```text
//!   asked ─► granted ─► ended ──200 ms──► one empty datagram, once
//!     │                   └─ granted again: the same at once, then the new stream
//!     └─► refused for good ─────────────► ECONNREFUSED, once
//! ```
//! Promises: a stream that was never granted here is none of the call's, so it has no
//! end: the caller waits for the next one; nothing of another stream comes before the
//! end of the last one. Is not how it is told (`receiver/calling`).

use std::net::SocketAddr;

use flexcast_engine::Time;
use flexcast_wire::{StreamToken, Verdict};

use super::receiver::AFTER_END;

#[derive(Debug)]
pub(super) struct Call {
    /// S and the port that the program knows.
    pub(super) peer: SocketAddr,
    ended: bool,
    /// Of the stream that is on, or whose end is about to be told.
    token: Option<StreamToken>,
    /// When the end is to be told.
    pub(super) end_at: Time,
    /// When the refusal is to be told.
    pub(super) refusal_at: Time,
}

impl Call {
    pub(super) fn new(peer: SocketAddr) -> Call {
        Call {
            peer,
            ended: false,
            token: None,
            end_at: Time::NEVER,
            refusal_at: Time::NEVER,
        }
    }

    /// The verdict has changed.
    pub(super) fn note(&mut self, now: Time, verdict: Verdict) {
        match verdict {
            Verdict::Ended if self.token.is_some() => self.end_at = now + AFTER_END,
            Verdict::Granted if self.ending().is_some() => self.end_at = now,
            Verdict::RefusedFinal => self.refusal_at = now,
            _ => {}
        }
        self.ended = verdict == Verdict::Ended;
    }

    /// A stream's token is known.
    pub(super) fn note_token(&mut self, token: StreamToken) {
        if self.ending().is_none() {
            self.token = Some(token);
        }
    }

    /// As long as an end is to be told: the token of the stream that ends.
    pub(super) fn ending(&self) -> Option<StreamToken> {
        self.token.filter(|_| self.end_at != Time::NEVER)
    }

    /// The end was told, or need not be.
    pub(super) fn told(&mut self, next: Option<StreamToken>) {
        self.end_at = Time::NEVER;
        self.token = next;
    }

    /// Whether its stream is over, and that was told or need not be.
    pub(super) fn is_over(&self) -> bool {
        self.ended && self.end_at == Time::NEVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Ended, Granted, Pending, RefusedFinal, RefusedPassing};

    fn call() -> Call {
        Call::new("10.0.0.5:5000".parse().unwrap())
    }

    fn granted() -> Call {
        let mut call = call();
        call.note_token(StreamToken(7));
        call.note(Time(1), Granted);
        call
    }

    #[test]
    fn an_end_is_told_later_or_before_the_next_stream() {
        let mut call = granted();
        assert_eq!(call.ending(), None);
        call.note(Time(2), Ended);
        assert_eq!(call.end_at, Time(200_002));
        call.note_token(StreamToken(8));
        call.note(Time(3), Granted);
        assert_eq!(call.end_at, Time(3));
        assert_eq!(call.ending(), Some(StreamToken(7)));
        call.told(Some(StreamToken(8)));
        assert_eq!(call.ending(), None);
        call.note(Time(4), Ended);
        assert_eq!(call.ending(), Some(StreamToken(8)));
    }

    #[test]
    fn a_stream_that_was_never_granted_has_no_end() {
        for before in [None, Some(Pending)] {
            let mut call = call();
            before
                .into_iter()
                .for_each(|before| call.note(Time(1), before));
            call.note(Time(2), Ended);
            assert!(call.end_at == Time::NEVER && call.is_over());
            call.note_token(StreamToken(7));
            call.note(Time(5), Granted);
            assert!(!call.is_over());
            call.note(Time(6), Ended);
            assert!(call.end_at == Time(200_006) && !call.is_over());
            call.told(None);
            assert!(call.is_over());
        }
    }

    #[test]
    fn only_a_final_refusal_is_told() {
        let mut call = granted();
        call.note(Time(2), RefusedPassing);
        assert_eq!(call.refusal_at, Time::NEVER);
        call.note(Time(3), RefusedFinal);
        assert_eq!(call.refusal_at, Time(3));
    }
}
