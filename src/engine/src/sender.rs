//! A sender: channels of this host, their audiences, tokens and sequences.
//!
//! ```text
//!   (unknown) ──request──► pending ──open──► granted ──end──► ended ──open──► granted
//!   granted, nobody left ──suspend──► pending
//!   pending and idle for 10 minutes: forgotten
//! ```
//! Promises: requests for channels that nobody opened yet are kept as pending and
//! granted with the opening. Is not the fan-out: the runtime sends to
//! [`Sender::fan`] and reports by [`Sender::carried_on`].

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_wire::{
    Body, Channel, ChannelId, Control, Kind, NodeId, Nonce, Path, Reason, Sequence, StreamToken,
    Trailer, Verdict, Want,
};

use crate::admission::{Admission, Admissions, Question, Waiting};
use crate::audience::{Audience, EntryRecord, Taken};
use crate::gate::{Counters, Gate};
use crate::time::ms;
use crate::{ChannelState, ChannelSummary, Entropy, Fan, NodeSettings, Outbox, Time};

const FORGOTTEN: Duration = ms(600_000);

#[derive(Debug)]
struct SenderChannel {
    channel: Channel,
    state: ChannelState,
    audience: Audience,
    next: Sequence,
    since: Time,
    busy: Time,
    /// The application decides who is let in.
    guarded: bool,
}

/// The sending half of a node: channels by id.
#[derive(Debug)]
pub struct Sender {
    gate: Gate,
    channels: HashMap<ChannelId, SenderChannel>,
    /// Channels that somebody asks for and nobody has opened, since they were taken.
    wanted: Vec<Channel>,
    /// Open channels whose last requester went.
    emptied: Vec<ChannelId>,
    admissions: Admissions,
    /// Whether the application decides, by id; none: of all others.
    guards: HashMap<Option<ChannelId>, bool>,
    /// The most requesters of a channel, likewise; where neither is there, as set up.
    rooms: HashMap<Option<ChannelId>, usize>,
    /// Entries of one source, as set up.
    per_source: u32,
}

/// How many of each are remembered for whoever takes them. More are asked for again.
const NEWS: usize = 1_024;

impl Sender {
    /// A sender without channels.
    #[must_use]
    pub fn new(now: Time, settings: NodeSettings, entropy: Entropy) -> Sender {
        Sender {
            per_source: settings.entries_per_source,
            rooms: HashMap::new(),
            gate: Gate::new(now, settings, entropy),
            channels: HashMap::new(),
            wanted: Vec::new(),
            emptied: Vec::new(),
            admissions: Admissions::default(),
            guards: HashMap::new(),
        }
    }

