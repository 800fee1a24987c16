//! One receiving socket in the background thread: its control socket, one requester
//! a channel, and the filter that follows what they learn.
//!
//! ```text
//!              kernel path                           path through user space
//!   S:FP ──data────► D (filter strips)          S:FP ──data, control──► U ──► D
//!        ──control─► C (selector sorts)                  (`forwarding`)
//! ```
//! Promises: D's filter is right before a request goes out that could bring the
//! stream; it is rebuilt only when it would differ; a datagram on the control socket
//! never panics us. Is not the protocol (`engine`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::{Outbox, Requester, RequesterEvent, Time};
use flexcast_udp::filter::{self, FilterWords, Program, Source, Untrailed};
use flexcast_udp::{canonical_socket, process, sockopt, Class, Errno, UdpSocket};
use flexcast_udp::{ReceiveBatch, SendBatch};
use flexcast_wire::{
    Body, Channel, Control, Kind, NodeId, Nonce, StreamToken, Trailer, Verdict, MAGIC,
};

use super::farewell::Farewell;
use super::forwarding::Origin;
use super::inheritance::{Inheritance, Inherited};
use super::reach::{Reach, Reacher};
use super::shared::Shared;
use super::sources::Shown;
use super::{
    Asking, ChannelCounts, ChannelReport, PathInUse, ReceiveReport, ReceiveSettings, MAX_CHANNELS,
};

/// How often we look whether D is still there, hooks or no hooks.
const WATCH: Duration = Duration::from_secs(2);
/// How soon we look again where datagrams come to C that belong to D.
const SUSPICION: Duration = Duration::from_millis(100);
/// How soon a filter that could not be attached is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The queue that U asks for.
const QUEUE: u32 = 4 << 20;
/// Batches taken from one socket before the others get their turn.
const TURN: usize = 8;

const WORDS: FilterWords = FilterWords {
    data_word: Kind::Data.word(),
    control_word: Kind::Control.word(),
    end_word: Kind::End.word(),
    magic_mask: MAGIC,
};

/// What the receivers of one thread share: buffers, and the way to D.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) reacher: Reacher,
    pub(super) outbox: Outbox,
    pub(super) letters: SendBatch,
    /// For control sockets.
    pub(super) control: ReceiveBatch,
    /// For sockets that take the stream; made when first needed.
    pub(super) stream: Option<ReceiveBatch>,
}

impl Tools {
    /// Sends what is in the outbox. A request that does not get out is repeated by
    /// its requester's timer.
    pub(super) fn send_letters(&mut self, from: &UdpSocket) {
        if self.outbox.is_empty() {
            return;
        }
        for (letter, bytes) in self.outbox.iter() {
            self.letters.push(letter.to, None, Class::Control, bytes);
        }
        self.letters
            .flush(from, &mut |_, errno| log::debug!("a request: {errno}"));
        self.letters.clear();
        self.outbox.clear();
    }
}

/// How a receiver is begun.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) path: PathInUse,
    /// Whether D takes a filter of ours.
    pub(super) filtered: bool,
    pub(super) nonce: Nonce,
    /// D has the selector with this nonce already.
    pub(super) inherited: bool,
    pub(super) untrailed: Untrailed,
    pub(super) settings: ReceiveSettings,
}

/// What became of D's filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Filtered {
    /// It is as it should be.
    Done,
    /// D is not in the application's table.
    NotHere,
    /// A helper is needed to reach D.
    Refused,
    /// The kernel refuses the filter.
    Failed(Errno),
}

#[derive(Debug)]
struct Asked {
    requester: Requester,
    asking: Asking,
    /// On the path through user space.
    origin: Option<Origin>,
}

impl Asked {
    fn is_wanted(&self) -> bool {
        !self.requester.is_leaving()
    }

    /// The sender as the program sees it.
    fn shown(&self) -> SocketAddr {
        let port = match self.requester.app_port() {
            0 => self.asking.at.port(),
            port => port,
        };
        SocketAddr::new(self.requester.channel().sender, port)
    }

    /// Whether its stream is to be delivered where only `only` is.
    fn is_from(&self, only: SocketAddr) -> bool {
        let port_fits = only.port() == 0
            || self.requester.app_port() == 0
            || self.requester.app_port() == only.port();
        only.ip() == self.requester.channel().sender && port_fits
    }

    /// The stream token that data must carry: `Err` where no data is to be taken yet,
    /// none where any will do.
    fn token(&self) -> Result<Option<StreamToken>, ()> {
        match self.requester.token() {
            None if self.asking.strict => Err(()),
            token => Ok(token),
        }
    }
}

