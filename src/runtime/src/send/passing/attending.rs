//! The background thread's part for channels of other hosts: requests in, letters out,
//! bells.
//!
//! Promises: a request to another host reaches the engine's relay, one to this host the
//! sender, unless it is of an entry of the relay's. Is not what programs call (`passing`).

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use flexcast_engine::{Order, Time};
use flexcast_udp::local_address_towards;
use flexcast_wire::{Channel, Control};

use super::{offer, Passages};
use crate::background::Reply;
use crate::send::bell;
use crate::send::control::Controller;
use crate::send::error::SendError;
use crate::send::node::State;
use crate::send::place::{held_by_port, Place};

impl Controller {
    pub(in crate::send) fn become_transparent(
        &mut self,
        now: Time,
        reply: &Reply<Result<(), SendError>>,
    ) {
        let what = "taking requests to other hosts (CAP_NET_ADMIN or CAP_NET_RAW)";
        let set = match &mut self.place {
            Place::Owner(owner) => owner
                .set_transparent()
                .and_then(|()| self.voice.set_transparent())
                .map_err(SendError::system(what)),
            Place::Refused { error, .. } => Err(error.clone()),
            _ => Err(held_by_port(self.node.fp)),
        };
        if set.is_ok() {
            self.node.transparent.store(true, Ordering::Relaxed);
            let fp = self.node.fp;
            let passages = || Box::new(Passages::new(now, fp));
            self.node.lock().passages.get_or_insert_with(passages);
        }
        reply.give(set);
    }

    /// Takes a request that passed here on its way to another host; whether it was one.
    pub(in crate::send) fn take_passing(
        &mut self,
        now: Time,
        from: SocketAddr,
        asked: IpAddr,
        control: &Control<'_>,
    ) -> bool {
        let mut state = self.node.lock();
        if state.passages.is_none() {
            return false;
        }
        let ours = asked.is_loopback() || state.local_addresses(now).contains(&asked);
        let Some(passages) = &mut state.passages else {
            return false;
        };
        if ours && !passages.relay.knows(&control.header) {
            return false;
        }
        let (relay, out) = (&mut passages.relay, &mut self.out);
        relay.on_control(now, from, asked, &mut local_address_towards, control, out);
        passages.want(control.header.channel);
        true
    }

    /// Does what is due; when there is more.
    pub(in crate::send) fn turn_passages(&mut self, now: Time) -> Time {
        let mut state = self.node.lock();
        let Some(passages) = &mut state.passages else {
            return Time::NEVER;
        };
        passages.relay.poll(now, &mut self.out);
        for (letter, bytes) in passages.letters.iter() {
            self.out.push_raw(letter.route, letter.to, bytes);
        }
        passages.letters.clear();
        let next = passages.relay.next_time();
        state.armed = state.armed.min(next);
        next
    }

    /// Rings for channels that came, and for those that are over. Under the lock: whoever
    /// takes a channel takes its bell, too.
    pub(in crate::send) fn attend_passages(&mut self) {
        let node = self.node.clone();
        let mut state = node.lock();
        let State {
            listens, passages, ..
        } = &mut *state;
        let Some(passages) = passages else {
            return;
        };
        while let Some(order) = passages.relay.next_order() {
            let Order::Close(channel) = order else {
                continue;
            };
            if let Some(passed) = passages.delivered.remove(&channel) {
                passed.over.store(true, Ordering::Release);
                self.ring(passed.bell, bell::END);
                if let Some(up) = passed.up.get() {
                    up.part(channel, None);
                }
            }
        }
        for waiting in offer(passages, listens) {
            self.ring(waiting, bell::CALL);
        }
    }

    /// A socket listens for other hosts' channels: it is offered those that wait.
    pub(in crate::send) fn offer_passing(&mut self) {
        if let Some(passages) = &mut self.node.lock().passages {
            for channel in passages.relay.unattached() {
                passages.want(channel);
            }
        }
    }

    /// An ICMP error quoted a stream to `to` that left from here.
    pub(in crate::send) fn on_unreachable(&mut self, now: Time, to: SocketAddr) {
        let mut state = self.node.lock();
        state.sender.on_unreachable(now, to);
        if let Some(passages) = &mut state.passages {
            passages.relay.on_unreachable(now, to);
        }
    }

    /// The process was stopped for a while: what is known of upstream is stale, and so is
    /// what is queued. Who asked meanwhile asks again, or has found another way.
    pub(in crate::send) fn wake_passages(&mut self, now: Time) {
        if let Some(passages) = &mut self.node.lock().passages {
            passages.relay.woke(now);
        } else {
            return;
        }
        if let (Place::Owner(owner), Some(requests)) = (&self.place, &mut self.requests) {
            owner.discard_requests(requests);
        }
    }

    /// Hands a letter for a channel's parent to the thread that has its socket.
    pub(in crate::send) fn say_upward(&self, channel: &Channel, to: SocketAddr, bytes: &[u8]) {
        let state = self.node.lock();
        let up = state.passages.as_ref().and_then(|p| p.upward(channel));
        if let Some(up) = up {
            up.say(to, bytes);
        }
    }
}
