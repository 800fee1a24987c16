//! Channels of other hosts whose requests pass here: what a program needs to relay them
//! by the two halves of a socket API, accept and connect.
//!
//! ```text
//!   requests for S ──tproxy──► FP (transparent) ─► engine: relay ─bell─► accept: Passing
//!                                                     ▲ ▲                       │
//!     receiving thread: C ── challenge, status ───────┘ └── connect: Tie ◄──────┘
//!     S ── stream ──► D ── whole datagrams ──► program ── send ──► F (as S) ──► all
//! ```
//! The engine's relay glues audience and requester here as in a relay of its own; only
//! the stream goes through the program, whole, trailers included, so that it is the same
//! on every link. Promises: nobody is asked before the program connects; *granted* is
//! said only when the node above said so; what is sent comes from upstream under its
//! token, or is not sent; when the audience is gone the connected socket reads the end,
//! and the accepted one EPIPE. Is not capture: a rule of the administrator's hands us
//! the requests, and stays when we stop.

mod attending;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use flexcast_engine::{
    Above, Entropy, NodeSettings, Outbox, Relay, Requester, RequesterSettings, RequesterSummary,
    Route, Time,
};
use flexcast_udp::{process, Errno};
use flexcast_wire::{Channel, Control, Kind, Nonce, Trailer};

use super::control::Command;
use super::error::SendError;
use super::line::{Line, Patience, Sent};
use super::listening::Listening;
use super::load::{length, BATCH};
use super::node::{Node, State};
use super::out::Out;
use super::{Listens, Sending};
use crate::across_forks::forks;
use crate::background::{lock, now};
use crate::receive::Upward;

/// Channels that are remembered for a listener; more are asked for again.
const NEWS: usize = 1_024;
/// How long a stream's first datagram waits for those below to be told of it.
const FIRST: Duration = Duration::from_millis(20);
/// Milliseconds that a datagram may be ahead of its grant.
const AHEAD: u32 = 10;
/// The longest datagrams that IPv4 and IPv6 carry.
const LONGEST: (usize, usize) = (65_507, 65_527);

/// Behind the node's lock, once a socket has listened for other hosts' channels.
#[derive(Debug)]
pub(super) struct Passages {
    pub(super) relay: Relay,
    delivered: HashMap<Channel, Arc<Passed>>,
    /// Asked for, and to be offered to whoever listens.
    wanted: Vec<Channel>,
    /// What other threads had the engine say.
    letters: Outbox,
}

/// What the halves of one accepted channel share.
#[derive(Debug)]
struct Passed {
    bell: SocketAddr,
    over: AtomicBool,
    up: OnceLock<Upward>,
    /// The token that those below were told of; 0: none.
    told: AtomicU64,
}

/// An accepted channel of another host.
#[derive(Debug)]
pub struct Passing {
    node: Arc<Node>,
    channel: Channel,
    first: Option<SocketAddr>,
    /// How many forks lay before it: in a child it is the parent's.
    born: u64,
    line: Line,
    /// Whoever sends has it.
    out: Mutex<Out>,
    passed: Arc<Passed>,
}

/// The connected half's way to the accepted one, which it does not keep alive.
#[derive(Clone, Debug)]
pub struct Tie {
    /// How many forks lay before it.
    born: u64,
    node: Arc<Node>,
    channel: Channel,
    passed: Arc<Passed>,
}

impl Passages {
    fn new(now: Time, fp: u16) -> Passages {
        // getrandom(2) fails in odd sandboxes only, where the clock must do.
        let chance = || process::random_u64().unwrap_or_else(|_| process::boottime_us());
        let (settings, asking) = (NodeSettings::relay(), RequesterSettings::default());
        Passages {
            relay: Relay::new(now, fp, settings, asking, Entropy::new(chance)),
            delivered: HashMap::new(),
            wanted: Vec::new(),
            letters: Outbox::new(),
        }
    }

    /// Where a letter for a channel's parent is to leave from.
    pub(super) fn upward(&self, channel: &Channel) -> Option<&Upward> {
        self.delivered.get(channel)?.up.get()
    }

    fn want(&mut self, channel: Channel) {
        let known = self.delivered.contains_key(&channel) || self.wanted.contains(&channel);
        if !known && self.wanted.len() < NEWS {
            self.wanted.push(channel);
        }
    }

    /// Gives up a channel, where it is still this one.
    fn give_up(
        &mut self,
        now: Time,
        channel: &Channel,
        passed: &Arc<Passed>,
        tell: bool,
    ) -> Option<Box<Requester>> {
        let still = |other: &Arc<Passed>| Arc::ptr_eq(other, passed);
        if !self.delivered.get(channel).is_some_and(still) {
            return None;
        }
        let mut unsaid = Outbox::new();
        let out = if tell { &mut self.letters } else { &mut unsaid };
        self.relay.detach(now, channel, out)
    }
}

