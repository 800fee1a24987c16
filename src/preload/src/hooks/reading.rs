//! Receive calls that show no address: recv, read, readv.
//!
//! Promises: the kernel's own calls with the program's own arguments, but on sockets
//! that listen or were accepted, where they answer as on stream sockets: ENOTCONN, and
//! the end of the file. All are cancellation points, so the frames hold nothing that is
//! dropped. Is not where streams are received: their payload is the kernel's.

use libc::{c_int, c_void, iovec, size_t, ssize_t};

use crate::guard::guarded;
use crate::hook::{cancellation_point, fail_long, Verdict};
use crate::{listen, marks, real};

/// On a serving descriptor: the answer before the kernel is asked; none: it is to be.
#[inline(never)]
pub(super) fn before(fd: c_int) -> Option<ssize_t> {
    match guarded(Verdict::Kernel, || listen::reading(fd)) {
        Verdict::Done(count) => Some(count),
        Verdict::Fail(number) => Some(fail_long(number)),
        _ => None,
    }
}

/// On a serving descriptor: the kernel's answer. Nothing is the end of the file.
#[inline(never)]
pub(super) fn after(fd: c_int, received: ssize_t) -> ssize_t {
    if received == 0 {
        guarded((), || listen::at_end(fd));
    }
    received
}

cancellation_point! {
    fn recv(fd: c_int, data: *mut c_void, length: size_t, flags: c_int) -> ssize_t {
        if !marks::is_serving(fd) {
            return real::recv(fd, data, length, flags);
        }
        match before(fd) {
            Some(answer) => answer,
            None => after(fd, real::recv(fd, data, length, flags)),
        }
    }
}

cancellation_point! {
    fn __recv(fd: c_int, data: *mut c_void, length: size_t, flags: c_int) -> ssize_t {
        recv(fd, data, length, flags)
    }
}

cancellation_point! {
    fn read(fd: c_int, data: *mut c_void, length: size_t) -> ssize_t {
        if !marks::is_serving(fd) {
            return real::read(fd, data, length);
        }
        match before(fd) {
            Some(answer) => answer,
            None => after(fd, real::read(fd, data, length)),
        }
    }
}

cancellation_point! {
    fn __read(fd: c_int, data: *mut c_void, length: size_t) -> ssize_t {
        read(fd, data, length)
    }
}

cancellation_point! {
    fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        if !marks::is_serving(fd) {
            return real::readv(fd, parts, count);
        }
        match before(fd) {
            Some(answer) => answer,
            None => after(fd, real::readv(fd, parts, count)),
        }
    }
}

extern "C" {
    fn __chk_fail() -> !;
}

cancellation_point! {
    fn __recv_chk(
        fd: c_int,
        data: *mut c_void,
        length: size_t,
        room: size_t,
        flags: c_int,
    ) -> ssize_t {
        if length > room {
            __chk_fail();
        }
        recv(fd, data, length, flags)
    }
}

cancellation_point! {
    fn __read_chk(fd: c_int, data: *mut c_void, length: size_t, room: size_t) -> ssize_t {
        if length > room {
            __chk_fail();
        }
        read(fd, data, length)
    }
}
