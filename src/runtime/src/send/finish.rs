//! The end of the process, or of its program (exec): every stream ends at once.
//!
//! Promises: done by the calling thread alone, since the others may be on their way
//! out, or interrupted (exit in a signal's handler); no lock is waited for longer than
//! 20 ms, nor what the background thread still has to hand to another process; what is
//! queued leaves first, within 250 ms; blocked senders give up. Receivers that miss the
//! one End are told by the status, and by silence.
//! Is not [`super::SendingChannel::end`], which says it three times.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::{Outbox, Route};
use flexcast_udp::batch::{Class, SendBatch};
use flexcast_udp::{process, Family};
use flexcast_wire::ChannelId;

use super::control::index;
use super::line::Line;
use super::node::Node;
use super::voice::{AtOnce, Mouth};
use crate::background::now;

/// How long another thread is waited for.
const HURRY: Duration = Duration::from_millis(20);

/// How long datagrams are waited for that are queued here. Without a queue: not at all.
const QUEUED: Duration = Duration::from_millis(250);

/// Datagrams for a channel that another process has: on their way within a
/// millisecond where the background thread runs.
fn await_handover(node: &Node) {
    let until = now() + HURRY;
    let waits = || {
        let state = node.lock_within(HURRY);
        state.is_some_and(|state| state.lines.values().any(|line| line.is_backlogged()))
    };
    while waits() && now() < until {
        process::sleep_us(200);
    }
}

/// What callers have left to others leaves, as far as the send buffer takes it in time.
pub(super) fn flush(node: &Node) {
    let until = now() + QUEUED;
    let Some(state) = node.lock_within(QUEUED) else {
        return;
    };
    let lines: Vec<Arc<Line>> = state.lines.values().cloned().collect();
    drop(state);
    for line in lines {
        line.flush(node, &AtOnce(&node.fan), until.since(now()));
    }
}

/// Ends every open channel.
pub(super) fn finish(node: &Node) {
    flush(node);
    await_handover(node);
    node.closing.store(true, Ordering::Relaxed);
    let mut letters = [SendBatch::new(), SendBatch::new()];
    let mut statuses = Outbox::new();
    {
        let Some(mut state) = node.lock_within(HURRY) else {
            return;
        };
        let now = now();
        let ids: Vec<ChannelId> = state.lines.keys().copied().collect();
        for id in ids {
            let Some(trailer) = state.end(now, id) else {
                continue;
            };
            for target in state.hearers(id, trailer.sequence) {
                let batch = &mut letters[index(target.to.ip())];
                let source = Some(target.source);
                batch.push(target.to, source, Class::Stream, &trailer.bytes());
            }
        }
        state.sender.poll(now, &mut statuses);
        state.drain_passages(now, &mut statuses);
    }
    for (letter, bytes) in statuses.iter() {
        if let Route::Node(asked) = letter.route {
            let batch = &mut letters[index(letter.to.ip())];
            batch.push(letter.to, Some(asked), Class::Control, bytes);
        }
    }
    for (family, batch) in [Family::V4, Family::V6].into_iter().zip(&mut letters) {
        if !batch.is_empty() {
            AtOnce(&node.fan).with(family, |socket| batch.flush(socket, &mut |_, _| {}));
        }
    }
}
