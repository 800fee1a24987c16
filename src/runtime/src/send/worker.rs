//! The thread that sends what the callers of one channel leave behind.
//!
//! ```text
//!   a caller is flat out ──► begun ──► sends load after load, sleeps where there is none
//!                                       └── a second without work: ended
//! ```
//! It shares the program's descriptors, as F is one of them. Promises: one a channel,
//! [`MOST`] a process, and none where nobody is flat out; whatever is queued when it
//! wakes leaves as one batch, nothing waits to become one. Is not who decides that
//! (`dispatch`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use super::line::Line;
use super::node::Node;
use super::queue::{Waiting, Worker};
use crate::background::{now, spawn};

/// Workers of a process. More channels that are flat out send in their callers' threads.
const MOST: usize = 16;
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
        let turn = match waiting.needs_help() {
            true => queue.take(&mut waiting, now(), true),
            false => None,
        };
        let Some(mut turn) = turn else {
            match queue.wait_for_work(waiting, IDLE) {
                Some(woken) => waiting = woken,
                None => return,
            }
            continue;
        };
        drop(waiting);
        loop {
            line.ship(node, &node.fan, &mut turn);
            waiting = queue.lock();
            if waiting.is_empty() {
                break;
            }
            queue.next_turn(&mut waiting, &mut turn);
            drop(waiting);
        }
        queue.end_turn(&mut waiting, turn);
    }
}
