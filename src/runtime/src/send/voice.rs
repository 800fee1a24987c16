//! Sockets to send from FP with, that receive nothing.
//!
//! Bound to FP with `SO_REUSEPORT` on an address that no host has: 192.0.2.1 (RFC
//! 5737) and 100::1 (RFC 6666), by `IP_FREEBIND`, which needs no privilege. Tried: it
//! works with loopback down and without any route, where connecting ANY:FP to a black
//! hole does not (ENETUNREACH); it stays out of the group of those that receive on
//! ANY:FP; it sends anywhere, with any local source by PKTINFO; ICMP errors about what
//! it sent reach the receiving socket, not this one.
//!
//! ```text
//! F       one a family in the application's descriptor table, made at the first use
//! Voice   the same in a background thread's private table, for control
//! ```
//! Promises: F's number is as high as the descriptor table goes without growing,
//! close-on-exec, checked by `SO_COOKIE` at each [`FanSockets::get`], and F is made anew
//! where the application closed it; a number that became somebody else's is never
//! closed. Is not a way to receive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use flexcast_udp::{process, sockopt, Errno, Family, Fd, UdpSocket};

use crate::background::lock;

const NOWHERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOWHERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1));
/// The largest send buffer asked for.
const BUFFER: u32 = 4 << 20;
/// F's number is the lowest free one so far below the end of the descriptor table.
const BELOW_END: i32 = 8;
/// The end of a table that has never grown.
const SMALLEST: i32 = 64;

/// Numbers of the application's table that are ours; -1: none.
static INTERNAL: [AtomicI32; SLOTS] = [const { AtomicI32::new(-1) }; SLOTS];
/// The cookies of the sockets that these numbers name.
static COOKIES: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
/// Two families, and room for a second set while a test or a child has one.
const SLOTS: usize = 8;

/// Whether `raw` is a descriptor of ours in the application's table, which a hook of
/// close must spare, and not what the application has put in its place. Takes no lock.
#[must_use]
pub fn is_internal(raw: i32) -> bool {
    let mut ours = INTERNAL.iter().zip(&COOKIES);
    raw >= 0
        && ours.any(|(number, cookie)| {
            number.load(Ordering::Relaxed) == raw
                && sockopt::cookie(raw) == Ok(cookie.load(Ordering::Relaxed))
        })
}

/// In the child of a fork: the numbers are closed there and forgotten. Takes no lock.
pub(super) fn forget_numbers() {
    for (slot, cookie) in INTERNAL.iter().zip(&COOKIES) {
        let raw = slot.swap(-1, Ordering::Relaxed);
        let cookie = cookie.swap(0, Ordering::Relaxed);
        if raw >= 0 && sockopt::cookie(raw) == Ok(cookie) {
            // The parent's socket lives on in the parent.
            drop(Fd::from_raw(raw));
        }
    }
}

