//! The owner of FP: takes requests in, and hands other processes theirs, unread.
//!
//! Promises: a stopped member costs the others nothing (its messages are dropped when
//! its queue is full); requesters of channels that nobody has opened wait here as
//! pending, and go to whoever opens one. Is not how FP is had (`place`, `ears`), nor
//! who has which channel (`registry`).

use std::collections::HashMap;

use flexcast_engine::{EntryRecord, Time};
use flexcast_udp::batch::ReceiveBatch;
use flexcast_udp::icmp::IcmpKind;
use flexcast_udp::process::{Epoll, Event, Interest};
use flexcast_udp::unix::Listener;
use flexcast_udp::{error_queue, Errno};
use flexcast_wire::{Channel, ChannelId, Control};

use super::control::Controller;
use super::ears::Ears;
use super::local::{Message, RECORDS};
use super::names;
use super::node::State;
use super::peer::{Peer, Read};
use super::place::{is_friend, Place, BEAT, EARS, LISTENER, MEMBERS};
use super::registry::{Decision, Registry, Who};

/// Batches of requests, errors and messages taken in at one event, so that no source
/// keeps the others waiting.
const BATCHES: usize = 8;
const ERRORS: usize = 128;
const MESSAGES: usize = 256;
/// Other processes at once.
const MOST: usize = 1_000;

/// What only the owner has.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) generation: u64,
    pub(super) registry: Registry,
    listener: Listener,
    ears: Ears,
    members: HashMap<u64, Member>,
    next_member: u64,
    /// An owner that was overtaken still has the port.
    lower: bool,
    refresh_at: Time,
}

#[derive(Debug)]
struct Member {
    peer: Peer,
    /// Channels whose receivers it wants to know, and what it was told.
    watching: HashMap<ChannelId, Option<u64>>,
}

impl Owner {
    pub(super) fn new(
        now: Time,
        generation: u64,
        listener: Listener,
        ears: Ears,
        epoll: &Epoll,
        succession: bool,
    ) -> Result<Owner, Errno> {
        epoll.add(listener.fd.as_raw(), LISTENER, Interest::READ)?;
        Ok(Owner {
            generation,
            registry: Registry::new(now, succession),
            listener,
            ears,
            members: HashMap::new(),
            next_member: MEMBERS,
            lower: false,
            refresh_at: now,
        })
    }

    /// Requests to other hosts are taken, where a rule hands them to us.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    pub(super) fn set_transparent(&mut self) -> Result<(), Errno> {
        self.ears.set_transparent()
    }

    /// Throws away what is queued.
    pub(super) fn discard_requests(&self, requests: &mut ReceiveBatch) {
        for socket in self.ears.sockets() {
            while requests.receive(socket).is_ok_and(|count| count > 0) {}
        }
    }

    /// Sends to the member that has the channel; whether it went.
    pub(super) fn offer_to_holder(&mut self, id: ChannelId, message: &Message<'_>) -> bool {
        match self.registry.holder(id) {
            Some(Who::Member(token)) => match self.members.get_mut(&token) {
                Some(member) => member.peer.offer(message),
                None => false,
            },
            _ => false,
        }
    }

    /// Tells members what changed of the channels that they watch.
    pub(super) fn tell_watchers(&mut self, state: &State) {
        for (token, member) in &mut self.members {
            for (id, told) in &mut member.watching {
                if self.registry.holder(*id) == Some(Who::Member(*token)) {
                    continue;
                }
                let receivers = state.receivers(*id);
                if *told != Some(receivers) {
                    *told = Some(receivers);
                    let id = *id;
                    member.peer.send(&Message::Count { id, receivers });
                }
            }
        }
    }
}

impl Controller {
    pub(super) fn become_owner(&mut self, now: Time, mut owner: Owner, lower: bool) {
        owner.lower = lower;
        self.place = Place::Owner(Box::new(owner));
        self.node.lock().elsewhere.clear();
        self.claim_all(now);
        self.settle(&Ok(()));
    }

