//! The same datagrams to many receivers, as few kernel packets as possible.
//!
//! Runs of equal-sized datagrams leave as one super-packet per target
//! (`UDP_SEGMENT`), which the kernel or the card cuts: about 16 × a `sendto` loop.
//!
//! Promises: each target gets the datagrams in order; a target's error stays its own;
//! nothing blocks; a full send buffer stops the call at a [`Position`] from which
//! [`FanOut::resume`] goes on. Where segmentation is refused by the socket (EIO,
//! EINVAL) that is remembered; where a datagram is above the path's MTU (EMSGSIZE)
//! that target gets it in plain sends, which IP may fragment.
//! Is not: for several sockets. What is remembered is one socket's.

mod plan;

use std::net::{IpAddr, SocketAddr};

use crate::address::RawAddress;
use crate::ancillary::Ancillary;
use crate::batch::{is_foreign, Class};
use crate::raw::{call, int, BatchHeader, IoVec, MessageHeader};
use crate::{sockopt, Errno, UdpSocket};

pub use plan::Position;
use plan::{Item, Work};

/// Messages handed over by one system call.
const SLOTS: usize = 64;
/// EINVAL in a row, without one segmented success, that count as the socket's own:
/// kernels before 6.14 also say EINVAL for one destination whose MTU is too small.
const REFUSALS: u32 = 8;
/// A segment that fits every IPv6 path (1280) makes EINVAL the socket's at once.
const FITS_ANYWHERE: usize = 1280 - 48;

/// One receiver of a fan-out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Where the datagrams go.
    pub to: SocketAddr,
    /// The address they shall come from; the kernel chooses without.
    pub source: Option<IpAddr>,
}

/// What became of a fan-out. Counts are copies: datagrams times targets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flushed {
    /// Copies that the kernel took.
    pub sent: usize,
    /// Copies that were refused; each refusal was told with its error.
    pub failed: usize,
    /// Copies not tried because the send buffer was full: lost, unless resumed.
    pub dropped: usize,
    /// Where to go on, once the socket is writable again.
    pub blocked_at: Option<Position>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Offload {
    Unknown,
    Works,
    Refused,
}

/// Sends the same datagrams to many, and remembers what its socket can do.
#[derive(Debug)]
pub struct FanOut {
    offload: Offload,
    refusals: u32,
    names: Vec<RawAddress>,
    controls: Vec<Ancillary>,
    headers: Vec<BatchHeader>,
    items: Vec<Item>,
    parts: Vec<IoVec>,
}

impl Default for FanOut {
    fn default() -> Self {
        Self::new()
    }
}

impl FanOut {
    /// Knows nothing of its socket yet: the first send asks.
    #[must_use]
    pub fn new() -> Self {
        Self {
            offload: Offload::Unknown,
            refusals: 0,
            names: vec![RawAddress::empty(); SLOTS],
            controls: vec![Ancillary::empty(); SLOTS],
            headers: vec![BatchHeader::default(); SLOTS],
            items: Vec::with_capacity(SLOTS),
            parts: Vec::new(),
        }
    }

