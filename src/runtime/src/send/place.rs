//! Who receives on FP: this process, or one that hands us our requests.
//!
//! ```text
//!            nobody there: take the name            2 s of silence: overtake
//! Seeking ──────────────────────────► Owner    ┌──────────────────────────┐
//!    │ somebody listens                 │      ▼                          │
//!    └───────► Joining ──welcome──► Member ──gone──► Seeking ◄── Owner that sees a
//!                  └─ 2 s of silence: overtake                   higher generation
//! ```
//! Promises: one owner receives; one that is silent for 2 s loses FP to the next
//! generation, which binds every local address beside ANY; one that wakes stands back.
//! Is not what owner and member do (`owner`, `member`).

use std::sync::atomic::Ordering;
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::process::{self, Event};
use flexcast_udp::unix::{Listener, Peer as Credentials, Stream};
use flexcast_udp::Errno;

use super::control::Controller;
use super::ears::Ears;
use super::error::{Holder, SendError};
use super::kinship::KIN;
use super::local::Message;
use super::member::Membership;
use super::node::Standing;
use super::owner::Owner;
use super::peer::Peer;
use super::{holder, names};
use crate::background::Reply;

/// An owner that says nothing for so long is overtaken.
pub(super) const SILENCE: Duration = Duration::from_secs(2);
/// How often a member pings, and an owner looks around.
pub(super) const BEAT: Duration = Duration::from_millis(500);
/// Between attempts while a name changes hands.
const RACE: Duration = Duration::from_millis(5);
/// Between attempts while somebody else holds FP.
const AGAIN: Duration = Duration::from_secs(1);
/// A name that is taken, yet not listened on, for so many attempts is passed over.
const PATIENT: u64 = 40;

/// epoll tokens.
pub(super) const LISTENER: u64 = 1;
pub(super) const OWNER: u64 = 2;
pub(super) const MEMBERS: u64 = 16;
pub(super) const EARS: u64 = 1 << 32;

/// Where this process stands.
#[derive(Debug)]
pub(super) enum Place {
    /// To look for the owner at this time.
    Seeking { at: Time },
    /// Connected, but not yet welcomed.
    Joining(Membership),
    /// Handed requests by the owner.
    Member(Membership),
    /// Receives on FP.
    Owner(Box<Owner>),
    /// FP is somebody else's; to be tried again at this time.
    Refused { at: Time, error: SendError },
}

impl Controller {
    /// Does what is due; when there is more.
    pub(super) fn turn(&mut self, now: Time) -> Time {
        // Seeking may end in joining or owning, which have timers of their own.
        for _ in 0..4 {
            let next = match &mut self.place {
                Place::Seeking { at } | Place::Refused { at, .. } if *at <= now => {
                    self.seek(now);
                    continue;
                }
                Place::Seeking { at } | Place::Refused { at, .. } => *at,
                Place::Joining(membership) | Place::Member(membership) => {
                    match membership.turn(now) {
                        Some(next) => next,
                        None => {
                            let generation = membership.generation;
                            log::warn!("the owner of FP is silent: generation {generation}");
                            self.silent = self.silent.max(generation);
                            self.place = Place::Seeking { at: now };
                            continue;
                        }
                    }
                }
                Place::Owner(_) => self.turn_owner(now),
            };
            self.note_standing();
            return next;
        }
        self.note_standing();
        now + RACE
    }

    /// The process was stopped and goes on.
    pub(super) fn on_wake(&mut self, now: Time) {
        match &mut self.place {
            Place::Owner(owner) => {
                let generation = owner.generation;
                let highest = names::living(self.node.fp).last().copied();
                if highest.is_some_and(|highest| highest > generation) {
                    self.stand_back(now);
                }
            }
            // Its answers may wait behind ours.
            Place::Joining(membership) | Place::Member(membership) => membership.heard(now),
            Place::Seeking { .. } | Place::Refused { .. } => {}
        }
    }

    /// Another owner has FP.
    pub(super) fn stand_back(&mut self, now: Time) {
        log::info!("a new owner has FP: standing back");
        self.place = Place::Seeking { at: now };
    }

    /// A descriptor is ready.
    pub(super) fn on_event(&mut self, now: Time, event: Event) {
        match event.token {
            OWNER => self.on_owner(now, event),
            token if token >= KIN => self.on_kin(now, token),
            token => self.on_owners_event(now, token, event),
        }
    }

    /// Answers once the place is known.
    pub(super) fn when_settled(&mut self, reply: Reply<Result<(), SendError>>) {
        match &self.place {
            Place::Owner(_) | Place::Member(_) => reply.give(Ok(())),
            Place::Refused { error, .. } => reply.give(Err(error.clone())),
            Place::Seeking { .. } | Place::Joining(_) => self.settled.push(reply),
        }
    }

    pub(super) fn settle(&mut self, outcome: &Result<(), SendError>) {
        self.tries = 0;
        self.note_standing();
        for reply in self.settled.drain(..) {
            reply.give(outcome.clone());
        }
        if outcome.is_err() {
            let replies = self.ours.values_mut();
            for reply in replies.flat_map(|ours| ours.replies.drain(..)) {
                reply.give(outcome.clone());
            }
        }
    }

