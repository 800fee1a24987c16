//! `errno`, which a guest leaves as it found it unless the call failed.
//!
//! Is not the kernel's answer to our own calls: those are raw and never come here.

use libc::c_int;

/// The calling thread's `errno`.
pub(crate) fn get() -> c_int {
    // SAFETY: the C library gives a pointer to an int of this thread.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: it is valid while the thread runs.
    unsafe { *at }
}

/// Sets the calling thread's `errno`.
pub(crate) fn set(value: c_int) {
    // SAFETY: the C library gives a pointer to an int of this thread.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: it is valid while the thread runs, and nobody else's.
    unsafe { *at = value };
}
