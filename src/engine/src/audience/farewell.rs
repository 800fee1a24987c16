//! How entries go when they say so: leaves and `until J`, and the tombstones that
//! answer what comes after.
//!
//! Promises: neither was validated (the nonce is enough), so neither renews, moves or
//! enters anything. Timers: tombstone 5 s. Is not the turn itself (`turn`).

use super::*;

impl Audience {
    /// A leave: gone at once, remembered for 5 s.
    pub(super) fn leave(
        &mut self,
        voice: &mut Voice<'_>,
        home: &Home,
        header: &Header,
        slot: u32,
        none_below: bool,
    ) -> Taken {
        if !self.is_newer(slot, header.sequence) {
            return Taken::Stale;
        }
        if let Some(entry) = self.remove(slot) {
            self.entomb(voice.now, entry.nonce, header.sequence, None);
            self.say_left(voice, home, header.sequence, None);
        }
        Taken::Left { none_below }
    }

    /// `until J`: the stream ends there. It was not validated (the nonce is enough),
    /// so it renews nothing and moves nothing.
    pub(super) fn stop(
        &mut self,
        voice: &mut Voice<'_>,
        home: &Home,
        header: &Header,
        slot: u32,
        request: &Request,
    ) -> Taken {
        if !self.is_newer(slot, header.sequence) {
            return Taken::Stale;
        }
        if let Some(entry) = &mut self.slots[index(slot)] {
            entry.sequence = header.sequence;
            entry.farewell = Some((home.address, home.asked));
        }
        self.turn(voice, slot, request);
        self.answer(voice, slot, header.sequence);
        self.arm(slot);
        Taken::Refreshed
    }

    pub(super) fn is_newer(&self, slot: u32, sequence: Sequence) -> bool {
        let entry = self.slots[index(slot)].as_ref();
        entry.is_some_and(|e| sequence.newer_than(e.sequence))
    }

    /// Answers a repeated leave or `until` from the tombstone.
    pub(super) fn leave_again(
        &mut self,
        voice: &mut Voice<'_>,
        home: &Home,
        header: &Header,
        until: Option<Sequence>,
    ) -> Taken {
        if let Some(stone) = self.tombstones.get_mut(&header.nonce) {
            stone.sequence = header.sequence;
            let stopped = stone.stopped_at.or(until);
            self.say_left(voice, home, header.sequence, stopped);
        }
        Taken::Unknown
    }

    /// Takes an entry out that must not stay, without a tombstone.
    pub(crate) fn expel(&mut self, nonce: Nonce) {
        if let Some(&slot) = self.by_nonce.get(&nonce) {
            self.remove(slot);
        }
    }

    /// Everybody is told what the node's state says, once, and goes.
    pub(crate) fn dismiss(&mut self, voice: &mut Voice<'_>) {
        for slot in 0..self.slots.len() {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            let answered = self.slots[index(slot)].as_ref().map(|e| e.sequence);
            if let Some(answered) = answered {
                self.answer(voice, slot, answered);
                self.remove(slot);
            }
        }
    }

    pub(super) fn entomb(
        &mut self,
        now: Time,
        nonce: Nonce,
        sequence: Sequence,
        at: Option<Sequence>,
    ) {
        let until = now + TOMBSTONE;
        let stone = Tombstone {
            sequence,
            until,
            stopped_at: at,
        };
        self.tombstones.insert(nonce, stone);
        self.graves.push_back((until, nonce));
        if self.graves.len() > self.limit.saturating_mul(4).max(1024) {
            if let Some((_, nonce)) = self.graves.pop_front() {
                self.tombstones.remove(&nonce);
            }
        }
    }

    /// Forgets tombstones whose time is over.
    pub(super) fn bury(&mut self, now: Time) {
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
}
