//! The network that this thread stands in: its interfaces, and a new one to try
//! things in.
//!
//! Promises: nothing of the network is changed but by [`own_network`], which leaves
//! it. Is not: addresses and routes (`netlink`).

use crate::raw::{call, int};
use crate::{Errno, Family, UdpSocket};

use super::files::read_file;

/// `ETHTOOL_GTXCSUM` (include/uapi/linux/ethtool.h).
const ETHTOOL_GTXCSUM: u32 = 0x16;

/// An interface, as far as it matters to datagrams.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Whether it computes checksums, without which the kernel refuses UDP_SEGMENT
    /// (net/ipv4/udp.c, udp_send_skb); none where the driver does not say.
    pub computes_checksums: Option<bool>,
}

/// The interfaces of this thread's network namespace.
///
/// # Errors
/// `ENOENT` where /proc is not mounted.
pub fn interfaces() -> Result<Vec<Interface>, Errno> {
    let mut text = Vec::new();
    read_file("/proc/thread-self/net/dev", &mut text)?;
    let socket = UdpSocket::new(Family::V4)?;
    let text = String::from_utf8_lossy(&text);
    let names = text.lines().filter_map(|line| line.split_once(':'));
    Ok(names
        .filter_map(|(name, _)| look_at(&socket, name.trim()))
        .collect())
}

/// The number of an interface of this thread's network namespace.
///
/// # Errors
/// `ENODEV` where there is none of this name.
pub fn interface_index(name: &str) -> Result<u32, Errno> {
    let socket = UdpSocket::new(Family::V4)?;
    let mut request = Request::of(name).ok_or(Errno::ENODEV)?;
    Ok(request.ask(&socket, libc::SIOCGIFINDEX)?.number())
}

/// None where it has gone meanwhile.
fn look_at(socket: &UdpSocket, name: &str) -> Option<Interface> {
    let mut request = Request::of(name)?;
    let flags = request.ask(socket, libc::SIOCGIFFLAGS).ok()?;
    let up = i32::from(flags.short()) & libc::IFF_UP != 0;
    let mut request = Request::of(name)?;
    let mtu = request.ask(socket, libc::SIOCGIFMTU).ok()?.number();
    let mut question = [ETHTOOL_GTXCSUM, 0];
    let mut request = Request::of(name)?;
    request.set_pointer(&mut question);
    let computes_checksums = request.ask(socket, libc::SIOCETHTOOL).is_ok();
    Some(Interface {
        name: name.to_owned(),
        up,
        mtu,
        computes_checksums: computes_checksums.then_some(question[1] != 0),
    })
}

/// Takes this thread into a network namespace of its own, which has nothing but a
/// loopback device that is up, and ends with the thread. Where privilege is missing, into
/// a user namespace of its own, too, which only a process of one thread can enter.
///
/// # Errors
/// `EPERM` where neither is permitted, `EINVAL` from the second of several threads.
pub fn own_network() -> Result<(), Errno> {
    let unshare = |flags: i32| {
        // SAFETY: takes flags alone; the memory of this thread is not unshared.
        unsafe { call(libc::SYS_unshare, [int(flags), 0, 0, 0, 0, 0]) }
    };
    match unshare(libc::CLONE_NEWNET) {
        Err(Errno::EPERM) => unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?,
        other => other?,
    };
    let socket = UdpSocket::new(Family::V4)?;
    let mut request = Request::of("lo").ok_or(Errno::EINVAL)?;
    let flags = request.ask(&socket, libc::SIOCGIFFLAGS)?.short();
    let up = i16::try_from(libc::IFF_UP).unwrap_or(1);
    request.value[..2].copy_from_slice(&(flags | up).to_ne_bytes());
    request.ask(&socket, libc::SIOCSIFFLAGS).map(drop)
}

/// `struct ifreq`: a name, and a union of 24 bytes.
#[repr(C, align(8))]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

impl Request {
    /// None for what is no interface's name.
    fn of(name: &str) -> Option<Request> {
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            value: [0; 24],
        };
        // The last byte stays zero.
        let room = request.name.get_mut(..name.len())?;
        room.copy_from_slice(name.as_bytes());
        (name.len() < libc::IFNAMSIZ).then_some(request)
    }

    fn set_pointer(&mut self, to: &mut [u32; 2]) {
        let at = to.as_mut_ptr() as usize;
        self.value[..size_of::<usize>()].copy_from_slice(&at.to_ne_bytes());
    }

    fn ask(&mut self, socket: &UdpSocket, what: libc::Ioctl) -> Result<&Request, Errno> {
        let number = usize::try_from(what).map_err(|_| Errno::EINVAL)?;
        let at = std::ptr::from_mut(self) as usize;
        // SAFETY: the kernel reads and writes one `struct ifreq`, which is at least as
        // large as its own (40 bytes); where it holds a pointer, to the two words that
        // the caller keeps for this very call.
        unsafe { call(libc::SYS_ioctl, [int(socket.as_raw()), number, at, 0, 0, 0]) }?;
        Ok(self)
    }

    fn short(&self) -> i16 {
        i16::from_ne_bytes([self.value[0], self.value[1]])
    }

    fn number(&self) -> u32 {
        u32::from_ne_bytes([self.value[0], self.value[1], self.value[2], self.value[3]])
    }
}
