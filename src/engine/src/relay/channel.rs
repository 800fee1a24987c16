//! One channel of a relay: the audience below, the requester above, and what those below
//! are told of what was said above.

use flexcast_wire::{Channel, NodeId, Path, Reason, StreamToken, Verdict};

use crate::audience::Audience;
use crate::{ChannelState, ChannelSummary, DuplicateWindow, Requester, RequesterSettings, Time};

#[derive(Debug)]
pub(super) struct RelayChannel {
    pub(super) audience: Audience,
    pub(super) requester: Requester,
    pub(super) window: DuplicateWindow,
    pub(super) state: ChannelState,
    pub(super) since: Time,
    /// The token of a stream that has ended, until the next one's is known: *ended* may
    /// overtake the stream's last datagrams.
    pub(super) ended: Option<StreamToken>,
    /// When the empty audience is left upstream.
    pub(super) empty_until: Option<Time>,
    /// A loop was found; ask again then.
    pub(super) retry: Option<Time>,
    /// Its requesting socket is somebody else's: how that one asks.
    pub(super) lent: Option<RequesterSettings>,
    pub(super) duplicates: u64,
    pub(super) foreign: u64,
    pub(super) armed: Time,
}

impl RelayChannel {
    /// Whether datagrams with this token are the stream's.
    pub(super) fn takes(&self, token: u64) -> bool {
        let known = self.requester.token().or(self.ended);
        known.is_some_and(|known| known.0 == token)
    }

    pub(super) fn next_time(&self) -> Time {
        let mut at = self.audience.next_event();
        if self.requester.is_gone() {
            at = at.min(self.retry.unwrap_or(Time(0)));
        } else {
            at = at.min(self.requester.next_time());
        }
        match self.empty_until {
            Some(due) if !self.requester.is_leaving() => at.min(due),
            _ => at,
        }
    }

    pub(super) fn summary(&self, now: Time, channel: Channel) -> ChannelSummary {
        let (datagrams, bytes, highest) = self.audience.carried();
        ChannelSummary {
            channel,
            state: self.state,
            upstream: Some(self.requester.asked()),
            requesters: self.audience.summaries(now),
            receivers_below: self.audience.receivers_below(),
            datagrams,
            bytes,
            lost: self.window.lost(),
            duplicates: self.duplicates,
            highest,
            age: now.since(self.since),
        }
    }
}

/// The path from S goes through this node.
pub(super) struct Looped;

/// What the children are told, given what upstream said.
pub(super) fn derive(
    node: NodeId,
    requester: &Requester,
    looped: bool,
) -> Result<ChannelState, Looped> {
    let mut state = unknown(node);
    state.token = requester.token();
    state.app_port = requester.app_port();
    if looped {
        state.verdict = Verdict::RefusedPassing;
        state.reason = Reason::Loop;
        return Ok(state);
    }
    if let Some((verdict, reason)) = requester.verdict() {
        if requester.parent().is_some() || verdict != Verdict::Granted {
            state.verdict = verdict;
            state.reason = reason;
        }
    }
    if let Some(parent) = requester.parent() {
        if parent.path.contains(node) {
            return Err(Looped);
        }
        match parent.path.with(node) {
            Some(path) => state.path = path,
            None => {
                state.verdict = Verdict::RefusedPassing;
                state.reason = Reason::TooDeep;
            }
        }
    }
    Ok(state)
}

/// What is told before upstream has said anything.
pub(super) fn unknown(node: NodeId) -> ChannelState {
    ChannelState {
        verdict: Verdict::Pending,
        reason: Reason::None,
        token: None,
        app_port: 0,
        ask: false,
        path: Path::EMPTY.with(node).unwrap_or(Path::EMPTY),
    }
}
