//! How datagrams get from a caller to the channel's batches.
//!
//! ```text
//!   at once   waits for the turn, sends, returns
//!   soon      nobody sends, and the program paces itself:   sends, returns
//!             somebody sends, or the program is flat out:   queues, returns; a full queue
//!                                                           is sent, or waited for
//! ```
//! Promises: what is queued leaves when it is a batch, when whoever sends has done, or when
//! the worker finds it, a fifth of a millisecond later at most; the order of calls is kept; a thread that must not
//! block gives up after 10 ms, and what it had is counted. Is not the batch (`out`).

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::{Errno, Family};
use flexcast_wire::{MAX_BODY_V4, MAX_BODY_V6};

use super::control::Command;
use super::line::{Line, Patience, Sent};
use super::load::{length, BATCH};
use super::node::Node;
use super::out::Out;
use super::queue::{Turn, Waiting};
use super::voice::Mouth;
use super::worker;
use crate::background::now;

/// A smaller audience is sent to by the caller, who does not look at the clock for it. Two
/// are enough for a batch to be worth a thread's waking (measured: 5 × less CPU time).
const FEW: usize = 2;
/// Batches that a caller sends of what others left behind while it sent its own.
const SERVED: usize = 1;

impl Line {
    fn check(&self, sender: IpAddr, datagrams: &[&[&[u8]]]) -> Result<(), Errno> {
        let limit = match Family::of(sender) {
            Family::V4 => MAX_BODY_V4,
            Family::V6 => MAX_BODY_V6,
        };
        if datagrams.iter().any(|parts| length(parts) > limit) {
            return Err(Errno::EMSGSIZE);
        }
        match self.ended.load(Ordering::Acquire) {
            true => Err(Errno::EPIPE),
            false => Ok(()),
        }
    }

    /// Sends to the whole audience of a channel whose S is `sender`, before it returns.
    ///
    /// # Errors
    /// `EMSGSIZE`, and then nothing is sent; `EPIPE` where the channel has ended;
    /// `EAGAIN` (with [`Patience::Never`] only) where another thread is sending.
    pub(super) fn send(
        &self,
        node: &Node,
        sender: IpAddr,
        datagrams: &[&[&[u8]]],
        mouth: &impl Mouth,
        mut patience: Patience,
    ) -> Result<Sent, Errno> {
        self.check(sender, datagrams)?;
        let never = matches!(patience, Patience::Never);
        // The background thread, which others hand theirs, sends from here.
        if !never && self.leaves_elsewhere() {
            return Ok(self.send_elsewhere(node, datagrams, patience));
        }
        let mut waiting = self.queue.lock();
        while !waiting.is_idle() {
            if never {
                return self.leave_behind(waiting, datagrams);
            }
            let Some(us) = patience.slice(node) else {
                drop(waiting);
                return Ok(self.drop_all(datagrams.len()));
            };
            waiting = self.queue.wait(waiting, us);
        }
        let turn = self.queue.take(&mut waiting, Time(0), false);
        drop(waiting);
        let Some(mut turn) = turn else {
            return Err(Errno::EAGAIN);
        };
        let outcome = self.transmit(turn.out(), node, datagrams, mouth, patience);
        self.queue.end_turn(&mut self.queue.lock(), turn);
        outcome
    }

    /// As [`Line::send`], from F, and where there is more than can be sent one by one the
    /// datagrams leave soon after: none then.
    ///
    /// # Errors
    /// As there, but for `EAGAIN`.
    pub(super) fn send_soon(
        self: &Arc<Self>,
        node: &Arc<Node>,
        sender: IpAddr,
        datagrams: &[&[&[u8]]],
        mut patience: Patience,
    ) -> Result<Option<Sent>, Errno> {
        self.check(sender, datagrams)?;
        if self.leaves_elsewhere() {
            return Ok(Some(self.send_elsewhere(node, datagrams, patience)));
        }
        let patient = matches!(patience, Patience::Block);
        let mut rest = datagrams;
        let mut waiting = self.queue.lock();
        loop {
            // Whoever ends the stream has what is queued sent, and no more.
            if self.ended.load(Ordering::Acquire) {
                return Err(Errno::EPIPE);
            }
            if waiting.is_idle() {
                let now = self.moment();
                if !self.is_for_worker(node, &mut waiting, now) {
                    return self.send_own(node, waiting, now, rest, patience).map(Some);
                }
            }
            if waiting.is_served() {
                rest = &rest[waiting.push(rest, patient)..];
                if waiting.needs_help() {
                    self.queue.wake_worker(&mut waiting);
                }
                if rest.is_empty() {
                    return Ok(None);
                }
            }
            if waiting.needs_help() {
                waiting = self.help(node, &node.fan, waiting);
                continue;
            }
            let Some(us) = patience.slice(node) else {
                drop(waiting);
                return Ok(Some(self.drop_all(rest.len())));
            };
            waiting = self.queue.wait(waiting, us);
        }
    }

    /// Now, where the audience is large enough for the pace to be watched; otherwise 0.
    fn moment(&self) -> Time {
        match self.crowd.load(Ordering::Relaxed) < FEW {
            true => Time(0),
            false => now(),
        }
    }

    /// Whether what comes now, when nothing else is there, is better left to the worker.
    fn is_for_worker(self: &Arc<Self>, node: &Arc<Node>, waiting: &mut Waiting, now: Time) -> bool {
        now > Time(0) && waiting.pace.is_flat_out(now) && worker::ensure(self, node, waiting)
    }

