//! One conversation with the kernel over a netlink socket.
//!
//! Netlink answers before `send` returns, so every exchange is: send, then read
//! until nothing is queued. Nothing here blocks, and there is no thread.
//! Promises: every refusal carries errno and, where the kernel gives one, its
//! text (`NETLINK_EXT_ACK`). It knows no subsystem: see `transaction` and
//! `policy_routing`.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use flexcast_udp::Errno;
use netlink_sys::{Socket, SocketAddr};

use super::attribute;

pub(super) const NLM_F_REQUEST: u16 = 0x1;
pub(super) const NLM_F_ACK: u16 = 0x4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;

const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER: usize = 16;
/// More than the kernel puts into one datagram of a dump (32 KiB).
const BUFFER: usize = 64 << 10;
/// Times that a dump is asked again when the tables changed under it.
const DUMP_TRIES: u32 = 5;

/// What the kernel said to one message: yes (`errno` 0) or why not.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) sequence: u32,
    pub(super) errno: Errno,
    /// The kernel's own words, often empty.
    pub(super) text: String,
}

/// All that came back in one exchange.
#[derive(Default, Debug)]
pub(super) struct Replies {
    pub(super) answers: Vec<Answer>,
    /// Bodies of the messages that are no answers, without netlink header.
    pub(super) bodies: Vec<Vec<u8>>,
    interrupted: bool,
}

impl Replies {
    /// The first refusal by sequence, which is the cause of later ones.
    pub(super) fn refusal(&self) -> Option<&Answer> {
        let refused = self
            .answers
            .iter()
            .filter(|answer| answer.errno != Errno(0));
        refused.min_by_key(|answer| answer.sequence)
    }
}

/// A netlink socket of one protocol, in the network namespace of its making.
pub(super) struct Netlink {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// # Errors
    /// EPROTONOSUPPORT where the kernel lacks the protocol.
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        socket.set_non_blocking(true)?;
        let buffer = Vec::with_capacity(BUFFER);
        Ok(Self {
            socket,
            buffer,
            sequence: 0,
        })
    }

    /// Makes the kernel read the attributes of a dump request of routing
    /// netlink (4.20), so that a router's million routes are not all sent.
    pub(super) fn filter_dumps(&self) -> io::Result<()> {
        self.socket.set_netlink_get_strict_chk(true)
    }

    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// One message, with what came back.
    pub(super) fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Replies> {
        for _ in 0..DUMP_TRIES {
            let sequence = self.next_sequence();
            let mut message = Vec::with_capacity(HEADER + body.len());
            frame(&mut message, kind, NLM_F_REQUEST | flags, sequence, body);
            let replies = self.exchange(&message)?;
            if !replies.interrupted {
                return Ok(replies);
            }
        }
        Err(io::Error::from(Errno::EBUSY))
    }

    /// Framed messages, with what came back.
    pub(super) fn exchange(&mut self, messages: &[u8]) -> io::Result<Replies> {
        // What an exchange that failed half-way left behind is no answer to this one.
        while self.receive()? {}
        while let Err(error) = self.socket.send(messages, 0) {
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        let mut replies = Replies::default();
        while self.receive()? {
            read_messages(&self.buffer, &mut replies);
        }
        Ok(replies)
    }

    /// Fills the buffer with the next datagram; false when none is queued.
    fn receive(&mut self) -> io::Result<bool> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Netlink {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Appends one message, netlink header first.
pub(super) fn frame(to: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    let length = u32::try_from(HEADER + body.len()).expect("a message below 4 GiB");
    to.extend_from_slice(&length.to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(&flags.to_ne_bytes());
    to.extend_from_slice(&sequence.to_ne_bytes());
    to.extend_from_slice(&0u32.to_ne_bytes());
    to.extend_from_slice(body);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn read_messages(mut bytes: &[u8], replies: &mut Replies) {
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]);
        let Some(body) = usize::try_from(length)
            .ok()
            .and_then(|end| bytes.get(HEADER..end))
        else {
            return;
        };
        let flags = u16::from_ne_bytes([f0, f1]);
        let sequence = u32::from_ne_bytes([s0, s1, s2, s3]);
        replies.interrupted |= flags & NLM_F_DUMP_INTR != 0;
        match u16::from_ne_bytes([k0, k1]) {
            NLMSG_NOOP => {}
            NLMSG_ERROR | NLMSG_DONE => replies.answers.push(read_answer(body, flags, sequence)),
            _ => replies.bodies.push(body.to_vec()),
        }
        bytes = bytes
            .get((HEADER + body.len()).next_multiple_of(4)..)
            .unwrap_or(&[]);
    }
}

/// `struct nlmsgerr`: negative errno, the header of the message answered, its
/// body unless capped, attributes. The end of a dump has the errno alone.
fn read_answer(body: &[u8], flags: u16, sequence: u32) -> Answer {
    let code = body
        .first_chunk()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    let text = if flags & NLM_F_ACK_TLVS != 0 && flags & NLM_F_CAPPED != 0 {
        let attributes = body.get(4 + HEADER..).unwrap_or(&[]);
        attribute::find(attributes, NLMSGERR_ATTR_MSG).map_or("", attribute::text)
    } else {
        ""
    };
    Answer {
        sequence,
        errno: Errno(code.saturating_neg()),
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(sequence: u32, errno: Errno) -> Vec<u8> {
        let mut body = (-errno.0).to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; HEADER]);
        let attributes = attribute::Attributes::new().text(NLMSGERR_ATTR_MSG, "because");
        body.extend_from_slice(attributes.as_bytes());
        let mut message = Vec::new();
        let flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
        frame(&mut message, NLMSG_ERROR, flags, sequence, &body);
        message
    }

    #[test]
    fn the_first_refusal_is_the_cause() {
        let bytes = [
            answer(1, Errno(0)),
            answer(3, Errno::EINVAL),
            answer(2, Errno::EPERM),
        ]
        .concat();
        let mut replies = Replies::default();
        read_messages(&bytes, &mut replies);
        let refusal = replies.refusal().expect("a refusal");
        assert_eq!((refusal.sequence, refusal.errno), (2, Errno::EPERM));
        assert_eq!(refusal.text, "because");
        assert_eq!(replies.answers.len(), 3);
    }

    #[test]
    fn cut_off_messages_are_left_out() {
        let whole = answer(1, Errno::EPERM);
        for end in 0..whole.len() {
            let mut replies = Replies::default();
            read_messages(&whole[..end], &mut replies);
            assert!(replies.answers.is_empty(), "cut at {end}");
        }
        let mut replies = Replies::default();
        read_messages(&whole, &mut replies);
        assert_eq!(replies.answers.len(), 1);
    }
}
