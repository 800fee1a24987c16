//! A member: a sender process that the owner of FP hands its requests to.
//!
//! Promises: every channel of ours is registered with each new owner, with what we
//! already hold of it; pings each 500 ms. Is not how the owner is found (`place`).

use std::time::Duration;

use flexcast_engine::{EntryRecord, Time};
use flexcast_udp::process::Event;
use flexcast_wire::{Channel, ChannelId};

use super::control::Controller;
use super::local::{Message, RECORDS};
use super::ours::Stage;
use super::peer::{Peer, Read};
use super::place::{Place, BEAT, SILENCE};
use super::registry::Who;
use crate::background::now;

/// Before a process that was not let in knocks again.
const TURNED_AWAY: Duration = Duration::from_millis(50);
/// Messages taken in at one event.
const AT_ONCE: usize = 256;

/// The connection to the owner.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) generation: u64,
    pub(super) peer: Peer,
    heard: Time,
    ping_at: Time,
}

impl Membership {
    pub(super) fn new(now: Time, generation: u64, peer: Peer) -> Membership {
        Membership {
            generation,
            peer,
            heard: now,
            ping_at: now + BEAT,
        }
    }

    /// Something came from the owner, or could not have been taken in.
    pub(super) fn heard(&mut self, now: Time) {
        self.heard = now;
    }

    /// Pings; none where the owner is silent.
    pub(super) fn turn(&mut self, now: Time) -> Option<Time> {
        if self.heard + SILENCE <= now {
            return None;
        }
        if self.ping_at <= now {
            self.peer.offer(&Message::Ping);
            self.ping_at = now + BEAT;
        }
        Some(self.ping_at.min(self.heard + SILENCE))
    }
}

impl Controller {
    /// The connection to the owner is ready.
    pub(super) fn on_owner(&mut self, now: Time, event: Event) {
        if event.is_writable() {
            if let Some(owner) = self.owner_peer() {
                owner.flush();
            }
        }
        let mut packet = std::mem::take(&mut self.packet);
        for _ in 0..AT_ONCE {
            let Some(owner) = self.owner_peer() else {
                break;
            };
            match owner.read(&mut packet) {
                Read::Nothing => break,
                Read::Gone => {
                    // Before the welcome it may be that there is no room for us.
                    let welcomed = matches!(self.place, Place::Member(_));
                    let at = if welcomed { now } else { now + TURNED_AWAY };
                    self.place = Place::Seeking { at };
                    // Nobody knows them for the moment.
                    self.node.lock().elsewhere.clear();
                    break;
                }
                Read::Message(length) => {
                    if let Place::Joining(membership) | Place::Member(membership) = &mut self.place
                    {
                        membership.heard(now);
                    }
                    if let Some(message) = Message::parse(&packet[..length]) {
                        self.on_owners_message(now, message);
                    }
                }
            }
        }
        self.packet = packet;
    }

    fn owner_peer(&mut self) -> Option<&mut Peer> {
        match &mut self.place {
            Place::Joining(membership) | Place::Member(membership) => Some(&mut membership.peer),
            _ => None,
        }
    }

    fn on_owners_message(&mut self, now: Time, message: Message<'_>) {
        match message {
            Message::Welcome => self.become_member(now),
            Message::Registered { id, held: false } => self.granted(now, id),
            Message::Registered { id, held: true } => self.taken(now, id),
            Message::Wildcard { on } => self.heard_of_scope(now, None, on),
            Message::Request { from, asked, bytes } => self.take(now, from, asked, bytes),
            Message::Records { channel, records } => self.take_over(now, channel, &records),
            Message::Unreachable { to } => self.on_unreachable(now, to),
            Message::Push { id, body } => self.push(id, body),
            Message::Yield { id } => {
                let channel = self.ours.get(&id).map(|ours| ours.channel);
                let records = self.node.lock().sender.hand_out(id);
                if let Some(channel) = channel {
                    self.pass_on(now, channel, &records);
                }
            }
            Message::Count { id, receivers } => {
                self.node.lock().elsewhere.insert(id, receivers);
            }
            _ => {}
        }
    }

    /// The owner took us in: it learns what we have, and gets what nobody here sends.
    fn become_member(&mut self, now: Time) {
        let place = std::mem::replace(&mut self.place, Place::Seeking { at: now });
        let Place::Joining(membership) = place else {
            self.place = place;
            return;
        };
        self.last_generation = membership.generation;
        self.place = Place::Member(membership);
        self.told.clear();
        self.node.lock().elsewhere.clear();
        let pending: Vec<Channel> = {
            let state = self.node.lock();
            let summaries = state.sender.summaries(now);
            let channels = summaries.iter().map(|summary| summary.channel);
            channels
                .filter(|channel| !self.ours.contains_key(&channel.id))
                .collect()
        };
        for channel in pending {
            let records = self.node.lock().sender.hand_out(channel.id);
            self.pass_on(now, channel, &records);
        }
        self.claim_all(now);
        for id in self.watching.clone() {
            self.ask_count(id);
        }
        self.settle(&Ok(()));
    }

