//! A channel's stream on its way out: the trailer, the batch, one send a requester.
//!
//! ```text
//! bodies ─► one buffer, a trailer behind each ─► steady: one fan-out a family
//!                                             └► moving: what the window admits
//! ```
//! Promises: sequences leave in order (one lock a channel, held by whoever sends);
//! the targets are those of the very moment in which the sequences were taken, so a
//! handover is exact; a requester's error is its own. Nothing is queued. Is not who
//! is in the audience (engine).

use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use flexcast_engine::{Target, Time, Window};
use flexcast_udp::fan_out::Position;
use flexcast_udp::process::{self, PollFd};
use flexcast_udp::{Errno, Family, FanOut};
use flexcast_wire::{ChannelId, Kind, Sequence, MAX_BODY_V4, MAX_BODY_V6, TRAILER_LEN};

use super::control::Command;
use super::node::{Node, State};
use super::voice::Mouth;
use crate::background::{lock, now};

/// Datagrams sent as one batch: what one super-packet holds at most.
const BATCH: usize = 44;
/// How long a non-blocking sender helps to empty a full send buffer.
const HELP: Duration = Duration::from_millis(10);
/// A blocked sender looks around this often.
const SLICE_US: u64 = 100_000;
/// Datagrams on their way to the process that has the channel.
const BACKLOG: usize = 512;
/// A buffer above this is given back after use.
const KEPT: usize = 256 * 1024;

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
    fn slice(&mut self, node: &Node) -> Option<u64> {
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
    id: ChannelId,
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

/// Buffers of one batch, reused.
#[derive(Debug, Default)]
struct Out {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
    sequences: Vec<Sequence>,
    sizes: Vec<usize>,
    v4: Part,
    v6: Part,
    moving: Vec<(Target, Window)>,
}

#[derive(Debug, Default)]
struct Part {
    targets: Vec<flexcast_udp::Target>,
    fan_out: FanOut,
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
        let from_here = !matches!(patience, Patience::Never);
        if from_here
            && (self.remote.load(Ordering::Acquire) || self.voiceless.load(Ordering::Relaxed))
        {
            sent.dropped = self.hand_over(node, datagrams, patience);
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
            if out.bytes.capacity() > KEPT {
                out.bytes = Vec::new();
            }
        }
        self.count(&sent, true);
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

impl Out {
    /// Copies the bodies, each with room for its trailer.
    fn copy(&mut self, datagrams: &[&[&[u8]]]) {
        self.bytes.clear();
        self.ranges.clear();
        for parts in datagrams {
            let start = self.bytes.len();
            for part in *parts {
                self.bytes.extend_from_slice(part);
            }
            self.bytes.extend_from_slice(&[0; TRAILER_LEN]);
            self.ranges.push(start..self.bytes.len());
        }
    }

    /// Takes sequences and, in the same moment, targets; whether anybody is there.
    fn stamp(&mut self, line: &Line, node: &Node) -> Result<bool, Errno> {
        let id = line.id;
        let mut state = node.lock();
        if !state.sender.is_open(id) {
            return Err(Errno::EPIPE);
        }
        let now = now();
        self.sequences.clear();
        self.sizes.clear();
        for range in &self.ranges {
            let trailer = state.sender.stamp(now, id, Kind::Data);
            let trailer = trailer.ok_or(Errno::EPIPE)?;
            self.bytes[range.end - TRAILER_LEN..range.end].copy_from_slice(&trailer.bytes());
            self.sequences.push(trailer.sequence);
            self.sizes.push(range.len());
        }
        self.aim(line, &mut state, now);
        let in_handover = state.sender.fan(id).is_some_and(|f| !f.moving().is_empty());
        state
            .sender
            .carried_on(now, id, &self.sequences, &self.sizes);
        // A reached turn shortens its timer, which the background thread has to see.
        let early = in_handover && state.sender.next_time() < state.armed;
        drop(state);
        if early {
            node.post(Command::Look);
        }
        Ok(!(self.v4.targets.is_empty() && self.v6.targets.is_empty() && self.moving.is_empty()))
    }

    /// Copies the targets, so that nobody waits for this send to end.
    fn aim(&mut self, line: &Line, state: &mut State, now: Time) {
        self.v4.targets.clear();
        self.v6.targets.clear();
        self.moving.clear();
        let unlooped = line.unlooped.load(Ordering::Relaxed);
        let local = unlooped.then(|| state.local_addresses(now));
        let left_out = |to: IpAddr| {
            local
                .as_ref()
                .is_some_and(|local| to.is_loopback() || local.contains(&to))
        };
        let Some(fan) = state.sender.fan(line.id) else {
            return;
        };
        for target in fan.steady() {
            if !left_out(target.to.ip()) {
                self.part(target).push(directed(target));
            }
        }
        let moving = fan.moving().iter();
        self.moving
            .extend(moving.filter(|(target, _)| !left_out(target.to.ip())));
    }

    fn part(&mut self, target: &Target) -> &mut Vec<flexcast_udp::Target> {
        match Family::of(target.to.ip()) {
            Family::V4 => &mut self.v4.targets,
            Family::V6 => &mut self.v6.targets,
        }
    }

    /// Sends the batch.
    fn deliver(
        &mut self,
        line: &Line,
        node: &Node,
        mouth: &impl Mouth,
        patience: &mut Patience,
        sent: &mut Sent,
    ) {
        let mut views = [&[][..]; BATCH];
        for (view, range) in views.iter_mut().zip(&self.ranges) {
            *view = &self.bytes[range.clone()];
        }
        let views = &views[..self.ranges.len()];
        for (family, part) in [(Family::V4, &mut self.v4), (Family::V6, &mut self.v6)] {
            let Part { targets, fan_out } = part;
            fan(
                line, node, mouth, family, fan_out, views, targets, patience, sent,
            );
        }
        for (target, window) in &self.moving {
            let mut admitted = [&[][..]; BATCH];
            let mut count = 0;
            for (view, sequence) in views.iter().zip(&self.sequences) {
                if window.admits(*sequence) {
                    admitted[count] = view;
                    count += 1;
                }
            }
            let family = Family::of(target.to.ip());
            let fan_out = match family {
                Family::V4 => &mut self.v4.fan_out,
                Family::V6 => &mut self.v6.fan_out,
            };
            let (admitted, to) = (&admitted[..count], [directed(target)]);
            fan(
                line, node, mouth, family, fan_out, admitted, &to, patience, sent,
            );
        }
    }
}

fn directed(target: &Target) -> flexcast_udp::Target {
    flexcast_udp::Target {
        to: target.to,
        source: Some(target.source),
    }
}

/// One fan-out, waiting for room as long as patience lasts.
#[allow(clippy::too_many_arguments)] // one send's facts, all needed
fn fan(
    line: &Line,
    node: &Node,
    mouth: &impl Mouth,
    family: Family,
    fan_out: &mut FanOut,
    views: &[&[u8]],
    targets: &[flexcast_udp::Target],
    patience: &mut Patience,
    sent: &mut Sent,
) {
    let mut left = views.len() * targets.len();
    let mut at = Position::default();
    let mut lost_before = false;
    while left > 0 {
        let mut lost = false;
        let outcome = mouth.with(family, |socket| {
            let flushed = fan_out.resume(socket, views, targets, at, &mut |_, errno| {
                lost |= matches!(errno, Errno::EBADF | Errno::ENOTSOCK);
            });
            if flushed.blocked_at.is_none() {
                return (flushed, true);
            }
            let slice = patience.slice(node);
            let mut writable = [PollFd::new(socket.as_raw(), PollFd::OUT)];
            let waited = slice.map(|us| process::poll(&mut writable, Some(us)));
            (flushed, waited.is_some())
        });
        let Some((flushed, on)) = outcome else {
            // Lost, and no new one can be made: from the next datagram on otherwise.
            line.voiceless.store(true, Ordering::Relaxed);
            sent.failed += left;
            return;
        };
        if lost && !lost_before && flushed.sent == 0 {
            // Closed under our feet after it was checked: once more with a new one.
            lost_before = true;
            continue;
        }
        sent.copies += flushed.sent;
        sent.failed += flushed.failed;
        left = flushed.dropped;
        match flushed.blocked_at {
            Some(position) if on => at = position,
            Some(_) => {
                sent.dropped += left;
                return;
            }
            None => return,
        }
    }
}

/// The line of a channel: one an id, whichever of this host's addresses is S.
pub(super) fn of(state: &mut State, id: ChannelId) -> Arc<Line> {
    let line = state.lines.entry(id);
    line.or_insert_with(|| Arc::new(Line::new(id))).clone()
}
