//! The background thread's work: all receiving sockets of the process.
//!
//! Promises: one socket's trouble stays its own; what an application's thread asks
//! for is done when it is answered; a thread that stood still asks anew. Is not a
//! socket's own work (`receiver`), nor what happens in the asking thread (`adopt`).

mod succession;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::{Requester, Time};
use flexcast_udp::filter::Untrailed;
use flexcast_udp::process::{self, Epoll, Event, Interest};
use flexcast_udp::selftest::{self, Probe};
use flexcast_udp::{Errno, Family};
use flexcast_wire::Channel;

use super::farewell::Farewell;
use super::passer::Passer;
use super::reach::{Reach, Reacher};
use super::receiver::{Filtered, Plan, Receiver};
use super::shared::Shared;
use super::tied::Upward;
use super::tools::Tools;
use super::{Asking, PathInUse, ReceiveReport};
use crate::background::{now, Reply, Work};
use crate::send::Tie;
use succession::Standby;

/// The thread runs at least once a second; a longer gap means that it stood still.
const STANDSTILL: Duration = Duration::from_secs(2);
/// What the application's threads ask for.
#[derive(Debug)]
pub(super) enum Command {
    /// Whether the kernel path works for sockets of this family.
    Probe(Family, Reply<Probe>),
    /// Make a socket ours.
    Begin(Arc<Shared>, Box<Plan>, Reply<Result<Begun, Errno>>),
    /// Attach the filter that D should have.
    Filter(u64, Reply<Filtered>),
    /// There is a helper now.
    Passer(Passer),
    Join(
        u64,
        Channel,
        Asking,
        Option<SocketAddr>,
        Reply<Result<Filtered, Errno>>,
    ),
    /// Have the relay of an accepted socket ask.
    JoinFor(u64, Tie, Upward, Asking, Reply<Result<Filtered, Errno>>),
    /// Send a letter of the relay's.
    Say(u64, SocketAddr, Vec<u8>),
    /// The relay has given the channel up; its requester, to leave.
    Part(u64, Channel, Option<Box<Requester>>),
    Leave(u64, Channel, Reply<Result<Filtered, Errno>>),
    Channels(u64, Reply<Vec<Channel>>),
    OnlyFrom(u64, Option<SocketAddr>, Reply<Filtered>),
    SetUntrailed(u64, Untrailed, Reply<Filtered>),
    SetRole(u64, u8, Reply<Filtered>),
    TellApart(u64, Reply<Result<(), Errno>>),
    /// Take in what control has come.
    Hear(u64, Reply<()>),
    Closed(u64, Reply<bool>),
    Report(u64, Reply<Option<ReceiveReport>>),
    /// Before a fork.
    Share(Reply<()>),
    /// In a child, what its parent asks for.
    Inherit(Arc<Shared>, Box<Plan>, Reply<Result<Begun, Errno>>),
    /// At exit; those that others hold, too, are closed one by one.
    LeaveAll(Reply<()>),
}

/// What became of [`Command::Begin`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begun {
    /// It is ours.
    Done,
    /// A helper is needed to reach it; nothing was done.
    Refused,
}

#[derive(Debug)]
pub(super) struct Worker {
    epoll: Rc<Epoll>,
    tools: Tools,
    receivers: BTreeMap<u64, Receiver>,
    farewells: BTreeMap<u64, Farewell>,
    standbys: BTreeMap<u64, Standby>,
    last_run: Time,
}

impl Worker {
    /// # Errors
    /// As [`Reacher::new`].
    pub(super) fn new(epoll: Rc<Epoll>) -> Result<Worker, Errno> {
        Ok(Worker {
            epoll,
            tools: Tools::new(Reacher::new()?),
            receivers: BTreeMap::new(),
            farewells: BTreeMap::new(),
            standbys: BTreeMap::new(),
            last_run: now(),
        })
    }

