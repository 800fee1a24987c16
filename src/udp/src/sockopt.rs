//! Socket options by descriptor number, for descriptors that are ours or not.
//!
//! Promises: one system call each, nothing closed, nothing kept; a number that is
//! no socket is an error, never undefined. Is not: a record of who owns a number.

use std::net::SocketAddr;

use crate::address::{field, Family, RawAddress};
use crate::filter::{Instruction, Program};
use crate::raw::{call, int};
use crate::Errno;

pub use crate::fd::{closes_on_exec, duplicate, is_live, replace};

/// An option whose value is an `int`, read as unsigned.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `ENOPROTOOPT` as getsockopt(2).
pub fn get_u32(raw: i32, level: i32, name: i32) -> Result<u32, Errno> {
    let mut value = [0; 4];
    get_bytes(raw, level, name, &mut value)?;
    Ok(u32::from_ne_bytes(value))
}

/// Sets an option whose value is an `int`.
///
/// # Errors
/// As setsockopt(2).
pub fn set_u32(raw: i32, level: i32, name: i32, value: u32) -> Result<(), Errno> {
    set_bytes(raw, level, name, &value.to_ne_bytes())
}

/// Sets an option whose value is `value`, byte for byte. Programs go by
/// [`attach_filter`]: their value is a pointer, which no caller could vouch for.
///
/// # Errors
/// As setsockopt(2); `EINVAL` for options whose value points elsewhere.
pub fn set_bytes(raw: i32, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let pointers = [libc::SO_ATTACH_FILTER, libc::SO_ATTACH_REUSEPORT_CBPF];
    if level == libc::SOL_SOCKET && pointers.contains(&name) {
        return Err(Errno::EINVAL);
    }
    set_value(raw, level, name, value)
}

fn set_value(raw: i32, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let address = value.as_ptr() as usize;
    let arguments = [int(raw), int(level), int(name), address, value.len(), 0];
    // SAFETY: the kernel reads value.len() bytes at a slice that lives through the call.
    unsafe { call(libc::SYS_setsockopt, arguments) }.map(drop)
}

/// Reads an option into `value`; the number of bytes that the kernel has written.
///
/// # Errors
/// As getsockopt(2).
pub fn get_bytes(raw: i32, level: i32, name: i32, value: &mut [u8]) -> Result<usize, Errno> {
    if level == libc::SOL_SOCKET && name == libc::SO_GET_FILTER {
        // Its length counts instructions, not bytes: see read_filter.
        return Err(Errno::EINVAL);
    }
    let mut length = u32::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    let to = value.as_mut_ptr() as usize;
    let length_at = (&raw mut length) as usize;
    let arguments = [int(raw), int(level), int(name), to, length_at, 0];
    // SAFETY: the kernel writes at most `length` bytes into `value`, and `length`.
    unsafe { call(libc::SYS_getsockopt, arguments) }?;
    Ok(length as usize)
}

/// The address that the socket is bound to, exactly as the kernel has it (an IPv6
/// socket's v4-mapped address stays mapped).
///
/// # Errors
/// As getsockname(2); `EAFNOSUPPORT` for a socket that is not an IP socket.
pub fn local_addr(raw: i32) -> Result<SocketAddr, Errno> {
    name_of(libc::SYS_getsockname, raw)
}

/// The address that the socket is connected to, exactly as the kernel has it.
///
/// # Errors
/// As getpeername(2): `ENOTCONN` where it is not connected.
pub fn peer_addr(raw: i32) -> Result<SocketAddr, Errno> {
    name_of(libc::SYS_getpeername, raw)
}

fn name_of(number: libc::c_long, raw: i32) -> Result<SocketAddr, Errno> {
    let mut address = RawAddress::empty();
    let bytes_at = address.bytes.as_mut_ptr() as usize;
    let length_at = (&raw mut address.length) as usize;
    // SAFETY: the kernel writes at most `length` (28) bytes into `bytes`, and the
    // full length into `length`; both live through the call.
    unsafe { call(number, [int(raw), bytes_at, length_at, 0, 0, 0]) }?;
    address.decode().ok_or(Errno::EAFNOSUPPORT)
}

