//! From a socket's memberships and calls to the channels that it asks for.
//!
//! ```text
//!   memberships, calls ──rules──► wanted channels ──difference──► ReceivingSocket
//!                         └─ no rule on this port ─► the kernel's own join
//!   first channel: D is prepared (disconnected, a port of its own), then adopted
//! ```
//! Promises: after an error everything is as it was. Is not the answer to the
//! program (`join`).

use std::net::SocketAddr;

use flexcast_rules::{Join, ReceivePath};
use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::receive::{Asking, Path, ReceiveSettings, ReceivingSocket};
use flexcast_runtime::{Errno, RequesterSettings, Untrailed};
use flexcast_wire::Channel;
use libc::c_int;

use super::memberships::Membership;
use super::request::Mode;
use super::shown::{self, Shown};
use super::shown_options::ShownOptions;
use super::{called, descriptor, kernel_join, replacement, Joining};
use crate::socket::Socket;
use crate::table;
use crate::world::World;

/// A channel, how it is asked for, and what its rule says of the socket.
struct Wanted {
    channel: Channel,
    asking: Asking,
    /// Whom the program calls by it.
    peer: Option<SocketAddr>,
    keeps_port: bool,
}

/// What a socket that receives keeps.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) socket: ReceivingSocket,
    pub(super) asked: Vec<(Channel, Asking)>,
    untrailed: Untrailed,
}

/// What a membership wants on a socket bound to `port`; none where it is the
/// kernel's.
fn wanted(world: &World, membership: &Membership, port: u16) -> Option<Vec<Wanted>> {
    let is_local = |ip| world.is_local(ip);
    let ask = |source| world.map().join(membership.group, port, source, &is_local);
    let mut all = Vec::new();
    let mut take = |join: Join<'_>, left_out: &[std::net::IpAddr]| {
        let Join::Channels(channels, rule) = join else {
            return None;
        };
        for channel in channels {
            if left_out
                .iter()
                .all(|ip| ip.to_canonical() != channel.sender)
            {
                let ask_at = rule.via().first().copied().unwrap_or(channel.sender);
                let asking = Asking {
                    at: SocketAddr::new(ask_at, world.settings().port()),
                    strict: rule.is_strict(),
                };
                all.push(Wanted {
                    channel,
                    asking,
                    peer: None,
                    keeps_port: rule.keeps_port(),
                });
            }
        }
        Some(())
    };
    match membership.mode {
        Mode::Exclude => take(ask(None), &membership.sources)?,
        Mode::Include => {
            for source in &membership.sources {
                take(ask(Some(*source)), &[])?;
            }
        }
    }
    Some(all)
}

/// What the program's calls want.
fn of_calls(joining: &Joining) -> Vec<Wanted> {
    let calls = joining.called.iter();
    let channels = calls.flat_map(|call| call.channels.iter().map(move |one| (call, one)));
    channels
        .map(|(call, (channel, asking))| Wanted {
            channel: *channel,
            asking: asking.clone(),
            peer: Some(call.peer),
            keeps_port: call.keeps_port,
        })
        .collect()
}

/// Makes what is asked for what memberships and calls want. Those that no rule takes on
/// the socket's port become the kernel's.
pub(super) fn settle(
    world: &World,
    socket: &Socket,
    fd: c_int,
    joining: &mut Joining,
) -> Result<(), c_int> {
    let port = joining.port(fd);
    if port == 0 || joining.receives_elsewhere {
        return Ok(()); // The bind will say; or the parent asks.
    }
    let is_ours = |m: &Membership| wanted(world, m, port).is_some();
    let for_kernel = joining.memberships.split_off(is_ours);
    if !for_kernel.is_empty() {
        give_to_kernel(socket, fd, joining, &for_kernel)?;
    }
    let mut all: Vec<Wanted> = Vec::new();
    let joined = joining.memberships.iter();
    let joined = joined.flat_map(|m| wanted(world, m, port).unwrap_or_default());
    for one in joined.chain(of_calls(joining)) {
        if all.iter().all(|other| other.channel != one.channel) {
            all.push(one);
        }
    }
    let strict = all.first().is_some_and(|first| first.asking.strict);
    let untrailed = untrailed(joining, strict);
    if let (None, Some(first)) = (&joining.receiving, all.first()) {
        let keeps_port = first.keeps_port;
        adopt(world, socket, fd, joining, keeps_port, untrailed).map_err(refused)?;
    }
    if let Some(receiving) = &mut joining.receiving {
        ask_for(receiving, &all).map_err(refused)?;
        // A joined socket stays as strict as it was when it has left.
        let hung_up = matches!(receiving.untrailed, Untrailed::OnlyFrom(_));
        if receiving.untrailed != untrailed && (hung_up || !all.is_empty()) {
            receiving.socket.set_untrailed(untrailed);
            receiving.untrailed = untrailed;
        }
    }
    show(socket, joining, port);
    Ok(())
}

/// What becomes of datagrams without our trailer.
fn untrailed(joining: &Joining, strict: bool) -> Untrailed {
    called::untrailed(joining, strict).unwrap_or(match (joining.is_bound_to_group(), strict) {
        (false, false) => Untrailed::Pass,
        _ => Untrailed::Drop,
    })
}

/// What a program that joins can expect to hear.
fn refused(errno: Errno) -> c_int {
    log::warn!("a join is refused: {errno}");
    match errno {
        Errno::EADDRINUSE | Errno::ENOBUFS => libc::ENOBUFS,
        Errno::EAFNOSUPPORT => libc::ENODEV,
        Errno(number) => number,
    }
}

