//! Does this kernel strip, sort and drop as it must? Tried on loopback.
//!
//! Promises: a few sockets for a few hundred microseconds, unprivileged, gone at the
//! end. "Does not" only where loopback carried a plain datagram and the rest failed;
//! where loopback itself is down or closed the answer is "unknown".
//! Is not: a test of the network.

use std::net::SocketAddr;

use crate::batch::{recv_one, send_one, Class};
use crate::filter::{receiver, selector, FilterWords, Source, Untrailed};
use crate::process::{poll, PollFd};
use crate::{sockopt, Errno, Family, UdpSocket};

/// What the test has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Probe {
    /// The kernel path can be used.
    Works,
    /// It cannot, for this reason.
    DoesNot(Reason),
    /// It could not be tried, for this reason; try again later.
    Unknown(Reason),
}

/// Why a test did not succeed: the step, and the error where the kernel told one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reason {
    /// What was tried.
    pub step: &'static str,
    /// What the kernel said; none where it did the wrong thing silently.
    pub errno: Option<Errno>,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.errno {
            Some(errno) => write!(f, "{}: {errno}", self.step),
            None => f.write_str(self.step),
        }
    }
}

const WORDS: FilterWords = FilterWords {
    data_word: 0x01A5_5A3C,
    control_word: 0x02A5_5A3C,
    end_word: 0x03A5_5A3C,
    magic_mask: 0x00FF_FFFF,
};
const TOKEN: u64 = 0x0123_4567_89AB_CDEF;
const NONCE: u64 = 0xFEDC_BA98_7654_3210;
const BODY: &[u8] = b"body";
/// Loopback delivers within the send; this bounds a loaded machine.
const PATIENCE_US: u64 = 100_000;

/// Tries selector and filter for sockets of `family`.
#[must_use]
pub fn kernel_path(family: Family) -> Probe {
    match try_path(family) {
        Ok(()) => Probe::Works,
        Err(probe) => probe,
    }
}

fn try_path(family: Family) -> Result<(), Probe> {
    let data = made(family)?;
    if let Err(errno) = data.set_reuse_port(true) {
        return Err(does_not("SO_REUSEPORT", Some(errno)));
    }
    if let Err(errno) =
        sockopt::attach_reuseport_selector(data.as_raw(), &selector(NONCE, WORDS.control_word))
    {
        return Err(does_not("SO_ATTACH_REUSEPORT_CBPF", Some(errno)));
    }
    let at = bound(&data, SocketAddr::new(family.loopback(), 0))?;
    let control = made(family)?;
    let joined = control.set_reuse_port(true).and_then(|()| control.bind(at));
    if let Err(errno) = joined {
        return Err(does_not("a second socket on the port", Some(errno)));
    }
    let sender = made(family)?;
    let from = bound(&sender, SocketAddr::new(family.loopback(), 0))?;

    // The positive control: loopback carries a plain datagram.
    said(&sender, at, &[BODY])?;
    if !hears(&data, BODY) {
        return Err(Probe::Unknown(Reason {
            step: "no datagram on loopback",
            errno: None,
        }));
    }
    let source = Source {
        address: from.ip(),
        port: from.port(),
        token: Some(TOKEN),
    };
    let filter = receiver(&[source], Untrailed::Drop, WORDS, family, &[]);
    if let Err(errno) = data.attach_filter(&filter) {
        return Err(does_not("SO_ATTACH_FILTER", Some(errno)));
    }
    said(&sender, at, &[BODY, &trailer(!TOKEN, WORDS.data_word)])?;
    said(&sender, at, &[BODY])?;
    said(&sender, at, &[BODY, &trailer(NONCE, WORDS.control_word)])?;
    said(&sender, at, &[BODY, &trailer(TOKEN, WORDS.data_word)])?;
    if !hears(&data, BODY) || is_readable(&data, 0) {
        return Err(does_not(
            "the filter does not keep the right datagram alone",
            None,
        ));
    }
    let whole: Vec<u8> = [BODY, &trailer(NONCE, WORDS.control_word)].concat();
    if !hears(&control, &whole) || is_readable(&control, 0) {
        return Err(does_not("the selector does not sort control out", None));
    }
    Ok(())
}

fn trailer(token: u64, word: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0..8].copy_from_slice(&token.to_be_bytes());
    bytes[12..16].copy_from_slice(&word.to_be_bytes());
    bytes
}

fn made(family: Family) -> Result<UdpSocket, Probe> {
    UdpSocket::new(family).map_err(|errno| unknown("a socket", errno))
}

fn bound(socket: &UdpSocket, address: SocketAddr) -> Result<SocketAddr, Probe> {
    let bound = socket.bind(address).and_then(|()| socket.local_addr());
    bound.map_err(|errno| unknown("a socket bound to loopback", errno))
}

fn said(sender: &UdpSocket, to: SocketAddr, parts: &[&[u8]]) -> Result<(), Probe> {
    let sent = send_one(sender, to, None, Class::Stream, parts);
    sent.map(drop)
        .map_err(|errno| unknown("sending on loopback", errno))
}

fn hears(socket: &UdpSocket, expected: &[u8]) -> bool {
    let mut buffer = [0; 64];
    is_readable(socket, PATIENCE_US)
        && recv_one(socket, &mut buffer).is_ok_and(|received| received.payload == expected)
}

fn is_readable(socket: &UdpSocket, timeout_us: u64) -> bool {
    let mut fds = [PollFd::new(socket.as_raw(), PollFd::IN)];
    poll(&mut fds, Some(timeout_us)) == Ok(1) && fds[0].is_readable()
}

fn unknown(step: &'static str, errno: Errno) -> Probe {
    Probe::Unknown(Reason {
        step,
        errno: Some(errno),
    })
}

fn does_not(step: &'static str, errno: Option<Errno>) -> Probe {
    Probe::DoesNot(Reason { step, errno })
}

#[cfg(test)]
mod tests;
