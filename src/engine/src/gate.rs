//! The gate of a node: who is validated, who is challenged, who is counted.
//!
//! Promises: before validation nothing is kept and no more bytes go out than came
//! in; challenges have a budget; entries are limited per source. Is not the
//! audience: what the gate lets through is entered there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use flexcast_wire::{
    Body, Challenge, Channel, Control, CookieStamp, Header, Malformed, NodeId, Sequence,
};

use crate::audience::{Audience, Voice};
use crate::time::ms;
use crate::{ChannelState, CookieJar, Entropy, NodeSettings, Outbox, Route, Time};

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Control datagrams taken in.
    pub received: u64,
    /// Requests with a valid cookie.
    pub validated: u64,
    /// Challenges sent.
    pub challenged: u64,
    /// Unvalidated requests met with silence (over the budget).
    pub silenced: u64,
    /// Refused because a table was full.
    pub refused_full: u64,
    /// Refused for a loop or a used-up hop budget.
    pub refused_loop: u64,
    /// Malformed datagrams, by [`Malformed::index`].
    pub malformed: [u64; Malformed::ALL.len()],
    /// Control that is not for us (answers, leaves of other nodes).
    pub strange: u64,
}

/// Validation, limits and the node's own voice.
#[derive(Debug)]
pub struct Gate {
    pub(crate) node: NodeId,
    pub(crate) settings: NodeSettings,
    pub(crate) entropy: Entropy,
    /// What was counted.
    pub counters: Counters,
    jar: CookieJar,
    sequence: Sequence,
    budget: f64,
    budget_at: Time,
    sources: HashMap<IpAddr, u32>,
    entries: u64,
}

impl Gate {
    /// A gate with a fresh node id and fresh secrets.
    pub(crate) fn new(now: Time, settings: NodeSettings, mut entropy: Entropy) -> Gate {
        Gate {
            node: NodeId(entropy.nonzero()),
            jar: CookieJar::new(now, &mut entropy),
            budget: f64::from(settings.challenges_per_second),
            budget_at: now,
            settings,
            entropy,
            counters: Counters::default(),
            sequence: Sequence(0),
            sources: HashMap::new(),
            entries: 0,
        }
    }

    /// The node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Entries in all audiences.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub(crate) fn voice<'a>(
        &'a mut self,
        now: Time,
        channel: Channel,
        state: ChannelState,
        outbox: &'a mut Outbox,
    ) -> Voice<'a> {
        self.jar.rotate(now, &mut self.entropy);
        let per_status = 1_000_000 / u64::from(self.settings.statuses_per_second.max(1));
        Voice {
            now,
            node: self.node,
            channel,
            state,
            jar: &self.jar,
            sequence: &mut self.sequence,
            outbox,
            longest_hold: self.settings.longest_hold,
            shortest_heartbeat: Duration::from_micros(per_status.saturating_mul(self.entries))
                .min(ms(60_000)),
        }
    }

    /// Whether one of the cookies is ours and fits.
    pub(crate) fn is_valid(
        &mut self,
        now: Time,
        from: SocketAddr,
        header: &Header,
        cookies: &[CookieStamp; 2],
    ) -> bool {
        self.jar.rotate(now, &mut self.entropy);
        let ours = cookies.iter().find(|stamp| stamp.node == self.node);
        let valid = ours.is_some_and(|stamp| {
            self.jar
                .fits(&stamp.cookie, from, header.nonce, &header.channel)
        });
        self.counters.validated += u64::from(valid);
        valid
    }

    /// Answers an unvalidated request with a challenge, or, over the budget, not.
    pub(crate) fn challenge(
        &mut self,
        now: Time,
        from: SocketAddr,
        asked: IpAddr,
        header: &Header,
        outbox: &mut Outbox,
    ) {
        let limit = f64::from(self.settings.challenges_per_second);
        let gained = now.since(self.budget_at).as_secs_f64() * limit;
        self.budget = (self.budget + gained).min(limit);
        self.budget_at = now;
        if self.budget < 1.0 {
            self.counters.silenced += 1;
            return;
        }
        self.budget -= 1.0;
        self.counters.challenged += 1;
        self.sequence = self.sequence.next();
        let cookie = self.jar.bake(from, header.nonce, &header.channel);
        let control = Control {
            header: Header {
                node: self.node,
                sequence: self.sequence,
                answered: header.sequence,
                ..*header
            },
            body: Body::Challenge(Challenge { cookie }),
        };
        outbox.push(Route::Node(asked), from, &control);
    }

    /// Whether this source may have one more entry.
    pub(crate) fn has_room(&self, from: SocketAddr) -> bool {
        let used = self.sources.get(&source(from.ip())).copied().unwrap_or(0);
        used < self.settings.entries_per_source
    }

    pub(crate) fn charge(&mut self, from: IpAddr) {
        self.entries += 1;
        *self.sources.entry(source(from)).or_insert(0) += 1;
    }

    /// Gives back the places of entries that went.
    pub(crate) fn settle(&mut self, audience: &mut Audience) {
        for from in audience.take_released() {
            self.entries = self.entries.saturating_sub(1);
            let key = source(from);
            if let Some(n) = self.sources.get_mut(&key) {
                *n = n.saturating_sub(1);
                if *n == 0 {
                    self.sources.remove(&key);
                }
            }
        }
    }
}

/// What counts as one source: an IPv4 address or an IPv6 /64.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & !0u128 << 64)),
    }
}
