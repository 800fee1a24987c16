//! The role *joins a group*: what the rooms around it ask.
//!
//! ```text
//!   naming     bind, connect: is this a receiving socket's?
//!   lifecycle  a number came, a number went, the kernel closed it
//!   life       forked, ended
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use libc::c_int;

use crate::hook::Verdict;
use crate::socket::Socket;

/// What this role keeps about a socket.
#[derive(Debug, Default)]
pub(crate) struct Joining {}

/// Before the kernel binds a candidate or one of ours; none: nothing to say.
pub(crate) fn bind(_fd: c_int, _address: SocketAddr) -> Option<Verdict> {
    None
}

/// The kernel has bound a candidate or one of ours.
pub(crate) fn bound(_fd: c_int) {}

/// The program connects one of ours, or undoes that (none); none: no receiving socket.
pub(crate) fn connect(_socket: &Arc<Socket>, _address: Option<SocketAddr>) -> Option<Verdict> {
    None
}

/// The program shuts one of ours down; none: no receiving socket.
pub(crate) fn shutdown(_socket: &Arc<Socket>, _how: c_int) -> Option<Verdict> {
    None
}

/// `fd` names the socket from now on, too.
pub(crate) fn number_added(_socket: &Arc<Socket>, _fd: c_int) {}

/// `fd` is about to name it no longer.
pub(crate) fn number_removed(_socket: &Arc<Socket>, _fd: c_int) {}

/// The last number that we know was closed in the kernel.
pub(crate) fn closed(_socket: &Arc<Socket>) {}

/// In a forked child: everything of the parent's is left alone.
pub(crate) fn forget() {}

/// The process ends.
pub(crate) fn leave_all() {}
