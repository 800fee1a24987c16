//! The application's socket D: which one it is, how it is bound, and by which
//! numbers of the application's table it may be reached.
//!
//! Promises: numbers are hints, the cookie decides (numbers get reused); the numbers
//! take no lock, for a signal handler may close. Is not a copy of D: none is kept.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, Ordering};

use flexcast_udp::{process, sockopt, Errno, Family};

/// A socket in this boot of this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    /// `SO_COOKIE`.
    pub(super) cookie: u64,
    /// Its inode, by which /proc lists it; none without /proc.
    pub(super) inode: Option<u64>,
}

impl Identity {
    fn of(raw: i32) -> Result<Identity, Errno> {
        let link = process::read_link(format!("/proc/thread-self/fd/{raw}"));
        Ok(Identity {
            cookie: sockopt::cookie(raw)?,
            inode: link.ok().and_then(|link| socket_inode(&link)),
        })
    }

    /// Whether `raw`, in this thread's table, is this socket.
    pub(super) fn is(&self, raw: i32) -> bool {
        sockopt::cookie(raw) == Ok(self.cookie)
    }

    /// The numbers under which the table that `directory` lists (`/proc/…/fd`) may
    /// have this socket.
    pub(super) fn numbers_in(&self, directory: &str) -> Vec<i32> {
        let Some(inode) = self.inode else {
            return Vec::new();
        };
        let names = process::list_entries(directory).unwrap_or_default();
        let number = |name: Vec<u8>| std::str::from_utf8(&name).ok()?.parse::<i32>().ok();
        let numbers = names.into_iter().filter_map(number);
        numbers
            .filter(|number| {
                let link = process::read_link(format!("{directory}/{number}"));
                link.ok().and_then(|link| socket_inode(&link)) == Some(inode)
            })
            .collect()
    }
}

/// The inode in `socket:[12345]`.
fn socket_inode(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// How D is bound: what C needs to stand beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bound {
    pub(super) identity: Identity,
    pub(super) family: Family,
    /// As the kernel has it: a v4-mapped address stays mapped.
    pub(super) local: SocketAddr,
    pub(super) v6_only: bool,
    /// `SO_REUSEADDR`: who could bind its port beside it still can.
    pub(super) reuse_address: bool,
    /// The interface that it is bound to; empty for none.
    pub(super) device: Vec<u8>,
}

impl Bound {
    /// D as it stands in the caller's table.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`; `EPROTOTYPE` for what is no UDP socket, `EAFNOSUPPORT` for
    /// other families, `EINVAL` where it is not bound, `EISCONN` where it is
    /// connected (it would not be in a group with C).
    pub(super) fn of(raw: i32) -> Result<Bound, Errno> {
        let family = Family::V4;
        let family = match sockopt::domain(raw)? {
            domain if domain == family.domain() => family,
            domain if domain == Family::V6.domain() => Family::V6,
            _ => return Err(Errno::EAFNOSUPPORT),
        };
        if !sockopt::is_udp(raw)? {
            return Err(Errno::EPROTOTYPE);
        }
        let local = sockopt::local_addr(raw)?;
        if local.port() == 0 {
            return Err(Errno::EINVAL);
        }
        if sockopt::peer_addr(raw).is_ok() {
            return Err(Errno::EISCONN);
        }
        Ok(Bound {
            identity: Identity::of(raw)?,
            family,
            local,
            reuse_address: sockopt::reuse_address(raw)?,
            v6_only: family == Family::V6 && sockopt::is_v6_only(raw)?,
            device: sockopt::bound_device(raw)?,
        })
    }

    /// Whether datagrams of `address` can reach it.
    pub(super) fn hears(&self, address: SocketAddr) -> bool {
        let family = Family::of(address.ip());
        let local = self.local.ip();
        if !local.is_unspecified() {
            return family == Family::of(local);
        }
        match family {
            Family::V4 => !self.v6_only,
            Family::V6 => self.family == Family::V6,
        }
    }
}

/// The numbers by which the application's table names D.
#[derive(Debug)]
pub(super) struct Numbers([AtomicI32; 16]);

const NONE: i32 = -1;

impl Numbers {
    pub(super) fn new(first: i32) -> Numbers {
        let numbers = Numbers(std::array::from_fn(|_| AtomicI32::new(NONE)));
        numbers.add(first);
        numbers
    }

    /// One more. Above 16 they are found by a scan, when no other is left.
    pub(super) fn add(&self, raw: i32) {
        if raw < 0 || self.known().any(|known| known == raw) {
            return;
        }
        let _ = self.0.iter().find(|slot| {
            slot.compare_exchange(NONE, raw, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        });
    }

    /// One fewer.
    pub(super) fn remove(&self, raw: i32) {
        for slot in &self.0 {
            // Another thread may have been faster: as good.
            let _ = slot.compare_exchange(raw, NONE, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn known(&self) -> impl Iterator<Item = i32> + '_ {
        let numbers = self.0.iter().map(|slot| slot.load(Ordering::Relaxed));
        numbers.filter(|number| *number != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flexcast_udp::UdpSocket;

    #[test]
    fn numbers_come_and_go() {
        let numbers = Numbers::new(7);
        numbers.add(9);
        numbers.add(9);
        numbers.add(-3);
        assert_eq!(numbers.known().collect::<Vec<_>>(), [7, 9]);
        numbers.remove(7);
        numbers.remove(8);
        numbers.add(3);
        assert_eq!(numbers.known().collect::<Vec<_>>(), [3, 9]);
        for n in 100..200 {
            numbers.add(n);
        }
        assert_eq!(numbers.known().count(), 16);
    }

    #[test]
    fn a_socket_is_found_under_all_its_numbers_and_no_other() {
        let socket = UdpSocket::new(Family::V4).unwrap();
        let other = UdpSocket::new(Family::V4).unwrap();
        let twin = socket.fd.dup_above(0).unwrap();
        let identity = Identity::of(socket.as_raw()).unwrap();
        assert!(identity.is(twin.as_raw()) && !identity.is(other.as_raw()));
        let mut found = identity.numbers_in("/proc/thread-self/fd");
        found.sort_unstable();
        assert_eq!(found, [socket.as_raw(), twin.as_raw()]);
    }

    #[test]
    fn what_cannot_become_ours_is_refused_by_name() {
        let any = SocketAddr::new(Family::V4.loopback(), 0);
        let socket = UdpSocket::new(Family::V4).unwrap();
        let raw = socket.as_raw();
        assert_eq!(Bound::of(raw), Err(Errno::EINVAL));
        socket.bind(any).unwrap();
        assert!(Bound::of(raw).is_ok());
        let peer = UdpSocket::new(Family::V4).unwrap();
        peer.bind(any).unwrap();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        assert_eq!(Bound::of(raw), Err(Errno::EISCONN));
        assert_eq!(Bound::of(-1), Err(Errno::EBADF));
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        use std::os::fd::AsRawFd as _;
        assert_eq!(Bound::of(file.as_raw_fd()), Err(Errno::ENOTSOCK));
        let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(Bound::of(stream.as_raw_fd()), Err(Errno::EPROTOTYPE));
    }
}