    /// The node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.gate.node
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.gate.counters
    }

    /// The gate's counters, to count malformed datagrams.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.gate.counters
    }

    fn fresh(gate: &Gate, channel: Channel, now: Time) -> SenderChannel {
        SenderChannel {
            channel,
            state: ChannelState {
                verdict: Verdict::Pending,
                reason: Reason::None,
                token: None,
                app_port: 0,
                ask: false,
                path: Path::EMPTY.with(gate.node).unwrap_or(Path::EMPTY),
            },
            audience: Audience::new(gate.settings.requesters),
            next: Sequence(0),
            since: now,
            busy: now,
            guarded: false,
        }
    }

    /// As [`Sender::fresh`], with the room that its channel is to have.
    fn roomy(
        gate: &Gate,
        rooms: &HashMap<Option<ChannelId>, usize>,
        channel: Channel,
        now: Time,
    ) -> SenderChannel {
        let mut fresh = Self::fresh(gate, channel, now);
        let usual = gate.settings.requesters;
        fresh.audience.set_limit(room(rooms, channel.id, usual));
        fresh
    }

    /// Opens a channel: pending requesters are granted at once. Opening an open
    /// channel changes nothing but the port. Returns the stream token.
    pub fn open(&mut self, now: Time, channel: Channel, app_port: u16) -> StreamToken {
        let gate = &mut self.gate;
        let entry = self
            .channels
            .entry(channel.id)
            .or_insert_with(|| Self::roomy(gate, &self.rooms, channel, now));
        entry.channel = channel;
        entry.state.app_port = app_port;
        entry.busy = now;
        if let (Verdict::Granted, Some(token)) = (entry.state.verdict, entry.state.token) {
            return token;
        }
        let token = StreamToken(gate.entropy.nonzero());
        entry.state.token = Some(token);
        entry.state.verdict = Verdict::Granted;
        entry.next = Sequence(u32::try_from(gate.entropy.any() & 0xFFFF_FFFF).unwrap_or(0));
        entry.audience.new_incarnation();
        entry.audience.tell_all(now);
        token
    }

    /// Whether the channel is open.
    #[must_use]
    pub fn is_open(&self, id: ChannelId) -> bool {
        self.channels
            .get(&id)
            .is_some_and(|c| c.state.verdict == Verdict::Granted)
    }

    /// How many requesters a channel may have: by id, and (none) all others, where it is
    /// not what this sender was set up with; and how many entries a source. Those who are
    /// in stay in. A channel that is open keeps what it was opened with.
    pub fn set_limits(
        &mut self,
        rooms: HashMap<Option<ChannelId>, usize>,
        per_source: Option<u32>,
    ) {
        self.rooms = rooms;
        self.gate.settings.entries_per_source = per_source.unwrap_or(self.per_source);
        let ids = self.channels.iter_mut();
        for (id, channel) in ids.filter(|(_, c)| c.state.verdict != Verdict::Granted) {
            let usual = self.gate.settings.requesters;
            channel.audience.set_limit(room(&self.rooms, *id, usual));
        }
    }

    /// For which channels the application decides who is let in: by id, and (none) for
    /// all others. A channel that is open keeps what it was opened with. Whoever waits
    /// for one that nobody guarded so far is to ask again, so that it is put to the
    /// application.
    pub fn set_guards(
        &mut self,
        now: Time,
        guards: HashMap<Option<ChannelId>, bool>,
        out: &mut Outbox,
    ) {
        self.guards = guards;
        let ids = self.channels.iter_mut();
        for (id, channel) in ids.filter(|(_, c)| c.state.verdict != Verdict::Granted) {
            let before = std::mem::replace(&mut channel.guarded, guarded(&self.guards, *id));
            if channel.guarded && !before && !channel.audience.is_empty() {
                let mut voice = self.gate.voice(now, channel.channel, channel.state, out);
                voice.state.token = None;
                channel.audience.turn_out(&mut voice);
                self.gate.settle(&mut channel.audience);
            }
        }
    }

    /// Who wants to be let in, since the last call.
    pub fn take_questions(&mut self) -> Vec<Question> {
        self.admissions.take_questions()
    }

    /// There is nobody to answer: the question is put again when its requester asks again.
    pub fn withdraw(&mut self, question: &Question) {
        self.admissions.forget(question.channel.id, question.nonce);
    }

    /// The application's answer to a question.
    pub fn answer(&mut self, now: Time, id: ChannelId, nonce: Nonce, yes: bool, out: &mut Outbox) {
        let Some(waiting) = self.admissions.answer(now, id, nonce, yes) else {
            return;
        };
        self.admit(now, waiting, out);
    }

    /// The channels that were asked for and are not open, since the last call.
    pub fn take_wanted(&mut self) -> Vec<Channel> {
        std::mem::take(&mut self.wanted)
    }

    /// The channels that somebody waits for, and that are not open.
    #[must_use]
    pub fn waiting(&self) -> Vec<Channel> {
        let channels = self.channels.values();
        channels
            .filter(|c| c.state.verdict != Verdict::Granted && !c.audience.is_empty())
            .map(|c| c.channel)
            .collect()
    }

    /// The open channels whose last requester went, since the last call. By now there
    /// may be new ones.
    pub fn take_emptied(&mut self) -> Vec<ChannelId> {
        std::mem::take(&mut self.emptied)
    }

    /// Whether nobody is in the channel's audience.
    #[must_use]
    pub fn is_deserted(&self, id: ChannelId) -> bool {
        self.channels.get(&id).is_none_or(|c| c.audience.is_empty())
    }

    /// Closes an open channel without a word where nobody is there to hear it: whoever
    /// comes next waits. Whether it did.
    pub fn suspend(&mut self, now: Time, id: ChannelId) -> bool {
        let channel = self.channels.get_mut(&id);
        let Some(channel) = channel.filter(|c| c.audience.is_empty()) else {
            return false;
        };
        if channel.state.verdict != Verdict::Granted {
            return false;
        }
        channel.state.verdict = Verdict::Pending;
        channel.state.token = None;
        channel.busy = now;
        true
    }

    /// The trailer of the next datagram of an open channel.
    pub fn stamp(&mut self, now: Time, id: ChannelId, kind: Kind) -> Option<Trailer> {
        let channel = self.channels.get_mut(&id)?;
        let token = channel.state.token?;
        let sequence = channel.next;
        channel.next = sequence.next();
        channel.busy = now;
        Some(Trailer {
            token: token.0,
            sequence,
            kind,
        })
    }

    /// Who gets the channel's stream.
    #[must_use]
    pub fn fan(&self, id: ChannelId) -> Option<&Fan> {
        self.channels.get(&id).map(|c| c.audience.fan())
    }

    /// Takes note of datagrams that were sent to the fan.
    pub fn carried_on(
        &mut self,
        now: Time,
        id: ChannelId,
        sequences: &[Sequence],
        bytes_each: &[usize],
    ) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.audience.carried_on(now, sequences, bytes_each);
        }
    }

    /// Receivers at and below the audience of a channel, those aside that stand by and
    /// would miss what is sent now.
    #[must_use]
    pub fn receivers(&self, id: ChannelId) -> u64 {
        self.channels
            .get(&id)
            .map_or(0, |c| c.audience.receivers_fed())
    }

    /// Ends a channel's stream: everybody is told; requesters stay and wait.
    pub fn end(&mut self, now: Time, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.state.verdict = Verdict::Ended;
            channel.audience.tell_all(now);
        }
    }

    /// Takes a control datagram that came to `asked`:FP from `from`.
    pub fn on_control(
        &mut self,
        now: Time,
        from: SocketAddr,
        asked: IpAddr,
        control: &Control<'_>,
        out: &mut Outbox,
    ) {
        self.gate.counters.received += 1;
        let header = &control.header;
        let Body::Request(request) = &control.body else {
            self.gate.counters.strange += 1;
            return;
        };
        let known = self
            .channels
            .get(&header.channel.id)
            .is_some_and(|c| c.audience.knows(header.nonce));
        let farewell = matches!(request.want, Want::Leave { .. } | Want::Until(_));
        if farewell && request.parent.is_some() && request.parent != self.gate.node {
            self.gate.counters.strange += 1;
            return;
        }
        if !(farewell && known) {
            let valid = self.gate.is_valid(now, from, header, &request.cookies);
            if farewell {
                self.gate.counters.strange += 1;
                if valid {
                    let nobody = Self::fresh(&self.gate, header.channel, now);
                    let mut voice = self.gate.voice(now, header.channel, nobody.state, out);
                    nobody.audience.say_unknown(&mut voice, from, asked, header);
                }
                return;
            }
            if !valid {
                self.gate.challenge(now, from, asked, header, out);
                return;
            }
        }
        let waiting = Waiting {
            from,
            asked,
            header: *header,
            request: *request,
        };
        self.admit(now, waiting, out);
    }

    fn admit(&mut self, now: Time, waiting: Waiting, out: &mut Outbox) {
        let Waiting {
            from,
            asked,
            header,
            request,
        } = &waiting;
        let (from, asked) = (*from, *asked);
        let gate = &mut self.gate;
        if !self.channels.contains_key(&header.channel.id) {
            if self.channels.len() >= gate.settings.channels {
                gate.counters.refused_full += 1;
                let idle = Self::fresh(gate, header.channel, now);
                let mut voice = gate.voice(now, header.channel, idle.state, out);
                idle.audience
                    .refuse(&mut voice, from, asked, header, Reason::Full);
                return;
            }
            let mut fresh = Self::roomy(gate, &self.rooms, header.channel, now);
            fresh.guarded = guarded(&self.guards, header.channel.id);
            self.channels.insert(header.channel.id, fresh);
        }
        let Some(channel) = self.channels.get_mut(&header.channel.id) else {
            return;
        };
        if channel.state.verdict != Verdict::Granted && channel.audience.is_empty() {
            // This host may have several addresses; the id is one for all of them.
            channel.channel = header.channel;
        }
        let audience = &channel.audience;
        let known = audience.knows(header.nonce) || audience.contains(from);
        let room = known || gate.has_room(from);
        let mut voice = gate.voice(now, header.channel, channel.state, out);
        if !room {
            let audience = &channel.audience;
            audience.refuse(&mut voice, from, asked, header, Reason::Full);
            gate.counters.refused_full += 1;
            return;
        }
        let leaves = matches!(request.want, Want::Leave { .. } | Want::Until(_));
        if channel.guarded && !leaves && !channel.audience.holds(header.nonce) {
            let verdict = match self.admissions.of(now, waiting) {
                Admission::Yes => None,
                Admission::No => Some((Verdict::RefusedFinal, Reason::Policy)),
                Admission::Asked => Some((Verdict::Pending, Reason::None)),
                Admission::Full => Some((Verdict::RefusedPassing, Reason::Overload)),
            };
            if let Some(verdict) = verdict {
                // Who is not in learns no token.
                voice.state.token = None;
                let audience = &channel.audience;
                audience.tell(&mut voice, from, asked, header, verdict);
                return;
            }
        }
        let own = Some(asked);
        let taken = channel
            .audience
            .take(&mut voice, from, asked, own, header, request);
        match taken {
            Taken::Entered => {
                channel.busy = now;
                gate.charge(from.ip());
            }
            Taken::Refreshed => channel.busy = now,
            Taken::Full => gate.counters.refused_full += 1,
            _ => {}
        }
        gate.settle(&mut channel.audience);
        match taken {
            Taken::Entered | Taken::Refreshed => note_wanted(channel, &mut self.wanted),
            Taken::Left { .. } => note_emptied(channel, &mut self.emptied),
            _ => {}
        }
    }

    /// An ICMP error quoted our stream to `to`: ask it for a sign of life.
    pub fn on_unreachable(&mut self, now: Time, to: SocketAddr) {
        for channel in self.channels.values_mut() {
            channel.audience.doubt(now, to);
        }
    }

    /// The entries of a channel that is not open here, for the process that opens
    /// it; the channel is forgotten here.
    pub fn hand_out(&mut self, id: ChannelId) -> Vec<EntryRecord> {
        let Some(mut channel) = self.channels.remove(&id) else {
            return Vec::new();
        };
        let records = channel.audience.records();
        channel.audience.clear();
        self.gate.settle(&mut channel.audience);
        records
    }

    /// Enters requesters that another process of this user validated.
    pub fn hand_in(
        &mut self,
        now: Time,
        channel: Channel,
        records: &[EntryRecord],
        out: &mut Outbox,
    ) {
        let gate = &mut self.gate;
        let place = self
            .channels
            .entry(channel.id)
            .or_insert_with(|| Self::roomy(gate, &self.rooms, channel, now));
        if place.guarded || guarded(&self.guards, channel.id) {
            // They were never put to the application: they ask again.
            return;
        }
        for record in records {
            if !gate.has_room(record.address) {
                gate.counters.refused_full += 1;
                continue;
            }
            let mut voice = gate.voice(now, channel, place.state, out);
            if place.audience.adopt(&mut voice, record) {
                gate.charge(record.address.ip());
            }
        }
        gate.settle(&mut place.audience);
        note_wanted(place, &mut self.wanted);
    }

    /// When [`Sender::poll`] next has something to do.
    #[must_use]
    pub fn next_time(&self) -> Time {
        self.channels
            .values()
            .map(|c| {
                let idle = c.state.verdict != Verdict::Granted && c.audience.is_empty();
                let forgotten = if idle {
                    c.busy + FORGOTTEN
                } else {
                    Time::NEVER
                };
                c.audience.next_event().min(forgotten)
            })
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Time, out: &mut Outbox) {
        let gate = &mut self.gate;
        let emptied = &mut self.emptied;
        self.channels.retain(|_, channel| {
            if channel.audience.next_event() <= now {
                let mut voice = gate.voice(now, channel.channel, channel.state, out);
                channel.audience.poll(&mut voice);
                gate.settle(&mut channel.audience);
                note_emptied(channel, emptied);
            }
            let idle = channel.state.verdict != Verdict::Granted && channel.audience.is_empty();
            !(idle && channel.busy + FORGOTTEN <= now)
        });
    }

    /// The channels, for people.
    #[must_use]
    pub fn summaries(&self, now: Time) -> Vec<ChannelSummary> {
        let channels = self.channels.values();
        channels.map(|channel| summary(now, channel)).collect()
    }

    /// One of them.
    #[must_use]
    pub fn summary(&self, now: Time, id: ChannelId) -> Option<ChannelSummary> {
        let channel = self.channels.get(&id)?;
        Some(summary(now, channel))
    }
}

