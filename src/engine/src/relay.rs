//! A relay: audiences glued to requesters, one pair a channel.
//!
//! ```text
//!   first requester ─► ask upstream (pending) ─► granted upstream ─► granted below
//!   last one gone ─► 250 ms (none where it was a relay's own last) ─► leave upstream
//! ```
//! Promises: "granted" is said only when the node above said so; no more requests
//! go upstream than came in while S never answered; a path through ourselves is a
//! loop and is left. Is not I/O: it orders sockets ([`Order`]) and says what to
//! send. Timers: see `tending` and `draining`.

mod channel;
mod draining;
mod lending;
mod tending;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use flexcast_wire::{Body, Channel, Control, NodeId, Nonce, Reason, Request, Trailer, Want};

use crate::audience::{Audience, Taken};
use crate::gate::{Counters, Gate};
use crate::{
    ChannelSummary, DuplicateWindow, Entropy, Fan, Fresh, NodeSettings, Outbox, Requester,
    RequesterSettings, Route, Time,
};
use channel::{unknown, RelayChannel};

pub use lending::Above;

/// What the relay wants done with sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Open a requesting socket for this channel.
    Open(Channel),
    /// Close it.
    Close(Channel),
}

/// What a relay tells its operator.
#[derive(Clone, Debug)]
pub struct RelayReport {
    /// The relay's node id.
    pub node: NodeId,
    /// Whether it is draining.
    pub draining: bool,
    /// Entries in all audiences.
    pub entries: u64,
    /// What was counted.
    pub counters: Counters,
    /// The channels.
    pub channels: Vec<ChannelSummary>,
}

/// The relay of one node.
#[derive(Debug)]
pub struct Relay {
    gate: Gate,
    asking: RequesterSettings,
    fp: u16,
    channels: HashMap<Channel, RelayChannel>,
    per_sender: HashMap<IpAddr, usize>,
    timers: BinaryHeap<Reverse<(Time, Channel)>>,
    orders: VecDeque<Order>,
    draining: Option<(Time, Time)>,
}

impl Relay {
    /// A relay without channels; `fp` is the port of requests.
    #[must_use]
    pub fn new(
        now: Time,
        fp: u16,
        settings: NodeSettings,
        asking: RequesterSettings,
        entropy: Entropy,
    ) -> Relay {
        Relay {
            gate: Gate::new(now, settings, entropy),
            asking,
            fp,
            channels: HashMap::new(),
            per_sender: HashMap::new(),
            timers: BinaryHeap::new(),
            orders: VecDeque::new(),
            draining: None,
        }
    }