    /// Never uses segmentation offload.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            offload: Offload::Refused,
            ..Self::new()
        }
    }

    /// Whether super-packets are used, as far as is known.
    #[must_use]
    pub fn segments(&self) -> bool {
        self.offload != Offload::Refused
    }

    /// Sends every datagram to every target. `trouble` is told the index of the
    /// target and its error, once per refused message.
    pub fn send(
        &mut self,
        socket: &UdpSocket,
        datagrams: &[&[u8]],
        targets: &[Target],
        trouble: &mut impl FnMut(usize, Errno),
    ) -> Flushed {
        self.resume(socket, datagrams, targets, Position::default(), trouble)
    }

    /// Goes on from where an earlier call with the same datagrams and targets was
    /// blocked.
    pub fn resume(
        &mut self,
        socket: &UdpSocket,
        datagrams: &[&[u8]],
        targets: &[Target],
        from: Position,
        trouble: &mut impl FnMut(usize, Errno),
    ) -> Flushed {
        self.probe(socket);
        self.parts.clear();
        self.parts
            .extend(datagrams.iter().map(|datagram| IoVec::reading(datagram)));
        let work = Work {
            datagrams,
            targets: targets.len(),
        };
        let mut at = from;
        let mut flushed = Flushed::default();
        let mut retried = false;
        while !work.is_done(&at) {
            let outcome = self
                .prepare(socket, targets, work, at)
                .and_then(|count| self.hand_over(socket, count));
            let Some(&first) = self.items.first() else {
                break;
            };
            match outcome {
                Ok(0) | Err(Errno::EAGAIN) => {
                    flushed.dropped = work.left(&at);
                    flushed.blocked_at = Some(at);
                    break;
                }
                Ok(count) => {
                    for item in self.items.iter().take(count) {
                        flushed.sent += item.count;
                        at = item.after;
                        if item.count > 1 {
                            self.refusals = 0;
                        }
                    }
                    retried = false;
                }
                Err(Errno::EINTR) => {}
                Err(errno) if is_foreign(errno) && !retried => retried = true,
                Err(errno) if first.count > 1 && is_about_segments(errno) => {
                    let segment = datagrams[first.start].len();
                    self.note_refusal(errno, segment);
                    at = work.formed(at, self.segments()).plainly();
                }
                Err(errno) => {
                    trouble(first.target, errno);
                    flushed.failed += first.count;
                    at = first.after;
                    retried = false;
                }
            }
        }
        flushed
    }

    /// Asks the socket once whether the kernel knows `UDP_SEGMENT` (4.18) and
    /// whether checksums, without which it refuses, are on.
    fn probe(&mut self, socket: &UdpSocket) {
        if self.offload != Offload::Unknown {
            return;
        }
        let unchecked = sockopt::get_u32(socket.as_raw(), libc::SOL_SOCKET, libc::SO_NO_CHECK);
        let works = socket.knows_segmentation() && unchecked == Ok(0);
        self.offload = if works {
            Offload::Works
        } else {
            Offload::Refused
        };
    }

    /// EIO: no checksum offload, or IPsec, on the way out; EINVAL: see [`REFUSALS`].
    fn note_refusal(&mut self, errno: Errno, segment: usize) {
        match errno {
            Errno::EIO => self.offload = Offload::Refused,
            Errno::EINVAL => {
                self.refusals += 1;
                if segment <= FITS_ANYWHERE || self.refusals >= REFUSALS {
                    self.offload = Offload::Refused;
                }
            }
            _ => {}
        }
    }

    /// Plans and writes the next messages; an error is the first one's, and then
    /// `items` holds that one.
    fn prepare(
        &mut self,
        socket: &UdpSocket,
        targets: &[Target],
        work: Work<'_>,
        mut at: Position,
    ) -> Result<usize, Errno> {
        self.items.clear();
        while self.items.len() < SLOTS && !work.is_done(&at) {
            let slot = self.items.len();
            let item = work.item(at, self.offload != Offload::Refused);
            let target = &targets[item.target];
            let size = work.datagrams[item.start].len();
            let segment = if item.count > 1 {
                u16::try_from(size).ok()
            } else {
                None
            };
            let name = RawAddress::encode(target.to, socket.family());
            let control = &mut self.controls[slot];
            let directed = control.direct(target.to.ip(), target.source, Class::Stream, segment);
            match (name, directed) {
                (Ok(name), Ok(())) => self.names[slot] = name,
                (Err(errno), _) | (_, Err(errno)) if slot == 0 => {
                    self.items.push(item);
                    return Err(errno);
                }
                _ => break,
            }
            let parts = &self.parts[item.start..][..item.count];
            self.headers[slot].header = MessageHeader {
                name: self.names[slot].bytes.as_ptr() as usize,
                name_length: self.names[slot].length,
                parts: parts.as_ptr() as usize,
                part_count: parts.len(),
                control: self.controls[slot].bytes.as_ptr() as usize,
                control_length: self.controls[slot].length,
                flags: 0,
            };
            self.items.push(item);
            at = item.after;
        }
        Ok(self.items.len())
    }

    fn hand_over(&mut self, socket: &UdpSocket, count: usize) -> Result<usize, Errno> {
        let flags = int(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let headers_at = self.headers.as_mut_ptr() as usize;
        let arguments = [int(socket.as_raw()), headers_at, count, flags, 0, 0];
        // SAFETY: `prepare` has just written the first `count` headers; they name
        // memory of this struct, and the caller's datagrams, which `resume` borrows.
        unsafe { call(libc::SYS_sendmmsg, arguments) }
    }
}

fn is_about_segments(errno: Errno) -> bool {
    matches!(errno, Errno::EMSGSIZE | Errno::EIO | Errno::EINVAL)
}

#[cfg(test)]
mod tests;