    /// Claims every channel of ours with a new owner.
    pub(super) fn claim_all(&mut self, now: Time) {
        let ours = self.ours.values();
        let all: Vec<(Channel, Stage)> = ours.map(|ours| (ours.channel, ours.stage)).collect();
        for (channel, stage) in all {
            match stage {
                Stage::Claimed | Stage::Elsewhere => self.claim(now, channel, false),
                Stage::Open | Stage::Listening => self.claim(now, channel, true),
                Stage::Ended => {
                    self.claim(now, channel, true);
                    self.tell_ended(now, channel.id);
                }
            }
        }
        if self.wants_wildcard() {
            self.claim_wildcard();
        }
    }

    /// Asks the owner for the channels that nobody has.
    pub(super) fn claim_wildcard(&mut self) {
        let granted = match &mut self.place {
            Place::Member(membership) => {
                membership.peer.send(&Message::Wildcard { on: true });
                return;
            }
            Place::Owner(owner) => owner.registry.claim_wildcard(Who::Us),
            // Claimed when the place is found.
            _ => return,
        };
        self.heard_of_scope(now(), None, granted);
    }

    pub(super) fn give_up_wildcard(&mut self) {
        match &mut self.place {
            Place::Member(membership) => membership.peer.send(&Message::Wildcard { on: false }),
            Place::Owner(owner) => owner.registry.give_up_wildcard(Who::Us),
            _ => {}
        }
    }

    /// Asks the owner for a channel; `holding`: its audience is here.
    pub(super) fn claim(&mut self, now: Time, channel: Channel, holding: bool) {
        match &mut self.place {
            Place::Member(membership) => {
                let message = Message::Register { channel, holding };
                membership.peer.send(&message);
            }
            Place::Owner(owner) => {
                let decisions = owner.registry.claim(now, Who::Us, channel, holding);
                self.apply(now, decisions);
            }
            // Claimed when the place is found.
            _ => {}
        }
    }

    /// Lets the owner know that a channel is no longer sent from here.
    pub(super) fn tell_ended(&mut self, now: Time, id: ChannelId) {
        match &mut self.place {
            Place::Member(membership) => membership.peer.send(&Message::Ended { id }),
            Place::Owner(owner) => {
                let decisions = owner.registry.ended(Who::Us, id);
                self.apply(now, decisions);
            }
            _ => {}
        }
    }

    /// Passes requesters to whoever has their channel, or keeps them pending.
    pub(super) fn pass_on(&mut self, now: Time, channel: Channel, records: &[EntryRecord]) {
        match &mut self.place {
            Place::Member(membership) => {
                for records in records.chunks(RECORDS) {
                    let records = records.to_vec();
                    membership.peer.send(&Message::Records { channel, records });
                }
            }
            Place::Owner(_) => self.route_records(now, channel, records),
            // They ask again.
            _ => {}
        }
    }

    /// Gives a datagram to the process that has the channel.
    pub(super) fn hand_over(&mut self, id: ChannelId, body: &[u8]) {
        let message = Message::Push { id, body };
        let arrived = match &mut self.place {
            Place::Member(membership) => membership.peer.offer(&message),
            Place::Owner(owner) => owner.offer_to_holder(id, &message),
            _ => false,
        };
        self.handed_over(id, arrived);
    }

    /// One datagram fewer waits to be sent from here.
    pub(super) fn handed_over(&self, id: ChannelId, arrived: bool) {
        if let Some(line) = self.node.lock().lines.get(&id) {
            line.handed_over(arrived);
        }
    }

    /// Has the owner tell how many receivers a channel has.
    pub(super) fn watch(&mut self, id: ChannelId) {
        if self.watching.insert(id) {
            self.ask_count(id);
        }
    }

    fn ask_count(&mut self, id: ChannelId) {
        if let Place::Member(membership) = &mut self.place {
            membership.peer.send(&Message::Watch { id });
        }
    }

    /// Tells counts of receivers that changed to whoever keeps them.
    pub(super) fn tell_counts(&mut self) {
        match &mut self.place {
            Place::Member(membership) => {
                let state = self.node.lock();
                for id in self.ours.keys() {
                    let receivers = state.sender.receivers(*id);
                    let told = self.told.insert(*id, receivers);
                    if told.unwrap_or(0) != receivers {
                        let id = *id;
                        membership.peer.send(&Message::Count { id, receivers });
                    }
                }
            }
            Place::Owner(owner) => owner.tell_watchers(&self.node.lock()),
            _ => {}
        }
    }
}