/// Binds a socket that is not ours.
///
/// # Errors
/// As bind(2).
pub fn bind(raw: i32, address: SocketAddr) -> Result<(), Errno> {
    with_address(libc::SYS_bind, raw, address)
}

/// Connects a datagram socket that is not ours, which does not block.
///
/// # Errors
/// As connect(2).
pub fn connect(raw: i32, address: SocketAddr) -> Result<(), Errno> {
    with_address(libc::SYS_connect, raw, address)
}

/// Receives no more (`shutdown` with `SHUT_RD`); whoever waits is woken, on a socket
/// that is not connected too.
///
/// # Errors
/// `ENOTCONN` where it is not connected (and yet it is done, `inet_shutdown`).
pub fn shut_down_receiving(raw: i32) -> Result<(), Errno> {
    let arguments = [int(raw), int(libc::SHUT_RD), 0, 0, 0, 0];
    // SAFETY: shutdown takes integers only.
    unsafe { call(libc::SYS_shutdown, arguments) }.map(drop)
}

fn with_address(number: libc::c_long, raw: i32, address: SocketAddr) -> Result<(), Errno> {
    let family = match domain(raw)? {
        libc::AF_INET => Family::V4,
        libc::AF_INET6 => Family::V6,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let name = RawAddress::encode(address, family)?;
    let bytes_at = name.bytes.as_ptr() as usize;
    let length = name.length as usize;
    // SAFETY: the kernel reads `length` (at most 28) bytes that live through the call.
    unsafe { call(number, [int(raw), bytes_at, length, 0, 0, 0]) }.map(drop)
}

/// `SO_DOMAIN`: `AF_INET`, `AF_INET6`, ...
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn domain(raw: i32) -> Result<i32, Errno> {
    get_u32(raw, libc::SOL_SOCKET, libc::SO_DOMAIN).map(u32::cast_signed)
}

/// `SO_TYPE`: `SOCK_DGRAM`, `SOCK_STREAM`, ...
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn socket_type(raw: i32) -> Result<i32, Errno> {
    get_u32(raw, libc::SOL_SOCKET, libc::SO_TYPE).map(u32::cast_signed)
}

/// `SO_PROTOCOL`: `IPPROTO_UDP`, ...
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn protocol(raw: i32) -> Result<i32, Errno> {
    get_u32(raw, libc::SOL_SOCKET, libc::SO_PROTOCOL).map(u32::cast_signed)
}

/// Whether it is a UDP socket (of either family).
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn is_udp(raw: i32) -> Result<bool, Errno> {
    Ok(socket_type(raw)? == libc::SOCK_DGRAM && protocol(raw)? == libc::IPPROTO_UDP)
}

/// `SO_COOKIE`: a number that no other socket of this boot has had or will have.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn cookie(raw: i32) -> Result<u64, Errno> {
    let mut value = [0; 8];
    get_bytes(raw, libc::SOL_SOCKET, libc::SO_COOKIE, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}

/// `SO_REUSEADDR`: whether it is set.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn reuse_address(raw: i32) -> Result<bool, Errno> {
    get_u32(raw, libc::SOL_SOCKET, libc::SO_REUSEADDR).map(|value| value != 0)
}

/// `SO_REUSEPORT`: whether it is set.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn reuse_port(raw: i32) -> Result<bool, Errno> {
    get_u32(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT).map(|value| value != 0)
}

/// Sets `SO_REUSEPORT`, on a bound socket too.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn set_reuse_port(raw: i32, on: bool) -> Result<(), Errno> {
    set_u32(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT, u32::from(on))
}

/// `IPV6_V6ONLY`: whether an IPv6 socket speaks no IPv4.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`; `ENOPROTOOPT` or `EOPNOTSUPP` on an IPv4 socket.
pub fn is_v6_only(raw: i32) -> Result<bool, Errno> {
    get_u32(raw, libc::SOL_IPV6, libc::IPV6_V6ONLY).map(|value| value != 0)
}

/// `SO_BINDTODEVICE`: the interface that the socket is bound to; empty for none.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn bound_device(raw: i32) -> Result<Vec<u8>, Errno> {
    // IFNAMSIZ, with the NUL that the kernel writes.
    let mut name = [0; 16];
    let length = get_bytes(raw, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &mut name)?;
    let name = name.get(..length).unwrap_or(&[]);
    Ok(name.iter().copied().take_while(|byte| *byte != 0).collect())
}

