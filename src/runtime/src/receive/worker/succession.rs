//! A socket that several processes hold since a fork: one of them asks, the others
//! stand by to go on where it stops.
//!
//! ```text
//!   parent   Receiver, Keeper ── closes D, exits, is killed ──► every connection ends
//!   child    Standby ── the first to take the name: Receiver with the nonce, the
//!            channels and the token in D's filter ── the others: Standby of that one
//! ```
//! Promises: on the kernel path nothing of the stream is lost meanwhile, D's filter goes
//! on by itself; nobody leaves who has an heir, and the last one does, whoever it is;
//! ends and refusals are told in every process. Is not who tells us of forks
//! (`process_wide`).
//!
//! Where all close at once: whoever hands over ends its name and then looks at D; whoever
//! stands by closes D and then looks for the name. One of them sees the other gone.

use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::process::{Event, Interest};
use flexcast_udp::unix::Stream;
use flexcast_udp::{sockopt, Errno};

use super::{Begun, Worker};
use crate::keeper::{self, Keeper, Said, Word};
use crate::receive::inheritance::Inheritance;
use crate::receive::reach::Reach;
use crate::receive::receiver::{Plan, Receiver, AFTER_END, WAKE_AGAIN};
use crate::receive::shared::Shared;
use crate::receive::PathInUse;

/// Events of a keeper, and of a connection to one: beside the id.
pub(super) const KEEPER: u64 = 1 << 62;
pub(super) const STANDBY: u64 = 1 << 61;
/// Between attempts while a name changes hands.
const RACE: Duration = Duration::from_millis(5);
/// Between attempts while a keeper takes no connections, or D cannot be reached.
const AGAIN: Duration = Duration::from_millis(200);

/// A socket that another process asks for.
#[derive(Debug)]
pub(super) struct Standby {
    shared: Arc<Shared>,
    plan: Plan,
    /// What it is asked for, as D's filter told.
    left: Option<Inheritance>,
    keeper: Option<Stream>,
    /// When the keeper is looked for again.
    seek_at: Time,
    /// When the program is to be woken, or looked at.
    wake_at: Time,
}

/// What D's filter says of it.
fn inheritance(d: i32) -> Option<Inheritance> {
    let program = sockopt::read_filter(d).ok().flatten()?;
    Inheritance::read(&program.passengers())
}

impl Standby {
    fn successors_plan(&self) -> Plan {
        Plan {
            inherited: true,
            ..self.plan.clone()
        }
    }

    pub(super) fn next_time(&self) -> Time {
        self.seek_at.min(self.wake_at)
    }
}

impl Worker {
    /// Before a fork: every socket gets a name by which the child finds us.
    pub(super) fn share(&mut self) {
        for (id, receiver) in &mut self.receivers {
            if receiver.shared.reading.is_none() || receiver.keeper.is_some() {
                continue;
            }
            let kept = keeper::fresh_name().and_then(|name| {
                let keeper = Keeper::new(&name, self.epoll.clone(), id | KEEPER)?;
                Ok((keeper, name))
            });
            match kept {
                Ok((keeper, name)) => {
                    receiver.keeper = Some(keeper);
                    // It was never set: it has no keeper yet.
                    let _ = receiver.shared.keeper.set(name);
                }
                Err(errno) => log::warn!("a socket cannot be shared with a child: {errno}"),
            }
        }
    }

    /// In a child: the parent asks for this socket, until it does no longer.
    pub(super) fn inherit(
        &mut self,
        now: Time,
        shared: Arc<Shared>,
        plan: Plan,
    ) -> Result<Begun, Errno> {
        let id = shared.id;
        if self.receivers.contains_key(&id) || self.standbys.contains_key(&id) {
            return Ok(Begun::Done);
        }
        let left = match self.tools.reacher.reach(&shared) {
            Reach::Found(d) => inheritance(d.as_raw()),
            Reach::Refused => return Ok(Begun::Refused),
            Reach::NotHere => return Err(Errno::EBADF),
        };
        let standby = Standby {
            shared,
            plan,
            left,
            keeper: None,
            seek_at: now,
            wake_at: Time::NEVER,
        };
        self.standbys.insert(id, standby);
        self.seek(now, id);
        Ok(Begun::Done)
    }

    /// Finds the keeper, or becomes it.
    fn seek(&mut self, now: Time, id: u64) {
        let Some(standby) = self.standbys.get_mut(&id) else {
            return;
        };
        standby.seek_at = now + AGAIN;
        let Some(name) = standby.shared.keeper.get() else {
            return;
        };
        match keeper::follow(name) {
            Ok(stream) => {
                let raw = stream.fd.as_raw();
                if self.epoll.add(raw, id | STANDBY, Interest::READ).is_ok() {
                    standby.keeper = Some(stream);
                    standby.seek_at = Time::NEVER;
                }
            }
            Err(Errno::ECONNREFUSED) => match self.succeed(now, id) {
                Ok(()) => {}
                Err(errno) => {
                    if let Some(standby) = self.standbys.get_mut(&id) {
                        let other = errno == Errno::EADDRINUSE;
                        standby.seek_at = now + if other { RACE } else { AGAIN };
                    }
                }
            },
            Err(errno) => log::debug!("the keeper of a socket: {errno}"),
        }
    }

