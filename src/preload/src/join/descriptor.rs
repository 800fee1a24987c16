//! Descriptors of the program's table, by raw calls: no hook is met.
//!
//! Promises: one system call each; errors are the kernel's. Is not what they are for
//! (`replacement`).

use std::net::SocketAddr;

use flexcast_runtime::kernel::{list_entries, raw, sockopt};
use flexcast_runtime::Errno;
use libc::{c_int, c_long};

use crate::name::{Family, Name};

fn call(number: c_long, fd: c_int, arguments: [usize; 3]) -> Result<usize, Errno> {
    let [a, b, c] = arguments;
    // SAFETY: callers below pass integers, or pointers to what lives through the call.
    unsafe { raw::call(number, [raw::int(fd), a, b, c, 0, 0]) }
}

fn number(answer: usize) -> c_int {
    c_int::try_from(answer).unwrap_or(-1)
}

/// A new UDP socket of `family`, close-on-exec.
pub(super) fn udp_socket(family: Family) -> Result<c_int, Errno> {
    let domain = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let kind = raw::int(libc::SOCK_DGRAM | libc::SOCK_CLOEXEC);
    let protocol = raw::int(libc::IPPROTO_UDP);
    call(libc::SYS_socket, domain, [kind, protocol, 0]).map(number)
}

/// Binds.
pub(super) fn bind(fd: c_int, at: SocketAddr, family: Family) -> Result<(), Errno> {
    let name = Name::new(at, family);
    let (pointer, length) = (name.as_ptr() as usize, name.length() as usize);
    call(libc::SYS_bind, fd, [pointer, length, 0]).map(drop)
}

/// Connects; a datagram socket's connect does not block.
pub(super) fn connect(fd: c_int, to: SocketAddr, family: Family) -> Result<(), Errno> {
    let name = Name::new(to, family);
    let (pointer, length) = (name.as_ptr() as usize, name.length() as usize);
    call(libc::SYS_connect, fd, [pointer, length, 0]).map(drop)
}

/// Undoes a connection; a port that the kernel had chosen is given back, too.
pub(super) fn disconnect(fd: c_int) -> Result<(), Errno> {
    let nowhere = [0_u8; 16]; // AF_UNSPEC
    let arguments = [nowhere.as_ptr() as usize, nowhere.len(), 0];
    call(libc::SYS_connect, fd, arguments).map(drop)
}

/// Shuts it down, one way or both.
pub(super) fn shutdown(fd: c_int, how: c_int) -> Result<(), Errno> {
    call(libc::SYS_shutdown, fd, [raw::int(how), 0, 0]).map(drop)
}

/// Closes one of our own.
pub(super) fn close(fd: c_int) {
    // Whatever it answers, the number is free.
    let _ = call(libc::SYS_close, fd, [0; 3]);
}

/// Puts what `fd` names under `to`, too, in place of what was there.
pub(super) fn duplicate_over(fd: c_int, to: c_int, flags: c_int) -> Result<(), Errno> {
    call(libc::SYS_dup3, fd, [raw::int(to), raw::int(flags), 0]).map(drop)
}

/// fcntl, for commands that take a number.
pub(super) fn control(fd: c_int, command: c_int, argument: c_int) -> Result<c_int, Errno> {
    let arguments = [raw::int(command), raw::int(argument), 0];
    call(libc::SYS_fcntl, fd, arguments).map(number)
}

/// fcntl, for F_GETOWN_EX and F_SETOWN_EX: who is signalled.
pub(super) fn owner(fd: c_int, command: c_int, owner: &mut [c_int; 2]) -> Result<(), Errno> {
    let pointer = owner.as_mut_ptr() as usize;
    call(libc::SYS_fcntl, fd, [raw::int(command), pointer, 0]).map(drop)
}

/// Numbers of this process's table that are open.
pub(super) fn open_numbers() -> Vec<c_int> {
    let names = list_entries("/proc/self/fd").unwrap_or_default();
    let read = |name: &Vec<u8>| std::str::from_utf8(name).ok()?.parse().ok();
    names.iter().filter_map(read).collect()
}

/// Those of `numbers` that name the socket with this cookie.
pub(super) fn naming(numbers: &[c_int], cookie: u64) -> Vec<c_int> {
    let numbers = numbers.iter().copied();
    let names = |number: &c_int| sockopt::cookie(*number) == Ok(cookie);
    numbers.filter(names).collect()
}
