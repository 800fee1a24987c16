//! Sockets of the application's that get streams.
//!
//! ```text
//!   application's table                 background thread, a table of its own
//!   D, a plain UDP socket ◄── filter ── Receiver: C, requesters, timers
//!   recv, poll, epoll: the kernel's     C ◄─ status, challenge ─ S:FP
//!                                       C ── request ──────────► S:FP
//! ```
//! Promises: D keeps its number and stays an ordinary bound socket that shows the
//! payload alone; nothing of ours runs per datagram on the kernel path; control and
//! forged datagrams never wake a reader. Is not the hooks that make a program's
//! joins into these calls (`preload`).

mod adopt;
mod asked;
mod bytes;
mod call;
mod farewell;
mod forwarding;
mod identity;
mod inheritance;
mod passer;
mod process_wide;
mod reach;
mod reading;
mod receiver;
mod shared;
mod sources;
mod tied;
mod tools;
mod worker;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use flexcast_engine::RequesterSettings;
use flexcast_udp::filter::Untrailed;
use flexcast_udp::{sockopt, Errno};
use flexcast_wire::{Channel, Reason, Verdict};

pub use inheritance::{Inheritance, Inherited};
pub use process_wide::{forget_after_fork, inherit_all, leave_all, share_all};
pub use reading::Read;
pub(crate) use tied::Upward;

use process_wide::Process;
use receiver::{Filtered, Plan};
use shared::Shared;
use worker::Command;

use crate::across_forks::forks;
use crate::send::Tie;

/// The most channels of one socket.
pub const MAX_CHANNELS: usize = 64;

/// How long a receive call waits for the port of a sender that has just begun.
const CATCH_UP: Duration = Duration::from_millis(20);

/// Which way the stream takes to a socket (`FLEXCAST_PATH`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Path {
    /// The kernel's, wherever it works or nothing speaks against it.
    #[default]
    Auto,
    /// The kernel's, or an error.
    Kernel,
    /// Through user space.
    User,
}

/// The way that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathInUse {
    /// The kernel strips, sorts and drops.
    Kernel,
    /// The background thread does, and hands on over loopback.
    User,
}

/// How sockets receive.
#[derive(Clone, Debug)]
pub struct ReceiveSettings {
    /// The port of requests.
    pub fp: u16,
    /// Which way the stream takes.
    pub path: Path,
    /// How channels are asked for.
    pub requester: RequesterSettings,
}

/// How one channel is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asking {
    /// S:FP, or VIA:FP.
    pub at: SocketAddr,
    /// No data as long as the stream token is not known: nothing can be injected
    /// then, but a new sender's first datagrams are lost.
    pub strict: bool,
}

/// A receiving socket, as it stands.
#[derive(Clone, Debug)]
pub struct ReceiveReport {
    /// Which way the stream takes.
    pub path: PathInUse,
    /// Datagrams that D's queue had no room for; none where D cannot be asked.
    pub drops: Option<u32>,
    /// What it asks for.
    pub channels: Vec<ChannelReport>,
}

/// One channel of a receiving socket.
#[derive(Clone, Debug)]
pub struct ChannelReport {
    /// Which.
    pub channel: Channel,
    /// Who is asked.
    pub asked: SocketAddr,
    /// The last verdict, and why; none before the first answer.
    pub verdict: Option<(Verdict, Reason)>,
    /// The own address of the node that feeds us, where it has told it.
    pub parent: Option<IpAddr>,
    /// The nodes from S down to it.
    pub nodes: flexcast_wire::Path,
    /// Whether data must carry the stream token by now.
    pub token_known: bool,
    /// The port of the sender's own socket; 0 unknown.
    pub app_port: u16,
    /// Counts by sequence; unknown on the kernel path, where no code of ours sees
    /// the stream.
    pub counts: Option<ChannelCounts>,
}

/// Counts under the present stream token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelCounts {
    /// Datagrams received, second copies left out.
    pub received: u64,
    /// Datagrams missing by sequence.
    pub lost: u64,
    /// Datagrams that loopback refused on the way to the program's socket.
    pub refused: u64,
}

/// A socket of the application's that gets streams. Clones are the same socket.
#[derive(Clone, Debug)]
pub struct ReceivingSocket(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    plan: Plan,
    /// By how many forks the process lies behind the first one that knows of it.
    known: AtomicU64,
}

impl ReceivingSocket {
    fn new(shared: Arc<Shared>, plan: Plan) -> ReceivingSocket {
        let handle = Arc::new(Handle {
            shared,
            plan,
            known: AtomicU64::new(forks()),
        });
        process_wide::note(&handle);
        ReceivingSocket(handle)
    }

