//! What capture caught and another node is meant to have: leaves and ICMP errors.
//!
//! A leave names the node it is for, and reaches it in the requester's own name, so
//! that the answer finds the requester. Promises: each leave passes once here, so
//! that none circles in a ring of routes; at most 1 000 a second. Is not forwarding
//! of requests: those are let through by the capture rules.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket as Probe};

use flexcast_engine::Time;
use flexcast_udp::{send_one, Class, Errno, Family, UdpSocket};
use flexcast_wire::{Header, Nonce, Sequence};

const A_SECOND: f64 = 1_000.0;
/// Leaves remembered: those of some seconds at the highest rate.
const REMEMBERED: usize = 4_096;

/// Passes on, within a budget.
#[derive(Debug)]
pub(crate) struct Onward {
    passed: VecDeque<(Nonce, Sequence)>,
    budget: f64,
    budget_at: Time,
    /// Messages passed on.
    pub(crate) count: u64,
}

impl Onward {
    pub(crate) fn new(now: Time) -> Onward {
        Onward {
            passed: VecDeque::new(),
            budget: A_SECOND,
            budget_at: now,
            count: 0,
        }
    }

    /// Sends a leave on, from the address that it came from.
    pub(crate) fn leave(
        &mut self,
        now: Time,
        header: &Header,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) {
        let this = (header.nonce, header.sequence);
        if self.passed.contains(&this) || !self.permits(now) {
            return;
        }
        if self.passed.len() >= REMEMBERED {
            self.passed.pop_front();
        }
        self.passed.push_back(this);
        match send_as(from, to, datagram) {
            Ok(()) => self.count += 1,
            Err(errno) => log::debug!("leave of {from} for another node: {errno}"),
        }
    }

    /// Whether one more may pass.
    pub(crate) fn permits(&mut self, now: Time) -> bool {
        let gained = now.since(self.budget_at).as_secs_f64() * A_SECOND;
        self.budget = (self.budget + gained).min(A_SECOND);
        self.budget_at = now;
        if self.budget < 1.0 {
            return false;
        }
        self.budget -= 1.0;
        true
    }
}

/// One datagram in another's name: a transparent socket, there for a moment only.
fn send_as(from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Result<(), Errno> {
    let socket = UdpSocket::new(Family::of(from.ip()))?;
    socket.set_transparent(true)?;
    socket.bind(from)?;
    send_one(&socket, to, None, Class::Control, &[datagram]).map(drop)
}

/// Whether an address is this host's: an ordinary socket can be bound to it.
pub(crate) fn is_ours(address: IpAddr) -> bool {
    Probe::bind((address, 0)).is_ok()
}
