//! The audience of one channel at one node: requesters, each with a deadline.
//!
//! Promises: a leave needs only (channel, nonce); requests are taken in the order
//! of their sequences; one timer per entry, no scan over all; a handover starts
//! and stops at exact sequences. Is not validation (`gate`).
//!
//! Timers: hold (entry), heartbeat (entry), 0/50/200 ms after a change (entry),
//! sign of life 1 s, from K / until J 2 s, tombstone 5 s.

mod farewell;
mod passage;
mod statuses;
mod timing;
mod turn;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_wire::{
    Body, Channel, Control, Handover, Header, NodeId, Nonce, Path, Reason, Request, Sequence,
    Status, Verdict, Want, MAX_HOPS,
};

use crate::entry::{Entry, Phase, SETTLE};
use crate::fan::{index, Place};
use crate::time::{as_ms, ms};
use crate::{ChannelState, CookieJar, Fan, Outbox, RequesterSummary, Route, Time};

const TOMBSTONE: Duration = ms(5_000);
const TURN: Duration = ms(2_000);
const SIGN_OF_LIFE: Duration = ms(1_000);
/// Hop budgets from 0 to 32; larger ones count as 32.
const BUDGETS: usize = MAX_HOPS + 1;

/// What the audience needs of its node to speak.
pub(crate) struct Voice<'a> {
    pub(crate) now: Time,
    pub(crate) node: NodeId,
    pub(crate) channel: Channel,
    pub(crate) state: ChannelState,
    pub(crate) jar: &'a CookieJar,
    pub(crate) sequence: &'a mut Sequence,
    pub(crate) outbox: &'a mut Outbox,
    pub(crate) longest_hold: Duration,
    pub(crate) shortest_heartbeat: Duration,
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// Older than what we have, or under a tombstone.
    Stale,
    /// A new entry.
    Entered,
    /// A known entry, refreshed.
    Refreshed,
    /// No place for a new entry.
    Full,
    /// An entry left; whether its node has nobody below.
    Left { none_below: bool },
    /// A leave or `until` of somebody unknown.
    Unknown,
}

/// An entry as it is handed to another process of the same user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryRecord {
    /// Where it asks from.
    pub address: SocketAddr,
    /// The address that it asked.
    pub asked: IpAddr,
    /// S as it asked for.
    pub sender: IpAddr,
    /// Its nonce.
    pub nonce: Nonce,
    /// Its last request's sequence.
    pub sequence: Sequence,
    /// How long it is held without a refresh, ms.
    pub hold_ms: u32,
    /// Its heartbeat, ms.
    pub heartbeat_ms: u32,
    /// Receivers at and below it.
    pub receivers_below: u32,
    /// Its hop budget.
    pub hop_budget: u8,
}

/// Where *left* goes: where the farewell came from, which may be another port or
/// another node's side of a NAT than the entry's. That was not validated; but whoever
/// knows the nonce is no stranger, and *left* is shorter than any farewell.
#[derive(Clone, Copy, Debug)]
struct Home {
    address: SocketAddr,
    asked: IpAddr,
    channel: Channel,
    nonce: Nonce,
}

impl Home {
    fn of(header: &Header, from: SocketAddr, asked: IpAddr) -> Home {
        Home {
            address: from,
            asked,
            channel: header.channel,
            nonce: header.nonce,
        }
    }
}

#[derive(Debug)]
struct Tombstone {
    sequence: Sequence,
    until: Time,
    stopped_at: Option<Sequence>,
}

/// The requesters of one channel.
#[derive(Debug)]
pub struct Audience {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_nonce: HashMap<Nonce, u32>,
    by_address: HashMap<SocketAddr, u32>,
    timers: BinaryHeap<Reverse<(Time, u32, u32)>>,
    tombstones: HashMap<Nonce, Tombstone>,
    graves: VecDeque<(Time, Nonce)>,
    fan: Fan,
    limit: usize,
    generation: u32,
    datagrams: u64,
    bytes: u64,
    highest: Option<Sequence>,
    below: u64,
    /// How many entries say that they received something.
    fed: u32,
    /// How many entries show which hop budget.
    budgets: [u32; BUDGETS],
    released: Vec<IpAddr>,
}

impl Audience {
    /// An empty audience of at most `limit` requesters.
    #[must_use]
    pub fn new(limit: usize) -> Audience {
        Audience {
            slots: Vec::new(),
            free: Vec::new(),
            by_nonce: HashMap::new(),
            by_address: HashMap::new(),
            timers: BinaryHeap::new(),
            tombstones: HashMap::new(),
            graves: VecDeque::new(),
            fan: Fan::default(),
            limit,
            generation: 0,
            datagrams: 0,
            bytes: 0,
            highest: None,
            below: 0,
            fed: 0,
            budgets: [0; BUDGETS],
            released: Vec::new(),
        }
    }

