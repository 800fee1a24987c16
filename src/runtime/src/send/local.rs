//! What the sender processes of one host say to each other, one message a packet.
//!
//! ```text
//! | version 1 | kind 1 | fields ... |      native byte order: it never leaves the host
//! address:   family 1 | 16 bytes          socket: address | port 2 | scope 4
//! ```
//! Promises: whatever is read is whole or none; both ends are of one user, or root's,
//! so there is no secret to keep between them. Is not the connection (`peer`).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use flexcast_engine::EntryRecord;
use flexcast_wire::{Channel, ChannelId, Nonce, Sequence};

/// Raised when a message changes.
const VERSION: u8 = 1;
/// Entries in one message, which stays below a default socket buffer by far.
pub(super) const RECORDS: usize = 256;

/// A message. M is a member, O the owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Message<'a> {
    /// O → M: you are in.
    Welcome,
    /// M → O: I send this channel; `holding`: I have its audience already.
    Register { channel: Channel, holding: bool },
    /// O → M: the channel is yours, or (`held`) a living process has it.
    Registered { id: ChannelId, held: bool },
    /// M → O: my stream of it has ended; somebody else may have it.
    Ended { id: ChannelId },
    /// O → M: somebody else sends it now: hand its requesters over.
    Yield { id: ChannelId },
    /// Both: requesters of a channel, validated.
    Records {
        channel: Channel,
        records: Vec<EntryRecord>,
    },
    /// O → M: a control datagram for a channel of yours, as it came.
    Request {
        from: SocketAddr,
        asked: IpAddr,
        bytes: &'a [u8],
    },
    /// O → M: an ICMP error quoted a datagram from FP to this address.
    Unreachable { to: SocketAddr },
    /// Both: a datagram of a second process, to be sent by the one that has the channel.
    Push { id: ChannelId, body: &'a [u8] },
    /// M → O: say how many receivers the channel has, and when that changes.
    Watch { id: ChannelId },
    /// Both: receivers at and below the requesters of a channel.
    Count { id: ChannelId, receivers: u64 },
    /// M → O, answered by Pong.
    Ping,
    /// O → M.
    Pong,
    /// M → O: requests for channels that nobody has are for me, or no longer. O → M:
    /// whether they are.
    Wildcard { on: bool },
    /// A new owner → one of a lower generation: stand back.
    Supersede,
}

impl<'a> Message<'a> {
    /// The packet.
    pub(super) fn emit(&self) -> Vec<u8> {
        let mut to = Writer(vec![VERSION]);
        match self {
            Message::Welcome => to.u8(1),
            Message::Register { channel, holding } => {
                to.u8(2).channel(channel).u8(u8::from(*holding))
            }
            Message::Registered { id, held } => to.u8(3).id(*id).u8(u8::from(*held)),
            Message::Ended { id } => to.u8(4).id(*id),
            Message::Yield { id } => to.u8(5).id(*id),
            Message::Records { channel, records } => {
                to.u8(6).channel(channel);
                records.iter().fold(&mut to, |to, record| to.record(record))
            }
            Message::Request { from, asked, bytes } => {
                to.u8(7).socket(*from).ip(*asked).bytes(bytes)
            }
            Message::Unreachable { to: address } => to.u8(8).socket(*address),
            Message::Push { id, body } => to.u8(9).id(*id).bytes(body),
            Message::Watch { id } => to.u8(10).id(*id),
            Message::Count { id, receivers } => to.u8(11).id(*id).u64(*receivers),
            Message::Ping => to.u8(12),
            Message::Pong => to.u8(13),
            Message::Supersede => to.u8(14),
            Message::Wildcard { on } => to.u8(15).u8(u8::from(*on)),
        };
        to.0
    }

