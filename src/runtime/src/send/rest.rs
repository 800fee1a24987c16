//! A pause between the end of an accepted stream and the next accept.
//!
//! ```text
//!   delivery ended ──► rests 0.5 s: asked for, yet not offered ──► offered, if still asked for
//! ```
//! Whoever heard the stream is told its end 200 ms after, and then goes, or stays and
//! asks each second. A relay goes a quarter of a second after the last one below it.
//! Promises: who goes is not taken for the next audience, whose stream it would hear
//! in place of the end; who stays, or comes meanwhile, is offered when the pause is over.
//! Is not for audiences that went by themselves: nobody is left of those.

use std::collections::BTreeMap;
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_wire::{Channel, ChannelId};

/// Longer: who stays waits longer; shorter: less time to go, behind many relays.
const PAUSE: Duration = Duration::from_millis(500);

/// Channels that rest, and until when.
#[derive(Default, Debug)]
pub(super) struct Rest(BTreeMap<ChannelId, Time>);

impl Rest {
    /// Its stream has ended.
    pub(super) fn begin(&mut self, now: Time, id: ChannelId) {
        self.0.insert(id, now + PAUSE);
    }

    /// Whether it is not to be offered yet.
    pub(super) fn has(&self, id: ChannelId) -> bool {
        self.0.contains_key(&id)
    }

    /// Takes out those whose pause is over; of these, the ones among `waiting`.
    pub(super) fn over(
        &mut self,
        now: Time,
        waiting: impl FnOnce() -> Vec<Channel>,
    ) -> Vec<Channel> {
        let due = self.0.iter().filter(|(_, until)| **until <= now);
        let over: Vec<ChannelId> = due.map(|(id, _)| *id).collect();
        self.0.retain(|id, _| !over.contains(id));
        if over.is_empty() {
            return Vec::new();
        }
        let mut waiting = waiting();
        waiting.retain(|channel| over.contains(&channel.id));
        waiting
    }

    /// When the first pause is over.
    pub(super) fn next_time(&self) -> Time {
        self.0.values().min().copied().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_rests_to_the_very_end_of_its_pause() {
        let (one, two): (Channel, Channel) =
            ("10.0.0.1#1".parse().unwrap(), "10.0.0.1#2".parse().unwrap());
        let (mut rest, start) = (Rest::default(), Time(7));
        rest.begin(start, one.id);
        assert!(rest.has(one.id) && !rest.has(two.id));
        assert_eq!(rest.next_time(), start + PAUSE);
        let early = Time(start.0 + 499_999);
        assert_eq!(rest.over(early, || vec![one, two]), []);
        assert_eq!(rest.over(start + PAUSE, || vec![one, two]), [one]);
        assert!(!rest.has(one.id), "once");
        assert_eq!(rest.next_time(), Time::NEVER);
    }
}
