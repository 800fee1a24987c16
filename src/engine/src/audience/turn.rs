//! The audience's part in a handover: standby, from K, until J, and what a pause of
//! the node or a new incarnation of the stream makes of them.
//!
//! Promises: a repeat never starts a second stream; sequences are compared for entries
//! in a turn alone. Timers: from K / until J 2 s. Is not the choice of K (`parent`).

use super::*;

impl Audience {
    /// Shortens an entry's handover timer once its sequence has been reached.
    pub(super) fn turn_reached(&mut self, now: Time, slot: u32) {
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

    /// Moves an entry between its phases as a request asks.
    pub(super) fn turn(&mut self, voice: &Voice<'_>, slot: u32, request: &Request) {
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
                entry.started_at = None;
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
}
