//! The role *listens*: a program that listens on a datagram socket bound to a mapped
//! address of this host gets a socket for the channel when somebody asks for it.
//!
//! ```text
//!   bound ── listen, by the rules ──► listens ── somebody asks: readable ──► accept
//!                                        ▲                                     │
//!                                        └── audience gone: EPIPE, end-of-file ◄── send
//! ```
//! Promises: `listen` decides, not bind: a mapped port is the kernel's until then. The
//! listening socket stays bound as it is, and hears nothing but bells, so that poll,
//! select, epoll, O_NONBLOCK and SO_RCVTIMEO are the kernel's own. Nobody else binds its
//! port, SO_REUSEADDR or not. Is not for stream sockets, nor in a child that inherited
//! the socket: those who ask are served by the process that listens.

mod accept;
mod accepted;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use flexcast_rules::{Role, Serve};
use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::send::{Listening, Scope, SendError};
use libc::c_int;

pub(crate) use accept::accept;
pub(crate) use accepted::{at_end, reading, Accepted};

use crate::hook::Verdict;
use crate::join::{self, Shown, ShownOptions};
use crate::life::lock;
use crate::name::Family;
use crate::socket::Socket;
use crate::world::{self, world, World};
use crate::{marks, push, table};

/// What this role keeps about a socket that listens.
#[derive(Clone, Default, Debug)]
pub(crate) enum Serving {
    /// It does not.
    #[default]
    Nothing,
    /// It does.
    Here(Arc<Listener>),
    /// The parent, from whom it was inherited by fork, listens.
    Elsewhere,
}