fn note(raw: i32, cookie: u64) {
    for (slot, place) in INTERNAL.iter().zip(&COOKIES) {
        if slot
            .compare_exchange(-1, raw, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
        {
            place.store(cookie, Ordering::Relaxed);
            return;
        }
    }
}

fn unnote(raw: i32) {
    for slot in &INTERNAL {
        let _ = slot.compare_exchange(raw, -1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A socket that sends from `fp` and receives nothing.
fn mute(family: Family, fp: u16) -> Result<UdpSocket, Errno> {
    let socket = UdpSocket::new(family)?;
    socket.set_v6_only(true)?;
    socket.set_reuse_port(true)?;
    socket.set_no_path_mtu_discovery()?;
    socket.set_free_bind(true)?;
    let nowhere = match family {
        Family::V4 => NOWHERE_V4,
        Family::V6 => NOWHERE_V6,
    };
    socket.bind(SocketAddr::new(nowhere, fp))?;
    // With it on, IPv6 would let pass any source.
    socket.set_free_bind(false)?;
    socket.set_send_buffer(BUFFER)?;
    Ok(socket)
}

/// What stream and control leave from.
pub(super) trait Mouth {
    /// The socket for destinations of `family`; none where there is none.
    fn with<T>(&self, family: Family, use_it: impl FnOnce(&UdpSocket) -> T) -> Option<T>;
}

/// The background thread's own.
#[derive(Debug)]
pub(super) struct Voice {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Voice {
    /// Both families, or the one that the kernel has.
    ///
    /// # Errors
    /// `EADDRINUSE` where FP is somebody's who does not share it with us.
    pub(super) fn new(fp: u16) -> Result<Voice, Errno> {
        let (v4, v6) = (mute(Family::V4, fp), mute(Family::V6, fp));
        match (v4, v6) {
            (Err(Errno::EADDRINUSE), _) | (_, Err(Errno::EADDRINUSE)) => Err(Errno::EADDRINUSE),
            (Err(errno), Err(_)) => Err(errno),
            (v4, v6) => Ok(Voice {
                v4: v4.ok(),
                v6: v6.ok(),
            }),
        }
    }
}

impl Voice {
    /// Speaks as any host from now on.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    pub(super) fn set_transparent(&self) -> Result<(), Errno> {
        let mut sockets = self.v4.iter().chain(&self.v6);
        sockets.try_for_each(|socket| socket.set_transparent(true))
    }
}

impl Mouth for Voice {
    fn with<T>(&self, family: Family, use_it: impl FnOnce(&UdpSocket) -> T) -> Option<T> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
        .map(use_it)
    }
}

/// Where this process's descriptor table ends (`FDSize`). A number beyond makes it
/// grow, which in a process with threads waits for an RCU grace period (`expand_fdtable`,
/// fs/file.c): tens of milliseconds, and seconds on a busy host. A table as large as
/// the limit allows would be copied at each fork, too.
fn table_end() -> Option<i32> {
    let mut status = Vec::new();
    process::read_file("/proc/thread-self/status", &mut status).ok()?;
    let status = String::from_utf8_lossy(&status);
    let mut lines = status.lines();
    let size = lines.find_map(|line| line.strip_prefix("FDSize:"))?;
    size.trim().parse().ok()
}

/// One F.
#[derive(Debug)]
struct FanSocket {
    socket: Option<UdpSocket>,
    cookie: u64,
}

impl FanSocket {
    fn new(family: Family, fp: u16) -> Result<FanSocket, Errno> {
        let low = mute(family, fp)?;
        let cookie = low.cookie();
        let end = table_end().unwrap_or(SMALLEST);
        let from = [end - BELOW_END, SMALLEST - BELOW_END, 3];
        let high = from.iter().find_map(|min| low.fd.dup_above(*min).ok());
        let socket = match high {
            Some(fd) => UdpSocket::from_fd(fd)?,
            None => low,
        };
        note(socket.as_raw(), cookie);
        Ok(FanSocket {
            socket: Some(socket),
            cookie,
        })
    }

    fn set_transparent(&self) -> Result<(), Errno> {
        let socket = self.socket.as_ref();
        socket.map_or(Ok(()), |socket| socket.set_transparent(true))
    }

    /// The socket, if the number is still its own.
    fn checked(&self) -> Option<&UdpSocket> {
        let socket = self.socket.as_ref()?;
        (self.cookie != 0 && socket.cookie() == self.cookie).then_some(socket)
    }
}

impl Drop for FanSocket {
    fn drop(&mut self) {
        let ours = self.checked().is_some();
        if let Some(socket) = self.socket.take() {
            unnote(socket.as_raw());
            if !ours {
                // The number is nobody's, or somebody else's by now.
                let _ = socket.fd.into_raw();
            }
        }
    }
}

/// F, both families, each made when it is first needed.
#[derive(Debug)]
pub(super) struct FanSockets {
    fp: u16,
    /// They may send as any host.
    transparent: AtomicBool,
    v4: Mutex<Option<Arc<FanSocket>>>,
    v6: Mutex<Option<Arc<FanSocket>>>,
}

impl FanSockets {
    pub(super) fn new(fp: u16) -> FanSockets {
        FanSockets {
            fp,
            transparent: AtomicBool::new(false),
            v4: Mutex::new(None),
            v6: Mutex::new(None),
        }
    }

    /// They send as any host from now on.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    pub(super) fn set_transparent(&self) -> Result<(), Errno> {
        self.transparent.store(true, Ordering::Relaxed);
        for family in [Family::V4, Family::V6] {
            match self.get(family).and_then(|fan| fan.set_transparent()) {
                // A host without IPv6.
                Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) if family == Family::V6 => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    fn place(&self, family: Family) -> &Mutex<Option<Arc<FanSocket>>> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn get(&self, family: Family) -> Result<Arc<FanSocket>, Errno> {
        let mut place = lock(self.place(family));
        if let Some(socket) = place.as_ref().filter(|socket| socket.checked().is_some()) {
            return Ok(socket.clone());
        }
        *place = None;
        let fresh = Arc::new(FanSocket::new(family, self.fp)?);
        if self.transparent.load(Ordering::Relaxed) {
            fresh.set_transparent()?;
        }
        *place = Some(fresh.clone());
        Ok(fresh)
    }
}

/// F for those who must not wait: at exit, which may be called by a signal's handler
/// that has interrupted a thread with F's lock in its hands.
#[derive(Debug)]
pub(super) struct AtOnce<'a>(pub(super) &'a FanSockets);

impl Mouth for AtOnce<'_> {
    /// Where F cannot be had at once, a socket like it, for this one use.
    fn with<T>(&self, family: Family, use_it: impl FnOnce(&UdpSocket) -> T) -> Option<T> {
        let place = self.0.place(family).try_lock();
        let known = place.as_deref().ok().and_then(Option::as_ref);
        match known.and_then(|socket| socket.checked()) {
            Some(socket) => Some(use_it(socket)),
            None => mute(family, self.0.fp).ok().as_ref().map(use_it),
        }
    }
}

impl Mouth for FanSockets {
    fn with<T>(&self, family: Family, use_it: impl FnOnce(&UdpSocket) -> T) -> Option<T> {
        let socket = self.get(family).ok()?;
        socket.socket.as_ref().map(use_it)
    }
}

#[cfg(test)]
mod tests {
    use flexcast_udp::{recv_one, send_one, Class};

    use super::*;

    const FP: u16 = 27_450;

    #[test]
    fn f_is_high_and_made_anew_when_it_was_closed() {
        let end = table_end().unwrap();
        let sockets = FanSockets::new(FP);
        let first = sockets.with(Family::V4, |s| (s.as_raw(), s.cookie()));
        let (raw, cookie) = first.unwrap();
        assert!(raw >= end - BELOW_END && raw < end, "{raw} of {end}");
        assert_eq!(table_end(), Some(end), "the table has not grown");
        assert!(is_internal(raw) && !is_internal(-1) && !is_internal(raw - 1));
        assert_eq!(sockets.with(Family::V4, UdpSocket::cookie), Some(cookie));
        // What close_range(3, ~0) in the application does, and then it opens more.
        drop(Fd::from_raw(raw));
        let strangers = UdpSocket::new(Family::V4).unwrap();
        let theirs = sockopt::duplicate(strangers.as_raw(), raw).unwrap();
        assert_eq!(theirs.as_raw(), raw);
        assert!(!is_internal(raw), "that number is the application's");
        let second = sockets.with(Family::V4, |s| (s.as_raw(), s.cookie()));
        let (number, fresh) = second.unwrap();
        assert_ne!(fresh, cookie);
        assert_ne!(number, raw);
        assert_eq!(sockopt::cookie(raw), Ok(strangers.cookie()), "left alone");
        drop(sockets);
        assert!(!is_internal(number) && !flexcast_udp::is_live(number));
    }

    #[test]
    fn whoever_must_not_wait_for_f_sends_from_a_socket_like_it() {
        let sockets = FanSockets::new(FP + 2);
        let f = sockets.with(Family::V4, UdpSocket::cookie).unwrap();
        let at_once = AtOnce(&sockets);
        assert_eq!(at_once.with(Family::V4, UdpSocket::cookie), Some(f));
        let held = lock(&sockets.v4);
        let other = at_once.with(Family::V4, |s| (s.cookie(), s.local_addr().unwrap()));
        let (cookie, local) = other.unwrap();
        assert_ne!(cookie, f);
        assert_eq!(local.port(), FP + 2);
        drop(held);
    }

    #[test]
    fn a_voice_sends_from_the_port_and_takes_nothing_from_whoever_receives() {
        for family in [Family::V4, Family::V6] {
            let voice = Voice::new(FP + 1).unwrap();
            let hears = UdpSocket::new(family).unwrap();
            hears.set_v6_only(true).unwrap();
            hears.set_reuse_port(true).unwrap();
            hears.bind(SocketAddr::new(family.any(), FP + 1)).unwrap();
            let asks = UdpSocket::new(family).unwrap();
            asks.bind(SocketAddr::new(family.loopback(), 0)).unwrap();
            let port = SocketAddr::new(family.loopback(), FP + 1);
            let mut buffer = [0; 8];
            for _ in 0..32 {
                send_one(&asks, port, None, Class::Control, &[b"?"]).unwrap();
                assert_eq!(recv_one(&hears, &mut buffer).unwrap().payload, b"?");
            }
            let to = asks.local_addr().unwrap();
            let source = Some(family.loopback());
            let sent = voice.with(family, |s| {
                send_one(s, to, source, Class::Stream, &[b"!"]).unwrap()
            });
            assert_eq!(sent, Some(1));
            assert_eq!(recv_one(&asks, &mut buffer).unwrap().from, port);
        }
    }
}