    /// Whether this process was forked, and its receiving half does not know of the
    /// socket yet.
    fn is_news(&self) -> bool {
        self.0.known.load(Ordering::Acquire) != forks()
    }

    /// The receiving half of this process, which knows of the socket.
    fn process(&self) -> Result<Arc<Process>, Errno> {
        let process = Process::get()?;
        if self.is_news() {
            process.begin(&self.0.shared, &self.0.plan, true)?;
            self.0.known.store(forks(), Ordering::Release);
        }
        Ok(process)
    }

    /// Makes a receiving socket of `raw`, a bound UDP socket in the caller's
    /// descriptor table, not connected. `SO_REUSEPORT` is set on it, C is bound
    /// beside it, the selector attached. No stream yet.
    ///
    /// # Errors
    /// `EBADF`, `ENOTSOCK`, `EPROTOTYPE`, `EAFNOSUPPORT` for what is no UDP socket,
    /// `EINVAL` unbound, `EISCONN` connected, `EALREADY` where it is one already;
    /// `EOPNOTSUPP` where the path through
    /// user space is wanted or needed and the socket is bound to an interface;
    /// with `Path::Kernel` whatever kept C from being bound.
    pub fn adopt(
        raw: i32,
        settings: &ReceiveSettings,
        untrailed: Untrailed,
    ) -> Result<ReceivingSocket, Errno> {
        adopt::adopt(raw, settings, untrailed)
    }

    /// As [`ReceivingSocket::adopt`], for a socket whose program reads by
    /// [`ReceivingSocket::read`]: only streams are delivered, with their trailers.
    ///
    /// # Errors
    /// As there.
    pub fn adopt_reader(raw: i32, settings: &ReceiveSettings) -> Result<ReceivingSocket, Errno> {
        adopt::adopt_reader(raw, settings)
    }

    fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(u64, crate::background::Reply<T>) -> Command,
    ) -> Result<T, Errno> {
        let id = self.0.shared.id;
        self.process()?.background.ask(|reply| command(id, reply))
    }

    fn settle(&self, filtered: Filtered) {
        if let Ok(process) = self.process() {
            process.refilter(self.0.shared.id, filtered);
        }
    }

    /// Asks for a channel from now on. D's filter admits its stream when this
    /// returns.
    ///
    /// # Errors
    /// `EADDRINUSE` twice, `ENOBUFS` above 64 channels, `EAFNOSUPPORT` where the
    /// socket cannot hear that address, `EBADF` where it is gone.
    pub fn join(&self, channel: Channel, asking: Asking) -> Result<(), Errno> {
        self.begin(channel, asking, None)
    }

    /// As [`ReceivingSocket::join`], for a program that calls `peer`, which is S and the
    /// port that it knows: receive calls show it. An end of the stream is told by one
    /// empty datagram, 200 ms after it or before the next stream, and a final refusal by
    /// `ECONNREFUSED`, whatever call the program waits in. A stream that was never granted
    /// here has no end.
    ///
    /// # Errors
    /// As there.
    pub fn call(&self, channel: Channel, asking: Asking, peer: SocketAddr) -> Result<(), Errno> {
        self.begin(channel, asking, Some(peer))
    }

    fn begin(
        &self,
        channel: Channel,
        asking: Asking,
        peer: Option<SocketAddr>,
    ) -> Result<(), Errno> {
        let joined = self.ask(|id, reply| Command::Join(id, channel, asking, peer, reply))?;
        self.settle(joined?);
        Ok(())
    }

    /// Asks for the channel of an accepted socket, in the stead of its audience. What is
    /// read then are whole datagrams, trailers and ends of stream included, for that one
    /// to send; the end is read when its audience is gone.
    ///
    /// # Errors
    /// As [`ReceivingSocket::join`]; `EINVAL` where it is no reading socket, `EPIPE`
    /// where the audience is gone, `EALREADY` where it is asked for already,
    /// `EOPNOTSUPP` where it is the parent's of this process.
    pub fn join_for(&self, tie: &Tie, asking: Asking) -> Result<(), Errno> {
        let reading = self.0.shared.reading.as_ref().ok_or(Errno::EINVAL)?;
        if tie.is_inherited() {
            return Err(Errno::EOPNOTSUPP);
        }
        reading.set_whole();
        let background = self.process()?.background.clone();
        let (tie, up) = (tie.clone(), Upward::new(background, self.0.shared.id));
        let joined = self.ask(|id, reply| Command::JoinFor(id, tie, up, asking, reply))?;
        self.settle(joined?);
        Ok(())
    }

    /// Asks for it no longer; its stream is not delivered any more when this returns.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` where it was not asked for, `EBADF` where the socket is gone.
    pub fn leave(&self, channel: &Channel) -> Result<(), Errno> {
        let left = self.ask(|id, reply| Command::Leave(id, *channel, reply))?;
        self.settle(left?);
        Ok(())
    }

    /// The channels asked for.
    #[must_use]
    pub fn channels(&self) -> Vec<Channel> {
        self.ask(Command::Channels).unwrap_or_default()
    }

    /// The emulation of connect: only this source is delivered (port 0: any port),
    /// compared with what the program sees, S and the port of the sender's own
    /// socket. None undoes it.
    pub fn only_from(&self, source: Option<SocketAddr>) {
        if let Ok(filtered) = self.ask(|id, reply| Command::OnlyFrom(id, source, reply)) {
            self.settle(filtered);
        }
    }

    /// What becomes of datagrams that are not ours.
    pub fn set_untrailed(&self, untrailed: Untrailed) {
        if let Ok(filtered) = self.ask(|id, reply| Command::SetUntrailed(id, untrailed, reply)) {
            self.settle(filtered);
        }
    }

    /// What the socket is to its program: a number of the caller's, carried in the
    /// filter for whoever takes the socket over ([`Inheritance::role`]).
    pub fn set_role(&self, role: u8) {
        if let Ok(filtered) = self.ask(|id, reply| Command::SetRole(id, role, reply)) {
            self.settle(filtered);
        }
    }

    /// What a receive call shows: S:FP (or VIA:FP) becomes S and the port of the
    /// sender's own socket (S:FP while it is unknown); others are unchanged. Takes no
    /// lock and makes no system call.
    #[must_use]
    pub fn source_of(&self, from: SocketAddr) -> SocketAddr {
        self.0.shared.sources.show(from)
    }

    /// Whether a stream may have begun whose grant, which came before its first
    /// datagram, was not taken in yet: then [`ReceivingSocket::source_of`] shows S:FP
    /// where [`ReceivingSocket::catch_up`] would make it show the sender's own port.
    /// Takes no lock and makes no system call.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.0.shared.is_unsettled()
    }

    /// Returns when all control that had come is taken in, after 20 ms at most.
    pub fn catch_up(&self) {
        let id = self.0.shared.id;
        if let Ok(process) = self.process() {
            let hear = |reply| Command::Hear(id, reply);
            let _ = process.background.ask_within(CATCH_UP, hear);
        }
    }

    /// Whether [`ReceivingSocket::source_of`] can tell all senders of this socket
    /// apart. Not so where two channels of one S, or of one VIA, have senders with
    /// ports of their own, as long as the stream takes the kernel's path. Takes no
    /// lock and makes no system call.
    #[must_use]
    pub fn tells_apart(&self) -> bool {
        !self.0.shared.is_ambiguous()
    }

    /// For a program that looks at addresses, where they are not told apart: the
    /// stream takes the path through user space from now on, where they are. What is
    /// queued is not changed; nothing is lost.
    ///
    /// # Errors
    /// `EALREADY` where it takes that path; `EOPNOTSUPP` where the kernel's is forced
    /// or the socket is bound to an interface; as socket(2).
    pub fn tell_apart(&self) -> Result<(), Errno> {
        self.ask(Command::TellApart)?
    }

    /// Whether `raw` is this very kernel socket.
    #[must_use]
    pub fn is(&self, raw: i32) -> bool {
        self.0.shared.bound.identity.is(raw)
    }

    /// One more number of the application's table names the socket (dup, dup2 ...).
    pub fn add_number(&self, raw: i32) {
        self.0.shared.numbers.add(raw);
    }

    /// One number fewer.
    pub fn remove_number(&self, raw: i32) {
        self.0.shared.numbers.remove(raw);
    }

    /// To be called after the application's last known number was closed in the
    /// kernel. The socket is gone: leaves are sent and its port is free when this
    /// returns, true. So it does where another process has taken it over, which was its
    /// parent's or its child's. Still there (another process holds it): no leave, false.
    #[must_use]
    pub fn closed(&self) -> bool {
        if self.0.shared.is_over() {
            return true;
        }
        self.ask(Command::Closed).unwrap_or(false)
    }

    /// The socket as it stands; without channels where it is gone.
    #[must_use]
    pub fn report(&self) -> ReceiveReport {
        let report = self.ask(Command::Report).ok().flatten();
        report.unwrap_or(ReceiveReport {
            path: self.0.plan.path,
            drops: None,
            channels: Vec::new(),
        })
    }
}

/// What a predecessor left in the filter of `raw`, a socket that came by exec or from
/// another process; none where it was no receiving socket.
#[must_use]
pub fn inherited(raw: i32) -> Option<Inheritance> {
    let program = sockopt::read_filter(raw).ok().flatten()?;
    Inheritance::read(&program.passengers())
}
