//! One kernel socket of the program's that is ours, under all its numbers.
//!
//! Promises: knows the kernel socket by its cookie, which no other socket has; each
//! part has a lock of its own, held for moments only. Is not the roles themselves:
//! what they keep about a socket are `push`'s and `join`'s fields here.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::Mutex;

use flexcast_runtime::kernel::sockopt;
use libc::c_int;

use crate::join::Joining;
use crate::life::lock;
use crate::listen::Serving;
use crate::marks::Mark;
use crate::name::Family;
use crate::push::Pushing;

/// A socket in the table.
#[derive(Debug)]
pub(crate) struct Socket {
    cookie: AtomicU64,
    /// Of the kernel socket that is just being put in its place.
    coming: AtomicU64,
    family: Family,
    /// Numbers of this process that name it; only the table changes it.
    numbers: AtomicUsize,
    names: Mutex<Names>,
    /// Role *pushes*.
    pub(crate) pushing: Mutex<Pushing>,
    /// Roles *joins a group* and *calls*.
    pub(crate) joining: Mutex<Joining>,
    /// Role *listens*: a listening socket.
    pub(crate) serving: Mutex<Serving>,
    /// It listens, or was accepted.
    serves: AtomicBool,
}

/// What the naming calls answer instead of the kernel.
#[derive(Clone, Copy, Default, Debug)]
struct Names {
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

impl Socket {
    /// The socket behind `fd`; none where that is no UDP socket.
    pub(crate) fn of(fd: c_int) -> Option<Socket> {
        let family = Family::of_domain(sockopt::domain(fd).ok()?)?;
        let udp = sockopt::socket_type(fd) == Ok(libc::SOCK_DGRAM)
            && sockopt::protocol(fd) == Ok(libc::IPPROTO_UDP);
        udp.then_some(Socket {
            cookie: AtomicU64::new(sockopt::cookie(fd).ok()?),
            coming: AtomicU64::new(0),
            family,
            numbers: AtomicUsize::new(0),
            names: Mutex::default(),
            pushing: Mutex::default(),
            joining: Mutex::default(),
            serving: Mutex::default(),
            serves: AtomicBool::new(false),
        })
    }

    /// The same socket in a forked child, which shares nothing with the parent's
    /// threads; none where one of those held a part of it at the fork.
    pub(crate) fn inherited(&self) -> Option<Socket> {
        let names = *self.names.try_lock().ok()?;
        let pushing = self.pushing.try_lock().ok()?.inherited();
        let joining = self.joining.try_lock().ok()?.inherited();
        let serving = self.serving.try_lock().ok()?.inherited();
        Some(Socket {
            cookie: AtomicU64::new(self.cookie()),
            coming: AtomicU64::new(0),
            family: self.family,
            numbers: AtomicUsize::new(0),
            names: Mutex::new(names),
            pushing: Mutex::new(pushing),
            joining: Mutex::new(joining),
            serving: Mutex::new(serving),
            serves: AtomicBool::new(false),
        })
    }

    /// It listens, or was accepted: numbers are to be marked accordingly.
    pub(crate) fn serve(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    /// How its numbers are marked.
    pub(crate) fn mark(&self) -> Mark {
        match self.serves.load(Ordering::Relaxed) {
            true => Mark::Serving,
            false => Mark::Ours,
        }
    }

    /// Whether `fd` is this very socket.
    pub(crate) fn is(&self, fd: c_int) -> bool {
        sockopt::cookie(fd).is_ok_and(|cookie| {
            cookie == self.cookie() || cookie == self.coming.load(Ordering::Relaxed)
        })
    }

    /// `SO_COOKIE`.
    pub(crate) fn cookie(&self) -> u64 {
        self.cookie.load(Ordering::Relaxed)
    }

    /// Another kernel socket is about to take its place: either is this one.
    pub(crate) fn to_be_replaced_by(&self, cookie: u64) {
        self.coming.store(cookie, Ordering::Relaxed);
    }

    /// Another kernel socket has taken its place under the same numbers.
    pub(crate) fn replaced_by(&self, cookie: u64) {
        self.cookie.store(cookie, Ordering::Relaxed);
    }

    /// The domain it was made with.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// How many numbers it has, after one came or went.
    pub(crate) fn count_number(&self, more: bool) -> usize {
        if more {
            self.numbers.fetch_add(1, Ordering::Relaxed) + 1
        } else {
            self.numbers
                .fetch_sub(1, Ordering::Relaxed)
                .saturating_sub(1)
        }
    }

    /// What getsockname shows instead of the kernel's answer. An unspecified address
    /// or port 0 in it stands for the kernel's.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        lock(&self.names).local
    }

    /// Sets what getsockname shows.
    pub(crate) fn show_local(&self, name: Option<SocketAddr>) {
        lock(&self.names).local = name;
    }

    /// The address that the program connected it to, where the kernel does not know.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        lock(&self.names).peer
    }

    /// The program connected it, without the kernel; none undoes.
    pub(crate) fn set_peer(&self, peer: Option<SocketAddr>) {
        lock(&self.names).peer = peer;
    }
}
