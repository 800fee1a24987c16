//! A requester, as the sender sees it: a receiver, or a relay in others' stead.
//! Is not a connection: a sender need not know of it.

use std::net::SocketAddr;
use std::time::Duration;

use flexcast_runtime::RequesterSummary;

/// One of those who get a channel's stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Requester {
    /// Where it asks from, and where the stream goes.
    pub address: SocketAddr,
    /// How long it has been in.
    pub age: Duration,
    /// How long ago it last asked.
    pub idle: Duration,
    /// Datagrams sent to it.
    pub datagrams: u64,
    /// Bytes sent to it, trailers included.
    pub bytes: u64,
    /// What it says it has lost; none where it cannot know.
    pub lost: Option<u64>,
    /// Receivers at and below it.
    pub receivers_below: u32,
}

impl From<RequesterSummary> for Requester {
    fn from(summary: RequesterSummary) -> Requester {
        Requester {
            address: summary.address,
            age: summary.age,
            idle: summary.idle,
            datagrams: summary.datagrams,
            bytes: summary.bytes,
            lost: summary.lost,
            receivers_below: summary.receivers_below,
        }
    }
}
