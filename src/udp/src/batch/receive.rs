//! Many datagrams in by `recvmmsg`.
//!
//! Promises: who sent each, to which of our addresses, how it was joined by receive
//! offload, whether it was cut; v4-mapped addresses are shown as IPv4.
//! Is not: waiting (see `process::poll`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::address::{canonical_socket, RawAddress};
use crate::ancillary::{Ancillary, Arrival};
use crate::raw::{call, int, BatchHeader, IoVec, MessageHeader};
use crate::{Errno, UdpSocket};

/// A received datagram, or several of equal size that receive offload has joined.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The bytes.
    pub payload: &'a [u8],
    /// Who sent it; v4-mapped addresses are shown as IPv4.
    pub from: SocketAddr,
    /// The destination address it carried, where packet info is on; canonical.
    pub to: Option<IpAddr>,
    /// The interface it came by, where packet info is on; else 0.
    pub interface: u32,
    /// The size of the joined datagrams (the last may be shorter), where joined.
    pub segment: Option<u16>,
    /// Longer than the slot: its end is missing.
    pub truncated: bool,
}

impl<'a> Received<'a> {
    /// The datagrams as they were sent.
    #[must_use]
    pub fn segments(&self) -> Segments<'a> {
        let size = self.segment.map_or(usize::MAX, usize::from);
        Segments {
            rest: Some(self.payload),
            size,
        }
    }
}

/// The datagrams in one [`Received`]: at least one, possibly empty.
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: Option<&'a [u8]>,
    size: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        if rest.len() <= self.size {
            return Some(rest);
        }
        let (first, more) = rest.split_at(self.size);
        self.rest = Some(more);
        Some(first)
    }
}

/// Slots for received datagrams, allocated once.
#[derive(Debug)]
pub struct ReceiveBatch {
    bytes_each: usize,
    payloads: Vec<u8>,
    names: Vec<RawAddress>,
    controls: Vec<Ancillary>,
    parts: Vec<IoVec>,
    headers: Vec<BatchHeader>,
    filled: usize,
}

impl ReceiveBatch {
    /// `slots` slots (at least 1, at most 1024) of `bytes_each` bytes. With receive
    /// offload on, a slot needs 65 535 bytes; without, the longest datagram expected.
    #[must_use]
    pub fn new(slots: usize, bytes_each: usize) -> Self {
        let slots = slots.clamp(1, 1024);
        let bytes_each = bytes_each.max(1);
        Self {
            bytes_each,
            payloads: vec![0; slots * bytes_each],
            names: vec![RawAddress::empty(); slots],
            controls: vec![Ancillary::empty(); slots],
            parts: vec![IoVec::default(); slots],
            headers: vec![BatchHeader::default(); slots],
            // All headers still have to be written.
            filled: slots,
        }
    }

    /// Takes what is queued, at most one datagram a slot; 0 where nothing is.
    ///
    /// # Errors
    /// A pending error of the socket (`ECONNREFUSED`, where it is connected), `EBADF`;
    /// never `EAGAIN`, never `EINTR`.
    pub fn receive(&mut self, socket: &UdpSocket) -> Result<usize, Errno> {
        self.prepare();
        let headers_at = self.headers.as_mut_ptr() as usize;
        let count = self.headers.len();
        let arguments = [
            int(socket.as_raw()),
            headers_at,
            count,
            int(libc::MSG_DONTWAIT),
            0,
            0,
        ];
        loop {
            // SAFETY: each header names memory of this batch (written by `prepare`),
            // with its true length, and &mut self keeps others out during the call.
            match unsafe { call(libc::SYS_recvmmsg, arguments) } {
                Ok(filled) => {
                    self.filled = filled;
                    return Ok(filled);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(0),
                Err(other) => return Err(other),
            }
        }
    }

    /// Writes the headers that the last call has changed.
    fn prepare(&mut self) {
        for slot in 0..self.filled {
            let payload = &mut self.payloads[slot * self.bytes_each..][..self.bytes_each];
            self.parts[slot] = IoVec::writing(payload);
            self.headers[slot] = BatchHeader {
                header: MessageHeader {
                    name: self.names[slot].bytes.as_mut_ptr() as usize,
                    name_length: RawAddress::empty().length,
                    parts: (&raw mut self.parts[slot]) as usize,
                    part_count: 1,
                    control: self.controls[slot].bytes.as_mut_ptr() as usize,
                    control_length: Ancillary::CAPACITY,
                    flags: 0,
                },
                length: 0,
            };
        }
        self.filled = 0;
    }

    /// How many datagrams the last call has brought.
    #[must_use]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether the last call has brought none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Datagram `index` of those the last call has brought.
    ///
    /// # Panics
    /// Where `index` is not below what [`ReceiveBatch::receive`] returned.
    #[must_use]
    pub fn get(&self, index: usize) -> Received<'_> {
        assert!(index < self.filled, "datagram {index} of {}", self.filled);
        let BatchHeader { header, length } = self.headers[index];
        let length = (length as usize).min(self.bytes_each);
        let control = &self.controls[index].bytes[..header.control_length.min(Ancillary::CAPACITY)];
        received(
            &self.payloads[index * self.bytes_each..][..length],
            RawAddress {
                length: header.name_length,
                ..self.names[index]
            },
            control,
            header.flags,
        )
    }

    /// All that the last call has brought.
    pub fn iter(&self) -> impl Iterator<Item = Received<'_>> {
        (0..self.filled).map(|index| self.get(index))
    }
}

/// A datagram from what the kernel has filled in.
pub(super) fn received<'a>(
    payload: &'a [u8],
    name: RawAddress,
    control: &[u8],
    flags: i32,
) -> Received<'a> {
    let arrival = Arrival::read(control);
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Received {
        payload,
        from: name.decode().map_or(nobody, canonical_socket),
        to: arrival.to,
        interface: arrival.interface,
        segment: arrival.segment,
        truncated: flags & libc::MSG_TRUNC != 0,
    }
}

/// One datagram and its control messages as they came, for tests.
#[cfg(test)]
pub(super) fn tests_raw(socket: &UdpSocket) -> (Vec<u8>, Vec<u8>) {
    let mut batch = ReceiveBatch::new(1, 2048);
    assert_eq!(batch.receive(socket), Ok(1));
    let control_length = batch.headers[0].header.control_length;
    (
        batch.get(0).payload.to_vec(),
        batch.controls[0].bytes[..control_length].to_vec(),
    )
}
