//! Channels that are opened when somebody asks for them.
//!
//! ```text
//!   listen ──► request for a channel of the scope, not open ──► waiting ──bell──► accept
//!     ▲                                                                             │
//!     └──── audience empty: suspended, the delivery's bell rings ◄── open, delivery ┘
//! ```
//! Bells are datagrams to the program's own sockets (`bell`). Promises: a specific scope
//! goes before the wildcard; at most `backlog` channels wait, the others are asked for again; a channel
//! is closed in the same moment in which its audience is found empty, so that whoever
//! comes next is given to the next accept. Is not the blocking call (`flexcast`).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use flexcast_engine::{RequesterSummary, Time};
use flexcast_udp::{Errno, Family};
use flexcast_wire::{Channel, ChannelId, Nonce};

use super::admission::{self, Guard};
use super::bell;
use super::control::{Command, Controller};
use super::error::SendError;
use super::kin::Kin;
use super::node::{Node, State};
use super::ours::{Ours, Stage};
use super::{Sending, SendingChannel, Sent, FAREWELL};
use crate::across_forks::{forks, AcrossForks};
use crate::background::{now, Reply};

/// The most channels that wait at one listening socket.
pub const MAX_BACKLOG: usize = 4_096;

/// How long the counts of requesters wait for what is queued.
const BRIEFLY: Duration = Duration::from_millis(10);
/// Before a fork nobody waits longer than this for a name by which a child finds us.
const AT_FORK: Duration = Duration::from_millis(500);
/// How long a process that sends itself waits for what its children have sent before.
const FIRST_GO: Duration = Duration::from_millis(20);

/// What a socket listens for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Only for channels of this S; none: of any address that is asked.
    pub sender: Option<IpAddr>,
    /// Only for IPv4 addresses (an AF_INET socket).
    pub ipv4_only: bool,
    /// Only for this id; none: for every id that nobody on this host has.
    pub id: Option<ChannelId>,
    /// The port that receivers are told its datagrams come from; 0: none.
    pub app_port: u16,
    /// For channels of other hosts, whose requests pass here, and for no others.
    pub passing: bool,
}

/// How many are let in by a socket that listens; none: as many as the process allows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Requesters of each of its channels. Higher: each datagram takes longer to send,
    /// and a flood of validated requesters more memory.
    pub requesters: Option<usize>,
    /// Entries of one source (an IPv4 address or an IPv6 /64), over all channels of the
    /// process: the largest that one of its sockets wants. Higher: one host can take
    /// the places of others.
    pub entries_per_source: Option<u32>,
}

/// A socket that is to listen.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) scope: Scope,
    pub(super) limits: Limits,
    pub(super) backlog: usize,
    pub(super) bell: SocketAddr,
    pub(super) guard: Option<Guard>,
}

impl Scope {
    fn covers(&self, channel: &Channel, passing: bool) -> bool {
        passing == self.passing
            && self.id.is_none_or(|id| id == channel.id)
            && self.sender.is_none_or(|sender| sender == channel.sender)
            && (channel.sender.is_ipv4() || !self.ipv4_only)
    }
}

/// One listening socket.
#[derive(Debug)]
struct Listen {
    key: u64,
    scope: Scope,
    limits: Limits,
    backlog: usize,
    waiting: VecDeque<Channel>,
    bell: SocketAddr,
    guard: Option<Guard>,
}

/// What listening sockets and deliveries share; stands behind the node's lock.
#[derive(Default, Debug)]
pub(super) struct Listens {
    all: Vec<Listen>,
    /// Accepted, and not open yet.
    opening: HashSet<ChannelId>,
    /// Of channels that were accepted: their listener may be gone.
    guards: HashMap<ChannelId, Guard>,
    deliveries: HashMap<ChannelId, Arc<Delivered>>,
    next: u64,
}

