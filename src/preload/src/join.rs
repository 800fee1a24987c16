//! The role *joins a group*: a program that joins a mapped group gets the streams of
//! the group's senders, on the very socket it has.
//!
//! ```text
//!   bind to a mapped G:P ──► the kernel socket is bound to ANY:0, G:P is shown
//!   join, unbound        ──► waits for the bind
//!   join, bound to P     ──► rules ─┬─ channels ──► receiver: asks for each
//!                                   └─ none ──────► kernel, its lack of multicast hidden
//!   connect, shutdown    ──► emulated: the kernel socket is never connected
//! ```
//! Promises: error numbers are the kernel's; the kernel does not join; a receive call
//! needs no work of ours but for the source address that it shows (`shown`). Is not
//! the stream itself (`runtime`), nor what the program sends on such a socket (`push`).

mod called;
mod copied_options;
mod descriptor;
mod kernel_join;
mod memberships;
mod receiver;
mod registrations;
mod replacement;
mod request;
mod shown;
mod shown_options;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use flexcast_rules::{Join, Push, Role};
use flexcast_runtime::kernel::{interface_of, sockopt};
use flexcast_runtime::receive;
use libc::c_int;

pub(crate) use called::{call, show_connected, Called};
pub(crate) use request::{concerns, LONGEST};
pub(crate) use shown::{change_group, change_source, changed, Changed};
pub(crate) use shown_options::{Shown, ShownOptions};

use crate::hook::Verdict;
use crate::life::lock;
use crate::name::Family;
use crate::socket::Socket;
use crate::world::{world, World};
use crate::{push, table};
use memberships::Memberships;
use receiver::Receiving;
use request::{Change, Interface, Mode, Request};

/// What this role keeps about a socket.
#[derive(Debug, Default)]
pub(crate) struct Joining {
    /// What the program bound it to, where the kernel has bound it elsewhere.
    bound: Option<SocketAddr>,
    memberships: Memberships,
    receiving: Option<Receiving>,
    /// The parent, from whom it was inherited by fork, asks for its streams.
    receives_elsewhere: bool,
    /// Options that only seem to be set.
    options: ShownOptions,
    /// The program connected it: nothing else is to be heard.
    only: Option<SocketAddr>,
    /// Whom it calls.
    called: Vec<Called>,
}

impl Joining {
    /// The same in a forked child: its parent receives for both.
    pub(crate) fn inherited(&self) -> Joining {
        Joining {
            bound: self.bound,
            memberships: self.memberships.clone(),
            receiving: None,
            receives_elsewhere: self.receives_elsewhere || self.receiving.is_some(),
            options: self.options,
            only: self.only,
            called: self.called.clone(),
        }
    }

    /// Whether it is bound or receives by us.
    fn is_ours(&self) -> bool {
        self.bound.is_some() || self.receiving.is_some() || self.receives_elsewhere
    }

    /// The port of its channels; 0 where it is not bound.
    fn port(&self, fd: c_int) -> u16 {
        let kernel = || sockopt::local_addr(fd).map_or(0, |local| local.port());
        self.bound.map_or_else(kernel, |bound| bound.port())
    }

    fn is_bound_to_group(&self) -> bool {
        self.bound
            .is_some_and(|bound| bound.ip().to_canonical().is_multicast())
    }
}

/// Before the kernel binds a candidate or one of ours; none: nothing to say.
pub(crate) fn bind(fd: c_int, address: SocketAddr) -> Option<Verdict> {
    let world = world()?;
    let rule = world.map().look_up(address)?;
    if !address.ip().to_canonical().is_multicast() || !rule.allows(Role::Join) {
        return None;
    }
    let socket = table::adopt(fd)?;
    let same_family = address.is_ipv6() == (socket.family() == Family::V6);
    let mapped = address.is_ipv6() && address.ip().to_canonical().is_ipv4();
    let bound = sockopt::local_addr(fd).is_ok_and(|local| local.port() != 0);
    if !same_family || bound || (mapped && sockopt::is_v6_only(fd) == Ok(true)) {
        return None; // The kernel says what is wrong.
    }
    let mut joining = lock(&socket.joining);
    // With them the kernel would hand out a port that others have.
    let options = ShownOptions::of(fd);
    options.turn_off(fd, true);
    // As a bind to the group itself does (inet6_bind).
    let was_v6_only = sockopt::is_v6_only(fd);
    if address.is_ipv6() && !mapped {
        let _ = sockopt::set_u32(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 1);
    }
    let any = SocketAddr::new(socket.family().any(), 0);
    if let Err(errno) = descriptor::bind(fd, any, socket.family()) {
        if was_v6_only == Ok(false) {
            let _ = sockopt::set_u32(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY, 0);
        }
        options.turn_on(fd);
        return Some(Verdict::Fail(errno.0));
    }
    joining.options = options;
    joining.bound = Some(address);
    socket.show_local(Some(address));
    settle_late(world, &socket, fd, &mut joining);
    Some(Verdict::Done(0))
}