    /// Makes a socket ours.
    fn begin(&mut self, now: Time, shared: Arc<Shared>, plan: Plan) -> Result<Begun, Errno> {
        let id = shared.id;
        let cookie = shared.bound.identity.cookie;
        let mut others = self.receivers.values();
        if others.any(|other| other.shared.bound.identity.cookie == cookie) {
            return Err(Errno::EALREADY);
        }
        let kernel = plan.path == PathInUse::Kernel;
        let needs_d = kernel || plan.filtered;
        let d = match needs_d.then(|| self.tools.reacher.reach(&shared)) {
            Some(Reach::Found(d)) => Some(d),
            Some(Reach::Refused) => return Ok(Begun::Refused),
            Some(Reach::NotHere) => return Err(Errno::EBADF),
            None => None,
        };
        let mut receiver = Receiver::new(now, shared, plan)?;
        match d {
            Some(d) if kernel => receiver.stand_beside(d.as_raw())?,
            d => {
                drop(d);
                receiver.stand_apart(now, &mut self.tools)?;
            }
        }
        self.epoll.add(receiver.raw(), id, Interest::READ)?;
        self.receivers.insert(id, receiver);
        Ok(Begun::Done)
    }

    /// Changes something of a receiver, and its filter with it.
    fn change(&mut self, now: Time, id: u64, change: impl FnOnce(&mut Receiver)) -> Filtered {
        let Some(receiver) = self.receivers.get_mut(&id) else {
            return Filtered::NotHere;
        };
        change(receiver);
        receiver.refilter(now, &mut self.tools)
    }

    fn tell_apart(&mut self, now: Time, id: u64) -> Result<(), Errno> {
        let receiver = self.receivers.get_mut(&id).ok_or(Errno::EBADF)?;
        receiver.go_apart(now, &mut self.tools)?;
        self.epoll.add(receiver.raw(), id, Interest::READ)
    }

    /// Whether D lives, here or in another process.
    fn is_alive(&mut self, shared: &Shared) -> bool {
        self.tools.reacher.forget_late_answers();
        let bound = &shared.bound;
        match process::udp_sockets(bound.local.port(), bound.family) {
            Ok(cookies) => cookies.contains(&bound.identity.cookie),
            // No udp_diag: what our own table says has to do.
            Err(_) => !matches!(self.tools.reacher.reach(shared), Reach::NotHere),
        }
    }

    /// Looks at D; a receiver whose D is gone ends, and one whose D is another
    /// process's to go on with. Whether it did.
    fn look(&mut self, now: Time, id: u64) -> bool {
        let Some(shared) = self.receivers.get(&id).map(|r| r.shared.clone()) else {
            return true;
        };
        if self.is_alive(&shared) {
            if self.retire(now, id) {
                return true;
            }
            if let Some(receiver) = self.receivers.get_mut(&id) {
                receiver.looked(now);
            }
            return false;
        }
        shared.set_over();
        if let Some(receiver) = self.receivers.remove(&id) {
            self.part(now, id, receiver);
        }
        true
    }

    /// D is gone: says so.
    fn part(&mut self, now: Time, id: u64, receiver: Receiver) {
        if let Some(farewell) = receiver.end(now, &mut self.tools) {
            // On the path through user space it is the socket that was watched: then
            // this changes nothing.
            let _ = self.epoll.add(farewell.raw(), id, Interest::READ);
            self.farewells.insert(id, farewell);
        }
    }

    fn notice_standstill(&mut self, now: Time) {
        if now.since(self.last_run) >= STANDSTILL {
            log::info!("stood still for {:?}", now.since(self.last_run));
            for receiver in self.receivers.values_mut() {
                receiver.start_over(now, &mut self.tools);
            }
        }
        self.last_run = now;
    }
}

