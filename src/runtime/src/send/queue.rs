//! Whose turn it is to send on a channel, and what waits for it.
//!
//! ```text
//!   callers ──push──► load (one batch) ──swap──► whoever has the turn ──► all
//!                      full: wait, or help         worker, or a caller that serves
//! ```
//! The turn is the possession of [`Out`]; the lock is held for moments only, never
//! across a send. Promises: what is in the load leaves before what comes later, and is
//! only there while somebody is bound to send it: a worker that lives, or a caller that
//! has not returned. Is not the sending (`dispatch`).

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::process;

use super::load::Load;
use super::out::Out;
use super::pace::Pace;
use crate::background::{lock, lock_within, now};

/// The thread that sends what callers leave behind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Worker {
    #[default]
    None,
    /// It waits to be woken.
    Asleep,
    /// It looks again within a moment by itself.
    Dozing,
    Awake,
}

/// One channel's.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// The turn, or room, is to be had, or something has left.
    changed: Condvar,
    /// There is something for the worker.
    work: Condvar,
}

/// Behind the lock.
#[derive(Debug)]
pub(super) struct Waiting {
    /// None while somebody has the turn.
    out: Option<Box<Out>>,
    /// Whoever has the turn sends what comes meanwhile, before it returns.
    serves: bool,
    load: Load,
    /// Some of it is of callers that block until there is room in the send buffer.
    patient: bool,
    /// When the first of it came.
    since: Time,
    /// Turns begun and ended, of which there is one at a time.
    begun: u64,
    ended: u64,
    /// Threads that wait for `changed`.
    waiters: usize,
    pub(super) worker: Worker,
    pub(super) pace: Pace,
    pub(super) counts: QueueCounts,
}

/// What was counted of datagrams that waited.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct QueueCounts {
    pub(super) queued: u64,
    pub(super) longest: Duration,
}

/// The right to send: given back by [`Queue::end_turn`], or when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    queue: &'a Queue,
    out: Option<Box<Out>>,
    /// 0: not worth knowing.
    began: Time,
    /// Processor time of the thread, in nanoseconds, when it began.
    spent: u64,
    /// What was queued has callers that block.
    pub(super) patient: bool,
    /// How many datagrams it is for.
    pub(super) count: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            waiting: Mutex::new(Waiting {
                out: Some(Box::default()),
                serves: false,
                load: Load::default(),
                patient: false,
                since: Time(0),
                begun: 0,
                ended: 0,
                waiters: 0,
                worker: Worker::None,
                pace: Pace::default(),
                counts: QueueCounts::default(),
            }),
            changed: Condvar::new(),
            work: Condvar::new(),
        }
    }
}

