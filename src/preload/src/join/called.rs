//! A receiving socket's calls: addresses that the program is connected to, or has said
//! hello to.
//!
//! ```text
//!   sendto A ──► said A ── connect A ──► connected A alone ── AF_UNSPEC ──► said A
//!     none   ── connect A ──► connected A alone ── AF_UNSPEC, or elsewhere ──► none
//! ```
//! Promises: the kernel socket has a port of its own before its first call; after an
//! error nothing is asked for that was not before. Is not which addresses are calls
//! (`call`).

use std::net::SocketAddr;
use std::sync::Arc;

use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::receive::Asking;
use flexcast_runtime::{Errno, Untrailed};
use flexcast_wire::Channel;
use libc::c_int;

use super::shown_options::ShownOptions;
use super::{connected_name, descriptor, receiver, Joining};
use crate::life::lock;
use crate::socket::Socket;
use crate::world::World;

/// One address that the program calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Called {
    /// As the program names it.
    pub(crate) to: SocketAddr,
    /// S and the port: where unicast goes, and what receive calls show.
    pub(crate) peer: SocketAddr,
    /// One for each sender, and how it is asked for.
    pub(crate) channels: Vec<(Channel, Asking)>,
    /// `port=keep`.
    pub(crate) keeps_port: bool,
    /// The program is connected to it: then there is no other.
    pub(crate) connected: bool,
    /// The program has sent to it by an address in the datagram.
    pub(crate) said: bool,
}

/// The program calls. False where a socket that joins is to be connected: that narrows
/// what it hears, and calls nobody.
pub(crate) fn call(
    world: &World,
    socket: &Arc<Socket>,
    fd: c_int,
    call: Called,
    connects: bool,
) -> Result<bool, Errno> {
    let mut joining = lock(&socket.joining);
    if connects && (!joining.memberships.is_empty() || joining.is_bound_to_group()) {
        return Ok(false);
    }
    let known = joining.called.iter().find(|known| known.to == call.to);
    if !connects && known.is_some_and(|known| known.said) {
        return Ok(true);
    }
    let said = !connects || known.is_some_and(|known| known.said);
    let fresh = Called {
        said,
        connected: connects,
        ..call
    };
    let had_no_port = bind(socket, fd, &mut joining)?;
    let before = joining.called.clone();
    if connects {
        joining.called = vec![fresh];
    } else if let Some(known) = joining.called.iter_mut().find(|c| c.to == fresh.to) {
        known.said = true;
    } else {
        joining.called.push(fresh);
    }
    if let Err(number) = receiver::settle(world, socket, fd, &mut joining) {
        joining.called = before;
        if joining.receiving.is_none() && had_no_port {
            joining.bound = None;
            joining.options.turn_on(fd);
            socket.show_local(None);
        }
        return Err(Errno(number));
    }
    if connects {
        joining.only = None;
        if let Some(receiving) = &joining.receiving {
            receiving.socket.only_from(None);
        }
    }
    Ok(true)
}

/// What getpeername and getsockname show of a socket that is connected by us alone.
pub(crate) fn show_connected(socket: &Arc<Socket>, fd: c_int, peer: SocketAddr) {
    let bound = lock(&socket.joining).bound;
    socket.set_peer(Some(peer));
    socket.show_local(connected_name(socket, fd, bound, peer));
}

/// The program connects elsewhere, or (`undone`) nowhere: what it called by connecting
/// is asked for no longer.
pub(super) fn hang_up(
    world: &World,
    socket: &Arc<Socket>,
    fd: c_int,
    joining: &mut Joining,
    undone: bool,
) {
    if joining.called.is_empty() {
        return;
    }
    joining.called.retain_mut(|called| {
        called.connected = false;
        undone && called.said
    });
    // Leaving fails only where the socket is gone.
    if let Err(number) = receiver::settle(world, socket, fd, joining) {
        log::debug!("a call that is undone: error {number}");
    }
}

/// What becomes of datagrams without our trailer where the socket calls; none: as on
/// any receiving socket. Not connected it hears whom it heard without us.
pub(super) fn untrailed(joining: &Joining, strict: bool) -> Option<Untrailed> {
    if !joining.memberships.is_empty() || joining.is_bound_to_group() {
        return None;
    }
    let last = joining.called.last()?;
    (last.connected || strict).then_some(Untrailed::OnlyFrom(last.peer))
}

/// Gives the socket a port of its own, as a first send would, where it has none (then
/// true): before it shares ports,
/// since then the kernel hands out one that others have.
fn bind(socket: &Socket, fd: c_int, joining: &mut Joining) -> Result<bool, Errno> {
    if joining.bound.is_some() || sockopt::local_addr(fd)?.port() != 0 {
        return Ok(false);
    }
    let options = ShownOptions::of(fd);
    options.turn_off(fd, true);
    let any = SocketAddr::new(socket.family().any(), 0);
    let bound = descriptor::bind(fd, any, socket.family()).and_then(|()| sockopt::local_addr(fd));
    match bound {
        Ok(bound) => {
            joining.options = options;
            joining.bound = Some(bound);
            socket.show_local(Some(bound));
            Ok(true)
        }
        Err(errno) => {
            options.turn_on(fd);
            Err(errno)
        }
    }
}
