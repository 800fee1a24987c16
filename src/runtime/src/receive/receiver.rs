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

mod apart;
mod calling;
mod filter;
mod hearing;
mod waking;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::{Requester, RequesterEvent, Time};
use flexcast_udp::filter::{Program, Untrailed};
use flexcast_udp::{canonical_socket, process, send_one, sockopt, Class, Errno, UdpSocket};
use flexcast_wire::{Channel, NodeId, Nonce, StreamToken, Verdict};

pub(super) use filter::Filtered;
pub(super) use waking::WAKE_AGAIN;

use super::asked::Asked;
use super::call::Call;
use super::farewell::Farewell;
use super::forwarding::Origin;
use super::identity::Bound;
use super::inheritance::Inheritance;
use super::reach::Reach;
use super::shared::Shared;
use super::sources::Shown;
use super::tied::{Asker, Upward};
use super::tools::Tools;
use crate::send::Tie;

use super::{
    Asking, ChannelCounts, ChannelReport, PathInUse, ReceiveReport, ReceiveSettings, MAX_CHANNELS,
};
use crate::keeper::Keeper;

/// How often we look whether D is still there, hooks or no hooks.
const WATCH: Duration = Duration::from_secs(2);
/// How soon, then at twice the time each, where D was closed here and lives on: in a
/// thread that a signal is about to wake from its receive call, or in a child.
const PARTING: Duration = Duration::from_millis(10);
/// How soon we look again where datagrams come to C that belong to D.
const SUSPICION: Duration = Duration::from_millis(100);
/// How soon a filter that could not be attached is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the end of stream itself is waited for, once a status has told it.
pub(super) const AFTER_END: Duration = Duration::from_millis(200);
/// The queue that U asks for.
const QUEUE: u32 = 4 << 20;

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
    /// After a change of path both are open so long; never: one is.
    overlap_until: Time,
    /// When a program that reads by our calls is to be woken.
    wake_at: Time,
    /// When to look whether another process took what was to wake it.
    wake_again: Time,
    /// Where other processes hold D, too.
    pub(super) keeper: Option<Keeper>,
    next_watch: Time,
    last_watch: Time,
    watch: Duration,
}

impl Receiver {
    /// A receiver that asks for nothing yet. Its socket is to be bound by
    /// [`Receiver::stand_beside`] or [`Receiver::stand_apart`].
    ///
    /// # Errors
    /// As socket(2), getrandom(2).
    pub(super) fn new(now: Time, shared: Arc<Shared>, plan: Plan) -> Result<Receiver, Errno> {
        Ok(Receiver {
            socket: Receiver::control_socket(&shared.bound)?,
            plan,
            local_token: process::random_u64()? | 1,
            role: 0,
            only_from: None,
            asked: Vec::new(),
            attached: None,
            retry_filter: Time::NEVER,
            overlap_until: Time::NEVER,
            wake_at: Time::NEVER,
            wake_again: Time::NEVER,
            keeper: None,
            next_watch: now + WATCH,
            last_watch: now,
            watch: WATCH,
            shared,
        })
    }

    /// C or U, not bound yet.
    fn control_socket(bound: &Bound) -> Result<UdpSocket, Errno> {
        let socket = UdpSocket::new(bound.family)?;
        socket.set_v6_only(bound.v6_only)?;
        if !bound.device.is_empty() {
            socket.bind_to_device(&bound.device)?;
        }
        Ok(socket)
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
        peer: Option<SocketAddr>,
        tools: &mut Tools,
    ) -> Result<Filtered, Errno> {
        self.join_knowing(now, channel, asking, peer, None, tools)
    }

    /// As [`Receiver::join`], in the place of a process that knew the stream's token.
    pub(super) fn join_knowing(
        &mut self,
        now: Time,
        channel: Channel,
        asking: Asking,
        peer: Option<SocketAddr>,
        inherited: Option<StreamToken>,
        tools: &mut Tools,
    ) -> Result<Filtered, Errno> {
        let call = peer.map(|peer| Call::new(canonical_socket(peer)));
        let at = canonical_socket(asking.at);
        let asking = Asking { at, ..asking };
        if !self.shared.bound.hears(at) {
            return Err(Errno::EAFNOSUPPORT);
        }
        let known = self.asked.iter().position(|a| a.asker.channel() == channel);
        match known {
            Some(known) if self.asked[known].is_wanted() => return Err(Errno::EADDRINUSE),
            Some(known) if self.asked[known].asking.at == at => {
                let asked = &mut self.asked[known];
                asked.asking = asking;
                asked.call = call;
                asked.asker.stay(now);
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
            asker: Asker::Own(Box::new(requester)),
            asking,
            inherited,
            origin,
            call,
        });
        Ok(self.settle(now, tools))
    }