/// Joins what is wanted and not asked for yet, and leaves the rest.
fn ask_for(receiving: &mut Receiving, all: &[Wanted]) -> Result<(), Errno> {
    let is_wanted = |channel: &Channel| all.iter().any(|one| one.channel == *channel);
    let gone: Vec<Channel> = receiving
        .asked
        .iter()
        .map(|(channel, _)| *channel)
        .collect();
    for channel in gone.iter().filter(|channel| !is_wanted(channel)) {
        // It was joined; a failure means that the socket is gone.
        let _ = receiving.socket.leave(channel);
        receiving.asked.retain(|(asked, _)| asked != channel);
    }
    let mut fresh = Vec::new();
    let mut deaf = None;
    for Wanted {
        channel,
        asking,
        peer,
        ..
    } in all
    {
        if receiving.asked.iter().any(|(asked, _)| asked == channel) {
            continue;
        }
        let (socket, asking) = (&receiving.socket, asking.clone());
        let begun = match peer {
            None => socket.join(*channel, asking.clone()),
            Some(peer) => socket.call(*channel, asking.clone(), *peer),
        };
        match begun {
            Ok(()) => {
                log::info!("asks {} for channel {channel}", asking.at);
                fresh.push((*channel, asking));
            }
            // A sender of the other family among several is no reason to refuse.
            Err(Errno::EAFNOSUPPORT) if all.len() > 1 => {
                log::warn!("{channel} cannot be heard by this socket");
                deaf = Some(Errno::EAFNOSUPPORT);
            }
            Err(errno) => {
                for (channel, _) in &fresh {
                    let _ = receiving.socket.leave(channel);
                }
                return Err(errno);
            }
        }
    }
    receiving.asked.extend(fresh);
    match deaf {
        Some(errno) if receiving.asked.is_empty() => Err(errno),
        _ => Ok(()),
    }
}

/// Prepares D and makes it a receiving socket.
fn adopt(
    world: &World,
    socket: &Socket,
    fd: c_int,
    joining: &mut Joining,
    keeps_port: bool,
    untrailed: Untrailed,
) -> Result<(), Errno> {
    let mut only = joining.only;
    if joining.bound.is_none() {
        let bound = sockopt::local_addr(fd)?;
        if let Ok(peer) = sockopt::peer_addr(fd) {
            undo_connection(socket, fd, bound)?;
            socket.set_peer(Some(peer));
            only = Some(peer);
        }
        let options = ShownOptions::of(fd);
        if bound.ip().is_multicast() || (options.shares_port() && !keeps_port) {
            let any = SocketAddr::new(socket.family().any(), 0);
            replacement::replace(socket, fd, any, None)?;
            joining.bound = Some(bound);
            socket.show_local(Some(bound));
        } else {
            options.turn_off(fd, false);
        }
        joining.options = options;
    }
    let settings = ReceiveSettings {
        fp: world.settings().port(),
        path: match world.settings().path() {
            None => Path::Auto,
            Some(ReceivePath::Kernel) => Path::Kernel,
            Some(ReceivePath::User) => Path::User,
        },
        requester: RequesterSettings {
            refresh: world.settings().refresh(),
            heartbeat: world.settings().heartbeat(),
            hold: world.settings().hold(),
            ..RequesterSettings::default()
        },
    };
    let receiving = ReceivingSocket::adopt(fd, &settings, untrailed)?;
    if only.is_some() {
        receiving.only_from(only);
    }
    joining.only = only;
    for number in table::numbers_of(socket) {
        receiving.add_number(number);
    }
    joining.receiving = Some(Receiving {
        socket: receiving,
        asked: Vec::new(),
        untrailed,
    });
    Ok(())
}

/// D cannot stay connected in the kernel. The port stays.
fn undo_connection(socket: &Socket, fd: c_int, bound: SocketAddr) -> Result<(), Errno> {
    descriptor::disconnect(fd)?;
    if sockopt::local_addr(fd)?.port() == 0 {
        let any = SocketAddr::new(socket.family().any(), bound.port());
        descriptor::bind(fd, any, socket.family())?;
    }
    Ok(())
}

/// Bound to its group by us alone, the socket is bound so in the kernel.
pub(super) fn give_name_back(
    socket: &Socket,
    fd: c_int,
    joining: &mut Joining,
) -> Result<(), c_int> {
    if let Some(bound) = joining.bound.filter(|_| joining.receiving.is_none()) {
        let options = joining.options;
        replacement::replace(socket, fd, bound, Some(&options)).map_err(|errno| errno.0)?;
        joining.bound = None;
        socket.show_local(None);
    }
    Ok(())
}

/// Memberships that no rule takes on the socket's port.
fn give_to_kernel(
    socket: &Socket,
    fd: c_int,
    joining: &mut Joining,
    memberships: &[Membership],
) -> Result<(), c_int> {
    give_name_back(socket, fd, joining)?;
    for membership in memberships {
        match kernel_join::join(fd, membership) {
            Ok(()) | Err(Errno(libc::ENODEV | libc::ENETUNREACH)) => {}
            Err(errno) => log::info!("the kernel's join of {}: {errno}", membership.group),
        }
    }
    Ok(())
}

/// What receive calls show from now on, under all numbers.
pub(super) fn show(socket: &Socket, joining: &Joining, port: u16) {
    let Some(receiving) = &joining.receiving else {
        return;
    };
    let mut groups: Vec<_> = joining.memberships.iter().map(|m| m.group).collect();
    groups.dedup();
    let shown = Shown {
        socket: receiving.socket.clone(),
        asked: receiving
            .asked
            .iter()
            .map(|(_, asking)| asking.at)
            .collect(),
        group: match groups[..] {
            [only] => Some(SocketAddr::new(only, port)),
            _ => None,
        },
    };
    for number in table::numbers_of(socket) {
        shown::set(number, Some(shown.clone()));
    }
}
