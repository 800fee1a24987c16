//! The role *calls*: a program that connects to a mapped unicast address of another
//! host, or says hello there first, gets the stream that is sent from there.
//!
//! ```text
//!   connect, or first sendto, to A:P ─┬─ another host's ──────────────► call (S, P)
//!                                     ├─ this host's, served here ────► call (S, P)
//!                                     └─ this host's, nobody serves ──► push's
//!   what it sends    ──► S:P, ordinary unicast, by the kernel
//!   what it receives ◄── S:P: the stream, and S:P's own unicast
//! ```
//! Promises: connect returns at once, with a route or without; the kernel socket is
//! never connected; the end of the stream is one empty datagram, a final refusal is
//! ECONNREFUSED, both of them the kernel's own (`runtime`). Other destinations of the
//! same socket stay plain. Is not how a socket receives (`join::called`).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flexcast_rules::Call;
use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::receive::Asking;
use flexcast_runtime::send::is_served;
use flexcast_wire::{Channel, ChannelId};
use libc::c_int;

use crate::hook::Verdict;
use crate::join::{self, Called};
use crate::life::{lock, PerProcess};
use crate::name::Family;
use crate::push;
use crate::socket::Socket;
use crate::table;
use crate::world::{world, World};

/// How long a datagram believes what the one before found out. Longer: a server that
/// has just started is pushed to for longer; shorter: a look at all unix sockets (some
/// 20 µs and more) more often.
const BELIEVED: Duration = Duration::from_secs(1);
/// Channels whose answer is kept.
const MOST_KNOWN: usize = 64;

/// Which channels of this host were found served, and when.
static KNOWN: PerProcess<Mutex<Vec<(ChannelId, Instant, bool)>>> = PerProcess::new();

/// In a forked child.
pub(crate) fn forget() {
    KNOWN.forget();
}

/// What calling `to` asks for; none where that is no call. `fresh`: whether this host
/// serves it is looked up anew.
pub(crate) fn wanted(world: &World, to: SocketAddr, fresh: bool) -> Option<Called> {
    if to.ip().to_canonical().is_multicast() {
        return None;
    }
    let is_local = |ip| world.is_local(ip);
    let map = world.map();
    let (channels, rule) = match map.call(to, &is_local, false) {
        Call::Channels(channels, rule) => (channels, rule),
        Call::NotMapped => match map.call(to, &is_local, true) {
            Call::Channels(channels, rule) => {
                let id = channels.first()?.id;
                served(world.settings().port(), id, fresh).then_some((channels, rule))?
            }
            Call::NotMapped => return None,
        },
    };
    let asking = |channel: &Channel| Asking {
        at: SocketAddr::new(
            rule.via().first().copied().unwrap_or(channel.sender),
            world.settings().port(),
        ),
        strict: rule.is_strict(),
    };
    Some(Called {
        to,
        peer: SocketAddr::new(channels.first()?.sender, to.port()),
        channels: channels.iter().map(|c| (*c, asking(c))).collect(),
        keeps_port: rule.keeps_port(),
        connected: false,
        said: false,
    })
}

fn served(fp: u16, id: ChannelId, fresh: bool) -> bool {
    let mut known = lock(KNOWN.get());
    known.retain(|(other, at, _)| at.elapsed() < BELIEVED && !(fresh && *other == id));
    if let Some((_, _, answer)) = known.iter().find(|(other, ..)| *other == id) {
        return *answer;
    }
    let answer = is_served(fp, id);
    if known.len() < MOST_KNOWN {
        known.push((id, Instant::now(), answer));
    }
    answer
}

/// Whether a socket can be told to speak to `to` at all; else the kernel says why not.
fn fits(socket: &Socket, fd: c_int, to: SocketAddr) -> bool {
    match (socket.family(), to.ip().to_canonical().is_ipv4()) {
        (Family::V4, _) => to.is_ipv4(),
        (Family::V6, true) => sockopt::is_v6_only(fd) == Ok(false),
        (Family::V6, false) => true,
    }
}

/// The program connects a marked descriptor to `to`; none: that is no call.
pub(crate) fn connect(fd: c_int, to: SocketAddr) -> Option<Verdict> {
    let world = world()?;
    let call = wanted(world, to, true)?;
    let socket = table::adopt(fd).filter(|socket| fits(socket, fd, to))?;
    let peer = call.peer;
    match join::call(world, &socket, fd, call, true) {
        Ok(true) => {
            push::disconnect(fd);
            push::forget_destination(&socket);
            join::show_connected(&socket, fd, peer);
            Some(Verdict::Done(0))
        }
        Ok(false) => None,
        Err(errno) => {
            log::warn!("a call of {to} is left to the kernel: {errno}");
            None
        }
    }
}

/// The program sends to what `call` says, by an address in the datagram: where that is
/// to go, as unicast; none where the call fails, and it is as without us.
pub(crate) fn say(
    world: &World,
    socket: &Arc<Socket>,
    fd: c_int,
    call: Called,
) -> Option<SocketAddr> {
    if !fits(socket, fd, call.to) {
        return None;
    }
    let (to, peer) = (call.to, call.peer);
    match join::call(world, socket, fd, call, false) {
        Ok(_) => Some(peer),
        Err(errno) => {
            log::warn!("a call of {to} is left to the kernel: {errno}");
            None
        }
    }
}