    /// Sends the caller's own datagrams, and then what others left meanwhile.
    fn send_own(
        self: &Arc<Self>,
        node: &Arc<Node>,
        mut waiting: MutexGuard<'_, Waiting>,
        now: Time,
        datagrams: &[&[&[u8]]],
        patience: Patience,
    ) -> Result<Sent, Errno> {
        let turn = self.queue.take(&mut waiting, now, true);
        drop(waiting);
        let Some(mut turn) = turn else {
            return Err(Errno::EAGAIN);
        };
        turn.count = datagrams.len();
        let outcome = self.transmit(turn.out(), node, datagrams, &node.fan, patience);
        let mut waiting = self.queue.lock();
        let mut served = 0;
        while !waiting.is_empty() {
            if served >= SERVED && worker::ensure(self, node, &mut waiting) {
                break;
            }
            self.queue.next_turn(&mut waiting, &mut turn);
            drop(waiting);
            self.ship(node, &node.fan, &mut turn);
            served += 1;
            waiting = self.queue.lock();
        }
        self.queue.end_turn(&mut waiting, turn);
        outcome
    }

    /// Sends what is queued, which nobody does.
    fn help<'a>(
        &'a self,
        node: &Node,
        mouth: &impl Mouth,
        mut waiting: MutexGuard<'a, Waiting>,
    ) -> MutexGuard<'a, Waiting> {
        let turn = self.queue.take(&mut waiting, now(), false);
        drop(waiting);
        let Some(mut turn) = turn else {
            return self.queue.lock();
        };
        self.ship(node, mouth, &mut turn);
        let mut waiting = self.queue.lock();
        self.queue.end_turn(&mut waiting, turn);
        waiting
    }

    /// For the background thread, which must not wait: to whoever sends, or not at all.
    fn leave_behind(
        &self,
        mut waiting: MutexGuard<'_, Waiting>,
        datagrams: &[&[&[u8]]],
    ) -> Result<Sent, Errno> {
        // All of them or none.
        let fits = waiting.is_served() && waiting.has_room(datagrams);
        if !fits {
            return Err(Errno::EAGAIN);
        }
        waiting.push(datagrams, false);
        if waiting.needs_help() {
            self.queue.wake_worker(&mut waiting);
        }
        Ok(Sent {
            datagrams: datagrams.len(),
            ..Sent::default()
        })
    }

    /// Sends datagrams in batches, in the caller's turn.
    fn transmit(
        &self,
        out: &mut Out,
        node: &Node,
        datagrams: &[&[&[u8]]],
        mouth: &impl Mouth,
        mut patience: Patience,
    ) -> Result<Sent, Errno> {
        let mut sent = Sent {
            datagrams: datagrams.len(),
            ..Sent::default()
        };
        for batch in datagrams.chunks(BATCH) {
            out.load.clear();
            batch.iter().for_each(|parts| out.load.push(parts));
            let heard = out.stamp(self, node)?;
            out.deliver(self, node, mouth, &mut patience, &mut sent);
            self.count_heard(batch.len(), heard);
        }
        self.count(&sent);
        Ok(sent)
    }

    /// Sends what was queued, in the turn that took it.
    pub(super) fn ship(&self, node: &Node, mouth: &impl Mouth, turn: &mut Turn<'_>) {
        let mut patience = Patience::of(turn.patient);
        let out = turn.out();
        if self.leaves_elsewhere() {
            let bodies: Vec<[&[u8]; 1]> = out.load.bodies().map(|body| [body]).collect();
            let datagrams: Vec<&[&[u8]]> = bodies.iter().map(|parts| &parts[..]).collect();
            self.send_elsewhere(node, &datagrams, patience);
            return;
        }
        let mut sent = Sent {
            datagrams: out.load.len(),
            ..Sent::default()
        };
        let heard = match out.stamp(self, node) {
            Ok(heard) => {
                out.deliver(self, node, mouth, &mut patience, &mut sent);
                heard
            }
            // The last of the audience went, and the channel with it.
            Err(_) => false,
        };
        self.count_heard(sent.datagrams, heard);
        self.count(&sent);
        if !heard {
            // Whoever sends next is told.
            node.post(Command::Look);
        }
    }

    /// Sends what is queued at this moment, and waits until it, and what is being sent,
    /// has left; at most for so long, also for the lock: whoever holds it may be the thread
    /// that an exit has interrupted.
    pub(super) fn flush(&self, node: &Node, mouth: &impl Mouth, limit: Duration) {
        let until = now() + limit;
        let Some(mut waiting) = self.queue.lock_within(limit) else {
            return;
        };
        if !waiting.is_served() {
            return;
        }
        let last = waiting.last_turn();
        while !waiting.has_ended(last) {
            if waiting.needs_help() {
                waiting = self.help(node, mouth, waiting);
                continue;
            }
            let left = until.since(now());
            if left.is_zero() {
                return;
            }
            let us = u64::try_from(left.as_micros()).unwrap_or(u64::MAX);
            waiting = self.queue.wait(waiting, us);
        }
    }

    /// A new audience: what was meant for the one before is not for it.
    pub(super) fn begin_anew(&self) {
        let count = self.queue.lock().discard();
        let gone = Sent {
            datagrams: count,
            ..Sent::default()
        };
        self.count_heard(count, false);
        self.count(&gone);
    }
}