    /// The relay's node id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.gate.node
    }

    /// The counters, to count what the caller drops.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.gate.counters
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.gate.counters
    }

    /// The next order for sockets.
    pub fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The nonce of a channel's requesting socket.
    #[must_use]
    pub fn nonce(&self, channel: &Channel) -> Option<Nonce> {
        self.channels.get(channel).map(|c| c.requester.nonce())
    }

    /// How many channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Takes a control datagram that was captured, or came to an address of ours:
    /// from `from`, addressed to `asked`. `own_address` says where a requester can
    /// reach us directly; it is asked only for new entries.
    pub fn on_control(
        &mut self,
        now: Time,
        from: SocketAddr,
        asked: IpAddr,
        own_address: &mut dyn FnMut(IpAddr) -> Option<IpAddr>,
        control: &Control<'_>,
        out: &mut Outbox,
    ) {
        self.gate.counters.received += 1;
        let header = &control.header;
        let Body::Request(request) = &control.body else {
            self.gate.counters.strange += 1;
            return;
        };
        let known = self
            .channels
            .get(&header.channel)
            .is_some_and(|c| c.audience.knows(header.nonce));
        let farewell = matches!(request.want, Want::Leave { .. } | Want::Until(_));
        if farewell && request.parent.is_some() && request.parent != self.gate.node {
            self.pass_on(request, control, out);
            return;
        }
        if !(farewell && known) {
            if asked != header.channel.sender && !known {
                self.gate.counters.strange += 1;
                return;
            }
            let valid = self.gate.is_valid(now, from, header, &request.cookies);
            if farewell {
                self.gate.counters.strange += 1;
                if valid {
                    let state = unknown(self.gate.node);
                    let mut voice = self.gate.voice(now, header.channel, state, out);
                    Audience::new(0).say_unknown(&mut voice, from, asked, header);
                }
                return;
            }
            if !valid {
                self.gate.challenge(now, from, asked, header, out);
                return;
            }
        }
        self.admit(now, from, asked, own_address, control, request, out);
    }

    /// Whether a captured leave or `until` means another node, or an entry that is
    /// none of ours. Who can send in the requester's name passes it on as it came,
    /// and does not call [`Relay::on_control`]: the answer then finds the requester.
    #[must_use]
    pub fn is_for_another(&self, control: &Control<'_>) -> bool {
        let header = &control.header;
        let Body::Request(request) = &control.body else {
            return false;
        };
        let farewell = matches!(request.want, Want::Leave { .. } | Want::Until(_));
        if !farewell || request.direct || request.parent == self.gate.node {
            return false;
        }
        let channel = self.channels.get(&header.channel);
        let known = channel.is_some_and(|c| c.audience.knows(header.nonce));
        request.parent.is_some() || !known
    }

    /// A leave or `until` that means another node goes on unchanged: whoever sent it
    /// cannot reach that node at an address of its own (NAT, a firewall). Direct ones
    /// are at their end here: the node meant is gone.
    fn pass_on(&mut self, request: &Request, control: &Control<'_>, out: &mut Outbox) {
        self.gate.counters.strange += 1;
        let channel = control.header.channel;
        let leads_up = self.channels.get(&channel);
        if let Some(state) = leads_up.filter(|_| !request.direct) {
            let to = state.requester.asked();
            out.push(Route::Upstream(channel), to, control);
        }
    }

    #[allow(clippy::too_many_arguments)] // one datagram's facts, all needed
    fn admit(
        &mut self,
        now: Time,
        from: SocketAddr,
        asked: IpAddr,
        own_address: &mut dyn FnMut(IpAddr) -> Option<IpAddr>,
        control: &Control<'_>,
        request: &Request,
        out: &mut Outbox,
    ) {
        let header = &control.header;
        let gate = &mut self.gate;
        let siblings = self.per_sender.get(&header.channel.sender).copied();
        let exists = self.channels.contains_key(&header.channel);
        let shallow = request.hop_budget == 0 || request.hop_budget == 1 && !exists;
        let refusal = if shallow {
            gate.counters.refused_loop += 1;
            Some(Reason::TooDeep)
        } else if !exists
            && (self.channels.len() >= gate.settings.channels
                || siblings.unwrap_or(0) >= gate.settings.channels_per_sender
                || self.draining.is_some())
        {
            gate.counters.refused_full += 1;
            Some(Reason::Full)
        } else {
            None
        };
        if let Some(reason) = refusal {
            if let Some(channel) = self.channels.get_mut(&header.channel) {
                channel.audience.expel(header.nonce);
                gate.settle(&mut channel.audience);
            }
            let state = unknown(gate.node);
            let nobody = Audience::new(0);
            let mut voice = gate.voice(now, header.channel, state, out);
            nobody.refuse(&mut voice, from, asked, header, reason);
            if exists {
                self.tend(now, header.channel, out);
            }
            return;
        }
        if !exists {
            self.start(now, header.channel);
        }
        let gate = &mut self.gate;
        let Some(channel) = self.channels.get_mut(&header.channel) else {
            return;
        };
        let known = channel.audience.knows(header.nonce);
        let room = known || channel.audience.contains(from) || gate.has_room(from);
        let own_address = if known || !room {
            None
        } else {
            own_address(from.ip())
        };
        let mut voice = gate.voice(now, header.channel, channel.state, out);
        if room {
            let taken =
                channel
                    .audience
                    .take(&mut voice, from, asked, own_address, header, request);
            match taken {
                Taken::Entered => gate.charge(from.ip()),
                Taken::Full => gate.counters.refused_full += 1,
                Taken::Left { none_below: true } if channel.audience.is_empty() => {
                    channel.empty_until = Some(now);
                }
                _ => {}
            }
            gate.settle(&mut channel.audience);
        } else {
            let audience = &channel.audience;
            audience.refuse(&mut voice, from, asked, header, Reason::Full);
            gate.counters.refused_full += 1;
        }
        channel.requester.allow(now);
        self.tend(now, header.channel, out);
    }

    /// Starts a channel: nobody in it yet, and upstream to be asked.
    fn start(&mut self, now: Time, channel: Channel) {
        let requester = self.requester(now, channel);
        let state = unknown(self.gate.node);
        *self.per_sender.entry(channel.sender).or_insert(0) += 1;
        self.channels.insert(
            channel,
            RelayChannel {
                audience: Audience::new(self.gate.settings.requesters),
                requester,
                window: DuplicateWindow::new(),
                state,
                since: now,
                ended: None,
                empty_until: None,
                retry: None,
                lent: None,
                duplicates: 0,
                foreign: 0,
                armed: Time::NEVER,
            },
        );
        self.orders.push_back(Order::Open(channel));
    }

    fn requester(&mut self, now: Time, channel: Channel) -> Requester {
        let nonce = Nonce(self.gate.entropy.nonzero());
        let ask = SocketAddr::new(channel.sender, self.fp);
        let own = self.gate.node;
        let mut requester = Requester::new(now, channel, nonce, own, ask, self.asking.clone());
        requester.limit();
        requester
    }

    /// Takes a control datagram that came to a channel's requesting socket.
    pub fn on_answer(
        &mut self,
        now: Time,
        channel: Channel,
        control: &Control<'_>,
        out: &mut Outbox,
    ) {
        self.gate.counters.received += 1;
        let Some(state) = self.channels.get_mut(&channel) else {
            return;
        };
        let header = &control.header;
        match &control.body {
            Body::Challenge(c) => state.requester.on_challenge(now, header, c.cookie, out),
            Body::Status(s) => state.requester.on_status(now, header, s, out),
            _ => self.gate.counters.strange += 1,
        }
        self.tend(now, channel, out);
    }

    /// Whether a stream datagram from upstream is to be passed on: under the
    /// channel's token, and not seen before.
    pub fn on_stream(&mut self, channel: &Channel, trailer: &Trailer) -> bool {
        let Some(state) = self.channels.get_mut(channel) else {
            return false;
        };
        if !state.takes(trailer.token) {
            state.foreign += 1;
            return false;
        }
        match state.window.note(trailer.sequence) {
            Fresh::New => true,
            Fresh::Duplicate | Fresh::TooOld => {
                state.duplicates += 1;
                false
            }
        }
    }

    /// Whether datagrams with this token are the channel's stream, as far as is known.
    #[must_use]
    pub fn takes(&self, channel: &Channel, token: u64) -> bool {
        let state = self.channels.get(channel);
        state.is_some_and(|state| state.takes(token))
    }

    /// Who gets a channel's stream.
    #[must_use]
    pub fn fan(&self, channel: &Channel) -> Option<&Fan> {
        self.channels.get(channel).map(|c| c.audience.fan())
    }

    /// Takes note of datagrams that were sent to the fan.
    pub fn carried_on(
        &mut self,
        now: Time,
        channel: &Channel,
        sequences: &[flexcast_wire::Sequence],
        bytes_each: &[usize],
    ) {
        if let Some(state) = self.channels.get_mut(channel) {
            state.audience.carried_on(now, sequences, bytes_each);
            if !state.audience.fan().moving().is_empty() {
                self.arm(*channel);
            }
        }
    }

    /// Whether a requester at this address has an entry in a channel of `sender`.
    /// Looks through all channels.
    #[must_use]
    pub fn has_entry(&self, from: SocketAddr, sender: IpAddr) -> bool {
        let of_sender = self.channels.iter().filter(|(c, _)| c.sender == sender);
        of_sender
            .into_iter()
            .any(|(_, c)| c.audience.contains(from))
    }

    /// Stream datagrams of a channel sent to the requester at an address, none of
    /// them while it stood by; none where it has no entry.
    #[must_use]
    pub fn sent_to(&self, channel: &Channel, at: SocketAddr) -> Option<u64> {
        self.channels.get(channel)?.audience.sent_to_address(at)
    }

    /// An ICMP error quoted our stream to `to`: ask it for a sign of life.
    pub fn on_unreachable(&mut self, now: Time, to: SocketAddr) {
        let mut touched = Vec::new();
        for (channel, state) in &mut self.channels {
            if state.audience.doubt(now, to) {
                touched.push(*channel);
            }
        }
        for channel in touched {
            self.arm(channel);
        }
    }

    /// What there is, for people.
    #[must_use]
    pub fn report(&self, now: Time) -> RelayReport {
        let channels = self.channels.iter();
        RelayReport {
            node: self.gate.node,
            draining: self.draining.is_some(),
            entries: self.gate.entries(),
            counters: self.gate.counters.clone(),
            channels: channels
                .map(|(channel, c)| c.summary(now, *channel))
                .collect(),
        }
    }
}
