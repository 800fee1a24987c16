//! Who gets the stream: a contiguous list of those who get everything, and a
//! short one of those in a handover, whose sequences are compared.
//!
//! Is not the sending: the runtime sends one batch to [`Fan::steady`] and what
//! [`Window::admits`] to [`Fan::moving`].

use std::net::{IpAddr, SocketAddr};

use flexcast_wire::Sequence;

/// Where copies go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The requester.
    pub to: SocketAddr,
    /// The address that it asked, which the stream must come from.
    pub source: IpAddr,
}

/// Which sequences a requester in a handover gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// This one and later ones.
    From(Sequence),
    /// Those before this one.
    Until(Sequence),
}

impl Window {
    /// Whether the datagram with this sequence is to be sent.
    #[must_use]
    pub fn admits(self, sequence: Sequence) -> bool {
        match self {
            Window::From(at) => sequence.reaches(at),
            Window::Until(at) => !sequence.reaches(at),
        }
    }
}

/// The two lists of one audience.
#[derive(Default, Debug)]
pub struct Fan {
    steady: Vec<Target>,
    steady_owners: Vec<u32>,
    moving: Vec<(Target, Window)>,
    moving_owners: Vec<u32>,
}

/// Where an entry stands in its fan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Nowhere,
    Steady(u32),
    Moving(u32),
}

impl Fan {
    /// Those who get every datagram.
    #[must_use]
    pub fn steady(&self) -> &[Target] {
        &self.steady
    }

    /// Those who get a part.
    #[must_use]
    pub fn moving(&self) -> &[(Target, Window)] {
        &self.moving
    }

    /// Who gets the datagram with this sequence.
    pub fn hearers(&self, sequence: Sequence) -> impl Iterator<Item = Target> + '_ {
        let moving = self.moving.iter();
        let moving = moving.filter(move |(_, window)| window.admits(sequence));
        let steady = self.steady.iter().copied();
        steady.chain(moving.map(|(target, _)| *target))
    }

    /// How many get anything.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steady.len() + self.moving.len()
    }

    /// Whether nobody gets anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steady.is_empty() && self.moving.is_empty()
    }

    pub(crate) fn add_steady(&mut self, owner: u32, target: Target) -> Place {
        self.steady.push(target);
        self.steady_owners.push(owner);
        Place::Steady(last(self.steady.len()))
    }

    pub(crate) fn add_moving(&mut self, owner: u32, target: Target, window: Window) -> Place {
        self.moving.push((target, window));
        self.moving_owners.push(owner);
        Place::Moving(last(self.moving.len()))
    }

    /// Takes the entry at `place` out; says which owner now stands there.
    pub(crate) fn remove(&mut self, place: Place) -> Option<u32> {
        match place {
            Place::Nowhere => None,
            Place::Steady(at) => {
                let at = index(at);
                self.steady.swap_remove(at);
                self.steady_owners.swap_remove(at);
                self.steady_owners.get(at).copied()
            }
            Place::Moving(at) => {
                let at = index(at);
                self.moving.swap_remove(at);
                self.moving_owners.swap_remove(at);
                self.moving_owners.get(at).copied()
            }
        }
    }

    pub(crate) fn owners_moving(&self) -> &[u32] {
        &self.moving_owners
    }
}

pub(crate) fn index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn last(len: usize) -> u32 {
    u32::try_from(len - 1).unwrap_or(u32::MAX)
}
