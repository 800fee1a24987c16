//! One requester in an audience.
//!
//! ```text
//!            request, parent another            request, parent us or none
//!   (new) ───────────────────► Standby ────────────────────────► Stream
//!     │                          │ from K                          │ until J
//!     │ request, no parent       ▼            J reached, or 2 s    ▼
//!     └───────► Stream        Starting ──────────────► Stream   Stopping ──► (gone)
//! ```
//! Is not the table of them (`audience`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_wire::{Channel, Nonce, Request, Sequence};

use crate::fan::{Place, Target, Window};
use crate::time::ms;
use crate::Time;

/// How long a late datagram of before the turn is still treated as before.
pub(crate) const SETTLE: Duration = ms(500);

/// Whether and from where on the stream flows to an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Granted, without stream: another parent feeds it.
    Standby,
    /// Everything.
    Stream,
    /// From `at` on; at `by` at the latest everything.
    Starting { at: Sequence, by: Time },
    /// Up to `at`; gone at `by`.
    Stopping { at: Sequence, by: Time, told: bool },
}

/// One requester.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) channel: Channel,
    /// The source that its place is counted against.
    pub(crate) charged: IpAddr,
    pub(crate) address: SocketAddr,
    pub(crate) asked: IpAddr,
    pub(crate) own_address: Option<IpAddr>,
    pub(crate) nonce: Nonce,
    pub(crate) phase: Phase,
    pub(crate) place: Place,
    /// The last request's sequence.
    pub(crate) sequence: Sequence,
    pub(crate) since: Time,
    pub(crate) last_request: Time,
    pub(crate) deadline: Time,
    pub(crate) hold: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) next_heartbeat: Time,
    /// Further immediate statuses: how many, and when the next is due.
    pub(crate) urgent: u8,
    pub(crate) next_urgent: Time,
    /// Until when a sign of life must have come.
    pub(crate) life_by: Option<Time>,
    /// Where its `until J` came from, and what it asked: *left* goes there.
    pub(crate) farewell: Option<(SocketAddr, IpAddr)>,
    /// Where `from K` started, to answer repeats.
    pub(crate) started_at: Option<Sequence>,
    pub(crate) receivers_below: u32,
    pub(crate) hop_budget: u8,
    pub(crate) lost: Option<u64>,
    pub(crate) received: u64,
    /// It was granted a stream, or says that it received one: an end is news to it.
    pub(crate) heard: bool,
    /// The audience's totals when this entry joined the steady list.
    pub(crate) base_datagrams: u64,
    pub(crate) base_bytes: u64,
    /// Sent while not on the steady list, or before.
    pub(crate) own_datagrams: u64,
    pub(crate) own_bytes: u64,
    /// The earliest timer armed for it.
    pub(crate) armed: Time,
    pub(crate) generation: u32,
}

impl Entry {
    pub(crate) fn new(
        now: Time,
        channel: Channel,
        address: SocketAddr,
        asked: IpAddr,
        nonce: Nonce,
        generation: u32,
    ) -> Entry {
        Entry {
            channel,
            charged: address.ip(),
            address,
            asked,
            own_address: None,
            nonce,
            phase: Phase::Standby,
            place: Place::Nowhere,
            sequence: Sequence(0),
            since: now,
            last_request: now,
            deadline: Time::NEVER,
            hold: ms(35_000),
            heartbeat: ms(1_000),
            next_heartbeat: Time::NEVER,
            urgent: 0,
            next_urgent: Time::NEVER,
            life_by: None,
            farewell: None,
            started_at: None,
            receivers_below: 1,
            hop_budget: 0,
            lost: None,
            received: 0,
            heard: false,
            base_datagrams: 0,
            base_bytes: 0,
            own_datagrams: 0,
            own_bytes: 0,
            armed: Time::NEVER,
            generation,
        }
    }

    /// Takes what every request says.
    pub(crate) fn refresh(
        &mut self,
        now: Time,
        sequence: Sequence,
        request: &Request,
        longest_hold: Duration,
        shortest_heartbeat: Duration,
    ) {
        self.sequence = sequence;
        self.last_request = now;
        self.life_by = None;
        self.farewell = None;
        self.hold = ms(u64::from(request.hold_ms)).clamp(ms(1_000), longest_hold);
        self.deadline = now + self.hold;
        let wanted = ms(u64::from(request.heartbeat_ms)).clamp(ms(100), ms(10_000));
        self.heartbeat = wanted.max(shortest_heartbeat).min(ms(60_000));
        self.receivers_below = request.receivers_below;
        self.hop_budget = request.hop_budget;
        self.received = request.received;
        self.heard |= request.received > 0;
        self.lost = request.lost;
    }

    pub(crate) fn target(&self) -> Target {
        Target {
            to: self.address,
            source: self.asked,
        }
    }

    /// Which list of the fan the phase wants, if any.
    pub(crate) fn window(&self) -> Option<Option<Window>> {
        match self.phase {
            Phase::Standby => None,
            Phase::Stream => Some(None),
            Phase::Starting { at, .. } => Some(Some(Window::From(at))),
            Phase::Stopping { at, .. } => Some(Some(Window::Until(at))),
        }
    }

    /// Has a status repeated at 0, 50 and 200 ms.
    pub(crate) fn tell(&mut self, now: Time) {
        self.urgent = 3;
        self.next_urgent = now;
    }

    /// After one immediate status went out.
    pub(crate) fn told(&mut self, now: Time) {
        self.urgent = self.urgent.saturating_sub(1);
        self.next_urgent = match self.urgent {
            2 => now + ms(50),
            1 => now + ms(150),
            _ => Time::NEVER,
        };
    }

    /// When this entry next wants attention.
    pub(crate) fn next_event(&self) -> Time {
        let phase = match self.phase {
            Phase::Starting { by, .. } | Phase::Stopping { by, .. } => by,
            Phase::Standby | Phase::Stream => Time::NEVER,
        };
        self.deadline
            .min(self.next_heartbeat)
            .min(self.next_urgent)
            .min(self.life_by.unwrap_or(Time::NEVER))
            .min(phase)
    }
}
