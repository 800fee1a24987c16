//! A relay that is to go: it says so every 200 ms, and serves everybody until they left,
//! at most 10 s.

use std::time::Duration;

use flexcast_wire::{Channel, Verdict};

use super::Relay;
use crate::time::ms;
use crate::Time;

const DRAIN_TELL: Duration = ms(200);
const DRAIN_LIMIT: Duration = ms(10_000);

impl Relay {
    /// Begins to drain: everybody is told every 200 ms and served until it left,
    /// at most 10 s.
    pub fn drain(&mut self, now: Time) {
        if self.draining.is_none() {
            self.draining = Some((now + DRAIN_LIMIT, now));
        }
    }

    /// Whether it is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Whether draining is over.
    #[must_use]
    pub fn is_drained(&self, now: Time) -> bool {
        self.draining
            .is_some_and(|(limit, _)| self.channels.is_empty() || now >= limit)
    }

    pub(super) fn poll_drain(&mut self, now: Time) {
        let Some((_, next)) = &mut self.draining else {
            return;
        };
        if *next > now {
            return;
        }
        *next = now + DRAIN_TELL;
        let channels: Vec<Channel> = self.channels.keys().copied().collect();
        for channel in channels {
            if let Some(state) = self.channels.get_mut(&channel) {
                state.state.verdict = Verdict::Draining;
                state.audience.remind_all(now);
            }
            self.arm(channel);
        }
    }
}
