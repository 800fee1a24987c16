//! What nodes say, taken in: challenges, the parent's statuses, and how long until
//! the next request.
//! Is not another node's word while the parent lives (`handover`).

use super::*;

impl Requester {
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

    pub(super) fn keep_cookie(&mut self, node: NodeId, cookie: Cookie) {
        if self.cookies[0].node != node {
            self.cookies[1] = self.cookies[0];
        }
        self.cookies[0] = CookieStamp { node, cookie };
    }

    /// Renews the cookie of a node whose place is kept.
    pub(super) fn renew_cookie(&mut self, node: NodeId, cookie: Cookie) {
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
        let is_silent_one = self.silent.as_ref().is_some_and(|s| s.node == header.node);
        let is_live = |parent: &&Parent| !self.lost_parent && !parent.is_silent(now);
        match self.parent.as_ref().filter(is_live) {
            // It is about to be given up.
            Some(parent) if is_silent_one && parent.verdict == Verdict::Granted => return,
            Some(_) if !is_silent_one => return self.hear_another(now, header, status, out),
            _ => {}
        }
        match &self.parent {
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
    pub(super) fn is_of_former(&mut self, header: &Header, status: &Status) -> bool {
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
    pub(super) fn hear_parent(
        &mut self,
        now: Time,
        header: &Header,
        status: &Status,
        out: &mut Outbox,
    ) {
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
        if matches!(status.verdict, Verdict::Granted | Verdict::Pending) {
            self.settle_silent(now, status, out);
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
    pub(super) fn settle(&mut self, now: Time, header: &Header, status: &Status) {
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
    pub(super) fn pause(&mut self, now: Time, verdict: Verdict) -> Duration {
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
    pub(super) fn is_patient(&self, now: Time) -> bool {
        !self.is_granted() && now.since(self.started) >= ms(600_000)
    }

    /// Evenly between 0 and `span` (xorshift: jitter needs no secrecy).
    pub(super) fn up_to(&mut self, span: Duration) -> Duration {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.jitter % us.saturating_add(1).max(1))
    }
}
