//! Channels of this process: the socket their streams leave from, who answers
//! requests on FP, and the audience.
//!
//! ```text
//!  application threads                        background thread (private descriptors)
//!  SendingChannel::send ─► line ─► F ─► all   FP or the owner's connection ─► engine
//!            └────────── node: the engine's sender, one lock ──────────┘
//! ```
//! In a network namespace one process receives on FP, the owner; other sender
//! processes are its members and are handed the requests for their channels. Each
//! sends its own stream; token, sequence, cookies and audience are its own, so they
//! outlive any owner.
//!
//! Promises: nobody there is no error; a blocked send blocks nobody else; nothing is
//! queued but by [`SendingChannel::send_soon`]. Is not capture (the relay), nor the meaning of addresses (`rules`).

mod admission;
mod bell;
mod control;
mod dispatch;
mod ears;
mod error;
mod finish;
mod holder;
mod kin;
mod kinship;
mod line;
mod listening;
mod load;
mod local;
mod member;
mod names;
mod node;
mod ours;
mod out;
mod owner;
mod pace;
mod passing;
mod peer;
mod place;
mod queue;
mod registry;
mod rest;
mod served;
mod voice;
mod worker;

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::{ChannelSummary, Counters, NodeSettings};
use flexcast_udp::Errno;
use flexcast_wire::{Channel, ChannelId, NodeId, FLEXCAST_PORT};

use crate::background::{forget_threads, now, Background};
use control::{Command, Controller};
use line::{Line, Patience};
use listening::Listens;
use node::Node;
use voice::Voice;

pub use admission::{Applicant, Guard};
pub use error::{Holder, SendError};
pub use line::{LineCounters, Sent};
pub use listening::{Delivery, Limits, Listening, Scope, MAX_BACKLOG};
pub use node::Standing;
pub use passing::{Passing, Tie};
pub use served::is_served;
pub use voice::is_internal;

/// How long the end of a stream waits for what is queued, which a full send buffer of a
/// slow link may hold up. Longer: close takes longer there; shorter: more is lost.
const FAREWELL: Duration = Duration::from_secs(1);

/// How this process sends.
#[derive(Clone, Debug)]
pub struct SendSettings {
    /// The port of requests, the same in a whole network.
    pub fp: u16,
    /// What is admitted.
    pub node: NodeSettings,
}

impl Default for SendSettings {
    fn default() -> Self {
        SendSettings {
            fp: FLEXCAST_PORT,
            node: NodeSettings::sender(),
        }
    }
}

/// The sending half of this process.
#[derive(Debug)]
pub struct Sending {
    node: Arc<Node>,
    background: Background<Command>,
}

/// For people.
#[derive(Clone, Debug)]
pub struct SendReport {
    /// The node's id.
    pub node: NodeId,
    /// Who receives on FP.
    pub standing: Standing,
    /// Channels with their requesters, those that nobody opened included.
    pub channels: Vec<ChannelSummary>,
    /// What was counted for each channel that was opened here.
    pub lines: Vec<(ChannelId, LineCounters)>,
    /// What was counted of control.
    pub counters: Counters,
}

impl Sending {
    /// Becomes the owner of FP, or a member of its owner. Takes up to 2 s where the
    /// owner is stopped, and is then overtaken.
    ///
    /// # Errors
    /// [`SendError::Held`] where FP is somebody's who does not share it with us.
    pub fn start(settings: SendSettings) -> Result<Arc<Sending>, SendError> {
        let fp = settings.fp;
        // Tried here first, so that a failure leaves no thread behind.
        match Voice::new(fp) {
            Ok(voice) => drop(voice),
            Err(Errno::EADDRINUSE) => {
                let holder = place::stranger(fp).unwrap_or_else(|| holder::of_port(fp));
                return Err(SendError::Held { port: fp, holder });
            }
            Err(errno) => return Err(SendError::system("a socket on FP")(errno)),
        }
        let node = Arc::new(Node::new(fp, settings.node));
        let theirs = node.clone();
        let background = Background::start("flexcast-send", move |epoll| {
            Controller::new(theirs, epoll, now())
        })
        .map_err(SendError::system("the sending thread"))?;
        let _ = node.background.set(background.clone());
        let sending = Arc::new(Sending { node, background });
        let settled = sending.background.ask(Command::Settled);
        settled.map_err(SendError::system("finding the owner of FP"))??;
        Ok(sending)
    }

    /// Opens a channel: whoever waits for it is granted before this returns. For a
    /// channel that is open already: the same one.
    ///
    /// # Errors
    /// [`SendError::System`] where the sending thread does not answer.
    pub fn open(
        self: &Arc<Self>,
        channel: Channel,
        app_port: u16,
    ) -> Result<SendingChannel, SendError> {
        self.node.closing.store(false, Ordering::Relaxed);
        let opened = |node: &Node| {
            let mut state = node.lock();
            let line = state.lines.get(&channel.id)?.clone();
            let remote = line.remote.load(Ordering::Acquire);
            if line.ended.load(Ordering::Acquire) {
                return None;
            }
            if !(remote || state.sender.is_open(channel.id)) {
                return None;
            }
            if !remote {
                state.sender.open(now(), channel, app_port);
            }
            Some(line)
        };
        let line = match opened(&self.node) {
            Some(line) => line,
            None => {
                let outcome = self.background.ask(|reply| Command::Open {
                    channel,
                    app_port,
                    reply,
                });
                outcome.map_err(SendError::system("opening a channel"))??;
                line::of(&mut self.node.lock(), channel.id)
            }
        };
        line.prepare(&self.node, channel.sender);
        Ok(SendingChannel {
            node: self.node.clone(),
            line,
            channel,
        })
    }

