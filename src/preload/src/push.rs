//! The role *pushes*: what a program sends to a mapped address whose sender is this
//! host goes once to the channel's whole audience.
//!
//! ```text
//!   destination ─┬─ a channel of ours ──────────────► channel (wait once, send)
//!                ├─ a call (`call`) ────────────► kernel, to S and the port
//!                ├─ a mapped group, others send ────► dropped, counted, said once
//!                ├─ a named group on no named port ─► kernel, its lack of multicast hidden
//!                └─ else ───────────────────────────► kernel
//!   accepted socket ──────────────────────────────► its delivery (`listen`)
//! ```
//! Promises: multicast manners (nobody there is no error, unless `empty=error`); never
//! EAGAIN or ENOBUFS; the kernel socket of a sender is never connected and always has
//! a port of its own. Is not the fan-out (`runtime`).

mod channel;
mod connection;
mod datagrams;
mod local;

use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};

use flexcast_rules::Push;
use flexcast_runtime::kernel::sockopt;
use flexcast_wire::{Channel, ChannelId};
use libc::c_int;

pub(crate) use channel::{finish, forget, is_internal, may_wait, sending};
pub(crate) use connection::{connect, disconnect, shutdown};
pub(crate) use datagrams::{length, split, Message};

use crate::hook::Verdict;
use crate::join::Called;
use crate::life::lock;
use crate::listen::Accepted;
use crate::name::{Family, Name};
use crate::socket::Socket;
use crate::world::{self, World};
use crate::{call, marks, table};
use channel::Pushed;

/// What this role keeps about a socket.
#[derive(Debug, Default)]
pub(crate) struct Pushing {
    /// Its port is real, its options were read.
    prepared: bool,
    /// Where it is connected to, as far as the program knows.
    connected: Option<Target>,
    /// The last destination's meaning, and the address list that it was derived from.
    recent: Option<(SocketAddr, u64, Target)>,
    /// Shut down for writing.
    shut: bool,
    /// `UDP_SEGMENT`; 0: off.
    segment: usize,
    /// `IP_MULTICAST_LOOP` is off.
    quiet_at_home: bool,
    /// Parts kept back by MSG_MORE.
    held: Vec<u8>,
}

/// What a destination means.
#[derive(Clone, Debug)]
enum Target {
    Kernel,
    KernelQuietly,
    /// Others send there.
    Nobody,
    /// A named group, in a kernel without multicast.
    Nowhere,
    /// A call: there, as unicast.
    Called(SocketAddr),
    /// Where the parent process had connected it.
    Inherited,
    Channel(Arc<Pushed>),
    /// An accepted socket: its audience, and nobody else.
    Delivery(Arc<Accepted>),
    /// The parent process had accepted it: the audience is the parent's.
    Elsewhere,
}

/// A destination's meaning before a channel is opened for it.
enum Meaning {
    Kernel,
    KernelQuietly,
    Nobody,
    Call(Called),
    Own(Channel),
}

fn meaning(world: &World, to: SocketAddr, socket: Option<(&Socket, c_int)>) -> Meaning {
    if let Some(called) = call::wanted(world, to, false) {
        return Meaning::Call(called);
    }
    let source = socket.and_then(|(socket, fd)| local::chosen(socket, fd));
    match world.map().push(to, &|ip| world.is_local(ip), source) {
        Push::NotMapped if world.map().names_group(to.ip()) => Meaning::KernelQuietly,
        Push::NotMapped | Push::Calls { .. } => Meaning::Kernel,
        Push::Foreign { .. } => Meaning::Nobody,
        Push::Own {
            channel_ids: id,
            sender,
            ..
        } => Meaning::Own(own_channel(to, sender, id)),
    }
}

/// Without a chosen address any of this host's is S.
fn own_channel(to: SocketAddr, sender: Option<std::net::IpAddr>, id: ChannelId) -> Channel {
    let family = match to.ip().to_canonical() {
        std::net::IpAddr::V4(_) => Family::V4,
        std::net::IpAddr::V6(_) => Family::V6,
    };
    Channel::new(sender.unwrap_or(family.any()), id)
}

impl Pushing {
    /// What a forked child goes on with: channels are its own to open.
    pub(crate) fn inherited(&self) -> Pushing {
        let connected = self.connected.as_ref().map(|target| match target {
            Target::Delivery(_) | Target::Elsewhere => Target::Elsewhere,
            _ => Target::Inherited,
        });
        Pushing {
            connected,
            shut: self.shut,
            ..Pushing::default()
        }
    }

    /// What an accepted socket begins with.
    pub(crate) fn accepted(delivery: Arc<Accepted>) -> Pushing {
        Pushing {
            prepared: true,
            connected: Some(Target::Delivery(delivery)),
            ..Pushing::default()
        }
    }

