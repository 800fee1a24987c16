//! Which descriptors are ours: one byte for each number, read without a lock.
//!
//! ```text
//!   FOREIGN ── socket() of a mapped family, with a map ──► CANDIDATE
//!   CANDIDATE ── first mapped use, or dup ──► OURS        (table has its Socket)
//!   OURS ── listen, or made by accept ──► SERVING         (ours, of role *listens*)
//!   CANDIDATE, OURS, SERVING ── close, before the kernel's ──► FOREIGN
//! ```
//! Promises: a foreign descriptor costs one relaxed load, and no page is touched for
//! numbers that were never marked. Is not the truth: a close may bypass us, so what
//! is marked is revalidated (`table`).

use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use libc::c_int;

/// The kernel's own limit of numbers (`fs.nr_open`); higher ones are foreign.
const NUMBERS: usize = 1 << 20;

/// What a number is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// Nothing.
    Foreign,
    /// A datagram socket made under our eyes that has not met a rule.
    Candidate,
    /// It has a `Socket` in the table.
    Ours,
    /// Ours, and receive calls on it mean what they do on a stream socket; [`get`]
    /// says [`Mark::Ours`].
    Serving,
}

/// Zero, in pages that the kernel provides when they are written.
static MARKS: [AtomicU8; NUMBERS] = [const { AtomicU8::new(0) }; NUMBERS];
/// No number above it was ever marked.
static HIGHEST: AtomicI32 = AtomicI32::new(-1);

/// Whether the hook is to call the real function and nothing else.
#[inline(always)]
pub(crate) fn is_foreign(fd: c_int) -> bool {
    // A negative number is beyond the table's end.
    let mark = MARKS.get(fd.cast_unsigned() as usize);
    mark.is_none_or(|mark| mark.load(Ordering::Relaxed) == 0)
}

/// Whether `fd` listens, or was accepted by us.
#[inline(always)]
pub(crate) fn is_serving(fd: c_int) -> bool {
    let mark = MARKS.get(fd.cast_unsigned() as usize);
    mark.is_some_and(|mark| mark.load(Ordering::Relaxed) == Mark::Serving as u8)
}

/// What `fd` is.
pub(crate) fn get(fd: c_int) -> Mark {
    let mark = MARKS.get(fd.cast_unsigned() as usize);
    match mark.map_or(0, |mark| mark.load(Ordering::Relaxed)) {
        0 => Mark::Foreign,
        1 => Mark::Candidate,
        _ => Mark::Ours,
    }
}

/// Marks `fd`; false where the number is too high to be marked.
pub(crate) fn set(fd: c_int, mark: Mark) -> bool {
    let Some(at) = MARKS.get(fd.cast_unsigned() as usize) else {
        return false;
    };
    HIGHEST.fetch_max(fd, Ordering::Relaxed);
    at.store(mark as u8, Ordering::Relaxed);
    true
}

/// The marked numbers from `first` to `last`.
pub(crate) fn marked(first: c_int, last: c_int) -> impl Iterator<Item = c_int> {
    let last = last.min(HIGHEST.load(Ordering::Relaxed));
    (first.max(0)..=last).filter(|&fd| !is_foreign(fd))
}
