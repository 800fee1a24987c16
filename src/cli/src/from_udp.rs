//! Where a gateway takes its datagrams from: plain UDP, or multicast of the local link.
//!
//! Promises: datagrams stay as they came, in their order; those that are too long for a
//! channel are counted and left out. Is not the cutting of a file (`source`).

use flexcast_udp::{Errno, Family, ReceiveBatch, UdpSocket};

use crate::failure::Failure;
use crate::link_address::LinkAddress;

/// Datagrams taken by one call, and what one of them may hold.
const RUN: usize = 64;
const LONGEST: usize = 65_535;
/// What a channel carries over both families.
const MOST: usize = 65_491;
/// Bytes wanted for the queue: the gateway may be away for a while.
const QUEUE: u32 = 4 << 20;

/// A socket that hears one address.
#[derive(Debug)]
pub(crate) struct FromUdp {
    socket: UdpSocket,
    batch: ReceiveBatch,
    /// The next datagram of the batch.
    next: usize,
    /// Left out for their length.
    pub(crate) too_long: u64,
}

impl FromUdp {
    /// Binds, and joins where the address is a group.
    pub(crate) fn open(from: &LinkAddress) -> Result<FromUdp, Failure> {
        let fail = |why: String| Failure::Gateway {
            address: from.to_string(),
            why,
        };
        let interface = from.interface().map_err(fail)?;
        let bound = UdpSocket::new(Family::of(from.at.ip())).and_then(|socket| {
            // Other programs of this host may hear the group as well.
            socket.set_reuse_address(from.is_group())?;
            socket.bind(from.at)?;
            if from.is_group() {
                socket.join_group(from.at.ip(), interface)?;
            }
            let _ = socket.set_receive_buffer(QUEUE);
            Ok(socket)
        });
        let socket = bound.map_err(|errno| fail(explained(errno)))?;
        Ok(FromUdp {
            socket,
            batch: ReceiveBatch::new(RUN, LONGEST),
            // A new batch is not empty: nothing is read before the first fill.
            next: RUN,
            too_long: 0,
        })
    }

    /// To be waited for before [`FromUdp::fill`].
    pub(crate) fn as_raw(&self) -> i32 {
        self.socket.as_raw()
    }

    /// Datagrams that the kernel dropped because the queue was full.
    pub(crate) fn dropped(&self) -> u32 {
        self.socket.drops()
    }

    /// Whether a datagram can be taken.
    pub(crate) fn has_datagram(&self) -> bool {
        self.next < self.batch.len()
    }

    /// Takes what is queued.
    pub(crate) fn fill(&mut self) -> Result<(), Failure> {
        self.next = 0;
        // A failure is a passing one (memory): what is queued stays there.
        let _ = self.batch.receive(&self.socket);
        Ok(())
    }

    /// Up to `most` datagrams that are there; gone by the next call.
    pub(crate) fn take(&mut self, most: usize) -> Vec<&[u8]> {
        let end = self.batch.len().min(self.next.saturating_add(most));
        let taken = (self.next..end).map(|slot| self.batch.get(slot).payload);
        self.next = end;
        let (fitting, long): (Vec<_>, Vec<_>) = taken.partition(|bytes| bytes.len() <= MOST);
        self.too_long += long.len() as u64;
        fitting
    }
}

fn explained(errno: Errno) -> String {
    let remedy = match errno {
        Errno::EADDRINUSE => "; another program has this port: `ss -ulpn` shows it",
        Errno::EADDRNOTAVAIL => "; it is no address of this host: `ip address` shows them",
        Errno::ENODEV => "; name the interface (ADDRESS:PORT%INTERFACE), or give the group a route",
        _ => "",
    };
    format!("{errno}{remedy}")
}
