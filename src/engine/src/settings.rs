//! What can be set, and what gets worse when it is raised or lowered.
//! Is not where settings are read from (crate `rules`, the relay's file).

use std::time::Duration;

use flexcast_wire::Credential;

use crate::time::ms;

/// How a requester asks.
#[derive(Clone, Debug)]
pub struct RequesterSettings {
    /// Between refreshes of a granted entry. Higher: fewer requests, but a
    /// route change is noticed later.
    pub refresh: Duration,
    /// How long the node keeps us without a refresh. Higher: a crashed
    /// receiver's stream runs on longer; lower: lost refreshes cost the stream.
    pub hold: Duration,
    /// Between statuses wanted. Higher: a dead parent is noticed later
    /// (3 heartbeats); lower: more control traffic.
    pub heartbeat: Duration,
    /// Shown to be let in.
    pub credential: Credential,
}

impl Default for RequesterSettings {
    fn default() -> Self {
        RequesterSettings {
            refresh: ms(10_000),
            hold: ms(35_000),
            heartbeat: ms(1_000),
            credential: Credential::NONE,
        }
    }
}

/// What a node admits and how much it keeps.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Channels in all. Higher: more memory under attack by validated sources.
    pub channels: usize,
    /// Channels of one S.
    pub channels_per_sender: usize,
    /// Requesters in one channel's audience.
    pub requesters: usize,
    /// Entries, pending ones included, of one IPv4 address or IPv6 /64.
    pub entries_per_source: u32,
    /// Challenges a second. Higher: more answers to spoofed floods; lower: slow
    /// joining after a restart with many receivers.
    pub challenges_per_second: u32,
    /// Statuses a second before longer heartbeats are granted.
    pub statuses_per_second: u32,
    /// The longest hold granted.
    pub longest_hold: Duration,
}

impl NodeSettings {
    /// The defaults of a relay.
    #[must_use]
    pub fn relay() -> NodeSettings {
        NodeSettings {
            channels: 100_000,
            channels_per_sender: 1_000,
            requesters: 100_000,
            entries_per_source: 1_024,
            challenges_per_second: 50_000,
            statuses_per_second: 20_000,
            longest_hold: ms(60_000),
        }
    }

    /// The defaults of a sender process.
    #[must_use]
    pub fn sender() -> NodeSettings {
        NodeSettings {
            channels: 1_000,
            requesters: 256,
            ..NodeSettings::relay()
        }
    }
}
