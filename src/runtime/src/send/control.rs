//! The background thread of the sending half: takes requests in, sends control.
//!
//! ```text
//! FP (owner) or the owner's connection (member) ─► engine ─► letters ─► voice
//!                        place: who receives on FP (`place`, `owner`, `member`)
//! ```
//! Promises: the node's lock is held for the engine alone; whatever the application
//! posted is done in order. Is not the stream (`line`), but for what other processes
//! hand over, and its end.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::{EntryRecord, Outbox, Route, Time};
use flexcast_udp::batch::{Class, ReceiveBatch, SendBatch};
use flexcast_udp::process::{Epoll, Event};
use flexcast_udp::{Errno, Family};
use flexcast_wire::{Channel, ChannelId, Control, Kind, Sequence, TRAILER_LEN};

use super::error::SendError;
use super::line::{self, Patience};
use super::node::Node;
use super::place::Place;
use super::voice::{Mouth, Voice};
use crate::background::{Reply, Work};

/// Datagrams of other processes that wait for a busy line. Higher: more delay.
const PUSHES: usize = 1_024;
/// How many of them leave as one batch.
const RUN: usize = 44;
/// When the end of a stream is said again.
const END_AGAIN: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(40)];
/// Requests taken in one call; the longest is far below the slot.
const SLOTS: (usize, usize) = (32, 2_048);
/// The longest packet of another process: a datagram and its frame.
const PACKET: usize = 66_000;
/// A pause of the loop above this means that the process was stopped.
pub(super) const PAUSE: Duration = Duration::from_millis(1_000);

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Have the channel, whoever must be asked.
    Open {
        channel: Channel,
        app_port: u16,
        reply: Reply<Result<(), SendError>>,
    },
    /// End its stream.
    End { id: ChannelId },
    /// Send a datagram of ours: through the process that has the channel, or, where
    /// no F can be made, from here.
    HandOver { id: ChannelId, body: Vec<u8> },
    /// Keep track of its receivers, whoever has it.
    Watch { id: ChannelId },
    /// Answer once it is known who owns FP.
    Settled(Reply<Result<(), SendError>>),
    /// Timers changed.
    Look,
    /// End.
    Quit,
}

/// How far a channel of this process has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The owner was, or is to be, asked.
    Claimed,
    /// It streams from here.
    Open,
    /// Another process has it.
    Elsewhere,
    /// Its stream has ended; its requesters wait here.
    Ended,
}

/// A channel that this process opened.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) channel: Channel,
    pub(super) app_port: u16,
    pub(super) stage: Stage,
    pub(super) replies: Vec<Reply<Result<(), SendError>>>,
}

/// An end that is still to be repeated.
#[derive(Debug)]
struct Ending {
    id: ChannelId,
    sequence: Sequence,
    datagram: [u8; TRAILER_LEN],
    at: Time,
    said: usize,
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) node: Arc<Node>,
    pub(super) epoll: Rc<Epoll>,
    pub(super) place: Place,
    /// The generation of the last owner known.
    pub(super) last_generation: u64,
    /// The highest generation whose owner was found silent.
    pub(super) silent: u64,
    /// Failed attempts in a row at a name that is taken, yet not listened on.
    pub(super) tries: u64,
    pub(super) ours: BTreeMap<ChannelId, Ours>,
    pub(super) watching: HashSet<ChannelId>,
    /// Receivers as last told to the owner.
    pub(super) told: HashMap<ChannelId, u64>,
    pub(super) settled: Vec<Reply<Result<(), SendError>>>,
    pub(super) packet: Vec<u8>,
    pub(super) requests: ReceiveBatch,
    pub(super) out: Outbox,
    voice: Voice,
    letters: [SendBatch; 2],
    pushes: VecDeque<(ChannelId, Vec<u8>)>,
    endings: Vec<Ending>,
    next: Time,
    last: Time,
    over: bool,
}

impl Controller {
    /// # Errors
    /// `EADDRINUSE` where FP is somebody's who does not share it with us.
    pub(super) fn new(node: Arc<Node>, epoll: Rc<Epoll>, now: Time) -> Result<Controller, Errno> {
        Ok(Controller {
            voice: Voice::new(node.fp)?,
            node,
            epoll,
            place: Place::Seeking { at: now },
            last_generation: 0,
            silent: 0,
            tries: 0,
            ours: BTreeMap::new(),
            watching: HashSet::new(),
            told: HashMap::new(),
            settled: Vec::new(),
            packet: vec![0; PACKET],
            requests: ReceiveBatch::new(SLOTS.0, SLOTS.1),
            out: Outbox::new(),
            letters: [SendBatch::new(), SendBatch::new()],
            pushes: VecDeque::new(),
            endings: Vec::new(),
            next: now,
            last: now,
            over: false,
        })
    }

