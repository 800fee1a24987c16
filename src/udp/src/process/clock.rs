//! Clocks, by system call.
//!
//! Promises: microseconds or nanoseconds as plain numbers; the boot clock counts on
//! while the machine sleeps. Is not: the vDSO (a call here costs about 0.1 µs).

use crate::raw::{call, int};

/// `struct timespec` with the kernel's 64-bit fields.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

impl Timespec {
    pub(super) fn from_us(us: u64) -> Self {
        let seconds = i64::try_from(us / 1_000_000).unwrap_or(i64::MAX);
        let nanoseconds = i64::try_from(us % 1_000_000 * 1_000).unwrap_or(0);
        Self {
            seconds,
            nanoseconds,
        }
    }

    fn nanoseconds(self) -> u64 {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        let nanoseconds = u64::try_from(self.nanoseconds).unwrap_or(0);
        seconds
            .saturating_mul(1_000_000_000)
            .saturating_add(nanoseconds)
    }
}

/// Microseconds since boot, sleep included (`CLOCK_BOOTTIME`).
#[must_use]
pub fn boottime_us() -> u64 {
    read(libc::CLOCK_BOOTTIME) / 1_000
}

/// Microseconds since 1970 (`CLOCK_REALTIME`); it may jump.
#[must_use]
pub fn realtime_us() -> u64 {
    read(libc::CLOCK_REALTIME) / 1_000
}

/// Processor time of this thread in nanoseconds (`CLOCK_THREAD_CPUTIME_ID`).
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Sleeps for `us` microseconds, or less where a signal comes.
pub fn sleep_us(us: u64) {
    let time = Timespec::from_us(us);
    let time_at = (&raw const time) as usize;
    // SAFETY: the kernel reads one timespec, which lives through the call.
    let _ = unsafe { call(libc::SYS_nanosleep, [time_at, 0, 0, 0, 0, 0]) };
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = Timespec::default();
    let time_at = (&raw mut time) as usize;
    // SAFETY: the kernel writes one timespec, which lives through the call. These
    // clocks always exist; a sandbox that refuses leaves 0.
    let _ = unsafe { call(libc::SYS_clock_gettime, [int(clock), time_at, 0, 0, 0, 0]) };
    time.nanoseconds()
}
