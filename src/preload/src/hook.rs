//! How a hook is declared, and what the room behind it answers.
//!
//! Two shapes. A call that is no cancellation point: redhook's `hook!`, whose
//! `catch_unwind` no forced unwind ever meets. A cancellation point: the macro below.
//!
//! ```text
//!   cancellation_point! {
//!       fn send(fd: c_int, data: *const c_void, length: size_t, flags: c_int) -> ssize_t {
//!           if marks::is_foreign(fd) {
//!               return real::send(fd, data, length, flags);
//!           }
//!           …guarded(…) gives a Verdict, Copy, then the real call or the answer
//!       }
//!   }
//! ```
//! Promises: the exported frame of a cancellation point has no landing pad, as long
//! as its body holds nothing that is dropped. `tests/cancel.rs` shows it. Is not the
//! decision itself (`push`, `join`).

use libc::c_int;

use crate::name::Name;

/// Exports a function under its own name, as the C library's of that name.
macro_rules! cancellation_point {
    (fn $name:ident ( $($argument:ident : $kind:ty),* $(,)? ) -> $answer:ty $body:block) => {
        #[no_mangle]
        unsafe extern "C-unwind" fn $name($($argument: $kind),*) -> $answer $body
    };
}
pub(crate) use cancellation_point;

/// What becomes of a call on a marked descriptor. Copy, with nothing to drop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// The kernel's, as the program made it.
    Kernel,
    /// The kernel's; that the network has no multicast is not told.
    KernelQuietly,
    /// The kernel's, as ordinary unicast to this address.
    KernelTo(Name),
    /// Done by us, with this answer.
    Done(isize),
    /// Failed, with this error number.
    Fail(c_int),
    /// Not yet: the frame looks whether the thread is cancelled, then asks again.
    Again,
}

/// The answer of a failed call.
pub(crate) fn fail(number: c_int) -> c_int {
    crate::errno::set(number);
    -1
}

/// The answer of a failed call that counts bytes.
pub(crate) fn fail_long(number: c_int) -> isize {
    crate::errno::set(number);
    -1
}

/// An answer of the kernel's to a datagram or join that no rule names, of a group
/// that one does: where it says that there is no multicast, `instead` and the old
/// error number (RTCP beside RTP must not end the program).
pub(crate) fn hide_missing_multicast(answer: isize, instead: isize, before: c_int) -> isize {
    let missing = [libc::ENETUNREACH, libc::ENODEV];
    if answer < 0 && missing.contains(&crate::errno::get()) {
        crate::errno::set(before);
        return instead;
    }
    answer
}