    /// Asks for what a predecessor asked for.
    pub(super) fn join_inherited(
        &mut self,
        now: Time,
        left: Option<Inheritance>,
        tools: &mut Tools,
    ) -> Result<(), Errno> {
        for inherited in left.into_iter().flat_map(|left| left.channels) {
            let (channel, asking, token) = (inherited.channel, inherited.asking, inherited.token);
            self.join_knowing(now, channel, asking, None, token, tools)?;
        }
        Ok(())
    }

    /// Which way the stream takes.
    pub(super) fn path(&self) -> PathInUse {
        self.plan.path
    }

    /// Has a relay ask for the channel of an accepted socket by this one.
    pub(super) fn join_for(
        &mut self,
        now: Time,
        tie: Tie,
        up: Upward,
        asking: Asking,
        tools: &mut Tools,
    ) -> Result<Filtered, Errno> {
        let at = canonical_socket(asking.at);
        let asking = Asking { at, ..asking };
        if !self.shared.bound.hears(at) {
            return Err(Errno::EAFNOSUPPORT);
        }
        if !self.asked.is_empty() {
            return Err(Errno::EADDRINUSE);
        }
        let origin = match self.plan.path {
            PathInUse::Kernel => None,
            PathInUse::User => Some(Origin::new(&self.shared.bound, at)?),
        };
        self.asked.push(Asked {
            asker: Asker::tied(tie.clone()),
            asking,
            inherited: None,
            origin,
            call: None,
        });
        // D's filter first: the answers may bring the stream.
        let filtered = self.settle(now, tools);
        let settings = &self.plan.settings.requester;
        let attached = tie.attach(now, self.plan.nonce, at, settings, up);
        if let Err(errno) = attached {
            self.asked.clear();
            self.settle(now, tools);
            return Err(errno);
        }
        Ok(filtered)
    }

    /// Sends a letter of the relay's.
    pub(super) fn say(&self, to: SocketAddr, bytes: &[u8]) {
        if let Err(errno) = send_one(&self.socket, to, None, Class::Control, &[bytes]) {
            log::debug!("a request: {errno}");
        }
    }

    /// The relay has given a channel up: its program reads the end.
    pub(super) fn part(
        &mut self,
        now: Time,
        channel: &Channel,
        requester: Option<Box<Requester>>,
        tools: &mut Tools,
    ) {
        let ours = |a: &&mut Asked| a.asker.channel() == *channel;
        if let Some(asked) = self.asked.iter_mut().find(ours) {
            asked.asker.part(now, requester);
        }
        if let Some(reading) = &self.shared.reading {
            reading.set_over();
            self.wake_at = now;
        }
        self.poll(now, tools);
        self.settle(now, tools);
    }

    /// Asks for a channel no longer.
    pub(super) fn leave(
        &mut self,
        now: Time,
        channel: &Channel,
        tools: &mut Tools,
    ) -> Result<Filtered, Errno> {
        let wanted = |a: &&mut Asked| a.is_wanted() && a.asker.channel() == *channel;
        let asked = self.asked.iter_mut().find(wanted);
        let asked = asked.ok_or(Errno::EADDRNOTAVAIL)?;
        asked.asker.leave(now);
        let filtered = self.settle(now, tools);
        self.poll(now, tools);
        Ok(filtered)
    }

