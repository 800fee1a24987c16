//! The local side of a sender's socket: its port, its address, its kernel's view.
//!
//! Promises: raw calls only; what the program bound stays. Is not the channel.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use flexcast_runtime::kernel::{raw, sockopt};
use flexcast_runtime::Errno;
use libc::c_int;

use crate::name::{Family, Name};
use crate::socket::Socket;
use crate::world;

/// The source that the program chose: what it bound, or IP_MULTICAST_IF.
pub(super) fn chosen(socket: &Socket, fd: c_int) -> Option<IpAddr> {
    let bound = sockopt::local_addr(fd).ok().map(|local| local.ip());
    let interface = || {
        let mut address = [0; 4];
        let read = sockopt::get_bytes(fd, libc::SOL_IP, libc::IP_MULTICAST_IF, &mut address);
        (read == Ok(4)).then(|| IpAddr::V4(Ipv4Addr::from(address)))
    };
    let useful = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    bound.filter(useful).or_else(|| {
        (socket.family() == Family::V4)
            .then(interface)
            .flatten()
            .filter(useful)
    })
}

/// Gives the socket a port of its own, as a first send would.
pub(super) fn bind_if_unbound(socket: &Socket, fd: c_int) {
    if sockopt::local_addr(fd).is_ok_and(|local| local.port() == 0) {
        bind(
            fd,
            SocketAddr::new(socket.family().any(), 0),
            socket.family(),
        );
    }
}

fn bind(fd: c_int, address: SocketAddr, family: Family) {
    let name = Name::new(address, family);
    // SAFETY: the kernel reads a name that is alive, as long as it says.
    let bound = unsafe { raw::call(libc::SYS_bind, naming(fd, &name)) };
    if let Err(error) = bound {
        ::log::debug!("a sender's socket gets no port: {error}");
    }
}

fn naming(fd: c_int, name: &Name) -> [usize; 6] {
    let length = name.length() as usize;
    [raw::int(fd), name.as_ptr() as usize, length, 0, 0, 0]
}

/// Connects in the kernel; a datagram socket's connect does not block.
pub(super) fn connect_in_kernel(fd: c_int, name: Name) -> Result<(), Errno> {
    // SAFETY: the kernel reads a name that is alive, as long as it says.
    unsafe { raw::call(libc::SYS_connect, naming(fd, &name)) }.map(drop)
}

/// Undoes a connection that the kernel knows; the port stays the same.
pub(super) fn disconnect_in_kernel(socket: &Socket, fd: c_int) {
    if sockopt::peer_addr(fd).is_err() {
        return;
    }
    let before = sockopt::local_addr(fd).map_or(0, |local| local.port());
    let nowhere = [0_u8; 16];
    let words = [raw::int(fd), nowhere.as_ptr() as usize, 16, 0, 0, 0];
    // SAFETY: the kernel reads 16 bytes that are alive: AF_UNSPEC.
    let undone = unsafe { raw::call(libc::SYS_connect, words) };
    let now = sockopt::local_addr(fd).map_or(0, |local| local.port());
    if undone.is_ok() && now == 0 {
        let any = SocketAddr::new(socket.family().any(), before);
        bind(fd, any, socket.family());
    }
}

/// Readers see the end, as after any SHUT_RD; that nobody is connected is no matter.
pub(super) fn shut_reading_in_kernel(fd: c_int) {
    let words = [raw::int(fd), raw::int(libc::SHUT_RD), 0, 0, 0, 0];
    // SAFETY: integers only.
    let _ = unsafe { raw::call(libc::SYS_shutdown, words) };
}

/// What getsockname shows once connected to `to`: S where an interface has it, else
/// what the program chose, else an address of this host.
pub(super) fn shown(
    socket: &Socket,
    fd: c_int,
    to: SocketAddr,
    sender: Option<IpAddr>,
) -> SocketAddr {
    let four = to.ip().to_canonical().is_ipv4();
    let locals = world::locals();
    let held = |ip: &IpAddr| ip.is_loopback() || locals.contains(ip);
    let useful = |ip: &&IpAddr| ip.is_ipv4() == four && !ip.is_loopback() && !is_link_local(ip);
    let ip = sender
        .filter(held)
        .or_else(|| chosen(socket, fd))
        .or_else(|| locals.iter().find(useful).copied())
        .unwrap_or(if four {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)
        });
    SocketAddr::new(ip, 0)
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
