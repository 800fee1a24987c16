//! connect, listen and accept: where a socket becomes ours.
//!
//! ```text
//!   connect(10.0.0.5:5000)  rules: a call ──► our socket, which asks for the channel
//!   bind(any:5000), listen  rules: served here ──► our socket, which listens for it
//! ```
//! A bind is the system's: what is bound may yet call, listen, or be left alone.
//! Promises: what no rule takes is untouched. Is not a call to several senders at once:
//! their streams would mix.

use std::ffi::{c_int, c_void};
use std::net::SocketAddr;
use std::time::Duration;

use flexcast_rules::{Call, Role, Rule, Serve, Settings};
use flexcast_runtime::kernel::{sockopt, Family, UdpSocket};
use flexcast_runtime::Errno;
use flexcast_wire::Channel;
use libc::socklen_t;

use super::guise::{self, Guise};
use super::naming::{shown, write_name};
use super::{add, answer_int, find, ours_int, world, Found};
use crate::c::{address, memory, table};
use crate::{Binding, Options};

/// See `flexcast_compat.h`.
///
/// # Safety
/// `name` is null or good to read for `length` bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_compat_connect(
    fd: c_int,
    name: *const c_void,
    length: socklen_t,
) -> c_int {
    answer_int(|| {
        // SAFETY: as the caller vouches.
        let bytes = unsafe { memory::bytes(name.cast(), length as usize) };
        let to = bytes.and_then(address::read_socket);
        let found = find(fd);
        if found
            .as_ref()
            .is_some_and(|(endpoint, _)| endpoint.peer().is_ok() || endpoint.is_listening())
        {
            return Err(Errno::EISCONN);
        }
        let (Ok(to), Some(settings)) = (to, world::settings()) else {
            return found.map_or(Ok(None), |_| Err(Errno::EINVAL));
        };
        let Some((channel, options)) = called(settings, to)? else {
            return found.map_or(Ok(None), |_| Err(Errno::EOPNOTSUPP));
        };
        let (endpoint, guise) = match (found, guise::is_stream(fd)) {
            (Some(found), _) => found,
            (None, Some(is_stream)) => turn_bound(fd, is_stream)?,
            (None, None) => return Ok(None),
        };
        endpoint.set_options(options)?;
        let connected = endpoint.connect(fd, channel);
        table::note_port(fd);
        connected?;
        let _ = guise.peer.set(to);
        Ok(Some(0))
    })
}

/// Whom a connect asks for what, where it is a call by the rules.
fn called(
    settings: &'static Settings,
    to: SocketAddr,
) -> Result<Option<(Channel, Options)>, Errno> {
    let here = world::Here::of(settings);
    // Nobody else would answer at an address of ours that is mapped.
    let Call::Channels(channels, rule) = settings.map().call(to, &|ip| here.has(ip), true) else {
        return Ok(None);
    };
    match channels[..] {
        [channel] => Ok(Some((channel, options(settings, rule)))),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

fn options(settings: &Settings, rule: &Rule) -> Options {
    Options {
        // No shorter than the library's least.
        refresh: settings.refresh().max(Duration::from_secs(1)),
        hold: settings.hold(),
        heartbeat: settings.heartbeat(),
        via: rule.via().first().map(|node| SocketAddr::new(*node, 0)),
        strict: rule.is_strict(),
        ..Options::default()
    }
}

/// A caller that was bound stays at its address, and at its port where it is free.
fn turn_bound(fd: i32, is_stream: bool) -> Result<Found, Errno> {
    let local = sockopt::local_addr(fd)?;
    let found = guise::turn(fd, is_stream)?;
    if local.port() != 0 {
        let any_port = SocketAddr::new(local.ip(), 0);
        sockopt::bind(fd, local).or_else(|_| sockopt::bind(fd, any_port))?;
    }
    Ok(found)
}

/// See `flexcast_compat.h`.
#[no_mangle]
pub(crate) extern "C" fn flexcast_compat_listen(fd: c_int, backlog: c_int) -> c_int {
    answer_int(|| {
        // At least one, as the kernel's.
        let backlog = usize::try_from(backlog).unwrap_or(0).max(1);
        let (endpoint, _) = match find(fd) {
            Some(found) => found,
            None => match serve(fd)? {
                Some(found) => found,
                None => return Ok(None),
            },
        };
        let listening = endpoint.listen(fd, backlog);
        table::note_port(fd);
        listening.map(|()| Some(0))
    })
}

/// Makes a bound socket ours, where this host serves its address by the rules.
fn serve(fd: i32) -> Result<Option<Found>, Errno> {
    let (Some(is_stream), Some(settings)) = (guise::is_stream(fd), world::settings()) else {
        return Ok(None);
    };
    let bound = sockopt::local_addr(fd)?;
    let here = world::Here::of(settings);
    let served = settings
        .map()
        .serve(Role::Listen, bound, &here.interfaces, &|ip| here.has(ip));
    let Serve::Own {
        channel_id, sender, ..
    } = served
    else {
        return Ok(None);
    };
    let (endpoint, guise) = guise::turn(fd, is_stream)?;
    let _ = guise.local.set(bound);
    endpoint.bind_as_told(Binding {
        sender,
        id: Some(channel_id),
    })?;
    Ok(Some((endpoint, guise)))
}

/// See `flexcast_compat.h`.
///
/// # Safety
/// `name` and `length` are null or good to write, for as many bytes as `length` says.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_compat_accept4(
    fd: c_int,
    name: *mut c_void,
    length: *mut socklen_t,
    flags: c_int,
) -> c_int {
    ours_int(fd, |endpoint, guise| {
        if flags & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != 0 {
            return Err(Errno::EINVAL);
        }
        let new = |family| {
            let (nonblocking, cloexec) = (libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC);
            UdpSocket::for_program(family, flags & nonblocking != 0, flags & cloexec != 0)
        };
        let (socket, accepted) = endpoint.accept(fd, true, new)?;
        let family = accepted.family();
        let port = guise.local.get().map_or(0, SocketAddr::port);
        let local = shown(SocketAddr::new(accepted.peer()?.sender, port), family);
        let first = accepted.first_requester();
        let peer = shown(first.unwrap_or(nobody(family)), family);
        let guise = Guise::accepted(guise.is_stream, local, peer);
        add(socket.as_raw(), accepted, guise)?;
        // SAFETY: as the caller vouches.
        unsafe { write_name(peer, name, length) }?;
        usize::try_from(socket.fd.into_raw()).map_err(|_| Errno::EBADF)
    })
}

/// Who has gone before it was accepted.
fn nobody(family: Family) -> SocketAddr {
    SocketAddr::new(family.any(), 0)
}
