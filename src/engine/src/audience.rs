//! The audience of one channel at one node: requesters, each with a deadline.
//!
//! Promises: a leave needs only (channel, nonce); requests are taken in the order
//! of their sequences; one timer per entry, no scan over all; a handover starts
//! and stops at exact sequences. Is not validation (`gate`).
//!
//! Timers: hold (entry), heartbeat (entry), 0/50/200 ms after a change (entry),
//! sign of life 1 s, from K / until J 2 s, tombstone 5 s.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_wire::{
    Body, Channel, Control, Handover, Header, NodeId, Nonce, Reason, Request, Sequence, Status,
    Verdict, Want, MAX_HOPS,
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

/// Where answers to an entry go: validated once, so nothing sent there floods
/// somebody else.
#[derive(Clone, Copy, Debug)]
struct Home {
    address: SocketAddr,
    asked: IpAddr,
    channel: Channel,
    nonce: Nonce,
}

impl Home {
    /// The same, but another port of that very address where a farewell came from
    /// there: a socket that is gone leaves from elsewhere, and its port may be
    /// somebody else's by now.
    fn or_beside(mut self, from: SocketAddr) -> Home {
        if from.ip() == self.address.ip() {
            self.address = from;
        }
        self
    }
}

#[derive(Debug)]
struct Tombstone {
    sequence: Sequence,
    until: Time,
    stopped_at: Option<Sequence>,
    home: Home,
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
            budgets: [0; BUDGETS],
            released: Vec::new(),
        }
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

    /// Shortens an entry's handover timer once its sequence has been reached.
    fn turn_reached(&mut self, now: Time, slot: u32) {
        let Some(highest) = self.highest else { return };
        let Some(entry) = &mut self.slots[index(slot)] else {
            return;
        };
        match &mut entry.phase {
            Phase::Starting { at, by } if highest.reaches(*at) => *by = (*by).min(now + SETTLE),
            Phase::Stopping { at, by, told } if !*told && highest.next().reaches(*at) => {
                *told = true;
                *by = (*by).min(now + SETTLE);
                entry.tell(now);
            }
            _ => return,
        }
        self.arm(slot);
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
        match (request.want, known) {
            (Want::Leave { none_below }, Some(slot)) => {
                return self.leave(voice, from, header, slot, none_below)
            }
            (Want::Until(_), Some(slot)) => return self.stop(voice, header, slot, request),
            (Want::Leave { .. }, None) => return self.leave_again(voice, from, header, None),
            (Want::Until(at), None) => return self.leave_again(voice, from, header, Some(at)),
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
            self.budgets[budget(entry)] += 1;
        }
    }

    /// Takes an entry out of the sums over all, before it changes or goes.
    fn count_out(&mut self, slot: u32) {
        if let Some(entry) = &self.slots[index(slot)] {
            self.below -= u64::from(entry.receivers_below);
            self.budgets[budget(entry)] -= 1;
        }
    }

    /// Moves an entry between its phases as a request asks.
    fn turn(&mut self, voice: &Voice<'_>, slot: u32, request: &Request) {
        let next = self.highest.map(Sequence::next);
        let Some(entry) = &mut self.slots[index(slot)] else {
            return;
        };
        let ours = !request.parent.is_some() || request.parent == voice.node;
        match (request.want, entry.phase) {
            (Want::Stream, Phase::Standby | Phase::Stopping { .. }) if ours => {
                entry.phase = Phase::Stream;
            }
            // The old parent is gone: nothing to wait for.
            (Want::Stream, Phase::Starting { .. }) if !request.parent.is_some() => {
                entry.phase = Phase::Stream;
            }
            (Want::From(k), Phase::Standby | Phase::Stopping { .. })
                if request.parent != voice.node =>
            {
                let at = next.map_or(k, |n| n.later(k));
                entry.started_at = Some(at);
                let by = voice.now + TURN;
                entry.phase = Phase::Starting { at, by };
            }
            (Want::Until(j), Phase::Stream | Phase::Starting { .. }) => {
                let at = next.map_or(j, |n| n.later(j));
                let reached = next.is_some_and(|n| n.reaches(at));
                entry.phase = Phase::Stopping {
                    at,
                    by: voice.now + if reached { SETTLE } else { TURN },
                    told: reached,
                };
            }
            (Want::Until(j), Phase::Standby) => {
                entry.phase = Phase::Stopping {
                    at: j,
                    by: voice.now,
                    told: true,
                };
            }
            _ => return,
        }
        self.place(slot);
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

    /// A leave: gone at once, remembered for 5 s.
    fn leave(
        &mut self,
        voice: &mut Voice<'_>,
        from: SocketAddr,
        header: &Header,
        slot: u32,
        none_below: bool,
    ) -> Taken {
        if !self.is_newer(slot, header.sequence) {
            return Taken::Stale;
        }
        if let Some(entry) = self.remove(slot) {
            let home = home(&entry);
            self.entomb(voice.now, &home, header.sequence, None);
            self.say_left(voice, &home.or_beside(from), header.sequence, None);
        }
        Taken::Left { none_below }
    }

    /// `until J`: the stream ends there. It was not validated (the nonce is enough),
    /// so it renews nothing and moves nothing.
    fn stop(
        &mut self,
        voice: &mut Voice<'_>,
        header: &Header,
        slot: u32,
        request: &Request,
    ) -> Taken {
        if !self.is_newer(slot, header.sequence) {
            return Taken::Stale;
        }
        if let Some(entry) = &mut self.slots[index(slot)] {
            entry.sequence = header.sequence;
        }
        self.turn(voice, slot, request);
        self.answer(voice, slot, header.sequence);
        self.arm(slot);
        Taken::Refreshed
    }

    fn is_newer(&self, slot: u32, sequence: Sequence) -> bool {
        let entry = self.slots[index(slot)].as_ref();
        entry.is_some_and(|e| sequence.newer_than(e.sequence))
    }

    /// Answers a repeated leave or `until` from the tombstone.
    fn leave_again(
        &mut self,
        voice: &mut Voice<'_>,
        from: SocketAddr,
        header: &Header,
        until: Option<Sequence>,
    ) -> Taken {
        if let Some(stone) = self.tombstones.get_mut(&header.nonce) {
            stone.sequence = header.sequence;
            let stopped = stone.stopped_at.or(until);
            let home = stone.home.or_beside(from);
            self.say_left(voice, &home, header.sequence, stopped);
        }
        Taken::Unknown
    }

    /// Takes an entry out that must not stay, without a tombstone.
    pub(crate) fn expel(&mut self, nonce: Nonce) {
        if let Some(&slot) = self.by_nonce.get(&nonce) {
            self.remove(slot);
        }
    }

    fn entomb(&mut self, now: Time, home: &Home, sequence: Sequence, at: Option<Sequence>) {
        let until = now + TOMBSTONE;
        let stone = Tombstone {
            sequence,
            until,
            stopped_at: at,
            home: *home,
        };
        self.tombstones.insert(home.nonce, stone);
        self.graves.push_back((until, home.nonce));
        if self.graves.len() > self.limit.saturating_mul(4).max(1024) {
            if let Some((_, nonce)) = self.graves.pop_front() {
                self.tombstones.remove(&nonce);
            }
        }
    }

    /// Forgets tombstones whose time is over.
    fn bury(&mut self, now: Time) {
        while let Some(&(until, nonce)) = self.graves.front() {
            if until > now {
                break;
            }
            self.graves.pop_front();
            if self.tombstones.get(&nonce).is_some_and(|s| s.until <= now) {
                self.tombstones.remove(&nonce);
            }
        }
    }

    /// A status to one entry, answering the request with this sequence.
    fn answer(&mut self, voice: &mut Voice<'_>, slot: u32, answered: Sequence) {
        let Some(entry) = &self.slots[index(slot)] else {
            return;
        };
        let handover = match entry.phase {
            Phase::Stopping { at, told: true, .. } => Some(Handover::StoppedAt(at)),
            Phase::Starting { at, .. } => Some(Handover::StartsAt(at)),
            Phase::Stream => entry.started_at.map(Handover::StartsAt),
            _ => None,
        };
        let (datagrams, bytes) = self.sent_to(entry);
        let verdict = match entry.phase {
            Phase::Stopping { told: true, .. } => Verdict::Left,
            _ => voice.state.verdict,
        };
        let status = Status {
            verdict,
            standby: entry.phase == Phase::Standby,
            sign_of_life_wanted: entry.life_by.is_some(),
            handover,
            hold_ms: as_ms(entry.hold),
            heartbeat_ms: as_ms(entry.heartbeat),
            datagrams,
            bytes,
            own_address: entry.own_address,
            ..self.bare(voice, &entry.channel, entry.address, entry.nonce)
        };
        let route = Route::Node(entry.asked);
        let (to, nonce, channel) = (entry.address, entry.nonce, entry.channel);
        speak(voice, route, to, channel, nonce, answered, status);
    }

    /// Stream datagrams and bytes sent to an entry.
    fn sent_to(&self, entry: &Entry) -> (u64, u64) {
        match entry.place {
            Place::Steady(_) => (
                entry.own_datagrams + self.datagrams - entry.base_datagrams,
                entry.own_bytes + self.bytes - entry.base_bytes,
            ),
            _ => (entry.own_datagrams, entry.own_bytes),
        }
    }

    /// What any status of this channel says.
    fn bare(&self, voice: &Voice<'_>, channel: &Channel, to: SocketAddr, nonce: Nonce) -> Status {
        Status {
            verdict: voice.state.verdict,
            standby: false,
            sign_of_life_wanted: false,
            ask: voice.state.ask,
            handover: None,
            app_port: voice.state.app_port,
            hold_ms: 0,
            heartbeat_ms: 0,
            token: voice.state.token,
            cookie: voice.jar.bake(to, nonce, channel),
            datagrams: 0,
            bytes: 0,
            highest: self.highest,
            reason: voice.state.reason,
            own_address: None,
            path: voice.state.path,
        }
    }

    fn say_left(
        &self,
        voice: &mut Voice<'_>,
        home: &Home,
        answered: Sequence,
        stopped: Option<Sequence>,
    ) {
        let (to, channel, nonce) = (home.address, home.channel, home.nonce);
        let status = Status {
            verdict: Verdict::Left,
            handover: stopped.map(Handover::StoppedAt),
            ..self.bare(voice, &channel, to, nonce)
        };
        let route = Route::Node(home.asked);
        speak(voice, route, to, channel, nonce, answered, status);
    }

    /// *Left* to somebody validated of whom nothing is known (any more).
    pub(crate) fn say_unknown(
        &self,
        voice: &mut Voice<'_>,
        from: SocketAddr,
        asked: IpAddr,
        header: &Header,
    ) {
        let home = Home {
            address: from,
            asked,
            channel: header.channel,
            nonce: header.nonce,
        };
        self.say_left(voice, &home, header.sequence, None);
    }

    /// A passing refusal to somebody validated who gets no entry.
    pub(crate) fn refuse(
        &self,
        voice: &mut Voice<'_>,
        from: SocketAddr,
        asked: IpAddr,
        header: &Header,
        reason: Reason,
    ) {
        let status = Status {
            verdict: Verdict::RefusedPassing,
            reason,
            token: None,
            ..self.bare(voice, &header.channel, from, header.nonce)
        };
        let route = Route::Node(asked);
        speak(
            voice,
            route,
            from,
            header.channel,
            header.nonce,
            header.sequence,
            status,
        );
    }

    /// An ICMP error quoted our stream to `address`: ask it for a sign of life.
    pub(crate) fn doubt(&mut self, now: Time, address: SocketAddr) -> bool {
        let Some(&slot) = self.by_address.get(&address) else {
            return false;
        };
        if let Some(entry) = &mut self.slots[index(slot)] {
            if entry.life_by.is_none() {
                entry.life_by = Some(now + SIGN_OF_LIFE);
                entry.tell(now);
            }
        }
        self.arm(slot);
        true
    }

    /// The channel's state changed: tell everybody at 0, 50 and 200 ms.
    pub(crate) fn tell_all(&mut self, now: Time) {
        for slot in 0..self.slots.len() {
            let Some(entry) = &mut self.slots[slot] else {
                continue;
            };
            entry.tell(now);
            self.arm(u32::try_from(slot).unwrap_or(u32::MAX));
        }
    }

    /// Has everybody hear one status now (draining).
    pub(crate) fn remind_all(&mut self, now: Time) {
        for slot in 0..self.slots.len() {
            if let Some(entry) = &mut self.slots[slot] {
                entry.urgent = entry.urgent.max(1);
                entry.next_urgent = now;
                self.arm(u32::try_from(slot).unwrap_or(u32::MAX));
            }
        }
    }

    /// A new incarnation of the stream: its sequences start anew.
    pub(crate) fn new_incarnation(&mut self) {
        self.highest = None;
        for slot in 0..self.slots.len() {
            let Some(entry) = &mut self.slots[slot] else {
                continue;
            };
            entry.started_at = None;
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            match &mut entry.phase {
                Phase::Starting { .. } => {
                    entry.phase = Phase::Stream;
                    self.place(slot);
                }
                // What it waits for will not come any more: its end is now.
                Phase::Stopping { by, .. } => {
                    *by = Time(0);
                    self.unplace(slot);
                    self.arm(slot);
                }
                Phase::Standby | Phase::Stream => {}
            }
        }
    }

    /// After a pause of the whole node nobody is taken to be still fed by it: all
    /// are on standby until they ask, and are told so. Who went elsewhere meanwhile
    /// gets nothing stale.
    pub(crate) fn rest(&mut self, now: Time) {
        for slot in 0..self.slots.len() {
            let Some(entry) = &mut self.slots[slot] else {
                continue;
            };
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            if let Phase::Stopping { by, .. } = &mut entry.phase {
                *by = Time(0);
                self.unplace(slot);
            } else {
                entry.phase = Phase::Standby;
                entry.started_at = None;
                entry.tell(now);
                self.place(slot);
            }
            self.arm(slot);
        }
    }

    fn arm(&mut self, slot: u32) {
        if let Some(entry) = &mut self.slots[index(slot)] {
            let next = entry.next_event();
            if next < entry.armed {
                entry.armed = next;
                self.timers.push(Reverse((next, slot, entry.generation)));
            }
        }
    }

    /// When [`Audience::poll`] next has something to do.
    pub(crate) fn next_event(&self) -> Time {
        self.timers.peek().map_or(Time::NEVER, |t| t.0 .0)
    }

    /// The sources whose entries went since the last call, one for each.
    pub(crate) fn take_released(&mut self) -> std::vec::Drain<'_, IpAddr> {
        self.released.drain(..)
    }

    /// Does what is due.
    pub(crate) fn poll(&mut self, voice: &mut Voice<'_>) {
        while let Some(&Reverse((at, slot, generation))) = self.timers.peek() {
            if at > voice.now {
                return;
            }
            self.timers.pop();
            let Some(entry) = &mut self.slots[index(slot)] else {
                continue;
            };
            if entry.generation != generation || entry.armed != at {
                continue;
            }
            entry.armed = Time::NEVER;
            self.attend(voice, slot);
            self.arm(slot);
        }
    }

    fn attend(&mut self, voice: &mut Voice<'_>, slot: u32) {
        let now = voice.now;
        let Some(entry) = &mut self.slots[index(slot)] else {
            return;
        };
        if entry.deadline <= now || entry.life_by.is_some_and(|by| by <= now) {
            self.remove(slot);
            return;
        }
        match entry.phase {
            Phase::Starting { by, .. } if by <= now => {
                entry.phase = Phase::Stream;
                self.place(slot);
            }
            Phase::Stopping { at, by, told } if by <= now => {
                let stopped = self
                    .highest
                    .map_or(at, |h| if told { at } else { h.next() });
                let (home, sequence) = (home(entry), entry.sequence);
                self.remove(slot);
                self.entomb(now, &home, sequence, Some(stopped));
                if !told {
                    self.say_left(voice, &home, sequence, Some(stopped));
                }
                return;
            }
            _ => {}
        }
        let Some(entry) = &mut self.slots[index(slot)] else {
            return;
        };
        let urgent = entry.next_urgent <= now;
        let beat = entry.next_heartbeat <= now;
        if urgent {
            entry.told(now);
        }
        if beat {
            entry.next_heartbeat = now + entry.heartbeat;
        }
        if urgent || beat {
            let answered = entry.sequence;
            self.answer(voice, slot, answered);
        }
    }

    /// Whether nobody here still gets or waits for the stream from us (drain).
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_empty()
    }

    /// The entries, to be handed to another process of the same user.
    #[must_use]
    pub fn records(&self) -> Vec<EntryRecord> {
        let entries = self.slots.iter().flatten();
        entries
            .map(|e| EntryRecord {
                address: e.address,
                asked: e.asked,
                sender: e.channel.sender,
                nonce: e.nonce,
                sequence: e.sequence,
                hold_ms: as_ms(e.hold),
                heartbeat_ms: as_ms(e.heartbeat),
                receivers_below: e.receivers_below,
                hop_budget: e.hop_budget,
            })
            .collect()
    }

    /// Takes everybody out, without a word.
    pub(crate) fn clear(&mut self) {
        for slot in 0..self.slots.len() {
            self.remove(u32::try_from(slot).unwrap_or(u32::MAX));
        }
    }

    /// Enters what another process validated; tells it at once.
    pub(crate) fn adopt(&mut self, voice: &mut Voice<'_>, record: &EntryRecord) -> bool {
        if self.by_nonce.contains_key(&record.nonce) {
            return false;
        }
        let channel = Channel::new(record.sender, voice.channel.id);
        let entered = self.enter(
            voice.now,
            channel,
            record.address,
            record.asked,
            record.nonce,
        );
        let Some(slot) = entered else {
            return false;
        };
        self.count_out(slot);
        if let Some(entry) = &mut self.slots[index(slot)] {
            entry.sequence = record.sequence;
            entry.hold = ms(u64::from(record.hold_ms)).min(voice.longest_hold);
            entry.deadline = voice.now + entry.hold;
            entry.heartbeat = ms(u64::from(record.heartbeat_ms)).clamp(ms(100), ms(60_000));
            entry.next_heartbeat = voice.now + entry.heartbeat;
            entry.receivers_below = record.receivers_below;
            entry.hop_budget = record.hop_budget;
            entry.own_address = Some(record.asked);
            entry.phase = Phase::Stream;
            entry.tell(voice.now);
        }
        self.count_in(slot);
        self.place(slot);
        self.arm(slot);
        true
    }

    /// The requesters, for people.
    #[must_use]
    pub fn summaries(&self, now: Time) -> Vec<RequesterSummary> {
        let entries = self.slots.iter().flatten();
        entries
            .map(|e| {
                let (datagrams, bytes) = self.sent_to(e);
                RequesterSummary {
                    address: e.address,
                    asked: e.asked,
                    standby: e.phase == Phase::Standby,
                    age: now.since(e.since),
                    idle: now.since(e.last_request),
                    datagrams,
                    bytes,
                    lost: e.lost,
                    receivers_below: e.receivers_below,
                }
            })
            .collect()
    }
}

fn home(entry: &Entry) -> Home {
    Home {
        address: entry.address,
        asked: entry.asked,
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