impl Serving {
    /// The same in a forked child.
    pub(crate) fn inherited(&self) -> Serving {
        match self {
            Serving::Nothing => Serving::Nothing,
            Serving::Here(_) | Serving::Elsewhere => Serving::Elsewhere,
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    /// None once it is shut down.
    listening: Mutex<Option<Arc<Listening>>>,
    /// What the program bound it to.
    bound: SocketAddr,
    /// Options that only seem to be set.
    options: Mutex<ShownOptions>,
}

impl Listener {
    fn listening(&self) -> Option<Arc<Listening>> {
        lock(&self.listening).clone()
    }
}

/// The channel that a socket bound to `bound` may listen for; none: the kernel's.
fn scope(world: &World, bound: SocketAddr, family: Family) -> Option<Scope> {
    let mut locals = world::locals().to_vec();
    locals.extend(world.settings().own_addresses());
    let is_local = |ip| world.is_local(ip);
    match world.map().serve(Role::Listen, bound, &locals, &is_local) {
        Serve::NotMapped => None,
        Serve::Own {
            channel_id, sender, ..
        } => Some(Scope {
            sender,
            ipv4_only: family == Family::V4,
            id: Some(channel_id),
            app_port: bound.port(),
            passing: false,
        }),
    }
}

/// Whether a socket bound to `bound` might listen.
fn may_listen(world: &World, bound: SocketAddr) -> bool {
    bound.port() != 0 && scope(world, bound, Family::V6).is_some()
}

/// The program has a marked descriptor listen.
pub(crate) fn listen(fd: c_int, backlog: c_int) -> Verdict {
    // As the kernel's stream sockets: no backlog is one, a negative one is the longest.
    let backlog = usize::try_from(backlog).unwrap_or(usize::MAX);
    if marks::is_serving(fd) {
        return listen_again(fd, backlog);
    }
    let (Some(world), Ok(bound)) = (world(), sockopt::local_addr(fd)) else {
        return Verdict::Kernel;
    };
    if !may_listen(world, bound) {
        return Verdict::Kernel;
    }
    let Some(socket) = table::adopt(fd).filter(|socket| !join::has_part_in(socket)) else {
        return Verdict::Kernel;
    };
    let mut serving = lock(&socket.serving);
    match &*serving {
        Serving::Nothing => {}
        Serving::Elsewhere => return Verdict::Fail(libc::EOPNOTSUPP),
        // Another thread was faster.
        Serving::Here(_) => return Verdict::Done(0),
    }
    if socket.peer().is_some() || sockopt::peer_addr(fd).is_ok() {
        return Verdict::Fail(libc::EINVAL);
    }
    match begin(world, fd, bound, socket.family(), backlog) {
        Ok(listener) => {
            *serving = Serving::Here(Arc::new(listener));
            drop(serving);
            table::serves(&socket);
            Verdict::Done(0)
        }
        Err(number) => Verdict::Fail(number),
    }
}

/// Of a socket that listens, or was accepted and cannot.
fn listen_again(fd: c_int, backlog: usize) -> Verdict {
    match listener_of(fd).and_then(|listener| listener.listening()) {
        Some(listening) => {
            listening.set_backlog(backlog);
            Verdict::Done(0)
        }
        None => Verdict::Fail(libc::EINVAL),
    }
}

fn begin(
    world: &World,
    fd: c_int,
    bound: SocketAddr,
    family: Family,
    backlog: usize,
) -> Result<Listener, c_int> {
    let scope = scope(world, bound, family).ok_or(libc::EOPNOTSUPP)?;
    // Somebody else's port of requests: said in the log.
    let sending = push::sending().ok_or(libc::EADDRINUSE)?;
    let bell = sending.hang_bell_where_bound(fd).map_err(|e| e.0)?;
    match sending.listen(scope, backlog, bell, None) {
        Ok(listening) => {
            // With them the kernel would let others bind to its port.
            let options = ShownOptions::of(fd);
            options.turn_off(fd, true);
            ::log::info!("listening at {bound}");
            Ok(Listener {
                listening: Mutex::new(Some(Arc::new(listening))),
                bound,
                options: Mutex::new(options),
            })
        }
        Err(fault) => {
            let _ = sockopt::detach_filter(fd);
            ::log::warn!("cannot listen at {bound}: {fault}");
            Err(number(&fault))
        }
    }
}

/// The error number of what the sending half refuses.
fn number(fault: &SendError) -> c_int {
    match fault {
        SendError::Held { .. } => libc::EADDRINUSE,
        SendError::System { errno, .. } => errno.0,
    }
}

/// The program connects one of ours: refused where it listens or was accepted; none:
/// it is neither.
pub(crate) fn connect(fd: c_int) -> Option<Verdict> {
    marks::is_serving(fd).then_some(Verdict::Fail(libc::EISCONN))
}

/// The program shuts a listening socket down; none: it does not listen. Receiving no
/// more is listening no more, and wakes those who wait in accept.
pub(crate) fn shutdown(socket: &Socket, fd: c_int, how: c_int) -> Option<Verdict> {
    let listener = match &*lock(&socket.serving) {
        Serving::Here(listener) => listener.clone(),
        Serving::Nothing | Serving::Elsewhere => return None,
    };
    match how {
        libc::SHUT_WR => {}
        libc::SHUT_RD | libc::SHUT_RDWR => {
            lock(&listener.listening).take();
            // It is done, and ENOTCONN: nobody is connected.
            let _ = sockopt::shut_down_receiving(fd);
        }
        _ => return None,
    }
    Some(Verdict::Done(0))
}

/// The program sets an option of a listening socket; none: the kernel's.
pub(crate) fn set_option(fd: c_int, level: c_int, name: c_int, value: &[u8]) -> Option<Verdict> {
    let listener = listener_of(fd)?;
    let outcome = lock(&listener.options).set(level, name, value)?;
    Some(match outcome {
        Ok(()) => Verdict::Done(0),
        Err(number) => Verdict::Fail(number),
    })
}

/// What reading an option of a listening socket gives; none: the kernel's answer.
pub(crate) fn get_option(fd: c_int, level: c_int, name: c_int) -> Option<Shown> {
    let listener = listener_of(fd)?;
    if (level, name) == (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) {
        return Some(Shown::Word(listener.listening().is_some()));
    }
    let options = lock(&listener.options);
    options.get(level, name)
}

fn listener_of(fd: c_int) -> Option<Arc<Listener>> {
    if !marks::is_serving(fd) {
        return None;
    }
    let socket = table::find(fd)?;
    let serving = lock(&socket.serving);
    match &*serving {
        Serving::Here(listener) => Some(listener.clone()),
        Serving::Nothing | Serving::Elsewhere => None,
    }
}
