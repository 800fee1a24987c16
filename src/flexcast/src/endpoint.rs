//! A socket's part beside its descriptor: what it has become, and what its calls do.
//!
//! ```text
//!             connect ──► Receiving
//!   Fresh ──┤
//!             bind ──► Bound ──listen──► Listening ··accept··► a new one: Delivering
//! ```
//! Promises: the descriptor is only ever named by its number, so that whoever owns it
//! (the Rust [`crate::Socket`], a C program) may close it; no lock is held while a call
//! waits. Is not its owner.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flexcast_runtime::kernel::{recv_parts, sockopt, Family, UdpSocket};
use flexcast_runtime::receive::{Asking, Read, ReceiveSettings, ReceivingSocket};
use flexcast_runtime::send::{Delivery, Guard, Listening};
use flexcast_runtime::Errno;
use flexcast_wire::Channel;

use crate::{life, process, Binding, Options, Requester, Stats};

/// The queue that a receiver asks for. Higher: longer absences lose nothing, at the price
/// of memory; the kernel grants an unprivileged process net.core.rmem_max.
const QUEUE: u32 = 4 << 20;

/// What a receive call took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// A datagram of this length. Where it is longer than the buffer, the rest is gone.
    Datagram(usize),
    /// The stream came to its end; what comes next is another one. On an accepted
    /// socket: nobody is there any more.
    End,
}