/// What is offered to the sockets that listen for other hosts' channels.
fn offer(passages: &mut Passages, listens: &mut Listens) -> Vec<SocketAddr> {
    let (relay, delivered) = (&passages.relay, &passages.delivered);
    let waiting = |channel: &Channel| relay.is_deserted(channel) == Some(false);
    let wanted = passages.wanted.drain(..);
    wanted
        .filter(|channel| waiting(channel) && !delivered.contains_key(channel))
        .filter_map(|channel| listens.offer(channel, true))
        .collect()
}

impl Sending {
    /// From now on requests for other hosts' channels are taken, where a rule hands them
    /// to us, and this process sends in the names of other hosts.
    ///
    /// # Errors
    /// [`SendError::Held`] where another process has the port of requests;
    /// [`SendError::System`] with `EPERM` without `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    pub fn set_transparent(&self) -> Result<(), SendError> {
        let what = "taking requests to other hosts (CAP_NET_ADMIN or CAP_NET_RAW)";
        let set = self.background.ask(Command::Transparent);
        set.map_err(SendError::system("the sending thread"))??;
        let fan = self.node.fan.set_transparent();
        fan.map_err(SendError::system(what))
    }
}

impl Listening {
    /// The next channel of another host that somebody waits for; none where nobody does.
    /// `bell` is rung at when the audience is gone.
    #[must_use]
    pub fn accept_passing(&self, bell: SocketAddr) -> Option<Passing> {
        let node = self.node();
        let mut state = node.lock();
        let State {
            listens, passages, ..
        } = &mut *state;
        let passages = passages.as_mut()?;
        let still = |channel: &Channel| {
            let there = passages.relay.is_deserted(channel) == Some(false);
            there && !passages.delivered.contains_key(channel)
        };
        let channel = listens.take_waiting(self.key(), still)?;
        let requesters = passages.relay.summary(now(), &channel)?.requesters;
        let first = requesters.iter().max_by_key(|requester| requester.age);
        let passed = Arc::new(Passed {
            bell,
            over: AtomicBool::new(false),
            up: OnceLock::new(),
            told: AtomicU64::new(0),
        });
        passages.delivered.insert(channel, passed.clone());
        Some(Passing {
            node: node.clone(),
            channel,
            first: first.map(|requester| requester.address),
            born: forks(),
            line: Line::new(channel.id),
            out: Mutex::default(),
            passed,
        })
    }
}

impl Passing {
    /// Which channel.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// The requester that was there first when the channel was accepted.
    #[must_use]
    pub fn first_requester(&self) -> Option<SocketAddr> {
        self.first
    }

