//! A descriptor table of one's own, and descriptors out of others' tables.
//!
//! Promises: what a thread opens after [`private_descriptors`] cannot be closed by
//! the rest of the process, by loop, `close_range` or raw call.
//! Is not: reversible: a private table stays private until the thread ends.

use super::files::each_entry;
use crate::raw::{call, int};
use crate::{Errno, Fd};

/// Gives this thread an empty descriptor table of its own. Whatever numbers it held
/// are closed in that table only. Objects of this thread that own descriptors lose
/// them: call it first thing in a new thread.
///
/// # Errors
/// `EMFILE`, `ENOMEM`; `EPERM` in a sandbox that forbids unshare(2).
pub fn private_descriptors() -> Result<(), Errno> {
    let unshare = libc::CLOSE_RANGE_UNSHARE as usize;
    // SAFETY: takes integers only; that it closes is what the caller asked for, and
    // it closes in this thread's table alone.
    match unsafe {
        call(
            libc::SYS_close_range,
            [0, u32::MAX as usize, unshare, 0, 0, 0],
        )
    } {
        Ok(_) => Ok(()),
        // Before 5.9, or an older sandbox.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => unshare_and_close(),
        Err(other) => Err(other),
    }
}

fn unshare_and_close() -> Result<(), Errno> {
    // SAFETY: takes integers only: this thread's table becomes a copy.
    unsafe { call(libc::SYS_unshare, [int(libc::CLONE_FILES), 0, 0, 0, 0, 0]) }?;
    let mut open = Vec::new();
    let listed = each_entry(b"/proc/thread-self/fd", |name| {
        open.extend(
            std::str::from_utf8(name)
                .ok()
                .and_then(|digits| digits.parse::<i32>().ok()),
        );
    });
    match listed {
        // The listing's own descriptor is among them: gone by the loop below.
        Ok(directory) => drop(directory.into_raw()),
        // No /proc: numbers above 65 535 are then out of reach, and rare.
        Err(_) => open = (0..65_536).collect(),
    }
    for raw in open {
        // SAFETY: close touches no memory, and the table is this thread's alone.
        let _ = unsafe { call(libc::SYS_close, [int(raw), 0, 0, 0, 0, 0]) };
    }
    Ok(())
}

/// A descriptor of process `pid` (its leader thread).
///
/// # Errors
/// `ESRCH` where there is none, `EPERM` in a sandbox.
pub fn pidfd_open(pid: i32) -> Result<Fd, Errno> {
    open(pid, 0)
}

/// A descriptor of thread `tid`, of whatever process (`PIDFD_THREAD`, 6.9).
///
/// # Errors
/// `EINVAL` before 6.9, else as [`pidfd_open`].
pub fn pidfd_open_thread(tid: i32) -> Result<Fd, Errno> {
    open(tid, int(libc::O_EXCL))
}

fn open(id: i32, flags: usize) -> Result<Fd, Errno> {
    // SAFETY: takes integers only and makes a new descriptor.
    unsafe { call(libc::SYS_pidfd_open, [int(id), flags, 0, 0, 0, 0]) }.map(Fd::from_answer)
}

/// A duplicate of descriptor `raw` of the process behind `pidfd`, close-on-exec.
///
/// # Errors
/// `EBADF` where it has no such number, `EPERM` where we may not (ptrace rules,
/// sandboxes), `ESRCH` where its leader has ended.
pub fn pidfd_getfd(pidfd: &Fd, raw: i32) -> Result<Fd, Errno> {
    let arguments = [int(pidfd.as_raw()), int(raw), 0, 0, 0, 0];
    // SAFETY: takes integers only and makes a new descriptor.
    unsafe { call(libc::SYS_pidfd_getfd, arguments) }.map(Fd::from_answer)
}
