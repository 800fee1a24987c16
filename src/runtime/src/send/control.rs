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
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::{EntryRecord, Outbox, Route, Time};
use flexcast_udp::batch::{Class, ReceiveBatch, SendBatch};
use flexcast_udp::process::{Epoll, Event};
use flexcast_udp::{Errno, Family, UdpSocket};
use flexcast_wire::{Channel, ChannelId, Control, Nonce, Trailer};

use super::error::SendError;
use super::kinship::Kinship;
use super::listening::{Delivered, Wanted};
use super::node::Node;
use super::ours::{Ending, Ours, Stage};
use super::place::Place;
use super::rest::Rest;
use super::served::Served;
use super::voice::{Mouth, Voice};
use crate::background::{Reply, Work};

/// Requests taken in one call; the longest is far below the slot.
const SLOTS: (usize, usize) = (32, 2_048);
/// The longest packet of another process: a datagram and its frame.
const PACKET: usize = 66_000;
/// A pause of the loop above this means that the process was stopped.
pub(super) const PAUSE: Duration = Duration::from_millis(1_000);
/// After one so long, what is known of other hosts' streams is stale.
const STANDSTILL: Duration = Duration::from_secs(2);

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
    /// Where bells of a family ring from.
    Bells(Family, Reply<Result<SocketAddr, Errno>>),
    /// Listen for channels.
    Listen(Wanted, Reply<Result<u64, SendError>>),
    /// No longer.
    Unlisten(u64),
    /// An accept of it came to nothing.
    Deserted(ChannelId),
    /// End an accepted channel's stream, if it is still this one's.
    EndDelivery {
        id: ChannelId,
        delivery: Arc<Delivered>,
    },
    /// Before a fork: be found by children.
    MeetKin(Reply<()>),
    /// Send first what children have handed over.
    TakeInKin(Reply<()>),
    /// It is closed here and open elsewhere.
    Park(Arc<Delivered>),
    /// A guard's answer.
    Answer {
        id: ChannelId,
        nonce: Nonce,
        yes: bool,
    },
    /// Take requests for other hosts, too.
    Transparent(Reply<Result<(), SendError>>),
    /// Tell those below other hosts' channels what is new, before the answer.
    TellPassing(Reply<()>),
    /// Repeat the end of another host's stream, which was passed on.
    EndAgain(Channel, Trailer),
    /// Timers changed.
    Look,
    /// End.
    Quit,
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
    /// None while it is read.
    pub(super) requests: Option<ReceiveBatch>,
    pub(super) out: Outbox,
    pub(super) voice: Voice,
    pub(super) letters: [SendBatch; 2],
    pub(super) pushes: VecDeque<(ChannelId, Vec<u8>)>,
    pub(super) endings: Vec<Ending>,
    /// Of each family; made when the first socket listens.
    pub(super) bells: [Option<UdpSocket>; 2],
    /// Accepted streams that have just ended.
    pub(super) rest: Rest,
    /// By which others find what is served here.
    pub(super) served: Served,
    /// Who waits to hear whether it may listen.
    pub(super) asked_to_listen: Vec<(u64, Reply<Result<u64, SendError>>)>,
    /// What is for forked children.
    pub(super) kinship: Kinship,
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
            requests: Some(ReceiveBatch::new(SLOTS.0, SLOTS.1)),
            out: Outbox::new(),
            letters: [SendBatch::new(), SendBatch::new()],
            pushes: VecDeque::new(),
            endings: Vec::new(),
            bells: [None, None],
            rest: Rest::default(),
            served: Served::new(),
            asked_to_listen: Vec::new(),
            kinship: Kinship::default(),
            next: now,
            last: now,
            over: false,
        })
    }

    /// A control datagram came to `asked`:FP, for a channel that is ours or nobody's.
    pub(super) fn take(&mut self, now: Time, from: SocketAddr, asked: IpAddr, bytes: &[u8]) {
        let control = Control::parse(bytes);
        if let Ok(control) = &control {
            if self.take_passing(now, from, asked, control) {
                return;
            }
        }
        let mut state = self.node.lock();
        match control {
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

    /// Sends the letters.
    pub(super) fn flush(&mut self) {
        for (letter, bytes) in self.out.iter() {
            match letter.route {
                Route::Node(asked) => {
                    let batch = &mut self.letters[index(letter.to.ip())];
                    batch.push(letter.to, Some(asked), Class::Control, bytes);
                }
                Route::Upstream(channel) => self.say_upward(&channel, letter.to, bytes),
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
        if pause >= STANDSTILL {
            self.wake_passages(now);
        }
        pause > PAUSE
    }
}

pub(super) fn index(to: IpAddr) -> usize {
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
            Command::Bells(family, reply) => reply.give(self.bells(family)),
            Command::Listen(wanted, reply) => self.begin_listening(now, wanted, reply),
            Command::Answer { id, nonce, yes } => self.take_answer(now, id, nonce, yes),
            Command::Unlisten(key) => self.unlisten(now, key),
            Command::Deserted(id) => self.deserted(now, id),
            Command::EndDelivery { id, delivery } => self.end_delivery(now, id, &delivery),
            Command::MeetKin(reply) => {
                self.meet_kin();
                reply.give(());
            }
            Command::TakeInKin(reply) => {
                self.take_in_kin(now);
                reply.give(());
            }
            Command::Park(delivered) => self.park(now, delivered),
            Command::Transparent(reply) => self.become_transparent(now, &reply),
            Command::TellPassing(reply) => {
                self.turn_passages(now);
                self.flush();
                reply.give(());
            }
            Command::EndAgain(channel, trailer) => self.end_again(now, channel, &trailer),
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
        next = next.min(self.turn_passages(now));
        self.flush();
        self.attend_kin(now);
        self.attend_listens(now);
        self.attend_passages();
        self.tell_counts();
        {
            let state = self.node.lock();
            self.node.tell_waiters(&state);
        }
        let endings = self.endings.iter().map(|ending| ending.at).min();
        next = next.min(endings.unwrap_or(Time::NEVER));
        next = next.min(self.kinship.next_time());
        next = next.min(self.rest.next_time());
        if !self.pushes.is_empty() {
            next = next.min(now + Duration::from_millis(1));
        }
        self.next = next;
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