fn guarded(guards: &HashMap<Option<ChannelId>, bool>, id: ChannelId) -> bool {
    let guard = guards.get(&Some(id)).or_else(|| guards.get(&None));
    guard.copied().unwrap_or(false)
}

fn room(rooms: &HashMap<Option<ChannelId>, usize>, id: ChannelId, usual: usize) -> usize {
    let room = rooms.get(&Some(id)).or_else(|| rooms.get(&None));
    room.copied().unwrap_or(usual)
}

fn note_wanted(channel: &SenderChannel, wanted: &mut Vec<Channel>) {
    let open = channel.state.verdict == Verdict::Granted;
    let known = || wanted.iter().any(|c| c.id == channel.channel.id);
    if !open && !channel.audience.is_empty() && wanted.len() < NEWS && !known() {
        wanted.push(channel.channel);
    }
}

fn note_emptied(channel: &SenderChannel, emptied: &mut Vec<ChannelId>) {
    let open = channel.state.verdict == Verdict::Granted;
    let id = channel.channel.id;
    if open && channel.audience.is_empty() && emptied.len() < NEWS && !emptied.contains(&id) {
        emptied.push(id);
    }
}

fn summary(now: Time, channel: &SenderChannel) -> ChannelSummary {
    let audience = &channel.audience;
    let (datagrams, bytes, highest) = audience.carried();
    ChannelSummary {
        channel: channel.channel,
        state: channel.state,
        upstream: None,
        requesters: audience.summaries(now),
        receivers_below: audience.receivers_below(),
        datagrams,
        bytes,
        lost: 0,
        duplicates: 0,
        highest,
        age: now.since(channel.since),
    }
}
