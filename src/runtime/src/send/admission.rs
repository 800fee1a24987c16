//! Asks the application whom it lets in, in a thread for that alone. Guards use the
//! program's descriptors: it has the program's table, unlike the sending thread.
//!
//! ```text
//!   engine: question ─► queue ─► thread: guard(applicant) ─► answer ─► engine
//! ```
//! Promises: no lock of ours is held while a guard runs, which may call us back and take
//! its time: requesters are told *pending*, streams go on. One question at a time, in
//! order. Is not how long an answer holds (engine).

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use flexcast_engine::Question;
use flexcast_udp::Errno;
use flexcast_wire::{Channel, Credential};

use super::control::Command;
use super::node::Node;
use crate::background::{lock, spawn};

/// Who wants to be let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applicant {
    /// Into which channel.
    pub channel: Channel,
    /// Where it asks from.
    pub address: SocketAddr,
    /// What it shows.
    pub credential: Credential,
}

/// Decides who is let in.
#[derive(Clone)]
pub struct Guard(Arc<dyn Fn(&Applicant) -> bool + Send + Sync>);

impl Guard {
    /// Lets in those for whom `decide` says true.
    #[must_use]
    pub fn new(decide: impl Fn(&Applicant) -> bool + Send + Sync + 'static) -> Guard {
        Guard(Arc::new(decide))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Arc<Node>, Question, Guard)>,
    runs: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    waiting: VecDeque::new(),
    runs: false,
});
static THERE: Condvar = Condvar::new();

/// In a forked child: the thread is the parent's. To be called before a second thread
/// is there; a lock that the parent's thread held stays unused.
pub(super) fn forget_after_fork() {
    if let Ok(mut queue) = QUEUE.try_lock() {
        queue.waiting.drain(..).for_each(std::mem::forget);
        queue.runs = false;
    }
}

/// Starts the thread where there is none. To be called by a thread of the application's,
/// whose descriptor table it will share.
///
/// # Errors
/// `EAGAIN` where no thread could be started.
pub(super) fn start() -> Result<(), Errno> {
    let mut queue = lock(&QUEUE);
    if !queue.runs {
        spawn("flexcast-ask", answer_all)?;
        queue.runs = true;
    }
    Ok(())
}

/// Has a guard asked; the answer comes as [`Command::Answer`].
pub(super) fn put(node: Arc<Node>, question: Question, guard: Guard) {
    lock(&QUEUE).waiting.push_back((node, question, guard));
    THERE.notify_one();
}

fn answer_all() {
    loop {
        let mut queue = lock(&QUEUE);
        let (node, question, Guard(decide)) = loop {
            if let Some(first) = queue.waiting.pop_front() {
                break first;
            }
            queue = THERE.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        drop(queue);
        let applicant = Applicant {
            channel: question.channel,
            address: question.from,
            credential: question.credential,
        };
        // A guard that panics lets nobody in.
        let yes = catch_unwind(AssertUnwindSafe(|| decide(&applicant))).unwrap_or(false);
        node.post(Command::Answer {
            id: question.channel.id,
            nonce: question.nonce,
            yes,
        });
    }
}