    /// The delivery of an accepted socket.
    pub(crate) fn delivery(&self) -> Option<&Arc<Accepted>> {
        match &self.connected {
            Some(Target::Delivery(delivery)) => Some(delivery),
            _ => None,
        }
    }

    /// What `to` means, as long as this host's addresses stay the same.
    fn target(&mut self, world: &World, socket: &Arc<Socket>, fd: c_int, to: SocketAddr) -> Target {
        let generation = world::locals_generation();
        if let Some((known, derived, target)) = &self.recent {
            if *known == to && *derived == generation {
                return target.clone();
            }
        }
        let target = match meaning(world, to, Some((socket, fd))) {
            Meaning::Kernel => Target::Kernel,
            Meaning::KernelQuietly => Target::KernelQuietly,
            Meaning::Nobody => Target::Nobody,
            Meaning::Call(called) => match call::say(world, socket, fd, called) {
                Some(peer) => Target::Called(peer),
                None => Target::Kernel,
            },
            Meaning::Own(wanted) => {
                self.prepare(socket, fd);
                let port = sockopt::local_addr(fd).map_or(0, |local| local.port());
                let empty = world.map().look_up(to).map(flexcast_rules::Rule::empty);
                let pushed = channel::pushed(to, wanted, port, empty.unwrap_or_default());
                if self.quiet_at_home {
                    pushed.set_loop(false);
                }
                Target::Channel(pushed)
            }
        };
        self.recent = Some((to, generation, target.clone()));
        target
    }

    /// Before the first mapped use: a port that is real, and what the program set.
    fn prepare(&mut self, socket: &Socket, fd: c_int) {
        if !self.prepared {
            self.prepared = true;
            local::bind_if_unbound(socket, fd);
            self.read_options(socket, fd);
        }
    }

    fn read_options(&mut self, socket: &Socket, fd: c_int) {
        let segment = sockopt::get_u32(fd, libc::SOL_UDP, libc::UDP_SEGMENT).unwrap_or(0);
        self.segment = usize::try_from(segment).unwrap_or(0);
        let looped = match socket.family() {
            Family::V4 => sockopt::get_u32(fd, libc::SOL_IP, libc::IP_MULTICAST_LOOP),
            Family::V6 => sockopt::get_u32(fd, libc::SOL_IPV6, libc::IPV6_MULTICAST_LOOP),
        };
        self.quiet_at_home = looped == Ok(0);
    }
}

/// The socket's calls have changed: what its last destination meant is stale.
pub(crate) fn forget_destination(socket: &Socket) {
    lock(&socket.pushing).recent = None;
}

/// Whether a socket of `family` can be told to speak to `to` at all.
fn fits(family: Family, to: SocketAddr) -> bool {
    family == Family::V6 || to.is_ipv4()
}

/// Whether a message to `to` (none: to where the socket is connected) on a marked
/// descriptor is the kernel's whatever it is. Allocates nothing.
pub(crate) fn leaves(fd: c_int, to: Option<SocketAddr>) -> bool {
    match (to, world::world()) {
        (None, _) => marks::get(fd) != marks::Mark::Ours,
        (Some(_), None) => true,
        (Some(_), _) if marks::is_serving(fd) => false,
        (Some(to), Some(world)) => {
            world.map().match_of(to).is_none() && !world.map().names_group(to.ip())
        }
    }
}

/// Sends one message on a marked descriptor.
pub(crate) fn send(fd: c_int, message: &Message<'_>, flags: c_int) -> Verdict {
    let mut sent = 0;
    send_run(fd, std::slice::from_ref(message), flags, &mut sent)
}

