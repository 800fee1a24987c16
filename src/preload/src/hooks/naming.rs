//! Addresses of sockets: bind, connect, getsockname, getpeername, shutdown.
//!
//! Promises: what no rule takes is the kernel's answer. Is not what connecting to a
//! mapped address means (`call`, `join`, `push`).

use std::net::SocketAddr;
use std::sync::Arc;

use flexcast_runtime::kernel::sockopt;
use libc::{c_int, sockaddr, socklen_t};

use crate::guard::guarded;
use crate::hook::{cancellation_point, fail, Verdict};
use crate::name::{self, Name};
use crate::socket::Socket;
use crate::{call, join, listen, marks, push, real, table};

/// The answer of a call whose verdict is not the kernel's.
fn answer(verdict: Verdict) -> c_int {
    match verdict {
        Verdict::Fail(number) => fail(number),
        _ => 0,
    }
}

redhook::hook! {
    unsafe fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int => bind_socket {
        if marks::is_foreign(fd) {
            return real::bind(fd, address, length);
        }
        let verdict = guarded(Verdict::Kernel, || {
            let address = name::read(address, length);
            address.and_then(|address| join::bind(fd, address)).unwrap_or(Verdict::Kernel)
        });
        let done = match verdict {
            Verdict::Kernel => real::bind(fd, address, length),
            Verdict::KernelTo(other) => real::bind(fd, other.as_ptr(), other.length()),
            other => return answer(other),
        };
        if done == 0 {
            guarded((), || join::bound(fd));
        }
        done
    }
}

/// What a connect on a marked descriptor comes to.
#[inline(never)]
unsafe fn connecting(fd: c_int, address: *const sockaddr, length: socklen_t) -> Verdict {
    guarded(Verdict::Kernel, || {
        let target = name::read(address, length);
        let undoes = name::family(address, length) == Some(libc::AF_UNSPEC);
        if target.is_none() && !undoes {
            return Verdict::Kernel;
        }
        if let Some(verdict) = listen::connect(fd) {
            return verdict;
        }
        if let Some(verdict) = target.and_then(|target| call::connect(fd, target)) {
            return verdict;
        }
        if let Some(verdict) = table::find(fd).and_then(|s| join::connect(&s, fd, target)) {
            return verdict;
        }
        match target {
            Some(target) => push::connect(fd, target),
            None => {
                push::disconnect(fd);
                Verdict::Kernel
            }
        }
    })
}

cancellation_point! {
    fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
        if marks::is_foreign(fd) {
            return real::connect(fd, address, length);
        }
        loop {
            real::cancellation_point();
            match connecting(fd, address, length) {
                Verdict::Kernel => return real::connect(fd, address, length),
                Verdict::Again => {}
                other => return answer(other),
            }
        }
    }
}

cancellation_point! {
    fn __connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
        connect(fd, address, length)
    }
}

/// The local name of one of ours, where it is not the kernel's.
fn local_name(socket: &Arc<Socket>, fd: c_int) -> Option<Name> {
    let shown = socket.local()?;
    let kernel = sockopt::local_addr(fd).ok()?;
    let ip = if shown.ip().is_unspecified() {
        kernel.ip()
    } else {
        shown.ip()
    };
    let port = if shown.port() == 0 {
        kernel.port()
    } else {
        shown.port()
    };
    Some(Name::new(SocketAddr::new(ip, port), socket.family()))
}

redhook::hook! {
    unsafe fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int
        => socket_name
    {
        if marks::is_foreign(fd) {
            return real::getsockname(fd, address, length);
        }
        let name = guarded(None, || {
            table::find(fd).and_then(|socket| local_name(&socket, fd))
        });
        match name {
            None => real::getsockname(fd, address, length),
            Some(name) if name.give(address, length) => 0,
            Some(_) => fail(libc::EFAULT),
        }
    }
}

redhook::hook! {
    unsafe fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int
        => peer_name
    {
        if marks::is_foreign(fd) {
            return real::getpeername(fd, address, length);
        }
        let peer = guarded(None, || {
            let socket = table::find(fd)?;
            let peer = socket.peer()?;
            // As the kernel: a connection without a port names nobody.
            (peer.port() != 0).then(|| Name::new(peer, socket.family()))
        });
        match peer {
            None => real::getpeername(fd, address, length),
            Some(name) if name.give(address, length) => 0,
            Some(_) => fail(libc::EFAULT),
        }
    }
}

redhook::hook! {
    unsafe fn shutdown(fd: c_int, how: c_int) -> c_int => shut_down {
        if marks::is_foreign(fd) {
            return real::shutdown(fd, how);
        }
        let verdict = guarded(Verdict::Kernel, || {
            let verdict = table::find(fd).and_then(|socket| {
                listen::shutdown(&socket, fd, how)
                    .or_else(|| join::shutdown(&socket, fd, how))
                    .or_else(|| push::shutdown(&socket, fd, how))
            });
            verdict.unwrap_or(Verdict::Kernel)
        });
        match verdict {
            Verdict::Kernel => real::shutdown(fd, how),
            other => answer(other),
        }
    }
}
