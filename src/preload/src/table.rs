//! Numbers of the program's descriptor table, and the sockets that they name.
//!
//! Promises: what is found was the very kernel socket a moment ago (its cookie is
//! compared: a close can bypass us); a number is unmarked before the kernel closes
//! it. Locks are held for a look-up, never across a call that blocks. Is not the
//! kernel's table: numbers that never met us are not in here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use libc::c_int;

use crate::life::{lock, same_process, PerProcess};
use crate::marks::{self, Mark};
use crate::socket::Socket;
use crate::{join, world};

#[derive(Debug, Default)]
struct Table {
    numbers: Mutex<BTreeMap<c_int, Arc<Socket>>>,
    /// Between the last number's removal here and its close in the kernel.
    closing: Mutex<Vec<Arc<Socket>>>,
}

static TABLE: PerProcess<Table> = PerProcess::new();

/// A socket about to lose a number; to be given to [`closed`] or [`still_open`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Closing {
    was: Mark,
    /// Of a socket that lost its last number; 0: none.
    cookie: u64,
}

impl Closing {
    /// Nothing of ours.
    pub(crate) const NOTHING: Closing = Closing {
        was: Mark::Foreign,
        cookie: 0,
    };
}

/// A datagram socket was made under our eyes.
pub(crate) fn made(fd: c_int) {
    if same_process() && world::world().is_some() {
        forget_number(fd);
        marks::set(fd, Mark::Candidate);
    }
}

/// A number now names something that is not ours.
pub(crate) fn forget_number(fd: c_int) {
    if !marks::is_foreign(fd) {
        let closing = before_close(fd);
        closed(closing);
    }
}

/// The socket that `fd` names, where it is ours.
pub(crate) fn find(fd: c_int) -> Option<Arc<Socket>> {
    if marks::get(fd) != Mark::Ours {
        return None;
    }
    let known = lock(&TABLE.get().numbers).get(&fd).cloned();
    let socket = known.or_else(|| inherit(fd))?;
    if socket.is(fd) {
        return Some(socket);
    }
    forget_number(fd);
    None
}

/// Takes over what the parent process knew about `fd`. Where a thread of the parent's
/// was at it when the fork came, it is a candidate.
fn inherit(fd: c_int) -> Option<Arc<Socket>> {
    let theirs = TABLE.parents()?.numbers.try_lock().ok();
    let socket = theirs.and_then(|numbers| numbers.get(&fd)?.inherited());
    marks::set(fd, Mark::Candidate);
    let socket = socket.filter(|socket| socket.is(fd))?;
    let mut numbers = lock(&TABLE.get().numbers);
    let known = numbers.values().find(|s| s.cookie() == socket.cookie());
    let socket = known.cloned().unwrap_or_else(|| Arc::new(socket));
    enter(&mut numbers, fd, &socket);
    Some(socket)
}

/// Makes a candidate ours. None where it is none, or has become something else.
pub(crate) fn adopt(fd: c_int) -> Option<Arc<Socket>> {
    match marks::get(fd) {
        Mark::Foreign => None,
        Mark::Ours | Mark::Serving => find(fd).or_else(|| adopt_candidate(fd)),
        Mark::Candidate => adopt_candidate(fd),
    }
}

fn adopt_candidate(fd: c_int) -> Option<Arc<Socket>> {
    if marks::get(fd) != Mark::Candidate || !same_process() {
        return None;
    }
    let Some(fresh) = Socket::of(fd) else {
        marks::set(fd, Mark::Foreign);
        return None;
    };
    let mut numbers = lock(&TABLE.get().numbers);
    // A duplicate of it may be ours already, or another thread was faster.
    let known = numbers.values().find(|s| s.cookie() == fresh.cookie());
    let socket = known.cloned().unwrap_or_else(|| Arc::new(fresh));
    enter(&mut numbers, fd, &socket);
    Some(socket)
}

/// It has begun to listen, or is just accepted: its numbers say so from now on.
pub(crate) fn serves(socket: &Arc<Socket>) {
    socket.serve();
    let numbers = lock(&TABLE.get().numbers);
    for (fd, _) in numbers.iter().filter(|(_, s)| Arc::ptr_eq(s, socket)) {
        marks::set(*fd, socket.mark());
    }
}

/// The numbers that name it.
pub(crate) fn numbers_of(socket: &Socket) -> Vec<c_int> {
    let numbers = lock(&TABLE.get().numbers);
    let theirs = numbers
        .iter()
        .filter(|(_, s)| std::ptr::eq(&raw const ***s, socket));
    theirs.map(|(number, _)| *number).collect()
}

fn enter(numbers: &mut BTreeMap<c_int, Arc<Socket>>, fd: c_int, socket: &Arc<Socket>) {
    if !marks::set(fd, socket.mark()) {
        return;
    }
    let before = numbers.insert(fd, socket.clone());
    if before.is_none_or(|before| !Arc::ptr_eq(&before, socket)) {
        socket.count_number(true);
    }
}

/// `to` has become a duplicate of `from`.
pub(crate) fn duplicated(from: c_int, to: c_int) {
    if !same_process() {
        return;
    }
    forget_number(to);
    if let Some(socket) = adopt(from) {
        enter(&mut lock(&TABLE.get().numbers), to, &socket);
        join::number_added(&socket, to);
    }
}

/// Takes a number away before the kernel closes it.
pub(crate) fn before_close(fd: c_int) -> Closing {
    if !same_process() {
        return Closing::NOTHING;
    }
    let was = marks::get(fd);
    marks::set(fd, Mark::Foreign);
    let mut cookie = 0;
    if was == Mark::Ours {
        let socket = lock(&TABLE.get().numbers).remove(&fd);
        if let Some(socket) = socket {
            join::number_removed(&socket, fd);
            if socket.count_number(false) == 0 {
                cookie = socket.cookie();
                lock(&TABLE.get().closing).push(socket);
            }
        }
    }
    Closing { was, cookie }
}

fn take_closing(cookie: u64) -> Option<Arc<Socket>> {
    let mut closing = lock(&TABLE.get().closing);
    let at = closing.iter().position(|s| s.cookie() == cookie)?;
    Some(closing.swap_remove(at))
}

/// The kernel has closed it.
pub(crate) fn closed(closing: Closing) {
    if closing.cookie != 0 {
        if let Some(socket) = take_closing(closing.cookie) {
            join::closed(&socket);
        }
    }
}

/// The kernel has not closed `fd` after all.
pub(crate) fn still_open(fd: c_int, closing: Closing) {
    match closing.was {
        Mark::Foreign => {}
        Mark::Candidate => {
            marks::set(fd, Mark::Candidate);
        }
        Mark::Ours | Mark::Serving => {
            marks::set(fd, Mark::Candidate);
            let known = (closing.cookie != 0).then(|| take_closing(closing.cookie));
            if let Some(socket) = known.flatten() {
                enter(&mut lock(&TABLE.get().numbers), fd, &socket);
                join::number_added(&socket, fd);
            } else {
                adopt(fd);
            }
        }
    }
}

/// In a forked child.
pub(crate) fn forget() {
    TABLE.forget();
}
