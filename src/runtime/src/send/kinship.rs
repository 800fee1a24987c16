//! Accepted channels whose socket other processes hold, too, since a fork: this one has
//! the channel, takes their datagrams, and ends the stream with the last of them.
//!
//! ```text
//!   closed here, open elsewhere ──► parked: looked at after 10, 20, 40 ... 500 ms, and
//!     when a child's connection ends ──► open nowhere, nothing on the way ──► the end
//! ```
//! Promises: a stream ends after what its children sent, and what its own process sends
//! comes after what a child has sent before; a child is told once nobody is there. Is not the child's side (`kin`).

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::process::{self, Interest};
use flexcast_udp::unix::{Listener, Stream};
use flexcast_udp::Errno;

use super::control::Controller;
use super::kin::{emit, parse, Word};
use super::listening::Delivered;
use super::place::is_friend;
use crate::keeper;

/// epoll tokens: the listener's, and above it the connections'.
pub(super) const KIN: u64 = 1 << 48;
/// Messages taken in at one event.
const AT_ONCE: usize = 256;
/// Datagrams that may wait for a busy line before no more are taken in.
const FULL: usize = 512;
/// How soon a parked channel is looked at, then at twice the time each.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// A child's connection.
#[derive(Debug)]
pub(super) struct Kinsman {
    token: u64,
    stream: Stream,
    /// The deliveries that it sends on.
    numbers: BTreeSet<u64>,
}

/// An accepted channel that is closed here.
#[derive(Debug)]
pub(super) struct Parked {
    delivered: Arc<Delivered>,
    look_at: Time,
    pause: Duration,
}

/// What the background thread has for children.
#[derive(Default, Debug)]
pub(super) struct Kinship {
    listener: Option<Listener>,
    kinsmen: Vec<Kinsman>,
    parked: Vec<Parked>,
    next: u64,
}

impl Kinship {
    pub(super) fn next_time(&self) -> Time {
        let looks = self.parked.iter().map(|parked| parked.look_at);
        looks.min().unwrap_or(Time::NEVER)
    }
}

impl Controller {
    /// Before a fork: children find us from now on.
    pub(super) fn meet_kin(&mut self) {
        if self.kinship.listener.is_some() {
            return;
        }
        let met = keeper::fresh_name().and_then(|name| {
            let listener = Listener::bind(&name)?;
            self.epoll.add(listener.fd.as_raw(), KIN, Interest::READ)?;
            Ok((listener, name))
        });
        match met {
            Ok((listener, name)) => {
                self.kinship.listener = Some(listener);
                // It was never set: there was no listener.
                let _ = self.node.kin.set(name);
            }
            Err(errno) => log::warn!("a child will not send on accepted sockets: {errno}"),
        }
    }

    /// A child knocks, or has said something.
    pub(super) fn on_kin(&mut self, now: Time, token: u64) {
        if token != KIN {
            self.hear_kin(now, token);
            return;
        }
        let kinship = &mut self.kinship;
        while let Some(Ok(stream)) = kinship.listener.as_ref().map(Listener::accept) {
            if !stream.peer().is_ok_and(|peer| is_friend(peer.uid)) {
                continue;
            }
            kinship.next += 1;
            let token = KIN + kinship.next;
            let raw = stream.fd.as_raw();
            if self.epoll.add(raw, token, Interest::READ).is_ok() {
                kinship.kinsmen.push(Kinsman {
                    token,
                    stream,
                    numbers: BTreeSet::new(),
                });
                self.node.kinsmen.fetch_add(1, Ordering::Release);
            }
        }
    }

