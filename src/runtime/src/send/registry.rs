//! Which process of this host has which channel: kept by the owner of FP.
//!
//! ```text
//!   (free) ──claim──► held ──ended──► ended ──claim of another──► held by that one
//!                      │ claim of another: taken; it stands in line
//!                      └─ its process goes: the first in line has it
//! ```
//! Promises: at most one holder a channel; after a succession a process that has the
//! audience already comes before one that has not, whoever is quicker. Is not I/O:
//! it says what to tell whom.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_wire::{Channel, ChannelId};

/// How long a new owner waits for holders before it gives a free channel away.
const CALM: Duration = Duration::from_millis(300);

/// A process: the owner itself, or the member behind this connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Who {
    Us,
    Member(u64),
}

/// What is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// The channel is this process's.
    Grant(Who, Channel),
    /// A living process has it: hand it your datagrams.
    Taken(Who, Channel),
    /// Another has it now: hand over the requesters. Comes before that one's grant.
    Yield(Who, Channel),
}

#[derive(Debug)]
struct Holding {
    who: Who,
    channel: Channel,
    open: bool,
}

/// Channels by id, and who stands in line for them.
#[derive(Debug)]
pub(super) struct Registry {
    held: HashMap<ChannelId, Holding>,
    line: Vec<(Who, Channel)>,
    /// Who takes requests for channels that nobody has.
    wildcard: Option<Who>,
    calm_at: Time,
}

impl Registry {
    /// Nobody has anything. After a succession, free channels stay free for a while.
    pub(super) fn new(now: Time, succession: bool) -> Registry {
        Registry {
            held: HashMap::new(),
            line: Vec::new(),
            wildcard: None,
            calm_at: if succession { now + CALM } else { now },
        }
    }

    /// The process that has the channel.
    pub(super) fn holder(&self, id: ChannelId) -> Option<Who> {
        self.held.get(&id).map(|holding| holding.who)
    }

    /// The process that is handed requests for the channel.
    pub(super) fn taker(&self, id: ChannelId) -> Option<Who> {
        self.holder(id).or(self.wildcard)
    }

    /// A process wants the channels that nobody has; whether it gets them.
    pub(super) fn claim_wildcard(&mut self, who: Who) -> bool {
        *self.wildcard.get_or_insert(who) == who
    }

    pub(super) fn give_up_wildcard(&mut self, who: Who) {
        self.wildcard = self.wildcard.filter(|has| *has != who);
    }

    /// The sender addresses of all channels.
    pub(super) fn senders(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.held.values().map(|holding| holding.channel.sender)
    }

    /// A process wants a channel; `holding`: it has its audience already.
    pub(super) fn claim(
        &mut self,
        now: Time,
        who: Who,
        channel: Channel,
        holding: bool,
    ) -> Vec<Decision> {
        self.line.retain(|waiting| *waiting != (who, channel));
        match self.held.get_mut(&channel.id) {
            Some(held) if held.who != who && held.open => {
                self.line.push((who, channel));
                vec![Decision::Taken(who, channel)]
            }
            Some(held) => {
                let before = std::mem::replace(held, grant(who, channel)).who;
                let given = Decision::Grant(who, channel);
                if before == who {
                    return vec![given];
                }
                vec![Decision::Yield(before, channel), given]
            }
            None if !holding && now < self.calm_at => {
                self.line.push((who, channel));
                Vec::new()
            }
            None => {
                self.held.insert(channel.id, grant(who, channel));
                vec![Decision::Grant(who, channel)]
            }
        }
    }

    /// A process's stream of a channel has ended, or it wants it no longer.
    pub(super) fn ended(&mut self, who: Who, id: ChannelId) -> Vec<Decision> {
        self.line
            .retain(|(waiting, channel)| (*waiting, channel.id) != (who, id));
        match self.held.get_mut(&id).filter(|held| held.who == who) {
            None => return Vec::new(),
            Some(held) => held.open = false,
        }
        let Some((next, channel)) = self.next_in_line(id) else {
            return Vec::new();
        };
        self.held.insert(id, grant(next, channel));
        vec![
            Decision::Yield(who, channel),
            Decision::Grant(next, channel),
        ]
    }

    /// A process is gone.
    pub(super) fn gone(&mut self, who: Who) -> Vec<Decision> {
        self.line.retain(|(waiting, _)| *waiting != who);
        self.give_up_wildcard(who);
        let freed = self.held.extract_if(|_, held| held.who == who);
        let freed: Vec<ChannelId> = freed.map(|(id, _)| id).collect();
        let mut decisions = Vec::new();
        for id in freed {
            if let Some((next, channel)) = self.next_in_line(id) {
                self.held.insert(id, grant(next, channel));
                decisions.push(Decision::Grant(next, channel));
            }
        }
        decisions
    }

    /// When [`Registry::due`] next has something to do.
    pub(super) fn next_time(&self) -> Time {
        if self.calm_at == Time(0) {
            Time::NEVER
        } else {
            self.calm_at
        }
    }

