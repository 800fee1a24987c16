//! Forks and the exit of the process that we are a part of.
//!
//! ```text
//!   fork   what is queued leaves first
//!          parent: goes on          child: receiving sockets are both's, and go on where
//!                                   one of them stops; by accepted ones both send
//!   exit   streams end, receivers leave, within 0.1 s; where what is queued is held up,
//!          within 0.35 s
//! ```
//! Promises: no lock of ours is held by another thread at a fork, or a child does without
//! what is behind it; in a child of vfork, which shares our memory, nothing is changed.
//! Is not for exec or a crash: those are covered by the receivers' silence and the
//! senders' hold.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, MutexGuard, Once};

use flexcast_runtime::kernel::pid;
use flexcast_runtime::receive;
use flexcast_runtime::send::Sending;

use crate::{c, process};

static WATCH: Once = Once::new();
/// Whose state this is; 0 where there is none yet.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// What a forking thread holds.
struct Held {
    table: c::TableGuard,
    sending: MutexGuard<'static, Option<Arc<Sending>>>,
}

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// To be called before there is anything that a child could inherit.
pub(crate) fn watch_forks() {
    WATCH.call_once(watch);
}

/// Whether this is the process whose state we hold, and not a child that shares our
/// memory (vfork), or copied it past the C library.
pub(crate) fn same_process() -> bool {
    [0, pid()].contains(&PROCESS.load(Ordering::Relaxed))
}

fn watch() {
    PROCESS.store(pid(), Ordering::Relaxed);
    // SAFETY: the three functions are of this library, which stays loaded as long as
    // it has threads, and meet no lock of the C library's.
    unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child)) };
    // SAFETY: the function is of this library, as above.
    unsafe { libc::atexit(at_exit) };
}

extern "C" fn before_fork() {
    receive::share_all();
    // The parent may be about to leave without another word, as daemons do.
    process::flush();
    let held = Held {
        table: c::hold_table(),
        sending: process::hold(),
    };
    if let Some(sending) = &*held.sending {
        sending.share();
    }
    HELD.with(|place| *place.borrow_mut() = Some(held));
}

extern "C" fn after_fork() {
    HELD.with(|place| place.borrow_mut().take());
}

extern "C" fn in_child() {
    PROCESS.store(pid(), Ordering::Relaxed);
    if let Some(held) = HELD.with(|place| place.borrow_mut().take()) {
        drop(held.table);
        process::forget(held.sending);
        receive::inherit_all();
    }
}

extern "C" fn at_exit() {
    process::finish();
}