impl Queue {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }

    pub(super) fn lock_within(&self, limit: Duration) -> Option<MutexGuard<'_, Waiting>> {
        lock_within(&self.waiting, limit)
    }

    /// Waits until something has changed, or for so long.
    pub(super) fn wait<'a>(
        &self,
        mut waiting: MutexGuard<'a, Waiting>,
        limit_us: u64,
    ) -> MutexGuard<'a, Waiting> {
        waiting.waiters += 1;
        let waited = self
            .changed
            .wait_timeout(waiting, Duration::from_micros(limit_us));
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        waiting.waiters -= 1;
        waiting
    }

    /// As the worker: waits to be woken, or for so long.
    pub(super) fn sleep<'a>(
        &self,
        waiting: MutexGuard<'a, Waiting>,
        limit: Duration,
    ) -> MutexGuard<'a, Waiting> {
        self.rest(waiting, Worker::Asleep, limit)
    }

    /// As the worker: waits for so long, and is not woken by what comes meanwhile.
    pub(super) fn doze<'a>(
        &self,
        waiting: MutexGuard<'a, Waiting>,
        time: Duration,
    ) -> MutexGuard<'a, Waiting> {
        self.rest(waiting, Worker::Dozing, time)
    }

    fn rest<'a>(
        &self,
        mut waiting: MutexGuard<'a, Waiting>,
        how: Worker,
        limit: Duration,
    ) -> MutexGuard<'a, Waiting> {
        waiting.worker = how;
        let waited = self.work.wait_timeout(waiting, limit);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        waiting.worker = Worker::Awake;
        waiting
    }

    /// Wakes the worker where it sleeps.
    pub(super) fn wake_worker(&self, waiting: &mut Waiting) {
        if waiting.worker == Worker::Asleep {
            waiting.worker = Worker::Awake;
            self.work.notify_one();
        }
    }

    /// Takes the turn, where it is free, and what is queued with it. `began`: now, or 0
    /// where it is not worth a look at the clock.
    pub(super) fn take(
        &self,
        waiting: &mut Waiting,
        began: Time,
        serves: bool,
    ) -> Option<Turn<'_>> {
        let out = waiting.out.take()?;
        waiting.begun += 1;
        waiting.serves = serves;
        let mut turn = Turn {
            queue: self,
            out: Some(out),
            began,
            spent: match began {
                Time(0) => 0,
                _ => process::thread_cpu_ns(),
            },
            patient: false,
            count: 0,
        };
        self.reload(waiting, &mut turn);
        Some(turn)
    }

    /// Takes what is queued, in the same turn. There is room for others then.
    fn reload(&self, waiting: &mut Waiting, turn: &mut Turn<'_>) {
        let (began, load) = (turn.began, &mut turn.out().load);
        load.clear();
        if waiting.load.is_empty() {
            return;
        }
        std::mem::swap(load, &mut waiting.load);
        let count = load.len();
        turn.count = count;
        let counts = &mut waiting.counts;
        counts.queued += u64::try_from(count).unwrap_or(0);
        counts.longest = counts.longest.max(began.since(waiting.since));
        turn.patient = std::mem::take(&mut waiting.patient);
        self.tell(waiting);
    }

    /// What the turn was for has left: takes what has come meanwhile, in a new turn.
    pub(super) fn next_turn(&self, waiting: &mut Waiting, turn: &mut Turn<'_>) {
        let now = now();
        turn.note(&mut waiting.pace, now);
        waiting.ended += 1;
        waiting.begun += 1;
        turn.began = now;
        self.reload(waiting, turn);
    }

    /// Gives the turn back. Whoever serves sees to it first that nothing is left, or that
    /// there is a worker.
    pub(super) fn end_turn(&self, waiting: &mut Waiting, mut turn: Turn<'_>) {
        if turn.began > Time(0) {
            turn.note(&mut waiting.pace, now());
        }
        self.put_back(waiting, turn.out.take());
    }

    fn put_back(&self, waiting: &mut Waiting, out: Option<Box<Out>>) {
        waiting.out = out;
        waiting.ended += 1;
        if !waiting.load.is_empty() {
            self.wake_worker(waiting);
        }
        self.tell(waiting);
    }

    fn tell(&self, waiting: &Waiting) {
        if waiting.waiters > 0 {
            self.changed.notify_all();
        }
    }
}

impl Turn<'_> {
    pub(super) fn out(&mut self) -> &mut Out {
        self.out.get_or_insert_default()
    }

    fn note(&mut self, pace: &mut Pace, now: Time) {
        let spent = process::thread_cpu_ns();
        if self.began > Time(0) {
            let took = Duration::from_nanos(spent.saturating_sub(self.spent));
            pace.sent(now, took, self.count);
        }
        self.spent = spent;
    }
}

impl Drop for Turn<'_> {
    /// Where a panic has cut it short: the channel goes on.
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            self.queue.put_back(&mut self.queue.lock(), Some(out));
        }
    }
}