    /// Decides what waited for the calm.
    pub(super) fn due(&mut self, now: Time) -> Vec<Decision> {
        if self.calm_at == Time(0) || now < self.calm_at {
            return Vec::new();
        }
        self.calm_at = Time(0);
        let line = std::mem::take(&mut self.line);
        line.into_iter()
            .flat_map(|(who, channel)| self.claim(now, who, channel, false))
            .collect()
    }

    fn next_in_line(&mut self, id: ChannelId) -> Option<(Who, Channel)> {
        let at = self.line.iter().position(|(_, channel)| channel.id == id)?;
        Some(self.line.remove(at))
    }
}

fn grant(who: Who, channel: Channel) -> Holding {
    Holding {
        who,
        channel,
        open: true,
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Grant, Taken, Yield};
    use super::*;

    const A: Who = Who::Us;
    const B: Who = Who::Member(1);
    const C: Who = Who::Member(2);
    const NOW: Time = Time(5_000_000);

    fn channel() -> Channel {
        "10.0.0.1#5".parse().unwrap()
    }

    fn fresh() -> Registry {
        Registry::new(NOW, false)
    }

    #[test]
    fn a_second_process_stands_in_line_and_has_it_when_the_first_goes() {
        let (mut registry, c) = (fresh(), channel());
        assert_eq!(registry.claim(NOW, A, c, false), [Grant(A, c)]);
        assert_eq!(registry.claim(NOW, B, c, false), [Taken(B, c)]);
        assert_eq!(registry.claim(NOW, C, c, true), [Taken(C, c)]);
        assert_eq!(registry.holder(c.id), Some(A));
        assert_eq!(registry.gone(A), [Grant(B, c)]);
        assert_eq!(registry.gone(B), [Grant(C, c)]);
        assert_eq!(registry.gone(C), []);
        assert_eq!(registry.holder(c.id), None);
    }

    #[test]
    fn an_ended_channel_is_yielded_to_whoever_sends_it_next() {
        let (mut registry, c) = (fresh(), channel());
        registry.claim(NOW, A, c, false);
        assert_eq!(registry.ended(A, c.id), []);
        assert_eq!(registry.holder(c.id), Some(A), "its requesters wait there");
        assert_eq!(registry.claim(NOW, B, c, false), [Yield(A, c), Grant(B, c)]);
        assert_eq!(registry.claim(NOW, C, c, false), [Taken(C, c)]);
        assert_eq!(registry.ended(B, c.id), [Yield(B, c), Grant(C, c)]);
        assert_eq!(registry.ended(B, c.id), [], "it has it no longer");
    }

    #[test]
    fn opening_again_what_one_has_is_granted_again() {
        let (mut registry, c) = (fresh(), channel());
        registry.claim(NOW, B, c, false);
        registry.ended(B, c.id);
        assert_eq!(registry.claim(NOW, B, c, false), [Grant(B, c)]);
        assert_eq!(registry.claim(NOW, C, c, false), [Taken(C, c)]);
    }

    #[test]
    fn one_process_takes_what_nobody_has_until_it_goes() {
        let (mut registry, c) = (fresh(), channel());
        assert_eq!(registry.taker(c.id), None);
        assert!(registry.claim_wildcard(B) && registry.claim_wildcard(B));
        assert!(!registry.claim_wildcard(A));
        assert_eq!(registry.taker(c.id), Some(B));
        registry.claim(NOW, A, c, false);
        assert_eq!(registry.taker(c.id), Some(A), "specific goes first");
        registry.give_up_wildcard(A);
        assert!(!registry.claim_wildcard(C));
        registry.gone(B);
        assert!(registry.claim_wildcard(C));
    }

    #[test]
    fn whoever_leaves_the_line_is_not_served() {
        let (mut registry, c) = (fresh(), channel());
        registry.claim(NOW, A, c, false);
        registry.claim(NOW, B, c, false);
        assert_eq!(registry.ended(B, c.id), []);
        assert_eq!(registry.gone(A), []);
    }

    #[test]
    fn after_a_succession_those_with_an_audience_come_first() {
        let (mut registry, c) = (Registry::new(NOW, true), channel());
        assert_eq!(registry.next_time(), NOW + CALM);
        assert_eq!(registry.claim(NOW, B, c, false), [], "not yet");
        assert_eq!(registry.claim(NOW, C, c, true), [Grant(C, c)]);
        assert_eq!(registry.due(NOW), []);
        assert_eq!(registry.due(NOW + CALM), [Taken(B, c)]);
        assert_eq!(registry.next_time(), Time::NEVER);
        assert_eq!(registry.gone(C), [Grant(B, c)]);
    }

    #[test]
    fn in_the_calm_a_free_channel_is_given_away() {
        let (mut registry, c) = (Registry::new(NOW, true), channel());
        registry.claim(NOW, B, c, false);
        registry.claim(NOW, C, c, false);
        assert_eq!(registry.due(NOW + CALM), [Grant(B, c), Taken(C, c)]);
    }
}
