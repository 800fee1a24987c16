//! What a socket was before it became ours, and goes on to look like.
//!
//! Promises: its number, its blocking mode, close-on-exec and its time limits are what
//! the program made them; options of TCP, and those that would share a port, are kept for
//! the program to read and reach no socket. Is not copied: buffer sizes (a queue of
//! datagrams is no window: the library chooses), registrations with epoll and
//! duplicates made before, which stay with the system's socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};

use flexcast_runtime::kernel::{sockopt, Family, UdpSocket};
use flexcast_runtime::{AcrossForks, Errno};

use super::Found;
use crate::endpoint::Endpoint;

const IPPROTO_MPTCP: i32 = 262;

/// Options of one int that are kept here.
const KEPT: [(i32, i32); 16] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_MAXSEG),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_SYNCNT),
    (libc::IPPROTO_TCP, libc::TCP_LINGER2),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
    (libc::IPPROTO_UDP, libc::UDP_GRO),
];

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Guise {
    /// It was of SOCK_STREAM.
    pub(super) is_stream: bool,
    /// What it is bound to, as the program sees it; none: the kernel knows.
    pub(super) local: OnceLock<SocketAddr>,
    /// What it is connected to.
    pub(super) peer: OnceLock<SocketAddr>,
    /// It has told the end of its stream, and asks no longer.
    pub(super) has_ended: AtomicBool,
    kept: AcrossForks<Mutex<BTreeMap<(i32, i32), u32>>>,
}

impl Guise {
    /// Of an accepted socket.
    pub(super) fn accepted(is_stream: bool, local: SocketAddr, peer: SocketAddr) -> Guise {
        Guise {
            local: local.into(),
            peer: peer.into(),
            ..Guise::new(is_stream, BTreeMap::new())
        }
    }

    fn of(raw: i32, is_stream: bool) -> Guise {
        let read = |(level, name)| sockopt::get_u32(raw, level, name).map(|is| ((level, name), is));
        let kept = KEPT.into_iter().map(read).filter_map(Result::ok).collect();
        Guise::new(is_stream, kept)
    }

    fn new(is_stream: bool, kept: BTreeMap<(i32, i32), u32>) -> Guise {
        Guise {
            is_stream,
            local: OnceLock::new(),
            peer: OnceLock::new(),
            has_ended: AtomicBool::new(false),
            kept: AcrossForks::new(Mutex::new(kept)),
        }
    }

    /// What an option was set to; none: it is the kernel's.
    pub(super) fn kept(&self, level: i32, name: i32) -> Option<u32> {
        let kept = self
            .kept
            .get()
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        KEPT.contains(&(level, name))
            .then(|| kept.get(&(level, name)).copied().unwrap_or(0))
    }

    /// Whether the option is kept here: then it is set.
    pub(super) fn keep(&self, level: i32, name: i32, value: u32) -> bool {
        let is_kept = KEPT.contains(&(level, name));
        if is_kept {
            let mut kept = self
                .kept
                .get()
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            kept.insert((level, name), value);
        }
        is_kept
    }
}

/// Whether `raw` may become ours: a socket of TCP (true) or UDP over IP that is connected
/// to nobody. None: it is none.
pub(super) fn is_stream(raw: i32) -> Option<bool> {
    let domain = sockopt::domain(raw).ok()?;
    if ![libc::AF_INET, libc::AF_INET6].contains(&domain) || sockopt::peer_addr(raw).is_ok() {
        return None;
    }
    match (
        sockopt::socket_type(raw).ok()?,
        sockopt::protocol(raw).ok()?,
    ) {
        (libc::SOCK_STREAM, libc::IPPROTO_TCP | IPPROTO_MPTCP) => Some(true),
        (libc::SOCK_DGRAM, libc::IPPROTO_UDP) => Some(false),
        _ => None,
    }
}

/// Puts a socket of ours in the place of `raw`, not bound yet.
pub(super) fn turn(raw: i32, is_stream: bool) -> Result<Found, Errno> {
    let family = match sockopt::domain(raw)? {
        libc::AF_INET => Family::V4,
        _ => Family::V6,
    };
    let cloexec = sockopt::closes_on_exec(raw)?;
    let socket = UdpSocket::for_program(family, sockopt::is_nonblocking(raw)?, cloexec)?;
    if family == Family::V6 {
        socket.set_v6_only(sockopt::is_v6_only(raw)?)?;
    }
    for name in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        let mut limit = [0; 16];
        let length = sockopt::get_bytes(raw, libc::SOL_SOCKET, name, &mut limit)?;
        sockopt::set_bytes(socket.as_raw(), libc::SOL_SOCKET, name, &limit[..length])?;
    }
    let guise = Guise::of(raw, is_stream);
    sockopt::replace(raw, socket.as_raw(), cloexec)?;
    drop(socket);
    super::add(raw, Endpoint::new(family), guise)
}
