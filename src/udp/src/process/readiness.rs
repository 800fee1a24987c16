//! Waiting: ppoll, epoll, eventfd.
//!
//! Promises: times in microseconds, none = for ever; a signal ends a wait early with
//! nothing ready. Is not: a reactor.

use super::clock::Timespec;
use crate::raw::{call, int};
use crate::{Errno, Fd};

/// `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PollFd {
    /// The descriptor; negative ones are skipped.
    pub fd: i32,
    /// What to wait for: [`PollFd::IN`], [`PollFd::OUT`].
    pub events: i16,
    /// What has come; errors come unasked.
    pub revents: i16,
}

impl PollFd {
    /// Something to read.
    pub const IN: i16 = libc::POLLIN;
    /// Room to write.
    pub const OUT: i16 = libc::POLLOUT;

    /// Waits for `events` on `fd`.
    #[must_use]
    pub fn new(fd: i32, events: i16) -> Self {
        Self {
            fd,
            events,
            revents: 0,
        }
    }

    /// Whether there is something to read, or an error that reading will tell.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.revents & (libc::POLLIN | libc::POLLERR | libc::POLLHUP) != 0
    }

    /// Whether there is room to write, or an error that writing will tell.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.revents & (libc::POLLOUT | libc::POLLERR | libc::POLLHUP) != 0
    }
}

/// Waits until one of `fds` is ready; how many are. 0 after `timeout_us`, or early
/// where a signal came.
///
/// # Errors
/// `EINVAL` for more descriptors than the limit, `ENOMEM`.
pub fn poll(fds: &mut [PollFd], timeout_us: Option<u64>) -> Result<usize, Errno> {
    let mut time = timeout_us.map(Timespec::from_us);
    let time_at = time.as_mut().map_or(0, |time| (&raw mut *time) as usize);
    let arguments = [fds.as_mut_ptr() as usize, fds.len(), time_at, 0, 8, 0];
    // SAFETY: the kernel reads and writes fds.len() pollfds and one timespec (or
    // none), all of which live through the call.
    early(unsafe { call(libc::SYS_ppoll, arguments) })
}

fn early(outcome: Result<usize, Errno>) -> Result<usize, Errno> {
    match outcome {
        Err(Errno::EINTR) => Ok(0),
        other => other,
    }
}

/// What an [`Epoll`] watches a descriptor for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest(pub u32);

impl Interest {
    /// Something to read.
    pub const READ: Self = Self(libc::EPOLLIN.cast_unsigned());
    /// Room to write.
    pub const WRITE: Self = Self(libc::EPOLLOUT.cast_unsigned());
    /// Either.
    pub const BOTH: Self = Self(libc::EPOLLIN.cast_unsigned() | libc::EPOLLOUT.cast_unsigned());
}

/// What has come to a watched descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The token given with [`Epoll::add`].
    pub token: u64,
    bits: u32,
}

impl Event {
    /// Whether there is something to read, or an error that reading will tell.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.bits & (libc::EPOLLIN | libc::EPOLLERR | libc::EPOLLHUP).cast_unsigned() != 0
    }

    /// Whether there is room to write, or an error that writing will tell.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.bits & (libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP).cast_unsigned() != 0
    }
}

/// Room for events, allocated once.
#[derive(Debug)]
pub struct Events {
    slots: Vec<libc::epoll_event>,
    filled: usize,
}

impl Events {
    /// Room for `slots` events a wait (at least one).
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self {
            slots: vec![libc::epoll_event { events: 0, u64: 0 }; slots.max(1)],
            filled: 0,
        }
    }

    /// The events of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.slots[..self.filled].iter().map(|slot| Event {
            token: slot.u64,
            bits: slot.events,
        })
    }
}

