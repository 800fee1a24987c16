//! What goes out: requests, repeats, leaves, and the watch over the parent's silence.
//! Timers: retry 100 ms–1 s, silence 3 heartbeats + 0–0.3, leaves 0, 50, 200 ms.
//! Is not who is asked next (`handover`).

use super::*;

impl Requester {
    pub(super) fn silence_due(&self) -> Time {
        if self.silence_at != Time::NEVER {
            return self.silence_at;
        }
        self.parent.as_ref().map_or(Time::NEVER, Parent::silent_at)
    }

    /// Three heartbeats without a status, and a random 0–0.3 more: ask anew.
    pub(super) fn watch_silence(&mut self, now: Time) {
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
    pub(super) fn watch_long_heartbeat(&mut self) {
        let rare = |parent: &Parent| parent.heartbeat > ms(10_000);
        if self.attempt >= UNANSWERED && self.parent.as_ref().is_some_and(rare) {
            self.lost_parent = true;
        }
    }

    pub(super) fn say_leave(&mut self, now: Time, out: &mut Outbox) {
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

    /// A refresh straight to the parent, while others answer in its stead.
    pub(super) fn request_parent(&mut self, out: &mut Outbox) {
        if let Some(parent) = &self.parent {
            if let Some(address) = parent.own_address {
                let node = parent.node;
                self.write(Want::Stream, node, Some(address), out);
            }
        }
    }

    /// A request to whoever stands on the way.
    pub(super) fn request(&mut self, now: Time, want: Want, out: &mut Outbox) {
        // While a silent one is kept no parent is known to feed us.
        let live = self.parent().filter(|_| self.silent.is_none());
        let parent = live.map_or(NodeId::NONE, |p| p.node);
        self.last_sent = now;
        self.told_below = self.below;
        self.write(want, parent, None, out);
        self.on_path = self.sequence;
    }

    pub(super) fn write(
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
    pub(super) fn wait_for_answer(&mut self, now: Time) {
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
