//! A channel of this process, as its threads see it: whoever may send does, the others
//! wait their turn.
//!
//! Promises: sequences leave in order (one lock a channel, held by whoever sends);
//! nothing is queued, but on the way to another process; a thread that must not block
//! gives up after 10 ms, and what it had is counted. Is not the batch (`out`), nor who
//! is in the audience (engine).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::process;
use flexcast_udp::{Errno, Family};
use flexcast_wire::{ChannelId, MAX_BODY_V4, MAX_BODY_V6};

use super::control::Command;
use super::node::{Node, State};
use super::out::{Out, BATCH};
use super::voice::Mouth;
use crate::background::{lock, now};

/// How long a non-blocking sender helps to empty a full send buffer.
const HELP: Duration = Duration::from_millis(10);
/// A blocked sender looks around this often.
const SLICE_US: u64 = 100_000;
/// Datagrams on their way to the process that has the channel.
const BACKLOG: usize = 512;

/// What became of a send. Copies are datagrams times requesters.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sent {
    /// Datagrams given.
    pub datagrams: usize,
    /// Copies that the kernel took; 0 where nobody was there.
    pub copies: usize,
    /// Copies that the kernel refused (no route, a firewall), each its requester's.
    pub failed: usize,
    /// Copies dropped because the send buffer stayed full.
    pub dropped: usize,
}

/// What was counted for a channel since it was first opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LineCounters {
    /// Datagrams given by the application.
    pub datagrams: u64,
    /// Of these: those that nobody was there to hear.
    pub unheard: u64,
    /// Copies dropped because the send buffer stayed full.
    pub dropped: u64,
    /// Copies that the kernel refused.
    pub failed: u64,
}

/// How long a sender waits for room in the send buffer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Until there is room.
    Block,
    /// For [`HELP`], once it has come to that.
    Help(Option<Time>),
    /// Not at all.
    Never,
}

impl Patience {
    /// Microseconds to wait now; none: give up.
    pub(super) fn slice(&mut self, node: &Node) -> Option<u64> {
        if node.is_closing() {
            return None;
        }
        match self {
            Patience::Block => Some(SLICE_US),
            Patience::Never => None,
            Patience::Help(until) => {
                let now = now();
                let left = until.get_or_insert(now + HELP).since(now);
                u64::try_from(left.as_micros()).ok().filter(|us| *us > 0)
            }
        }
    }
}

