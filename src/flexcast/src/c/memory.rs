//! A C program's memory, as it was named to us.
//!
//! Promises: null is EFAULT (but for no bytes at all), as is a length that no memory has;
//! nothing is kept. Is not a check of what a pointer points to: no library can make one.

use flexcast_runtime::Errno;

/// No object is longer than this.
const MOST: usize = isize::MAX.unsigned_abs();

/// `length` bytes to read.
///
/// # Safety
/// Where not null, `start` is good to read for `length` bytes while the slice lives.
pub(super) unsafe fn bytes<'a>(start: *const u8, length: usize) -> Result<&'a [u8], Errno> {
    match (start.is_null(), length) {
        (_, 0) => Ok(&[]),
        (true, _) | (_, MOST..) => Err(Errno::EFAULT),
        // SAFETY: the caller vouches for it.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(start, length) }),
    }
}

/// `length` bytes to write.
///
/// # Safety
/// Where not null, `start` is good to write, and nobody else's, for `length` bytes while
/// the slice lives; what is there may be anything.
pub(super) unsafe fn bytes_mut<'a>(start: *mut u8, length: usize) -> Result<&'a mut [u8], Errno> {
    match (start.is_null(), length) {
        (_, 0) => Ok(&mut []),
        (true, _) | (_, MOST..) => Err(Errno::EFAULT),
        // SAFETY: the caller vouches for it; bytes have no wrong values.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts_mut(start, length) }),
    }
}

/// A value to read and write.
///
/// # Safety
/// Where not null, `place` is a `T`, and nobody else's while the reference lives.
pub(super) unsafe fn place<'a, T>(place: *mut T) -> Result<&'a mut T, Errno> {
    // SAFETY: the caller vouches for it.
    unsafe { place.as_mut() }.ok_or(Errno::EFAULT)
}