    /// How many requesters there may be from now on. Those that are in stay in.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many requesters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_nonce.len()
    }

    /// Whether nobody is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_nonce.is_empty()
    }

    /// Receivers at and below all requesters.
    #[must_use]
    pub fn receivers_below(&self) -> u64 {
        self.below
    }

    /// Whether anybody received something, from us or from another node.
    pub(crate) fn is_fed(&self) -> bool {
        self.fed > 0
    }

    /// The same without those that stand by: what the stream reaches.
    #[must_use]
    pub fn receivers_fed(&self) -> u64 {
        let entries = self.slots.iter().flatten();
        let fed = entries.filter(|entry| entry.phase != Phase::Standby);
        fed.map(|entry| u64::from(entry.receivers_below)).sum()
    }

    /// The largest hop budget among the requesters. It shrinks when the one that
    /// showed it leaves: that starves a ring of relays.
    #[must_use]
    pub fn hop_budget(&self) -> u8 {
        let largest = self.budgets.iter().rposition(|&n| n > 0);
        largest.and_then(|n| u8::try_from(n).ok()).unwrap_or(0)
    }

    /// Who gets the stream.
    #[must_use]
    pub fn fan(&self) -> &Fan {
        &self.fan
    }

    /// Stream datagrams and bytes passed on, and the highest sequence.
    #[must_use]
    pub fn carried(&self) -> (u64, u64, Option<Sequence>) {
        (self.datagrams, self.bytes, self.highest)
    }

    /// Whether this nonce is in, or left lately.
    #[must_use]
    pub fn knows(&self, nonce: Nonce) -> bool {
        self.by_nonce.contains_key(&nonce) || self.tombstones.contains_key(&nonce)
    }

    /// Whether this nonce is in.
    #[must_use]
    pub fn holds(&self, nonce: Nonce) -> bool {
        self.by_nonce.contains_key(&nonce)
    }

    /// Whether an entry stands at this address.
    #[must_use]
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.by_address.contains_key(&address)
    }

    /// Takes note of stream datagrams that the caller has sent to [`Audience::fan`].
    pub fn carried_on(&mut self, now: Time, sequences: &[Sequence], bytes_each: &[usize]) {
        for (&sequence, &bytes) in sequences.iter().zip(bytes_each) {
            self.datagrams += 1;
            self.bytes += bytes as u64;
            self.highest = Some(self.highest.map_or(sequence, |h| h.later(sequence)));
            for (at, &owner) in self.fan.owners_moving().iter().enumerate() {
                if self.fan.moving()[at].1.admits(sequence) {
                    if let Some(entry) = &mut self.slots[index(owner)] {
                        entry.own_datagrams += 1;
                        entry.own_bytes += bytes as u64;
                    }
                }
            }
        }
        for at in 0..self.fan.owners_moving().len() {
            self.turn_reached(now, self.fan.owners_moving()[at]);
        }
    }

    /// Takes a validated request, or a leave or `until` of a known nonce, and
    /// answers it.
    pub(crate) fn take(
        &mut self,
        voice: &mut Voice<'_>,
        from: SocketAddr,
        asked: IpAddr,
        own_address: Option<IpAddr>,
        header: &Header,
        request: &Request,
    ) -> Taken {
        self.bury(voice.now);
        let nonce = header.nonce;
        if let Some(stone) = self.tombstones.get(&nonce) {
            if !header.sequence.newer_than(stone.sequence) {
                return Taken::Stale;
            }
        }
        let known = self.by_nonce.get(&nonce).copied();
        let home = Home::of(header, from, asked);
        match (request.want, known) {
            (Want::Leave { none_below }, Some(slot)) => {
                return self.leave(voice, &home, header, slot, none_below)
            }
            (Want::Until(_), Some(slot)) => return self.stop(voice, &home, header, slot, request),
            (Want::Leave { .. }, None) => return self.leave_again(voice, &home, header, None),
            (Want::Until(at), None) => return self.leave_again(voice, &home, header, Some(at)),
            _ => {}
        }
        if let Some(slot) = known {
            let entry = self.slots[index(slot)].as_ref();
            if entry.is_some_and(|e| !header.sequence.newer_than(e.sequence)) {
                return Taken::Stale;
            }
        }
        let (slot, entered) = match known {
            Some(slot) => (slot, false),
            None => match self.enter(voice.now, header.channel, from, asked, nonce) {
                Some(slot) => (slot, true),
                None => {
                    self.refuse(voice, from, asked, header, Reason::Full);
                    return Taken::Full;
                }
            },
        };
        self.tombstones.remove(&nonce);
        // A direct request of an entry does not change where its stream comes from:
        // filters and firewalls expect the address first asked.
        let first = self.slots[index(slot)].as_ref().map(|e| e.asked);
        let asked = first.filter(|_| request.direct).unwrap_or(asked);
        self.refresh(voice, slot, from, asked, own_address, header, request);
        self.turn(voice, slot, request);
        self.answer(voice, slot, header.sequence);
        self.arm(slot);
        if entered {
            Taken::Entered
        } else {
            Taken::Refreshed
        }
    }

    /// Makes an entry; none when the audience is full.
    fn enter(
        &mut self,
        now: Time,
        channel: Channel,
        from: SocketAddr,
        asked: IpAddr,
        nonce: Nonce,
    ) -> Option<u32> {
        if let Some(&other) = self.by_address.get(&from) {
            self.remove(other);
        }
        if self.len() >= self.limit {
            return None;
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = Entry::new(now, channel, from, asked, nonce, self.generation);
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[index(slot)] = Some(entry);
            slot
        } else {
            self.slots.push(Some(entry));
            u32::try_from(self.slots.len() - 1).ok()?
        };
        self.by_nonce.insert(nonce, slot);
        self.by_address.insert(from, slot);
        self.count_in(slot);
        Some(slot)
    }

    #[allow(clippy::too_many_arguments)] // one datagram's facts, all needed
    fn refresh(
        &mut self,
        voice: &Voice<'_>,
        slot: u32,
        from: SocketAddr,
        asked: IpAddr,
        own_address: Option<IpAddr>,
        header: &Header,
        request: &Request,
    ) {
        let other = self.by_address.get(&from).copied().filter(|&o| o != slot);
        if let Some(other) = other {
            self.remove(other);
        }
        self.count_out(slot);
        let Some(entry) = &mut self.slots[index(slot)] else {
            return;
        };
        entry.refresh(
            voice.now,
            header.sequence,
            request,
            voice.longest_hold,
            voice.shortest_heartbeat,
        );
        entry.next_heartbeat = voice.now + entry.heartbeat;
        if own_address.is_some() {
            entry.own_address = own_address;
        }
        if entry.address != from || entry.asked != asked {
            let old = std::mem::replace(&mut entry.address, from);
            entry.asked = asked;
            self.by_address.remove(&old);
            self.by_address.insert(from, slot);
            self.place(slot);
        }
        self.count_in(slot);
    }

    /// Adds an entry to the sums over all.
    fn count_in(&mut self, slot: u32) {
        if let Some(entry) = &self.slots[index(slot)] {
            self.below += u64::from(entry.receivers_below);
            self.fed += u32::from(entry.received > 0);
            self.budgets[budget(entry)] += 1;
        }
    }

    /// Takes an entry out of the sums over all, before it changes or goes.
    fn count_out(&mut self, slot: u32) {
        if let Some(entry) = &self.slots[index(slot)] {
            self.below -= u64::from(entry.receivers_below);
            self.fed -= u32::from(entry.received > 0);
            self.budgets[budget(entry)] -= 1;
        }
    }

    /// Puts an entry into the list of the fan that its phase wants.
    fn place(&mut self, slot: u32) {
        self.unplace(slot);
        let Some(entry) = &mut self.slots[index(slot)] else {
            return;
        };
        entry.place = match entry.window() {
            None => Place::Nowhere,
            Some(None) => {
                entry.base_datagrams = self.datagrams;
                entry.base_bytes = self.bytes;
                self.fan.add_steady(slot, entry.target())
            }
            Some(Some(window)) => self.fan.add_moving(slot, entry.target(), window),
        };
    }

    fn unplace(&mut self, slot: u32) {
        let Some(entry) = &mut self.slots[index(slot)] else {
            return;
        };
        let place = std::mem::replace(&mut entry.place, Place::Nowhere);
        if let Place::Steady(_) = place {
            entry.own_datagrams += self.datagrams - entry.base_datagrams;
            entry.own_bytes += self.bytes - entry.base_bytes;
        }
        if let Some(moved) = self.fan.remove(place) {
            if let Some(other) = &mut self.slots[index(moved)] {
                if moved != slot {
                    other.place = place;
                }
            }
        }
    }

    fn remove(&mut self, slot: u32) -> Option<Entry> {
        self.unplace(slot);
        self.count_out(slot);
        let entry = self.slots[index(slot)].take()?;
        self.free.push(slot);
        self.by_nonce.remove(&entry.nonce);
        if self.by_address.get(&entry.address) == Some(&slot) {
            self.by_address.remove(&entry.address);
        }
        self.released.push(entry.charged);
        Some(entry)
    }

    /// The sources whose entries went since the last call, one for each.
    pub(crate) fn take_released(&mut self) -> std::vec::Drain<'_, IpAddr> {
        self.released.drain(..)
    }

    /// Whether nobody here still gets or waits for the stream from us (drain).
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_empty()
    }
}

fn home(entry: &Entry) -> Home {
    let (address, asked) = entry.farewell.unwrap_or((entry.address, entry.asked));
    Home {
        address,
        asked,
        channel: entry.channel,
        nonce: entry.nonce,
    }
}

fn budget(entry: &Entry) -> usize {
    usize::from(entry.hop_budget).min(MAX_HOPS)
}

fn speak(
    voice: &mut Voice<'_>,
    route: Route,
    to: SocketAddr,
    channel: Channel,
    nonce: Nonce,
    answered: Sequence,
    status: Status,
) {
    *voice.sequence = voice.sequence.next();
    let header = Header {
        channel,
        nonce,
        node: voice.node,
        sequence: *voice.sequence,
        answered,
    };
    let body = Body::Status(status);
    voice.outbox.push(route, to, &Control { header, body });
}

#[cfg(test)]
mod tests;
