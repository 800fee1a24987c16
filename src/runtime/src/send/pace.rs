//! Whether a program sends faster than its datagrams can leave one by one.
//!
//! ```text
//!   |── sending ──|─ idle ─|── sending ──|      idle shorter than half of what the last
//!                                               send took, many times in a row
//! ```
//! Then two or more would come while one is being sent: they are worth a queue and a
//! thread that empties it. Also how many datagrams a batch may have, so that none waits
//! for more than a millisecond behind another. Promises: a program that paces itself is never
//! taken for one that does not, but while it catches up. Is not a clock: time is an
//! argument.

use std::time::Duration;

use flexcast_engine::Time;

use super::load::BATCH;

/// A gap above this is a pace, however long the last send took.
const LONGEST_GAP: Duration = Duration::from_micros(50);
/// Short gaps in a row that it takes. Lower: a program that paces itself, is late, and sends
/// a few at once, leaves the last of them to another thread, which a busy machine does not
/// let run within a millisecond. Higher: bursts of so many are no batches.
const IN_A_ROW: u32 = 64;
/// How many of them a longer gap undoes: on a busy machine a program that is flat out is
/// held up now and then.
const FORGIVEN: u32 = 8;

/// A batch that took longer had too many datagrams: those behind it would wait longer.
const LONG: Duration = Duration::from_millis(1);
/// One that took no longer may have more.
const SHORT: Duration = Duration::from_micros(700);

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
        // One alone says nothing about batches.
        if took > LONG && count > 1 {
            let kept = if took > 4 * LONG { 1 } else { 3 };
            self.room = (count * kept / 4).clamp(1, self.room);
        } else if took < SHORT && count >= self.room {
            self.room = (self.room + self.room / 2 + 1).min(BATCH);
        }
    }

    /// How many datagrams a batch may have.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Something is to be sent, and nothing else is: whether that is soon after the last.
    pub(super) fn is_flat_out(&mut self, now: Time) -> bool {
        let gap = now.since(self.idle_since);
        if gap >= (self.took / 2).min(LONGEST_GAP) {
            self.quick = self.quick.saturating_sub(FORGIVEN);
            return false;
        }
        self.quick = (self.quick + 1).min(IN_A_ROW + FORGIVEN);
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
        assert_eq!(first_flat_out(90, 0), Some(64));
        assert_eq!(first_flat_out(90, 44), Some(64));
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
        for n in 0..70 {
            let now = Time(1_000_000 + n * 90);
            pace.is_flat_out(now);
            pace.sent(Time(now.0 + 90), Duration::from_micros(90), 1);
        }
        assert!(pace.is_flat_out(Time(1_006_300)));
        assert!(!pace.is_flat_out(Time(1_006_350)));
        assert!(!pace.is_flat_out(Time(1_006_350)));
        assert!(!pace.is_flat_out(Time(1_006_301)), "counted anew");
    }

    #[test]
    fn batches_become_as_long_as_a_millisecond_allows() {
        let mut pace = Pace::default();
        let mut sent = |took: u64, count: usize| {
            pace.sent(Time(0), Duration::from_micros(took), count);
            pace.room()
        };
        // What a batch takes, and what each datagram of it takes besides.
        let mut run = |once: u64, each: u64| {
            let mut room = sent(0, BATCH);
            for _ in 0..20 {
                room = sent(once + each * u64::try_from(room).unwrap(), room);
            }
            room
        };
        assert_eq!(run(270, 6), BATCH, "100 requesters, measured");
        let many = run(690, 15);
        assert!((12..=20).contains(&many), "256 requesters: {many}");
        assert_eq!(run(0, 1_100), 1, "nothing is gained, so nothing waits");
        assert_eq!(run(270, 6), BATCH, "it recovers");
        assert_eq!(sent(50_000, 1), BATCH, "one alone that took long");
        assert_eq!(sent(50_000, BATCH), BATCH / 4);
        assert_eq!(sent(1_100, 11), 8);
    }
}
