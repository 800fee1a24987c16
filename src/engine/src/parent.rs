//! A node as a requester sees it: its statuses, the stream's pace by them.
//! Is not the choice between nodes (`requester`).

use std::net::IpAddr;
use std::time::Duration;

use flexcast_wire::{Header, NodeId, Path, Sequence, Status, StreamToken, Verdict};

use crate::time::ms;
use crate::Time;

/// What is known of a node that answers.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Its id.
    pub node: NodeId,
    /// Its own address, for direct requests.
    pub own_address: Option<IpAddr>,
    /// Its last verdict.
    pub verdict: Verdict,
    /// The stream token that it knows.
    pub token: Option<StreamToken>,
    /// The nodes from S down to it.
    pub path: Path,
    /// The heartbeat that it granted.
    pub heartbeat: Duration,
    /// When its last status came.
    pub heard: Time,
    pub(crate) sequence: Sequence,
    pub(crate) highest: Option<(Sequence, Time)>,
    /// Datagrams a second, by its statuses.
    pub(crate) rate: f64,
}

impl Parent {
    /// A node that sent its first status.
    pub(crate) fn new(now: Time, header: &Header, status: &Status) -> Parent {
        let mut parent = Parent {
            node: header.node,
            own_address: None,
            verdict: status.verdict,
            token: None,
            path: status.path,
            heartbeat: ms(1_000),
            heard: now,
            sequence: header.sequence,
            highest: None,
            rate: 0.0,
        };
        parent.hear(now, header, status);
        parent
    }

    /// Takes note of a status.
    pub(crate) fn hear(&mut self, now: Time, header: &Header, status: &Status) {
        self.heard = now;
        self.sequence = header.sequence;
        self.verdict = status.verdict;
        self.path = status.path;
        self.own_address = status.own_address.or(self.own_address);
        if status.heartbeat_ms > 0 {
            let granted = ms(u64::from(status.heartbeat_ms));
            self.heartbeat = granted.clamp(ms(50), ms(60_000));
        }
        if status.token != self.token {
            self.token = status.token;
            self.highest = None;
            self.rate = 0.0;
        }
        if let Some(highest) = status.highest {
            self.pace(now, highest);
        }
    }

    /// Learns the stream's pace from two sightings of the highest sequence.
    fn pace(&mut self, now: Time, highest: Sequence) {
        let Some((before, at)) = self.highest else {
            self.highest = Some((highest, now));
            return;
        };
        let span = now.since(at);
        let gained = highest.ahead_of(before).max(0);
        if span >= ms(50) {
            let rate = f64::from(gained) / span.as_secs_f64();
            self.rate = if self.rate == 0.0 {
                rate
            } else {
                rate.max(self.rate * 0.7 + rate * 0.3)
            };
            self.highest = Some((highest, now));
        } else if gained > 0 {
            self.highest = Some((highest, at));
        }
    }

    /// Where the stream stands by now, as far as one can tell.
    pub(crate) fn reckoned(&self, now: Time) -> Option<Sequence> {
        let (highest, at) = self.highest?;
        let since = now.since(at).as_secs_f64().min(2.0);
        Some(highest.plus(whole(self.rate * since)))
    }

    /// Whether nothing came for three heartbeats.
    pub(crate) fn is_silent(&self, now: Time) -> bool {
        now >= self.silent_at()
    }

    pub(crate) fn silent_at(&self) -> Time {
        self.heard + self.heartbeat * 3
    }
}

/// K: the first sequence that the new node is to send. Highest known from both
/// plus the larger of 64 datagrams and 200 ms of stream, but at most 2 s of
/// stream and at least 1.
pub(crate) fn turning_point(now: Time, old: &Parent, new: &Parent) -> Sequence {
    let rate = old.rate.max(new.rate);
    let highest = match (old.reckoned(now), new.reckoned(now)) {
        (Some(a), Some(b)) => a.later(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return Sequence(1),
    };
    let margin = whole(rate * 0.2).max(64).min(whole(rate * 2.0)).max(1);
    highest.plus(margin)
}

/// A small non-negative number of datagrams.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
fn whole(n: f64) -> u32 {
    n.clamp(0.0, 1_000_000_000.0).ceil() as u32
}
