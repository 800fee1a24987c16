//! The sockets of C programs, by the kernel's own name for each (`SO_COOKIE`).
//!
//! ```text
//!   any number of the socket ──SO_COOKIE──► Endpoint
//!   last number closed: gone ◄── close; or, where close(2) did it, ◄── a later sweep
//! ```
//! Numbers get reused and duplicated (dup, dup2, F_DUPFD), cookies do not. Promises: a number names what the
//! kernel says it names at that moment; whatever was closed behind our back is found
//! within the next calls that make or close sockets. Is not the socket (`endpoint`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flexcast_runtime::kernel::{list_entries, sockopt, udp_sockets, Family};
use flexcast_runtime::Errno;

use super::compat::Guise;
use crate::endpoint::Endpoint;

/// How many are looked at in one sweep.
const SWEEP: usize = 8;

#[derive(Debug)]
struct Entry {
    endpoint: Arc<Endpoint>,
    /// What it was before it became one of ours (`compat`).
    guise: Option<Arc<Guise>>,
    /// A number that has named it.
    number: i32,
    /// The port that it was last seen bound to; 0 where to none.
    port: u16,
}

/// What a fork holds.
pub(crate) type Guard = MutexGuard<'static, Table>;

#[derive(Debug)]
pub(crate) struct Table {
    entries: BTreeMap<u64, Entry>,
    swept: u64,
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    entries: BTreeMap::new(),
    swept: 0,
});

pub(crate) fn hold() -> Guard {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The socket that `fd` names; any UDP socket may become one of ours.
///
/// # Errors
/// `EBADF`, `ENOTSOCK`, `EPROTOTYPE` for what is no UDP socket.
pub(super) fn find(fd: i32) -> Result<Arc<Endpoint>, Errno> {
    let cookie = sockopt::cookie(fd)?;
    if let Some(entry) = hold().entries.get_mut(&cookie) {
        entry.number = fd;
        return Ok(entry.endpoint.clone());
    }
    let family = match (sockopt::domain(fd)?, sockopt::is_udp(fd)?) {
        (libc::AF_INET, true) => Family::V4,
        (libc::AF_INET6, true) => Family::V6,
        _ => return Err(Errno::EPROTOTYPE),
    };
    let endpoint = Arc::new(Endpoint::new(family));
    Ok(put(fd, cookie, endpoint, None))
}

/// The socket that `fd` names, where it is one in another's guise.
pub(super) fn find_guised(fd: i32) -> Option<(Arc<Endpoint>, Arc<Guise>)> {
    let cookie = sockopt::cookie(fd).ok()?;
    let mut table = hold();
    let entry = table.entries.get_mut(&cookie)?;
    let guise = entry.guise.clone()?;
    entry.number = fd;
    Some((entry.endpoint.clone(), guise))
}

fn put(fd: i32, cookie: u64, endpoint: Arc<Endpoint>, guise: Option<Arc<Guise>>) -> Arc<Endpoint> {
    let port = sockopt::local_addr(fd).map_or(0, |local| local.port());
    let fresh = Entry {
        endpoint,
        guise,
        number: fd,
        port,
    };
    let mut table = hold();
    // Another thread may have been quicker.
    let entry = table.entries.entry(cookie).or_insert(fresh);
    entry.endpoint.clone()
}

/// A socket that was just made.
pub(super) fn add(fd: i32, endpoint: Endpoint) -> Result<(), Errno> {
    sweep();
    put(fd, sockopt::cookie(fd)?, Arc::new(endpoint), None);
    Ok(())
}

/// As [`add`], in another's guise.
pub(super) fn add_guised(
    fd: i32,
    endpoint: Endpoint,
    guise: Arc<Guise>,
) -> Result<Arc<Endpoint>, Errno> {
    sweep();
    Ok(put(
        fd,
        sockopt::cookie(fd)?,
        Arc::new(endpoint),
        Some(guise),
    ))
}

/// It may have been bound since.
pub(super) fn note_port(fd: i32) {
    let (Ok(cookie), Ok(local)) = (sockopt::cookie(fd), sockopt::local_addr(fd)) else {
        return;
    };
    if let Some(entry) = hold().entries.get_mut(&cookie) {
        entry.port = local.port();
    }
}

/// After a number that named it was closed: whether it was the last.
pub(super) fn closed(cookie: u64) {
    if is_gone(cookie) {
        let _ = forget(cookie);
    }
    sweep();
}

/// Dropped outside the lock: what it is may take a while to end.
fn forget(cookie: u64) -> Option<Arc<Endpoint>> {
    let entry = hold().entries.remove(&cookie);
    entry.map(|entry| entry.endpoint)
}

fn is_gone(cookie: u64) -> bool {
    let (endpoint, number, port) = match hold().entries.get(&cookie) {
        Some(entry) => (entry.endpoint.clone(), entry.number, entry.port),
        None => return false,
    };
    if sockopt::cookie(number) == Ok(cookie) {
        return false;
    }
    // No udp_diag: numbers are all that is known. So they are of what has no port.
    let listed = match port {
        0 => None,
        port => udp_sockets(port, endpoint.family()).ok(),
    };
    let lives = listed.map(|cookies| cookies.contains(&cookie));
    if lives != Some(false) {
        if let Some(other) = number_of(cookie) {
            if let Some(entry) = hold().entries.get_mut(&cookie) {
                entry.number = other;
            }
            return false;
        }
    }
    endpoint.closed(lives == Some(true))
}

/// A number of this process that names the socket.
fn number_of(cookie: u64) -> Option<i32> {
    let names = list_entries("/proc/self/fd").ok()?;
    let number = |name: Vec<u8>| std::str::from_utf8(&name).ok()?.parse::<i32>().ok();
    let mut numbers = names.into_iter().filter_map(number);
    numbers.find(|number| sockopt::cookie(*number) == Ok(cookie))
}

/// Looks at some, each in turn.
fn sweep() {
    let suspects: Vec<u64> = {
        let mut table = hold();
        let after = table.swept;
        let later = table.entries.range(after.saturating_add(1)..);
        let looked: Vec<(u64, i32)> = later
            .take(SWEEP)
            .map(|(cookie, entry)| (*cookie, entry.number))
            .collect();
        table.swept = match looked.last() {
            Some((cookie, _)) if looked.len() == SWEEP => *cookie,
            _ => 0,
        };
        let named = |(cookie, number): &(u64, i32)| sockopt::cookie(*number) != Ok(*cookie);
        looked.into_iter().filter(named).map(|(c, _)| c).collect()
    };
    for cookie in suspects {
        if is_gone(cookie) {
            let _ = forget(cookie);
        }
    }
}