/// One channel's way out.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: ChannelId,
    /// Another process has the channel: datagrams are handed to it.
    pub(super) remote: AtomicBool,
    /// F could not be made: the background thread sends from a socket of its own.
    pub(super) voiceless: AtomicBool,
    /// The application has ended it, and has not opened it again.
    pub(super) ended: AtomicBool,
    /// Requesters on this host are left out.
    pub(super) unlooped: AtomicBool,
    /// Datagrams on their way to another process.
    pub(super) backlog: AtomicUsize,
    out: Mutex<Out>,
    datagrams: AtomicU64,
    unheard: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Line {
    fn new(id: ChannelId) -> Line {
        Line {
            id,
            remote: AtomicBool::new(false),
            voiceless: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            unlooped: AtomicBool::new(false),
            backlog: AtomicUsize::new(0),
            out: Mutex::default(),
            datagrams: AtomicU64::new(0),
            unheard: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(super) fn counters(&self) -> LineCounters {
        LineCounters {
            datagrams: self.datagrams.load(Ordering::Relaxed),
            unheard: self.unheard.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
        }
    }

    /// Sends to the whole audience of a channel whose S is `sender`.
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
        let limit = match sender {
            IpAddr::V4(_) => MAX_BODY_V4,
            IpAddr::V6(_) => MAX_BODY_V6,
        };
        let too_long = |parts: &&[&[u8]]| length(parts) > limit;
        if datagrams.iter().any(too_long) {
            return Err(Errno::EMSGSIZE);
        }
        if self.ended.load(Ordering::Acquire) {
            return Err(Errno::EPIPE);
        }
        let mut sent = Sent {
            datagrams: datagrams.len(),
            ..Sent::default()
        };
        let remote = self.remote.load(Ordering::Acquire);
        let voiceless = self.voiceless.load(Ordering::Relaxed);
        // The background thread, which others hand theirs, sends from here.
        if !matches!(patience, Patience::Never) && (remote || voiceless) {
            sent.dropped = self.hand_over(node, datagrams, patience);
            if !remote {
                // Counted when it leaves.
                sent.datagrams = sent.dropped;
            }
        } else {
            let Some(mut out) = self.lock_out(node, &mut patience) else {
                if matches!(patience, Patience::Never) {
                    return Err(Errno::EAGAIN);
                }
                sent.dropped = datagrams.len();
                self.count(&sent, false);
                return Ok(sent);
            };
            for batch in datagrams.chunks(BATCH) {
                out.copy(batch);
                let heard = out.stamp(self, node)?;
                out.deliver(self, node, mouth, &mut patience, &mut sent);
                if !heard {
                    let count = u64::try_from(batch.len()).unwrap_or(0);
                    self.unheard.fetch_add(count, Ordering::Relaxed);
                }
            }
            out.shrink();
        }
        self.count(&sent, true);
        sent.datagrams = datagrams.len();
        Ok(sent)
    }

    fn count(&self, sent: &Sent, taken: bool) {
        let add = |to: &AtomicU64, n: usize| {
            if n > 0 {
                to.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
            }
        };
        add(&self.dropped, sent.dropped);
        add(&self.failed, sent.failed);
        if taken || sent.dropped > 0 {
            add(&self.datagrams, sent.datagrams);
        }
    }

    /// Makes F, so that a table that is full is noticed before anything is lost.
    pub(super) fn prepare(&self, node: &Node, sender: IpAddr) {
        let made = node.fan.with(Family::of(sender), |_| ()).is_some();
        self.voiceless.store(!made, Ordering::Relaxed);
    }

    /// The right to send; none where another thread keeps it for too long.
    fn lock_out(&self, node: &Node, patience: &mut Patience) -> Option<MutexGuard<'_, Out>> {
        if matches!(patience, Patience::Block) {
            return Some(lock(&self.out));
        }
        loop {
            match self.out.try_lock() {
                Ok(out) => return Some(out),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {
                    process::sleep_us(patience.slice(node)?.min(200));
                }
            }
        }
    }

    /// Gives datagrams to the process that has the channel; how many were dropped.
    fn hand_over(&self, node: &Node, datagrams: &[&[&[u8]]], mut patience: Patience) -> usize {
        for (done, parts) in datagrams.iter().enumerate() {
            while self.backlog.load(Ordering::Relaxed) >= BACKLOG {
                match patience.slice(node) {
                    Some(us) => process::sleep_us(us.min(1_000)),
                    None => return datagrams.len() - done,
                }
            }
            self.backlog.fetch_add(1, Ordering::Relaxed);
            node.post(Command::HandOver {
                id: self.id,
                body: parts.concat(),
            });
        }
        0
    }

    /// Whether datagrams are on their way to another process.
    pub(super) fn is_backlogged(&self) -> bool {
        self.backlog.load(Ordering::Relaxed) > 0
    }

    /// One datagram fewer is on its way to another process; whether it arrived.
    pub(super) fn handed_over(&self, arrived: bool) {
        self.backlog.fetch_sub(1, Ordering::Relaxed);
        self.dropped
            .fetch_add(u64::from(!arrived), Ordering::Relaxed);
    }

    /// A datagram of another process was dropped.
    pub(super) fn dropped_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn length(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// The line of a channel: one an id, whichever of this host's addresses is S.
pub(super) fn of(state: &mut State, id: ChannelId) -> Arc<Line> {
    let line = state.lines.entry(id);
    line.or_insert_with(|| Arc::new(Line::new(id))).clone()
}
