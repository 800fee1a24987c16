//! A socket that asks in the stead of an accepted one's audience: who asks is the
//! engine's relay (`send`), which this socket's thread hears and speaks for.
//!
//! ```text
//!   C ── challenge, status ──► Tie ──► relay           the letters: Upward ──► C
//!   the accepted socket is over ──► Upward::part ──► the program reads the end
//!   this one is closed ──► Tie::cut ──► the requester, to leave
//! ```
//! Promises: what a node said is heard by the relay before anything that came after it.
//! Is not an ordinary receiver's asking ([`Requester`]).

use std::collections::VecDeque;
use std::net::SocketAddr;

use flexcast_engine::{Above, Outbox, Requester, RequesterEvent, Time};
use flexcast_wire::{Body, Channel, Control, Reason, StreamToken, Verdict};

use super::worker::Command;
use super::CATCH_UP;
use crate::background::Background;
use crate::send::Tie;

/// The way to a connected socket, for those who ask by it.
#[derive(Clone, Debug)]
pub(crate) struct Upward {
    background: Background<Command>,
    id: u64,
}

impl Upward {
    pub(super) fn new(background: Background<Command>, id: u64) -> Upward {
        Upward { background, id }
    }

    /// Sends a letter from its control socket.
    pub(crate) fn say(&self, to: SocketAddr, bytes: &[u8]) {
        self.background
            .post(Command::Say(self.id, to, bytes.to_vec()));
    }

    /// The accepted socket is over: the program reads the end, and the requester, if
    /// there still is one, leaves.
    pub(crate) fn part(&self, channel: Channel, requester: Option<Box<Requester>>) {
        self.background
            .post(Command::Part(self.id, channel, requester));
    }

    /// Returns when all control that had come is heard, after 20 ms at most.
    pub(crate) fn catch_up(&self) {
        let hear = |reply| Command::Hear(self.id, reply);
        let _ = self.background.ask_within(CATCH_UP, hear);
    }
}

/// Who asks for a channel.
#[derive(Debug)]
pub(super) enum Asker {
    /// The socket for itself.
    Own(Box<Requester>),
    /// The relay.
    Tied(Box<Tied>),
    /// Nobody any more.
    Gone(Channel),
}

/// What is known of a relay that asks by a socket of ours.
#[derive(Debug)]
pub(super) struct Tied {
    tie: Tie,
    above: Option<Above>,
    events: VecDeque<RequesterEvent>,
}

impl Tied {
    /// Takes note of what has changed above.
    fn look(&mut self) {
        let before = std::mem::replace(&mut self.above, self.tie.above());
        let verdict = |above: Option<Above>| above.and_then(|above| above.verdict);
        let token = |above: Option<Above>| above.and_then(|above| above.token);
        let new = self.above;
        if let Some((said, why)) = verdict(new).filter(|_| verdict(new) != verdict(before)) {
            self.events.push_back(RequesterEvent::Verdict(said, why));
        }
        if token(new) != token(before) {
            self.events.push_back(RequesterEvent::Token(token(new)));
        }
    }
}

impl Asker {
    pub(super) fn tied(tie: Tie) -> Asker {
        Asker::Tied(Box::new(Tied {
            tie,
            above: None,
            events: VecDeque::new(),
        }))
    }

    fn requester(&self) -> Option<&Requester> {
        match self {
            Asker::Own(requester) => Some(requester),
            Asker::Tied(_) | Asker::Gone(_) => None,
        }
    }

    fn above(&self) -> Option<&Above> {
        match self {
            Asker::Tied(tied) => tied.above.as_ref(),
            Asker::Own(_) | Asker::Gone(_) => None,
        }
    }

    /// Whether it is the relay that asks.
    pub(super) fn is_tied(&self) -> bool {
        !matches!(self, Asker::Own(_))
    }

    pub(super) fn channel(&self) -> Channel {
        match self {
            Asker::Own(requester) => requester.channel(),
            Asker::Tied(tied) => tied.tie.channel(),
            Asker::Gone(channel) => *channel,
        }
    }

