//! What a receive call shows on a receiving socket, looked up without a lock.
//!
//! Promises: fit for threads in parallel and for signal handlers; what is looked at
//! stays alive meanwhile. An address is changed only where it is a stream's: S:FP
//! becomes S and the port of the sender's own socket; where exactly one group is
//! joined, IP_PKTINFO and IP_ORIGDSTADDR of the stream read that group. Is not the
//! table: numbers are not revalidated here, since nothing but S:FP is ever changed.

use std::net::{IpAddr, SocketAddr};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use flexcast_runtime::receive::ReceivingSocket;
use libc::{c_int, c_void, cmsghdr, msghdr, sockaddr, socklen_t};

use crate::guard;
use crate::name::{self, Family, Name};

/// Numbers of a page; pages are made when needed and stay.
const PER_PAGE: usize = 256;
const PAGES: usize = 4096;
/// A writer waits that long for readers, then leaves what they may look at to them.
const PATIENCE: usize = 10_000;

/// A receiving socket, as its receive calls need it.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) socket: ReceivingSocket,
    /// Where its streams come from.
    pub(super) asked: Vec<SocketAddr>,
    /// The only group, and the port.
    pub(super) group: Option<SocketAddr>,
}

#[derive(Debug)]
struct Slot {
    shown: AtomicPtr<Shown>,
    readers: AtomicUsize,
    /// Whether there is one, and whether it has a group: a hint, read before a call
    /// that may wait.
    hint: AtomicU8,
}

type Page = [Slot; PER_PAGE];

static TABLE: [AtomicPtr<Page>; PAGES] = [const { AtomicPtr::new(ptr::null_mut()) }; PAGES];

fn place(fd: c_int) -> Option<(&'static AtomicPtr<Page>, usize)> {
    let number = usize::try_from(fd).ok()?;
    Some((TABLE.get(number / PER_PAGE)?, number % PER_PAGE))
}

fn slot(fd: c_int) -> Option<&'static Slot> {
    let (page, at) = place(fd)?;
    // SAFETY: null, or leaked by `slot_made`.
    unsafe { page.load(Ordering::Acquire).as_ref() }?.get(at)
}

fn slot_made(fd: c_int) -> Option<&'static Slot> {
    let (page, _) = place(fd)?;
    if page.load(Ordering::Acquire).is_null() {
        let slot = |_| Slot {
            shown: AtomicPtr::new(ptr::null_mut()),
            readers: AtomicUsize::new(0),
            hint: AtomicU8::new(0),
        };
        let fresh = Box::into_raw(Box::new(std::array::from_fn(slot)));
        let null = ptr::null_mut();
        if page
            .compare_exchange(null, fresh, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            // SAFETY: made above; another thread's was taken.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
    self::slot(fd)
}

/// From now on `fd` names this one; none: no receiving socket.
pub(super) fn set(fd: c_int, shown: Option<Shown>) {
    let slot = match shown {
        Some(_) => slot_made(fd),
        None => slot(fd),
    };
    let Some(slot) = slot else { return };
    let hint = shown
        .as_ref()
        .map_or(0, |s| 1 + u8::from(s.group.is_some()));
    slot.hint.store(hint, Ordering::Relaxed);
    let fresh = shown.map_or(ptr::null_mut(), |shown| Box::into_raw(Box::new(shown)));
    let old = slot.shown.swap(fresh, Ordering::SeqCst);
    if old.is_null() {
        return;
    }
    for _ in 0..PATIENCE {
        // Whoever comes later finds the new one.
        if slot.readers.load(Ordering::SeqCst) == 0 {
            // SAFETY: made by this function, out of the table, and nobody looks at it.
            drop(unsafe { Box::from_raw(old) });
            return;
        }
        std::hint::spin_loop();
    }
    // A reader was stopped in mid-look, or is the thread that this signal handler
    // interrupts: some hundred bytes stay.
}

/// In a forked child: none of the parent's.
pub(super) fn forget() {
    for page in &TABLE {
        // SAFETY: null, or leaked by `slot_made`.
        if let Some(page) = unsafe { page.load(Ordering::Acquire).as_ref() } {
            for slot in page {
                slot.shown.store(ptr::null_mut(), Ordering::SeqCst);
                slot.readers.store(0, Ordering::SeqCst);
                slot.hint.store(0, Ordering::Relaxed);
            }
        }
    }
}

fn look<T>(fd: c_int, at: impl FnOnce(&Shown) -> T) -> Option<T> {
    let slot = slot(fd)?;
    slot.readers.fetch_add(1, Ordering::SeqCst);
    // SAFETY: null, or alive: `set` frees what it took out only while no reader is
    // counted, and we are.
    let shown = unsafe { slot.shown.load(Ordering::SeqCst).as_ref() };
    let answer = shown.map(at);
    slot.readers.fetch_sub(1, Ordering::SeqCst);
    answer
}

/// What of a message on `fd` may have to be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Changed {
    /// Nothing: no receiving socket.
    Nothing,
    /// The source.
    Source,
    /// The source, and the group in ancillary data.
    SourceAndGroup,
}