    /// A control datagram came to `asked`:FP, for a channel that is ours or nobody's.
    pub(super) fn take(&mut self, now: Time, from: SocketAddr, asked: IpAddr, bytes: &[u8]) {
        let mut state = self.node.lock();
        match Control::parse(bytes) {
            Ok(control) => {
                let sender = &mut state.sender;
                sender.on_control(now, from, asked, &control, &mut self.out);
            }
            Err(reason) => {
                let counters = state.sender.counters_mut();
                counters.malformed[reason.index()] += 1;
            }
        }
    }

    /// Requesters that another process validated.
    pub(super) fn take_over(&mut self, now: Time, channel: Channel, records: &[EntryRecord]) {
        let mut state = self.node.lock();
        let sender = &mut state.sender;
        sender.hand_in(now, channel, records, &mut self.out);
    }

    /// The channel is this process's: its stream begins here.
    pub(super) fn granted(&mut self, now: Time, id: ChannelId) {
        let Some(ours) = self.ours.get_mut(&id) else {
            return;
        };
        if ours.stage == Stage::Ended {
            // It ended while the owner was being asked.
            return self.tell_ended(now, id);
        }
        ours.stage = Stage::Open;
        {
            let mut state = self.node.lock();
            state.sender.open(now, ours.channel, ours.app_port);
            state.elsewhere.remove(&id);
            let line = line::of(&mut state, id);
            line.remote.store(false, Ordering::Release);
        }
        for reply in ours.replies.drain(..) {
            reply.give(Ok(()));
        }
    }

    /// A living process has the channel: it gets our datagrams, and the requesters
    /// that we may have.
    pub(super) fn taken(&mut self, now: Time, id: ChannelId) {
        let Some(ours) = self.ours.get_mut(&id) else {
            return;
        };
        if ours.stage == Stage::Ended {
            return self.tell_ended(now, id);
        }
        ours.stage = Stage::Elsewhere;
        let channel = ours.channel;
        let records = {
            let mut state = self.node.lock();
            let line = line::of(&mut state, id);
            line.remote.store(true, Ordering::Release);
            state.sender.hand_out(id)
        };
        for reply in ours.replies.drain(..) {
            reply.give(Ok(()));
        }
        self.pass_on(now, channel, &records);
        self.watch(id);
    }

    fn open(
        &mut self,
        now: Time,
        channel: Channel,
        app_port: u16,
        reply: Reply<Result<(), SendError>>,
    ) {
        let line = line::of(&mut self.node.lock(), channel.id);
        line.ended.store(false, Ordering::Release);
        let ours = self.ours.entry(channel.id).or_insert_with(|| Ours {
            channel,
            app_port,
            stage: Stage::Claimed,
            replies: Vec::new(),
        });
        ours.channel = channel;
        ours.app_port = app_port;
        let there = match ours.stage {
            // `Sending::finish` may have ended it meanwhile.
            Stage::Open => self.node.lock().sender.is_open(channel.id),
            Stage::Elsewhere => true,
            Stage::Claimed | Stage::Ended => false,
        };
        if there {
            return reply.give(Ok(()));
        }
        ours.stage = Stage::Claimed;
        ours.replies.push(reply);
        self.claim(now, channel, false);
    }

