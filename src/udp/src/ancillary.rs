//! Control messages (`cmsg`): packet info, TTL, traffic class, segment size.
//!
//! Promises: the kernel's layout on 64-bit machines, written and read as plain
//! bytes; reading stops at the first malformed record.
//!
//! ```text
//! | length 8 (header included) | level 4 | type 4 | data ... | padding to 8 |
//! ```
//! Is not: a policy on what to send.

use std::net::IpAddr;

use crate::address::{canonical, field};
use crate::batch::Class;
use crate::Errno;

const HEADER: usize = 16;

/// Room for control messages, aligned as the kernel wants them.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ancillary {
    pub(crate) bytes: [u8; Ancillary::CAPACITY],
    pub(crate) length: usize,
}

impl Ancillary {
    /// Enough for info (16 + 24), two integers (2 × 24), a segment size (24),
    /// or eight descriptors (16 + 32).
    pub(crate) const CAPACITY: usize = 128;

    pub(crate) fn empty() -> Self {
        Self {
            bytes: [0; Self::CAPACITY],
            length: 0,
        }
    }

    /// Appends one record; one that does not fit is `ENOBUFS`.
    pub(crate) fn push(&mut self, level: i32, kind: i32, data: &[u8]) -> Result<(), Errno> {
        let end = self.length + HEADER + data.len();
        let padded = end.next_multiple_of(8);
        if padded > Self::CAPACITY {
            return Err(Errno::ENOBUFS);
        }
        let record = &mut self.bytes[self.length..padded];
        record[0..8].copy_from_slice(&(HEADER + data.len()).to_ne_bytes());
        record[8..12].copy_from_slice(&level.to_ne_bytes());
        record[12..16].copy_from_slice(&kind.to_ne_bytes());
        record[HEADER..HEADER + data.len()].copy_from_slice(data);
        record[HEADER + data.len()..].fill(0);
        self.length = padded;
        Ok(())
    }

    /// Fills in what a datagram to `to` of `class` needs; `EAFNOSUPPORT` where the
    /// source is of another family than the destination.
    ///
    /// Towards IPv4 the records are those of level IP on either kind of socket: a
    /// datagram to `::ffff:` is built by IPv4's `udp_sendmsg` (net/ipv6/udp.c).
    pub(crate) fn direct(
        &mut self,
        to: IpAddr,
        source: Option<IpAddr>,
        class: Class,
        segment: Option<u16>,
    ) -> Result<(), Errno> {
        self.length = 0;
        let ttl = class.ttl().to_ne_bytes();
        let tos = class.traffic_class().to_ne_bytes();
        match canonical(to) {
            IpAddr::V4(_) => {
                self.push(libc::SOL_IP, libc::IP_TTL, &ttl)?;
                self.push(libc::SOL_IP, libc::IP_TOS, &tos)?;
            }
            IpAddr::V6(_) => {
                self.push(libc::SOL_IPV6, libc::IPV6_HOPLIMIT, &ttl)?;
                self.push(libc::SOL_IPV6, libc::IPV6_TCLASS, &tos)?;
            }
        }
        match (canonical(to), source.map(canonical)) {
            (_, None) => {}
            (IpAddr::V4(_), Some(IpAddr::V4(source))) => {
                // in_pktinfo: interface, source (spec_dst), header address.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&source.octets());
                self.push(libc::SOL_IP, libc::IP_PKTINFO, &info)?;
            }
            (IpAddr::V6(_), Some(IpAddr::V6(source))) => {
                // in6_pktinfo: address, interface.
                let mut info = [0; 20];
                info[0..16].copy_from_slice(&source.octets());
                self.push(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info)?;
            }
            _ => return Err(Errno::EAFNOSUPPORT),
        }
        if let Some(segment) = segment {
            self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes())?;
        }
        Ok(())
    }
}

/// One record as read.
pub(crate) struct Record<'a> {
    pub(crate) level: i32,
    pub(crate) kind: i32,
    pub(crate) data: &'a [u8],
}

/// The records in `bytes`, as far as they are well-formed.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.len() < HEADER {
            return None;
        }
        let length = usize::from_ne_bytes(field(rest, 0));
        if length < HEADER || length > rest.len() {
            return None;
        }
        let record = Record {
            level: i32::from_ne_bytes(field(rest, 8)),
            kind: i32::from_ne_bytes(field(rest, 12)),
            data: &rest[HEADER..length],
        };
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or(&[]);
        Some(record)
    })
}

/// What the kernel says about a received datagram.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Arrival {
    pub(crate) to: Option<IpAddr>,
    pub(crate) interface: u32,
    pub(crate) segment: Option<u16>,
}

impl Arrival {
    pub(crate) fn read(control: &[u8]) -> Self {
        let mut arrival = Self::default();
        for record in records(control) {
            match (record.level, record.kind) {
                (libc::SOL_IP, libc::IP_PKTINFO) => {
                    // The header's destination, not spec_dst: under tproxy it is
                    // what the requester wrote.
                    arrival.to = Some(IpAddr::from(field::<4>(record.data, 8)));
                    arrival.interface = u32::from_ne_bytes(field(record.data, 0));
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                    arrival.to = Some(canonical(IpAddr::from(field::<16>(record.data, 0))));
                    arrival.interface = u32::from_ne_bytes(field(record.data, 16));
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let size = i32::from_ne_bytes(field(record.data, 0));
                    arrival.segment = u16::try_from(size).ok().filter(|size| *size > 0);
                }
                _ => {}
            }
        }
        arrival
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written_and_a_cut_one_ends_the_list() {
        let mut ancillary = Ancillary::empty();
        ancillary.push(1, 2, &[7, 8, 9]).unwrap();
        ancillary.push(3, 4, &[]).unwrap();
        let read = |bytes: &[u8]| -> Vec<(i32, i32, Vec<u8>)> {
            records(bytes)
                .map(|r| (r.level, r.kind, r.data.to_vec()))
                .collect()
        };
        let all = vec![(1, 2, vec![7, 8, 9]), (3, 4, vec![])];
        assert_eq!(read(&ancillary.bytes[..ancillary.length]), all);
        assert_eq!(read(&ancillary.bytes[..ancillary.length - 1]), all[..1]);
    }

    #[test]
    fn a_source_of_the_other_family_is_refused() {
        let mut ancillary = Ancillary::empty();
        let v4 = IpAddr::from([127, 0, 0, 1]);
        let v6: IpAddr = "::1".parse().unwrap();
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        let direct = |a: &mut Ancillary, to, source| a.direct(to, source, Class::Stream, Some(9));
        assert_eq!(
            direct(&mut ancillary, v4, Some(v6)),
            Err(Errno::EAFNOSUPPORT)
        );
        assert_eq!(direct(&mut ancillary, v6, Some(v6)), Ok(()));
        assert_eq!(direct(&mut ancillary, mapped, Some(v4)), Ok(()));
    }
}
