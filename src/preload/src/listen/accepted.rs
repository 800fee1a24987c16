//! An accepted socket: what is sent on it goes to its channel's audience, and what is
//! read from it is the end of the file, once that audience is gone.
//!
//! ```text
//!   open ──┬── audience gone ─────────► bell: readable ──► read 0 ──► every read 0
//!          └── shutdown(SHUT_WR), close ──► the stream ends
//! ```
//! Promises: send fails with EPIPE and no signal where nobody is there; whoever waits in
//! a receive call waits in the kernel, and the bell that ends it is an empty datagram.
//! From the first end-of-file on the kernel's socket is shut down for reading, so that
//! poll goes on saying so. Is not the audience (`runtime`).

use std::sync::atomic::{AtomicBool, Ordering};

use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::send::Delivery;
use flexcast_runtime::Errno;
use libc::c_int;

use crate::hook::Verdict;
use crate::life::lock;
use crate::push::{may_wait, split, Message};
use crate::table;

/// The delivery of an accepted socket.
#[derive(Debug)]
pub(crate) struct Accepted {
    delivery: Delivery,
    /// The program shut it down for reading.
    unread: AtomicBool,
}

impl Accepted {
    pub(super) fn new(delivery: Delivery) -> Accepted {
        Accepted {
            delivery,
            unread: AtomicBool::new(false),
        }
    }

    /// Sends messages to the whole audience; how many were sent is put into `sent`.
    /// `segment`: the socket's UDP_SEGMENT.
    pub(crate) fn send(
        &self,
        fd: c_int,
        messages: &[Message<'_>],
        segment: usize,
        flags: c_int,
        sent: &mut usize,
    ) -> Verdict {
        let datagrams = split(messages, segment, self.delivery.channel().sender);
        if datagrams.is_empty() {
            return Verdict::Fail(libc::EMSGSIZE);
        }
        *sent = datagrams.len();
        let flat: Vec<&[&[u8]]> = datagrams.iter().flatten().map(Vec::as_slice).collect();
        match self.delivery.send(&flat, may_wait(fd, flags)) {
            Ok(()) => Verdict::Done(messages[0].answer()),
            Err(Errno(number @ (libc::EPIPE | libc::EMSGSIZE))) => Verdict::Fail(number),
            Err(errno) => {
                ::log::debug!("channel {}: {errno}", self.delivery.channel());
                Verdict::Done(messages[0].answer())
            }
        }
    }

    /// Shut down one way or both; `ends`: the stream does. There is nothing to be read
    /// any more either way.
    pub(crate) fn shut_down(&self, fd: c_int, ends: bool) {
        self.unread.store(true, Ordering::Relaxed);
        if ends {
            self.delivery.end();
        }
        let _ = sockopt::shut_down_receiving(fd);
    }

    fn is_at_end(&self) -> bool {
        self.unread.load(Ordering::Relaxed) || self.delivery.is_over()
    }
}

/// What a receive call on a serving descriptor comes to before the kernel is asked.
pub(crate) fn reading(fd: c_int) -> Verdict {
    let Some(socket) = table::find(fd) else {
        return Verdict::Kernel;
    };
    let ended = lock(&socket.pushing).delivery().map(|d| d.is_at_end());
    match ended {
        Some(true) => {
            let _ = sockopt::shut_down_receiving(fd);
            Verdict::Done(0)
        }
        Some(false) => Verdict::Kernel,
        // It listens: nothing is ever read from it.
        None => Verdict::Fail(libc::ENOTCONN),
    }
}

/// The kernel has just given an end of file on a serving descriptor.
pub(crate) fn at_end(fd: c_int) {
    if table::find(fd).is_some() {
        let _ = sockopt::shut_down_receiving(fd);
    }
}