impl Work<Command> for Worker {
    fn command(&mut self, now: Time, command: Command) {
        self.notice_standstill(now);
        match command {
            Command::Probe(family, reply) => reply.give(selftest::kernel_path(family)),
            Command::Begin(shared, plan, reply) => reply.give(self.begin(now, shared, *plan)),
            Command::Filter(id, reply) => reply.give(self.change(now, id, |_| ())),
            Command::Passer(passer) => self.tools.reacher.set_passer(passer),
            Command::Join(id, channel, asking, peer, reply) => {
                let tools = &mut self.tools;
                let joined = match self.receivers.get_mut(&id) {
                    Some(receiver) => receiver.join(now, channel, asking, peer, tools),
                    None => Err(Errno::EBADF),
                };
                reply.give(joined);
            }
            Command::JoinFor(id, tie, up, asking, reply) => {
                let tools = &mut self.tools;
                let joined = match self.receivers.get_mut(&id) {
                    Some(receiver) => receiver.join_for(now, tie, up, asking, tools),
                    None => Err(Errno::EBADF),
                };
                reply.give(joined);
            }
            Command::Say(id, to, bytes) => {
                if let Some(receiver) = self.receivers.get(&id) {
                    receiver.say(to, &bytes);
                }
            }
            Command::Part(id, channel, requester) => {
                if let Some(receiver) = self.receivers.get_mut(&id) {
                    receiver.part(now, &channel, requester, &mut self.tools);
                }
            }
            Command::Leave(id, channel, reply) => {
                let tools = &mut self.tools;
                let left = match self.receivers.get_mut(&id) {
                    Some(receiver) => receiver.leave(now, &channel, tools),
                    None => Err(Errno::EBADF),
                };
                reply.give(left);
            }
            Command::Channels(id, reply) => {
                let receiver = self.receivers.get(&id);
                reply.give(receiver.map(Receiver::channels).unwrap_or_default());
            }
            Command::OnlyFrom(id, only, reply) => {
                reply.give(self.change(now, id, |r| r.set_only_from(only)));
            }
            Command::SetUntrailed(id, untrailed, reply) => {
                reply.give(self.change(now, id, |r| r.set_untrailed(untrailed)));
            }
            Command::SetRole(id, role, reply) => {
                reply.give(self.change(now, id, |r| r.set_role(role)));
            }
            Command::TellApart(id, reply) => reply.give(self.tell_apart(now, id)),
            Command::Hear(id, reply) => {
                if let Some(receiver) = self.receivers.get_mut(&id) {
                    receiver.hear(now, &mut self.tools);
                }
                reply.give(());
            }
            Command::Closed(id, reply) => {
                let gone = self.stand_down(now, id) || self.look(now, id);
                if let (false, Some(receiver)) = (gone, self.receivers.get_mut(&id)) {
                    receiver.expect_end(now);
                }
                reply.give(gone);
            }
            Command::Report(id, reply) => {
                let receiver = self.receivers.get(&id);
                reply.give(receiver.map(|r| r.report(&mut self.tools)));
            }
            Command::Share(reply) => {
                self.share();
                reply.give(());
            }
            Command::Inherit(shared, plan, reply) => {
                reply.give(self.inherit(now, shared, *plan));
            }
            Command::LeaveAll(reply) => {
                let receivers = self.receivers.values_mut();
                for receiver in receivers.filter(|r| r.keeper.is_none()) {
                    receiver.leave_all(now, &mut self.tools);
                }
                reply.give(());
            }
        }
    }

    fn ready(&mut self, now: Time, event: Event) {
        self.notice_standstill(now);
        if self.on_shared(now, event) {
            return;
        }
        if let Some(receiver) = self.receivers.get_mut(&event.token) {
            receiver.hear(now, &mut self.tools);
        } else if let Some(farewell) = self.farewells.get_mut(&event.token) {
            farewell.hear(now, &mut self.tools);
        }
    }

    fn next_time(&self) -> Time {
        let receivers = self.receivers.values().map(Receiver::next_time);
        let farewells = self.farewells.values().map(Farewell::next_time);
        let standbys = self.standbys.values().map(Standby::next_time);
        receivers
            .chain(farewells)
            .chain(standbys)
            .min()
            .unwrap_or(Time::NEVER)
    }

    fn due(&mut self, now: Time) {
        self.notice_standstill(now);
        let mut looks = Vec::new();
        for (id, receiver) in &mut self.receivers {
            receiver.poll(now, &mut self.tools);
            if receiver.wants_look(now) {
                looks.push(*id);
            }
        }
        for id in looks {
            self.look(now, id);
        }
        self.attend_standbys(now);
        for farewell in self.farewells.values_mut() {
            farewell.poll(now, &mut self.tools);
        }
        self.farewells.retain(|_, farewell| !farewell.is_over());
    }
}

#[cfg(test)]
mod tests;