/// Sends the first messages that have the same fate; how many is put into `sent`
/// where we have sent them, or where the verdict is the kernel's.
pub(crate) fn send_run(
    fd: c_int,
    messages: &[Message<'_>],
    flags: c_int,
    sent: &mut usize,
) -> Verdict {
    *sent = 1;
    let (Some(world), Some(first)) = (world::world(), messages.first()) else {
        return Verdict::Kernel;
    };
    let socket = match (table::find(fd), first.to) {
        (Some(socket), _) => socket,
        (None, None) => return Verdict::Kernel,
        (None, Some(to)) => match meaning(world, to, None) {
            Meaning::Kernel => return Verdict::Kernel,
            Meaning::KernelQuietly => return Verdict::KernelQuietly,
            Meaning::Nobody | Meaning::Call(_) | Meaning::Own(_) => match table::adopt(fd) {
                Some(socket) if fits(socket.family(), to) => socket,
                _ => return Verdict::Kernel,
            },
        },
    };
    let mut pushing = lock(&socket.pushing);
    // An accepted socket has one peer, whatever a message says.
    let to = match pushing.connected {
        Some(Target::Delivery(_) | Target::Elsewhere) => None,
        _ => first.to,
    };
    let target = match to {
        Some(to) if fits(socket.family(), to) => pushing.target(world, &socket, fd, to),
        Some(_) => Target::Kernel,
        None => match (&pushing.connected, socket.peer()) {
            // This host may have become the sender meanwhile.
            (Some(Target::Inherited | Target::Nobody), Some(peer)) => {
                let target = pushing.target(world, &socket, fd, peer);
                pushing.connected = Some(target.clone());
                target
            }
            (Some(target), _) => target.clone(),
            (None, Some(peer)) => return Verdict::KernelTo(Name::new(peer, socket.family())),
            (None, None) => Target::Kernel,
        },
    };
    let kernels = matches!(
        target,
        Target::Kernel | Target::KernelQuietly | Target::Called(_)
    );
    if pushing.shut && !kernels {
        return Verdict::Fail(libc::EPIPE);
    }
    match target {
        Target::Kernel => Verdict::Kernel,
        Target::KernelQuietly => Verdict::KernelQuietly,
        Target::Called(peer) => Verdict::KernelTo(Name::new(peer, socket.family())),
        Target::Nowhere | Target::Inherited => Verdict::Done(first.answer()),
        Target::Nobody => {
            pushing.prepare(&socket, fd);
            if let Some(to) = first.to.or(socket.peer()) {
                channel::count_foreign(world, to);
            }
            Verdict::Done(first.answer())
        }
        Target::Elsewhere => Verdict::Fail(libc::EPIPE),
        Target::Channel(pushed) => {
            let same = messages.iter().take_while(|m| m.to == first.to).count();
            let send = |run: &[Message<'_>], segment, sent: &mut usize| {
                pushed.send(fd, run, segment, flags, sent)
            };
            with_held(pushing, &messages[..same], flags, sent, send)
        }
        Target::Delivery(delivery) => {
            let send = |run: &[Message<'_>], segment, sent: &mut usize| {
                delivery.send(fd, run, segment, flags, sent)
            };
            with_held(pushing, messages, flags, sent, send)
        }
    }
}

/// Sends messages of one destination by `send`, which is given the socket's
/// UDP_SEGMENT, behind the parts that were kept back.
fn with_held(
    mut pushing: MutexGuard<'_, Pushing>,
    run: &[Message<'_>],
    flags: c_int,
    sent: &mut usize,
    send: impl Fn(&[Message<'_>], usize, &mut usize) -> Verdict,
) -> Verdict {
    let (first, segment) = (&run[0], pushing.segment);
    let held = hold_back(&mut pushing, first, flags);
    drop(pushing);
    match held {
        Held::Back => Verdict::Done(first.answer()),
        Held::Before(bytes) => {
            let mut whole = Message {
                parts: vec![bytes.as_slice()],
                ..first.clone()
            };
            whole.parts.extend_from_slice(&first.parts);
            match send(std::slice::from_ref(&whole), segment, sent) {
                Verdict::Done(_) => Verdict::Done(first.answer()),
                other => other,
            }
        }
        Held::Nothing => send(run, segment, sent),
    }
}

enum Held {
    Nothing,
    Back,
    Before(Vec<u8>),
}

/// MSG_MORE: parts of one datagram, of which the last comes without the flag.
fn hold_back(pushing: &mut Pushing, message: &Message<'_>, flags: c_int) -> Held {
    if flags & libc::MSG_MORE != 0 {
        for part in &message.parts {
            pushing.held.extend_from_slice(part);
        }
        return Held::Back;
    }
    match std::mem::take(&mut pushing.held) {
        held if held.is_empty() => Held::Nothing,
        held => Held::Before(held),
    }
}

/// The program has set an option of a marked descriptor.
pub(crate) fn option_set(fd: c_int, level: c_int, name: c_int) {
    let ours = [
        (libc::SOL_IP, libc::IP_MULTICAST_LOOP),
        (libc::SOL_IPV6, libc::IPV6_MULTICAST_LOOP),
        (libc::SOL_UDP, libc::UDP_SEGMENT),
    ];
    let source = [
        (libc::SOL_IP, libc::IP_MULTICAST_IF),
        (libc::SOL_IPV6, libc::IPV6_MULTICAST_IF),
    ];
    if marks::get(fd) != marks::Mark::Ours {
        return;
    }
    let Some(socket) = table::find(fd) else {
        return;
    };
    let mut pushing = lock(&socket.pushing);
    if source.contains(&(level, name)) {
        pushing.recent = None;
    }
    if !ours.contains(&(level, name)) || !pushing.prepared {
        return;
    }
    pushing.read_options(&socket, fd);
    let recent = pushing.recent.as_ref().map(|(_, _, target)| target);
    for target in [pushing.connected.as_ref(), recent].into_iter().flatten() {
        if let Target::Channel(pushed) = target {
            pushed.set_loop(!pushing.quiet_at_home);
        }
    }
}
