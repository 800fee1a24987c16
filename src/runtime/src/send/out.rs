//! One batch on its way out, to all.
//!
//! ```text
//! load ─► stamp: sequences and targets, in one moment ─► deliver
//!                  steady: one fan-out a family ◄──────────┤
//!                  moving: what the window admits ◄────────┘
//! ```
//! Promises: nothing is allocated in the steady state; a requester's error is its
//! own; a full send buffer is waited for as long as patience lasts, outside the
//! node's lock. Is not the order of batches (`line`).

mod passed;

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use flexcast_engine::{Fan, Target, Time, Window};
use flexcast_udp::fan_out::Position;
use flexcast_udp::process::{self, PollFd};
use flexcast_udp::{Errno, Family, FanOut};
use flexcast_wire::{Kind, Sequence};

use super::control::Command;
use super::line::{Line, Patience, Sent};
use super::load::{Load, BATCH};
use super::node::{Node, State};
use super::voice::Mouth;
use crate::background::now;

/// Buffers of one batch, reused.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// What it consists of; filled by whoever has the turn.
    pub(super) load: Load,
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

impl Out {
    /// Takes sequences and, in the same moment, targets; whether anybody is there.
    pub(super) fn stamp(&mut self, line: &Line, node: &Node) -> Result<bool, Errno> {
        let id = line.id;
        let mut state = node.lock();
        if !state.sender.is_open(id) {
            return Err(Errno::EPIPE);
        }
        let now = now();
        let (sequences, sizes) = (&mut self.sequences, &mut self.sizes);
        sequences.clear();
        sizes.clear();
        let stamped = self.load.stamp(|size| {
            let trailer = state.sender.stamp(now, id, Kind::Data)?;
            sequences.push(trailer.sequence);
            sizes.push(size);
            Some(trailer.bytes())
        });
        if !stamped {
            return Err(Errno::EPIPE);
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
        let audience = self.v4.targets.len() + self.v6.targets.len() + self.moving.len();
        let joins = [&self.v4, &self.v6].map(|part| part.fan_out.segments());
        let crowd = if joins == [true; 2] { audience } else { 0 };
        line.crowd.store(crowd, Ordering::Relaxed);
        Ok(audience > 0)
    }

    fn forget_targets(&mut self) {
        self.v4.targets.clear();
        self.v6.targets.clear();
        self.moving.clear();
    }

    /// Copies the targets, so that nobody waits for this send to end.
    fn aim(&mut self, line: &Line, state: &mut State, now: Time) {
        self.forget_targets();
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
        self.aim_at(fan, left_out);
    }

    fn aim_at(&mut self, fan: &Fan, left_out: impl Fn(IpAddr) -> bool) {
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
    pub(super) fn deliver(
        &mut self,
        line: &Line,
        node: &Node,
        mouth: &impl Mouth,
        patience: &mut Patience,
        sent: &mut Sent,
    ) {
        let mut views = [&[][..]; BATCH];
        for (view, datagram) in views.iter_mut().zip(self.load.whole()) {
            *view = datagram;
        }
        let views = &views[..self.load.len()];
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