/// One receiving socket.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) shared: Arc<Shared>,
    /// C, or U.
    socket: UdpSocket,
    plan: Plan,
    /// What our own trailers carry between the origins and D.
    local_token: u64,
    role: u8,
    only_from: Option<SocketAddr>,
    asked: Vec<Asked>,
    attached: Option<Program>,
    /// When the filter is to be tried again; never where it is as it should be.
    retry_filter: Time,
    next_watch: Time,
    last_watch: Time,
}

impl Receiver {
    /// A receiver that asks for nothing yet. Its socket is to be bound by
    /// [`Receiver::stand_beside`] or [`Receiver::stand_apart`].
    ///
    /// # Errors
    /// As socket(2), getrandom(2).
    pub(super) fn new(now: Time, shared: Arc<Shared>, plan: Plan) -> Result<Receiver, Errno> {
        let bound = &shared.bound;
        let socket = UdpSocket::new(bound.family)?;
        socket.set_v6_only(bound.v6_only)?;
        if !bound.device.is_empty() {
            socket.bind_to_device(&bound.device)?;
        }
        Ok(Receiver {
            socket,
            plan,
            local_token: process::random_u64()? | 1,
            role: 0,
            only_from: None,
            asked: Vec::new(),
            attached: None,
            retry_filter: Time::NEVER,
            next_watch: now + WATCH,
            last_watch: now,
            shared,
        })
    }

    /// The kernel path: filter on D, C beside it, selector. In this order: between
    /// C's bind and the selector the kernel hands C a part of what is D's, so that
    /// they stand side by side.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EACCES` for C; what the kernel refuses of the programs. D is
    /// then as it was.
    pub(super) fn stand_beside(&mut self, d: i32) -> Result<(), Errno> {
        let before = sockopt::reuse_port(d)?;
        let done = self.try_beside(d);
        if done.is_err() {
            let _ = sockopt::set_reuse_port(d, before);
            if !self.plan.inherited {
                // ENOENT where it was not attached.
                let _ = sockopt::detach_filter(d);
            }
        }
        done
    }

    fn try_beside(&mut self, d: i32) -> Result<(), Errno> {
        let program = self.program(&self.passengers());
        if let Filtered::Failed(errno) = self.attach(d, program) {
            return Err(errno);
        }
        sockopt::set_reuse_port(d, true)?;
        self.socket.set_reuse_port(true)?;
        self.socket
            .set_reuse_address(self.shared.bound.reuse_address)?;
        let selector = filter::selector(self.plan.nonce.0, WORDS.control_word);
        self.socket.bind(self.shared.bound.local)?;
        if self.plan.inherited {
            return Ok(());
        }
        sockopt::attach_reuseport_selector(d, &selector)
    }

    /// The path through user space: U, on a port of its own.
    ///
    /// # Errors
    /// As bind(2).
    pub(super) fn stand_apart(&mut self, now: Time, tools: &mut Tools) -> Result<(), Errno> {
        let mut at = self.shared.bound.local;
        at.set_port(0);
        self.socket.set_receive_buffer(QUEUE)?;
        self.socket.bind(at)?;
        match self.refilter(now, tools) {
            // The stream matters more than what else comes to D.
            Filtered::Failed(_) => self.plan.filtered = false,
            Filtered::Refused => return Err(Errno::EPERM),
            Filtered::Done | Filtered::NotHere => {}
        }
        Ok(())
    }

    /// The control socket, to be watched.
    pub(super) fn raw(&self) -> i32 {
        self.socket.as_raw()
    }

    /// Asks for a channel from now on.
    pub(super) fn join(
        &mut self,
        now: Time,
        channel: Channel,
        asking: Asking,
        tools: &mut Tools,
    ) -> Result<Filtered, Errno> {
        let at = canonical_socket(asking.at);
        let asking = Asking { at, ..asking };
        if !self.shared.bound.hears(at) {
            return Err(Errno::EAFNOSUPPORT);
        }
        let known = self
            .asked
            .iter()
            .position(|a| a.requester.channel() == channel);
        match known {
            Some(known) if self.asked[known].is_wanted() => return Err(Errno::EADDRINUSE),
            Some(known) if self.asked[known].asking.at == at => {
                let asked = &mut self.asked[known];
                asked.asking = asking;
                asked.requester.stay(now);
                return Ok(self.settle(now, tools));
            }
            // It leaves one node and asks another: of the old leave no more than was
            // said is said, lest it meets the new entry.
            Some(known) => drop(self.asked.swap_remove(known)),
            None => {}
        }
        if self.asked.iter().filter(|a| a.is_wanted()).count() >= MAX_CHANNELS {
            return Err(Errno::ENOBUFS);
        }
        let origin = match self.plan.path {
            PathInUse::Kernel => None,
            PathInUse::User => Some(Origin::new(&self.shared.bound, at)?),
        };
        let settings = self.plan.settings.requester.clone();
        let requester = Requester::new(now, channel, self.plan.nonce, NodeId::NONE, at, settings);
        self.asked.push(Asked {
            requester,
            asking,
            origin,
        });
        Ok(self.settle(now, tools))
    }

