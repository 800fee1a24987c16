//! The channels that this process pushes to, and the sender that they share.
//!
//! ```text
//!   named ── first use ──► open ── wait over (once) ──► sends
//!                           ▲            SHUT_WR ──► ended ─┐
//!                           └───────── next use ────────────┘
//! ```
//! Promises: opening never fails for the program: without FP datagrams are dropped,
//! counted and said once, and it is tried again each second. Is not the audience
//! (`runtime`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flexcast_rules::{EmptyPolicy, Rule};
use flexcast_runtime::kernel::{sleep_us, sockopt};
use flexcast_runtime::send::{self, SendSettings, Sending, SendingChannel};
use flexcast_runtime::{Errno, NodeSettings};
use flexcast_wire::{Channel, ChannelId};
use libc::c_int;

use super::datagrams::{split, Message};
use crate::hook::Verdict;
use crate::life::{lock, PerProcess};
use crate::world::{self, World};

/// How long one look at a wait lasts: a cancelled thread is noticed after it.
const SLICE: Duration = Duration::from_millis(100);
/// How long after a failed start the next is tried.
const RETRY: Duration = Duration::from_secs(1);
/// Groups of others' that are said to be dropped; more are only counted.
const MOST_TOLD: usize = 256;

#[derive(Debug, Default)]
struct Channels {
    sender: Mutex<Sender>,
    pushed: Mutex<BTreeMap<ChannelId, Arc<Pushed>>>,
    told: Mutex<BTreeSet<SocketAddr>>,
    foreign: AtomicU64,
}

#[derive(Debug, Default)]
struct Sender {
    running: Option<Arc<Sending>>,
    failed: Option<Instant>,
    said: bool,
}

/// Whether there is, or was, a sender in this process.
static STARTED: AtomicBool = AtomicBool::new(false);
static CHANNELS: PerProcess<Channels> = PerProcess::new();

/// Whether a channel is open, or when that last failed.
#[derive(Debug, Default)]
struct Opened {
    channel: Option<SendingChannel>,
    failed: Option<Instant>,
}

/// A channel that the program pushes to.
#[derive(Debug)]
pub(crate) struct Pushed {
    channel: Channel,
    /// Where the program sends.
    to: SocketAddr,
    app_port: u16,
    empty: EmptyPolicy,
    open: Mutex<Opened>,
    looped: AtomicBool,
    waited: AtomicBool,
    /// When it was first used: the one wait counts from here.
    since: Instant,
}

/// The channel of what is sent to `to`, opened where it can be; `app_port` is the
/// sending socket's.
pub(super) fn pushed(
    to: SocketAddr,
    channel: Channel,
    app_port: u16,
    empty: EmptyPolicy,
) -> Arc<Pushed> {
    let pushed = lock(&CHANNELS.get().pushed)
        .entry(channel.id)
        .or_insert_with(|| {
            Arc::new(Pushed {
                channel,
                to,
                app_port,
                empty,
                open: Mutex::default(),
                looped: AtomicBool::new(true),
                waited: AtomicBool::new(!matches!(empty, EmptyPolicy::Wait { .. })),
                since: Instant::now(),
            })
        })
        .clone();
    pushed.open();
    pushed
}

/// A datagram to a group whose senders are others.
pub(super) fn count_foreign(world: &World, to: SocketAddr) {
    let channels = CHANNELS.get();
    channels.foreign.fetch_add(1, Ordering::Relaxed);
    let mut told = lock(&channels.told);
    if told.len() < MOST_TOLD && told.insert(to) {
        let rule = world
            .map()
            .look_up(to)
            .map_or(String::new(), Rule::to_string);
        ::log::warn!("datagrams to {to} are dropped: this host is no sender of rule {rule}");
    }
}

/// The process ends: every stream does, bounded.
pub(crate) fn finish() {
    let Some(channels) = CHANNELS.made() else {
        return;
    };
    // Another thread may be starting it: an exit does not wait for that.
    let sender = channels.sender.try_lock().ok();
    let running = sender.and_then(|sender| sender.running.clone());
    if let Some(sending) = running {
        sending.finish();
    }
    match channels.foreign.load(Ordering::Relaxed) {
        0 => {}
        count => ::log::info!("{count} datagrams to groups of other senders were dropped"),
    }
}

/// In a forked child: the parent's sender is left as it is.
pub(crate) fn forget() {
    CHANNELS.forget();
    STARTED.store(false, Ordering::Relaxed);
    send::forget_after_fork();
}

/// Whether `fd` is the number of a socket that the streams leave from: the program,
/// which does not know of it, cannot mean it.
#[inline(always)]
pub(crate) fn is_internal(fd: c_int) -> bool {
    STARTED.load(Ordering::Relaxed) && send::is_internal(fd)
}