    /// Receivers at and below the requesters of a channel, opened or not.
    #[must_use]
    pub fn receivers(&self, id: ChannelId) -> u64 {
        self.node.lock().receivers(id)
    }

    /// Waits until the channel, opened or not, has that many receivers; whether it has.
    #[must_use]
    pub fn wait_for(&self, id: ChannelId, receivers: u64, limit: Duration) -> bool {
        self.node.post(Command::Watch { id });
        self.node.wait_for(id, receivers, limit)
    }

    /// Before a fork, whose parent may leave at once: what is queued leaves first, within
    /// a quarter of a second.
    pub fn flush(&self) {
        finish::flush(&self.node);
    }

    /// At exit and before exec: every channel ends, said once, at once, from this
    /// thread; nobody is waited for. Takes less than 50 ms; where datagrams are queued
    /// ([`SendingChannel::send_soon`]), and held up, up to a quarter of a second more.
    pub fn finish(&self) {
        finish::finish(&self.node);
    }

    /// Requests that there was no room for.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.node.lock().sender.counters().refused_full
    }

    /// What there is, for people.
    #[must_use]
    pub fn report(&self) -> SendReport {
        let state = self.node.lock();
        let lines = state.lines.iter();
        SendReport {
            node: state.sender.node(),
            standing: state.standing,
            channels: state.sender.summaries(now()),
            lines: lines.map(|(id, line)| (*id, line.counters())).collect(),
            counters: state.sender.counters().clone(),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.background.post(Command::Quit);
    }
}

/// An open channel; clones are the same channel.
#[derive(Clone, Debug)]
pub struct SendingChannel {
    node: Arc<Node>,
    line: Arc<Line>,
    channel: Channel,
}

impl SendingChannel {
    /// Which channel.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// Sends datagrams, each given in parts, to the whole audience. Nobody there:
    /// counted, no error. Where the send buffer is full, `block` waits, and without it
    /// the caller helps for at most 10 ms, and then the rest is dropped and counted.
    ///
    /// # Errors
    /// `EMSGSIZE` for a body above 65 491 bytes (IPv6: 65 511), and then nothing was
    /// sent; `EPIPE` where the channel has ended. Never `EAGAIN`, never `ENOBUFS`.
    pub fn send(&self, datagrams: &[&[&[u8]]], block: bool) -> Result<Sent, Errno> {
        let (node, sender) = (&self.node, self.channel.sender);
        self.line
            .send(node, sender, datagrams, &node.fan, Patience::of(block))
    }

    /// As [`SendingChannel::send`]; where the program sends faster than its datagrams can
    /// leave one by one, or while another thread is sending, they leave soon after this
    /// has returned (none then), as one batch with what else has come by then: once that
    /// is a batch, or 0.2 ms later. What a full queue has no room for, `block` waits with.
    ///
    /// # Errors
    /// As there. What befalls a datagram later is counted.
    pub fn send_soon(&self, datagrams: &[&[&[u8]]], block: bool) -> Result<Option<Sent>, Errno> {
        let (node, sender) = (&self.node, self.channel.sender);
        self.line
            .send_soon(node, sender, datagrams, Patience::of(block))
    }

    /// Waits until what is queued at this moment has left; at most for so long.
    pub fn flush(&self, limit: Duration) {
        let node = &self.node;
        self.line.flush(node, &node.fan, limit);
    }

    /// Receivers at and below the channel's requesters.
    #[must_use]
    pub fn receivers(&self) -> u64 {
        self.node.lock().receivers(self.channel.id)
    }

    /// Ends the stream, after what is queued: said three times, in the background.
    /// Opening the channel again begins a new stream.
    pub fn end(&self) {
        self.line.ended.store(true, Ordering::Release);
        self.flush(FAREWELL);
        self.node.post(Command::End {
            id: self.channel.id,
        });
    }

    /// Whether requesters on this host get the stream (`IP_MULTICAST_LOOP`).
    pub fn set_loop(&self, on: bool) {
        self.line.unlooped.store(!on, Ordering::Relaxed);
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> LineCounters {
        self.line.counters()
    }
}

/// In the child of a fork, instead of any other call: closes the copies of F and
/// forgets them, without a lock. What the parent had of this module must then be
/// leaked (`std::mem::forget`), and be started anew.
pub fn forget_after_fork() {
    admission::forget_after_fork();
    worker::forget();
    voice::forget_numbers();
    forget_threads();
}
