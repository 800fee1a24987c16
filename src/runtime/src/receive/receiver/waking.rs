//! The datagram that wakes a program which waits in our own receive call.
//!
//! Promises: sent only while there is something to tell (an end, a refusal); D's filter
//! admits it by a token that never leaves this process. Is not what it means
//! (`reading`).

use flexcast_engine::Time;
use flexcast_udp::filter::Source;
use flexcast_udp::{send_one, Class, Family};
use flexcast_wire::Verdict;

use super::Receiver;
use crate::receive::forwarding::within_host;
use crate::receive::reading::Reading;

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
        if self.wake_at > now {
            return;
        }
        self.wake_at = Time::NEVER;
        let Some(reading) = &self.shared.reading else {
            return;
        };
        let mut verdicts = self.asked.iter().filter_map(|a| a.requester.verdict());
        let refused = verdicts.any(|(verdict, _)| verdict == Verdict::RefusedFinal);
        if refused || reading.awaits_end() {
            let to = within_host(&self.shared.bound, self.local_family());
            let wake = reading.wake();
            // Where loopback is down the program sees it at its next call.
            if let Err(errno) = send_one(&self.socket, to, None, Class::Stream, &[&wake]) {
                log::debug!("a reader is not woken: {errno}");
            }
        }
    }

    fn local_family(&self) -> Family {
        self.shared.bound.family
    }
}
