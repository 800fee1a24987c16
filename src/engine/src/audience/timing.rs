//! When entries are attended to: deadlines, heartbeats, changes told, signs of life.
//!
//! Promises: one timer an entry in the heap, the earliest; no scan over all but when
//! all are told. Timers: hold, heartbeat, 0/50/200 ms after a change, sign of life 1 s.
//! Is not what is said (`statuses`).

use super::*;

impl Audience {
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

    pub(super) fn arm(&mut self, slot: u32) {
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

    pub(super) fn attend(&mut self, voice: &mut Voice<'_>, slot: u32) {
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
                self.entomb(now, home.nonce, sequence, Some(stopped));
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
}