    /// The owner's timers; when there is more.
    pub(super) fn turn_owner(&mut self, now: Time) -> Time {
        let Place::Owner(owner) = &mut self.place else {
            return now;
        };
        let decisions = owner.registry.due(now);
        if owner.lower && owner.refresh_at <= now {
            owner.refresh_at = now + BEAT;
            let generation = owner.generation;
            let living = names::living(self.node.fp);
            owner.lower = living.iter().any(|other| *other < generation);
            let mut addresses = Vec::new();
            if owner.lower {
                addresses.extend(self.node.lock().local_addresses(now).iter());
                addresses.extend(owner.registry.senders());
            }
            owner.ears.listen_also_on(&addresses);
        }
        let mut next = owner.registry.next_time();
        if owner.lower {
            next = next.min(owner.refresh_at);
        }
        if !owner.members.is_empty() {
            // Only a loop that turns notices that it was stopped.
            next = next.min(now + BEAT);
        }
        self.apply(now, decisions);
        next
    }

    /// One of the owner's descriptors is ready.
    pub(super) fn on_owners_event(&mut self, now: Time, token: u64, event: Event) {
        match token {
            LISTENER => self.accept(),
            token if token >= EARS => self.listen(now, token),
            token => {
                if let Place::Owner(owner) = &mut self.place {
                    let member = owner.members.get_mut(&token);
                    if let Some(member) = member.filter(|_| event.is_writable()) {
                        member.peer.flush();
                    }
                }
                self.read_member(now, token);
            }
        }
    }

    fn accept(&mut self) {
        let Place::Owner(owner) = &mut self.place else {
            return;
        };
        while let Ok(stream) = owner.listener.accept() {
            let token = owner.next_member;
            owner.next_member += 1;
            let Ok(mut peer) = Peer::new(stream, self.epoll.clone(), token) else {
                continue;
            };
            if !is_friend(peer.credentials.uid) || owner.members.len() >= MOST {
                continue;
            }
            peer.send(&Message::Welcome);
            let watching = HashMap::new();
            owner.members.insert(token, Member { peer, watching });
        }
    }

    /// Requests and errors at one socket.
    fn listen(&mut self, now: Time, token: u64) {
        for _ in 0..ERRORS {
            let Place::Owner(owner) = &mut self.place else {
                return;
            };
            let Some(socket) = owner.ears.get(token) else {
                return;
            };
            let Ok(Some(error)) = error_queue::next_error(socket) else {
                break;
            };
            if let IcmpKind::TooBig(_) = error.kind {
                continue;
            }
            let to = error.destination;
            for member in owner.members.values_mut() {
                member.peer.offer(&Message::Unreachable { to });
            }
            self.on_unreachable(now, to);
        }
        let Some(mut requests) = self.requests.take() else {
            return;
        };
        for _ in 0..BATCHES {
            let Place::Owner(owner) = &mut self.place else {
                break;
            };
            let socket = owner.ears.get(token);
            match socket.map(|socket| requests.receive(socket)) {
                Some(Ok(count)) if count > 0 => {}
                // An error is one that the queue has told, or will tell.
                _ => break,
            }
            for request in requests.iter() {
                if let (Some(asked), false) = (request.to, request.truncated) {
                    self.route_request(now, request.from, asked, request.payload);
                }
            }
        }
        self.requests = Some(requests);
    }

    /// A request goes to the process that has its channel, or is ours.
    fn route_request(
        &mut self,
        now: Time,
        from: std::net::SocketAddr,
        asked: std::net::IpAddr,
        bytes: &[u8],
    ) {
        if let (Place::Owner(owner), Ok(control)) = (&mut self.place, Control::parse(bytes)) {
            let id = control.header.channel.id;
            let holder = owner.registry.taker(id);
            if self.take_passing(now, from, asked, &control) {
                return;
            }
            if let (Place::Owner(owner), Some(Who::Member(token))) = (&mut self.place, holder) {
                if let Some(member) = owner.members.get_mut(&token) {
                    member.peer.offer(&Message::Request { from, asked, bytes });
                }
                return;
            }
        }
        self.take(now, from, asked, bytes);
    }

    fn read_member(&mut self, now: Time, token: u64) {
        let mut packet = std::mem::take(&mut self.packet);
        for _ in 0..MESSAGES {
            let Place::Owner(owner) = &mut self.place else {
                break;
            };
            let Some(member) = owner.members.get_mut(&token) else {
                break;
            };
            match member.peer.read(&mut packet) {
                Read::Nothing => break,
                Read::Gone => {
                    owner.members.remove(&token);
                    let decisions = owner.registry.gone(Who::Member(token));
                    self.apply(now, decisions);
                    break;
                }
                Read::Message(length) => {
                    if let Some(message) = Message::parse(&packet[..length]) {
                        self.on_members_message(now, token, message);
                    }
                }
            }
        }
        self.packet = packet;
    }

