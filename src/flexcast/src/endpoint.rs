//! A socket's part beside its descriptor: what it has become, and what its calls do.
//!
//! ```text
//!           connect ──► Receiving
//!   plans ┤
//!           bind ──► bound ──listen──► Listening ··accept··► a new one: Delivering
//! ```
//! Promises: the descriptor is only ever named by its number, so that whoever owns it
//! (the Rust [`crate::Socket`], a C program) may close it; no lock is held while a call
//! waits; a forked child waits for no lock of its parent's. Is not its owner.

mod relaying;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use flexcast_runtime::kernel::{recv_parts, sockopt, Family, UdpSocket};
use flexcast_runtime::receive::{Asking, Read, ReceiveSettings, ReceivingSocket};
use flexcast_runtime::send::{Guard, Listening, Tie};
use flexcast_runtime::{forks, AcrossForks, Errno};
use flexcast_wire::Channel;

use crate::outlet::Outlet;
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

/// What it has become, for good.
#[derive(Debug)]
enum Role {
    Receiving(Channel, ReceivingSocket),
    Listening(Binding, Listening),
    Delivering(Outlet),
}

/// What it may become.
#[derive(Clone, Default, Debug)]
struct Plans {
    binding: Option<Binding>,
    options: Options,
    guard: Option<Guard>,
    /// It is to listen for other hosts' channels.
    transparent: bool,
    /// It is to ask in the stead of an accepted socket's audience.
    downstream: Option<Tie>,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Endpoint {
    family: Family,
    plans: AcrossForks<Mutex<Plans>>,
    /// Set with the plans locked; and how many forks lay before that.
    role: OnceLock<(u64, Role)>,
}

impl Endpoint {
    pub(crate) fn new(family: Family) -> Endpoint {
        life::watch_forks();
        Endpoint {
            family,
            plans: AcrossForks::new(Mutex::default()),
            role: OnceLock::new(),
        }
    }

    fn role(&self) -> Option<&Role> {
        self.role.get().map(|(_, role)| role)
    }

    /// To be called with the plans locked, where it has none yet.
    fn set_role(&self, role: Role) {
        // Cannot fail then.
        let _ = self.role.set((forks(), role));
    }

    /// Whether it is the parent's, since a fork: what needs its background threads is
    /// then not to be had here.
    fn is_inherited(&self) -> bool {
        self.role.get().is_some_and(|(born, _)| *born != forks())
    }

    fn check_owned(&self) -> Result<(), Errno> {
        match self.is_inherited() {
            true => Err(Errno::EOPNOTSUPP),
            false => Ok(()),
        }
    }