    /// Looks for the owner, and joins it or becomes it.
    fn seek(&mut self, now: Time) {
        let fp = self.node.fp;
        let living = names::living(fp);
        let highest = living.last().copied().unwrap_or(0);
        let mut stranger = None;
        for generation in living.into_iter().rev() {
            // Lower ones were overtaken, or are silent.
            if generation < self.last_generation || generation <= self.silent {
                break;
            }
            match Stream::connect(&names::name(fp, generation)) {
                Ok(stream) => match self.join(now, generation, stream) {
                    None => return,
                    Some(holder) => stranger = Some(holder),
                },
                Err(Errno::ECONNREFUSED) => {
                    // It is just going.
                    self.place = Place::Seeking { at: now + RACE };
                    return;
                }
                // Nobody takes connections: it is stopped.
                Err(_) => {
                    self.silent = self.silent.max(generation);
                    break;
                }
            }
        }
        let generation = match highest {
            0 => self.last_generation.max(1),
            lower if lower < self.last_generation => self.last_generation,
            higher => higher + 1,
        };
        self.take_name(now, generation + self.tries / PATIENT, stranger);
    }

    /// Knocks at an owner; gives it back as a stranger where it is of another user.
    fn join(&mut self, now: Time, generation: u64, stream: Stream) -> Option<Holder> {
        let Ok(peer) = Peer::new(stream, self.epoll.clone(), OWNER) else {
            self.place = Place::Seeking { at: now + RACE };
            return None;
        };
        let credentials = peer.credentials;
        if !is_friend(credentials.uid) {
            return Some(named(credentials));
        }
        self.place = Place::Joining(Membership::new(now, generation, peer));
        None
    }

    /// Takes the owner's name and FP.
    fn take_name(&mut self, now: Time, generation: u64, stranger: Option<Holder>) {
        let fp = self.node.fp;
        let name = names::name(fp, generation);
        let listener = match Listener::bind(&name) {
            Ok(listener) => listener,
            Err(Errno::EADDRINUSE) => {
                // Another was quicker.
                self.tries += 1;
                self.place = Place::Seeking { at: now + RACE };
                return;
            }
            Err(errno) => return self.refuse(now, SendError::system("an abstract name")(errno)),
        };
        let transparent = self.node.transparent.load(Ordering::Relaxed);
        let ears = match Ears::open(fp, self.epoll.clone(), EARS, transparent) {
            Ok(ears) => ears,
            Err(Errno::EADDRINUSE) => {
                let held = stranger.map(|holder| SendError::Held { port: fp, holder });
                return self.refuse(now, held.unwrap_or_else(|| held_by_port(fp)));
            }
            Err(errno) => return self.refuse(now, SendError::system("binding FP")(errno)),
        };
        let living = names::living(fp);
        if living.last().is_some_and(|highest| *highest > generation) {
            self.place = Place::Seeking { at: now };
            return;
        }
        let lower: Vec<u64> = living.into_iter().filter(|g| *g < generation).collect();
        for before in &lower {
            supersede(fp, *before);
        }
        let succession = self.last_generation != 0 || !lower.is_empty();
        self.last_generation = generation;
        match Owner::new(now, generation, listener, ears, &self.epoll, succession) {
            Ok(owner) => self.become_owner(now, owner, !lower.is_empty()),
            Err(errno) => self.refuse(now, SendError::system("watching FP")(errno)),
        }
    }

    fn refuse(&mut self, now: Time, error: SendError) {
        if !matches!(self.place, Place::Refused { .. }) {
            log::warn!("{error}");
        }
        self.settle(&Err(error.clone()));
        let at = now + AGAIN;
        self.place = Place::Refused { at, error };
    }

    fn note_standing(&mut self) {
        let standing = match &self.place {
            Place::Seeking { .. } | Place::Joining(_) => Standing::Seeking,
            Place::Member(membership) => Standing::Member {
                generation: membership.generation,
                owner: membership.peer.credentials.pid,
            },
            Place::Owner(owner) => Standing::Owner {
                generation: owner.generation,
            },
            Place::Refused { .. } => Standing::Refused,
        };
        self.node.lock().standing = standing;
    }
}

/// Whether requesters may be handed to and taken from a process of this user.
pub(super) fn is_friend(uid: u32) -> bool {
    uid == 0 || uid == process::uid()
}

/// The owner of FP where it is of another user.
pub(super) fn stranger(fp: u16) -> Option<Holder> {
    let mut living = names::living(fp).into_iter().rev();
    living.find_map(|generation| {
        let stream = Stream::connect(&names::name(fp, generation)).ok()?;
        let credentials = stream.peer().ok()?;
        (!is_friend(credentials.uid)).then(|| named(credentials))
    })
}

/// Somebody has the port of requests.
pub(super) fn held_by_port(fp: u16) -> SendError {
    let holder = holder::of_port(fp);
    SendError::Held { port: fp, holder }
}

fn named(credentials: Credentials) -> Holder {
    Holder {
        uid: Some(credentials.uid),
        ..holder::of_process(credentials.pid)
    }
}

/// Tells an owner that was overtaken, for when it wakes.
fn supersede(fp: u16, generation: u64) {
    if let Ok(stream) = Stream::connect(&names::name(fp, generation)) {
        let _ = stream.send(&Message::Supersede.emit(), &[]);
    }
}
