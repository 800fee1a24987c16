//! What the application's threads and the background thread both see of one socket.
//!
//! Promises: nothing here is behind a lock. Is not the socket's work (`receiver`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;

use super::identity::{Bound, Numbers};
use super::reading::Reading;
use super::sources::Sources;

#[derive(Debug)]
pub(super) struct Shared {
    /// Its number among ours; the token of its events.
    pub(super) id: u64,
    pub(super) bound: Bound,
    pub(super) numbers: Numbers,
    pub(super) sources: Sources,
    /// Where its program reads by our calls.
    pub(super) reading: Option<Reading>,
    /// By which name the processes that hold it find its keeper, once it was shared.
    pub(super) keeper: OnceLock<Vec<u8>>,
    over: AtomicBool,
    ambiguous: AtomicBool,
    unsettled: AtomicBool,
}

impl Shared {
    pub(super) fn new(id: u64, bound: Bound, raw: i32) -> Shared {
        Shared {
            id,
            bound,
            numbers: Numbers::new(raw),
            sources: Sources::new(),
            reading: None,
            keeper: OnceLock::new(),
            over: AtomicBool::new(false),
            ambiguous: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
        }
    }

    /// Its program reads by our calls.
    pub(super) fn read_by(mut self, reading: Reading) -> Shared {
        self.reading = Some(reading);
        self
    }

    /// Whether the kernel socket is known to be gone.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn set_over(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Whether two senders come from one address.
    pub(super) fn is_ambiguous(&self) -> bool {
        self.ambiguous.load(Ordering::Relaxed)
    }

    pub(super) fn set_ambiguous(&self, ambiguous: bool) {
        self.ambiguous.store(ambiguous, Ordering::Relaxed);
    }

    /// Whether a stream may begin whose grant was not taken in yet.
    pub(super) fn is_unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed)
    }

    pub(super) fn set_unsettled(&self, unsettled: bool) {
        self.unsettled.store(unsettled, Ordering::Relaxed);
    }
}