    /// The channels that are asked for.
    pub(super) fn channels(&self) -> Vec<Channel> {
        let wanted = self.asked.iter().filter(|a| a.is_wanted());
        wanted.map(|a| a.asker.channel()).collect()
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
            asked.asker.leave(now);
        }
        self.poll(now, tools);
    }

    /// D is gone: the first leaves are sent, then the port is free. They go from
    /// elsewhere, lest whoever binds the port next is answered *left*.
    pub(super) fn end(mut self, now: Time, tools: &mut Tools) -> Option<Farewell> {
        self.retry_filter = Time::NEVER;
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
        let requesters = self.asked.into_iter().map(|a| a.asker.into_requester());
        let requesters: Vec<Requester> = requesters.flatten().collect();
        (!requesters.is_empty()).then(|| Farewell::new(self.socket, requesters))
    }

    /// When [`Receiver::poll`] or a look at D is next due.
    pub(super) fn next_time(&self) -> Time {
        let first = self.next_watch.min(self.retry_filter);
        let first = first.min(self.overlap_until).min(self.next_word());
        let first = first.min(self.wake_at).min(self.wake_again);
        let requesters = self.asked.iter().map(|a| a.asker.next_time());
        requesters.fold(first, Time::min)
    }

    /// Does what is due for the requesters.
    pub(super) fn poll(&mut self, now: Time, tools: &mut Tools) {
        for asked in &mut self.asked {
            if asked.asker.next_time() > now {
                continue;
            }
            if let Some(reading) = &self.shared.reading {
                let counts = reading.counts();
                asked.asker.report(counts.datagrams, Some(counts.lost));
            } else if let Some(origin) = &asked.origin {
                let (received, lost) = origin.counts();
                asked.asker.report(received, Some(lost));
            }
            asked.asker.poll(now, &mut tools.outbox);
        }
        self.asked.retain(|a| !a.asker.is_gone());
        tools.send_letters(&self.socket);
        self.end_overlap(now, tools);
        self.wake_reader(now);
        self.tell_callers(now, tools);
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
        self.next_watch = now + self.watch;
        self.watch = self.watch.saturating_mul(2).min(WATCH);
    }

    /// D was closed here, though it is still there.
    pub(super) fn expect_end(&mut self, now: Time) {
        self.watch = PARTING;
        self.next_watch = now + self.watch;
    }

    /// The thread stood still: what is queued is stale, and so is what we know.
    pub(super) fn start_over(&mut self, now: Time, tools: &mut Tools) {
        if self.plan.path == PathInUse::Kernel {
            while tools.control.receive(&self.socket).is_ok_and(|n| n > 0) {}
        }
        for asked in &mut self.asked {
            asked.asker.start_over(now);
        }
    }

    /// Takes in what the requesters have learnt, and what has been changed by hand.
    fn settle(&mut self, now: Time, tools: &mut Tools) -> Filtered {
        self.note_events(now);
        self.show_sources();
        self.refilter(now, tools)
    }

    /// Whether there were any.
    fn note_events(&mut self, now: Time) -> bool {
        let mut any = false;
        for asked in &mut self.asked {
            let channel = asked.asker.channel();
            while let Some(event) = asked.asker.next_event() {
                any = true;
                match event {
                    RequesterEvent::Verdict(verdict, reason) => {
                        if verdict == Verdict::RefusedFinal {
                            log::warn!("{channel}: refused for good, {reason:?}");
                        }
                        if let Some(call) = &mut asked.call {
                            call.note(now, verdict);
                        }
                        let Some(reading) = &self.shared.reading else {
                            continue;
                        };
                        let refused = verdict == Verdict::RefusedFinal;
                        reading.set_refused(refused);
                        if let Some(keeper) = &self.keeper {
                            keeper.tell(waking::word(verdict));
                        }
                        if verdict == Verdict::Ended {
                            reading.status_ended(now);
                            self.wake_at = self.wake_at.min(now + AFTER_END);
                        } else if refused {
                            self.wake_at = now;
                        }
                    }
                    event => {
                        log::debug!("{channel}: {event:?}");
                        if let (Some(call), RequesterEvent::Token(Some(token))) =
                            (&mut asked.call, event)
                        {
                            call.note_token(token);
                        }
                    }
                }
            }
        }
        any
    }

    fn show_sources(&self) {
        let mut shown: Vec<Shown> = Vec::with_capacity(self.asked.len());
        let mut ambiguous = false;
        // Those just left too: their datagrams may still be queued at D.
        let (wanted, left): (Vec<&Asked>, Vec<&Asked>) =
            self.asked.iter().partition(|a| a.is_wanted());
        for asked in wanted.into_iter().chain(left) {
            let as_from = asked.shown();
            let origin = asked.origin.as_ref().map(|o| o.address);
            let direct = origin.is_none() || self.is_overlapping();
            let known = asked.asker.app_port() != 0 && asked.is_wanted();
            for from in origin.into_iter().chain(direct.then_some(asked.asking.at)) {
                match shown.iter_mut().find(|s| s.from == from) {
                    None => shown.push(Shown { from, as_from }),
                    // A channel whose sender is known tells more than another of the
                    // same address where it is not.
                    Some(other) if known && other.as_from != as_from => {
                        // FP stands for a port that is not known yet.
                        ambiguous |= other.as_from.port() != from.port();
                        other.as_from = as_from;
                    }
                    Some(_) => {}
                }
            }
        }
        self.show_own_words(&mut shown);
        let waits = |a: &Asked| a.is_wanted() && !a.asker.is_granted();
        self.shared.set_unsettled(self.asked.iter().any(waits));
        self.shared
            .set_ambiguous(ambiguous && !self.is_overlapping());
        self.shared.sources.replace(&shown);
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
            ChannelCounts {
                received,
                lost,
                refused: origin.refused(),
            }
        };
        ReceiveReport {
            path: self.plan.path,
            drops,
            channels: wanted
                .map(|a| ChannelReport {
                    channel: a.asker.channel(),
                    asked: a.asking.at,
                    verdict: a.asker.verdict(),
                    parent: a.asker.parent().0,
                    nodes: a.asker.parent().1,
                    token_known: a.asker.token().is_some(),
                    app_port: a.asker.app_port(),
                    counts: a.origin.as_ref().map(counts),
                })
                .collect(),
        }
    }
}
