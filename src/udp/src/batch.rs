//! Datagrams, many in one system call, and one at a time.
//!
//! Promises: one destination's trouble stays its own; nothing blocks; in the steady
//! state nothing is allocated. Stream and control leave by the same socket and
//! differ in TTL and traffic class, which go with each datagram as control messages.
//! Is not: fan-out of the same bytes to many (see `fan_out`).

mod receive;
mod send;
mod single;

pub use receive::{ReceiveBatch, Received, Segments};
pub(crate) use send::is_foreign;
pub use send::{Flushed, SendBatch};
pub use single::{recv_one, recv_parts, send_one, Arrival, MAX_PARTS};

/// What a datagram is to the network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// TTL or hop limit 64, traffic class 0.
    Stream,
    /// TTL or hop limit 63, traffic class CS6 (0xC0): routers keep it under load,
    /// and receive offload never joins it to stream datagrams.
    Control,
}

impl Class {
    /// TTL or hop limit.
    #[must_use]
    pub fn ttl(self) -> i32 {
        match self {
            Self::Stream => 64,
            Self::Control => 63,
        }
    }

    /// TOS or traffic class byte.
    #[must_use]
    pub fn traffic_class(self) -> i32 {
        match self {
            Self::Stream => 0,
            Self::Control => 0xC0,
        }
    }
}

#[cfg(test)]
mod tests;
