//! What a program has set on a socket, copied to another one.
//!
//! ```text
//!   before bind   interface, v6only, foreign addresses
//!   after bind    buffers, time limits, timestamps, ancillary data, TTL, TOS, …
//!   status        O_NONBLOCK, O_ASYNC and who is signalled
//! ```
//! Promises: an option that both have alike is not touched, so that defaults stay
//! defaults; one that this kernel does not know, or that takes a privilege which we
//! lack, is passed over. Left out: SO_REUSEADDR and SO_REUSEPORT, UDP_GRO, the
//! receipt of ICMP errors (`shown_options`), and memberships.

use flexcast_runtime::kernel::sockopt;
use libc::c_int;

use super::descriptor;

// include/uapi/asm-generic/fcntl.h
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;
const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;

const SOL_IP: c_int = libc::SOL_IP;
const SOL_IPV6: c_int = libc::SOL_IPV6;
const SOL_SOCKET: c_int = libc::SOL_SOCKET;

/// Level, option, size of its value.
type Option3 = (c_int, c_int, usize);

/// They decide what an address means, so they come first.
const BEFORE_BIND: [Option3; 6] = [
    (SOL_IPV6, libc::IPV6_V6ONLY, 4),
    (SOL_SOCKET, libc::SO_MARK, 4),
    (SOL_IP, libc::IP_FREEBIND, 4),
    (SOL_IP, libc::IP_TRANSPARENT, 4),
    (SOL_IPV6, libc::IPV6_FREEBIND, 4),
    (SOL_IPV6, libc::IPV6_TRANSPARENT, 4),
];

/// Buffers: the kernel answers with twice what it was asked for.
const BUFFERS: [(c_int, c_int); 2] = [
    (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE),
    (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE),
];

const AFTER_BIND: [Option3; 58] = [
    (SOL_SOCKET, libc::SO_BROADCAST, 4),
    (SOL_SOCKET, libc::SO_DONTROUTE, 4),
    (SOL_SOCKET, libc::SO_PRIORITY, 4),
    (SOL_SOCKET, libc::SO_NO_CHECK, 4),
    (SOL_SOCKET, libc::SO_OOBINLINE, 4),
    (SOL_SOCKET, libc::SO_KEEPALIVE, 4),
    (SOL_SOCKET, libc::SO_LINGER, 8),
    (SOL_SOCKET, libc::SO_RCVLOWAT, 4),
    (SOL_SOCKET, libc::SO_RCVTIMEO, 16),
    (SOL_SOCKET, libc::SO_SNDTIMEO, 16),
    (SOL_SOCKET, libc::SO_TIMESTAMP, 4),
    (SOL_SOCKET, libc::SO_TIMESTAMPNS, 4),
    (SOL_SOCKET, libc::SO_TIMESTAMPING, 4),
    (SOL_SOCKET, 63, 4), // SO_TIMESTAMP_NEW
    (SOL_SOCKET, 64, 4), // SO_TIMESTAMPNS_NEW
    (SOL_SOCKET, 65, 4), // SO_TIMESTAMPING_NEW
    (SOL_SOCKET, libc::SO_RXQ_OVFL, 4),
    (SOL_SOCKET, libc::SO_WIFI_STATUS, 4),
    (SOL_SOCKET, libc::SO_PEEK_OFF, 4),
    (SOL_SOCKET, libc::SO_SELECT_ERR_QUEUE, 4),
    (SOL_SOCKET, libc::SO_BUSY_POLL, 4),
    (SOL_SOCKET, libc::SO_MAX_PACING_RATE, 8),
    (SOL_SOCKET, libc::SO_INCOMING_CPU, 4),
    (SOL_SOCKET, libc::SO_TXTIME, 8),
    (SOL_IP, libc::IP_TOS, 4),
    (SOL_IP, libc::IP_TTL, 4),
    (SOL_IP, libc::IP_MINTTL, 4),
    (SOL_IP, libc::IP_MTU_DISCOVER, 4),
    (SOL_IP, libc::IP_UNICAST_IF, 4),
    (SOL_IP, libc::IP_MULTICAST_IF, 4),
    (SOL_IP, libc::IP_MULTICAST_TTL, 4),
    (SOL_IP, libc::IP_MULTICAST_LOOP, 4),
    (SOL_IP, libc::IP_MULTICAST_ALL, 4),
    (SOL_IP, libc::IP_PKTINFO, 4),
    (SOL_IP, libc::IP_RECVTTL, 4),
    (SOL_IP, libc::IP_RECVTOS, 4),
    (SOL_IP, libc::IP_RECVOPTS, 4),
    (SOL_IP, libc::IP_RETOPTS, 4),
    (SOL_IP, libc::IP_RECVORIGDSTADDR, 4),
    (SOL_IP, 25, 4), // IP_RECVFRAGSIZE
    (SOL_IPV6, libc::IPV6_UNICAST_HOPS, 4),
    (SOL_IPV6, libc::IPV6_TCLASS, 4),
    (SOL_IPV6, libc::IPV6_MTU_DISCOVER, 4),
    (SOL_IPV6, libc::IPV6_DONTFRAG, 4),
    (SOL_IPV6, 76, 4), // IPV6_UNICAST_IF
    (SOL_IPV6, libc::IPV6_MULTICAST_IF, 4),
    (SOL_IPV6, libc::IPV6_MULTICAST_HOPS, 4),
    (SOL_IPV6, libc::IPV6_MULTICAST_LOOP, 4),
    (SOL_IPV6, 29, 4), // IPV6_MULTICAST_ALL
    (SOL_IPV6, libc::IPV6_RECVPKTINFO, 4),
    (SOL_IPV6, libc::IPV6_2292PKTINFO, 4),
    (SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 4),
    (SOL_IPV6, libc::IPV6_2292HOPLIMIT, 4),
    (SOL_IPV6, libc::IPV6_RECVTCLASS, 4),
    (SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 4),
    (SOL_IPV6, 70, 4), // IPV6_AUTOFLOWLABEL
    (libc::SOL_UDP, libc::UDP_SEGMENT, 4),
    (libc::SOL_UDP, 1, 4), // UDP_CORK
];

