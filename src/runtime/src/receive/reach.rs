//! How the background thread, whose descriptor table is its own, reaches D.
//!
//! ```text
//!   pidfd_getfd, known numbers ─► /proc/self/fd, by inode ─► (main has left) the same
//!   at each of the process's threads        refused at all ─► the helper ([`Passer`])
//! ```
//! Promises: what it gives is D, by `SO_COOKIE`, never a stranger that has got D's
//! number; it is to be held for the length of one call. Is not a way to keep D open.

use flexcast_udp::process::{self, poll, PollFd};
use flexcast_udp::unix::UnixDatagram;
use flexcast_udp::{Errno, Fd};

use super::identity::Identity;
use super::passer::{Order, Passer};
use super::shared::Shared;
use crate::background::now;

/// How long the helper may take.
const PATIENCE_US: u64 = 1_000_000;

/// D, or why not.
#[derive(Debug)]
pub(super) enum Reach {
    /// A duplicate of it.
    Found(Fd),
    /// The application's table does not have it.
    NotHere,
    /// The kernel does not let us look, and there is no helper yet.
    Refused,
}

/// The application's descriptor table, from outside.
#[derive(Debug)]
pub(super) struct Reacher {
    process: Option<Fd>,
    passer: Option<Passer>,
    door: UnixDatagram,
    door_address: Vec<u8>,
    serial: u64,
}

impl Reacher {
    /// # Errors
    /// `EMFILE`, and as getrandom(2).
    pub(super) fn new() -> Result<Reacher, Errno> {
        let address = format!("flexcast-door/{:016x}", process::random_u64()?).into_bytes();
        Ok(Reacher {
            process: process::pidfd_open(process::pid()).ok(),
            passer: None,
            door: UnixDatagram::bind(&address)?,
            door_address: address,
            serial: 0,
        })
    }

    /// From now on there is a helper.
    pub(super) fn set_passer(&mut self, passer: Passer) {
        self.passer = Some(passer);
    }

    /// Closes duplicates of D that a helper sent too late: while one is queued, D
    /// lives.
    pub(super) fn forget_late_answers(&self) {
        while self.door.recv(&mut [0; 8]).is_ok() {}
    }

    /// D.
    pub(super) fn reach(&mut self, shared: &Shared) -> Reach {
        match self.by_pidfd(shared) {
            Reach::Refused => self.by_passer(shared),
            outcome => outcome,
        }
    }

    fn by_pidfd(&self, shared: &Shared) -> Reach {
        let identity = &shared.bound.identity;
        let Some(process) = &self.process else {
            return Reach::Refused;
        };
        match try_numbers(process, identity, shared.numbers.known()) {
            Reach::NotHere => {}
            // ESRCH: main has left by pthread_exit.
            Reach::Refused => return by_threads(shared),
            found @ Reach::Found(_) => return found,
        }
        let numbers = identity.numbers_in("/proc/self/fd");
        if let Some(first) = numbers.first() {
            shared.numbers.add(*first);
        }
        try_numbers(process, identity, numbers.into_iter())
    }

    fn by_passer(&mut self, shared: &Shared) -> Reach {
        let Some(passer) = &self.passer else {
            return Reach::Refused;
        };
        self.serial += 1;
        passer.order(Order {
            identity: shared.bound.identity,
            numbers: shared.numbers.known().collect(),
            to: self.door_address.clone(),
            serial: self.serial,
        });
        let began = now();
        loop {
            let mut serial = [0; 8];
            while let Ok((length, fds)) = self.door.recv(&mut serial) {
                // Older answers, which came too late, are dropped here.
                if length != serial.len() || u64::from_ne_bytes(serial) != self.serial {
                    continue;
                }
                let found = fds
                    .into_iter()
                    .find(|fd| shared.bound.identity.is(fd.as_raw()));
                return found.map_or(Reach::NotHere, Reach::Found);
            }
            let waited = u64::try_from(now().since(began).as_micros()).unwrap_or(u64::MAX);
            let Some(left) = PATIENCE_US.checked_sub(waited) else {
                return Reach::NotHere;
            };
            let mut fds = [PollFd::new(self.door.fd.as_raw(), PollFd::IN)];
            if poll(&mut fds, Some(left)).is_err() {
                return Reach::NotHere;
            }
        }
    }
}

/// Tries `numbers` at the process (or thread) behind `pidfd`.
fn try_numbers(pidfd: &Fd, identity: &Identity, numbers: impl Iterator<Item = i32>) -> Reach {
    for number in numbers {
        match process::pidfd_getfd(pidfd, number) {
            Ok(fd) if identity.is(fd.as_raw()) => return Reach::Found(fd),
            Ok(_) | Err(Errno::EBADF) => {}
            Err(_) => return Reach::Refused,
        }
    }
    Reach::NotHere
}

/// Where the leader has ended, its threads still have its table (since 6.9).
fn by_threads(shared: &Shared) -> Reach {
    let identity = &shared.bound.identity;
    let mut answer = Reach::Refused;
    for name in process::list_entries("/proc/self/task").unwrap_or_default() {
        let tid = std::str::from_utf8(&name).ok().and_then(|s| s.parse().ok());
        let Some(tid) = tid.filter(|tid| *tid != process::pid()) else {
            continue;
        };
        let Ok(thread) = process::pidfd_open_thread(tid) else {
            continue;
        };
        let listed = identity.numbers_in(&format!("/proc/self/task/{tid}/fd"));
        let numbers = shared.numbers.known().chain(listed);
        match try_numbers(&thread, identity, numbers) {
            Reach::Refused => {}
            Reach::NotHere => answer = Reach::NotHere,
            found @ Reach::Found(_) => return found,
        }
    }
    answer
}

#[cfg(test)]
mod tests;
