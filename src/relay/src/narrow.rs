//! Narrow links below that nobody tells of: where ICMPv6 errors are filtered, the
//! stream vanishes although requests and statuses pass.
//!
//! Promises: a requester that can count, and reports for a second time, a second and
//! more after the first, that nothing came while it was sent the stream, gets fragments
//! that any IPv6 path carries (1280). Needless ones cost more than headers: this host
//! then drops what it forwards to the requester, until its sender has learnt the same. Is not for IPv4, whose routers fragment.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use flexcast_engine::Time;

/// The least that an IPv6 link takes (RFC 8200).
pub(crate) const LEAST_MTU: u32 = 1_280;
/// Datagrams that must have been sent in vain, and how far apart the reports are:
/// requests follow upon one another within milliseconds in a handover, and what was
/// sent meanwhile is on its way or not read yet.
const IN_VAIN: u64 = 3;
const APART: Duration = Duration::from_secs(1);
/// The kernel forgets what it learnt (10 minutes); and requesters remembered.
const TAUGHT: Duration = Duration::from_secs(300);
const REMEMBERED: usize = 4_096;

#[derive(Clone, Copy, Debug)]
struct Seen {
    since: Time,
    received: u64,
    sent: u64,
    taught: Option<Time>,
}

/// What requesters reported last.
#[derive(Debug, Default)]
pub(crate) struct Narrow {
    seen: HashMap<SocketAddr, Seen>,
}

impl Narrow {
    /// Takes note of a report of an IPv6 requester that can count: how many datagrams
    /// it received, while we have sent it `sent`. Whether the path to it is to be taken
    /// for narrow.
    pub(crate) fn suspects(
        &mut self,
        now: Time,
        from: SocketAddr,
        received: u64,
        sent: u64,
    ) -> bool {
        if self.seen.len() >= REMEMBERED && !self.seen.contains_key(&from) {
            self.seen.clear();
        }
        let fresh = Seen {
            since: now,
            received,
            sent,
            taught: None,
        };
        let seen = self.seen.entry(from).or_insert(fresh);
        if received != seen.received || sent < seen.sent {
            *seen = Seen {
                taught: seen.taught,
                ..fresh
            };
        }
        let lately = seen.taught.is_some_and(|at| now.since(at) < TAUGHT);
        if lately || now.since(seen.since) < APART || sent < seen.sent + IN_VAIN {
            return false;
        }
        seen.taught = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_standstill_under_a_stream_is_suspect_and_once_in_a_while() {
        let from: SocketAddr = "[fd00::2]:5000".parse().expect("an address");
        let mut narrow = Narrow::default();
        let mut note =
            |s: u64, received, sent| narrow.suspects(Time(s * 1_000_000), from, received, sent);
        assert!(!note(0, 0, 0), "nothing was sent");
        assert!(!note(10, 0, 2), "too little");
        assert!(note(20, 0, 3));
        assert!(!note(30, 0, 300), "it was done");
        assert!(!note(40, 250, 600), "it helped");
        assert!(!note(400, 500, 900), "it goes on");
        assert!(note(410, 500, 1_200), "the kernel has forgotten");
    }

    #[test]
    fn reports_that_follow_at_once_say_nothing() {
        let from: SocketAddr = "[fd00::2]:5000".parse().expect("an address");
        let mut narrow = Narrow::default();
        for ms in [0, 2, 40, 999] {
            assert!(!narrow.suspects(Time(ms * 1_000), from, 7, ms * 100));
        }
        assert!(narrow.suspects(Time(1_000_000), from, 7, 100_000));
    }

    #[test]
    fn a_flood_of_requesters_is_bounded() {
        let mut narrow = Narrow::default();
        for port in 1..=u16::MAX {
            let from = SocketAddr::from(([0xFD00, 0, 0, 0, 0, 0, 0, 2], port));
            assert!(!narrow.suspects(Time(1), from, 0, 0));
            assert!(narrow.seen.len() <= REMEMBERED);
        }
    }
}