/// The sender of this process, started where it can be.
pub(crate) fn sending() -> Option<Arc<Sending>> {
    let mut sender = lock(&CHANNELS.get().sender);
    if let Some(running) = &sender.running {
        return Some(running.clone());
    }
    if sender.failed.is_some_and(|at| at.elapsed() < RETRY) {
        return None;
    }
    let settings = SendSettings {
        fp: world::world()?.settings().port(),
        node: NodeSettings::sender(),
    };
    STARTED.store(true, Ordering::Relaxed);
    match Sending::start(settings) {
        Ok(running) => {
            sender.running = Some(running.clone());
            Some(running)
        }
        Err(fault) => {
            sender.failed = Some(Instant::now());
            if !std::mem::replace(&mut sender.said, true) {
                ::log::error!("nothing can be sent, datagrams are dropped: {fault}");
            }
            None
        }
    }
}

/// As channels are named on the command line, and what the program calls it.
impl fmt::Display for Pushed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.channel.sender {
            any if any.is_unspecified() => write!(to, "channel self#{}", self.channel.id)?,
            _ => write!(to, "channel {}", self.channel)?,
        }
        write!(to, " (to {})", self.to)
    }
}

impl Pushed {
    /// S.
    pub(super) fn sender(&self) -> IpAddr {
        self.channel.sender
    }

    fn open(&self) -> Option<SendingChannel> {
        let mut open = lock(&self.open);
        if open.channel.is_none() && open.failed.is_none_or(|at| at.elapsed() >= RETRY) {
            match sending()?.open(self.channel, self.app_port) {
                Ok(channel) => {
                    ::log::info!("{self} is open");
                    if !self.looped.load(Ordering::Relaxed) {
                        channel.set_loop(false);
                    }
                    open.channel = Some(channel);
                }
                Err(fault) => {
                    if open.failed.replace(Instant::now()).is_none() {
                        ::log::error!("{self} cannot be opened: {fault}");
                    }
                }
            }
        }
        open.channel.clone()
    }

    /// IP_MULTICAST_LOOP.
    pub(super) fn set_loop(&self, on: bool) {
        self.looped.store(on, Ordering::Relaxed);
        if let Some(channel) = &lock(&self.open).channel {
            channel.set_loop(on);
        }
    }

    /// SHUT_WR.
    pub(super) fn end(&self) {
        let open = lock(&self.open).channel.take();
        if let Some(channel) = open {
            ::log::info!("{self} ends");
            channel.end();
        }
    }

    /// The wait of `empty=wait`, a slice of it; true when it is over.
    pub(super) fn wait(&self) -> bool {
        let EmptyPolicy::Wait { receivers, limit } = self.empty else {
            return true;
        };
        if self.waited.load(Ordering::Acquire) {
            return true;
        }
        let left = limit.saturating_sub(self.since.elapsed());
        let slice = left.min(SLICE);
        let there = match (self.open(), sending()) {
            (Some(_), Some(s)) => s.wait_for(self.channel.id, u64::from(receivers), slice),
            _ => {
                sleep_us(u64::try_from(slice.as_micros()).unwrap_or(0));
                false
            }
        };
        if there || left <= SLICE {
            self.waited.store(true, Ordering::Release);
            return true;
        }
        false
    }

    /// Sends messages that have the same destination; how many were sent is put into
    /// `sent`. `segment`: the socket's UDP_SEGMENT.
    pub(super) fn send(
        &self,
        fd: c_int,
        messages: &[Message<'_>],
        segment: usize,
        flags: c_int,
        sent: &mut usize,
    ) -> Verdict {
        if !self.wait() {
            return Verdict::Again;
        }
        let datagrams = split(messages, segment, self.channel.sender);
        if datagrams.is_empty() {
            return Verdict::Fail(libc::EMSGSIZE);
        }
        *sent = datagrams.len();
        let channel = self.open();
        let heard = channel.as_ref().is_some_and(|c| c.receivers() > 0);
        if self.empty == EmptyPolicy::Error && !heard {
            let missing = channel.map_or(libc::ENETUNREACH, |_| libc::ECONNREFUSED);
            return Verdict::Fail(missing);
        }
        if let Some(channel) = channel {
            let flat: Vec<&[&[u8]]> = datagrams.iter().flatten().map(Vec::as_slice).collect();
            match channel.send(&flat, may_wait(fd, flags)) {
                Ok(_) => {}
                Err(Errno::EMSGSIZE) => return Verdict::Fail(libc::EMSGSIZE),
                Err(error) => ::log::debug!("{self}: {error}"),
            }
        }
        Verdict::Done(messages[0].answer())
    }
}

/// Whether a send call may wait for room.
pub(crate) fn may_wait(fd: c_int, flags: c_int) -> bool {
    flags & libc::MSG_DONTWAIT == 0 && !sockopt::is_nonblocking(fd).unwrap_or(false)
}