    /// Whether it is the parent's, since a fork: nothing is to be sent by it here.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.born != forks()
    }

    /// Whether the audience is gone, or the channel was given up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.passed.over.load(Ordering::Acquire)
    }

    /// What a receiving socket needs to ask in this audience's stead.
    #[must_use]
    pub fn tie(&self) -> Tie {
        Tie {
            born: forks(),
            node: self.node.clone(),
            channel: self.channel,
            passed: self.passed.clone(),
        }
    }

    /// Passes on datagrams as they came, each given in parts, to the whole audience; what
    /// came before, or is not of the stream that upstream granted, to nobody.
    ///
    /// # Errors
    /// `EPIPE` where nobody is there any more, `ENOTCONN` where nothing is connected for
    /// it, `EINVAL` for what is no whole datagram, `EMSGSIZE`; then nothing was sent.
    pub fn send(&self, datagrams: &[&[&[u8]]], block: bool) -> Result<(), Errno> {
        if self.is_over() {
            return Err(Errno::EPIPE);
        }
        let up = self.passed.up.get().ok_or(Errno::ENOTCONN)?;
        let limit = match self.channel.sender.is_ipv4() {
            true => LONGEST.0,
            false => LONGEST.1,
        };
        if datagrams.iter().any(|parts| length(parts) > limit) {
            return Err(Errno::EMSGSIZE);
        }
        if !datagrams.iter().all(|parts| is_whole(parts)) {
            return Err(Errno::EINVAL);
        }
        let mut patience = Patience::of(block);
        let mut out = lock(&self.out);
        for batch in datagrams.chunks(BATCH) {
            self.pass(&mut out, batch, up, &mut patience)?;
        }
        Ok(())
    }

    fn pass(
        &self,
        out: &mut Out,
        batch: &[&[&[u8]]],
        up: &Upward,
        patience: &mut Patience,
    ) -> Result<(), Errno> {
        let (node, channel) = (&self.node, self.channel);
        out.load.clear();
        for parts in batch {
            out.load.push_whole(parts);
        }
        for _ in 0..AHEAD {
            if out.is_granted(node, &channel) {
                break;
            }
            // The grant left before its first datagram: it waits to be heard, or was
            // overtaken.
            up.catch_up();
            if !out.is_granted(node, &channel) {
                process::sleep_us(1_000);
            }
        }
        self.tell_first(out);
        let ends = out.admit(node, &channel)?;
        out.deliver(&self.line, node, &node.fan, patience, &mut Sent::default());
        for trailer in ends {
            node.post(Command::EndAgain(channel, trailer));
        }
        Ok(())
    }

    /// Those below are told of a stream before its first datagram: relays take none
    /// without its token.
    fn tell_first(&self, out: &Out) {
        let Some(token) = out.token() else {
            return;
        };
        let told = &self.passed.told;
        if told.load(Ordering::Acquire) == token || !out.is_granted(&self.node, &self.channel) {
            return;
        }
        if let Some(background) = self.node.background.get() {
            let _ = background.ask_within(FIRST, Command::TellPassing);
        }
        told.store(token, Ordering::Release);
    }

    /// The audience, one by one.
    #[must_use]
    pub fn requesters(&self) -> Vec<RequesterSummary> {
        if self.is_over() {
            return Vec::new();
        }
        let state = self.node.lock();
        let passages = state.passages.as_ref();
        let summary = passages.and_then(|p| p.relay.summary(now(), &self.channel));
        summary.map_or_else(Vec::new, |summary| summary.requesters)
    }

    /// Gives the channel up: its audience is refused for the moment, and asks again. Once;
    /// dropping does so, too.
    pub fn end(&self) {
        let requester = {
            let mut state = self.node.lock();
            if self.passed.over.swap(true, Ordering::AcqRel) {
                return;
            }
            let Some(passages) = &mut state.passages else {
                return;
            };
            let given = passages.give_up(now(), &self.channel, &self.passed, true);
            passages.delivered.remove(&self.channel);
            given
        };
        if let Some(up) = self.passed.up.get() {
            up.part(self.channel, requester);
        }
        self.node.post(Command::Look);
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether a datagram, given in parts, ends in the trailer of data or of an end.
fn is_whole(parts: &[&[u8]]) -> bool {
    let kind = match parts {
        [one] => Trailer::split(one).map(|(_, trailer)| trailer.kind),
        parts => Trailer::split(&parts.concat()).map(|(_, trailer)| trailer.kind),
    };
    kind.is_ok_and(|kind| kind != Kind::Control)
}

impl Tie {
    /// The requests of this channel leave by `up` from now on, with this nonce, to `ask`.
    ///
    /// # Errors
    /// `EPIPE` where the audience is gone, `EALREADY` where it is asked for already.
    pub(crate) fn attach(
        &self,
        now: Time,
        nonce: Nonce,
        ask: SocketAddr,
        settings: &RequesterSettings,
        up: Upward,
    ) -> Result<(), Errno> {
        let mut state = self.node.lock();
        let passages = state.passages.as_mut().ok_or(Errno::EPIPE)?;
        if self.passed.over.load(Ordering::Acquire) {
            return Err(Errno::EPIPE);
        }
        self.passed.up.set(up).map_err(|_| Errno::EALREADY)?;
        let relay = &mut passages.relay;
        if !relay.attach(now, self.channel, nonce, ask, settings.clone()) {
            return Err(Errno::EPIPE);
        }
        drop(state);
        self.node.post(Command::Look);
        Ok(())
    }

    /// Whether it is the parent's, since a fork.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.born != forks()
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// Takes what a node above said; answers go to `out`.
    pub(crate) fn hear(&self, now: Time, control: &Control<'_>, out: &mut Outbox) {
        let mut state = self.node.lock();
        let armed = state.armed;
        let Some(passages) = &mut state.passages else {
            return;
        };
        passages.relay.on_answer(now, self.channel, control, out);
        let sooner = passages.relay.next_time() < armed;
        drop(state);
        if sooner {
            self.node.post(Command::Look);
        }
    }

    /// What is known of upstream.
    pub(crate) fn above(&self) -> Option<Above> {
        let state = self.node.lock();
        state.passages.as_ref()?.relay.above(&self.channel)
    }

    /// The connected socket is gone, and with it the accepted one's stream. The
    /// requester, to leave.
    pub(crate) fn cut(&self, now: Time) -> Option<Box<Requester>> {
        let tell = !self.node.is_closing();
        let requester = {
            let mut state = self.node.lock();
            let passages = state.passages.as_mut()?;
            passages.give_up(now, &self.channel, &self.passed, tell)
        };
        if requester.is_some() {
            self.passed.over.store(true, Ordering::Release);
            self.node.post(Command::Look);
        }
        requester
    }
}

impl State {
    /// At exit: those below look for another way at once.
    pub(super) fn drain_passages(&mut self, now: Time, out: &mut Outbox) {
        if let Some(passages) = &mut self.passages {
            passages.relay.drain(now);
            let mut all = Outbox::new();
            passages.relay.poll(now, &mut all);
            for (letter, bytes) in all.iter() {
                if let Route::Node(_) = letter.route {
                    out.push_raw(letter.route, letter.to, bytes);
                }
            }
        }
    }
}
