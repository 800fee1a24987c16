//! Channels that this process opened: how far they have come, their end, and what
//! other processes send through us.
//!
//! ```text
//!   Claimed ──granted──► Open ──end──► Ended ──open──► Claimed …
//!      └──────taken────► Elsewhere ──the holder goes──► Open
//!   Listening ──open──► Claimed …, and back when the stream ends
//! ```
//! Promises: whoever waits for an opening is answered once; the end of a stream is
//! said at 0, 10 and 50 ms with one sequence. Is not who has which channel on this
//! host (`registry`).

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flexcast_engine::{Target, Time};
use flexcast_udp::batch::Class;
use flexcast_udp::Errno;
use flexcast_wire::{Channel, ChannelId, Sequence, Trailer, TRAILER_LEN};

use super::control::{index, Controller};
use super::error::SendError;
use super::line::{self, Patience};
use super::node::hearers;
use crate::background::Reply;

/// Datagrams of other processes that wait for a busy line. Higher: more delay.
const PUSHES: usize = 1_024;
/// How many of them leave as one batch.
const RUN: usize = 44;
/// When the end of a stream is said again.
const END_AGAIN: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(40)];

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
    /// Its requesters wait here for somebody to accept them.
    Listening,
}

/// A channel that this process opened.
#[derive(Debug)]
pub(super) struct Ours {
    pub(super) channel: Channel,
    pub(super) app_port: u16,
    pub(super) stage: Stage,
    /// The socket that listens for it.
    pub(super) listens: Option<u64>,
    pub(super) replies: Vec<Reply<Result<(), SendError>>>,
}

/// Whose stream has come to its end.
#[derive(Clone, Copy, Debug)]
enum Whose {
    /// This host's.
    Ours(ChannelId),
    /// Another's, passed on.
    Passing(Channel),
}

/// An end that is still to be repeated.
#[derive(Debug)]
pub(super) struct Ending {
    whose: Whose,
    sequence: Sequence,
    datagram: [u8; TRAILER_LEN],
    pub(super) at: Time,
    said: usize,
    /// Who heard it first: whoever came since waits for another stream.
    hearers: HashSet<Target>,
}

impl Controller {
    /// The channel is this process's: its stream begins here.
    pub(super) fn granted(&mut self, now: Time, id: ChannelId) {
        let Some(ours) = self.ours.get_mut(&id) else {
            return;
        };
        if ours.stage == Stage::Ended {
            // It ended while the owner was being asked.
            return self.tell_ended(now, id);
        }
        if ours.stage == Stage::Listening {
            return self.heard_of_scope(now, Some(id), true);
        }
        ours.stage = Stage::Open;
        {
            let mut state = self.node.lock();
            state.sender.open(now, ours.channel, ours.app_port);
            state.elsewhere.remove(&id);
            let line = line::of(&mut state, id);
            line.remote.store(false, Ordering::Release);
            // Said before the first datagram: relays take none without its token.
            state.sender.poll(now, &mut self.out);
        }
        let replies = std::mem::take(&mut ours.replies);
        let listens = ours.listens.is_some();
        self.flush();
        for reply in replies {
            reply.give(Ok(()));
        }
        if listens {
            // The wildcard's accept may have opened it while it was being asked for.
            self.heard_of_scope(now, Some(id), true);
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
        if ours.stage == Stage::Listening {
            return self.heard_of_scope(now, Some(id), false);
        }
        ours.stage = Stage::Elsewhere;
        let (channel, listens) = (ours.channel, ours.listens.is_some());
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
        if listens {
            self.heard_of_scope(now, Some(id), false);
        }
    }

    pub(super) fn open(
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
            listens: None,
            replies: Vec::new(),
        });
        ours.channel = channel;
        ours.app_port = app_port;
        let there = match ours.stage {
            // `Sending::finish` may have ended it meanwhile.
            Stage::Open => self.node.lock().sender.is_open(channel.id),
            Stage::Elsewhere => true,
            Stage::Claimed | Stage::Ended | Stage::Listening => false,
        };
        if there {
            return reply.give(Ok(()));
        }
        ours.stage = Stage::Claimed;
        ours.replies.push(reply);
        self.claim(now, channel, false);
    }

    pub(super) fn end(&mut self, now: Time, id: ChannelId) {
        let Some(ours) = self.ours.get_mut(&id) else {
            return;
        };
        let after = match ours.listens {
            Some(_) => Stage::Listening,
            None => Stage::Ended,
        };
        let before = std::mem::replace(&mut ours.stage, after);
        match before {
            Stage::Open => {
                let last = self.node.lock().end(now, id);
                let state = self.node.lock();
                self.endings.extend(last.map(|trailer| Ending {
                    whose: Whose::Ours(id),
                    hearers: state.hearers(id, trailer.sequence).collect(),
                    sequence: trailer.sequence,
                    datagram: trailer.bytes(),
                    at: now,
                    said: 0,
                }));
                drop(state);
                self.say_ends(now);
            }
            Stage::Elsewhere => {
                let state = self.node.lock();
                if let Some(line) = state.lines.get(&id) {
                    line.remote.store(false, Ordering::Release);
                }
            }
            Stage::Claimed | Stage::Ended | Stage::Listening => return,
        }
        if after == Stage::Ended {
            self.tell_ended(now, id);
        }
    }

    /// The end of another host's stream was passed on: it is said twice more.
    pub(super) fn end_again(&mut self, now: Time, channel: Channel, trailer: &Trailer) {
        let heard: HashSet<Target> = {
            let state = self.node.lock();
            let passages = state.passages.as_ref();
            let fan = passages.and_then(|passages| passages.relay.fan(&channel));
            hearers(fan, trailer.sequence).collect()
        };
        self.endings.push(Ending {
            whose: Whose::Passing(channel),
            hearers: heard,
            sequence: trailer.sequence,
            datagram: trailer.bytes(),
            at: now + END_AGAIN[0],
            said: 1,
        });
    }

    /// Says what is due of ends of streams.
    pub(super) fn say_ends(&mut self, now: Time) {
        let state = self.node.lock();
        for ending in self.endings.iter_mut().filter(|ending| ending.at <= now) {
            ending.at = match END_AGAIN.get(ending.said) {
                Some(pause) => now + *pause,
                None => Time::NEVER,
            };
            ending.said += 1;
            let fan = match &ending.whose {
                Whose::Ours(id) => state.sender.fan(*id),
                Whose::Passing(channel) => {
                    let passages = state.passages.as_ref();
                    passages.and_then(|passages| passages.relay.fan(channel))
                }
            };
            let hearers = hearers(fan, ending.sequence);
            for target in hearers.filter(|target| ending.hearers.contains(target)) {
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
    pub(super) fn push_on(&mut self) {
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
}
