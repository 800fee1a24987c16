//! The C API, `flexcast.h`: each call checks what it was given, and hands on.
//!
//! Promises: -1 and errno where a call fails, errno untouched where it does not; a null
//! pointer is EFAULT; no panic crosses into C. Is not where anything is decided
//! (`endpoint`).

mod address;
mod callback;
mod calls;
mod compat;
mod memory;
mod messages;
mod options;
mod table;

use std::panic::{catch_unwind, AssertUnwindSafe};

use flexcast_runtime::Errno;

pub(crate) use table::{hold as hold_table, Guard as TableGuard};

/// Runs a call; -1 and errno where it fails.
fn call(body: impl FnOnce() -> Result<usize, Errno>) -> isize {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Errno::EIO));
    match outcome {
        Ok(value) => isize::try_from(value).unwrap_or(isize::MAX),
        Err(errno) => {
            // SAFETY: the C library gives each thread a place for it.
            let place = unsafe { libc::__errno_location() };
            // SAFETY: the place is this thread's own.
            unsafe { *place = errno.0 };
            -1
        }
    }
}

/// As [`call`], for calls that return an int.
fn call_int(body: impl FnOnce() -> Result<usize, Errno>) -> i32 {
    i32::try_from(call(body)).unwrap_or(i32::MAX)
}
