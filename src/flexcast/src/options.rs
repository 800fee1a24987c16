//! What can be set on a socket before it connects or listens.
//! Is not the kernel's options (SO_RCVTIMEO, SO_RCVBUF …): those are set on the
//! descriptor as ever.

use std::net::SocketAddr;
use std::time::Duration;

use flexcast_runtime::send::Limits;
use flexcast_runtime::{NodeSettings, RequesterSettings};
use flexcast_wire::Credential;

/// How a socket asks for its channel, or whom one that listens has room for.
///
/// ```
/// use std::time::Duration;
/// use flexcast::{Family, Options, Socket};
///
/// # fn main() -> Result<(), flexcast::Errno> {
/// let socket = Socket::new(Family::V4)?;
/// socket.set_options(Options {
///     heartbeat: Duration::from_millis(250),
///     ..Options::default()
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Between refreshes of a granted request. Higher: fewer requests, but a change of
    /// route is noticed later.
    pub refresh: Duration,
    /// How long the stream goes on without a refresh, at most 60 s. Higher: the stream
    /// to a crashed receiver runs on longer; lower: lost refreshes cost the stream.
    pub hold: Duration,
    /// Between the statuses wanted, 100 ms to 10 s. Higher: a dead node is noticed
    /// later (after three); lower: more control traffic.
    pub heartbeat: Duration,
    /// Who is asked instead of S; port 0 stands for the port of requests.
    pub via: Option<SocketAddr>,
    /// No data before a status has told the stream's token: nothing can be injected
    /// then, but a new sender's first datagrams are lost.
    pub strict: bool,
    /// Shown to be let in.
    pub credential: Credential,
    /// Of a socket that listens: the most requesters of each of its channels, relays
    /// and receivers that ask directly, 1 to 100 000. The next one is refused for the
    /// time being, and counted ([`crate::Socket::refused`]); those who are in stay in.
    /// Higher: each datagram takes longer to send.
    pub requesters: usize,
    /// Of a socket that listens: the most entries of one source, an IPv4 address or an
    /// IPv6 /64, over all channels of the process, 1 to 1 000 000; the largest that one
    /// of its sockets wants. Higher: one host can take the places of others.
    pub entries_per_source: u32,
}

impl Default for Options {
    fn default() -> Self {
        let settings = RequesterSettings::default();
        Options {
            refresh: settings.refresh,
            hold: settings.hold,
            heartbeat: settings.heartbeat,
            via: None,
            strict: false,
            credential: settings.credential,
            requesters: NodeSettings::sender().requesters,
            entries_per_source: NodeSettings::sender().entries_per_source,
        }
    }
}

impl Options {
    /// Whether every value is one that means something.
    pub(crate) fn are_sound(&self) -> bool {
        let second = Duration::from_secs(1);
        let heartbeats = Duration::from_millis(100)..=10 * second;
        (second..=60 * second).contains(&self.hold)
            && heartbeats.contains(&self.heartbeat)
            && (second..=60 * second).contains(&self.refresh)
            && (1..=100_000).contains(&self.requesters)
            && (1..=1_000_000).contains(&self.entries_per_source)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            requesters: Some(self.requesters),
            entries_per_source: Some(self.entries_per_source),
        }
    }

    pub(crate) fn requester(&self) -> RequesterSettings {
        RequesterSettings {
            refresh: self.refresh,
            hold: self.hold,
            heartbeat: self.heartbeat,
            credential: self.credential,
        }
    }
}
