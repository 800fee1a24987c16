//! Trace and its reply: each node on the way adds a record of itself.
//!
//! ```text
//! trace        48  hop budget   49  records   50  reserved
//!              52  cookie stamp: node id 8, cookie 16    76  a second one
//!             100  options
//! trace reply  48  0            49  records   50  reserved
//!              52  records, 76 bytes each, nearest to the asker first
//!                  options
//! record        0  node id 8        8  own address 16     24  upstream address 16
//!              40  audience 4      44  highest sequence 4
//!              48  lost upstream 8 56  datagrams/s 4      60  bytes/s 8
//!              68  age of the channel, ms 8
//! ```
//! Reading borrows the records from the datagram: nothing is allocated.

use std::net::{IpAddr, Ipv6Addr};

use crate::channel::{from_wire, to_wire};
use crate::field::{Reader, Writer};
use crate::{option, CookieStamp, Credential, Malformed, NodeId, Sequence, MAX_HOPS};

const RECORD_LEN: usize = 76;

/// What one node says of itself and of the channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceRecord {
    /// Which node.
    pub node: NodeId,
    /// Its own address.
    pub own_address: Option<IpAddr>,
    /// Whom it asks.
    pub upstream: Option<IpAddr>,
    /// Requesters in its audience.
    pub audience: u32,
    /// Highest sequence seen.
    pub highest: Sequence,
    /// Datagrams missed from upstream.
    pub lost: u64,
    /// Stream datagrams a second.
    pub datagrams_per_second: u32,
    /// Stream bytes a second.
    pub bytes_per_second: u64,
    /// How long the node has had the channel, ms.
    pub age_ms: u64,
}

impl TraceRecord {
    fn read(mut from: Reader<'_>) -> Result<TraceRecord, Malformed> {
        let node = NodeId(from.u64()?);
        let host = |bytes| Some(from_wire(bytes)).filter(|a| !a.is_unspecified());
        Ok(TraceRecord {
            node,
            own_address: host(from.array()?),
            upstream: host(from.array()?),
            audience: from.u32()?,
            highest: Sequence(from.u32()?),
            lost: from.u64()?,
            datagrams_per_second: from.u32()?,
            bytes_per_second: from.u64()?,
            age_ms: from.u64()?,
        })
    }

    fn write(&self, to: &mut Writer<'_>) {
        let none = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        to.u64(self.node.0)
            .bytes(&to_wire(self.own_address.unwrap_or(none)))
            .bytes(&to_wire(self.upstream.unwrap_or(none)))
            .u32(self.audience)
            .u32(self.highest.0)
            .u64(self.lost)
            .u32(self.datagrams_per_second)
            .u64(self.bytes_per_second)
            .u64(self.age_ms);
    }
}

/// Records, as they lie in a datagram or as they are to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// No records.
    pub const NONE: Records<'static> = Records(&[]);

    /// Appends a record to a buffer that [`Records::of`] takes; at most
    /// 32, further ones are left out.
    pub fn push(record: &TraceRecord, buffer: &mut Vec<u8>) {
        if buffer.len() < MAX_HOPS * RECORD_LEN {
            record.write(&mut Writer(buffer));
        }
    }

    /// The records in a buffer made by [`Records::push`].
    #[must_use]
    pub fn of(buffer: &'a [u8]) -> Records<'a> {
        let whole = buffer.len().min(MAX_HOPS * RECORD_LEN) / RECORD_LEN * RECORD_LEN;
        Records(&buffer[..whole])
    }

    /// One after another, nearest to the asker first.
    pub fn iter(&self) -> impl Iterator<Item = TraceRecord> + 'a {
        self.0
            .chunks_exact(RECORD_LEN)
            .filter_map(|bytes| TraceRecord::read(Reader::new(bytes)).ok())
    }

    fn count(&self) -> u8 {
        u8::try_from(self.0.len() / RECORD_LEN).unwrap_or(u8::MAX)
    }

    fn read(from: &mut Reader<'a>, count: u8) -> Result<Records<'a>, Malformed> {
        if usize::from(count) > MAX_HOPS {
            return Err(Malformed::Records);
        }
        from.slice(usize::from(count) * RECORD_LEN)
            .map(Records)
            .map_err(|_| Malformed::Records)
    }
}

/// "Who stands on the way?", validated like a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace<'a> {
    /// How many more nodes may pass it on.
    pub hop_budget: u8,
    /// The cookies of the last two nodes that challenged.
    pub cookies: [CookieStamp; 2],
    /// What the asker shows to be let in.
    pub credential: Credential,
    /// Records of the nodes passed so far.
    pub records: Records<'a>,
}

impl<'a> Trace<'a> {
    pub(crate) fn read(mut from: Reader<'a>) -> Result<Trace<'a>, Malformed> {
        let hop_budget = from.u8()?;
        let count = from.u8()?;
        from.u16()?;
        let cookies = [CookieStamp::read(&mut from)?, CookieStamp::read(&mut from)?];
        let records = Records::read(&mut from, count)?;
        Ok(Trace {
            hop_budget,
            cookies,
            records,
            credential: option::read(from.rest())?,
        })
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        to.u8(self.hop_budget).u8(self.records.count()).u16(0);
        for stamp in &self.cookies {
            stamp.write(to);
        }
        to.bytes(self.records.0);
        option::write(&self.credential, to);
    }
}

/// The records gathered, on their way back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceReply<'a> {
    /// One a node, nearest to the asker first.
    pub records: Records<'a>,
}

impl<'a> TraceReply<'a> {
    pub(crate) fn read(mut from: Reader<'a>) -> Result<TraceReply<'a>, Malformed> {
        from.u8()?;
        let count = from.u8()?;
        from.u16()?;
        let records = Records::read(&mut from, count)?;
        option::read(from.rest())?;
        Ok(TraceReply { records })
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        to.u8(0)
            .u8(self.records.count())
            .u16(0)
            .bytes(self.records.0);
    }
}