/// What a delivery and the background thread both know of it.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) id: ChannelId,
    /// Which of all deliveries.
    pub(super) number: u64,
    pub(super) bell: SocketAddr,
    /// The program's socket, where others may come to hold it.
    pub(super) socket: OnceLock<(u64, Family)>,
    pub(super) over: AtomicBool,
}

impl Delivered {
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl Listens {
    /// What others may call; none for an id: all ids.
    pub(super) fn served(&self) -> BTreeSet<Option<ChannelId>> {
        let own = self.all.iter().filter(|listen| !listen.scope.passing);
        let listened = own.map(|listen| listen.scope.id);
        let delivered = self.deliveries.keys().map(|id| Some(*id));
        listened.chain(delivered).collect()
    }

    /// The delivery with this number, as long as it has an audience.
    pub(super) fn delivered(&self, number: u64) -> Option<Arc<Delivered>> {
        let mut deliveries = self.deliveries.values();
        deliveries.find(|one| one.number == number).cloned()
    }

    /// The numbers of all.
    pub(super) fn numbers(&self) -> BTreeSet<u64> {
        self.deliveries.values().map(|one| one.number).collect()
    }

    fn scope(&self, key: u64) -> Option<Scope> {
        let listen = self.all.iter().find(|listen| listen.key == key);
        listen.map(|listen| listen.scope)
    }

    /// Who decides about a channel's requesters.
    fn guard(&self, channel: &Channel) -> Option<Guard> {
        let kept = self.guards.get(&channel.id).cloned();
        kept.or_else(|| {
            let mut ours = self.all.iter().filter(|l| !l.scope.passing);
            let specific = ours.clone().find(|l| l.scope.id == Some(channel.id));
            let listen = specific.or_else(|| ours.find(|l| l.scope.id.is_none()));
            listen.and_then(|listen| listen.guard.clone())
        })
    }

    /// What the engine is to know of guards.
    fn guarded(&self) -> HashMap<Option<ChannelId>, bool> {
        let kept = self.guards.keys().map(|id| (Some(*id), true));
        let all = self.all.iter().filter(|listen| !listen.scope.passing);
        all.map(|listen| (listen.scope.id, listen.guard.is_some()))
            .chain(kept)
            .collect()
    }

    /// What the engine is to know of limits.
    fn limits(&self) -> (HashMap<Option<ChannelId>, usize>, Option<u32>) {
        let own = self.all.iter().filter(|listen| !listen.scope.passing);
        let rooms = own.clone().filter_map(|listen| {
            let room = listen.limits.requesters?;
            Some((listen.scope.id, room))
        });
        let sources = own.filter_map(|listen| listen.limits.entries_per_source);
        (rooms.collect(), sources.max())
    }

    /// Takes the next channel that waits at a socket, of those that still do.
    pub(super) fn take_waiting(
        &mut self,
        key: u64,
        still: impl Fn(&Channel) -> bool,
    ) -> Option<Channel> {
        let listen = self.all.iter_mut().find(|listen| listen.key == key)?;
        std::iter::from_fn(|| listen.waiting.pop_front()).find(still)
    }

    /// Puts a channel, of this host or (`passing`) another, to the listening socket that
    /// covers it; whose bell is to ring.
    pub(super) fn offer(&mut self, channel: Channel, passing: bool) -> Option<SocketAddr> {
        if !passing && self.opening.contains(&channel.id) {
            return None;
        }
        let specific = |listen: &&mut Listen| listen.scope.id.is_some();
        let covering = |listen: &&mut Listen| listen.scope.covers(&channel, passing);
        let at = self.all.iter_mut().filter(covering).find(specific);
        let listen = match at {
            Some(listen) => listen,
            None => self.all.iter_mut().find(covering)?,
        };
        // An id is one for all addresses of this host, but not for all hosts.
        let same = |other: &Channel| match passing {
            true => *other == channel,
            false => other.id == channel.id,
        };
        let there = listen.waiting.iter().any(same);
        if there || listen.waiting.len() >= listen.backlog {
            return None;
        }
        listen.waiting.push_back(channel);
        Some(listen.bell)
    }

    /// Takes the next channel that waits at a listening socket, with its guard: the
    /// socket may be closed before the channel is open.
    fn take_up(&mut self, key: u64, still: impl Fn(&Channel) -> bool) -> Option<Channel> {
        let channel = self.take_waiting(key, still)?;
        self.opening.insert(channel.id);
        let listen = self.all.iter().find(|listen| listen.key == key);
        if let Some(guard) = listen.and_then(|listen| listen.guard.clone()) {
            self.guards.insert(channel.id, guard);
        }
        Some(channel)
    }
}

/// A socket that listens; it listens no longer when dropped.
#[derive(Debug)]
pub struct Listening {
    sending: Arc<Sending>,
    key: u64,
    app_port: u16,
    passing: bool,
}

/// An accepted channel and its audience.
#[derive(Debug)]
pub struct Delivery {
    channel: SendingChannel,
    first: Option<SocketAddr>,
    shared: Arc<Delivered>,
    /// How many forks lay before it: in a child it is the parent's.
    born: u64,
    kin: AcrossForks<Kin>,
    parked: AtomicBool,
}

impl Sending {
    /// Listens; `bell` is the address of the program's socket, which is rung at for
    /// every channel that waits.
    ///
    /// # Errors
    /// [`SendError::System`] with `EADDRINUSE` where the id, or the wildcard, is taken
    /// on this host, with `EAGAIN` where there is no thread to run `guard` in.
    pub fn listen(
        self: &Arc<Self>,
        scope: Scope,
        backlog: usize,
        bell: SocketAddr,
        guard: Option<Guard>,
    ) -> Result<Listening, SendError> {
        self.listen_within(scope, Limits::default(), backlog, bell, guard)
    }

