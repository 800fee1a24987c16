//! A relay whose requesting sockets, and whose copying, are somebody else's: a program's,
//! which accepts a channel, connects to it, and passes on what it receives.
//!
//! ```text
//!   first requester ─► waits (pending) ─attach─► asked upstream ─► as any relay
//!   the program gives a channel up ─detach─► refused for the moment; its requester goes
//!                                            back to whoever holds the socket, to leave
//! ```
//! Promises: before it is attached a channel asks nobody and grants nothing; a lent
//! socket keeps its nonce through a loop's pause, since its kernel sorts by it. Is not
//! the relay that opens its own sockets ([`super::Order`]).

use std::net::{IpAddr, SocketAddr};

use flexcast_wire::{Channel, Header, Nonce, Path, Reason, StreamToken, Verdict};

use super::channel::RelayChannel;
use super::Relay;
use crate::{ChannelState, ChannelSummary, Outbox, Requester, RequesterSettings, Time};

/// What is known of upstream, for whoever holds the requesting socket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Above {
    /// The stream's token, once known.
    pub token: Option<StreamToken>,
    /// The last verdict, and why.
    pub verdict: Option<(Verdict, Reason)>,
    /// The port of the sending application's socket; 0 unknown.
    pub app_port: u16,
    /// The own address of the node that feeds us, where it has told it.
    pub parent: Option<IpAddr>,
    /// The nodes from S down to it.
    pub path: Path,
}

impl Relay {
    /// From now on the channel is asked for at `ask`, from a socket with this nonce.
    /// False where nobody wants it, or where it is asked for already.
    pub fn attach(
        &mut self,
        now: Time,
        channel: Channel,
        nonce: Nonce,
        ask: SocketAddr,
        settings: RequesterSettings,
    ) -> bool {
        let own = self.gate.node;
        let Some(state) = self.channels.get_mut(&channel) else {
            return false;
        };
        if state.lent.is_some() {
            return false;
        }
        state.requester = Requester::new(now, channel, nonce, own, ask, settings.clone());
        state.requester.limit();
        // Those who wait below have asked.
        state.requester.allow(now);
        state.lent = Some(settings);
        self.arm(channel);
        true
    }

    /// What is known of upstream; none where the channel is not there.
    #[must_use]
    pub fn above(&self, channel: &Channel) -> Option<Above> {
        let requester = &self.channels.get(channel)?.requester;
        let parent = requester.parent();
        Some(Above {
            token: requester.token(),
            verdict: requester.verdict(),
            app_port: requester.app_port(),
            parent: parent.and_then(|parent| parent.own_address),
            path: parent.map_or(Path::EMPTY, |parent| parent.path),
        })
    }

    /// Gives a channel up: its requesters are refused for the moment, once, and are gone.
    /// The requester, to leave upstream; none where it was not attached.
    pub fn detach(
        &mut self,
        now: Time,
        channel: &Channel,
        out: &mut Outbox,
    ) -> Option<Box<Requester>> {
        let mut state = self.channels.remove(channel)?;
        let told = ChannelState {
            verdict: Verdict::RefusedPassing,
            reason: Reason::Overload,
            token: None,
            ..state.state
        };
        let mut voice = self.gate.voice(now, *channel, told, out);
        state.audience.dismiss(&mut voice);
        self.gate.settle(&mut state.audience);
        self.forget(*channel);
        state.lent.map(|_| Box::new(state.requester))
    }

    /// Whether a request is of an entry of ours, or of one that left lately.
    #[must_use]
    pub fn knows(&self, header: &Header) -> bool {
        let channel = self.channels.get(&header.channel);
        channel.is_some_and(|c| c.audience.knows(header.nonce))
    }

    /// The channels that somebody waits for, and that are not attached.
    #[must_use]
    pub fn unattached(&self) -> Vec<Channel> {
        let waits = |c: &RelayChannel| c.lent.is_none() && !c.audience.is_empty();
        let channels = self.channels.iter().filter(|(_, c)| waits(c));
        channels.map(|(channel, _)| *channel).collect()
    }

    /// Whether nobody is in the channel's audience; none where it is not there.
    #[must_use]
    pub fn is_deserted(&self, channel: &Channel) -> Option<bool> {
        let state = self.channels.get(channel)?;
        Some(state.audience.is_empty())
    }

    /// One of them, for people.
    #[must_use]
    pub fn summary(&self, now: Time, channel: &Channel) -> Option<ChannelSummary> {
        let state = self.channels.get(channel)?;
        Some(state.summary(now, *channel))
    }
}