    /// Asks for a channel no longer.
    pub(super) fn leave(
        &mut self,
        now: Time,
        channel: &Channel,
        tools: &mut Tools,
    ) -> Result<Filtered, Errno> {
        let wanted = |a: &&mut Asked| a.is_wanted() && a.requester.channel() == *channel;
        let asked = self.asked.iter_mut().find(wanted);
        let asked = asked.ok_or(Errno::EADDRNOTAVAIL)?;
        asked.requester.leave(now, false);
        let filtered = self.settle(now, tools);
        self.poll(now, tools);
        Ok(filtered)
    }

    /// The channels that are asked for.
    pub(super) fn channels(&self) -> Vec<Channel> {
        let wanted = self.asked.iter().filter(|a| a.is_wanted());
        wanted.map(|a| a.requester.channel()).collect()
    }

    pub(super) fn set_only_from(&mut self, only: Option<SocketAddr>) {
        self.only_from = only.map(canonical_socket);
    }

    pub(super) fn set_untrailed(&mut self, untrailed: Untrailed) {
        self.plan.untrailed = untrailed;
    }

    pub(super) fn set_role(&mut self, role: u8) {
        self.role = role;
    }

    /// All leaves begin; the first of each is sent.
    pub(super) fn leave_all(&mut self, now: Time, tools: &mut Tools) {
        for asked in &mut self.asked {
            asked.requester.leave(now, false);
        }
        self.poll(now, tools);
    }

    /// D is gone: the first leaves are sent, then the port is free. They go from
    /// elsewhere, lest whoever binds the port next is answered *left*.
    pub(super) fn end(mut self, now: Time, tools: &mut Tools) -> Option<Farewell> {
        if self.plan.path == PathInUse::Kernel {
            match Farewell::socket(&self.shared.bound) {
                Ok(elsewhere) => self.socket = elsewhere,
                Err(errno) => {
                    log::debug!("a leave is said once: {errno}");
                    self.leave_all(now, tools);
                    return None;
                }
            }
        }
        self.leave_all(now, tools);
        let requesters = self.asked.into_iter().map(|a| a.requester);
        let requesters: Vec<Requester> = requesters.collect();
        (!requesters.is_empty()).then(|| Farewell::new(self.socket, requesters))
    }

    /// Takes what has come to the control socket.
    pub(super) fn hear(&mut self, now: Time, tools: &mut Tools) {
        for _ in 0..TURN {
            let heard = match self.plan.path {
                PathInUse::Kernel => self.hear_control(now, tools),
                PathInUse::User => self.hear_stream(now, tools),
            };
            if heard == 0 {
                break;
            }
        }
        if self.note_events() {
            self.settle(now, tools);
        }
        tools.send_letters(&self.socket);
    }

    fn hear_control(&mut self, now: Time, tools: &mut Tools) -> usize {
        let heard = tools.control.receive(&self.socket).unwrap_or(0);
        for received in tools.control.iter() {
            match Control::parse(received.payload) {
                Ok(control) => self.take_control(now, &control, &mut tools.outbox),
                // Only control with our nonce is C's, as long as D is there.
                Err(_) => self.next_watch = self.next_watch.min(self.last_watch + SUSPICION),
            }
        }
        heard
    }

    fn hear_stream(&mut self, now: Time, tools: &mut Tools) -> usize {
        let batch = tools
            .stream
            .get_or_insert_with(|| ReceiveBatch::new(32, 65_536));
        let heard = batch.receive(&self.socket).unwrap_or(0);
        for received in batch.iter() {
            let Ok((body, trailer)) = Trailer::split(received.payload) else {
                continue;
            };
            match trailer.kind {
                Kind::Control => {
                    if let Ok(control) = Control::parse_body(body, &trailer) {
                        self.take_control(now, &control, &mut tools.outbox);
                    }
                }
                Kind::Data => self.take_data(received.from, body, &trailer),
                // Statuses tell it, with the token.
                Kind::End => {}
            }
        }
        for asked in &mut self.asked {
            if let Some(origin) = &mut asked.origin {
                origin.flush();
            }
        }
        heard
    }