impl Waiting {
    /// Whether nobody sends, and nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_some() && self.load.is_empty()
    }

    /// Whether nobody sends, though something waits.
    pub(super) fn needs_help(&self) -> bool {
        self.out.is_some() && !self.load.is_empty()
    }

    /// How long the first of what waits has waited.
    pub(super) fn age(&self) -> Duration {
        now().since(self.since)
    }

    /// Whether somebody is bound to send what is put here.
    pub(super) fn is_served(&self) -> bool {
        self.worker != Worker::None || (self.out.is_none() && self.serves)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.load.is_empty()
    }

    /// Whether all of these would find room.
    pub(super) fn has_room(&self, datagrams: &[&[&[u8]]]) -> bool {
        self.load.has_room(datagrams, self.pace.room())
    }

    /// Puts as many datagrams here as there is room for; how many.
    pub(super) fn push(&mut self, datagrams: &[&[&[u8]]], patient: bool) -> usize {
        if self.load.is_empty() {
            self.since = now();
        }
        self.patient |= patient;
        for (done, parts) in datagrams.iter().enumerate() {
            if !self.has_room(&[parts]) {
                return done;
            }
            self.load.push(parts);
        }
        datagrams.len()
    }

    /// What is queued belongs to a stream that is over; how many datagrams that were.
    pub(super) fn discard(&mut self) -> usize {
        let count = self.load.len();
        self.load.clear();
        count
    }

    /// The turn at whose end all that is here now has left.
    pub(super) fn last_turn(&self) -> u64 {
        self.begun + u64::from(!self.load.is_empty())
    }

    pub(super) fn has_ended(&self, turn: u64) -> bool {
        self.ended >= turn
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::BATCH;
    use super::*;

    fn push(waiting: &mut Waiting, count: usize) -> usize {
        let one: &[&[u8]] = &[b"."];
        waiting.push(&vec![one; count], false)
    }

    #[test]
    fn the_turn_is_one_threads_and_comes_back_also_where_it_is_cut_short() {
        let queue = Queue::default();
        let mut waiting = queue.lock();
        assert!(waiting.is_idle() && !waiting.is_served());
        let turn = queue.take(&mut waiting, Time(1), true).unwrap();
        assert!(waiting.is_served() && !waiting.is_idle());
        assert!(queue.take(&mut waiting, Time(1), true).is_none());
        drop(waiting);
        drop(turn);
        let mut waiting = queue.lock();
        assert!(waiting.is_idle());
        let turn = queue.take(&mut waiting, Time(1), false).unwrap();
        assert!(!waiting.is_served(), "whoever has it does not look back");
        queue.end_turn(&mut waiting, turn);
        assert!(waiting.is_idle() && waiting.has_ended(2) && !waiting.has_ended(3));
    }

    #[test]
    fn what_is_here_leaves_with_the_next_turn_and_makes_room() {
        let queue = Queue::default();
        let mut waiting = queue.lock();
        let mut turn = queue.take(&mut waiting, now(), true).unwrap();
        assert_eq!(waiting.last_turn(), 1, "what is being sent");
        assert_eq!(push(&mut waiting, 50), BATCH, "one batch");
        assert_eq!(push(&mut waiting, 1), 0);
        let last = waiting.last_turn();
        queue.next_turn(&mut waiting, &mut turn);
        assert_eq!((turn.count, turn.out().load.len()), (BATCH, BATCH));
        assert!(waiting.is_empty() && !waiting.has_ended(last));
        assert_eq!(push(&mut waiting, 2), 2);
        queue.end_turn(&mut waiting, turn);
        assert!(waiting.has_ended(last) && !waiting.has_ended(waiting.last_turn()));
        assert!(waiting.needs_help());
        let turn = queue.take(&mut waiting, now(), false).unwrap();
        assert_eq!(turn.count, 2);
        queue.end_turn(&mut waiting, turn);
        assert_eq!(waiting.counts.queued, 46);
        push(&mut waiting, 3);
        assert_eq!(waiting.discard(), 3);
        assert!(waiting.is_idle());
    }
}