    fn plans(&self) -> MutexGuard<'_, Plans> {
        let plans = self.plans.get();
        plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plans, where they are still to be carried out.
    fn open_plans(&self) -> Result<MutexGuard<'_, Plans>, Errno> {
        let plans = self.plans();
        match self.role() {
            None => Ok(plans),
            Some(Role::Receiving(..)) => Err(Errno::EISCONN),
            Some(Role::Listening(..) | Role::Delivering(_)) => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    pub(crate) fn options(&self) -> Options {
        self.plans().options.clone()
    }

    pub(crate) fn set_options(&self, options: Options) -> Result<(), Errno> {
        if !options.are_sound() {
            return Err(Errno::EINVAL);
        }
        self.open_plans()?.options = options;
        Ok(())
    }

    pub(crate) fn set_guard(&self, guard: Option<Guard>) -> Result<(), Errno> {
        self.open_plans()?.guard = guard;
        Ok(())
    }

    pub(crate) fn connect(&self, raw: i32, channel: Channel) -> Result<(), Errno> {
        let plans = self.plans();
        match self.role() {
            None if plans.binding.is_none() => {}
            Some(Role::Receiving(..) | Role::Delivering(_)) => return Err(Errno::EISCONN),
            None | Some(Role::Listening(..)) => return Err(Errno::EOPNOTSUPP),
        }
        let options = &plans.options;
        let fp = process::port()?;
        let mut at = options.via.unwrap_or(SocketAddr::new(channel.sender, fp));
        if at.port() == 0 {
            at.set_port(fp);
        }
        let downstream = plans.downstream.as_ref();
        if downstream.is_some_and(|tie| tie.channel() != channel) {
            return Err(Errno::EINVAL);
        }
        let at_home = Family::of(at.ip());
        if (self.family, at_home) == (Family::V4, Family::V6) {
            return Err(Errno::EAFNOSUPPORT);
        }
        if at.ip().is_unspecified() || at.ip().is_multicast() {
            return Err(Errno::EINVAL);
        }
        let bound_here = sockopt::local_addr(raw)?.port() == 0;
        if bound_here {
            sockopt::bind(raw, SocketAddr::new(self.family.any(), 0))?;
        }
        widen_queue(raw, self.family);
        let settings = ReceiveSettings {
            fp,
            path: process::path()?,
            requester: options.requester(),
        };
        let socket = ReceivingSocket::adopt_reader(raw, &settings)?;
        if bound_here {
            // Between bind and filter: a stream of whoever had the port before us.
            while recv_parts(raw, &mut [], &mut [], false, false).is_ok() {}
        }
        let asking = Asking {
            at,
            strict: options.strict,
        };
        let joined = match downstream {
            Some(tie) => socket.join_for(tie, asking),
            None => socket.join(channel, asking),
        };
        // What was adopted stays adopted: another channel cannot fail for that reason.
        self.set_role(Role::Receiving(channel, socket));
        joined
    }

    pub(crate) fn bind(&self, binding: Binding) -> Result<(), Errno> {
        let mut plans = self.plans();
        if self.role().is_some() || plans.binding.is_some() {
            return Err(Errno::EINVAL);
        }
        if let Some(sender) = binding.sender {
            if self.family == Family::V4 && Family::of(sender) == Family::V6 {
                return Err(Errno::EAFNOSUPPORT);
            }
            relaying::check_sender(sender.to_canonical(), plans.transparent)?;
        }
        plans.binding = Some(binding);
        Ok(())
    }

    /// As [`Endpoint::bind`], for an address that settings say is this host's.
    pub(crate) fn bind_as_told(&self, binding: Binding) -> Result<(), Errno> {
        let mut plans = self.open_plans()?;
        match plans.binding {
            None => plans.binding = Some(binding),
            Some(_) => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.role(), Some(Role::Listening(..)))
    }

    pub(crate) fn is_delivering(&self) -> bool {
        matches!(self.role(), Some(Role::Delivering(_)))
    }

    pub(crate) fn listen(&self, raw: i32, backlog: usize) -> Result<(), Errno> {
        self.check_owned()?;
        let plans = self.plans();
        match self.role() {
            None => {}
            Some(Role::Listening(_, listening)) => {
                listening.set_backlog(backlog);
                return Ok(());
            }
            Some(Role::Receiving(..) | Role::Delivering(_)) => return Err(Errno::EINVAL),
        }
        let binding = plans.binding.ok_or(Errno::EDESTADDRREQ)?;
        let sending = process::sending()?;
        relaying::prepare(&sending, &plans)?;
        let bell = sending.hang_bell(raw)?;
        let scope = binding.scope(self.family == Family::V4, plans.transparent);
        let listening = sending.listen_within(
            scope,
            plans.options.limits(),
            backlog,
            bell,
            plans.guard.clone(),
        );
        let listening = listening.map_err(process::errno)?;
        self.set_role(Role::Listening(binding, listening));
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
        let Some(Role::Listening(_, listening)) = self.role() else {
            return Err(Errno::EINVAL);
        };
        self.check_owned()?;
        let mut bell = [0; 8];
        loop {
            if listening.has_waiting() {
                let socket = new(self.family)?;
                let at = process::sending()?.hang_bell(socket.as_raw())?;
                if let Some(outlet) = Outlet::accept(listening, at)? {
                    // The bell that was rung for it; not there yet: one too many later.
                    let _ = recv_parts(raw, &mut bell, &mut [], false, false);
                    outlet.is_behind(sockopt::cookie(socket.as_raw())?, self.family);
                    let endpoint = Endpoint::new(self.family);
                    endpoint.set_role(Role::Delivering(outlet));
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
            Some(Role::Receiving(_, socket)) => Ok(match socket.read(raw, buffer, wait)? {
                Read::Datagram(length) => Received::Datagram(length),
                Read::End => Received::End,
            }),
            Some(Role::Delivering(delivery)) => {
                let mut bell = [0; 8];
                while !delivery.is_over() {
                    let arrival = recv_parts(raw, &mut bell, &mut [], wait, false)?;
                    if arrival.length == 0 {
                        break;
                    }
                }
                Ok(Received::End)
            }
            None | Some(Role::Listening(..)) => Err(Errno::ENOTCONN),
        }
    }

    /// As [`Endpoint::recv`], as a stream of bytes; 0 at its end. Of an accepted socket,
    /// whose audience has nothing to say, the end is all there is: `EAGAIN` before it,
    /// without waiting.
    pub(crate) fn recv_bytes(
        &self,
        raw: i32,
        buffer: &mut [u8],
        wait: bool,
        peek: bool,
    ) -> Result<usize, Errno> {
        match self.role() {
            Some(Role::Receiving(_, socket)) => socket.read_bytes(raw, buffer, wait, peek),
            _ => self.recv(raw, buffer, false).map(|_| 0),
        }
    }

    pub(crate) fn send(&self, raw: i32, datagrams: &[&[&[u8]]], wait: bool) -> Result<(), Errno> {
        match self.role() {
            Some(Role::Delivering(delivery)) => {
                let block = wait && !sockopt::is_nonblocking(raw)?;
                delivery.send_soon(datagrams, block)
            }
            Some(Role::Receiving(..)) => Err(Errno::EOPNOTSUPP),
            None | Some(Role::Listening(..)) => Err(Errno::ENOTCONN),
        }
    }

    /// The channel at the other end.
    pub(crate) fn peer(&self) -> Result<Channel, Errno> {
        match self.role() {
            Some(Role::Receiving(channel, _)) => Ok(*channel),
            Some(Role::Delivering(delivery)) => Ok(delivery.channel()),
            None | Some(Role::Listening(..)) => Err(Errno::ENOTCONN),
        }
    }

    /// What it is bound to.
    pub(crate) fn local(&self) -> Binding {
        match self.role() {
            Some(Role::Listening(binding, _)) => *binding,
            Some(Role::Delivering(delivery)) => delivery.channel().into(),
            Some(Role::Receiving(..)) => Binding::ANY,
            None => self.plans().binding.unwrap_or(Binding::ANY),
        }
    }

    pub(crate) fn requesters(&self) -> Result<Vec<Requester>, Errno> {
        let Some(Role::Delivering(delivery)) = self.role() else {
            return Err(Errno::ENOTCONN);
        };
        self.check_owned()?;
        let requesters = delivery.requesters().into_iter();
        Ok(requesters.map(Requester::from).collect())
    }

    /// Requests that this process had no room for.
    pub(crate) fn refused(&self) -> Result<u64, Errno> {
        match self.role() {
            Some(Role::Listening(..) | Role::Delivering(_)) => {}
            _ => return Err(Errno::ENOTCONN),
        }
        self.check_owned()?;
        Ok(process::sending()?.refused())
    }

    pub(crate) fn first_requester(&self) -> Option<SocketAddr> {
        match self.role() {
            Some(Role::Delivering(delivery)) => delivery.first_requester(),
            _ => None,
        }
    }

    pub(crate) fn stats(&self, raw: i32) -> Result<Stats, Errno> {
        let Some(Role::Receiving(_, socket)) = self.role() else {
            return Err(Errno::ENOTCONN);
        };
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
        match self.role() {
            Some(Role::Delivering(delivery)) => match (sends, self.is_inherited()) {
                (false, _) => {}
                (true, false) => delivery.end(),
                (true, true) => delivery.end_inherited()?,
            },
            Some(Role::Receiving(channel, socket)) => {
                if receives {
                    match socket.leave(channel) {
                        // Another process asks: it goes on until the last one closes.
                        Err(Errno::EBADF) if self.is_inherited() => {}
                        Ok(()) | Err(Errno::EADDRNOTAVAIL) => {}
                        Err(errno) => return Err(errno),
                    }
                }
            }
            None | Some(Role::Listening(..)) => return Err(Errno::ENOTCONN),
        }
        if receives {
            // On a socket that the kernel has not connected it wakes, and says ENOTCONN.
            let _ = sockopt::shut_down_receiving(raw);
        }
        Ok(())
    }

    /// The last number of this process was closed; whether there is nothing to wait
    /// for. `lives`: other processes hold the kernel's socket.
    pub(crate) fn closed(&self, lives: bool) -> bool {
        match self.role() {
            Some(Role::Receiving(_, socket)) => socket.closed(),
            Some(Role::Delivering(delivery)) => {
                delivery.closed();
                true
            }
            _ => self.is_inherited() || !lives,
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if self.is_inherited() {
            // The parent's: it goes on there, and its locks are not to be waited for.
            if let Some(Role::Delivering(delivery)) = self.role() {
                delivery.let_go();
            }
            std::mem::forget(self.role.take());
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