    /// As [`Sending::listen`], with limits of its own.
    ///
    /// # Errors
    /// As there.
    pub fn listen_within(
        self: &Arc<Self>,
        scope: Scope,
        limits: Limits,
        backlog: usize,
        bell: SocketAddr,
        guard: Option<Guard>,
    ) -> Result<Listening, SendError> {
        if guard.is_some() {
            admission::start().map_err(SendError::system("a thread that asks"))?;
        }
        let wanted = Wanted {
            scope,
            limits,
            backlog: backlog.clamp(1, MAX_BACKLOG),
            bell,
            guard,
        };
        let outcome = self.background.ask(|reply| Command::Listen(wanted, reply));
        let key = outcome.map_err(SendError::system("listening"))??;
        Ok(Listening {
            sending: self.clone(),
            key,
            app_port: scope.app_port,
            passing: scope.passing,
        })
    }
}

impl Sending {
    /// To be called before a fork: children may send on accepted sockets.
    pub fn share(&self) {
        if self.node.kin.get().is_none() {
            let met = self.background.ask_within(AT_FORK, Command::MeetKin);
            if let Err(errno) = met {
                log::warn!("a child will not send on accepted sockets: {errno}");
            }
        }
    }
}

impl Listening {
    pub(super) fn node(&self) -> &Arc<Node> {
        &self.sending.node
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// Whether it is for other hosts' channels: [`Listening::accept_passing`].
    #[must_use]
    pub fn is_for_passing(&self) -> bool {
        self.passing
    }

    /// How many channels may wait from now on.
    pub fn set_backlog(&self, backlog: usize) {
        let mut state = self.sending.node.lock();
        let mut all = state.listens.all.iter_mut();
        if let Some(listen) = all.find(|listen| listen.key == self.key) {
            listen.backlog = backlog.clamp(1, MAX_BACKLOG);
        }
    }

    /// The next channel that somebody waits for, open from now on; none where nobody
    /// waits. `bell` is rung at when the audience is gone.
    ///
    /// # Errors
    /// [`SendError::System`] where the sending thread does not answer.
    pub fn accept(&self, bell: SocketAddr) -> Result<Option<Delivery>, SendError> {
        let node = &self.sending.node;
        loop {
            let Some(channel) = self.next_waiting(node) else {
                return Ok(None);
            };
            let opened = self.sending.open(channel, self.app_port);
            let delivery = opened.map(|opened| deliver(node, opened, bell));
            node.lock().listens.opening.remove(&channel.id);
            if !matches!(delivery, Ok(Some(_))) {
                node.post(Command::Deserted(channel.id));
            }
            if let Some(delivery) = delivery? {
                return Ok(Some(delivery));
            }
        }
    }

    /// Whether a channel waits.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        let state = self.sending.node.lock();
        let mut all = state.listens.all.iter();
        all.any(|listen| listen.key == self.key && !listen.waiting.is_empty())
    }

