//! Signals that end a command in order: read from a descriptor.
//!
//! Promises: nothing of a command is interrupted half-way. Is not for the program
//! that `run` starts: that one has all its signals to itself.

use flexcast_udp::process::{SignalFd, SIGINT, SIGTERM};
use flexcast_udp::Errno;

/// The line went dead; signal(7) gives it this number on every machine.
const SIGHUP: i32 = 1;

/// From now on SIGINT, SIGTERM and SIGHUP are read here; not SIGHUP where it was
/// ignored before (nohup). To be called before other threads are started, and after
/// what may block (opening a named pipe).
pub(crate) fn ends() -> Result<SignalFd, Errno> {
    match ignores_hangup(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()) {
        true => SignalFd::new(&[SIGINT, SIGTERM]),
        false => SignalFd::new(&[SIGINT, SIGTERM, SIGHUP]),
    }
}

/// By the line `SigIgn: <mask in hex>`. A blocked signal is queued although it is
/// ignored (sig_ignored in kernel/signal.c), so that it would be read.
fn ignores_hangup(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::ignores_hangup;

    #[test]
    fn an_ignored_hangup_is_seen() {
        assert!(ignores_hangup(
            "Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0"
        ));
        assert!(!ignores_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
