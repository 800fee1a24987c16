//! Where datagrams seem to come from, and what a program is shown instead.
//!
//! Promises: looking up takes no lock (a receive call may be made in a signal
//! handler), and is never wrong while the background thread rewrites the table.
//! Is not for several writers.
//!
//! A sequence lock: the version is odd while the table is written.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::{fence, AtomicU64, AtomicUsize, Ordering};

/// Twice as many as a socket has channels: while its path changes each has two.
const ROOM: usize = 2 * super::MAX_CHANNELS;

/// One line of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    /// Where the stream's datagrams come from.
    pub(super) from: SocketAddr,
    /// What the program is shown.
    pub(super) as_from: SocketAddr,
}

/// `from` and `as_from`, each as 16 address bytes (IPv4 as v4-mapped), and ports.
#[derive(Default, Debug)]
struct Line {
    from: [AtomicU64; 2],
    as_from: [AtomicU64; 2],
    ports: AtomicU64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Sources {
    version: AtomicU64,
    used: AtomicUsize,
    lines: [Line; ROOM],
}

impl Sources {
    pub(super) fn new() -> Sources {
        Sources {
            version: AtomicU64::new(0),
            used: AtomicUsize::new(0),
            lines: std::array::from_fn(|_| Line::default()),
        }
    }

    /// Replaces the table; for the background thread alone.
    pub(super) fn replace(&self, shown: &[Shown]) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (line, shown) in self.lines.iter().zip(shown) {
            store(&line.from, shown.from.ip());
            store(&line.as_from, shown.as_from.ip());
            let ports = u64::from(shown.from.port()) << 16 | u64::from(shown.as_from.port());
            line.ports.store(ports, Ordering::Relaxed);
        }
        self.used.store(shown.len().min(ROOM), Ordering::Relaxed);
        self.version.store(version + 2, Ordering::Release);
    }

    /// What a program is shown for a datagram from `from`; `from` itself where it is
    /// none of ours. A v4-mapped address is answered by a v4-mapped one.
    pub(super) fn show(&self, from: SocketAddr) -> SocketAddr {
        loop {
            let before = self.version.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let shown = self.look_up(from);
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == before {
                    return shown.map_or(from, |shown| in_form_of(from, shown));
                }
            }
            std::thread::yield_now();
        }
    }

    fn look_up(&self, from: SocketAddr) -> Option<SocketAddr> {
        let wanted = words(from.ip());
        let used = self.used.load(Ordering::Relaxed).min(ROOM);
        for line in &self.lines[..used] {
            let ports = line.ports.load(Ordering::Relaxed);
            if low_port(ports >> 16) != from.port() || load(&line.from) != wanted {
                continue;
            }
            let [high, low] = load(&line.as_from);
            let address = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
            let address = IpAddr::V6(address).to_canonical();
            return Some(SocketAddr::new(address, low_port(ports)));
        }
        None
    }
}

fn low_port(ports: u64) -> u16 {
    u16::try_from(ports & 0xFFFF).unwrap_or(0)
}

fn words(address: IpAddr) -> [u64; 2] {
    let whole = match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    [whole >> 64, whole & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(0))
}

fn store(to: &[AtomicU64; 2], address: IpAddr) {
    for (to, word) in to.iter().zip(words(address)) {
        to.store(word, Ordering::Relaxed);
    }
}

fn load(from: &[AtomicU64; 2]) -> [u64; 2] {
    [0, 1].map(|at| from[at].load(Ordering::Relaxed))
}

/// `shown` as a socket shows it that showed `like`: mapped, and with its scope.
fn in_form_of(like: SocketAddr, shown: SocketAddr) -> SocketAddr {
    let SocketAddr::V6(like) = like else {
        return shown;
    };
    match shown.ip() {
        IpAddr::V4(v4) if like.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), shown.port())
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, shown.port(), 0, like.scope_id()).into()
        }
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::sync::Arc;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn known_sources_are_shown_as_told_and_others_as_they_are() {
        let sources = Sources::new();
        let via = at("10.9.9.9:7450");
        assert_eq!(sources.show(via), via);
        sources.replace(&[
            Shown {
                from: at("10.0.0.5:7450"),
                as_from: at("10.0.0.5:40000"),
            },
            Shown {
                from: via,
                as_from: at("10.0.0.6:5"),
            },
            Shown {
                from: at("[fe80::1]:7450"),
                as_from: at("[fe80::1]:9"),
            },
        ]);
        for (from, shown) in [
            ("10.0.0.5:7450", "10.0.0.5:40000"),
            ("10.0.0.5:7451", "10.0.0.5:7451"),
            ("10.0.0.7:7450", "10.0.0.7:7450"),
            ("10.9.9.9:7450", "10.0.0.6:5"),
            ("[::ffff:10.9.9.9]:7450", "[::ffff:10.0.0.6]:5"),
            ("[fe80::1%3]:7450", "[fe80::1%3]:9"),
        ] {
            assert_eq!(sources.show(at(from)), at(shown), "{from}");
        }
        sources.replace(&[]);
        assert_eq!(sources.show(via), via);
    }

    #[test]
    fn a_look_up_while_the_table_is_rewritten_sees_one_table_or_the_other() {
        let sources = Arc::new(Sources::new());
        let from = at("10.0.0.5:7450");
        let shown = [at("1.1.1.1:1"), at("[2222:2222::2222]:2222")];
        let line = move |n: usize| Shown {
            from,
            as_from: shown[n],
        };
        sources.replace(&[line(0)]);
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, ended) = (sources.clone(), over.clone());
        let writer = std::thread::spawn(move || {
            let mut n = 0;
            while !ended.load(Ordering::Relaxed) {
                n += 1;
                theirs.replace(&[line(n % 2)]);
                std::thread::yield_now();
            }
        });
        let mut changes = 0;
        let mut last = sources.show(from);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while changes < 100 {
            let answer = sources.show(from);
            assert!(shown.contains(&answer), "{answer}");
            changes += u32::from(answer != last);
            last = answer;
            assert!(std::time::Instant::now() < deadline, "{changes} changes");
        }
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
}