    /// Takes the next one whose requesters are still there.
    fn next_waiting(&self, node: &Node) -> Option<Channel> {
        let mut state = node.lock();
        let State {
            listens, sender, ..
        } = &mut *state;
        listens.take_up(self.key, |channel| {
            !sender.is_deserted(channel.id) && !sender.is_open(channel.id)
        })
    }
}

/// Registers who is to be told of the audience's end; none where it has come.
fn deliver(node: &Node, channel: SendingChannel, bell: SocketAddr) -> Option<Delivery> {
    let id = channel.channel().id;
    let mut state = node.lock();
    let requesters = state.sender.summary(now(), id)?.requesters;
    if requesters.is_empty() {
        state.sender.suspend(now(), id);
        return None;
    }
    channel.line.begin_anew();
    state.listens.next += 1;
    let shared = Arc::new(Delivered {
        id,
        number: state.listens.next,
        bell,
        socket: OnceLock::new(),
        over: AtomicBool::new(false),
    });
    state.listens.deliveries.insert(id, shared.clone());
    let first = requesters.iter().max_by_key(|requester| requester.age);
    Some(Delivery {
        first: first.map(|requester| requester.address),
        channel,
        shared,
        born: forks(),
        kin: AcrossForks::new(Kin::default()),
        parked: AtomicBool::new(false),
    })
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.sending.background.post(Command::Unlisten(self.key));
    }
}

