//! Requests: "send me this channel", "go on", "leave", and the handover's parts.
//!
//! ```text
//!  48    hold wanted, ms, u32        52    heartbeat wanted, ms, u32
//!  56    parent: node id of the live parent; in a leave, the node meant
//!  64    K or J, u32 (0 where neither flag is set)
//!  68    flags: 1 leave, 2 from K, 4 until J, 8 no one left below
//!  69    attempt   70   hop budget   71   reserved
//!  72    datagrams received, u64     80    lost, u64 (all ones: unknown)
//!  88    receivers below, u32        92    path MTU, u16 (0: unknown)  94 reserved
//!  96    cookie stamp: node id 8, cookie 16      120   a second one
//! 144    options
//! ```
//! Always full size, zeros for missing cookies, so that a challenge is smaller.

use crate::field::{Reader, Writer};
use crate::{option, CookieStamp, Credential, Malformed, NodeId, Sequence, HEADER_LEN};

/// Bytes of a request without options and trailer.
pub const REQUEST_LEN: usize = HEADER_LEN + 48 + 2 * CookieStamp::LEN;

const LEAVE: u8 = 1;
const FROM: u8 = 2;
const UNTIL: u8 = 4;
const NONE_BELOW: u8 = 8;

/// What is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// The stream, now and on.
    Stream,
    /// The stream from this sequence on (to the standby parent).
    From(Sequence),
    /// The stream only up to, not including, this sequence (to the old parent).
    Until(Sequence),
    /// No more.
    Leave {
        /// "No one left below": the node above need not wait again.
        none_below: bool,
    },
}

/// A receive request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Message type *direct*: to a node's own address, never captured.
    pub direct: bool,
    /// What is wanted.
    pub want: Want,
    /// How long the entry should live without refresh, ms.
    pub hold_ms: u32,
    /// How often a status should come, ms.
    pub heartbeat_ms: u32,
    /// The requester's live parent ([`NodeId::NONE`]: none); in a leave, the node
    /// meant.
    pub parent: NodeId,
    /// How often this was asked without an answer; 0 at first.
    pub attempt: u8,
    /// How many more nodes may pass it on.
    pub hop_budget: u8,
    /// Stream datagrams received.
    pub received: u64,
    /// Stream datagrams missed by sequence; none where unknown.
    pub lost: Option<u64>,
    /// Receivers at and below the requester; a receiver writes 1.
    pub receivers_below: u32,
    /// Path MTU from the node to the requester in bytes; 0 where unknown.
    pub path_mtu: u16,
    /// The cookies of the last two nodes that challenged, newest first.
    pub cookies: [CookieStamp; 2],
    /// What the requester shows to be let in.
    pub credential: Credential,
}

impl Request {
    /// The cookie of `node`, if the request carries one.
    #[must_use]
    pub fn cookie_for(&self, node: NodeId) -> Option<&CookieStamp> {
        self.cookies.iter().find(|stamp| stamp.node == node)
    }

    pub(crate) fn read(mut from: Reader<'_>, direct: bool) -> Result<Request, Malformed> {
        let hold_ms = from.u32()?;
        let heartbeat_ms = from.u32()?;
        let parent = NodeId(from.u64()?);
        let at = Sequence(from.u32()?);
        let flags = from.u8()?;
        let want = match flags {
            0 => Want::Stream,
            FROM => Want::From(at),
            UNTIL => Want::Until(at),
            LEAVE => Want::Leave { none_below: false },
            f if f == LEAVE | NONE_BELOW => Want::Leave { none_below: true },
            _ => return Err(Malformed::Flags),
        };
        let attempt = from.u8()?;
        let hop_budget = from.u8()?;
        from.u8()?;
        let received = from.u64()?;
        let lost = Some(from.u64()?).filter(|&n| n != u64::MAX);
        let receivers_below = from.u32()?;
        let path_mtu = from.u16()?;
        from.u16()?;
        let cookies = [CookieStamp::read(&mut from)?, CookieStamp::read(&mut from)?];
        Ok(Request {
            direct,
            want,
            hold_ms,
            heartbeat_ms,
            parent,
            attempt,
            hop_budget,
            received,
            lost,
            receivers_below,
            path_mtu,
            cookies,
            credential: option::read(from.rest())?,
        })
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        let (flags, at) = match self.want {
            Want::Stream => (0, Sequence(0)),
            Want::From(k) => (FROM, k),
            Want::Until(j) => (UNTIL, j),
            Want::Leave { none_below } => {
                let below = if none_below { NONE_BELOW } else { 0 };
                (LEAVE | below, Sequence(0))
            }
        };
        to.u32(self.hold_ms)
            .u32(self.heartbeat_ms)
            .u64(self.parent.0)
            .u32(at.0)
            .u8(flags)
            .u8(self.attempt)
            .u8(self.hop_budget)
            .u8(0)
            .u64(self.received)
            .u64(self.lost.unwrap_or(u64::MAX))
            .u32(self.receivers_below)
            .u16(self.path_mtu)
            .u16(0);
        for stamp in &self.cookies {
            stamp.write(to);
        }
        option::write(&self.credential, to);
    }
}
