//! Descriptors made, duplicated and closed.
//!
//! Promises: a number is unmarked before the kernel closes it; a duplicate of ours
//! is ours; nothing is changed in a child that shares our memory. Is not accept and
//! SCM_RIGHTS: what comes that way was not made under our eyes; nor what stdio writes
//! to a stream on a socket of ours, which goes past every hook.

use libc::{c_int, c_uint, FILE};

use crate::guard::guarded;
use crate::hook::{cancellation_point, fail};
use crate::table::{self, Closing};
use crate::{errno, marks, push, real};

redhook::hook! {
    unsafe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int => make_socket {
        let fd = real::socket(domain, kind, protocol);
        if fd >= 0 {
            let datagrams = kind & 0xF == libc::SOCK_DGRAM
                && (domain == libc::AF_INET || domain == libc::AF_INET6)
                && (protocol == 0 || protocol == libc::IPPROTO_UDP);
            if datagrams {
                guarded((), || table::made(fd));
            } else if !marks::is_foreign(fd) {
                guarded((), || table::forget_number(fd));
            }
        }
        fd
    }
}

#[inline(never)]
fn closing(fd: c_int) -> Closing {
    guarded(Closing::NOTHING, || table::before_close(fd))
}

#[inline(never)]
fn closed(note: Closing) {
    guarded((), || table::closed(note));
}

cancellation_point! {
    fn close(fd: c_int) -> c_int {
        if marks::is_foreign(fd) {
            if push::is_internal(fd) {
                return fail(libc::EBADF);
            }
            return real::close(fd);
        }
        // A thread that is cancelled closes nothing: then it stays ours.
        real::cancellation_point();
        let note = closing(fd);
        let answer = real::close(fd);
        closed(note);
        answer
    }
}

cancellation_point! {
    fn __close(fd: c_int) -> c_int {
        close(fd)
    }
}

cancellation_point! {
    fn fclose(stream: *mut FILE) -> c_int {
        // A stream without a descriptor sets errno, which a success must not.
        let before = errno::get();
        let fd = libc::fileno(stream);
        errno::set(before);
        if marks::is_foreign(fd) {
            return real::fclose(stream);
        }
        let note = closing(fd);
        let answer = real::fclose(stream);
        closed(note);
        answer
    }
}

/// Closes, one by one, what is ours in a range: each may have to leave.
fn close_ours(first: c_int, last: c_int) {
    let ours: Vec<c_int> = marks::marked(first, last).collect();
    for fd in ours {
        let note = table::before_close(fd);
        let words = [flexcast_runtime::kernel::raw::int(fd), 0, 0, 0, 0, 0];
        // SAFETY: the program closes it with this very call.
        let _ = unsafe { flexcast_runtime::kernel::raw::call(libc::SYS_close, words) };
        table::closed(note);
    }
}

fn number(fd: c_uint) -> c_int {
    c_int::try_from(fd).unwrap_or(c_int::MAX)
}

redhook::hook! {
    unsafe fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int => close_a_range {
        // Only marking close-on-exec closes nothing now, and in a table of its own this
        // thread closes nothing of the others'.
        let closes = flags.cast_unsigned()
            & (libc::CLOSE_RANGE_CLOEXEC | libc::CLOSE_RANGE_UNSHARE)
            == 0;
        if closes && first <= last && crate::life::same_process() {
            guarded((), || close_ours(number(first), number(last)));
        }
        real::close_range(first, last, flags)
    }
}

redhook::hook! {
    unsafe fn closefrom(first: c_int) -> () => close_from {
        if crate::life::same_process() {
            guarded((), || close_ours(first, c_int::MAX));
        }
        real::closefrom(first);
    }
}

redhook::hook! {
    unsafe fn dup(fd: c_int) -> c_int => duplicate {
        let to = real::dup(fd);
        if to >= 0 && !(marks::is_foreign(fd) && marks::is_foreign(to)) {
            guarded((), || table::duplicated(fd, to));
        }
        to
    }
}

/// Duplicates over a number, of which one or both are marked.
unsafe fn duplicate_over(fd: c_int, to: c_int, real: impl FnOnce() -> c_int) -> c_int {
    let replaces = fd != to && flexcast_runtime::kernel::sockopt::is_live(fd);
    let note = if replaces {
        closing(to)
    } else {
        Closing::NOTHING
    };
    let answer = real();
    guarded((), || {
        if answer < 0 {
            table::still_open(to, note);
        } else if replaces {
            table::closed(note);
            table::duplicated(fd, to);
        }
    });
    answer
}

redhook::hook! {
    unsafe fn dup2(fd: c_int, to: c_int) -> c_int => duplicate_to {
        if marks::is_foreign(fd) && marks::is_foreign(to) {
            return real::dup2(fd, to);
        }
        duplicate_over(fd, to, || real::dup2(fd, to))
    }
}

redhook::hook! {
    unsafe fn __dup2(fd: c_int, to: c_int) -> c_int => duplicate_to_alias {
        duplicate_to(fd, to)
    }
}

redhook::hook! {
    unsafe fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int => duplicate_to_with_flags {
        if marks::is_foreign(fd) && marks::is_foreign(to) {
            return real::dup3(fd, to, flags);
        }
        duplicate_over(fd, to, || real::dup3(fd, to, flags))
    }
}

#[inline(never)]
fn duplicated(fd: c_int, to: c_int) {
    guarded((), || table::duplicated(fd, to));
}

// A cancellation point for the sake of F_SETLKW. The third argument, where there is
// one, is a word whatever its type.
cancellation_point! {
    fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
        let answer = real::fcntl(fd, command, argument);
        note_fcntl(fd, command, answer);
        answer
    }
}

#[inline(always)]
fn note_fcntl(fd: c_int, command: c_int, answer: c_int) {
    let duplicates = command == libc::F_DUPFD || command == libc::F_DUPFD_CLOEXEC;
    if duplicates && answer >= 0 && !(marks::is_foreign(fd) && marks::is_foreign(answer)) {
        duplicated(fd, answer);
    }
}

cancellation_point! {
    fn __fcntl(fd: c_int, command: c_int, argument: usize) -> c_int {
        fcntl(fd, command, argument)
    }
}

cancellation_point! {
    fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
        let answer = real::fcntl64(fd, command, argument);
        note_fcntl(fd, command, answer);
        answer
    }
}
