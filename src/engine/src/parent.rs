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
    /// Datagrams a second at its fastest lately, by its statuses.
    pub(crate) rate: f64,
    /// The most datagrams between two statuses lately: what may come in one burst.
    burst: f64,
    /// Two older sightings, 4 s and more apart, for the pace over seconds.
    anchors: Option<[(Sequence, Time); 2]>,
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
            burst: 0.0,
            anchors: None,
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
            self.burst = 0.0;
            self.anchors = None;
        }
        if let Some(highest) = status.highest {
            self.pace(now, highest);
        }
    }

    /// Learns the stream's pace from two sightings of the highest sequence.
    fn pace(&mut self, now: Time, highest: Sequence) {
        match &mut self.anchors {
            None => self.anchors = Some([(highest, now); 2]),
            Some([older, newer]) if now.since(newer.1) >= ms(4_000) => {
                *older = *newer;
                *newer = (highest, now);
            }
            Some(_) => {}
        }
        let Some((before, at)) = self.highest else {
            self.highest = Some((highest, now));
            return;
        };
        let span = now.since(at);
        let gained = highest.ahead_of(before).max(0);
        if span <= ms(1_500) {
            self.burst = f64::from(gained).max(self.burst * 0.9);
        }
        if span >= ms(50) {
            if gained >= AWAKE && self.steady_rate().is_some_and(is_slow) {
                // It was silent and flows now: older sightings say nothing of it.
                self.anchors = Some([(before, at); 2]);
            }
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

    /// Datagrams a second over the last seconds; none where too short a time is known.
    fn steady_rate(&self) -> Option<f64> {
        let (highest, at) = self.highest?;
        let [(before, since), _] = self.anchors?;
        let span = at.since(since);
        let gained = f64::from(highest.ahead_of(before).max(0));
        (span >= ms(1_000)).then(|| gained / span.as_secs_f64())
    }

    /// Where the stream stands by now, as far as one can tell.
    fn reckoned(&self, now: Time, steady: f64) -> Option<Sequence> {
        let (highest, at) = self.highest?;
        let since = now.since(at).as_secs_f64().min(2.0);
        Some(highest.plus(whole(steady * since)))
    }

    /// Whether nothing came for three heartbeats.
    pub(crate) fn is_silent(&self, now: Time) -> bool {
        now >= self.silent_at()
    }

    pub(crate) fn silent_at(&self) -> Time {
        self.heard + self.heartbeat * 3
    }
}

/// Datagrams between two sightings of a stream that is no slow one.
const AWAKE: i32 = 8;

/// Whether a pace (datagrams a second) leaves room for no more than the next datagram
/// before nodes wait no longer.
fn is_slow(steady: f64) -> bool {
    whole(steady * AHEAD) <= 1
}

/// The steady pace of the stream that both send, where one of them is known for long
/// enough to tell.
fn pace_of(old: &Parent, new: &Parent) -> Option<f64> {
    match (old.steady_rate(), new.steady_rate()) {
        (Some(a), Some(b)) => Some(a.max(b)),
        (a, b) => a.or(b),
    }
}

/// The highest sequence that either is known to have sent, as of their last words.
pub(crate) fn highest_of(old: &Parent, new: &Parent) -> Option<Sequence> {
    match (old.highest, new.highest) {
        (Some((a, _)), Some((b, _))) => Some(a.later(b)),
        (a, b) => a.or(b).map(|(highest, _)| highest),
    }
}

/// Whether it is time to say K: the pace is known, and the new node has the stream. A
/// slow stream, whose K is the next datagram, turns just after one: `seen` was the
/// highest sequence when the two were first looked at. The next is then a whole gap
/// away, and does not come while one node knows of the turn and the other does not.
pub(crate) fn is_ripe(old: &Parent, new: &Parent, seen: Option<Sequence>) -> bool {
    let (Some(steady), Some((highest, _))) = (pace_of(old, new), new.highest) else {
        return false;
    };
    !is_slow(steady) || seen.is_none_or(|seen| highest.newer_than(seen))
}

/// Seconds of stream that K is ahead at most, of the 2 s after which nodes wait no
/// longer.
const AHEAD: f64 = 1.5;

/// K: the first sequence that the new node is to send. Highest known from both
/// plus the larger of 64 datagrams and 200 ms of stream, but at most [`AHEAD`] and at
/// least 1.
///
/// 200 ms of stream are the most that may come in them: a whole burst, where the
/// stream comes in bursts. The steady pace bounds it, so that a slow stream's K is the
/// next datagram and not one that comes after the 2 s.
pub(crate) fn turning_point(now: Time, old: &Parent, new: &Parent) -> Sequence {
    let fastest = old.rate.max(new.rate);
    let steady = pace_of(old, new).unwrap_or(fastest);
    let highest = match (old.reckoned(now, steady), new.reckoned(now, steady)) {
        (Some(a), Some(b)) => a.later(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => return Sequence(1),
    };
    // A quarter more: the burst known may have been a part of one.
    let most = (fastest * 0.2).max(old.burst * 1.25).max(new.burst * 1.25);
    let margin = whole(most).max(64).min(whole(steady * AHEAD)).max(1);
    highest.plus(margin)
}

/// A small non-negative number of datagrams, rounded down.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
fn whole(n: f64) -> u32 {
    n.clamp(0.0, 1_000_000_000.0) as u32
}