    fn on_members_message(&mut self, now: Time, token: u64, message: Message<'_>) {
        let Place::Owner(owner) = &mut self.place else {
            return;
        };
        let who = Who::Member(token);
        match message {
            Message::Register { channel, holding } => {
                let decisions = owner.registry.claim(now, who, channel, holding);
                self.apply(now, decisions);
            }
            Message::Ended { id } => {
                let decisions = owner.registry.ended(who, id);
                self.apply(now, decisions);
            }
            Message::Records { channel, records } => self.route_records(now, channel, &records),
            Message::Push { id, body } => match owner.registry.holder(id) {
                Some(Who::Us) => self.push(id, body),
                _ => {
                    owner.offer_to_holder(id, &Message::Push { id, body });
                }
            },
            Message::Wildcard { on: true } => {
                let on = owner.registry.claim_wildcard(who);
                self.tell(token, |peer| peer.send(&Message::Wildcard { on }));
            }
            Message::Wildcard { on: false } => owner.registry.give_up_wildcard(who),
            Message::Watch { id } => {
                if let Some(member) = owner.members.get_mut(&token) {
                    member.watching.insert(id, None);
                }
            }
            Message::Count { id, receivers } if owner.registry.holder(id) == Some(who) => {
                self.node.lock().elsewhere.insert(id, receivers);
            }
            Message::Ping => {
                if let Some(member) = owner.members.get_mut(&token) {
                    member.peer.offer(&Message::Pong);
                }
            }
            Message::Supersede => {
                let highest = names::living(self.node.fp).last().copied();
                if highest.is_some_and(|highest| highest > owner.generation) {
                    self.stand_back(now);
                }
            }
            _ => {}
        }
    }

    /// Requesters go to whoever has their channel, or wait here.
    pub(super) fn route_records(&mut self, now: Time, channel: Channel, records: &[EntryRecord]) {
        let Place::Owner(owner) = &mut self.place else {
            return;
        };
        match owner.registry.holder(channel.id) {
            Some(Who::Member(token)) => {
                if let Some(member) = owner.members.get_mut(&token) {
                    send_records(&mut member.peer, channel, records);
                }
            }
            _ => self.take_over(now, channel, records),
        }
    }

    /// Does what the registry decided.
    pub(super) fn apply(&mut self, now: Time, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Grant(Who::Us, channel) => self.granted(now, channel.id),
                Decision::Taken(Who::Us, channel) => self.taken(now, channel.id),
                Decision::Yield(Who::Us, channel) => {
                    let records = self.node.lock().sender.hand_out(channel.id);
                    self.route_records(now, channel, &records);
                }
                Decision::Grant(Who::Member(token), channel) => {
                    let id = channel.id;
                    let records = {
                        let mut state = self.node.lock();
                        state.elsewhere.remove(&id);
                        state.sender.hand_out(id)
                    };
                    self.tell(token, |peer| {
                        send_records(peer, channel, &records);
                        peer.send(&Message::Registered { id, held: false });
                    });
                }
                Decision::Taken(Who::Member(token), channel) => {
                    let id = channel.id;
                    self.tell(token, |peer| {
                        peer.send(&Message::Registered { id, held: true });
                    });
                }
                Decision::Yield(Who::Member(token), channel) => {
                    let id = channel.id;
                    self.tell(token, |peer| peer.send(&Message::Yield { id }));
                }
            }
        }
    }

    fn tell(&mut self, token: u64, say: impl FnOnce(&mut Peer)) {
        if let Place::Owner(owner) = &mut self.place {
            if let Some(member) = owner.members.get_mut(&token) {
                say(&mut member.peer);
            }
        }
    }
}

fn send_records(peer: &mut Peer, channel: Channel, records: &[EntryRecord]) {
    for records in records.chunks(RECORDS) {
        let records = records.to_vec();
        peer.send(&Message::Records { channel, records });
    }
}
