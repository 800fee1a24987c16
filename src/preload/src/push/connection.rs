//! Connections that the kernel does not know: a program connects to a mapped address,
//! and a connected kernel socket would need a route.
//!
//! ```text
//!   not connected ── connect(mapped) ──► by us ── SHUT_WR ──► sends fail with EPIPE
//!         ▲                               │
//!         └── AF_UNSPEC, connect elsewhere (then by the kernel)
//! ```
//! Promises: getpeername, getsockname and errors are as after a connect in the kernel
//! with a multicast route. Is not where the datagrams go.

use std::net::SocketAddr;
use std::sync::Arc;

use libc::c_int;

use super::{fits, local, meaning, Meaning, Target};
use crate::hook::Verdict;
use crate::life::lock;
use crate::name::Name;
use crate::socket::Socket;
use crate::table;
use crate::world::{self, World};

/// Connects a marked descriptor to `to`.
pub(crate) fn connect(fd: c_int, to: SocketAddr) -> Verdict {
    let Some(world) = world::world() else {
        return Verdict::Kernel;
    };
    match meaning(world, to, None) {
        // A call that did not come about.
        Meaning::Kernel | Meaning::Call(_) => {
            disconnect(fd);
            Verdict::Kernel
        }
        Meaning::KernelQuietly => connect_quietly(fd, to),
        Meaning::Nobody | Meaning::Own(_) => match table::adopt(fd) {
            Some(socket) if fits(socket.family(), to) => connect_mapped(world, &socket, fd, to),
            _ => Verdict::Kernel,
        },
    }
}

fn connect_mapped(world: &World, socket: &Arc<Socket>, fd: c_int, to: SocketAddr) -> Verdict {
    local::disconnect_in_kernel(socket, fd);
    let mut pushing = lock(&socket.pushing);
    pushing.prepare(socket, fd);
    let target = pushing.target(world, socket, fd, to);
    pushing.connected = Some(target.clone());
    pushing.shut = false;
    drop(pushing);
    let sender = match &target {
        Target::Channel(pushed) => Some(pushed.sender()),
        _ => None,
    };
    socket.set_peer(Some(to));
    socket.show_local(Some(local::shown(socket, fd, to, sender)));
    match target {
        Target::Channel(pushed) if !pushed.wait() => Verdict::Again,
        _ => Verdict::Done(0),
    }
}

/// The kernel's; where it knows no multicast the connection is to nobody.
fn connect_quietly(fd: c_int, to: SocketAddr) -> Verdict {
    disconnect(fd);
    let Some(socket) = table::adopt(fd).filter(|socket| fits(socket.family(), to)) else {
        return Verdict::Kernel;
    };
    match local::connect_in_kernel(fd, Name::new(to, socket.family())) {
        Ok(()) => Verdict::Done(0),
        Err(error) if [libc::ENETUNREACH, libc::ENODEV].contains(&error.0) => {
            let mut pushing = lock(&socket.pushing);
            pushing.prepare(&socket, fd);
            pushing.connected = Some(Target::Nowhere);
            drop(pushing);
            socket.set_peer(Some(to));
            socket.show_local(Some(local::shown(&socket, fd, to, None)));
            Verdict::Done(0)
        }
        Err(error) => Verdict::Fail(error.0),
    }
}

/// The program connects elsewhere or nowhere: what we emulated is undone.
pub(crate) fn disconnect(fd: c_int) {
    let Some(socket) = table::find(fd) else {
        return;
    };
    let mut pushing = lock(&socket.pushing);
    if pushing.connected.take().is_some() {
        pushing.shut = false;
        drop(pushing);
        socket.set_peer(None);
        socket.show_local(None);
    }
}

/// Shuts one of ours down, where it is connected by us.
pub(crate) fn shutdown(socket: &Arc<Socket>, fd: c_int, how: c_int) -> Option<Verdict> {
    let mut pushing = lock(&socket.pushing);
    let target = pushing.connected.clone()?;
    let (reads, writes) = match how {
        libc::SHUT_RD => (true, false),
        libc::SHUT_WR => (false, true),
        libc::SHUT_RDWR => (true, true),
        _ => return None,
    };
    pushing.shut |= writes;
    drop(pushing);
    match target {
        Target::Delivery(delivery) => delivery.shut_down(fd, writes),
        Target::Channel(pushed) if writes => pushed.end(),
        _ => {}
    }
    if reads {
        local::shut_reading_in_kernel(fd);
    }
    Some(Verdict::Done(0))
}