#[derive(Clone, Debug)]
enum Role {
    Fresh,
    Bound(Binding),
    Receiving(Channel, ReceivingSocket),
    Listening(Binding, Arc<Listening>),
    Delivering(Arc<Delivery>),
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Endpoint {
    family: Family,
    /// The generation of processes in which it was made.
    born: u64,
    role: Mutex<Role>,
    options: Mutex<Options>,
    guard: Mutex<Option<Guard>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    pub(crate) fn new(family: Family) -> Endpoint {
        Endpoint {
            family,
            born: life::generation(),
            role: Mutex::new(Role::Fresh),
            options: Mutex::default(),
            guard: Mutex::default(),
        }
    }

    /// Whether it is the parent's, since a fork: what needs its background threads is
    /// then not to be had here.
    pub(crate) fn is_inherited(&self) -> bool {
        self.born != life::generation()
    }

    fn check_owned(&self) -> Result<(), Errno> {
        match self.is_inherited() {
            true => Err(Errno::EOPNOTSUPP),
            false => Ok(()),
        }
    }

    fn role(&self) -> Role {
        lock(&self.role).clone()
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    pub(crate) fn options(&self) -> Options {
        lock(&self.options).clone()
    }

    pub(crate) fn set_options(&self, options: Options) -> Result<(), Errno> {
        if !options.are_sound() {
            return Err(Errno::EINVAL);
        }
        match *lock(&self.role) {
            Role::Fresh | Role::Bound(_) => *lock(&self.options) = options,
            Role::Receiving(..) => return Err(Errno::EISCONN),
            Role::Listening(..) | Role::Delivering(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    pub(crate) fn set_guard(&self, guard: Option<Guard>) -> Result<(), Errno> {
        match *lock(&self.role) {
            Role::Fresh | Role::Bound(_) => *lock(&self.guard) = guard,
            Role::Receiving(..) => return Err(Errno::EISCONN),
            Role::Listening(..) | Role::Delivering(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    pub(crate) fn connect(&self, raw: i32, channel: Channel) -> Result<(), Errno> {
        self.check_owned()?;
        let options = self.options();
        let fp = process::port()?;
        let mut at = options.via.unwrap_or(SocketAddr::new(channel.sender, fp));
        if at.port() == 0 {
            at.set_port(fp);
        }
        let mut role = lock(&self.role);
        match &*role {
            Role::Fresh => {}
            Role::Receiving(..) | Role::Delivering(_) => return Err(Errno::EISCONN),
            Role::Bound(_) | Role::Listening(..) => return Err(Errno::EOPNOTSUPP),
        }
        let at_home = Family::of(at.ip());
        if (self.family, at_home) == (Family::V4, Family::V6) {
            return Err(Errno::EAFNOSUPPORT);
        }
        if at.ip().is_unspecified() || at.ip().is_multicast() {
            return Err(Errno::EINVAL);
        }
        if sockopt::local_addr(raw)?.port() == 0 {
            sockopt::bind(raw, SocketAddr::new(self.family.any(), 0))?;
        }
        widen_queue(raw, self.family);
        let settings = ReceiveSettings {
            fp,
            path: process::path()?,
            requester: options.requester(),
        };
        let socket = ReceivingSocket::adopt_reader(raw, &settings)?;
        let asking = Asking {
            at,
            strict: options.strict,
        };
        let joined = socket.join(channel, asking);
        // What was adopted stays adopted: another channel cannot fail for that reason.
        *role = Role::Receiving(channel, socket);
        joined
    }

    pub(crate) fn bind(&self, binding: Binding) -> Result<(), Errno> {
        let mut role = lock(&self.role);
        match &*role {
            Role::Fresh => {}
            _ => return Err(Errno::EINVAL),
        }
        if let Some(sender) = binding.sender {
            if self.family == Family::V4 && Family::of(sender) == Family::V6 {
                return Err(Errno::EAFNOSUPPORT);
            }
            let local = flexcast_runtime::kernel::local_addresses()?;
            let sender = sender.to_canonical();
            if !sender.is_loopback() && !local.contains(&sender) {
                return Err(Errno::EADDRNOTAVAIL);
            }
        }
        *role = Role::Bound(binding);
        Ok(())
    }

    pub(crate) fn listen(&self, raw: i32, backlog: usize) -> Result<(), Errno> {
        self.check_owned()?;
        let mut role = lock(&self.role);
        let binding = match &*role {
            Role::Bound(binding) => *binding,
            Role::Listening(_, listening) => {
                listening.set_backlog(backlog);
                return Ok(());
            }
            Role::Fresh => return Err(Errno::EDESTADDRREQ),
            Role::Receiving(..) | Role::Delivering(_) => return Err(Errno::EINVAL),
        };
        let sending = process::sending()?;
        let bell = sending.hang_bell(raw)?;
        let scope = binding.scope(self.family == Family::V4);
        let guard = lock(&self.guard).clone();
        let listening = sending.listen(scope, backlog, bell, guard);
        let listening = listening.map_err(process::errno)?;
        *role = Role::Listening(binding, Arc::new(listening));
        Ok(())
    }

    /// Waits for a channel, as the descriptor's own mode says where `wait` is set; `new`
    /// makes the socket for it.
    pub(crate) fn accept(
        &self,
        raw: i32,
        wait: bool,
        new: impl Fn(Family) -> Result<UdpSocket, Errno>,
    ) -> Result<(UdpSocket, Endpoint), Errno> {
        let Role::Listening(_, listening) = self.role() else {
            return Err(Errno::EINVAL);
        };
        self.check_owned()?;
        let mut bell = [0; 8];
        loop {
            if listening.has_waiting() {
                let socket = new(self.family)?;
                let at = process::sending()?.hang_bell(socket.as_raw())?;
                let delivery = listening.accept(at).map_err(process::errno)?;
                if let Some(delivery) = delivery {
                    // The bell that was rung for it; not there yet: one too many later.
                    let _ = recv_parts(raw, &mut bell, &mut [], false, false);
                    let endpoint = Endpoint::new(self.family);
                    *lock(&endpoint.role) = Role::Delivering(Arc::new(delivery));
                    return Ok((socket, endpoint));
                }
            }
            let arrival = recv_parts(raw, &mut bell, &mut [], wait, false)?;
            if arrival.length == 0 {
                // Shut down.
                return Err(Errno::EINVAL);
            }
        }
    }

    /// Takes what comes next, waiting as the descriptor's own mode says where `wait` is
    /// set.
    pub(crate) fn recv(&self, raw: i32, buffer: &mut [u8], wait: bool) -> Result<Received, Errno> {
        match self.role() {
            Role::Receiving(_, socket) => Ok(match socket.read(raw, buffer, wait)? {
                Read::Datagram(length) => Received::Datagram(length),
                Read::End => Received::End,
            }),
            Role::Delivering(delivery) => {
                let mut bell = [0; 8];
                while !delivery.is_over() {
                    let arrival = recv_parts(raw, &mut bell, &mut [], wait, false)?;
                    if arrival.length == 0 {
                        break;
                    }
                }
                Ok(Received::End)
            }
            Role::Fresh | Role::Bound(_) | Role::Listening(..) => Err(Errno::ENOTCONN),
        }
    }

    pub(crate) fn send(&self, raw: i32, datagrams: &[&[&[u8]]], wait: bool) -> Result<(), Errno> {
        match self.role() {
            Role::Delivering(delivery) => {
                self.check_owned()?;
                let block = wait && !sockopt::is_nonblocking(raw)?;
                delivery.send(datagrams, block)
            }
            Role::Receiving(..) => Err(Errno::EOPNOTSUPP),
            Role::Fresh | Role::Bound(_) | Role::Listening(..) => Err(Errno::ENOTCONN),
        }
    }

    /// The channel at the other end.
    pub(crate) fn peer(&self) -> Result<Channel, Errno> {
        match self.role() {
            Role::Receiving(channel, _) => Ok(channel),
            Role::Delivering(delivery) => Ok(delivery.channel()),
            Role::Fresh | Role::Bound(_) | Role::Listening(..) => Err(Errno::ENOTCONN),
        }
    }

    /// What it is bound to.
    pub(crate) fn local(&self) -> Binding {
        match self.role() {
            Role::Bound(binding) | Role::Listening(binding, _) => binding,
            Role::Delivering(delivery) => delivery.channel().into(),
            Role::Fresh | Role::Receiving(..) => Binding::ANY,
        }
    }

    pub(crate) fn requesters(&self) -> Result<Vec<Requester>, Errno> {
        let Role::Delivering(delivery) = self.role() else {
            return Err(Errno::ENOTCONN);
        };
        self.check_owned()?;
        let requesters = delivery.requesters().into_iter();
        Ok(requesters.map(Requester::from).collect())
    }

    pub(crate) fn first_requester(&self) -> Option<SocketAddr> {
        match self.role() {
            Role::Delivering(delivery) => delivery.first_requester(),
            _ => None,
        }
    }

    pub(crate) fn stats(&self, raw: i32) -> Result<Stats, Errno> {
        let Role::Receiving(_, socket) = self.role() else {
            return Err(Errno::ENOTCONN);
        };
        self.check_owned()?;
        let counts = socket.counts().unwrap_or_default();
        let report = socket.report();
        let path = report.channels.first().map(|channel| channel.nodes);
        Ok(Stats {
            received: counts.datagrams,
            bytes: counts.bytes,
            lost: counts.lost,
            duplicates: counts.duplicates,
            foreign: counts.foreign,
            dropped: u64::from(sockopt::drops(raw)?),
            path: path.map_or_else(Vec::new, |path| path.nodes().to_vec()),
        })
    }

    /// No more of it: the stream of an accepted socket ends, a receiver leaves. Those
    /// who wait in its calls are woken.
    pub(crate) fn shut_down(&self, raw: i32, sends: bool, receives: bool) -> Result<(), Errno> {
        self.check_owned()?;
        match self.role() {
            Role::Delivering(delivery) => {
                if sends {
                    delivery.end();
                }
            }
            Role::Receiving(channel, socket) => {
                if receives {
                    match socket.leave(&channel) {
                        Ok(()) | Err(Errno::EADDRNOTAVAIL) => {}
                        Err(errno) => return Err(errno),
                    }
                }
            }
            Role::Fresh | Role::Bound(_) | Role::Listening(..) => return Err(Errno::ENOTCONN),
        }
        if receives {
            // On a socket that the kernel has not connected it wakes, and says ENOTCONN.
            let _ = sockopt::shut_down_receiving(raw);
        }
        Ok(())
    }

    /// The descriptor was closed: whether the kernel's socket is gone with it.
    pub(crate) fn closed(&self) -> bool {
        if self.is_inherited() {
            return true;
        }
        match self.role() {
            Role::Receiving(_, socket) => socket.closed(),
            _ => true,
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if self.is_inherited() {
            // The parent's: it goes on there, and its locks are not to be waited for.
            let role = self.role.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(std::mem::replace(role, Role::Fresh));
        }
    }
}

/// Makes the queue as long as the system allows, unless the program has chosen: nobody
/// slows down for a receiver that waits for its turn.
fn widen_queue(raw: i32, family: Family) {
    let size = |raw| sockopt::get_u32(raw, libc::SOL_SOCKET, libc::SO_RCVBUF);
    let Ok(fresh) = UdpSocket::for_program(family, true, true) else {
        return;
    };
    if size(raw) != size(fresh.as_raw()) {
        return;
    }
    let set = |name| sockopt::set_u32(raw, libc::SOL_SOCKET, name, QUEUE);
    // The second is cut down to net.core.rmem_max by the kernel.
    let _ = set(libc::SO_RCVBUFFORCE).or_else(|_| set(libc::SO_RCVBUF));
}
