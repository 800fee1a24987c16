//! Options of level `SOL_FLEXCAST`; those of other levels are the kernel's.
//!
//! Promises: lengths are checked as the kernel checks its own. Is not what options mean
//! (`crate::Options`).

use std::ffi::{c_int, c_void};
use std::time::Duration;

use flexcast_runtime::kernel::sockopt;
use flexcast_runtime::Errno;
use flexcast_wire::{Credential, NodeId};
use libc::socklen_t;

use super::{address, call_int, callback, memory, table};
use crate::{Requester, Stats};

pub(super) const LEVEL: c_int = 0x1D1A;
const REFRESH: c_int = 1;
const HOLD: c_int = 2;
const HEARTBEAT: c_int = 3;
const STRICT: c_int = 4;
const VIA: c_int = 5;
const CREDENTIAL: c_int = 6;
const STATS: c_int = 7;
const REQUESTERS: c_int = 8;
const ON_REQUEST: c_int = 9;
const MOST_REQUESTERS: c_int = 10;
const MOST_PER_SOURCE: c_int = 11;
const REFUSED: c_int = 12;
const TRANSPARENT: c_int = 13;
const DOWNSTREAM: c_int = 14;
/// Bytes of `struct flexcast_requester`: `sockaddr_storage` and six counters.
const REQUESTER: usize = 128 + 6 * 8;
/// Nodes in `struct flexcast_stats`.
const NODES: usize = 32;

pub(super) fn word(value: &[u8]) -> Result<u32, Errno> {
    let bytes = value.first_chunk::<4>().ok_or(Errno::EINVAL)?;
    Ok(u32::from_ne_bytes(*bytes))
}

fn time(value: &[u8]) -> Result<Duration, Errno> {
    word(value).map(|ms| Duration::from_millis(u64::from(ms)))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn word_of(time: Duration) -> Vec<u8> {
    u32::try_from(ms(time))
        .unwrap_or(u32::MAX)
        .to_ne_bytes()
        .to_vec()
}

/// See `flexcast.h`.
///
/// # Safety
/// `value` is null or good to read for `length` bytes; that of `FLEXCAST_ON_REQUEST` names
/// a function that may be called, with its argument, from another thread.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_setsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        // SAFETY: as the caller vouches.
        let value = unsafe { memory::bytes(value.cast(), length as usize) }?;
        if level != LEVEL {
            return sockopt::set_bytes(fd, level, name, value).map(|()| 0);
        }
        if name == ON_REQUEST {
            // SAFETY: as the caller vouches, for this option of a function and its argument.
            let guard = unsafe { callback::guard(value) }?;
            return endpoint.set_guard(guard).map(|()| 0);
        }
        match name {
            TRANSPARENT => return endpoint.set_transparent(word(value)? != 0).map(|()| 0),
            DOWNSTREAM => {
                let accepted = table::find(word(value)?.cast_signed())?;
                return endpoint.set_downstream(&accepted).map(|()| 0);
            }
            _ => {}
        }
        let mut options = endpoint.options();
        match name {
            REFRESH => options.refresh = time(value)?,
            HOLD => options.hold = time(value)?,
            HEARTBEAT => options.heartbeat = time(value)?,
            STRICT => options.strict = word(value)? != 0,
            VIA => options.via = Some(address::read_socket(value)?),
            CREDENTIAL => options.credential = Credential::new(value).ok_or(Errno::EINVAL)?,
            MOST_REQUESTERS => options.requesters = word(value)? as usize,
            MOST_PER_SOURCE => options.entries_per_source = word(value)?,
            _ => return Err(Errno::ENOPROTOOPT),
        }
        endpoint.set_options(options).map(|()| 0)
    })
}

/// See `flexcast.h`.
///
/// # Safety
/// `length` is null or good to write, and `value` for as many bytes as it says.
#[no_mangle]
pub(crate) unsafe extern "C" fn flexcast_getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> c_int {
    call_int(|| {
        let endpoint = table::find(fd)?;
        // SAFETY: as the caller vouches.
        let length = unsafe { memory::place(length) }?;
        // SAFETY: as the caller vouches.
        let value = unsafe { memory::bytes_mut(value.cast(), *length as usize) }?;
        if level != LEVEL {
            let read = sockopt::get_bytes(fd, level, name, value)?;
            *length = socklen_t::try_from(read).unwrap_or(0);
            return Ok(0);
        }
        let options = endpoint.options();
        let answer = match name {
            REFRESH => word_of(options.refresh),
            HOLD => word_of(options.hold),
            HEARTBEAT => word_of(options.heartbeat),
            STRICT => u32::from(options.strict).to_ne_bytes().to_vec(),
            VIA => {
                let via = options.via.ok_or(Errno::EADDRNOTAVAIL)?;
                let mut bytes = vec![0; if via.is_ipv4() { 16 } else { 28 }];
                address::write_socket(via, &mut bytes);
                bytes
            }
            CREDENTIAL => options.credential.as_bytes().to_vec(),
            MOST_REQUESTERS => u32::try_from(options.requesters)
                .unwrap_or(u32::MAX)
                .to_ne_bytes()
                .to_vec(),
            MOST_PER_SOURCE => options.entries_per_source.to_ne_bytes().to_vec(),
            REFUSED => endpoint.refused()?.to_ne_bytes().to_vec(),
            TRANSPARENT => u32::from(endpoint.is_transparent()).to_ne_bytes().to_vec(),
            STATS => write_stats(&endpoint.stats(fd)?),
            REQUESTERS => {
                let requesters = endpoint.requesters()?;
                let whole = requesters
                    .iter()
                    .flat_map(write_requester)
                    .collect::<Vec<u8>>();
                let fitting = value.len() / REQUESTER * REQUESTER;
                let written = fitting.min(whole.len());
                value[..written].copy_from_slice(&whole[..written]);
                *length = socklen_t::try_from(whole.len()).unwrap_or(socklen_t::MAX);
                return Ok(0);
            }
            _ => return Err(Errno::ENOPROTOOPT),
        };
        let written = answer.len().min(value.len());
        value[..written].copy_from_slice(&answer[..written]);
        *length = socklen_t::try_from(written).unwrap_or(0);
        Ok(0)
    })
}

fn write_stats(stats: &Stats) -> Vec<u8> {
    let nodes = stats.path.len().min(NODES);
    let mut words = vec![
        stats.received,
        stats.bytes,
        stats.lost,
        stats.duplicates,
        stats.foreign,
        stats.dropped,
        u64::try_from(nodes).unwrap_or(0),
    ];
    words.extend(stats.path.iter().take(NODES).map(|NodeId(node)| *node));
    words.resize(7 + NODES, 0);
    words.into_iter().flat_map(u64::to_ne_bytes).collect()
}

fn write_requester(requester: &Requester) -> Vec<u8> {
    let mut bytes = vec![0; 128];
    address::write_socket(requester.address, &mut bytes);
    let words = [
        ms(requester.age),
        ms(requester.idle),
        requester.datagrams,
        requester.bytes,
        requester.lost.unwrap_or(u64::MAX),
        u64::from(requester.receivers_below),
    ];
    bytes.extend(words.into_iter().flat_map(u64::to_ne_bytes));
    bytes
}
