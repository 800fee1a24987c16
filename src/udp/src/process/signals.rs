//! Signals: kept away from a thread, or read from a descriptor.
//!
//! Promises: only this thread's mask changes; glibc's own two signals stay open.
//! Is not: handlers.

use crate::raw::{call, int};
use crate::{Errno, Fd};

/// The interrupt key.
pub const SIGINT: i32 = libc::SIGINT;
/// A request to end.
pub const SIGTERM: i32 = libc::SIGTERM;

/// A set of signals: bit n-1 is signal n.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignalMask(pub u64);

impl SignalMask {
    /// The set of `signals` (numbers from 1 to 64; others are left out).
    #[must_use]
    pub fn of(signals: &[i32]) -> Self {
        let bit = |signal: &i32| signal.checked_sub(1).and_then(|n| u32::try_from(n).ok());
        let bits = signals
            .iter()
            .filter_map(bit)
            .filter_map(|n| 1_u64.checked_shl(n));
        Self(bits.fold(0, |mask, bit| mask | bit))
    }
}

/// Blocks all signals in this thread but 32 and 33, which glibc needs (with them
/// blocked, setuid() in another thread waits for ever); the mask before.
#[must_use]
pub fn block_signals() -> SignalMask {
    change(libc::SIG_SETMASK, SignalMask(!SignalMask::of(&[32, 33]).0))
}

/// Sets this thread's mask.
pub fn restore_signals(mask: SignalMask) {
    let _ = change(libc::SIG_SETMASK, mask);
}

fn change(how: i32, mask: SignalMask) -> SignalMask {
    let mut old = SignalMask(0);
    let new_at = (&raw const mask.0) as usize;
    let old_at = (&raw mut old.0) as usize;
    // SAFETY: the kernel reads 8 bytes of the new mask and writes 8 of the old; both
    // live through the call, which cannot fail with these arguments.
    let _ = unsafe {
        call(
            libc::SYS_rt_sigprocmask,
            [int(how), new_at, old_at, 8, 0, 0],
        )
    };
    old
}

/// Signals as something to read (signalfd(2)), non-blocking.
#[derive(Debug)]
pub struct SignalFd {
    /// Readable when one of the signals has come.
    pub fd: Fd,
}

impl SignalFd {
    /// Blocks `signals` in this thread (threads started later inherit that) and
    /// makes a descriptor that delivers them.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub fn new(signals: &[i32]) -> Result<Self, Errno> {
        let mask = SignalMask::of(signals);
        let _ = change(libc::SIG_BLOCK, mask);
        let flags = int(libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        let mask_at = (&raw const mask.0) as usize;
        // SAFETY: the kernel reads 8 bytes of mask and makes a new descriptor.
        let answer = unsafe { call(libc::SYS_signalfd4, [int(-1), mask_at, 8, flags, 0, 0]) }?;
        Ok(Self {
            fd: Fd::from_answer(answer),
        })
    }

    /// The next signal that has come, if any.
    #[must_use]
    pub fn read(&self) -> Option<i32> {
        // struct signalfd_siginfo: 128 bytes, the number first.
        let mut info = [0_u32; 32];
        let info_at = info.as_mut_ptr() as usize;
        let arguments = [int(self.fd.as_raw()), info_at, size_of_val(&info), 0, 0, 0];
        // SAFETY: the kernel writes at most 128 bytes into the 128 of `info`.
        let read = unsafe { call(libc::SYS_read, arguments) };
        read.ok()
            .filter(|count| *count >= 4)
            .map(|_| info[0].cast_signed())
    }
}