/// See [`Changed`].
pub(crate) fn changed(fd: c_int) -> Changed {
    match slot(fd).map_or(0, |slot| slot.hint.load(Ordering::Relaxed)) {
        0 => Changed::Nothing,
        1 => Changed::Source,
        _ => Changed::SourceAndGroup,
    }
}

/// Changes the source of a datagram that the kernel has just given; gives whether it
/// is a stream's.
///
/// # Safety
/// `address` points to `room` bytes, of which the kernel has filled the first
/// `length`, as far as there was room.
pub(crate) unsafe fn change_source(
    fd: c_int,
    address: *mut sockaddr,
    room: socklen_t,
    length: socklen_t,
) -> bool {
    if room < length {
        return false;
    }
    let Some(from) = name::read(address, length) else {
        return false;
    };
    let seen = match source_of(fd, from) {
        Some(seen) if seen.behind => {
            // Not for a handler that interrupts our own work: it would wait for us.
            let socket = look(fd, |shown| shown.socket.clone());
            guard::guarded((), || {
                if let Some(socket) = socket {
                    socket.catch_up();
                }
            });
            source_of(fd, from)
        }
        seen => seen,
    };
    let Some(Seen {
        source, is_stream, ..
    }) = seen
    else {
        return false;
    };
    if source != from {
        let name = Name::new(source, family_of(from));
        let mut room = room;
        name.give(address, &raw mut room);
    }
    is_stream
}

/// Whom a datagram seems to be from.
struct Seen {
    source: SocketAddr,
    is_stream: bool,
    /// Its sender's port may have come, and was not taken in yet.
    behind: bool,
}

fn source_of(fd: c_int, from: SocketAddr) -> Option<Seen> {
    look(fd, |shown| {
        let source = shown.socket.source_of(from);
        let plain = |a: SocketAddr| (a.ip().to_canonical(), a.port());
        let asked = shown.asked.iter().any(|a| plain(*a) == plain(from));
        Seen {
            source,
            is_stream: asked || source != from,
            behind: asked && source == from && shown.socket.is_unsettled(),
        }
    })
}

fn family_of(address: SocketAddr) -> Family {
    match address {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(_) => Family::V6,
    }
}

/// Puts the only group where ancillary data names the address that a datagram of a
/// stream was sent to.
///
/// # Safety
/// `message` is as the kernel has just filled it.
pub(crate) unsafe fn change_group(fd: c_int, message: *const msghdr) {
    let Some(Some(group)) = look(fd, |shown| shown.group) else {
        return;
    };
    let mut at: *mut cmsghdr = libc::CMSG_FIRSTHDR(message);
    while !at.is_null() {
        let data = libc::CMSG_DATA(at);
        let header = usize::try_from(libc::CMSG_LEN(0)).unwrap_or(usize::MAX);
        let length = (*at).cmsg_len.saturating_sub(header);
        put_group(
            ((*at).cmsg_level, (*at).cmsg_type),
            data.cast(),
            length,
            group,
        );
        at = libc::CMSG_NXTHDR(message, at);
    }
}

/// Writes the group into one piece of ancillary data.
unsafe fn put_group(kind: (c_int, c_int), data: *mut c_void, length: usize, group: SocketAddr) {
    // Where in the piece the address is, and where the port.
    let (address, port, size) = match kind {
        (libc::SOL_IP, libc::IP_PKTINFO) => (8, None, 4),
        (libc::SOL_IP, libc::IP_ORIGDSTADDR) => (4, Some(2), 4),
        (libc::SOL_IPV6, libc::IPV6_PKTINFO | libc::IPV6_2292PKTINFO) => (0, None, 16),
        (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR) => (8, Some(2), 16),
        _ => return,
    };
    let put = |at: usize, bytes: &[u8]| {
        if at + bytes.len() <= length {
            ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast::<u8>().add(at), bytes.len());
        }
    };
    match (group.ip().to_canonical(), size) {
        (IpAddr::V4(ip), 4) => put(address, &ip.octets()),
        (IpAddr::V4(ip), _) => put(address, &ip.to_ipv6_mapped().octets()),
        (IpAddr::V6(ip), 16) => put(address, &ip.octets()),
        (IpAddr::V6(_), _) => return,
    }
    if let Some(at) = port {
        put(at, &group.port().to_be_bytes());
    }
}