    fn end(&mut self, now: Time, id: ChannelId) {
        let Some(ours) = self.ours.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut ours.stage, Stage::Ended);
        match before {
            Stage::Open => {
                let mut state = self.node.lock();
                if state.sender.is_open(id) {
                    if let Some(trailer) = state.sender.stamp(now, id, Kind::End) {
                        let sequence = trailer.sequence;
                        let bytes = [TRAILER_LEN];
                        state.sender.carried_on(now, id, &[sequence], &bytes);
                        self.endings.push(Ending {
                            id,
                            sequence,
                            datagram: trailer.bytes(),
                            at: now,
                            said: 0,
                        });
                    }
                    state.sender.end(now, id);
                }
                drop(state);
                self.say_ends(now);
            }
            Stage::Elsewhere => {
                let state = self.node.lock();
                if let Some(line) = state.lines.get(&id) {
                    line.remote.store(false, Ordering::Release);
                }
            }
            Stage::Claimed | Stage::Ended => return,
        }
        self.tell_ended(now, id);
    }

    /// Says what is due of ends of streams.
    fn say_ends(&mut self, now: Time) {
        let state = self.node.lock();
        for ending in self.endings.iter_mut().filter(|ending| ending.at <= now) {
            ending.at = match END_AGAIN.get(ending.said) {
                Some(pause) => now + *pause,
                None => Time::NEVER,
            };
            ending.said += 1;
            let Some(fan) = state.sender.fan(ending.id) else {
                continue;
            };
            let moving = fan.moving().iter();
            let moving = moving.filter(|(_, window)| window.admits(ending.sequence));
            for target in fan.steady().iter().chain(moving.map(|(target, _)| target)) {
                let batch = &mut self.letters[index(target.to.ip())];
                let source = Some(target.source);
                batch.push(target.to, source, Class::Stream, &ending.datagram);
            }
        }
        drop(state);
        self.endings.retain(|ending| ending.at != Time::NEVER);
        self.flush();
    }

    /// A datagram of another process, for a channel that is ours.
    pub(super) fn push(&mut self, id: ChannelId, body: &[u8]) {
        if self.pushes.len() < PUSHES {
            self.pushes.push_back((id, body.to_vec()));
        } else if let Some(line) = self.node.lock().lines.get(&id) {
            line.dropped_one();
        }
    }

    /// Sends what other processes handed over, as far as lines are free.
    fn push_on(&mut self) {
        while let Some((id, _)) = self.pushes.front() {
            let id = *id;
            let run = self.pushes.iter().take(RUN);
            let run = run.take_while(|(other, _)| *other == id);
            let parts: Vec<[&[u8]; 1]> = run.map(|(_, body)| [&body[..]]).collect();
            let datagrams: Vec<&[&[u8]]> = parts.iter().map(|parts| &parts[..]).collect();
            let count = datagrams.len();
            let line = self.node.lock().lines.get(&id).cloned();
            if let (Some(line), Some(ours)) = (line, self.ours.get(&id)) {
                let sender = ours.channel.sender;
                let voice = &self.voice;
                let outcome = line.send(&self.node, sender, &datagrams, voice, Patience::Never);
                if outcome == Err(Errno::EAGAIN) {
                    return;
                }
            }
            self.pushes.drain(..count);
        }
    }

    /// Sends the letters.
    fn flush(&mut self) {
        for (letter, bytes) in self.out.iter() {
            if let Route::Node(asked) = letter.route {
                let batch = &mut self.letters[index(letter.to.ip())];
                batch.push(letter.to, Some(asked), Class::Control, bytes);
            }
        }
        self.out.clear();
        for (family, batch) in [Family::V4, Family::V6].into_iter().zip(&mut self.letters) {
            if batch.is_empty() {
                continue;
            }
            // Control is repeated: what finds the buffer full, or no way, is dropped.
            self.voice
                .with(family, |socket| batch.flush(socket, &mut |_, _| {}));
            batch.clear();
        }
    }

    /// Whether the process was stopped since the thread last looked.
    fn was_stopped(&mut self, now: Time) -> bool {
        let pause = now.since(std::mem::replace(&mut self.last, now));
        pause > PAUSE
    }
}

fn index(to: IpAddr) -> usize {
    match Family::of(to) {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

impl Work<Command> for Controller {
    fn command(&mut self, now: Time, command: Command) {
        match command {
            Command::Open {
                channel,
                app_port,
                reply,
            } => self.open(now, channel, app_port, reply),
            Command::End { id } => self.end(now, id),
            Command::HandOver { id, body } => match self.ours.get(&id) {
                Some(ours) if ours.stage == Stage::Open => {
                    self.push(id, &body);
                    self.handed_over(id, true);
                }
                _ => self.hand_over(id, &body),
            },
            Command::Watch { id } => self.watch(id),
            Command::Settled(reply) => self.when_settled(reply),
            Command::Look => {}
            Command::Quit => self.over = true,
        }
    }

    fn ready(&mut self, now: Time, event: Event) {
        if self.was_stopped(now) {
            self.on_wake(now);
        }
        self.on_event(now, event);
    }

    fn next_time(&self) -> Time {
        self.next
    }

    fn due(&mut self, now: Time) {
        if self.was_stopped(now) {
            self.on_wake(now);
        }
        let mut next = self.turn(now);
        self.say_ends(now);
        self.push_on();
        {
            let mut state = self.node.lock();
            state.sender.poll(now, &mut self.out);
            state.armed = state.sender.next_time();
            next = next.min(state.armed);
        }
        self.flush();
        self.tell_counts();
        {
            let state = self.node.lock();
            self.node.tell_waiters(&state);
        }
        let endings = self.endings.iter().map(|ending| ending.at).min();
        next = next.min(endings.unwrap_or(Time::NEVER));
        if !self.pushes.is_empty() {
            next = next.min(now + Duration::from_millis(1));
        }
        self.next = next;
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
