//! The requester: asks for one channel, keeps its entry alive, changes parents.
//!
//! ```text
//!            challenge/echo           status: granted
//!   Asking ────────────────► Asking ────────────────► Fed ──3 heartbeats──► Asking
//!     ▲ 100 ms … 1 s, 1 s while pending                │ another node answers twice,
//!     └────────────────────────────────────────────────┘ or the parent drains: handover
//!   handover:  look at both, every 200 ms ─► From(K) to the new node, every 50 ms ─► J
//!              ─► Until(J) to the old one
//! ```
//! Timers: retry 100 ms–1 s; refresh ±20 %; poll 1 s ±20 % (5 s after 10 minutes);
//! silence 3 heartbeats + 0–0.3; looks 200 ms for at most 2.5 s;
//! from K 50 ms; leaves 0, 50, 200 ms.
//! Is not a socket: it says what to send, and to which address.

mod asking;
mod handover;
mod hearing;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use flexcast_wire::{
    Body, Channel, Control, Cookie, CookieStamp, Handover, Header, NodeId, Nonce, Reason, Request,
    Sequence, Status, StreamToken, Verdict, Want,
};

use crate::parent::{highest_of, is_ripe, turning_point, Parent};
use crate::time::{as_ms, ms};
use crate::upward::Former;
use crate::{Outbox, RequesterSettings, Route, Time};

/// The hop budget that receivers start with.
pub(crate) const HOPS: u8 = 32;

/// Repeats without an answer after which a refresh counts as unanswered (1.5 s).
const UNANSWERED: u8 = 4;

/// What the requester tells its user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequesterEvent {
    /// The verdict of the parent changed (granted, pending, a refusal, ended).
    Verdict(Verdict, Reason),
    /// The stream token is known, or (none) any token is to be taken again.
    Token(Option<StreamToken>),
    /// The port of the sending application's socket.
    AppPort(u16),
}

/// A node that answers beside the parent.
#[derive(Clone, Debug)]
struct Candidate {
    node: Parent,
    /// Requests of ours that it answered.
    answers: u8,
    answered: Sequence,
    /// Both nodes are looked at until K can be told.
    look: Option<Look>,
    /// K and when to ask for it again.
    turn: Option<(Sequence, Time)>,
}

/// The wait for what K needs.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// The highest sequence at its begin.
    seen: Option<Sequence>,
    /// When to ask both again.
    next: Time,
    /// From when on K is told with what is known.
    until: Time,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    none_below: bool,
    sent: u8,
    next: Time,
}

/// Asks for one channel on behalf of one socket or one relay.
#[derive(Debug)]
pub struct Requester {
    channel: Channel,
    nonce: Nonce,
    own: NodeId,
    ask: SocketAddr,
    settings: RequesterSettings,
    sequence: Sequence,
    /// The last request that was not direct: who answers it stands on the path.
    on_path: Sequence,
    cookies: [CookieStamp; 2],
    challenges: u8,
    parent: Option<Parent>,
    lost_parent: bool,
    candidate: Option<Candidate>,
    /// A parent that fell silent and may feed us all the same: given up only when
    /// the new one does.
    silent: Option<Parent>,
    former: Vec<Former>,
    token: Option<StreamToken>,
    app_port: u16,
    told: Option<(Verdict, Reason)>,
    attempt: u8,
    awaiting: Option<Sequence>,
    next_request: Time,
    last_sent: Time,
    silence_at: Time,
    started: Time,
    hop_budget: u8,
    below: u32,
    /// What the last request said of it.
    told_below: u32,
    /// Requests that may still be sent while nobody ever answered (relays).
    allowance: Option<u32>,
    answered_ever: bool,
    received: u64,
    lost: Option<u64>,
    leaving: Option<Leaving>,
    gone: bool,
    events: VecDeque<RequesterEvent>,
    /// State of the jitter's generator, seeded with the nonce.
    jitter: u64,
}

impl Requester {
    /// A requester that asks `ask` (S:FP, or VIA:FP) at once. `own` is the node id
    /// of a relay, [`NodeId::NONE`] for a receiver.
    #[must_use]
    pub fn new(
        now: Time,
        channel: Channel,
        nonce: Nonce,
        own: NodeId,
        ask: SocketAddr,
        settings: RequesterSettings,
    ) -> Requester {
        Requester {
            channel,
            nonce,
            own,
            ask,
            settings,
            sequence: Sequence(now.wrapping_ms()),
            on_path: Sequence(now.wrapping_ms()),
            cookies: [CookieStamp::default(); 2],
            challenges: 0,
            parent: None,
            lost_parent: false,
            candidate: None,
            silent: None,
            former: Vec::new(),
            token: None,
            app_port: 0,
            told: None,
            attempt: 0,
            awaiting: None,
            next_request: now,
            last_sent: Time(0),
            silence_at: Time::NEVER,
            started: now,
            hop_budget: HOPS,
            below: 1,
            told_below: 1,
            allowance: None,
            answered_ever: false,
            received: 0,
            lost: None,
            leaving: None,
            gone: false,
            events: VecDeque::new(),
            jitter: nonce.0 | 1,
        }
    }

