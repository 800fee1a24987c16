//! Entries on their way to another process of the same user, and to people's eyes.
//! Is not validation: who hands entries in answers for them.

use super::*;

impl Audience {
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

    /// Takes everybody out, who are asked for a sign of life, and so ask anew.
    pub(crate) fn turn_out(&mut self, voice: &mut Voice<'_>) {
        for slot in 0..self.slots.len() {
            let Some(entry) = &mut self.slots[slot] else {
                continue;
            };
            entry.life_by = Some(voice.now);
            let answered = entry.sequence;
            self.answer(voice, u32::try_from(slot).unwrap_or(u32::MAX), answered);
        }
        self.clear();
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
