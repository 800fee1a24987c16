//! A program's call, as one of its channels keeps it: whom the program thinks it has,
//! and what it is to be told.
//!
//! ```text
//!   asked ─► pending, granted ─► ended ──200 ms──► one empty datagram, once
//!     │                            └─ granted again: the new stream is the old call's
//!     └─► refused for good ──────────────────────► ECONNREFUSED, once
//! ```
//! Promises: a stream that was over before the call is no end of it. Is not how it is
//! told (`receiver/calling`).

use std::net::SocketAddr;

use flexcast_engine::Time;
use flexcast_wire::Verdict;

use super::receiver::AFTER_END;

#[derive(Debug)]
pub(super) struct Call {
    /// S and the port that the program knows.
    pub(super) peer: SocketAddr,
    last: Option<Verdict>,
    /// When the end is to be told.
    pub(super) end_at: Time,
    /// When the refusal is to be told.
    pub(super) refusal_at: Time,
}

impl Call {
    pub(super) fn new(peer: SocketAddr) -> Call {
        Call {
            peer,
            last: None,
            end_at: Time::NEVER,
            refusal_at: Time::NEVER,
        }
    }

    /// The verdict has changed.
    pub(super) fn note(&mut self, now: Time, verdict: Verdict) {
        match verdict {
            Verdict::Ended if self.last.is_some() => self.end_at = now + AFTER_END,
            Verdict::Granted => self.end_at = Time::NEVER,
            Verdict::RefusedFinal => self.refusal_at = now,
            _ => {}
        }
        self.last = Some(verdict);
    }

    /// Whether its stream is over, and that was told or need not be.
    pub(super) fn is_over(&self) -> bool {
        self.last == Some(Verdict::Ended) && self.end_at == Time::NEVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(verdicts: &[(u64, Verdict)]) -> Call {
        let mut call = Call::new("10.0.0.5:5000".parse().unwrap());
        for (at, verdict) in verdicts {
            call.note(Time(*at), *verdict);
        }
        call
    }

    #[test]
    fn an_end_is_told_later_unless_the_stream_goes_on() {
        use Verdict::{Ended, Granted, Pending};
        assert_eq!(call(&[(1, Granted), (2, Ended)]).end_at, Time(200_002));
        assert_eq!(call(&[(1, Pending), (2, Ended)]).end_at, Time(200_002));
        let again = call(&[(1, Granted), (2, Ended), (3, Granted)]);
        assert_eq!(again.end_at, Time::NEVER);
    }

    #[test]
    fn a_stream_that_was_over_before_is_no_end() {
        let mut call = call(&[(1, Verdict::Ended)]);
        assert!(call.end_at == Time::NEVER && call.is_over());
        call.note(Time(5), Verdict::Granted);
        assert!(!call.is_over());
        call.note(Time(6), Verdict::Ended);
        assert!(call.end_at == Time(200_006) && !call.is_over());
    }

    #[test]
    fn only_a_final_refusal_is_told() {
        let passing = call(&[(1, Verdict::RefusedPassing)]);
        assert_eq!(passing.refusal_at, Time::NEVER);
        assert_eq!(call(&[(1, Verdict::RefusedFinal)]).refusal_at, Time(1));
    }
}