    fn take_control(&mut self, now: Time, control: &Control<'_>, out: &mut Outbox) {
        let header = &control.header;
        let ours = |a: &&mut Asked| a.requester.channel() == header.channel;
        let Some(asked) = self.asked.iter_mut().find(ours) else {
            return;
        };
        match &control.body {
            Body::Challenge(challenge) => {
                asked
                    .requester
                    .on_challenge(now, header, challenge.cookie, out);
            }
            Body::Status(status) => asked.requester.on_status(now, header, status, out),
            _ => {}
        }
    }

    /// Data on the path through user space: as D's filter would judge it.
    fn take_data(&mut self, from: SocketAddr, body: &[u8], trailer: &Trailer) {
        let local_token = self.plan.filtered.then_some(self.local_token);
        let known = |a: &Asked| a.token() == Ok(Some(StreamToken(trailer.token)));
        let fits = |a: &Asked| a.is_wanted() && a.asking.at == from;
        let any = |a: &Asked| a.token() == Ok(None);
        let at = self.asked.iter().position(|a| fits(a) && known(a));
        let at = at.or_else(|| self.asked.iter().position(|a| fits(a) && any(a)));
        let Some(asked) = at.map(|at| &mut self.asked[at]) else {
            return;
        };
        if self.only_from.is_some_and(|only| !asked.is_from(only)) {
            return;
        }
        if let Some(origin) = &mut asked.origin {
            origin.take(body, trailer, local_token);
        }
    }

    /// When [`Receiver::poll`] or a look at D is next due.
    pub(super) fn next_time(&self) -> Time {
        let first = self.next_watch.min(self.retry_filter);
        let requesters = self.asked.iter().map(|a| a.requester.next_time());
        requesters.fold(first, Time::min)
    }

    /// Does what is due for the requesters.
    pub(super) fn poll(&mut self, now: Time, tools: &mut Tools) {
        for asked in &mut self.asked {
            if asked.requester.next_time() > now {
                continue;
            }
            if let Some(origin) = &asked.origin {
                let (received, lost) = origin.counts();
                asked.requester.report(received, Some(lost));
            }
            asked.requester.poll(now, &mut tools.outbox);
        }
        self.asked.retain(|a| !a.requester.is_gone());
        tools.send_letters(&self.socket);
        if self.retry_filter <= now {
            self.refilter(now, tools);
        }
    }

    /// Whether a look at D is due.
    pub(super) fn wants_look(&self, now: Time) -> bool {
        self.next_watch <= now
    }

    /// D is still there.
    pub(super) fn looked(&mut self, now: Time) {
        self.last_watch = now;
        self.next_watch = now + WATCH;
    }

    /// The thread stood still: what is queued is stale, and so is what we know.
    pub(super) fn start_over(&mut self, now: Time, tools: &mut Tools) {
        if self.plan.path == PathInUse::Kernel {
            while tools.control.receive(&self.socket).is_ok_and(|n| n > 0) {}
        }
        for asked in &mut self.asked {
            asked.requester.start_over(now);
        }
    }

    /// Takes in what the requesters have learnt, and what has been changed by hand.
    fn settle(&mut self, now: Time, tools: &mut Tools) -> Filtered {
        self.note_events();
        self.show_sources();
        self.refilter(now, tools)
    }

    /// Whether there were any.
    fn note_events(&mut self) -> bool {
        let mut any = false;
        for asked in &mut self.asked {
            let channel = asked.requester.channel();
            while let Some(event) = asked.requester.next_event() {
                any = true;
                match event {
                    RequesterEvent::Verdict(Verdict::RefusedFinal, reason) => {
                        log::warn!("{channel}: refused for good, {reason:?}");
                    }
                    event => log::debug!("{channel}: {event:?}"),
                }
            }
        }
        any
    }

    fn show_sources(&self) {
        let mut shown: Vec<Shown> = Vec::with_capacity(self.asked.len());
        for asked in &self.asked {
            let line = Shown {
                from: asked.origin.as_ref().map_or(asked.asking.at, |o| o.address),
                as_from: asked.shown(),
            };
            // A channel that is granted tells more than another of the same address
            // that is not.
            match shown.iter_mut().find(|s| s.from == line.from) {
                Some(_) if asked.requester.app_port() == 0 || !asked.is_wanted() => {}
                Some(other) => *other = line,
                None => shown.push(line),
            }
        }
        self.shared.sources.replace(&shown);
    }

