//! Options of sockets: setsockopt.
//!
//! Promises: what the kernel accepts or refuses stands; ours take note of what
//! matters to a sender. Is not the meaning (`push`).

use libc::{c_int, c_void, socklen_t};

use crate::guard::guarded;
use crate::{marks, push, real};

redhook::hook! {
    unsafe fn setsockopt(
        fd: c_int,
        level: c_int,
        option: c_int,
        value: *const c_void,
        length: socklen_t
    ) -> c_int => set_option {
        let answer = real::setsockopt(fd, level, option, value, length);
        if answer == 0 && !marks::is_foreign(fd) {
            guarded((), || push::option_set(fd, level, option));
        }
        answer
    }
}
