//! Signals that end a command in order: read from a descriptor.
//!
//! Promises: nothing of a command is interrupted half-way. Is not for the program
//! that `run` starts: that one has all its signals to itself.

use flexcast_udp::process::{SignalFd, SIGINT, SIGTERM};
use flexcast_udp::Errno;

/// The line went dead; signal(7) gives it this number on every machine.
const SIGHUP: i32 = 1;

/// From now on SIGINT, SIGTERM and SIGHUP are read here. To be called before other
/// threads are started, and after what may block (opening a named pipe).
pub(crate) fn ends() -> Result<SignalFd, Errno> {
    SignalFd::new(&[SIGINT, SIGTERM, SIGHUP])
}
