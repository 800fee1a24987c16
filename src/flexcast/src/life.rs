//! Forks and the exit of the process that we are a part of.
//!
//! ```text
//!   fork   parent: goes on          child: a generation further; sockets made before
//!                                   are the parent's, to be read and closed here
//!   exit   streams end, receivers leave, within 0.1 s
//! ```
//! Promises: no lock of ours is held by another thread at a fork. Is not for exec, vfork
//! or a crash: those are covered by the receivers' silence and the senders' hold.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, Once};

use flexcast_runtime::send::Sending;

use crate::{c, process};

static GENERATION: AtomicU64 = AtomicU64::new(0);
static WATCH: Once = Once::new();

/// What a forking thread holds.
struct Held {
    table: c::TableGuard,
    sending: MutexGuard<'static, Option<Arc<Sending>>>,
}

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// How many forks lie between the process that loaded us and this one.
pub(crate) fn generation() -> u64 {
    WATCH.call_once(watch);
    GENERATION.load(Ordering::Relaxed)
}

fn watch() {
    // SAFETY: the three functions are of this library, which stays loaded as long as
    // it has threads, and meet no lock of the C library's.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
    // SAFETY: the function is of this library, as above.
    unsafe { libc::atexit(at_exit) };
}

extern "C" fn before_fork() {
    let held = Held {
        table: c::hold_table(),
        sending: process::hold(),
    };
    HELD.with(|place| *place.borrow_mut() = Some(held));
}

extern "C" fn after_fork() {
    HELD.with(|place| place.borrow_mut().take());
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    if let Some(held) = HELD.with(|place| place.borrow_mut().take()) {
        drop(held.table);
        process::forget(held.sending);
    }
}

extern "C" fn at_exit() {
    process::finish();
}
