//! Whether a program sends faster than its datagrams can leave one by one.
//!
//! ```text
//!   |── sending ──|─ idle ─|── sending ──|      idle shorter than half of what the last
//!                                               send took, several times in a row
//! ```
//! Then two or more would come while one is being sent: they are worth a queue and a
//! thread that empties it. Also how long a batch may be, so that none waits for much more
//! than half a millisecond behind another. Promises: a program that paces itself is never
//! taken for one that does not, but while it catches up. Is not a clock: time is an
//! argument.

use std::time::Duration;

use flexcast_engine::Time;

use super::load::BATCH;

/// A gap above this is a pace, however long the last send took.
const LONGEST_GAP: Duration = Duration::from_micros(50);
/// Short gaps in a row that it takes. Lower: a program that is late, and sends two or
/// three at once, has them sent by another thread, which has to be woken.
const IN_A_ROW: u32 = 3;

/// A batch that took longer was too long, and one of half the time could be longer.
const LONG: Duration = Duration::from_micros(700);

/// One channel's.
#[derive(Debug)]
pub(super) struct Pace {
    idle_since: Time,
    took: Duration,
    quick: u32,
    room: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            idle_since: Time(0),
            took: Duration::ZERO,
            quick: 0,
            room: BATCH,
        }
    }
}

impl Pace {
    /// So many datagrams were sent until now, and took so much processor time: what a full
    /// send buffer or other programs take besides is no fault of a batch.
    pub(super) fn sent(&mut self, now: Time, took: Duration, count: usize) {
        self.took = took;
        self.idle_since = now;
        if self.took > LONG {
            self.room = (count / 2).clamp(1, self.room);
        } else if self.took < LONG / 2 && count >= self.room {
            self.room = (self.room * 2).min(BATCH);
        }
    }

    /// How many datagrams a batch may have.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Something is to be sent, and nothing else is: whether that is soon after the last.
    pub(super) fn is_flat_out(&mut self, now: Time) -> bool {
        let gap = now.since(self.idle_since);
        if gap < (self.took / 2).min(LONGEST_GAP) {
            self.quick = self.quick.saturating_add(1);
        } else {
            self.quick = 0;
        }
        self.quick >= IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends that take `took` µs each, `gap` µs apart: which one was seen as flat out.
    fn first_flat_out(took: u64, gap: u64) -> Option<u64> {
        let (mut pace, mut now) = (Pace::default(), 1_000_000);
        (0..100).find(|_| {
            let flat_out = pace.is_flat_out(Time(now));
            pace.sent(Time(now + took), Duration::from_micros(took), 1);
            now += took + gap;
            flat_out
        })
    }

    #[test]
    fn a_program_that_sends_without_a_pause_is_flat_out_soon() {
        assert_eq!(first_flat_out(90, 0), Some(3));
        assert_eq!(first_flat_out(90, 44), Some(3));
    }

    #[test]
    fn one_that_paces_itself_never_is() {
        assert_eq!(first_flat_out(90, 910), None);
        assert_eq!(first_flat_out(90, 45), None, "one at most comes meanwhile");
        assert_eq!(first_flat_out(5_000, 50), None, "a send that was held up");
        assert_eq!(first_flat_out(0, 0), None, "nothing to be gained");
    }

    #[test]
    fn a_pause_ends_it() {
        let mut pace = Pace::default();
        for n in 0..10 {
            let now = Time(1_000_000 + n * 90);
            pace.is_flat_out(now);
            pace.sent(Time(now.0 + 90), Duration::from_micros(90), 1);
        }
        assert!(pace.is_flat_out(Time(1_000_900)));
        assert!(!pace.is_flat_out(Time(1_000_950)));
        assert!(!pace.is_flat_out(Time(1_000_901)), "counted anew");
    }

    #[test]
    fn batches_become_as_long_as_half_a_millisecond_allows() {
        let mut pace = Pace::default();
        // What each datagram of a batch takes, and what a batch takes besides.
        let mut run = |each: u64, once: u64| {
            for _ in 0..20 {
                let count = pace.room();
                let took = once + each * u64::try_from(count).unwrap();
                pace.sent(Time(0), Duration::from_micros(took), count);
            }
            pace.room()
        };
        assert_eq!(run(12, 0), BATCH, "100 requesters, 120 ns each");
        assert!((11..44).contains(&run(30, 0)), "250 requesters");
        assert_eq!(run(1_000, 0), 1, "nothing is gained, so nothing waits");
        assert_eq!(run(5, 100), BATCH);
        let mut one = |took: u64| {
            pace.sent(Time(0), Duration::from_micros(took), 1);
            pace.room()
        };
        assert_eq!(one(50_000), 1);
        assert_eq!(one(100), 2, "back to what was tried");
        assert_eq!(one(100), 2);
    }
}
