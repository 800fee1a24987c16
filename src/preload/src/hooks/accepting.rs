//! Those who ask: listen, accept, accept4.
//!
//! Promises: accept is a cancellation point, and waits in the kernel, on the program's
//! own socket, for a bell: as that socket's mode and time limit say. Is not what
//! becomes of the channel (`listen`).

use libc::{c_int, c_void, sockaddr, socklen_t};

use crate::guard::guarded;
use crate::hook::{cancellation_point, fail, Verdict};
use crate::name::Name;
use crate::{listen as role, marks, real, table};

redhook::hook! {
    unsafe fn listen(fd: c_int, backlog: c_int) -> c_int => listen_socket {
        if marks::is_foreign(fd) {
            return real::listen(fd, backlog);
        }
        match guarded(Verdict::Kernel, || role::listen(fd, backlog)) {
            Verdict::Done(_) => 0,
            Verdict::Fail(number) => fail(number),
            _ => real::listen(fd, backlog),
        }
    }
}

/// One look; the peer's name is given where it is wanted. A signal's handler that
/// interrupts our work finds nobody waiting.
#[inline(never)]
unsafe fn accepting(
    fd: c_int,
    name: *mut sockaddr,
    length: *mut socklen_t,
    flags: c_int,
) -> Verdict {
    guarded(Verdict::Fail(libc::EAGAIN), || {
        let verdict = role::accept(fd, flags);
        if let (Verdict::Done(accepted), false) = (verdict, name.is_null()) {
            let accepted = c_int::try_from(accepted).unwrap_or(-1);
            let peer = table::find(accepted).and_then(|s| Some((s.peer()?, s.family())));
            if let Some((peer, family)) = peer {
                Name::new(peer, family).give(name, length);
            }
        }
        verdict
    })
}

/// Waits for a bell, which stays where it is: who looks next takes it. 1: it came, 0:
/// the socket is shut down.
unsafe fn wait(fd: c_int) -> isize {
    let mut bell = 0_u64;
    real::recv(fd, (&raw mut bell).cast::<c_void>(), 8, libc::MSG_PEEK)
}

cancellation_point! {
    fn accept4(fd: c_int, name: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
        if marks::is_foreign(fd) {
            return real::accept4(fd, name, length, flags);
        }
        if marks::is_serving(fd) && !name.is_null() && length.is_null() {
            return fail(libc::EFAULT);
        }
        loop {
            real::cancellation_point();
            match accepting(fd, name, length, flags) {
                Verdict::Done(accepted) => return c_int::try_from(accepted).unwrap_or(-1),
                Verdict::Fail(number) => return fail(number),
                Verdict::Again => match wait(fd) {
                    0 => return fail(libc::EINVAL),
                    failed if failed < 0 => return -1,
                    _ => {}
                },
                _ => return real::accept4(fd, name, length, flags),
            }
        }
    }
}

cancellation_point! {
    fn accept(fd: c_int, name: *mut sockaddr, length: *mut socklen_t) -> c_int {
        if marks::is_foreign(fd) {
            return real::accept(fd, name, length);
        }
        accept4(fd, name, length, 0)
    }
}
