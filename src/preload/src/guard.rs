//! Where our own work is done inside a hook: panics end here, `errno` stays.
//!
//! Promises: a function of its own, never inlined, so that the frame around a
//! blocking call has no landing pad (a cancelled thread unwinds through it, and a
//! forced unwind that meets `catch_unwind` ends the process). Nothing within may be
//! a cancellation point: our own calls are raw. A signal's handler that interrupts our
//! work and calls us meets no lock of its own thread: nothing is done then. Is not for
//! calls of the program's.

use std::cell::Cell;
use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::errno;

thread_local! {
    /// One byte, without a destructor: nothing is allocated for it.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is at our work already: a signal's handler asks.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// Does `work`; where it panics, `otherwise` is the answer and the log has a line, and
/// so it is where this thread is at our work already. `errno` is what it was before.
#[inline(never)]
pub(crate) fn guarded<T: Copy>(otherwise: T, work: impl FnOnce() -> T) -> T {
    if INSIDE.replace(true) {
        return otherwise;
    }
    let result = guarded_anyway(otherwise, work);
    INSIDE.set(false);
    result
}

/// As [`guarded`], also where this thread is at our work already: `work` must not wait
/// for any lock.
#[inline(never)]
pub(crate) fn guarded_anyway<T: Copy>(on_panic: T, work: impl FnOnce() -> T) -> T {
    let before = errno::get();
    let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        // Its destructor may panic too; it is small, and this does not happen.
        std::mem::forget(payload);
        on_panic
    });
    errno::set(before);
    result
}

/// Panics are logged where there is a log, never printed. The standard library in
/// this object is ours alone, so nobody else's panics are touched.
pub(crate) fn keep_panics_quiet() {
    std::panic::set_hook(Box::new(|info| {
        ::log::error!("a fault of Flexcast's own: {info}");
    }));
}