    pub(super) fn token(&self) -> Option<StreamToken> {
        let own = self.requester().and_then(Requester::token);
        own.or_else(|| self.above().and_then(|above| above.token))
    }

    pub(super) fn app_port(&self) -> u16 {
        let above = self.above().map_or(0, |above| above.app_port);
        self.requester().map_or(above, Requester::app_port)
    }

    pub(super) fn verdict(&self) -> Option<(Verdict, Reason)> {
        let own = self.requester().and_then(Requester::verdict);
        own.or_else(|| self.above().and_then(|above| above.verdict))
    }

    pub(super) fn is_granted(&self) -> bool {
        matches!(self.verdict(), Some((Verdict::Granted, _)))
    }

    /// The own address of the node that feeds us, and the path down to it.
    pub(super) fn parent(&self) -> (Option<std::net::IpAddr>, flexcast_wire::Path) {
        if let Some(above) = self.above() {
            return (above.parent, above.path);
        }
        let parent = self.requester().and_then(Requester::parent);
        (
            parent.and_then(|parent| parent.own_address),
            parent.map_or(flexcast_wire::Path::EMPTY, |parent| parent.path),
        )
    }

    pub(super) fn is_leaving(&self) -> bool {
        match self {
            Asker::Own(requester) => requester.is_leaving(),
            Asker::Tied(_) => false,
            Asker::Gone(_) => true,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        match self {
            Asker::Own(requester) => requester.is_gone(),
            Asker::Tied(_) => false,
            Asker::Gone(_) => true,
        }
    }

    pub(super) fn next_time(&self) -> Time {
        // The relay's timers are its own thread's.
        self.requester().map_or(Time::NEVER, Requester::next_time)
    }

    pub(super) fn next_event(&mut self) -> Option<RequesterEvent> {
        match self {
            Asker::Own(requester) => requester.next_event(),
            Asker::Tied(tied) => tied.events.pop_front(),
            Asker::Gone(_) => None,
        }
    }

    /// What has been received, for its next requests; the relay counts by itself.
    pub(super) fn report(&mut self, received: u64, lost: Option<u64>) {
        if let Asker::Own(requester) = self {
            requester.report(received, lost);
        }
    }

    pub(super) fn poll(&mut self, now: Time, out: &mut Outbox) {
        if let Asker::Own(requester) = self {
            requester.poll(now, out);
        }
    }

    pub(super) fn start_over(&mut self, now: Time) {
        if let Asker::Own(requester) = self {
            requester.start_over(now);
        }
    }

    pub(super) fn stay(&mut self, now: Time) {
        if let Asker::Own(requester) = self {
            requester.stay(now);
        }
    }

    /// Leaves; with the relay's channel that is over here.
    pub(super) fn leave(&mut self, now: Time) {
        match self {
            Asker::Own(requester) => requester.leave(now, false),
            Asker::Tied(tied) => {
                let requester = tied.tie.cut(now);
                self.part(now, requester);
            }
            Asker::Gone(_) => {}
        }
    }

    /// The relay has given the channel up.
    pub(super) fn part(&mut self, now: Time, requester: Option<Box<Requester>>) {
        if !matches!(self, Asker::Tied(_)) {
            return;
        }
        *self = match requester {
            Some(mut requester) => {
                requester.leave(now, true);
                Asker::Own(requester)
            }
            None => Asker::Gone(self.channel()),
        };
    }

    /// Its requester, where it has one to leave.
    pub(super) fn into_requester(self) -> Option<Requester> {
        match self {
            Asker::Own(requester) => Some(*requester),
            Asker::Tied(_) | Asker::Gone(_) => None,
        }
    }

    pub(super) fn hear(&mut self, now: Time, control: &Control<'_>, out: &mut Outbox) {
        match self {
            Asker::Own(requester) => match &control.body {
                Body::Challenge(challenge) => {
                    requester.on_challenge(now, &control.header, challenge.cookie, out);
                }
                Body::Status(status) => requester.on_status(now, &control.header, status, out),
                _ => {}
            },
            Asker::Tied(tied) => {
                tied.tie.hear(now, control, out);
                tied.look();
            }
            Asker::Gone(_) => {}
        }
    }
}
