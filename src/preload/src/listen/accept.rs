//! Accepting: a socket of its own for the channel that somebody asks for.
//!
//! ```text
//!   look ─┬─ a channel waits ──► a new socket, its bell ──► open, accepted
//!         ├─ a bell for one that is gone ──► taken, look again
//!         └─ nothing ──► the hook waits for a bell in the kernel, and looks again
//! ```
//! Promises: the bell of the channel is taken before the channel is, so that no later
//! one's is; without a number for the new socket (EMFILE) the channel goes on waiting,
//! and the listening socket stays readable. Is not the waiting (`hooks`).

use std::net::SocketAddr;
use std::sync::Arc;

use flexcast_runtime::kernel::{self, recv_parts, sockopt, UdpSocket};
use flexcast_runtime::send::{Delivery, Listening};
use libc::c_int;

use super::{may_listen, number, Accepted, Listener, Serving};
use crate::hook::Verdict;
use crate::life::lock;
use crate::name::Family;
use crate::push::Pushing;
use crate::socket::Socket;
use crate::world::{self, world};
use crate::{marks, push, table};

/// What an accepted socket has of the listening one, as a stream socket has.
const INHERITED: [(c_int, usize); 2] = [(libc::SO_RCVTIMEO, 16), (libc::SO_SNDTIMEO, 16)];

/// The program accepts on a marked descriptor: done with the new number, or again once
/// a bell has come.
pub(crate) fn accept(fd: c_int, flags: c_int) -> Verdict {
    let socket = table::find(fd);
    let serving = socket.as_ref().map(|socket| lock(&socket.serving).clone());
    let (Some(socket), Some(Serving::Here(listener))) = (&socket, &serving) else {
        return refused(fd, matches!(serving, Some(Serving::Elsewhere)));
    };
    if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
        return Verdict::Fail(libc::EINVAL);
    }
    let Some(listening) = listener.listening() else {
        return Verdict::Fail(libc::EINVAL);
    };
    loop {
        if listening.has_waiting() {
            match take(fd, socket, listener, &listening, flags) {
                Ok(Some(accepted)) => return Verdict::Done(accepted as isize),
                Ok(None) => {}
                Err(number) => return Verdict::Fail(number),
            }
        }
        if !take_bell(fd) {
            return Verdict::Again;
        }
    }
}

/// Of a socket that does not listen, or not for us.
fn refused(fd: c_int, elsewhere: bool) -> Verdict {
    let mapped = || {
        let (Some(world), Ok(bound)) = (world(), sockopt::local_addr(fd)) else {
            return false;
        };
        marks::is_serving(fd) || may_listen(world, bound)
    };
    match elsewhere {
        true => Verdict::Fail(libc::EOPNOTSUPP),
        false if mapped() => Verdict::Fail(libc::EINVAL),
        false => Verdict::Kernel,
    }
}

/// Takes a bell; whether there was one.
fn take_bell(fd: c_int) -> bool {
    let mut bell = [0; 8];
    let taken = recv_parts(fd, &mut bell, &mut [], false, false);
    // Nothing at all comes from a socket that is shut down.
    taken.is_ok_and(|arrival| arrival.length > 0)
}

/// Takes the channel that waits; none where its requesters are gone meanwhile.
fn take(
    fd: c_int,
    socket: &Socket,
    listener: &Listener,
    listening: &Listening,
    flags: c_int,
) -> Result<Option<c_int>, c_int> {
    let family = match socket.family() {
        Family::V4 => kernel::Family::V4,
        Family::V6 => kernel::Family::V6,
    };
    let (nonblocking, cloexec) = (
        flags & libc::SOCK_NONBLOCK != 0,
        flags & libc::SOCK_CLOEXEC != 0,
    );
    let fresh = UdpSocket::for_program(family, nonblocking, cloexec).map_err(|e| e.0)?;
    let sending = push::sending().ok_or(libc::EADDRINUSE)?;
    let bell = sending.hang_bell(fresh.as_raw()).map_err(|e| e.0)?;
    take_bell(fd);
    let Some(delivery) = listening.accept(bell).map_err(|fault| number(&fault))? else {
        return Ok(None);
    };
    for (name, size) in INHERITED {
        let mut value = [0; 16];
        let value = &mut value[..size];
        if sockopt::get_bytes(fd, libc::SOL_SOCKET, name, value) == Ok(size) {
            // It has no limit then, which no program dies of.
            let _ = sockopt::set_bytes(fresh.as_raw(), libc::SOL_SOCKET, name, value);
        }
    }
    table::made(fresh.as_raw());
    // A number that is too high to be known is no better than none.
    let accepted = table::adopt(fresh.as_raw()).ok_or(libc::EMFILE)?;
    if marks::is_foreign(fresh.as_raw()) {
        return Err(libc::EMFILE);
    }
    dress(&accepted, delivery, listener.bound);
    table::serves(&accepted);
    Ok(Some(fresh.fd.into_raw()))
}

/// Makes a fresh socket the one of an accepted channel.
fn dress(socket: &Socket, delivery: Delivery, bound: SocketAddr) {
    let channel = delivery.channel();
    let held = world::locals().contains(&channel.sender) || channel.sender.is_loopback();
    let ip = match bound.ip() {
        any if any.is_unspecified() && held => channel.sender,
        ip => ip,
    };
    socket.show_local(Some(SocketAddr::new(ip, bound.port())));
    socket.set_peer(delivery.first_requester());
    ::log::info!("channel {channel} is accepted");
    *lock(&socket.pushing) = Pushing::accepted(Arc::new(Accepted::new(delivery)));
}
