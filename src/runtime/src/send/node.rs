//! What the threads of this process share: the engine's sender, under one lock that
//! is never held across a wait or a send, and F.
//! Is not the protocol (engine) nor the stream's way out (`line`).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use flexcast_engine::{Entropy, Fan, NodeSettings, Sender, Target, Time};
use flexcast_udp::process;
use flexcast_wire::{ChannelId, Kind, Sequence, Trailer, TRAILER_LEN};

use super::control::Command;
use super::line::Line;
use super::listening::Listens;
use super::passing::Passages;
use super::voice::FanSockets;
use crate::background::{lock, lock_within, now, Background};

/// How long a waiter sleeps at most before it looks again.
const SLICE: Duration = Duration::from_millis(200);
/// How long the list of local addresses is trusted.
const LOCAL_FRESH: Duration = Duration::from_secs(1);

/// Where this process stands among those that share FP.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Standing {
    /// It looks for the owner, or the owner has just gone.
    #[default]
    Seeking,
    /// It receives on FP.
    Owner {
        /// Which owner in this network namespace, counted since one was overtaken.
        generation: u64,
    },
    /// It is handed its requests by the owner.
    Member {
        /// The owner's generation.
        generation: u64,
        /// The owner's process.
        owner: i32,
    },
    /// Somebody else holds FP; it is tried again each second.
    Refused,
}

/// Behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) sender: Sender,
    pub(super) lines: HashMap<ChannelId, Arc<Line>>,
    /// Receivers of channels that another process has, as the owner tells.
    pub(super) elsewhere: HashMap<ChannelId, u64>,
    pub(super) standing: Standing,
    pub(super) listens: Listens,
    /// Other hosts' channels, once a socket has listened for them.
    pub(super) passages: Option<Box<Passages>>,
    /// When the background thread looks at its timers next.
    pub(super) armed: Time,
    waiters: usize,
    local: (Time, Arc<Vec<IpAddr>>),
}

/// The sending half of this process.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) fp: u16,
    pub(super) fan: FanSockets,
    pub(super) background: OnceLock<Background<Command>>,
    pub(super) closing: AtomicBool,
    /// By which name forked children find this process.
    pub(super) kin: OnceLock<Vec<u8>>,
    /// How many of them have found it.
    pub(super) kinsmen: AtomicUsize,
    /// Requests for other hosts are taken, and sockets may send as any host.
    pub(super) transparent: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Node {
    pub(super) fn new(fp: u16, settings: NodeSettings) -> Node {
        // getrandom(2) fails in odd sandboxes only, where the clock must do.
        let chance = || process::random_u64().unwrap_or_else(|_| process::boottime_us());
        let state = State {
            sender: Sender::new(now(), settings, Entropy::new(chance)),
            lines: HashMap::new(),
            elsewhere: HashMap::new(),
            standing: Standing::Seeking,
            listens: Listens::default(),
            passages: None,
            armed: Time(0),
            waiters: 0,
            local: (Time(0), Arc::default()),
        };
        Node {
            fp,
            fan: FanSockets::new(fp),
            background: OnceLock::new(),
            closing: AtomicBool::new(false),
            kin: OnceLock::new(),
            kinsmen: AtomicUsize::new(0),
            transparent: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The lock, unless another thread keeps it for that long (it never does, but a
    /// process that exits must not hang).
    pub(super) fn lock_within(&self, limit: Duration) -> Option<MutexGuard<'_, State>> {
        lock_within(&self.state, limit)
    }

    /// Has the background thread do something; nothing before it was started.
    pub(super) fn post(&self, command: Command) {
        if let Some(background) = self.background.get() {
            background.post(command);
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Wakes those who wait for receivers.
    pub(super) fn tell_waiters(&self, state: &State) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until the channel has that many receivers; whether it has.
    pub(super) fn wait_for(&self, id: ChannelId, receivers: u64, limit: Duration) -> bool {
        let until = now() + limit;
        let mut state = self.lock();
        state.waiters += 1;
        let enough = loop {
            if state.receivers(id) >= receivers {
                break true;
            }
            let left = until.since(now());
            if left.is_zero() {
                break false;
            }
            let waited = self.changed.wait_timeout(state, left.min(SLICE));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiters -= 1;
        enough
    }
}

impl State {
    /// Receivers at and below a channel's requesters, wherever they are kept.
    pub(super) fn receivers(&self, id: ChannelId) -> u64 {
        let here = self.sender.receivers(id);
        if self.sender.is_open(id) {
            return here;
        }
        here + self.elsewhere.get(&id).copied().unwrap_or(0)
    }

    /// Ends the stream of an open channel; the trailer of its last datagram.
    pub(super) fn end(&mut self, now: Time, id: ChannelId) -> Option<Trailer> {
        if !self.sender.is_open(id) {
            return None;
        }
        let trailer = self.sender.stamp(now, id, Kind::End)?;
        let bytes = [TRAILER_LEN];
        self.sender.carried_on(now, id, &[trailer.sequence], &bytes);
        self.sender.end(now, id);
        Some(trailer)
    }

    /// Who gets the datagram with this sequence.
    pub(super) fn hearers(
        &self,
        id: ChannelId,
        sequence: Sequence,
    ) -> impl Iterator<Item = Target> + '_ {
        hearers(self.sender.fan(id), sequence)
    }

    /// The addresses of this host, at most a second old.
    pub(super) fn local_addresses(&mut self, now: Time) -> Arc<Vec<IpAddr>> {
        if self.local.1.is_empty() || now.since(self.local.0) >= LOCAL_FRESH {
            if let Ok(addresses) = process::local_addresses() {
                self.local = (now, Arc::new(addresses));
            }
        }
        self.local.1.clone()
    }
}

/// Whom of a fan the datagram with this sequence goes to.
pub(super) fn hearers(fan: Option<&Fan>, sequence: Sequence) -> impl Iterator<Item = Target> + '_ {
    fan.into_iter().flat_map(move |fan| fan.hearers(sequence))
}
