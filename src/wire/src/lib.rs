//! Flexcast on the wire: bytes to messages and messages to bytes.
//!
//! Promises: a datagram is read whole or refused for one named reason
//! ([`Malformed`]), reading never panics and never allocates, writing cannot
//! fail. Reading and writing of a message stand in one file, beside its drawing.
//! Is not: policy, state, sockets. What a message means is the engine's business.
//!
//! ```text
//! data      | application's datagram ... | trailer 16 |
//! end       | trailer 16 |
//! control   | magic version message ... options | trailer 16 |
//! ```
#![forbid(unsafe_code)]

mod challenge;
mod channel;
mod control;
mod cookie;
mod field;
mod malformed;
mod option;
mod path;
mod request;
mod sequence;
mod status;
mod trace;
mod trailer;

pub use challenge::Challenge;
pub use channel::{canonical, Channel, ChannelId};
pub use control::{Body, Control, Header, MessageType, CONTROL_WORD, HEADER_LEN, MESSAGE_OFFSET};
pub use cookie::{Cookie, CookieStamp, COOKIE_LEN};
pub use malformed::Malformed;
pub use option::{Credential, MAX_CREDENTIAL};
pub use path::{Path, MAX_HOPS};
pub use request::{Request, Want, REQUEST_LEN};
pub use sequence::Sequence;
pub use status::{Handover, Reason, Status, Verdict};
pub use trace::{Records, Trace, TraceRecord, TraceReply};
pub use trailer::{
    Kind, Nonce, StreamToken, Trailer, MAGIC, MAX_BODY_V4, MAX_BODY_V6, TRAILER_LEN,
};

/// The version of the messages that this crate reads and writes.
pub const VERSION: u8 = 1;

/// The fixed destination port of requests (`FLEXCAST_PORT` overrides it).
pub const FLEXCAST_PORT: u16 = 7450;

/// 64 random bits that a node (a sender process or a relay) chooses at start;
/// 0 stands for "a receiver" or "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NodeId(pub u64);

impl NodeId {
    /// No node: what receivers write about themselves.
    pub const NONE: NodeId = NodeId(0);

    /// Whether this names a node at all.
    #[must_use]
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeId({self})")
    }
}
