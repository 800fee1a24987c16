//! From one parent to the next: a candidate that answers beside the parent, K, J, and
//! the nodes that are given up.
//!
//! Promises: nobody is given up for a node that has nothing to give; the old node
//! stops where the new one starts. Is not the nodes' side (`audience`).

use super::*;

/// Between two looks at both nodes, and how long they last at most: a slow stream's
/// next datagram, of 0.5 a second, comes in it.
const LOOK: Duration = ms(200);
const LOOKS: Duration = ms(2_500);
/// Between two `from K`.
const FROM: Duration = ms(50);

impl Requester {
    /// Another node answered while the parent lives.
    pub(super) fn hear_another(
        &mut self,
        now: Time,
        header: &Header,
        status: &Status,
        out: &mut Outbox,
    ) {
        let recent = header.answered.ahead_of(self.sequence) > -16;
        if recent && self.is_from_successor(status) {
            self.candidate = None;
            self.lost_parent = true;
            self.request(now, Want::Stream, out);
            self.wait_for_answer(now);
            return;
        }
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
                look: None,
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

    /// Whether the sender's own host says, in another node's name than the parent's, that
    /// it waits for its stream: the parent was the sender before, and has nothing more to
    /// give. It is not named any more, or we stood by when the first datagram comes.
    fn is_from_successor(&self, status: &Status) -> bool {
        let there = Some(self.channel.sender);
        let parent = self.parent.as_ref().and_then(|p| p.own_address);
        status.verdict == Verdict::Pending && status.own_address == there && parent == there
    }

    /// The steps from standby to the new parent.
    pub(super) fn hand_over(
        &mut self,
        now: Time,
        header: &Header,
        status: &Status,
        out: &mut Outbox,
    ) {
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
        let seen = highest_of(parent, &candidate.node);
        let look = candidate.look.get_or_insert(Look {
            seen,
            next: now + LOOK,
            until: now + LOOKS,
        });
        if now < look.until && !is_ripe(parent, &candidate.node, look.seen) {
            return;
        }
        let k = turning_point(now, parent, &candidate.node);
        candidate.turn = Some((k, now + FROM));
        self.request(now, Want::From(k), out);
    }

    /// The next look at both nodes, or the next `from K`.
    pub(super) fn go_on(&mut self, now: Time, out: &mut Outbox) {
        let Some(candidate) = &mut self.candidate else {
            return;
        };
        let (next, pause) = match (&mut candidate.turn, &mut candidate.look) {
            (Some((_, next)), _) => (next, FROM),
            (None, Some(look)) => (&mut look.next, LOOK),
            (None, None) => return,
        };
        if *next > now {
            return;
        }
        *next = now + pause;
        let turn = candidate.turn;
        if candidate.node.is_silent(now) {
            self.candidate = None;
        } else if let Some((k, _)) = turn {
            self.request(now, Want::From(k), out);
        } else {
            self.request(now, Want::Stream, out);
            self.wait_for_answer(now);
            self.request_parent(out);
        }
    }

    /// The candidate is the parent from now on.
    pub(super) fn change_parent(
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

    /// There is no live parent: this node is it. The old one may be silent and yet
    /// feed us (its statuses were lost): it is left once the new one feeds us.
    pub(super) fn adopt(
        &mut self,
        now: Time,
        node: Parent,
        header: &Header,
        status: &Status,
        out: &mut Outbox,
    ) {
        self.candidate = None;
        self.silent.take_if(|silent| silent.node == header.node);
        if let Some(old) = self.parent.replace(node) {
            if let Some(older) = self.silent.replace(old) {
                self.give_up(now, &older, None);
            }
        }
        self.lost_parent = false;
        self.settle(now, header, status);
        self.settle_silent(now, status, out);
    }

    /// Gives the silent one up once the parent feeds us, and else asks the parent to,
    /// at once.
    pub(super) fn settle_silent(&mut self, now: Time, status: &Status, out: &mut Outbox) {
        if feeds(status) {
            if let Some(silent) = self.silent.take() {
                self.give_up(now, &silent, None);
            }
            return;
        }
        let granted = status.verdict == Verdict::Granted && self.silent.is_some();
        // Not at each answer, or the two would play ball.
        if status.standby || granted && now >= self.last_sent + ms(100) {
            self.request(now, Want::Stream, out);
            self.wait_for_answer(now);
        }
    }

    /// Says `until J` or leave to a node, direct.
    pub(super) fn give_up(&mut self, now: Time, node: &Parent, until: Option<Sequence>) {
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

    pub(super) fn speak_to_former(&mut self, now: Time, out: &mut Outbox) {
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
}

/// Whether the stream flows from the node that says this, or would, were there data.
fn feeds(status: &Status) -> bool {
    let waits = match status.handover {
        Some(Handover::StartsAt(at)) => !status.highest.is_some_and(|h| h.reaches(at)),
        _ => false,
    };
    status.verdict == Verdict::Granted && !status.standby && !waits
}
