//! The calls behind `flexcast_compat.h`: sockets of a source that knows nothing of
//! channels become ours where the rules say so.
//!
//! ```text
//!   the system's socket ──connect to, or listen at, a mapped address──► ours, under the
//!     every call: "yours"                                               same number
//! ```
//! Promises: a socket that no rule takes is never touched: its calls return
//! [`PLAIN`], and the header then makes the system's. A program without rules pays one
//! load for that. Is not the meaning of rules (`rules`) nor of the calls (`endpoint`).

mod addresses;
mod guise;
mod naming;
mod options;
mod transfer;
mod world;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use flexcast_runtime::Errno;

use super::{call, table};
use crate::endpoint::Endpoint;

pub(crate) use guise::Guise;

/// `FLEXCAST_COMPAT_PLAIN`: the call is the system's.
const PLAIN: isize = -2;

/// Whether any socket of this process ever became ours.
static ANY: AtomicBool = AtomicBool::new(false);

type Found = (Arc<Endpoint>, Arc<Guise>);

/// The socket that `fd` names, where it became ours.
fn find(fd: i32) -> Option<Found> {
    match ANY.load(Ordering::Relaxed) {
        true => table::find_guised(fd),
        false => None,
    }
}

fn add(fd: i32, endpoint: Endpoint, guise: Guise) -> Result<Found, Errno> {
    ANY.store(true, Ordering::Relaxed);
    let guise = Arc::new(guise);
    let endpoint = table::add_guised(fd, endpoint, guise.clone())?;
    Ok((endpoint, guise))
}

/// Runs a call; [`PLAIN`] where it comes to nothing of ours.
fn answer(body: impl FnOnce() -> Result<Option<usize>, Errno>) -> isize {
    let mut plain = false;
    let outcome = call(|| {
        let outcome = body()?;
        plain = outcome.is_none();
        Ok(outcome.unwrap_or(0))
    });
    if plain {
        PLAIN
    } else {
        outcome
    }
}

/// As [`answer`], for calls that return an int.
fn answer_int(body: impl FnOnce() -> Result<Option<usize>, Errno>) -> i32 {
    i32::try_from(answer(body)).unwrap_or(i32::MAX)
}

/// As [`answer`], for calls on sockets that became ours before.
fn ours(fd: i32, body: impl FnOnce(&Endpoint, &Guise) -> Result<usize, Errno>) -> isize {
    answer(|| match find(fd) {
        Some((endpoint, guise)) => body(&endpoint, &guise).map(Some),
        None => Ok(None),
    })
}

/// As [`ours`], for calls that return an int.
fn ours_int(fd: i32, body: impl FnOnce(&Endpoint, &Guise) -> Result<usize, Errno>) -> i32 {
    i32::try_from(ours(fd, body)).unwrap_or(i32::MAX)
}