/// What a bind depends on.
pub(super) fn copy_before_bind(from: c_int, to: c_int) {
    if let Ok(device) = sockopt::bound_device(from) {
        if !device.is_empty() {
            passed_over(sockopt::set_bytes(
                to,
                SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                &device,
            ));
        }
    }
    BEFORE_BIND
        .iter()
        .for_each(|option| copy(from, to, *option));
}

/// All the rest.
pub(super) fn copy_after_bind(from: c_int, to: c_int) {
    for (name, forced) in BUFFERS {
        let (old, new) = (get(from, name), get(to, name));
        if let Some(old) = old.filter(|_| old != new) {
            let half = old / 2;
            passed_over(sockopt::set_u32(to, SOL_SOCKET, name, half));
            if get(to, name) != Some(old) {
                passed_over(sockopt::set_u32(to, SOL_SOCKET, forced, half));
            }
        }
    }
    AFTER_BIND.iter().for_each(|option| copy(from, to, *option));
    if let Ok(Some(program)) = sockopt::read_filter(from) {
        passed_over(sockopt::attach_filter(to, &program));
    }
    copy_status(from, to);
}

fn get(fd: c_int, name: c_int) -> Option<u32> {
    sockopt::get_u32(fd, SOL_SOCKET, name).ok()
}

fn copy(from: c_int, to: c_int, (level, name, size): Option3) {
    let read = |fd| {
        let mut value = [0; 16];
        let length = sockopt::get_bytes(fd, level, name, &mut value[..size]).ok()?;
        Some((value, length.min(size)))
    };
    let (Some((value, length)), new) = (read(from), read(to)) else {
        return;
    };
    if new != Some((value, length)) {
        passed_over(sockopt::set_bytes(to, level, name, &value[..length]));
    }
}

/// Status flags belong to the open file, not to its number.
fn copy_status(from: c_int, to: c_int) {
    let flags = |fd| descriptor::control(fd, libc::F_GETFL, 0);
    if let (Ok(old), Ok(new)) = (flags(from), flags(to)) {
        let mut owner = [0; 2];
        if descriptor::owner(from, F_GETOWN_EX, &mut owner).is_ok() && owner != [0; 2] {
            passed_over(descriptor::owner(to, F_SETOWN_EX, &mut owner));
        }
        if let Ok(signal @ 1..) = descriptor::control(from, F_GETSIG, 0) {
            passed_over(descriptor::control(to, F_SETSIG, signal));
        }
        if old != new {
            passed_over(descriptor::control(to, libc::F_SETFL, old));
        }
    }
}

fn passed_over<T>(outcome: Result<T, flexcast_runtime::Errno>) {
    if let Err(errno) = outcome {
        log::debug!("an option of a receiving socket is not carried over: {errno}");
    }
}
