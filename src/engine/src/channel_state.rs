//! What a node says about a channel in each status, and what it tells operators.
//! Is not the audience itself.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_wire::{Channel, Path, Reason, Sequence, StreamToken, Verdict};

/// The part of a status that is the same for all requesters of a channel.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ChannelState {
    /// Granted, pending, ended, draining or a refusal.
    pub verdict: Verdict,
    /// Why a refusal.
    pub reason: Reason,
    /// The stream token, once known.
    pub token: Option<StreamToken>,
    /// The port of the sending application's socket.
    pub app_port: u16,
    /// Relays are to put new requesters to S.
    pub ask: bool,
    /// The nodes from S down to us, ourselves included.
    pub path: Path,
}

/// One line of a status table: a channel.
#[derive(Clone, Debug)]
pub struct ChannelSummary {
    /// Which channel.
    pub channel: Channel,
    /// What its requesters are told.
    pub state: ChannelState,
    /// Whom we ask; none where the stream is our own.
    pub upstream: Option<SocketAddr>,
    /// Requesters in the audience.
    pub requesters: Vec<RequesterSummary>,
    /// Receivers at and below them.
    pub receivers_below: u64,
    /// Stream datagrams passed on (once, whatever the audience).
    pub datagrams: u64,
    /// Stream bytes passed on, trailers included.
    pub bytes: u64,
    /// Stream datagrams missed from upstream by sequence.
    pub lost: u64,
    /// Stream datagrams that came twice.
    pub duplicates: u64,
    /// The highest sequence.
    pub highest: Option<Sequence>,
    /// How long the node has had the channel.
    pub age: Duration,
}

/// One requester of a channel.
#[derive(Clone, Debug)]
pub struct RequesterSummary {
    /// Where it asks from.
    pub address: SocketAddr,
    /// The address that it asked.
    pub asked: IpAddr,
    /// Granted without stream.
    pub standby: bool,
    /// How long it has been in.
    pub age: Duration,
    /// How long ago it last asked.
    pub idle: Duration,
    /// Stream datagrams sent to it.
    pub datagrams: u64,
    /// Stream bytes sent to it.
    pub bytes: u64,
    /// What it reports as lost; none where it cannot know.
    pub lost: Option<u64>,
    /// Receivers at and below it.
    pub receivers_below: u32,
}