    /// Reads a packet; none where it is no message of this version.
    pub(super) fn parse(packet: &'a [u8]) -> Option<Message<'a>> {
        let mut from = Reader(packet);
        if from.u8()? != VERSION {
            return None;
        }
        let message = match from.u8()? {
            1 => Message::Welcome,
            2 => Message::Register {
                channel: from.channel()?,
                holding: from.u8()? != 0,
            },
            3 => Message::Registered {
                id: from.id()?,
                held: from.u8()? != 0,
            },
            4 => Message::Ended { id: from.id()? },
            5 => Message::Yield { id: from.id()? },
            6 => {
                let channel = from.channel()?;
                let mut records = Vec::new();
                while !from.0.is_empty() {
                    records.push(from.record()?);
                }
                Message::Records { channel, records }
            }
            7 => Message::Request {
                from: from.socket()?,
                asked: from.ip()?,
                bytes: from.rest(),
            },
            8 => Message::Unreachable { to: from.socket()? },
            9 => Message::Push {
                id: from.id()?,
                body: from.rest(),
            },
            10 => Message::Watch { id: from.id()? },
            11 => Message::Count {
                id: from.id()?,
                receivers: from.u64()?,
            },
            12 => Message::Ping,
            13 => Message::Pong,
            14 => Message::Supersede,
            15 => Message::Wildcard {
                on: from.u8()? != 0,
            },
            _ => return None,
        };
        from.0.is_empty().then_some(message)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(&mut self, n: u8) -> &mut Self {
        self.bytes(&[n])
    }

    fn u32(&mut self, n: u32) -> &mut Self {
        self.bytes(&n.to_ne_bytes())
    }

    fn u64(&mut self, n: u64) -> &mut Self {
        self.bytes(&n.to_ne_bytes())
    }

    fn id(&mut self, id: ChannelId) -> &mut Self {
        self.u64(id.get())
    }

    fn ip(&mut self, ip: IpAddr) -> &mut Self {
        match ip {
            IpAddr::V4(v4) => self.u8(4).bytes(&v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => self.u8(6).bytes(&v6.octets()),
        }
    }

    fn socket(&mut self, address: SocketAddr) -> &mut Self {
        let scope = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        self.ip(address.ip())
            .bytes(&address.port().to_ne_bytes())
            .u32(scope)
    }

    fn channel(&mut self, channel: &Channel) -> &mut Self {
        self.id(channel.id).ip(channel.sender)
    }

    fn record(&mut self, record: &EntryRecord) -> &mut Self {
        self.socket(record.address)
            .ip(record.asked)
            .ip(record.sender)
            .u64(record.nonce.0)
            .u32(record.sequence.0)
            .u32(record.hold_ms)
            .u32(record.heartbeat_ms)
            .u32(record.receivers_below)
            .u8(record.hop_budget)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[n]| n)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    fn id(&mut self) -> Option<ChannelId> {
        ChannelId::new(self.u64()?)
    }

    fn ip(&mut self) -> Option<IpAddr> {
        let family = self.u8()?;
        let address = Ipv6Addr::from(self.array::<16>()?);
        match family {
            4 => address.to_ipv4_mapped().map(IpAddr::V4),
            6 => Some(IpAddr::V6(address)),
            _ => None,
        }
    }

    fn socket(&mut self) -> Option<SocketAddr> {
        let ip = self.ip()?;
        let port = self.array().map(u16::from_ne_bytes)?;
        let scope = self.u32()?;
        Some(match ip {
            IpAddr::V4(_) => SocketAddr::new(ip, port),
            IpAddr::V6(v6) => SocketAddr::V6(SocketAddrV6::new(v6, port, 0, scope)),
        })
    }

    fn channel(&mut self) -> Option<Channel> {
        let id = self.id()?;
        Some(Channel::new(self.ip()?, id))
    }

    fn record(&mut self) -> Option<EntryRecord> {
        Some(EntryRecord {
            address: self.socket()?,
            asked: self.ip()?,
            sender: self.ip()?,
            nonce: Nonce(self.u64()?),
            sequence: Sequence(self.u32()?),
            hold_ms: self.u32()?,
            heartbeat_ms: self.u32()?,
            receivers_below: self.u32()?,
            hop_budget: self.u8()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u32) -> EntryRecord {
        EntryRecord {
            address: "[fe80::1%3]:5001".parse().unwrap(),
            asked: "10.0.0.1".parse().unwrap(),
            sender: "2001:db8::1".parse().unwrap(),
            nonce: Nonce(u64::from(n) + 1),
            sequence: Sequence(n),
            hold_ms: 35_000,
            heartbeat_ms: 1_000,
            receivers_below: 7,
            hop_budget: 32,
        }
    }

    fn all() -> Vec<Message<'static>> {
        let id = ChannelId::new(5).unwrap();
        let channel: Channel = "10.0.0.1#5".parse().unwrap();
        let records: Vec<EntryRecord> = (0..3).map(record).collect();
        vec![
            Message::Welcome,
            Message::Register {
                channel,
                holding: true,
            },
            Message::Registered { id, held: false },
            Message::Ended { id },
            Message::Yield { id },
            Message::Records { channel, records },
            Message::Request {
                from: "10.0.0.2:4000".parse().unwrap(),
                asked: "10.0.0.1".parse().unwrap(),
                bytes: b"request",
            },
            Message::Unreachable {
                to: "[2001:db8::2]:4000".parse().unwrap(),
            },
            Message::Push { id, body: b"" },
            Message::Push { id, body: b"body" },
            Message::Watch { id },
            Message::Count { id, receivers: 9 },
            Message::Ping,
            Message::Pong,
            Message::Supersede,
            Message::Wildcard { on: true },
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        for message in all() {
            assert_eq!(Message::parse(&message.emit()), Some(message));
        }
    }

    #[test]
    fn a_cut_or_stretched_message_is_none_or_another_but_never_a_panic() {
        for message in all() {
            let whole = message.emit();
            for end in 0..whole.len() {
                let read = Message::parse(&whole[..end]);
                assert_ne!(read, Some(message.clone()));
            }
        }
        let mut stretched = Message::Ping.emit();
        stretched.push(0);
        assert_eq!(Message::parse(&stretched), None);
        let mut other = Message::Ping.emit();
        other[0] += 1;
        assert_eq!(Message::parse(&other), None, "another version");
    }
}