    /// Nobody asks for it any more: we do.
    fn succeed(&mut self, now: Time, id: u64) -> Result<(), Errno> {
        let Some(standby) = self.standbys.get(&id) else {
            return Ok(());
        };
        let shared = standby.shared.clone();
        let d = match self.tools.reacher.reach(&shared) {
            Reach::Found(d) => d,
            Reach::Refused => return Err(Errno::EPERM),
            Reach::NotHere => {
                // It was closed here, past our calls.
                self.bow_out(now, id);
                return Ok(());
            }
        };
        let name = shared.keeper.get().ok_or(Errno::EINVAL)?;
        let keeper = Keeper::new(name, self.epoll.clone(), id | KEEPER)?;
        let left = inheritance(d.as_raw()).or_else(|| standby.left.clone());
        let mut receiver = Receiver::new(now, shared, standby.successors_plan())?;
        match receiver.path() {
            PathInUse::Kernel => receiver.stand_beside(d.as_raw())?,
            PathInUse::User => receiver.stand_apart(now, &mut self.tools)?,
        }
        drop(d);
        receiver.keeper = Some(keeper);
        receiver.join_inherited(now, left, &mut self.tools)?;
        self.epoll.add(receiver.raw(), id, Interest::READ)?;
        self.standbys.remove(&id);
        self.receivers.insert(id, receiver);
        Ok(())
    }

    /// It is not here any more. Nor anywhere else, nor is there a keeper: then nobody
    /// has left, and we do.
    fn bow_out(&mut self, now: Time, id: u64) {
        let Some(standby) = self.standbys.remove(&id) else {
            return;
        };
        standby.shared.set_over();
        let kept = standby.shared.keeper.get().map(|name| keeper::follow(name));
        let abandoned = matches!(kept, Some(Err(Errno::ECONNREFUSED)));
        if !abandoned || self.is_alive(&standby.shared) {
            return;
        }
        let shared = standby.shared.clone();
        let Ok(mut receiver) = Receiver::new(now, shared, standby.successors_plan()) else {
            return;
        };
        if receiver
            .join_inherited(now, standby.left, &mut self.tools)
            .is_ok()
        {
            self.part(now, id, receiver);
        }
    }

    /// Heirs came, went, or want something.
    pub(super) fn on_keeper(&mut self, id: u64) {
        let Some(receiver) = self.receivers.get_mut(&id) else {
            return;
        };
        if receiver.keeper.as_mut().is_some_and(Keeper::attend) {
            receiver.wake();
        }
    }

    /// The keeper said something, or is gone.
    pub(super) fn on_standby(&mut self, now: Time, id: u64) {
        let Some(standby) = self.standbys.get_mut(&id) else {
            return;
        };
        while let Some(stream) = &standby.keeper {
            let word = match keeper::hear(stream) {
                Said::Nothing => return,
                Said::Word(word) => word,
                Said::Gone => {
                    standby.keeper = None;
                    return self.seek(now, id);
                }
            };
            let Some(reading) = &standby.shared.reading else {
                return;
            };
            reading.set_refused(word == Word::Refused);
            match word {
                Word::Ended => {
                    reading.status_ended(now);
                    standby.wake_at = now + AFTER_END;
                }
                Word::Refused => standby.wake_at = now,
                Word::Welcome | Word::Wake => {}
            }
        }
    }

    /// Does what is due of sockets that others ask for.
    pub(super) fn attend_standbys(&mut self, now: Time) {
        let due = |standby: &Standby| standby.seek_at <= now;
        let seekers = self.standbys.iter().filter(|(_, standby)| due(standby));
        let seekers: Vec<u64> = seekers.map(|(id, _)| *id).collect();
        for id in seekers {
            self.seek(now, id);
        }
        for standby in self.standbys.values_mut() {
            if standby.wake_at > now {
                continue;
            }
            let reading = standby.shared.reading.as_ref();
            let overslept = reading.is_some_and(|reading| reading.is_overslept());
            standby.wake_at = Time::NEVER;
            if let (true, Some(stream)) = (overslept, &standby.keeper) {
                keeper::say(stream, Word::Wake);
                standby.wake_at = now + WAKE_AGAIN;
            }
        }
    }

    /// D is not here any more, and another process is there to go on: nothing is said
    /// to anybody. Whether that is so.
    pub(super) fn retire(&mut self, now: Time, id: u64) -> bool {
        let Some(receiver) = self.receivers.get_mut(&id) else {
            return false;
        };
        let heirs = receiver.keeper.as_mut().is_some_and(Keeper::has_heirs);
        if !heirs || !matches!(self.tools.reacher.reach(&receiver.shared), Reach::NotHere) {
            return false;
        }
        let Some(mut receiver) = self.receivers.remove(&id) else {
            return false;
        };
        let shared = receiver.shared.clone();
        shared.set_over();
        drop(receiver.keeper.take());
        if !self.is_alive(&shared) {
            // The heir has closed it, too.
            self.part(now, id, receiver);
        }
        true
    }

    /// Whether it is another process that asks for this socket; the program has closed
    /// it here.
    pub(super) fn stand_down(&mut self, now: Time, id: u64) -> bool {
        let Some(standby) = self.standbys.get(&id) else {
            return false;
        };
        if matches!(self.tools.reacher.reach(&standby.shared), Reach::NotHere) {
            self.bow_out(now, id);
        }
        true
    }

    /// Whether an event is one of these.
    pub(super) fn on_shared(&mut self, now: Time, event: Event) -> bool {
        let id = event.token & !(KEEPER | STANDBY);
        match event.token {
            token if token & KEEPER != 0 => self.on_keeper(id),
            token if token & STANDBY != 0 => self.on_standby(now, id),
            _ => return false,
        }
        true
    }
}
