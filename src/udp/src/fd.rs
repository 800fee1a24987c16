//! An owned descriptor, closed by number.
//!
//! Promises: close-on-exec, closed exactly once, by a raw call that meets no hook.
//! Is not: `OwnedFd`, whose close is libc's.

use crate::raw::{call, int};
use crate::Errno;

/// A descriptor that is ours, closed on drop.
#[derive(Debug, PartialEq, Eq)]
pub struct Fd(i32);

impl Fd {
    /// Takes ownership of `raw`, which must be ours to close: a number that came
    /// from [`Fd::into_raw`] or that was handed over. A number that belongs to
    /// somebody else would be closed under their feet.
    #[must_use]
    pub fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    /// The kernel's answer to a call that makes a descriptor.
    pub(crate) fn from_answer(answer: usize) -> Self {
        // Descriptors are below INT_MAX by fs/file.c; the fall-back is never live.
        Self(i32::try_from(answer).unwrap_or(-1))
    }

    /// The number, still owned by this.
    #[must_use]
    pub fn as_raw(&self) -> i32 {
        self.0
    }

    /// The number, no longer owned by anyone.
    #[must_use]
    pub fn into_raw(self) -> i32 {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    /// A duplicate with the lowest free number from `min` on, close-on-exec.
    ///
    /// # Errors
    /// `EMFILE` where none is free, `EINVAL` where `min` is above the limit.
    pub fn dup_above(&self, min: i32) -> Result<Fd, Errno> {
        duplicate(self.0, min)
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the number is ours alone; close touches no memory. On Linux it is
        // gone whatever close answers, so there is nothing to repeat.
        let _ = unsafe { call(libc::SYS_close, [int(self.0), 0, 0, 0, 0, 0]) };
    }
}

/// A duplicate of any descriptor, ours or not, with the lowest free number from
/// `min` on, close-on-exec.
///
/// # Errors
/// `EBADF`, `EMFILE`, `EINVAL` as fcntl(2).
pub fn duplicate(raw: i32, min: i32) -> Result<Fd, Errno> {
    let arguments = [int(raw), int(libc::F_DUPFD_CLOEXEC), int(min), 0, 0, 0];
    // SAFETY: F_DUPFD_CLOEXEC takes integers only and makes a new descriptor.
    unsafe { call(libc::SYS_fcntl, arguments) }.map(Fd::from_answer)
}

/// Puts a duplicate of `raw` in the place of the descriptor `onto`, close-on-exec where
/// `cloexec` is set.
///
/// # Errors
/// `EBADF`, `EINVAL` where both are one number.
pub fn replace(onto: i32, raw: i32, cloexec: bool) -> Result<(), Errno> {
    let flags = if cloexec { libc::O_CLOEXEC } else { 0 };
    let arguments = [int(raw), int(onto), int(flags), 0, 0, 0];
    // SAFETY: dup3 takes integers only; what stood there is the caller's to close.
    unsafe { call(libc::SYS_dup3, arguments) }.map(drop)
}

/// Whether an exec closes `raw`.
///
/// # Errors
/// `EBADF`.
pub fn closes_on_exec(raw: i32) -> Result<bool, Errno> {
    // SAFETY: F_GETFD takes integers only.
    let flags = unsafe { call(libc::SYS_fcntl, [int(raw), int(libc::F_GETFD), 0, 0, 0, 0]) }?;
    Ok(flags & int(libc::FD_CLOEXEC) != 0)
}

/// Whether `raw` is an open descriptor of this thread's table.
#[must_use]
pub fn is_live(raw: i32) -> bool {
    // SAFETY: F_GETFD takes integers only.
    unsafe { call(libc::SYS_fcntl, [int(raw), int(libc::F_GETFD), 0, 0, 0, 0]) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sockopt, Family, UdpSocket};

    #[test]
    fn a_descriptor_is_replaced_with_the_flag_asked_for() {
        for cloexec in [true, false] {
            let (old, new) = (
                UdpSocket::new(Family::V4).unwrap(),
                UdpSocket::new(Family::V4).unwrap(),
            );
            replace(old.as_raw(), new.as_raw(), cloexec).unwrap();
            assert_eq!(sockopt::cookie(old.as_raw()), Ok(new.cookie()));
            assert_eq!(closes_on_exec(old.as_raw()), Ok(cloexec));
        }
        assert_eq!(closes_on_exec(-1), Err(Errno::EBADF));
    }
}
