//! The thread that sees to it that what callers leave behind leaves soon.
//!
//! ```text
//!   a caller is flat out ──► begun ──► looks every LINGER, sends what is older
//!                              asleep ◄──┘ nothing came meanwhile
//!                                └── a second without work: ended
//! ```
//! Callers that are flat out fill batches and send them; this is for the last of them, and
//! so does not depend on when the scheduler lets a thread run: a thread that is woken for
//! each datagram would run at once where a processor is free, and send ever single ones
//! where none is. It shares the program's descriptors, as F is one of them. Promises: one a
//! channel, [`MOST`] a process, and none where nobody is flat out. Is not who decides that
//! (`dispatch`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::line::Line;
use super::node::Node;
use super::queue::{Waiting, Worker};
use crate::background::{now, spawn};

/// Workers of a process. More channels that are flat out send in their callers' threads.
const MOST: usize = 16;
/// How long a datagram waits at most for others to come. Longer: fewer wakings; it bounds
/// what batching adds to the way of a datagram.
const LINGER: Duration = Duration::from_micros(200);
/// How long one waits for work before it ends.
const IDLE: Duration = Duration::from_secs(1);

static WORKERS: AtomicUsize = AtomicUsize::new(0);

/// In a forked child, which has none of its parent's threads.
pub(super) fn forget() {
    WORKERS.store(0, Ordering::Relaxed);
}

/// Whether the channel has a worker, which is begun where it has none.
pub(super) fn ensure(line: &Arc<Line>, node: &Arc<Node>, waiting: &mut Waiting) -> bool {
    if waiting.worker != Worker::None {
        return true;
    }
    if WORKERS.fetch_add(1, Ordering::Relaxed) < MOST {
        let (line, node) = (line.clone(), node.clone());
        let begun = spawn("flexcast-line", move || {
            work(&line, &node);
            drop((line, node));
            WORKERS.fetch_sub(1, Ordering::Relaxed);
        });
        if begun.is_ok() {
            waiting.worker = Worker::Awake;
            return true;
        }
    }
    WORKERS.fetch_sub(1, Ordering::Relaxed);
    false
}

fn work(line: &Line, node: &Node) {
    let queue = &line.queue;
    let mut waiting = queue.lock();
    loop {
        let seen = waiting.counts.queued;
        if waiting.needs_help() {
            let left = LINGER.saturating_sub(waiting.age());
            if left.is_zero() {
                waiting = send(line, node, waiting);
            } else {
                waiting = queue.doze(waiting, left);
            }
            continue;
        }
        waiting = queue.doze(waiting, LINGER);
        if waiting.counts.queued != seen || !waiting.is_empty() {
            continue;
        }
        waiting = queue.sleep(waiting, IDLE);
        if waiting.counts.queued == seen && waiting.is_empty() {
            waiting.worker = Worker::None;
            return;
        }
    }
}

/// Sends what is queued, and what comes meanwhile.
fn send<'a>(
    line: &'a Line,
    node: &Node,
    mut waiting: MutexGuard<'a, Waiting>,
) -> MutexGuard<'a, Waiting> {
    let queue = &line.queue;
    let Some(mut turn) = queue.take(&mut waiting, now(), true) else {
        return waiting;
    };
    drop(waiting);
    loop {
        line.ship(node, &node.fan, &mut turn);
        waiting = queue.lock();
        if waiting.is_empty() {
            queue.end_turn(&mut waiting, turn);
            return waiting;
        }
        queue.next_turn(&mut waiting, &mut turn);
        drop(waiting);
    }
}
