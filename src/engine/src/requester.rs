//! The requester: asks for one channel, keeps its entry alive, changes parents.
//!
//! ```text
//!            challenge/echo           status: granted
//!   Asking ────────────────► Asking ────────────────► Fed ──3 heartbeats──► Asking
//!     ▲ 100 ms … 1 s, 1 s while pending                │ another node answers twice,
//!     └────────────────────────────────────────────────┘ or the parent drains: handover
//!   handover:  From(K) to the new node every 50 ms ─► J ─► Until(J) to the old one
//! ```
//! Timers: retry 100 ms–1 s; refresh ±20 %; poll 1 s ±20 % (5 s after 10 minutes);
//! silence 3 heartbeats + 0–0.3; from K 50 ms; leaves 0, 50, 200 ms.
//! Is not a socket: it says what to send, and to which address.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use flexcast_wire::{
    Body, Channel, Control, Cookie, CookieStamp, Handover, Header, NodeId, Nonce, Reason, Request,
    Sequence, Status, StreamToken, Verdict, Want,
};

use crate::parent::{turning_point, Parent};
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
    /// K and when to ask for it again.
    turn: Option<(Sequence, Time)>,
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
            if let Some(candidate) = self.candidate.take() {
                self.give_up(now, &candidate.node, None);
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

    /// A challenge came: keep the cookie, and echo it.
    pub fn on_challenge(&mut self, now: Time, header: &Header, cookie: Cookie, out: &mut Outbox) {
        if header.channel != self.channel || header.nonce != self.nonce {
            return;
        }
        self.answered_ever = true;
        self.keep_cookie(header.node, cookie);
        if self.leaving.is_some() {
            return;
        }
        self.challenges = self.challenges.saturating_add(1);
        if self.challenges <= 4 {
            match self.candidate.as_ref().and_then(|c| c.turn) {
                Some((k, _)) => self.request(now, Want::From(k), out),
                None => self.request(now, Want::Stream, out),
            }
            self.wait_for_answer(now);
        }
    }

    fn keep_cookie(&mut self, node: NodeId, cookie: Cookie) {
        if self.cookies[0].node != node {
            self.cookies[1] = self.cookies[0];
        }
        self.cookies[0] = CookieStamp { node, cookie };
    }

    /// Renews the cookie of a node whose place is kept.
    fn renew_cookie(&mut self, node: NodeId, cookie: Cookie) {
        match self.cookies.iter_mut().find(|stamp| stamp.node == node) {
            Some(stamp) => stamp.cookie = cookie,
            None => self.keep_cookie(node, cookie),
        }
    }

    /// A status came.
    pub fn on_status(&mut self, now: Time, header: &Header, status: &Status, out: &mut Outbox) {
        if header.channel != self.channel || header.nonce != self.nonce || !header.node.is_some() {
            return;
        }
        self.answered_ever = true;
        if self.is_of_former(header, status) {
            return;
        }
        self.renew_cookie(header.node, status.cookie);
        if self.leaving.is_some() {
            if status.verdict == Verdict::Left {
                self.gone = true;
            }
            return;
        }
        if let Some(parent) = &mut self.parent {
            if parent.node == header.node {
                if !header.sequence.newer_than(parent.sequence) {
                    return;
                }
                parent.hear(now, header, status);
                self.hear_parent(now, header, status, out);
                return;
            }
        }
        if status.verdict == Verdict::Left {
            return;
        }
        match &self.parent {
            Some(parent) if !self.lost_parent && !parent.is_silent(now) => {
                self.hear_another(now, header, status, out);
            }
            Some(_) if self.is_granted() && status.verdict == Verdict::Pending => {
                // The silent parent may feed us still: nobody is given up for a
                // node that has nothing to give yet.
                if self.awaiting.is_some_and(|a| header.answered.reaches(a)) {
                    self.awaiting = None;
                    self.attempt = 0;
                    self.rest(now, Verdict::Pending);
                }
            }
            _ => self.adopt(now, Parent::new(now, header, status), header, status, out),
        }
    }

    /// Whether this is a word of a node that we gave up, and so of no interest. A node
    /// that left us and speaks anew was asked anew.
    fn is_of_former(&mut self, header: &Header, status: &Status) -> bool {
        let Some(at) = self.former.iter().position(|f| f.node == header.node) else {
            return false;
        };
        let former = &mut self.former[at];
        let left = status.verdict == Verdict::Left;
        match former.left {
            Some(at_left) if !left && header.sequence.newer_than(at_left) => {
                self.former.swap_remove(at);
                return false;
            }
            None if left => former.has_left(header.sequence),
            _ => {}
        }
        self.parent.as_ref().is_none_or(|p| p.node != header.node)
    }

    /// The parent spoke.
    fn hear_parent(&mut self, now: Time, header: &Header, status: &Status, out: &mut Outbox) {
        self.lost_parent = false;
        if status.verdict == Verdict::Left {
            self.parent = None;
            self.next_request = now;
            return;
        }
        if let Some(candidate) = &self.candidate {
            let back =
                header.answered == self.on_path && header.answered.newer_than(candidate.answered);
            if back && candidate.turn.is_none() && status.verdict != Verdict::Draining {
                let node = candidate.node.clone();
                self.candidate = None;
                self.give_up(now, &node, None);
            }
        }
        self.settle(now, header, status);
        if status.standby {
            self.request(now, Want::Stream, out);
            self.wait_for_answer(now);
        }
        if status.sign_of_life_wanted {
            self.request(now, Want::Stream, out);
            self.request_parent(out);
            self.wait_for_answer(now);
        } else if status.verdict == Verdict::Draining && now >= self.last_sent + ms(150) {
            self.request(now, Want::Stream, out);
            self.wait_for_answer(now);
        }
    }

    /// What a status of the parent means for token, events and timers.
    fn settle(&mut self, now: Time, header: &Header, status: &Status) {
        self.challenges = 0;
        let answered = self.awaiting.is_some_and(|a| header.answered.reaches(a));
        if answered {
            self.awaiting = None;
            self.attempt = 0;
        }
        if status.app_port != 0 && status.app_port != self.app_port {
            self.app_port = status.app_port;
            self.events
                .push_back(RequesterEvent::AppPort(status.app_port));
        }
        let token = if status.verdict == Verdict::Ended {
            None
        } else {
            status.token
        };
        let known = token.is_some() || status.verdict == Verdict::Ended;
        if known && token != self.token {
            self.token = token;
            self.events.push_back(RequesterEvent::Token(token));
        }
        let verdict = match status.verdict {
            Verdict::Draining => Verdict::Granted,
            other => other,
        };
        if verdict != Verdict::Granted && self.is_granted() {
            self.started = now;
        }
        let changed = self.told != Some((verdict, status.reason));
        if changed {
            self.told = Some((verdict, status.reason));
            self.events
                .push_back(RequesterEvent::Verdict(verdict, status.reason));
        }
        if answered || (changed && self.awaiting.is_none()) {
            self.rest(now, verdict);
        }
        if matches!(verdict, Verdict::RefusedFinal | Verdict::RefusedPassing) {
            self.parent = None;
        }
    }

    /// How long until the next request, all being well: ±20 %.
    fn pause(&mut self, now: Time, verdict: Verdict) -> Duration {
        let pause = match verdict {
            Verdict::Granted | Verdict::Draining | Verdict::Left => self.settings.refresh,
            Verdict::Pending | Verdict::Ended if self.is_patient(now) => ms(5_000),
            Verdict::Pending | Verdict::Ended => ms(1_000),
            Verdict::RefusedPassing => ms(5_000),
            Verdict::RefusedFinal => ms(60_000),
        };
        pause * 4 / 5 + self.up_to(pause * 2 / 5)
    }

    /// Whether 10 minutes went by without a grant.
    fn is_patient(&self, now: Time) -> bool {
        !self.is_granted() && now.since(self.started) >= ms(600_000)
    }

    /// Evenly between 0 and `span` (xorshift: jitter needs no secrecy).
    fn up_to(&mut self, span: Duration) -> Duration {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.jitter % us.saturating_add(1).max(1))
    }

    /// Another node answered while the parent lives.
    fn hear_another(&mut self, now: Time, header: &Header, status: &Status, out: &mut Outbox) {
        let recent = header.answered.ahead_of(self.sequence) > -16;
        let usable = matches!(status.verdict, Verdict::Granted | Verdict::Pending);
        let known = self
            .candidate
            .as_ref()
            .is_some_and(|c| c.node.node == header.node);
        if !known {
            let stray = !recent || self.candidate.as_ref().is_some_and(|c| c.turn.is_some());
            if stray || !usable {
                if status.verdict != Verdict::RefusedPassing
                    && status.verdict != Verdict::RefusedFinal
                {
                    self.give_up(now, &Parent::new(now, header, status), None);
                }
                return;
            }
            if let Some(other) = self.candidate.take() {
                self.give_up(now, &other.node, None);
            }
            self.candidate = Some(Candidate {
                node: Parent::new(now, header, status),
                answers: 0,
                answered: header.answered.plus(u32::MAX),
                turn: None,
            });
        }
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        if known {
            if !header.sequence.newer_than(candidate.node.sequence) {
                return;
            }
            candidate.node.hear(now, header, status);
        }
        if !usable {
            self.candidate = None;
            return;
        }
        if recent && header.answered.newer_than(candidate.answered) {
            candidate.answered = header.answered;
            candidate.answers = candidate.answers.saturating_add(1);
        }
        self.challenges = 0;
        if self.awaiting.is_some_and(|a| header.answered.reaches(a)) {
            self.awaiting = None;
            self.attempt = 0;
            self.rest(now, Verdict::Granted);
            self.request_parent(out);
        }
        if status.verdict == Verdict::Granted {
            self.hand_over(now, header, status, out);
        }
    }

    /// The steps from standby to the new parent.
    fn hand_over(&mut self, now: Time, header: &Header, status: &Status, out: &mut Outbox) {
        let (Some(candidate), Some(parent)) = (&mut self.candidate, &self.parent) else {
            return;
        };
        let other_token = status.token.is_some() && status.token != self.token;
        if !status.standby || other_token {
            if let (Some(_), Some(Handover::StartsAt(at))) = (candidate.turn, status.handover) {
                self.change_parent(now, Some(at), header, status, out);
            } else if other_token || candidate.turn.is_none() {
                self.change_parent(now, None, header, status, out);
            }
            return;
        }
        let draining = parent.verdict == Verdict::Draining;
        if candidate.turn.is_some() {
            return;
        }
        if candidate.answers < 2 && !draining {
            self.request(now, Want::Stream, out);
            self.wait_for_answer(now);
            return;
        }
        let k = turning_point(now, parent, &candidate.node);
        candidate.turn = Some((k, now + ms(50)));
        self.request(now, Want::From(k), out);
    }

    /// The candidate is the parent from now on.
    fn change_parent(
        &mut self,
        now: Time,
        until: Option<Sequence>,
        header: &Header,
        status: &Status,
        out: &mut Outbox,
    ) {
        let Some(candidate) = self.candidate.take() else {
            return;
        };
        if let Some(old) = self.parent.replace(candidate.node) {
            self.give_up(now, &old, until);
        }
        self.awaiting = None;
        self.settle(now, header, status);
        self.rest(now, status.verdict);
        if until.is_none() {
            self.request(now, Want::Stream, out);
            self.wait_for_answer(now);
        }
        self.speak_to_former(now, out);
    }

    /// There is no live parent: this node is it.
    fn adopt(
        &mut self,
        now: Time,
        node: Parent,
        header: &Header,
        status: &Status,
        out: &mut Outbox,
    ) {
        self.candidate = None;
        if let Some(old) = self.parent.replace(node) {
            self.give_up(now, &old, None);
        }
        self.lost_parent = false;
        self.settle(now, header, status);
        if status.standby {
            self.request(now, Want::Stream, out);
            self.wait_for_answer(now);
        }
    }

    /// Says `until J` or leave to a node, direct.
    fn give_up(&mut self, now: Time, node: &Parent, until: Option<Sequence>) {
        let told = |f: &Former| f.node == node.node && f.left.is_none();
        if self.former.iter().any(told) {
            return;
        }
        self.former.retain(|f| f.node != node.node);
        if self.former.len() >= 8 {
            self.former.remove(0);
        }
        let former = Former::new(now, node.node, node.own_address, until);
        self.former.push(former);
    }

    /// When [`Requester::poll`] next has something to do.
    #[must_use]
    pub fn next_time(&self) -> Time {
        let mut at = self.next_request;
        if let Some(leaving) = &self.leaving {
            at = leaving.next;
        } else {
            if let Some((_, next)) = self.candidate.as_ref().and_then(|c| c.turn) {
                at = at.min(next);
            }
            if self.parent.is_some() && !self.lost_parent {
                at = at.min(self.silence_due());
            }
        }
        self.former.iter().fold(at, |at, f| at.min(f.next))
    }

    fn silence_due(&self) -> Time {
        if self.silence_at != Time::NEVER {
            return self.silence_at;
        }
        self.parent.as_ref().map_or(Time::NEVER, Parent::silent_at)
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time, out: &mut Outbox) {
        self.speak_to_former(now, out);
        if self.leaving.is_some() {
            self.say_leave(now, out);
            return;
        }
        self.watch_silence(now);
        if let Some(candidate) = &mut self.candidate {
            if let Some((k, next)) = &mut candidate.turn {
                if *next <= now {
                    *next = now + ms(50);
                    let k = *k;
                    if candidate.node.is_silent(now) {
                        self.candidate = None;
                    } else {
                        self.request(now, Want::From(k), out);
                    }
                }
            }
        }
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

    /// Three heartbeats without a status, and a random 0–0.3 more: ask anew.
    fn watch_silence(&mut self, now: Time) {
        let Some(parent) = &self.parent else { return };
        if self.lost_parent {
            return;
        }
        if !parent.is_silent(now) {
            self.silence_at = Time::NEVER;
            return;
        }
        if self.silence_at == Time::NEVER {
            let (from, beat) = (parent.silent_at(), parent.heartbeat);
            self.silence_at = (from + self.up_to(beat * 3 / 10)).max(now);
        }
        if self.silence_at <= now {
            self.silence_at = Time::NEVER;
            self.lost_parent = true;
            self.attempt = 0;
            self.awaiting = None;
            self.challenges = 0;
            self.next_request = now;
        }
    }

    /// Heartbeats above 10 s are too rare to notice a silence by: there, a refresh
    /// that stays unanswered is one.
    fn watch_long_heartbeat(&mut self) {
        let rare = |parent: &Parent| parent.heartbeat > ms(10_000);
        if self.attempt >= UNANSWERED && self.parent.as_ref().is_some_and(rare) {
            self.lost_parent = true;
        }
    }

    fn say_leave(&mut self, now: Time, out: &mut Outbox) {
        let Some(leaving) = &mut self.leaving else {
            return;
        };
        if leaving.next > now || self.gone {
            return;
        }
        if leaving.sent >= 3 {
            self.gone = true;
            return;
        }
        leaving.next = now
            + match leaving.sent {
                0 => ms(50),
                1 => ms(150),
                _ => ms(200),
            };
        leaving.sent += 1;
        let none_below = leaving.none_below;
        self.request(now, Want::Leave { none_below }, out);
    }

    fn speak_to_former(&mut self, now: Time, out: &mut Outbox) {
        self.former.retain(|f| !f.is_over(now));
        for at in 0..self.former.len() {
            if self.former[at].next > now {
                continue;
            }
            let f = &self.former[at];
            let (node, address, want) = (f.node, f.address_now(), f.want());
            self.former[at].sent(now);
            self.write(want, node, address, out);
        }
    }

    /// A refresh straight to the parent, while others answer in its stead.
    fn request_parent(&mut self, out: &mut Outbox) {
        if let Some(parent) = &self.parent {
            if let Some(address) = parent.own_address {
                let node = parent.node;
                self.write(Want::Stream, node, Some(address), out);
            }
        }
    }

    /// A request to whoever stands on the way.
    fn request(&mut self, now: Time, want: Want, out: &mut Outbox) {
        let parent = self.parent().map_or(NodeId::NONE, |p| p.node);
        self.last_sent = now;
        self.told_below = self.below;
        self.write(want, parent, None, out);
        self.on_path = self.sequence;
    }

    fn write(
        &mut self,
        want: Want,
        parent: NodeId,
        direct: Option<std::net::IpAddr>,
        out: &mut Outbox,
    ) {
        self.sequence = self.sequence.next();
        let request = Request {
            direct: direct.is_some(),
            want,
            hold_ms: as_ms(self.settings.hold),
            heartbeat_ms: as_ms(self.settings.heartbeat),
            parent,
            attempt: self.attempt,
            hop_budget: self.hop_budget,
            received: self.received,
            lost: self.lost,
            receivers_below: self.below,
            path_mtu: 0,
            cookies: self.cookies,
            credential: self.settings.credential,
        };
        let control = Control {
            header: Header {
                channel: self.channel,
                nonce: self.nonce,
                node: self.own,
                sequence: self.sequence,
                answered: Sequence(0),
            },
            body: Body::Request(request),
        };
        let to = direct.map_or(self.ask, |ip| SocketAddr::new(ip, self.ask.port()));
        out.push(Route::Upstream(self.channel), to, &control);
    }

    /// The request just sent wants an answer within 100 ms, 200 ms, … 1 s.
    fn wait_for_answer(&mut self, now: Time) {
        self.awaiting = Some(self.sequence);
        let longest = if self.is_patient(now) { 5_000 } else { 1_000 };
        let patience = ms(100 << u32::from(self.attempt.min(6))).min(ms(longest));
        let early = if self.attempt > 3 {
            patience / 5
        } else {
            Duration::ZERO
        };
        self.next_request = now + patience - self.up_to(early);
    }
}

#[cfg(test)]
mod tests;