impl Delivery {
    /// Which channel.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.channel()
    }

    /// The requester that was there first when the channel was accepted.
    #[must_use]
    pub fn first_requester(&self) -> Option<SocketAddr> {
        self.first
    }

    /// Whether the audience is gone, or the channel was ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.is_over() || (self.is_inherited() && self.kin.get().is_over())
    }

    /// Whether it is the parent's, since a fork: sends are handed to the process that
    /// has the channel.
    #[must_use]
    pub fn is_inherited(&self) -> bool {
        self.born != forks()
    }

    /// Which socket of the program's it is, for [`Delivery::closed`].
    pub fn is_behind(&self, cookie: u64, family: Family) {
        // Told once, by whoever made both.
        let _ = self.shared.socket.set((cookie, family));
    }

    /// To be called after this process's last number of the socket was closed: where
    /// other processes hold it since a fork, the stream goes on until the last of them
    /// closes it, whatever becomes of this value.
    pub fn closed(&self) {
        let node = &self.channel.node;
        let shared = node.kin.get().is_some() && self.shared.is_held_somewhere();
        if shared && !self.is_inherited() && !self.parked.swap(true, Ordering::AcqRel) {
            node.post(Command::Park(self.shared.clone()));
        }
    }

    /// Sends datagrams, each given in parts, to the whole audience, before it returns.
    ///
    /// # Errors
    /// `EPIPE` where nobody is there any more, `EMSGSIZE` for what is too long, and
    /// then nothing was sent.
    pub fn send(&self, datagrams: &[&[&[u8]]], block: bool) -> Result<(), Errno> {
        if self.is_inherited() {
            return self.send_by_kin(datagrams, block);
        }
        self.check()?;
        let sent = self.channel.send(datagrams, block)?;
        self.has_reached(&sent)
    }

    /// As [`Delivery::send`]; where there is more than can leave one by one, soon after
    /// ([`SendingChannel::send_soon`]).
    ///
    /// # Errors
    /// As there, `EPIPE` at the latest with the next.
    pub fn send_soon(&self, datagrams: &[&[&[u8]]], block: bool) -> Result<(), Errno> {
        if self.is_inherited() {
            return self.send_by_kin(datagrams, block);
        }
        self.check()?;
        match self.channel.send_soon(datagrams, block)? {
            Some(sent) => self.has_reached(&sent),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), Errno> {
        if self.is_over() {
            return Err(Errno::EPIPE);
        }
        self.let_children_go_first();
        Ok(())
    }

    /// In a child: through the process that has the channel.
    fn send_by_kin(&self, datagrams: &[&[&[u8]]], block: bool) -> Result<(), Errno> {
        let (kin, number) = (self.kin.get(), self.shared.number);
        let sender = self.channel().sender;
        kin.send(&self.channel.node, number, sender, datagrams, block)
    }

    fn has_reached(&self, sent: &Sent) -> Result<(), Errno> {
        let nobody = sent.copies + sent.failed + sent.dropped == 0 && sent.datagrams > 0;
        let id = self.channel().id;
        if nobody && self.channel.node.lock().sender.is_deserted(id) {
            self.channel.node.post(Command::Look);
            return Err(Errno::EPIPE);
        }
        Ok(())
    }

    /// What a child has sent before comes before what is sent now.
    fn let_children_go_first(&self) {
        let node = &self.channel.node;
        if node.kinsmen.load(Ordering::Acquire) > 0 {
            if let Some(background) = node.background.get() {
                // A thread that is held up holds up nobody.
                let _ = background.ask_within(FIRST_GO, Command::TakeInKin);
            }
        }
    }

    /// The audience, one by one.
    #[must_use]
    pub fn requesters(&self) -> Vec<RequesterSummary> {
        if self.is_over() {
            return Vec::new();
        }
        // What the program has given is counted.
        self.channel.flush(BRIEFLY);
        let state = self.channel.node.lock();
        let summary = state.sender.summary(now(), self.channel().id);
        summary.map_or_else(Vec::new, |summary| summary.requesters)
    }

    /// In a child that has closed the parent's socket: the parent need not wait for
    /// more.
    pub fn let_go(&self) {
        self.kin.get().let_go();
    }

    /// Ends the stream of the process that has the channel.
    ///
    /// # Errors
    /// `EPIPE` where that is gone, `EOPNOTSUPP` where it could not make itself known.
    pub fn end_inherited(&self) -> Result<(), Errno> {
        self.kin.get().end(&self.channel.node, self.shared.number)
    }

    /// Ends the stream, after what is queued: the audience is told. Once; dropping does
    /// so, too.
    pub fn end(&self) {
        if !self.shared.over.swap(true, Ordering::AcqRel) {
            self.channel.flush(FAREWELL);
            self.channel.node.post(Command::EndDelivery {
                id: self.channel().id,
                delivery: self.shared.clone(),
            });
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.parked.load(Ordering::Acquire) {
            self.end();
        }
    }
}

impl Controller {
    fn set_guards(&mut self, now: Time) {
        let mut state = self.node.lock();
        let State {
            listens, sender, ..
        } = &mut *state;
        sender.set_guards(now, listens.guarded(), &mut self.out);
        let (rooms, per_source) = listens.limits();
        sender.set_limits(rooms, per_source);
    }

    pub(super) fn begin_listening(
        &mut self,
        now: Time,
        wanted: Wanted,
        reply: Reply<Result<u64, SendError>>,
    ) {
        let scope = wanted.scope;
        let in_use = || Err(SendError::system("listening")(Errno::EADDRINUSE));
        let key = {
            let mut state = self.node.lock();
            let same = |l: &Listen| match scope.passing {
                true => l.scope == scope,
                false => !l.scope.passing && l.scope.id == scope.id,
            };
            let taken = state.listens.all.iter().any(same);
            let open = scope.id.is_some_and(|id| state.sender.is_open(id));
            if taken || open && !scope.passing {
                return reply.give(in_use());
            }
            state.listens.next += 1;
            let key = state.listens.next;
            state.listens.all.push(Listen {
                key,
                scope,
                limits: wanted.limits,
                backlog: wanted.backlog,
                waiting: VecDeque::new(),
                bell: wanted.bell,
                guard: wanted.guard,
            });
            key
        };
        self.set_guards(now);
        if scope.passing {
            // Nobody else has the port: there is nobody to ask.
            self.offer_passing();
            return reply.give(Ok(key));
        }
        self.asked_to_listen.push((key, reply));
        self.claim_scope(now, key, scope);
    }

    /// Asks the owner for what a listening socket wants; the answer is
    /// [`Controller::heard_of_scope`].
    pub(super) fn claim_scope(&mut self, now: Time, key: u64, scope: Scope) {
        let Some(id) = scope.id else {
            return self.claim_wildcard();
        };
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let channel = Channel::new(scope.sender.unwrap_or(any), id);
        let ours = self.ours.entry(id).or_insert_with(|| Ours {
            channel,
            app_port: 0,
            stage: Stage::Listening,
            listens: Some(key),
            replies: Vec::new(),
        });
        ours.listens = Some(key);
        if matches!(ours.stage, Stage::Ended | Stage::Listening) {
            ours.stage = Stage::Listening;
            let channel = ours.channel;
            self.claim(now, channel, false);
        } else {
            self.heard_of_scope(now, scope.id, true);
        }
    }

    /// The owner's answer: the id, or (none) the wildcard, is ours or not.
    pub(super) fn heard_of_scope(&mut self, now: Time, id: Option<ChannelId>, granted: bool) {
        let mut state = self.node.lock();
        let listens = &mut state.listens;
        let Some(listen) = listens
            .all
            .iter()
            .find(|l| !l.scope.passing && l.scope.id == id)
        else {
            return;
        };
        let key = listen.key;
        if !granted {
            listens.all.retain(|l| l.key != key);
        }
        drop(state);
        self.set_guards(now);
        if let (false, Some(id)) = (granted, id) {
            self.listens_no_longer(now, id);
        }
        self.announce();
        let asked = self.asked_to_listen.extract_if(.., |(k, _)| *k == key);
        for (key, reply) in asked.collect::<Vec<_>>() {
            reply.give(match granted {
                true => Ok(key),
                false => Err(SendError::system("listening")(Errno::EADDRINUSE)),
            });
        }
        if granted {
            let waiting = self.node.lock().sender.waiting();
            self.offer(&waiting);
        }
    }

    pub(super) fn unlisten(&mut self, now: Time, key: u64) {
        let scope = {
            let mut state = self.node.lock();
            let scope = state.listens.scope(key);
            state.listens.all.retain(|listen| listen.key != key);
            scope
        };
        self.set_guards(now);
        match scope.filter(|scope| !scope.passing).map(|scope| scope.id) {
            Some(Some(id)) => self.listens_no_longer(now, id),
            Some(None) => self.give_up_wildcard(),
            None => {}
        }
    }

    fn listens_no_longer(&mut self, now: Time, id: ChannelId) {
        let Some(ours) = self.ours.get_mut(&id) else {
            return;
        };
        ours.listens = None;
        if ours.stage == Stage::Listening {
            self.ours.remove(&id);
            self.tell_ended(now, id);
        }
    }

    /// Whether a socket listens for every id.
    pub(super) fn wants_wildcard(&self) -> bool {
        let state = self.node.lock();
        let mut all = state.listens.all.iter();
        all.any(|listen| listen.scope.id.is_none() && !listen.scope.passing)
    }

    fn offer(&mut self, channels: &[Channel]) {
        for channel in channels {
            let node = self.node.clone();
            let mut state = node.lock();
            if state.sender.is_open(channel.id) || self.rest.has(channel.id) {
                continue;
            }
            if let Some(bell) = state.listens.offer(*channel, false) {
                // Under the lock: whoever takes the channel takes its bell, too.
                self.ring(bell, bell::CALL);
            }
        }
    }

    /// Puts new requesters to whoever guards their channels.
    fn ask_guards(&mut self) {
        let questions = self.node.lock().sender.take_questions();
        for question in questions {
            let mut state = self.node.lock();
            match state.listens.guard(&question.channel) {
                Some(guard) => admission::put(self.node.clone(), question, guard),
                // Nobody listens any more: whoever does next is asked.
                None => state.sender.withdraw(&question),
            }
        }
    }

    /// The application's answer.
    pub(super) fn take_answer(&mut self, now: Time, id: ChannelId, nonce: Nonce, yes: bool) {
        let mut state = self.node.lock();
        state.sender.answer(now, id, nonce, yes, &mut self.out);
    }

    /// Rings for who came, and for who went.
    pub(super) fn attend_listens(&mut self, now: Time) {
        self.announce();
        self.ask_guards();
        let (wanted, emptied) = {
            let mut state = self.node.lock();
            (state.sender.take_wanted(), state.sender.take_emptied())
        };
        self.offer(&wanted);
        let node = self.node.clone();
        let rested = self.rest.over(now, || node.lock().sender.waiting());
        self.offer(&rested);
        for id in emptied {
            let delivered = {
                let mut state = self.node.lock();
                if !state.listens.deliveries.contains_key(&id) || !state.sender.suspend(now, id) {
                    continue;
                }
                state.listens.guards.remove(&id);
                let delivered = state.listens.deliveries.remove(&id);
                // Under the lock: what follows is another delivery's.
                delivered.inspect(|delivered| delivered.over.store(true, Ordering::Release))
            };
            self.set_guards(now);
            self.lay_down(now, id);
            if let Some(delivered) = delivered {
                // Who is woken by the bell knows why.
                self.tell_kin();
                self.ring(delivered.bell, bell::END);
            }
        }
    }

    /// A channel that was accepted is suspended.
    fn lay_down(&mut self, now: Time, id: ChannelId) {
        let Some(ours) = self.ours.get_mut(&id) else {
            return;
        };
        ours.stage = match ours.listens {
            Some(_) => Stage::Listening,
            None => Stage::Ended,
        };
        if ours.stage == Stage::Ended {
            self.tell_ended(now, id);
        }
    }

    /// A channel's requesters were gone before it could be accepted.
    pub(super) fn deserted(&mut self, now: Time, id: ChannelId) {
        {
            let mut state = self.node.lock();
            let listens = &mut state.listens;
            if listens.opening.contains(&id) || listens.deliveries.contains_key(&id) {
                // The next ones were quick.
                return;
            }
            listens.guards.remove(&id);
            let ours = self.ours.get(&id);
            if state.sender.is_open(id) || ours.is_none_or(|ours| ours.stage != Stage::Open) {
                return;
            }
        }
        self.set_guards(now);
        self.lay_down(now, id);
    }

    /// The program has ended a delivery, or closed it.
    pub(super) fn end_delivery(&mut self, now: Time, id: ChannelId, delivery: &Arc<Delivered>) {
        {
            let mut state = self.node.lock();
            let present = state.listens.deliveries.get(&id);
            if !present.is_some_and(|present| Arc::ptr_eq(present, delivery)) {
                // Its audience went first: what is there now is another's.
                return;
            }
            state.listens.deliveries.remove(&id);
        }
        self.end(now, id);
        self.rest.begin(now, id);
        self.node.lock().listens.guards.remove(&id);
        self.set_guards(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(key: u64, id: Option<u64>, backlog: usize) -> Listen {
        Listen {
            key,
            scope: Scope {
                sender: None,
                ipv4_only: false,
                id: id.and_then(ChannelId::new),
                app_port: 0,
                passing: false,
            },
            limits: Limits::default(),
            backlog,
            waiting: VecDeque::new(),
            guard: None,
            bell: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), u16::try_from(key).unwrap()),
        }
    }

    fn channel(id: u64) -> Channel {
        Channel::new(Ipv4Addr::LOCALHOST.into(), ChannelId::new(id).unwrap())
    }

    #[test]
    fn a_specific_scope_goes_before_the_wildcard_and_the_backlog_bounds() {
        let mut listens = Listens {
            all: vec![listen(1, None, 2), listen(2, Some(7), 1)],
            ..Listens::default()
        };
        assert_eq!(listens.offer(channel(7), false).unwrap().port(), 2);
        assert_eq!(listens.offer(channel(7), false), None, "it waits already");
        assert_eq!(listens.offer(channel(8), false).unwrap().port(), 1);
        assert_eq!(listens.offer(channel(9), false).unwrap().port(), 1);
        assert_eq!(
            listens.offer(channel(10), false),
            None,
            "the backlog is full"
        );
        listens.all[0].waiting.clear();
        assert!(
            listens.offer(channel(10), false).is_some(),
            "asked for again"
        );
        listens.opening.insert(channel(11).id);
        assert_eq!(
            listens.offer(channel(11), false),
            None,
            "it is being opened"
        );
    }

    /// A controller that has yet to find the owner of FP.
    fn seeking(fp: u16) -> Controller {
        let node = Arc::new(Node::new(fp, flexcast_engine::NodeSettings::sender()));
        let epoll = std::rc::Rc::new(flexcast_udp::process::Epoll::new().unwrap());
        Controller::new(node, epoll, now()).unwrap()
    }

    #[test]
    fn whoever_asks_to_listen_is_answered_though_the_channel_was_opened_meanwhile() {
        for granted in [true, false] {
            let mut controller = seeking(27_460);
            let scope = listen(1, Some(7), 1).scope;
            let bell = listen(1, None, 1).bell;
            let wanted = Wanted {
                scope,
                limits: Limits::default(),
                backlog: 1,
                bell,
                guard: None,
            };
            controller.begin_listening(now(), wanted, Reply::new());
            // As the accept of a wildcard does.
            controller.open(now(), channel(7), 0, Reply::new());
            assert_eq!(controller.asked_to_listen.len(), 1);
            match granted {
                true => controller.granted(now(), channel(7).id),
                false => controller.taken(now(), channel(7).id),
            }
            assert_eq!(controller.asked_to_listen.len(), 0, "granted: {granted}");
            let listens = controller.node.lock().listens.all.len();
            assert_eq!(listens, usize::from(granted));
        }
    }

    #[test]
    fn a_channel_that_is_taken_up_keeps_its_guard_without_its_listener() {
        let mut listens = Listens {
            all: vec![listen(1, None, 3)],
            ..Listens::default()
        };
        listens.all[0].guard = Some(Guard::new(|_| false));
        for id in [7, 8, 9] {
            assert!(listens.offer(channel(id), false).is_some());
        }
        let taken = listens.take_up(1, |channel| channel.id.get() > 7);
        assert_eq!(taken, Some(channel(8)), "7 went, 9 waits");
        assert_eq!(listens.take_up(2, |_| true), None);
        listens.all.clear();
        assert!(listens.guard(&channel(8)).is_some() && listens.guard(&channel(9)).is_none());
        assert_eq!(listens.guarded().get(&Some(channel(8).id)), Some(&true));
    }

    #[test]
    fn a_scope_may_be_for_one_address_of_this_host() {
        let mut listens = Listens {
            all: vec![listen(1, None, 2)],
            ..Listens::default()
        };
        listens.all[0].scope.sender = Some("10.0.0.1".parse().unwrap());
        assert_eq!(listens.offer(channel(7), false), None);
        listens.all[0].scope.sender = None;
        listens.all[0].scope.ipv4_only = true;
        assert_eq!(listens.offer("[::1]#7".parse().unwrap(), false), None);
        assert!(listens.offer(channel(7), false).is_some());
    }
}