    /// The channel asked for.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// The nonce of the requesting socket.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// Who is asked.
    #[must_use]
    pub fn asked(&self) -> SocketAddr {
        self.ask
    }

    /// The node that feeds us, if one does.
    #[must_use]
    pub fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref().filter(|_| !self.lost_parent)
    }

    /// The stream token, once known.
    #[must_use]
    pub fn token(&self) -> Option<StreamToken> {
        self.token
    }

    /// The port of the sending application's socket; 0 unknown.
    #[must_use]
    pub fn app_port(&self) -> u16 {
        self.app_port
    }

    /// The last verdict told.
    #[must_use]
    pub fn verdict(&self) -> Option<(Verdict, Reason)> {
        self.told
    }

    /// Whether the stream is granted.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self.told, Some((Verdict::Granted, _)))
    }

    /// Whether the leave is over and the requester can be dropped.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the requester is on its way out.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// The next thing to tell the user.
    pub fn next_event(&mut self) -> Option<RequesterEvent> {
        self.events.pop_front()
    }

    /// Counters for the next requests: received, and lost where it can be known.
    pub fn report(&mut self, received: u64, lost: Option<u64>) {
        self.received = received;
        self.lost = lost;
    }

    /// Receivers at and below us, and the hop budget; a change is told within
    /// 200 ms.
    pub fn set_below(&mut self, below: u32, hop_budget: u8) {
        self.below = below;
        self.hop_budget = hop_budget;
        if self.parent.is_some() && self.leaving.is_none() {
            self.tell_below();
        }
    }

    /// Has the next request go out soon where the last one named another number.
    fn tell_below(&mut self) {
        if self.below != self.told_below {
            let soon = self.last_sent + ms(200);
            self.next_request = self.next_request.min(soon);
        }
    }

    /// The next request comes after the pause for this verdict, all being well.
    fn rest(&mut self, now: Time, verdict: Verdict) {
        self.next_request = now + self.pause(now, verdict);
        self.tell_below();
    }

    /// From now on, while nobody ever answered, send only what is allowed.
    pub(crate) fn limit(&mut self) {
        self.allowance = Some(0);
    }

    /// One more request may go upstream.
    pub(crate) fn allow(&mut self, now: Time) {
        if let Some(n) = &mut self.allowance {
            *n = n.saturating_add(1).min(16);
            if self.next_request == Time::NEVER && self.leaving.is_none() {
                self.next_request = now.max(self.last_sent + ms(100));
            }
        }
    }

    /// Forgets all nodes and asks anew (after a pause of the process).
    pub fn start_over(&mut self, now: Time) {
        self.lost_parent = self.parent.is_some();
        self.candidate = None;
        self.attempt = 0;
        self.awaiting = None;
        self.next_request = now;
        self.silence_at = Time::NEVER;
    }

    /// Leaves: three times, or until *left*.
    pub fn leave(&mut self, now: Time, none_below: bool) {
        if self.leaving.is_none() {
            self.leaving = Some(Leaving {
                none_below,
                sent: 0,
                next: now,
            });
            self.next_request = Time::NEVER;
            self.silence_at = Time::NEVER;
            let candidate = self.candidate.take().map(|c| c.node);
            for other in [candidate, self.silent.take()].into_iter().flatten() {
                self.give_up(now, &other, None);
            }
        }
    }

    /// Stays after all: undoes a leave that has begun, asking anew at once.
    pub fn stay(&mut self, now: Time) {
        if self.leaving.take().is_some() {
            self.gone = false;
            self.next_request = now;
            self.lost_parent = self.parent.is_some();
        }
    }

    /// When [`Requester::poll`] next has something to do.
    #[must_use]
    pub fn next_time(&self) -> Time {
        let mut at = self.next_request;
        if let Some(leaving) = &self.leaving {
            at = leaving.next;
        } else {
            if let Some(candidate) = &self.candidate {
                let turn = candidate.turn.map(|(_, next)| next);
                let look = candidate.look.map(|look| look.next);
                at = at.min(turn.or(look).unwrap_or(Time::NEVER));
            }
            if self.parent.is_some() && !self.lost_parent {
                at = at.min(self.silence_due());
            }
        }
        self.former.iter().fold(at, |at, f| at.min(f.next))
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time, out: &mut Outbox) {
        self.speak_to_former(now, out);
        if self.leaving.is_some() {
            self.say_leave(now, out);
            return;
        }
        self.watch_silence(now);
        self.go_on(now, out);
        if self.next_request > now {
            return;
        }
        if !self.answered_ever {
            match &mut self.allowance {
                Some(0) => {
                    self.next_request = Time::NEVER;
                    return;
                }
                Some(n) => *n -= 1,
                None => {}
            }
        }
        if self.awaiting.is_some() {
            self.attempt = self.attempt.saturating_add(1);
            self.challenges = 0;
            self.watch_long_heartbeat();
        }
        self.request(now, Want::Stream, out);
        if self.attempt >= 2 && !self.lost_parent {
            self.request_parent(out);
        }
        self.wait_for_answer(now);
    }
}

#[cfg(test)]
mod tests;