/// The kernel has bound a candidate or one of ours: joins have waited for it.
pub(crate) fn bound(fd: c_int) {
    let (Some(world), Some(socket)) = (world(), table::find(fd)) else {
        return;
    };
    let mut joining = lock(&socket.joining);
    settle_late(world, &socket, fd, &mut joining);
}

/// Nobody can be told of an error: the join itself has long succeeded.
fn settle_late(world: &World, socket: &Arc<Socket>, fd: c_int, joining: &mut Joining) {
    if joining.memberships.is_empty() {
        return;
    }
    if let Err(number) = receiver::settle(world, socket, fd, joining) {
        log::warn!("a join that waited for its port fails: error {number}");
    }
}

/// Whether we have bound it, or it receives by us.
pub(crate) fn has_part_in(socket: &Socket) -> bool {
    lock(&socket.joining).is_ours()
}

/// The program connects one of ours, or undoes that (none); none: no receiving socket.
pub(crate) fn connect(
    socket: &Arc<Socket>,
    fd: c_int,
    address: Option<SocketAddr>,
) -> Option<Verdict> {
    let world = world()?;
    let mut joining = lock(&socket.joining);
    if !joining.is_ours() {
        return None;
    }
    if address.is_some_and(|to| to.is_ipv6()) && socket.family() == Family::V4 {
        return Some(Verdict::Fail(libc::EAFNOSUPPORT));
    }
    let to = address.map(loopback_for_any);
    joining.only = to;
    if let Some(receiving) = &joining.receiving {
        receiving.socket.only_from(to);
    }
    called::hang_up(world, socket, fd, &mut joining, to.is_none());
    let bound = joining.bound;
    drop(joining);
    push::forget_destination(socket);
    if let Some(to) = to {
        let is_local = |ip| world.is_local(ip);
        if let Push::Own { .. } | Push::Foreign { .. } = world.map().push(to, &is_local, None) {
            return None; // What is sent there is a stream.
        }
    }
    push::disconnect(fd);
    socket.set_peer(to);
    socket.show_local(match to {
        Some(to) => connected_name(socket, fd, bound, to),
        None => bound,
    });
    Some(Verdict::Done(0))
}

/// To the kernel, connecting to no address is connecting to loopback.
fn loopback_for_any(to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), to.port())
        }
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), to.port())
        }
        _ => to,
    }
}

/// What getsockname shows on a socket connected to `to`: where it was bound to no
/// address, the one that the routes choose.
fn connected_name(
    socket: &Socket,
    fd: c_int,
    bound: Option<SocketAddr>,
    to: SocketAddr,
) -> Option<SocketAddr> {
    let base = bound.or_else(|| sockopt::local_addr(fd).ok())?;
    if !base.ip().to_canonical().is_unspecified() {
        return bound;
    }
    let probe = descriptor::udp_socket(socket.family()).ok()?;
    let family = socket.family();
    let local = descriptor::connect(probe, SocketAddr::new(to.ip(), to.port().max(1)), family)
        .and_then(|()| sockopt::local_addr(probe));
    descriptor::close(probe);
    match local {
        Ok(local) => Some(SocketAddr::new(local.ip(), base.port())),
        Err(_) => bound, // Without a route it stays as it is.
    }
}

/// The program shuts one of ours down; none: no receiving socket.
pub(crate) fn shutdown(socket: &Arc<Socket>, fd: c_int, how: c_int) -> Option<Verdict> {
    if !lock(&socket.joining).is_ours() {
        return None;
    }
    if let Some(verdict) = push::shutdown(socket, fd, how) {
        return Some(verdict);
    }
    // The kernel shuts down whom it does not think connected, too, and then says so.
    let connected = socket.peer().is_some_and(|peer| peer.port() != 0);
    Some(match descriptor::shutdown(fd, how) {
        Err(flexcast_runtime::Errno(libc::ENOTCONN)) if connected => Verdict::Done(0),
        Err(errno) => Verdict::Fail(errno.0),
        Ok(()) => Verdict::Done(0),
    })
}

/// The program sets an option of a candidate or one of ours; none: the kernel's.
pub(crate) fn set_option(fd: c_int, level: c_int, name: c_int, value: &[u8]) -> Option<Verdict> {
    if let Some(request) = request::read(level, name, value) {
        return change(fd, request);
    }
    let socket = table::find(fd)?;
    let mut joining = lock(&socket.joining);
    if !joining.is_ours() {
        return None;
    }
    Some(match joining.options.set(level, name, value)? {
        Ok(()) => Verdict::Done(0),
        Err(number) => Verdict::Fail(number),
    })
}

