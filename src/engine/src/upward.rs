//! Nodes that a requester gives up: `until J` or a leave, direct (and by S:FP, where
//! that stays without an answer), until they say *left*. Every 50 ms six times, then every 200 ms for 5 s.
//! Is not the choice of whom to give up (`requester`).

use std::net::IpAddr;

use flexcast_wire::{NodeId, Sequence, Want};

use crate::time::ms;
use crate::Time;

/// A node that is being given up.
#[derive(Clone, Debug)]
pub(crate) struct Former {
    pub(crate) node: NodeId,
    pub(crate) address: Option<IpAddr>,
    /// J, where the stream is to end there; none: at once.
    pub(crate) until: Option<Sequence>,
    pub(crate) next: Time,
    /// Its own sequence when it said *left*: what it said before is of no interest
    /// any more, and comes late where packets are reordered.
    pub(crate) left: Option<Sequence>,
    sent: u32,
    give_up: Time,
}

impl Former {
    pub(crate) fn new(
        now: Time,
        node: NodeId,
        address: Option<IpAddr>,
        until: Option<Sequence>,
    ) -> Former {
        Former {
            node,
            address,
            until,
            next: now,
            left: None,
            sent: 0,
            give_up: now + ms(5_300),
        }
    }

    /// Where the next message goes: its own address, and from the fourth message on in
    /// turn that and S:FP (none), for NATs and firewalls that hide the former.
    pub(crate) fn address_now(&self) -> Option<IpAddr> {
        self.address
            .filter(|_| self.sent < 3 || self.sent.is_multiple_of(2))
    }

    /// What to say to it.
    pub(crate) fn want(&self) -> Want {
        match self.until {
            Some(at) => Want::Until(at),
            None => Want::Leave { none_below: false },
        }
    }

    /// After one message went out.
    pub(crate) fn sent(&mut self, now: Time) {
        self.sent += 1;
        self.next = now + if self.sent < 6 { ms(50) } else { ms(200) };
    }

    /// It said *left*: nothing more to say, but remember it for a while.
    pub(crate) fn has_left(&mut self, sequence: Sequence) {
        self.left = Some(sequence);
        self.next = self.give_up;
    }

    pub(crate) fn is_over(&self, now: Time) -> bool {
        now >= self.give_up
    }
}
