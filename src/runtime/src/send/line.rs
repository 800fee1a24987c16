//! A channel of this process, as its threads see it: what it is, and what was counted.
//!
//! Promises: what is on the way to another process is bounded; a thread that must not
//! block gives up after 10 ms, and what it had is counted. Is not whose turn it is to
//! send (`queue`), nor the sending (`dispatch`, `out`), nor who is in the audience
//! (engine).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::process;
use flexcast_udp::Family;
use flexcast_wire::ChannelId;

use super::control::Command;
use super::node::{Node, State};
use super::queue::Queue;
use super::voice::Mouth;
use crate::background::now;

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
    /// Datagrams that left in a batch with others', after their caller had gone on.
    pub queued: u64,
    /// The longest that one of them waited for that.
    pub longest_queued: Duration,
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
    pub(super) fn of(block: bool) -> Patience {
        match block {
            true => Patience::Block,
            false => Patience::Help(None),
        }
    }

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
    /// Requesters at the last batch; 0 where a batch costs what its datagrams cost.
    pub(super) crowd: AtomicUsize,
    pub(super) queue: Queue,
    datagrams: AtomicU64,
    unheard: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Line {
    pub(super) fn new(id: ChannelId) -> Line {
        Line {
            id,
            remote: AtomicBool::new(false),
            voiceless: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            unlooped: AtomicBool::new(false),
            backlog: AtomicUsize::new(0),
            crowd: AtomicUsize::new(0),
            queue: Queue::default(),
            datagrams: AtomicU64::new(0),
            unheard: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(super) fn counters(&self) -> LineCounters {
        let queue = self.queue.lock().counts;
        LineCounters {
            datagrams: self.datagrams.load(Ordering::Relaxed),
            unheard: self.unheard.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            queued: queue.queued,
            longest_queued: queue.longest,
        }
    }

    /// Whether F is not what it leaves from.
    pub(super) fn leaves_elsewhere(&self) -> bool {
        self.remote.load(Ordering::Acquire) || self.voiceless.load(Ordering::Relaxed)
    }

    /// Has the background thread send it, from here or through who has the channel.
    pub(super) fn send_elsewhere(
        &self,
        node: &Node,
        datagrams: &[&[&[u8]]],
        patience: Patience,
    ) -> Sent {
        let dropped = self.hand_over(node, datagrams, patience);
        let mut sent = Sent {
            datagrams: datagrams.len(),
            dropped,
            ..Sent::default()
        };
        if !self.remote.load(Ordering::Acquire) {
            // Counted when it leaves.
            sent.datagrams = dropped;
        }
        self.count(&sent);
        sent.datagrams = datagrams.len();
        sent
    }

    /// Counts what nobody had time for.
    pub(super) fn drop_all(&self, count: usize) -> Sent {
        let sent = Sent {
            datagrams: count,
            dropped: count,
            ..Sent::default()
        };
        self.count(&sent);
        sent
    }

    /// Counts datagrams that were sent to nobody.
    pub(super) fn count_heard(&self, count: usize, heard: bool) {
        if !heard {
            let count = u64::try_from(count).unwrap_or(0);
            self.unheard.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self, sent: &Sent) {
        let add = |to: &AtomicU64, n: usize| {
            if n > 0 {
                to.fetch_add(u64::try_from(n).unwrap_or(0), Ordering::Relaxed);
            }
        };
        add(&self.dropped, sent.dropped);
        add(&self.failed, sent.failed);
        add(&self.datagrams, sent.datagrams);
    }

    /// Makes F, so that a table that is full is noticed before anything is lost.
    pub(super) fn prepare(&self, node: &Node, sender: IpAddr) {
        let made = node.fan.with(Family::of(sender), |_| ()).is_some();
        self.voiceless.store(!made, Ordering::Relaxed);
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

/// The line of a channel: one an id, whichever of this host's addresses is S.
pub(super) fn of(state: &mut State, id: ChannelId) -> Arc<Line> {
    let line = state.lines.entry(id);
    line.or_insert_with(|| Arc::new(Line::new(id))).clone()
}