/// A change of a membership; none where no rule names the group at all.
fn change(fd: c_int, mut request: Request) -> Option<Verdict> {
    let world = world().filter(|world| world.map().names_group(request.group))?;
    let socket = table::adopt(fd)?;
    if request.family == Family::V6 && socket.family() == Family::V4 {
        return None; // The kernel says what is wrong.
    }
    request.interface = resolve(request.interface);
    let mut joining = lock(&socket.joining);
    let port = joining.port(fd);
    let held = joining.memberships.find(request.group, request.interface);
    if held.is_none() && port != 0 && !is_taken(world, &request, port) {
        let joins = matches!(request.change, Change::Join | Change::Add(_));
        if joins && joining.receiving.is_none() {
            if let Err(number) = receiver::give_name_back(&socket, fd, &mut joining) {
                return Some(Verdict::Fail(number));
            }
        }
        return Some(Verdict::KernelQuietly);
    }
    let before = joining.memberships.clone();
    if let Err(number) = joining.memberships.apply(&request) {
        return Some(Verdict::Fail(number));
    }
    if let Err(number) = receiver::settle(world, &socket, fd, &mut joining) {
        joining.memberships = before;
        receiver::show(&socket, &joining, port);
        return Some(Verdict::Fail(number));
    }
    Some(Verdict::Done(0))
}

/// Whether a rule makes channels of what is asked for.
fn is_taken(world: &World, request: &Request, port: u16) -> bool {
    let source = match &request.change {
        Change::Add(source) | Change::Drop(source) => Some(*source),
        Change::Filter(Mode::Include, sources) => sources.first().copied(),
        _ => None,
    };
    let is_local = |ip| world.is_local(ip);
    let join = world.map().join(request.group, port, source, &is_local);
    matches!(join, Join::Channels(..))
}

/// An interface named by an address is the one that has it.
fn resolve(interface: Interface) -> Interface {
    let Interface::Address(address) = interface else {
        return interface;
    };
    match interface_of(address.into()) {
        Ok(Some(index)) => Interface::Index(index),
        _ => interface,
    }
}

/// What reading an option of one of ours gives; none: the kernel's answer.
pub(crate) fn get_option(fd: c_int, level: c_int, name: c_int) -> Option<Shown> {
    let socket = table::find(fd)?;
    let joining = lock(&socket.joining);
    if !joining.is_ours() {
        return None;
    }
    joining.options.get(level, name)
}

/// The sources of a membership, as reading IP_MSFILTER or MCAST_MSFILTER gives them.
#[derive(Debug)]
pub(crate) struct SourceList {
    /// The kernel's word for the mode.
    pub(crate) mode: u32,
    /// All of them.
    pub(crate) sources: Vec<IpAddr>,
    /// Of the protocol-independent shape: each is a `sockaddr_storage`.
    pub(crate) generic: bool,
}

/// Reads the sources of a membership of ours; none: the kernel's answer.
pub(crate) fn sources(fd: c_int, level: c_int, name: c_int, value: &[u8]) -> Option<SourceList> {
    let (group, interface) = request::read_query(level, name, value)?;
    let socket = table::find(fd)?;
    let joining = lock(&socket.joining);
    let found = joining.memberships.find(group, resolve(interface))?;
    Some(SourceList {
        mode: found.mode.word(),
        sources: found.sources.clone(),
        generic: name == request::MCAST_MSFILTER,
    })
}

/// A `sockaddr_storage` with this address.
pub(crate) fn storage(address: IpAddr) -> [u8; 128] {
    kernel_join::storage(address)
}

/// `fd` names the socket from now on, too.
pub(crate) fn number_added(socket: &Arc<Socket>, fd: c_int) {
    let joining = lock(&socket.joining);
    if let Some(receiving) = &joining.receiving {
        receiving.socket.add_number(fd);
        receiver::show(socket, &joining, joining.port(fd));
    }
}

/// `fd` is about to name it no longer.
pub(crate) fn number_removed(socket: &Arc<Socket>, fd: c_int) {
    shown::set(fd, None);
    if let Some(receiving) = &lock(&socket.joining).receiving {
        receiving.socket.remove_number(fd);
    }
}

/// The last number that we know was closed in the kernel.
pub(crate) fn closed(socket: &Arc<Socket>) {
    let receiving = lock(&socket.joining).receiving.take();
    if let Some(receiving) = receiving {
        if !receiving.socket.closed() {
            log::debug!("a receiving socket is closed here, and open elsewhere");
        }
    }
}

/// In a forked child: everything of the parent's is left alone.
pub(crate) fn forget() {
    shown::forget();
    receive::forget_after_fork();
}

/// The process ends.
pub(crate) fn leave_all() {
    receive::leave_all();
}