    /// Attaches the filter that D should have, where it has not.
    pub(super) fn refilter(&mut self, now: Time, tools: &mut Tools) -> Filtered {
        self.retry_filter = Time::NEVER;
        if !self.plan.filtered {
            return Filtered::Done;
        }
        let program = self.program(&self.passengers());
        if self.attached.as_ref() == Some(&program) {
            return Filtered::Done;
        }
        let outcome = match tools.reacher.reach(&self.shared) {
            Reach::Found(d) => self.attach(d.as_raw(), program),
            Reach::NotHere => {
                self.next_watch = self.next_watch.min(self.last_watch + SUSPICION);
                Filtered::NotHere
            }
            Reach::Refused => Filtered::Refused,
        };
        if outcome != Filtered::Done {
            self.retry_filter = now + AGAIN;
        }
        outcome
    }

    fn attach(&mut self, raw: i32, program: Program) -> Filtered {
        let attached = match sockopt::attach_filter(raw, &program) {
            // net.core.optmem_max: the stream matters more than a successor.
            Err(Errno::ENOMEM) => sockopt::attach_filter(raw, &self.program(&[])),
            outcome => outcome,
        };
        match attached {
            Ok(()) => {
                self.attached = Some(program);
                Filtered::Done
            }
            Err(errno) => {
                log::warn!("a receiving socket's filter: {errno}");
                Filtered::Failed(errno)
            }
        }
    }

    fn program(&self, passengers: &[u32]) -> Program {
        let wanted = self.asked.iter().filter(|a| a.is_wanted());
        let wanted = wanted.filter(|a| self.only_from.is_none_or(|only| a.is_from(only)));
        let source = |asked: &Asked| match &asked.origin {
            Some(origin) => Some(origin.source(self.local_token)),
            None => asked.token().ok().map(|token| Source {
                address: asked.asking.at.ip(),
                port: asked.asking.at.port(),
                token: token.map(|token| token.0),
            }),
        };
        let sources: Vec<Source> = wanted.filter_map(source).collect();
        let family = self.shared.bound.family;
        filter::receiver(&sources, self.untrailed(), WORDS, family, passengers)
    }

    /// Both conditions at once: what was told, and what connect narrows it to.
    fn untrailed(&self) -> Untrailed {
        match (self.plan.untrailed, self.only_from) {
            (Untrailed::Pass, Some(only)) => Untrailed::OnlyFrom(only),
            (Untrailed::OnlyFrom(told), Some(only)) => {
                let told = canonical_socket(told);
                let ports_fit = told.port() == only.port() || only.port() == 0;
                if told.ip() != only.ip() || !(ports_fit || told.port() == 0) {
                    Untrailed::Drop
                } else if told.port() == 0 {
                    Untrailed::OnlyFrom(only)
                } else {
                    Untrailed::OnlyFrom(told)
                }
            }
            (told, _) => told,
        }
    }

    fn passengers(&self) -> Vec<u32> {
        let wanted = self.asked.iter().filter(|a| a.is_wanted());
        let channels = wanted.map(|a| Inherited {
            channel: a.requester.channel(),
            asking: a.asking.clone(),
            token: a.requester.token(),
            app_port: a.requester.app_port(),
        });
        Inheritance {
            role: self.role,
            fp: self.plan.settings.fp,
            nonce: self.plan.nonce,
            channels: channels.collect(),
        }
        .write()
    }

    /// For people.
    pub(super) fn report(&self, tools: &mut Tools) -> ReceiveReport {
        let wanted = self.asked.iter().filter(|a| a.is_wanted());
        let drops = match tools.reacher.reach(&self.shared) {
            Reach::Found(d) => sockopt::drops(d.as_raw()).ok(),
            _ => None,
        };
        let counts = |origin: &Origin| {
            let (received, lost) = origin.counts();
            ChannelCounts { received, lost }
        };
        ReceiveReport {
            path: self.plan.path,
            drops,
            channels: wanted
                .map(|a| ChannelReport {
                    channel: a.requester.channel(),
                    asked: a.asking.at,
                    verdict: a.requester.verdict(),
                    parent: a.requester.parent().and_then(|parent| parent.own_address),
                    token_known: a.requester.token().is_some(),
                    app_port: a.requester.app_port(),
                    counts: a.origin.as_ref().map(counts),
                })
                .collect(),
        }
    }
}
