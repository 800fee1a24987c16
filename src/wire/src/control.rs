//! Control datagrams: the common header, and which message follows it.
//!
//! ```text
//!   0    F1 EC A5 | version        what a capture rule compares
//!   4    message type
//!   5    0, reserved (3 bytes)
//!   8    channel id, never 0
//!  16    S, 16 bytes (IPv4 as v4-mapped)
//!  32    node id of the writer, 0 from a receiver
//!  40    own sequence      44    sequence of the request answered
//!  48    the message, then options, then the trailer (token = nonce)
//! ```
//! Promises: parsed whole or refused for one reason; emitted without failing.

use crate::channel::{from_wire, is_host, to_wire};
use crate::field::{Reader, Writer};
use crate::{
    Challenge, Channel, ChannelId, Kind, Malformed, NodeId, Nonce, Request, Sequence, Status,
    Trace, TraceReply, Trailer, MAGIC, VERSION,
};

/// Bytes before the message itself.
pub const HEADER_LEN: usize = 48;

/// The first four payload bytes of control of our version, as a number.
pub const CONTROL_WORD: u32 = MAGIC << 8 | VERSION as u32;

/// Where in the payload the message type stands, for capture rules.
pub const MESSAGE_OFFSET: usize = 4;

/// The message types and their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum MessageType {
    /// Towards S; relays on the way catch it.
    Request = 1,
    /// To a node's own address; nobody on the way catches it.
    DirectRequest = 2,
    /// A cookie to echo.
    Challenge = 3,
    /// What a node says to an entry.
    Status = 4,
    /// Hop by hop like a request.
    Trace = 5,
    /// The records gathered.
    TraceReply = 6,
}

/// What all control messages carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The channel that it is about.
    pub channel: Channel,
    /// The requester's nonce, in both directions.
    pub nonce: Nonce,
    /// Who writes; [`NodeId::NONE`] from a receiver.
    pub node: NodeId,
    /// The writer's own sequence.
    pub sequence: Sequence,
    /// The sequence of the request that this answers; 0 in requests.
    pub answered: Sequence,
}

/// The message after the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant)] // lives on the stack for one datagram's time
pub enum Body<'a> {
    /// A request or a direct request ([`Request::direct`]).
    Request(Request),
    /// A challenge.
    Challenge(Challenge),
    /// A status.
    Status(Status),
    /// A trace.
    Trace(Trace<'a>),
    /// A trace's answer.
    TraceReply(TraceReply<'a>),
}

/// A whole control datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control<'a> {
    /// What all have.
    pub header: Header,
    /// What this one says.
    pub body: Body<'a>,
}

impl<'a> Control<'a> {
    /// Reads a datagram, trailer included.
    ///
    /// # Errors
    /// The one reason why it is not a control datagram of our version.
    pub fn parse(datagram: &'a [u8]) -> Result<Control<'a>, Malformed> {
        let (message, trailer) = Trailer::split(datagram)?;
        if trailer.kind != Kind::Control {
            return Err(Malformed::NotControl);
        }
        Self::parse_body(message, &trailer)
    }

    /// Reads a control datagram whose trailer was split off already.
    ///
    /// # Errors
    /// As [`Control::parse`].
    pub fn parse_body(message: &'a [u8], trailer: &Trailer) -> Result<Control<'a>, Malformed> {
        let mut from = Reader::new(message);
        let word = from.u32()?;
        if word >> 8 != MAGIC {
            return Err(Malformed::Magic);
        }
        if word & 0xFF != u32::from(VERSION) {
            return Err(Malformed::Version);
        }
        let message_type = from.u8()?;
        from.array::<3>()?;
        let id = ChannelId::new(from.u64()?).ok_or(Malformed::Wildcard)?;
        let sender = from_wire(from.array()?);
        if !is_host(sender) {
            return Err(Malformed::Sender);
        }
        let header = Header {
            channel: Channel::new(sender, id),
            nonce: Nonce(trailer.token),
            node: NodeId(from.u64()?),
            sequence: Sequence(from.u32()?),
            answered: Sequence(from.u32()?),
        };
        let body = match message_type {
            1 => Body::Request(Request::read(from, false)?),
            2 => Body::Request(Request::read(from, true)?),
            3 => Body::Challenge(Challenge::read(from)?),
            4 => Body::Status(Status::read(from)?),
            5 => Body::Trace(Trace::read(from)?),
            6 => Body::TraceReply(TraceReply::read(from)?),
            _ => return Err(Malformed::Message),
        };
        Ok(Control { header, body })
    }

    /// Appends the datagram, trailer included, to `out`.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let header = &self.header;
        let mut to = Writer(out);
        to.u32(CONTROL_WORD)
            .u8(self.message_type() as u8)
            .bytes(&[0; 3])
            .u64(header.channel.id.get())
            .bytes(&to_wire(header.channel.sender))
            .u64(header.node.0)
            .u32(header.sequence.0)
            .u32(header.answered.0);
        match &self.body {
            Body::Request(m) => m.write(&mut to),
            Body::Challenge(m) => m.write(&mut to),
            Body::Status(m) => m.write(&mut to),
            Body::Trace(m) => m.write(&mut to),
            Body::TraceReply(m) => m.write(&mut to),
        }
        let trailer = Trailer {
            token: header.nonce.0,
            sequence: Sequence(0),
            kind: Kind::Control,
        };
        to.bytes(&trailer.bytes());
    }

    /// The number this message goes by.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        match &self.body {
            Body::Request(m) if m.direct => MessageType::DirectRequest,
            Body::Request(_) => MessageType::Request,
            Body::Challenge(_) => MessageType::Challenge,
            Body::Status(_) => MessageType::Status,
            Body::Trace(_) => MessageType::Trace,
            Body::TraceReply(_) => MessageType::TraceReply,
        }
    }
}