    /// Takes in what a child has said; whether there may be more.
    fn hear_kin(&mut self, now: Time, token: u64) -> bool {
        let mut packet = std::mem::take(&mut self.packet);
        let mut more = true;
        for _ in 0..AT_ONCE {
            if self.pushes.len() >= FULL {
                break;
            }
            let mut kinsmen = self.kinship.kinsmen.iter();
            let Some(at) = kinsmen.position(|kinsman| kinsman.token == token) else {
                more = false;
                break;
            };
            match self.kinship.kinsmen[at].stream.recv(&mut packet) {
                Ok((length, _)) if length > 0 => {
                    if let Some((word, number, body)) = parse(&packet[..length]) {
                        self.on_word(now, at, word, number, body);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    more = false;
                    break;
                }
                _ => {
                    more = false;
                    let gone = self.kinship.kinsmen.swap_remove(at);
                    self.node.kinsmen.fetch_sub(1, Ordering::Release);
                    self.look_soon(now, &gone.numbers);
                    break;
                }
            }
        }
        self.packet = packet;
        more
    }

    fn on_word(&mut self, now: Time, at: usize, word: Word, number: u64, body: &[u8]) {
        let delivered = self.node.lock().listens.delivered(number);
        let kinsman = &mut self.kinship.kinsmen[at];
        match (word, delivered) {
            (Word::Hello, Some(_)) => {
                kinsman.numbers.insert(number);
                let _ = kinsman.stream.send(&emit(Word::Here, number, &[]), &[]);
            }
            (Word::Hello, None) => {
                let _ = kinsman.stream.send(&emit(Word::Over, number, &[]), &[]);
            }
            (Word::Data, Some(delivered)) => self.push(delivered.id, body),
            (Word::End, Some(delivered)) => self.conclude(now, &delivered),
            _ => {}
        }
    }

    /// What is closed here and open elsewhere goes on.
    pub(super) fn park(&mut self, now: Time, delivered: Arc<Delivered>) {
        self.kinship.parked.push(Parked {
            delivered,
            look_at: now + FIRST_LOOK,
            pause: FIRST_LOOK,
        });
    }

    fn look_soon(&mut self, now: Time, numbers: &BTreeSet<u64>) {
        for parked in &mut self.kinship.parked {
            if numbers.contains(&parked.delivered.number) {
                parked.look_at = now;
                parked.pause = FIRST_LOOK;
            }
        }
    }

    /// Does what is due.
    pub(super) fn attend_kin(&mut self, now: Time) {
        let due = |parked: &Parked| parked.look_at <= now;
        let due: Vec<Arc<Delivered>> = {
            let parked = self.kinship.parked.iter().filter(|parked| due(parked));
            parked.map(|parked| parked.delivered.clone()).collect()
        };
        for delivered in due {
            let over = delivered.is_over();
            let gone = over || !delivered.is_held_somewhere();
            if gone && !over && self.has_more(now, &delivered) {
                // Once more when that is out.
                self.put_off(now, &delivered, Duration::from_millis(1));
                continue;
            }
            if gone {
                self.conclude(now, &delivered);
                let parked = &mut self.kinship.parked;
                parked.retain(|parked| parked.delivered.number != delivered.number);
            } else {
                self.put_off(now, &delivered, LONGEST_LOOK);
            }
        }
        self.tell_kin();
    }

    /// Whether something that a child sent is still to be taken in, or on its way out.
    fn has_more(&mut self, now: Time, delivered: &Delivered) -> bool {
        self.take_in_kin(now) || self.pushes.iter().any(|(id, _)| *id == delivered.id)
    }

    /// Sends what children have handed over by now; whether a busy line was in the way.
    pub(super) fn take_in_kin(&mut self, now: Time) -> bool {
        let tokens: Vec<u64> = self.kinship.kinsmen.iter().map(|k| k.token).collect();
        for token in tokens {
            while self.hear_kin(now, token) {
                self.push_on();
                if !self.pushes.is_empty() {
                    return true;
                }
            }
        }
        self.push_on();
        false
    }

    fn put_off(&mut self, now: Time, delivered: &Delivered, most: Duration) {
        let mut parked = self.kinship.parked.iter_mut();
        if let Some(parked) = parked.find(|p| p.delivered.number == delivered.number) {
            parked.look_at = now + parked.pause.min(most);
            parked.pause = parked.pause.saturating_mul(2).min(LONGEST_LOOK);
        }
    }

    fn conclude(&mut self, now: Time, delivered: &Arc<Delivered>) {
        if !delivered.over.swap(true, Ordering::AcqRel) {
            // What was said before it goes out before it.
            self.push_on();
            self.end_delivery(now, delivered.id, delivered);
        }
    }

    /// Tells children whose channel is over.
    pub(super) fn tell_kin(&mut self) {
        if self.kinship.kinsmen.is_empty() {
            return;
        }
        let living = self.node.lock().listens.numbers();
        for kinsman in &mut self.kinship.kinsmen {
            let Kinsman {
                numbers, stream, ..
            } = kinsman;
            numbers.retain(|number| {
                let lives = living.contains(number);
                if !lives {
                    let _ = stream.send(&emit(Word::Over, *number, &[]), &[]);
                }
                lives
            });
        }
    }
}

impl Delivered {
    /// Whether any process holds the program's socket. Where that cannot be known,
    /// nobody does.
    pub(super) fn is_held_somewhere(&self) -> bool {
        let Some((cookie, family)) = self.socket.get() else {
            return false;
        };
        let sockets = process::udp_sockets(self.bell.port(), *family);
        sockets.is_ok_and(|cookies| cookies.contains(cookie))
    }
}
