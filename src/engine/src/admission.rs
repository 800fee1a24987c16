//! Whom the application lets in: a question to it for each new requester of a guarded
//! channel, and what it answered.
//!
//! ```text
//!   validated, new ──► asked: *pending* ──yes──► let in, the request is taken up again
//!                                        └─no──► refused for good
//! ```
//! Promises: one question a requester, however often it asks meanwhile; an answer holds
//! for 60 s; at most 4 096 are kept. Is not who answers (`runtime`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_wire::{Channel, ChannelId, Credential, Header, Nonce, Request};

use crate::time::ms;
use crate::Time;

/// How long an answer holds, and a question waits for one.
const GOOD: Duration = ms(60_000);
/// Questions and answers kept. Higher: more memory for a flood of validated requesters.
const MOST: usize = 4_096;

/// Somebody wants to be let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Into which channel.
    pub channel: Channel,
    /// Its nonce, by which it is answered.
    pub nonce: Nonce,
    /// Where it asks from.
    pub from: SocketAddr,
    /// What it shows.
    pub credential: Credential,
}

/// A request that waits for the answer: the latest of its requester.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    pub(crate) from: SocketAddr,
    pub(crate) asked: IpAddr,
    pub(crate) header: Header,
    pub(crate) request: Request,
}

#[derive(Debug)]
struct Known {
    waiting: Option<Waiting>,
    answer: Option<bool>,
    until: Time,
}

/// What is known of a requester.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// The application has let it in.
    Yes,
    /// It has not.
    No,
    /// It has yet to answer.
    Asked,
    /// There is no room for another question.
    Full,
}

/// Questions and answers.
#[derive(Default, Debug)]
pub(crate) struct Admissions {
    known: HashMap<(ChannelId, Nonce), Known>,
    new: Vec<Question>,
}

impl Admissions {
    /// What is known of the requester of a guarded channel; asks where nothing is.
    pub(crate) fn of(&mut self, now: Time, waiting: Waiting) -> Admission {
        let (channel, nonce) = (waiting.header.channel, waiting.header.nonce);
        if self.known.len() >= MOST {
            self.known.retain(|_, known| known.until > now);
        }
        let known = self.known.get_mut(&(channel.id, nonce));
        if let Some(known) = known.filter(|known| known.until > now) {
            return match known.answer {
                Some(true) => Admission::Yes,
                Some(false) => Admission::No,
                None => {
                    known.waiting = Some(waiting);
                    Admission::Asked
                }
            };
        }
        if self.known.len() >= MOST {
            return Admission::Full;
        }
        self.new.push(Question {
            channel,
            nonce,
            from: waiting.from,
            credential: waiting.request.credential,
        });
        let known = Known {
            waiting: Some(waiting),
            answer: None,
            until: now + GOOD,
        };
        self.known.insert((channel.id, nonce), known);
        Admission::Asked
    }

    pub(crate) fn take_questions(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.new)
    }

    pub(crate) fn forget(&mut self, id: ChannelId, nonce: Nonce) {
        self.known.remove(&(id, nonce));
    }

    /// The request that waited for this answer, if one still does.
    pub(crate) fn answer(
        &mut self,
        now: Time,
        id: ChannelId,
        nonce: Nonce,
        yes: bool,
    ) -> Option<Waiting> {
        let known = self.known.get_mut(&(id, nonce))?;
        known.answer = Some(yes);
        known.until = now + GOOD;
        known.waiting.take()
    }
}