/// An epoll set, level-triggered.
#[derive(Debug)]
pub struct Epoll {
    /// Readable when an event has come: sets can be nested.
    pub fd: Fd,
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        // SAFETY: takes integers only and makes a new descriptor.
        let answer = unsafe {
            call(
                libc::SYS_epoll_create1,
                [int(libc::EPOLL_CLOEXEC), 0, 0, 0, 0, 0],
            )
        }?;
        Ok(Self {
            fd: Fd::from_answer(answer),
        })
    }

    /// Watches `raw`; its events carry `token`.
    ///
    /// # Errors
    /// `EEXIST` where it is watched already, `EPERM` for regular files.
    pub fn add(&self, raw: i32, token: u64, interest: Interest) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_ADD, raw, token, interest)
    }

    /// Changes what `raw` is watched for.
    ///
    /// # Errors
    /// `ENOENT` where it is not watched.
    pub fn modify(&self, raw: i32, token: u64, interest: Interest) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_MOD, raw, token, interest)
    }

    /// Watches `raw` no longer.
    ///
    /// # Errors
    /// `ENOENT` where it is not watched.
    pub fn remove(&self, raw: i32) -> Result<(), Errno> {
        self.control(libc::EPOLL_CTL_DEL, raw, 0, Interest(0))
    }

    fn control(&self, what: i32, raw: i32, token: u64, interest: Interest) -> Result<(), Errno> {
        let event = libc::epoll_event {
            events: interest.0,
            u64: token,
        };
        let event_at = (&raw const event) as usize;
        let arguments = [int(self.fd.as_raw()), int(what), int(raw), event_at, 0, 0];
        // SAFETY: the kernel reads one epoll_event, which lives through the call.
        unsafe { call(libc::SYS_epoll_ctl, arguments) }.map(drop)
    }

    /// Waits for events; how many have come. 0 after `timeout_us`, or early where a
    /// signal came.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn wait(&self, events: &mut Events, timeout_us: Option<u64>) -> Result<usize, Errno> {
        events.filled = 0;
        // epoll_pwait counts milliseconds (epoll_pwait2 is 5.11): below one, ppoll
        // waits on the set itself.
        let exact = timeout_us.filter(|us| *us % 1_000 != 0);
        if exact.is_some() && poll(&mut [PollFd::new(self.fd.as_raw(), PollFd::IN)], exact)? == 0 {
            return Ok(0);
        }
        let ms = match (exact, timeout_us) {
            (Some(_), _) => 0,
            (None, None) => -1,
            (None, Some(us)) => i32::try_from(us / 1_000).unwrap_or(i32::MAX),
        };
        let slots_at = events.slots.as_mut_ptr() as usize;
        let arguments = [
            int(self.fd.as_raw()),
            slots_at,
            events.slots.len(),
            int(ms),
            0,
            8,
        ];
        // SAFETY: the kernel writes at most slots.len() events into the slots.
        events.filled = early(unsafe { call(libc::SYS_epoll_pwait, arguments) })?;
        Ok(events.filled)
    }
}

/// A counter to wake a thread with (eventfd(2)), non-blocking.
#[derive(Debug)]
pub struct EventFd {
    /// Readable when raised.
    pub fd: Fd,
}

impl EventFd {
    /// A counter at 0.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub fn new() -> Result<Self, Errno> {
        let flags = int(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        // SAFETY: takes integers only and makes a new descriptor.
        let answer = unsafe { call(libc::SYS_eventfd2, [0, flags, 0, 0, 0, 0]) }?;
        Ok(Self {
            fd: Fd::from_answer(answer),
        })
    }

    /// Makes it readable.
    pub fn raise(&self) {
        let one = 1_u64;
        let one_at = (&raw const one) as usize;
        // SAFETY: the kernel reads 8 bytes that live through the call. EAGAIN says
        // that it is raised as high as it goes.
        let _ = unsafe { call(libc::SYS_write, [int(self.fd.as_raw()), one_at, 8, 0, 0, 0]) };
    }

    /// Lowers it; whether it was raised.
    pub fn lower(&self) -> bool {
        let mut count = 0_u64;
        let count_at = (&raw mut count) as usize;
        // SAFETY: the kernel writes 8 bytes that live through the call.
        unsafe {
            call(
                libc::SYS_read,
                [int(self.fd.as_raw()), count_at, 8, 0, 0, 0],
            )
        }
        .is_ok()
    }
}
