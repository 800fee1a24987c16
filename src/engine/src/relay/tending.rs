//! What becomes of a relay's channels as time goes by and as upstream answers.
//!
//! Timers: each channel's own (250 ms before the last leave, 5 s after a loop), one heap
//! for all of them. Is not what a request does (`super`), nor draining.

use std::cmp::Reverse;
use std::time::Duration;

use flexcast_wire::{Channel, Reason, Verdict};

use super::channel::{derive, Looped};
use super::{Order, Relay};
use crate::gate::Gate;
use crate::time::ms;
use crate::{ChannelState, DuplicateWindow, Outbox, Requester, Time};

const LINGER: Duration = ms(250);
const RETRY: Duration = ms(5_000);

impl Relay {
    /// Brings a channel's state in line with what its requester knows.
    pub(super) fn tend(&mut self, now: Time, channel: Channel, out: &mut Outbox) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        while state.requester.next_event().is_some() {}
        let next = derive(self.gate.node, &state.requester, state.retry.is_some());
        let next = match next {
            Ok(next) => next,
            Err(Looped) => {
                log_loop(&mut self.gate);
                state.retry = Some(now + RETRY);
                state.requester.leave(now, false);
                ChannelState {
                    verdict: Verdict::RefusedPassing,
                    reason: Reason::Loop,
                    ..state.state
                }
            }
        };
        let next = ChannelState {
            verdict: if self.draining.is_some() {
                Verdict::Draining
            } else {
                next.verdict
            },
            ..next
        };
        let what = |s: &ChannelState| (s.verdict, s.reason, s.token, s.app_port, s.path);
        let (told, before) = (what(&next), what(&state.state));
        if next.token != state.state.token && next.token.is_some() {
            state.window = DuplicateWindow::new();
            state.audience.new_incarnation();
        }
        state.ended = match next.token {
            Some(_) => None,
            None => state.state.token.or(state.ended),
        };
        state.state = next;
        if told != before {
            state.audience.tell_all(now);
        }
        self.tend_membership(now, channel, out);
        self.arm(channel);
    }

    /// Tells upstream how many are below; leaves when nobody is.
    pub(super) fn tend_membership(&mut self, now: Time, channel: Channel, out: &mut Outbox) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        if state.audience.is_empty() {
            let due = *state.empty_until.get_or_insert(now + LINGER);
            if due <= now && !state.requester.is_leaving() {
                state.requester.leave(now, true);
                state.requester.poll(now, out);
            }
            return;
        }
        state.empty_until = None;
        if state.retry.is_none() {
            state.requester.stay(now);
        }
        let below = u32::try_from(state.audience.receivers_below()).unwrap_or(u32::MAX);
        let hops = state.audience.hop_budget().saturating_sub(1);
        state.requester.set_below(below, hops);
        let lost = state.window.lost();
        // Before it has a stream of its own it speaks for those that another node fed: they
        // are to hear of an end that they missed.
        let received = match state.requester.token() {
            Some(_) => state.window.received(),
            None => state
                .window
                .received()
                .max(u64::from(state.audience.is_fed())),
        };
        state.requester.report(received, Some(lost));
    }

    pub(super) fn arm(&mut self, channel: Channel) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let next = state.next_time();
        if next < state.armed {
            state.armed = next;
            self.timers.push(Reverse((next, channel)));
        }
    }

    /// When [`Relay::poll`] next has something to do.
    #[must_use]
    pub fn next_time(&self) -> Time {
        let drain = self.draining.map_or(Time::NEVER, |(_, next)| next);
        let timer = self.timers.peek().map_or(Time::NEVER, |t| t.0 .0);
        drain.min(timer)
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time, out: &mut Outbox) {
        self.poll_drain(now);
        while let Some(&Reverse((at, channel))) = self.timers.peek() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(state) = self.channels.get_mut(&channel) else {
                continue;
            };
            if state.armed != at {
                continue;
            }
            state.armed = Time::NEVER;
            self.attend(now, channel, out);
        }
    }

    pub(super) fn attend(&mut self, now: Time, channel: Channel, out: &mut Outbox) {
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        if state.audience.next_event() <= now {
            let mut voice = self.gate.voice(now, channel, state.state, out);
            state.audience.poll(&mut voice);
            self.gate.settle(&mut state.audience);
        }
        if state.requester.next_time() <= now {
            state.requester.poll(now, out);
        }
        if state.requester.is_gone() {
            let again = state.retry.is_some() && !state.audience.is_empty();
            if !again {
                self.stop(channel);
                return;
            }
            if state.retry.is_some_and(|at| at <= now) {
                state.retry = None;
                self.ask_anew(now, channel);
            }
        }
        self.tend(now, channel, out);
    }

    /// Asks upstream as somebody new, after a loop's pause.
    fn ask_anew(&mut self, now: Time, channel: Channel) {
        let mut fresh = self.requester(now, channel);
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        if let Some(asking) = &state.lent {
            // The kernel of the socket sorts by its nonce.
            let before = &state.requester;
            let (nonce, ask, own) = (before.nonce(), before.asked(), self.gate.node);
            fresh = Requester::new(now, channel, nonce, own, ask, asking.clone());
            fresh.limit();
        } else {
            self.orders.push_back(Order::Close(channel));
            self.orders.push_back(Order::Open(channel));
        }
        // Those who wait below have asked.
        fresh.allow(now);
        state.requester = fresh;
    }

    pub(super) fn stop(&mut self, channel: Channel) {
        self.channels.remove(&channel);
        self.forget(channel);
    }

    /// After a channel was taken out.
    pub(super) fn forget(&mut self, channel: Channel) {
        self.orders.push_back(Order::Close(channel));
        if let Some(n) = self.per_sender.get_mut(&channel.sender) {
            *n -= 1;
            if *n == 0 {
                self.per_sender.remove(&channel.sender);
            }
        }
    }

    /// The loop stood still for seconds: everything known of upstream is stale.
    pub fn woke(&mut self, now: Time) {
        let channels: Vec<Channel> = self.channels.keys().copied().collect();
        for channel in channels {
            if let Some(state) = self.channels.get_mut(&channel) {
                if !state.requester.is_leaving() {
                    state.requester.start_over(now);
                }
                state.audience.rest(now);
            }
            self.arm(channel);
        }
    }
}

fn log_loop(gate: &mut Gate) {
    gate.counters.refused_loop += 1;
}
