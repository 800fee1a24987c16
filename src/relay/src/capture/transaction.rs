//! A batch of nf_tables changes: all happen at once, or none.
//!
//! ```text
//!   BATCH_BEGIN | change | change | … | BATCH_END      one send
//!   each: netlink header, struct nfgenmsg (family, version, be16 resource id), attributes
//! ```
//! Promises: a refusal names the part whose change the kernel refused first.
//! Numbers from `linux/netfilter/nfnetlink.h` and `nf_tables.h`.

use flexcast_udp::Errno;

use super::attribute::Attributes;
use super::error::{CaptureError, Part};
use super::netlink::{frame, Netlink, Replies, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};

const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const SUBSYSTEM_NF_TABLES: u16 = 10;
const FAMILY_INET: u8 = 1;

/// `enum nf_tables_msg_types`, those in use here.
#[derive(Clone, Copy)]
pub(super) enum Message {
    NewTable = 0,
    GetTable = 1,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    NewSetElement = 12,
    GetSetElement = 13,
    DeleteSetElement = 14,
}

impl Message {
    fn kind(self) -> u16 {
        SUBSYSTEM_NF_TABLES << 8 | self as u16
    }
}

/// Changes that belong together.
pub(super) struct Transaction<'a> {
    netlink: &'a mut Netlink,
    messages: Vec<u8>,
    parts: Vec<(u32, Part)>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(netlink: &'a mut Netlink) -> Self {
        let mut messages = Vec::with_capacity(4096);
        let sequence = netlink.next_sequence();
        let body = prefix(0, SUBSYSTEM_NF_TABLES);
        frame(
            &mut messages,
            NFNL_MSG_BATCH_BEGIN,
            NLM_F_REQUEST,
            sequence,
            &body,
        );
        Self {
            netlink,
            messages,
            parts: Vec::new(),
        }
    }

    /// Adds a change; `flags` beyond request and acknowledge.
    pub(super) fn add(&mut self, part: Part, message: Message, flags: u16, content: &Attributes) {
        let sequence = self.netlink.next_sequence();
        let mut body = prefix(FAMILY_INET, 0).to_vec();
        body.extend_from_slice(content.as_bytes());
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        frame(&mut self.messages, message.kind(), flags, sequence, &body);
        self.parts.push((sequence, part));
    }

    /// # Errors
    /// What the kernel refused first; then nothing has changed.
    pub(super) fn commit(self) -> Result<(), Refusal> {
        let Self {
            netlink,
            mut messages,
            parts,
        } = self;
        let sequence = netlink.next_sequence();
        let body = prefix(0, SUBSYSTEM_NF_TABLES);
        frame(
            &mut messages,
            NFNL_MSG_BATCH_END,
            NLM_F_REQUEST,
            sequence,
            &body,
        );
        let replies = netlink
            .exchange(&messages)
            .map_err(|error| Refusal::new(Part::Table, CaptureError::socket(Part::Table, error)))?;
        let Some(answer) = replies.refusal() else {
            return Ok(());
        };
        // An answer to the batch itself (no permission, no nf_tables) is about all of it.
        let named = parts
            .iter()
            .find(|(sequence, _)| *sequence == answer.sequence);
        let part = named.map_or(Part::Table, |&(_, part)| part);
        Err(Refusal {
            part,
            errno: answer.errno,
            error: CaptureError::refused(part, answer),
        })
    }
}

/// A refused transaction, with the errno for those who know what to do about it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) part: Part,
    pub(super) errno: Errno,
    pub(super) error: CaptureError,
}

impl Refusal {
    fn new(part: Part, error: CaptureError) -> Self {
        Self {
            part,
            errno: Errno(0),
            error,
        }
    }
}

/// Asks for one object.
pub(super) fn get(
    netlink: &mut Netlink,
    message: Message,
    which: &Attributes,
) -> std::io::Result<Replies> {
    netlink.ask(message.kind(), NLM_F_ACK, &with_prefix(which))
}

/// Asks for all objects that match.
pub(super) fn list(
    netlink: &mut Netlink,
    message: Message,
    which: &Attributes,
) -> std::io::Result<Replies> {
    netlink.ask(message.kind(), NLM_F_DUMP, &with_prefix(which))
}

/// The attributes of an nf_tables message, behind its `struct nfgenmsg`.
pub(super) fn content(body: &[u8]) -> &[u8] {
    body.get(4..).unwrap_or(&[])
}

fn with_prefix(content: &Attributes) -> Vec<u8> {
    let mut body = prefix(FAMILY_INET, 0).to_vec();
    body.extend_from_slice(content.as_bytes());
    body
}

/// `struct nfgenmsg`
fn prefix(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
