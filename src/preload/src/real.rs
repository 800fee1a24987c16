//! The real functions: the next ones of their names, found once by the constructor.
//!
//! Promises: before the constructor ran a call goes to the kernel by number. A call
//! costs one load and a jump, and has no landing pad. Is not where anything is
//! decided.

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use flexcast_runtime::kernel::raw;
use libc::{
    c_char, c_int, c_uint, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, FILE,
};

use crate::errno;

/// An argument as the kernel takes it.
trait Word {
    fn word(self) -> usize;
}

impl Word for c_int {
    fn word(self) -> usize {
        raw::int(self)
    }
}

impl Word for c_uint {
    fn word(self) -> usize {
        self as usize
    }
}

impl Word for usize {
    fn word(self) -> usize {
        self
    }
}

impl<T> Word for *const T {
    fn word(self) -> usize {
        self as usize
    }
}

impl<T> Word for *mut T {
    fn word(self) -> usize {
        self as usize
    }
}

/// What a function of the C library gives back.
trait Answer {
    fn answer(value: isize) -> Self;
}

impl Answer for c_int {
    fn answer(value: isize) -> c_int {
        c_int::try_from(value).unwrap_or(-1)
    }
}

impl Answer for isize {
    fn answer(value: isize) -> isize {
        value
    }
}

/// Makes the system call itself, with the C library's manners.
#[cold]
#[inline(never)]
unsafe fn by_number<A: Answer>(number: libc::c_long, arguments: &[usize]) -> A {
    let mut words = [0; 6];
    let count = arguments.len().min(6);
    words[..count].copy_from_slice(&arguments[..count]);
    match raw::call(number, words) {
        Ok(value) => A::answer(value.cast_signed()),
        Err(error) => {
            errno::set(error.0);
            A::answer(-1)
        }
    }
}

macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $answer:ty = $number:expr;)*) => {
        mod found {
            use super::{c_void, AtomicPtr};
            $(
                #[allow(non_upper_case_globals)]
                pub(super) static $name: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            )*
        }

        $(
            #[inline(always)]
            pub(crate) unsafe fn $name($($argument: $kind),*) -> $answer {
                let found = found::$name.load(Ordering::Relaxed);
                if found.is_null() {
                    return by_number($number, &[$($argument.word()),*]);
                }
                type Real = unsafe extern "C-unwind" fn($($kind),*) -> $answer;
                let real = std::mem::transmute::<*mut c_void, Real>(found);
                real($($argument),*)
            }
        )*

        /// Finds every function; what is missing stays with its system call.
        pub(crate) fn resolve() {
            $(find(&found::$name, concat!(stringify!($name), "\0"));)*
        }
    };
}

fn find(at: &AtomicPtr<c_void>, name: &'static str) {
    // SAFETY: the name ends in NUL and lives for ever; RTLD_NEXT is asked of this object.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast::<c_char>()) };
    at.store(found, Ordering::Relaxed);
}

/// No system call has this number: the kernel answers ENOSYS.
const NONE: libc::c_long = -1;

functions! {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = libc::SYS_socket;
    fn listen(fd: c_int, backlog: c_int) -> c_int = libc::SYS_listen;
    fn accept(fd: c_int, name: *mut sockaddr, length: *mut socklen_t) -> c_int = libc::SYS_accept;
    fn accept4(fd: c_int, name: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int = libc::SYS_accept4;
    fn bind(fd: c_int, name: *const sockaddr, length: socklen_t) -> c_int = libc::SYS_bind;
    fn connect(fd: c_int, name: *const sockaddr, length: socklen_t) -> c_int = libc::SYS_connect;
    fn getsockname(fd: c_int, name: *mut sockaddr, length: *mut socklen_t) -> c_int = libc::SYS_getsockname;
    fn getpeername(fd: c_int, name: *mut sockaddr, length: *mut socklen_t) -> c_int = libc::SYS_getpeername;
    fn shutdown(fd: c_int, how: c_int) -> c_int = libc::SYS_shutdown;
    fn setsockopt(fd: c_int, level: c_int, option: c_int, value: *const c_void, length: socklen_t) -> c_int = libc::SYS_setsockopt;
    fn getsockopt(fd: c_int, level: c_int, option: c_int, value: *mut c_void, length: *mut socklen_t) -> c_int = libc::SYS_getsockopt;

    fn close(fd: c_int) -> c_int = libc::SYS_close;
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = libc::SYS_close_range;
    fn fclose(stream: *mut FILE) -> c_int = NONE;
    fn dup(fd: c_int) -> c_int = libc::SYS_dup;
    fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int = libc::SYS_dup3;
    fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int = libc::SYS_fcntl;
    fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int = libc::SYS_fcntl;

    fn send(fd: c_int, data: *const c_void, length: size_t, flags: c_int) -> ssize_t = libc::SYS_sendto;
    fn sendto(fd: c_int, data: *const c_void, length: size_t, flags: c_int, name: *const sockaddr, name_length: socklen_t) -> ssize_t = libc::SYS_sendto;
    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t = libc::SYS_sendmsg;
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int = libc::SYS_sendmmsg;
    fn write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t = libc::SYS_write;
    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t = libc::SYS_writev;

    fn recv(fd: c_int, data: *mut c_void, length: size_t, flags: c_int) -> ssize_t = libc::SYS_recvfrom;
    fn read(fd: c_int, data: *mut c_void, length: size_t) -> ssize_t = libc::SYS_read;
    fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t = libc::SYS_readv;
    fn recvfrom(fd: c_int, data: *mut c_void, length: size_t, flags: c_int, name: *mut sockaddr, name_length: *mut socklen_t) -> ssize_t = libc::SYS_recvfrom;
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t = libc::SYS_recvmsg;
    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, limit: *mut libc::timespec) -> c_int = libc::SYS_recvmmsg;
}

/// dup2, which has no number of its own everywhere: dup3 but for equal numbers.
pub(crate) unsafe fn dup2(fd: c_int, to: c_int) -> c_int {
    if fd == to {
        return if fcntl(fd, libc::F_GETFD, 0) < 0 {
            -1
        } else {
            to
        };
    }
    dup3(fd, to, 0)
}

/// Closes what is numbered `first` and above. The next function of this name is
/// glibc's since 2.34; without it, close_range is what it is made of.
pub(crate) unsafe fn closefrom(first: c_int) {
    let first = c_uint::try_from(first).unwrap_or(0);
    close_range(first, c_uint::MAX, 0);
}

/// A cancellation point and nothing else.
#[inline(always)]
pub(crate) unsafe fn cancellation_point() {
    extern "C-unwind" {
        fn pthread_testcancel();
    }
    pthread_testcancel();
}
