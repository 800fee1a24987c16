//! Requesters that our answers do not reach: pairs (address and port, S) that go
//! on asking without a valid cookie.
//!
//! Promises: at most 16 384 pairs are remembered, each for one to two minutes;
//! a flood of spoofed pairs forgets honest ones, which are counted anew. Is not
//! the decision for those that have an entry (`engine`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_engine::Time;

const LIMIT: usize = 8_192;
const SPAN: Duration = Duration::from_secs(60);
/// Requests without a valid cookie after which a pair is let through.
const PATIENCE: u8 = 4;

/// Requests without a valid cookie, by pair; two generations, the older of which
/// is dropped every minute.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    young: HashMap<(SocketAddr, IpAddr), u8>,
    old: HashMap<(SocketAddr, IpAddr), u8>,
    turned: Time,
}

impl Strangers {
    /// Counts one more; whether the pair is to be let through now.
    pub(crate) fn count(&mut self, now: Time, requester: SocketAddr, sender: IpAddr) -> bool {
        if self.young.len() >= LIMIT || now.since(self.turned) >= SPAN {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        let pair = (requester, sender);
        let before = self.old.get(&pair).copied().unwrap_or(0);
        let count = self.young.entry(pair).or_insert(before);
        *count = count.saturating_add(1);
        if *count < PATIENCE {
            return false;
        }
        self.forget(requester, sender);
        true
    }

    /// It showed a valid cookie after all.
    pub(crate) fn forget(&mut self, requester: SocketAddr, sender: IpAddr) {
        if self.young.is_empty() && self.old.is_empty() {
            return;
        }
        self.young.remove(&(requester, sender));
        self.old.remove(&(requester, sender));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(port: u16) -> (SocketAddr, IpAddr) {
        (([10, 0, 0, 1], port).into(), [10, 9, 9, 9].into())
    }

    #[test]
    fn the_fourth_request_in_a_row_is_let_through() {
        let mut strangers = Strangers::default();
        let (a, s) = pair(1);
        let counts = |strangers: &mut Strangers| {
            (0..5)
                .map(|_| strangers.count(Time(1), a, s))
                .collect::<Vec<_>>()
        };
        assert_eq!(counts(&mut strangers), [false, false, false, true, false]);
        strangers.forget(a, s);
        assert_eq!(counts(&mut strangers), [false, false, false, true, false]);
    }

    #[test]
    fn a_flood_is_bounded_and_a_pair_is_forgotten_after_two_minutes() {
        let mut strangers = Strangers::default();
        let (a, s) = pair(1);
        assert!(!(0..3).any(|_| strangers.count(Time(1), a, s)));
        for n in 0..100_000_u32 {
            let other = SocketAddr::new(IpAddr::from(n.to_be_bytes()), 5);
            assert!(!strangers.count(Time(1), other, s));
            assert!(strangers.young.len() + strangers.old.len() <= 2 * LIMIT);
        }
        assert!(!(0..3).any(|_| strangers.count(Time(1), a, s)));
        for minutes in 1..=2 {
            strangers.count(Time(minutes * 60_000_000 + 1), pair(2).0, s);
        }
        assert!(
            !strangers.count(Time(120_000_002), a, s),
            "three were forgotten"
        );
    }
}
