//! The datagram that wakes a program which waits in our own receive call.
//!
//! Promises: sent only while there is something to tell (an end, a refusal); D's filter
//! admits it by a token that only those know who hold it. Is not what it means
//! (`reading`).

use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::filter::Source;
use flexcast_udp::{send_one, Class, Family};
use flexcast_wire::Verdict;

use super::Receiver;
use crate::keeper::Word;
use crate::receive::forwarding::within_host;
use crate::receive::reading::Reading;

/// How soon we look whether whoever waits has heard: a process that shares the socket
/// may have taken the datagram.
pub(in crate::receive) const WAKE_AGAIN: Duration = Duration::from_millis(200);

/// What a verdict is to the other processes that hold the socket.
pub(super) fn word(verdict: Verdict) -> Word {
    match verdict {
        Verdict::Ended => Word::Ended,
        Verdict::RefusedFinal => Word::Refused,
        _ => Word::Welcome,
    }
}

impl Receiver {
    /// What D's filter admits so; none before the control socket is bound.
    pub(super) fn waker(&self, reading: &Reading) -> Option<Source> {
        let port = match self.socket.local_addr().ok()?.port() {
            // Of C, which is about to be bound beside D.
            0 => self.shared.bound.local.port(),
            port => port,
        };
        Some(Source {
            address: within_host(&self.shared.bound, self.local_family()).ip(),
            port,
            token: Some(reading.wake_token),
        })
    }

    /// Wakes the program where that is due.
    pub(super) fn wake_reader(&mut self, now: Time) {
        let Some(reading) = &self.shared.reading else {
            return;
        };
        let first = self.wake_at <= now && reading.has_news();
        let again = self.wake_again <= now && reading.is_overslept();
        if self.wake_at <= now {
            self.wake_at = Time::NEVER;
        }
        if self.wake_again <= now {
            self.wake_again = Time::NEVER;
        }
        if first || again {
            if self.keeper.is_some() {
                self.wake_again = now + WAKE_AGAIN;
            }
            self.wake();
        }
    }

    /// Wakes whoever waits, in whichever process.
    pub(in crate::receive) fn wake(&self) {
        let Some(reading) = &self.shared.reading else {
            return;
        };
        let to = within_host(&self.shared.bound, self.local_family());
        let wake = reading.wake();
        // Where loopback is down the program sees it at its next call.
        if let Err(errno) = send_one(&self.socket, to, None, Class::Stream, &[&wake]) {
            log::debug!("a reader is not woken: {errno}");
        }
    }

    fn local_family(&self) -> Family {
        self.shared.bound.family
    }
}