/// Whether the descriptor is non-blocking (`O_NONBLOCK`).
///
/// # Errors
/// `EBADF`.
pub fn is_nonblocking(raw: i32) -> Result<bool, Errno> {
    // SAFETY: F_GETFL takes integers only.
    let flags = unsafe { call(libc::SYS_fcntl, [int(raw), int(libc::F_GETFL), 0, 0, 0, 0]) }?;
    Ok(flags & int(libc::O_NONBLOCK) != 0)
}

/// Attaches or replaces the socket's filter (`SO_ATTACH_FILTER`).
///
/// # Errors
/// `EINVAL` for a program the kernel refuses, `ENOMEM` above `net.core.optmem_max`,
/// `EPERM` where the filter is locked.
pub fn attach_filter(raw: i32, program: &Program) -> Result<(), Errno> {
    attach(raw, libc::SO_ATTACH_FILTER, program)
}

/// Takes the socket's filter away.
///
/// # Errors
/// `ENOENT` where there is none.
pub fn detach_filter(raw: i32) -> Result<(), Errno> {
    set_u32(raw, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0)
}

/// Attaches the program that picks a member of the socket's `SO_REUSEPORT` group.
/// Attach it once and never replace it: kernels without commit 18fc650ccd7f use
/// the old one after it was freed.
///
/// # Errors
/// `EINVAL` for a program the kernel refuses or a socket without `SO_REUSEPORT`.
pub fn attach_reuseport_selector(raw: i32, program: &Program) -> Result<(), Errno> {
    attach(raw, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

fn attach(raw: i32, name: i32, program: &Program) -> Result<(), Errno> {
    // struct sock_fprog: u16 length, padding, pointer.
    let length = u16::try_from(program.instructions().len()).map_err(|_| Errno::EINVAL)?;
    let address = program.instructions().as_ptr() as usize;
    let mut value = [0; 16];
    value[0..2].copy_from_slice(&length.to_ne_bytes());
    value[8..16].copy_from_slice(&address.to_ne_bytes());
    set_value(raw, libc::SOL_SOCKET, name, &value)
}

/// The filter that is attached to the socket, as it was attached; none without.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`; `EACCES` for an extended (eBPF) program.
pub fn read_filter(raw: i32) -> Result<Option<Program>, Errno> {
    let mut instructions: Vec<Instruction> = Vec::new();
    // Another thread may attach a longer one between the two calls: then once more.
    for _ in 0..4 {
        let count = get_filter(raw, &mut [])?;
        if count == 0 {
            return Ok(None);
        }
        instructions.resize(count, Instruction::default());
        match get_filter(raw, &mut instructions) {
            Err(Errno::EINVAL) => {}
            Err(other) => return Err(other),
            Ok(read) => {
                instructions.truncate(read);
                return Ok((read > 0).then(|| Program::from(instructions)));
            }
        }
    }
    Err(Errno::EAGAIN)
}

/// Lengths count instructions; without room it only says how many there are
/// (`sk_get_filter`, net/core/filter.c).
fn get_filter(raw: i32, into: &mut [Instruction]) -> Result<usize, Errno> {
    let mut count = u32::try_from(into.len()).map_err(|_| Errno::EINVAL)?;
    let to = into.as_mut_ptr() as usize;
    let count_at = (&raw mut count) as usize;
    let (level, name) = (int(libc::SOL_SOCKET), int(libc::SO_GET_FILTER));
    // SAFETY: the kernel writes at most `count` instructions, for which there is room.
    unsafe {
        call(
            libc::SYS_getsockopt,
            [int(raw), level, name, to, count_at, 0],
        )
    }?;
    Ok(count as usize)
}

/// `SO_MEMINFO`: datagrams that this socket's queue had no room for.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`.
pub fn drops(raw: i32) -> Result<u32, Errno> {
    // SK_MEMINFO_DROPS is the ninth word (include/uapi/linux/sock_diag.h).
    let mut words = [0; 36];
    get_bytes(raw, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut words)?;
    Ok(u32::from_ne_bytes(field(&words, 32)))
}
