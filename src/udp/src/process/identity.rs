//! Who we are, what we may do, and chance.
//!
//! Promises: the kernel's present answer, nothing remembered. Is not: a generator
//! of its own: random bytes are the kernel's.

use crate::raw::call;
use crate::Errno;

/// Process id, in this pid namespace.
#[must_use]
pub fn pid() -> i32 {
    number(libc::SYS_getpid).cast_signed()
}

/// Thread id, in this pid namespace.
#[must_use]
pub fn tid() -> i32 {
    number(libc::SYS_gettid).cast_signed()
}

/// Effective user id.
#[must_use]
pub fn uid() -> u32 {
    number(libc::SYS_geteuid)
}

fn number(call_number: libc::c_long) -> u32 {
    // SAFETY: getpid, gettid and geteuid take nothing and cannot fail.
    let answer = unsafe { call(call_number, [0; 6]) };
    answer
        .ok()
        .and_then(|value| u32::try_from(value).ok())
        .unwrap_or(0)
}

/// Effective capabilities of this thread that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Capabilities {
    /// `CAP_NET_ADMIN`: rules, routes, marks, transparent sockets.
    pub net_admin: bool,
    /// `CAP_NET_RAW`: transparent sockets.
    pub net_raw: bool,
}

/// Effective capabilities; none where the kernel does not say.
#[must_use]
pub fn capabilities() -> Capabilities {
    // _LINUX_CAPABILITY_VERSION_3, this thread; two sets of effective, permitted,
    // inheritable (include/uapi/linux/capability.h).
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [0_u32; 6];
    let header_at = header.as_ptr() as usize;
    let sets_at = sets.as_mut_ptr() as usize;
    // SAFETY: the kernel reads 8 bytes of header and writes 24 bytes of sets (it
    // writes the header only for a version it does not know, since 2.6.26 not this).
    if unsafe { call(libc::SYS_capget, [header_at, sets_at, 0, 0, 0, 0]) }.is_err() {
        return Capabilities::default();
    }
    Capabilities {
        net_admin: sets[0] & (1 << 12) != 0,
        net_raw: sets[0] & (1 << 13) != 0,
    }
}

/// Fills `bytes` with the kernel's random bytes; may wait at early boot.
///
/// # Errors
/// `ENOSYS` or `EPERM` in a sandbox that forbids getrandom(2).
pub fn random_fill(bytes: &mut [u8]) -> Result<(), Errno> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        let arguments = [rest.as_mut_ptr() as usize, rest.len(), 0, 0, 0, 0];
        // SAFETY: the kernel writes at most rest.len() bytes into a slice that is ours.
        match unsafe { call(libc::SYS_getrandom, arguments) } {
            Ok(count) => filled += count,
            Err(Errno::EINTR) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// 64 random bits.
///
/// # Errors
/// As [`random_fill`].
pub fn random_u64() -> Result<u64, Errno> {
    let mut bytes = [0; 8];
    random_fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}
