//! A fresh kernel socket under the numbers of another one.
//!
//! ```text
//!   number 5 ─┐                        number 5 ─┐
//!   number 7 ─┴─► old, bound to P  ──► number 7 ─┴─► fresh, bound elsewhere
//!   epoll ──────► old                  epoll ──────► fresh
//! ```
//! Promises: all of this process's numbers and epoll registrations are carried over,
//! and what the program has set; where it fails the old socket stays. What was
//! queued in the old one is gone. Is not for io_uring polls, threads that wait in the
//! old socket at this moment, and other processes' duplicates.

use std::net::SocketAddr;

use flexcast_runtime::kernel::{read_link, sockopt};
use flexcast_runtime::Errno;
use libc::c_int;

use super::shown_options::ShownOptions;
use super::{copied_options, descriptor, registrations};
use crate::socket::Socket;

/// Puts a fresh socket, bound to `at`, in the place of the one that `fd` names.
/// `options`: those that the fresh one is to have in the kernel.
pub(super) fn replace(
    socket: &Socket,
    fd: c_int,
    at: SocketAddr,
    options: Option<&ShownOptions>,
) -> Result<(), Errno> {
    let fresh = descriptor::udp_socket(socket.family())?;
    copied_options::copy_before_bind(fd, fresh);
    if let Some(options) = options {
        options.turn_on(fresh);
    }
    let outcome = descriptor::bind(fresh, at, socket.family()).and_then(|()| {
        copied_options::copy_after_bind(fd, fresh);
        put_in_place(socket, fd, fresh)
    });
    descriptor::close(fresh);
    outcome
}

fn put_in_place(socket: &Socket, fd: c_int, fresh: c_int) -> Result<(), Errno> {
    let cookie = sockopt::cookie(fresh)?;
    let open = descriptor::open_numbers();
    // The one that we know first: without /proc it is the only one.
    let mut numbers = descriptor::naming(&open, socket.cookie());
    numbers.retain(|number| *number != fd);
    numbers.insert(0, fd);
    let registered = inode_of(fd).map_or(Vec::new(), |inode| registrations::of(&open, inode));
    let registered = registrations::take_out(registered);
    socket.to_be_replaced_by(cookie);
    for (n, number) in numbers.iter().enumerate() {
        let outcome = duplicate(fresh, *number);
        if n == 0 && outcome.is_err() {
            registrations::enter(&registered, fd);
            socket.to_be_replaced_by(socket.cookie());
            return outcome;
        }
    }
    socket.replaced_by(cookie);
    registrations::enter(&registered, fresh);
    Ok(())
}

fn duplicate(fresh: c_int, number: c_int) -> Result<(), Errno> {
    let flags = descriptor::control(number, libc::F_GETFD, 0)?;
    let flags = match flags & libc::FD_CLOEXEC {
        0 => 0,
        _ => libc::O_CLOEXEC,
    };
    descriptor::duplicate_over(fresh, number, flags)
}

/// The inode by which /proc lists a socket.
fn inode_of(fd: c_int) -> Option<u64> {
    let link = read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
