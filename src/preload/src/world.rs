//! What is mapped, and which addresses are this host's.
//!
//! ```text
//!   loaded ── first datagram socket ──► settings read: a map │ none │ wrong (said once)
//! ```
//! Promises: settings are read once, at the first socket that could be mapped, and
//! never again; wrong ones are said in one line on standard error, and then we are
//! out of the way. No lock: a fork at any moment leaves a child with whole state.
//! Is not the meaning of an address (crate `rules`).

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use flexcast_rules::{Map, Settings};
use flexcast_runtime::kernel::{local_addresses, read_file};
use flexcast_runtime::Errno;

use crate::{environment, log};

/// How long an address list is believed. Longer: a new address counts as foreign
/// for longer; shorter: a netlink dump (some 30 µs) more often.
const BELIEVED_MS: u64 = 1_000;

/// Settings with a map.
#[derive(Debug)]
pub(crate) struct World {
    settings: Settings,
}

/// Whether there is a variable of ours at all.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Read; none inside: nothing is mapped, or the settings are wrong.
static WORLD: AtomicPtr<Option<World>> = AtomicPtr::new(std::ptr::null_mut());

/// An address list. Others may still read an older one, so all are kept: addresses
/// change too seldom to count.
#[derive(Debug)]
struct Locals {
    addresses: Vec<IpAddr>,
    /// Keeps it reachable, for those who look for leaks.
    _older: Option<&'static Locals>,
}

static LOCALS: AtomicPtr<Locals> = AtomicPtr::new(std::ptr::null_mut());
static LOCALS_READ_MS: AtomicU64 = AtomicU64::new(0);
static LOCALS_GENERATION: AtomicU64 = AtomicU64::new(0);

/// Called by the constructor where there are variables of ours.
pub(crate) fn want() {
    WANTED.store(true, Ordering::Relaxed);
}

/// The settings, where they map something.
pub(crate) fn world() -> Option<&'static World> {
    if !WANTED.load(Ordering::Relaxed) {
        return None;
    }
    // SAFETY: null, or leaked below and never changed.
    if let Some(world) = unsafe { WORLD.load(Ordering::Acquire).as_ref() } {
        return world.as_ref();
    }
    let outcome = read();
    let (world, fault) = match outcome {
        Ok(settings) => (
            (!settings.map().is_empty()).then_some(World { settings }),
            None,
        ),
        Err(fault) => (None, Some(fault)),
    };
    let fresh = Box::into_raw(Box::new(world));
    let null = std::ptr::null_mut();
    match WORLD.compare_exchange(null, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            // SAFETY: leaked just now.
            let world = unsafe { &*fresh }.as_ref();
            if let Some(wanted) = world.and_then(|world| world.settings.log()) {
                log::start(wanted);
            }
            if let Some(fault) = fault {
                log::say(&format!("{fault}; nothing is mapped in this process"));
            }
            world
        }
        Err(theirs) => {
            // SAFETY: made above; another thread's was taken.
            drop(unsafe { Box::from_raw(fresh) });
            // SAFETY: leaked by that thread and never changed.
            unsafe { &*theirs }.as_ref()
        }
    }
}

fn read() -> Result<Settings, String> {
    let variables = environment::kept().iter();
    let variables = variables.map(|(name, value)| (name.as_str(), value.as_str()));
    Settings::load(variables, |path| {
        let mut bytes = Vec::new();
        read_file(path.as_os_str().as_encoded_bytes(), &mut bytes)?;
        Ok::<_, Errno>(bytes)
    })
}

impl World {
    /// The rules.
    pub(crate) fn map(&self) -> &Map {
        self.settings.map()
    }

    /// Everything that was set.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether `address` is this host's: an interface's, loopback, or one that
    /// `FLEXCAST_SELF` names.
    pub(crate) fn is_local(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback()
            || self.settings.own_addresses().contains(&address)
            || locals().contains(&address)
    }
}

/// Addresses of this host's interfaces, at most a second old.
pub(crate) fn locals() -> &'static [IpAddr] {
    let now = coarse_ms();
    let read = LOCALS_READ_MS.load(Ordering::Acquire);
    let at = LOCALS.load(Ordering::Acquire);
    // SAFETY: null, or leaked below and never changed.
    let known = unsafe { at.as_ref() };
    if let Some(known) = known.filter(|_| now.wrapping_sub(read) < BELIEVED_MS) {
        return &known.addresses;
    }
    LOCALS_READ_MS.store(now, Ordering::Release);
    let mut addresses = match (local_addresses(), known) {
        (Ok(addresses), _) => addresses,
        (Err(_), Some(known)) => return &known.addresses,
        (Err(_), None) => return &[],
    };
    addresses.iter_mut().for_each(|ip| *ip = ip.to_canonical());
    if let Some(known) = known.filter(|known| known.addresses == addresses) {
        return &known.addresses;
    }
    let fresh = Box::into_raw(Box::new(Locals {
        addresses,
        _older: known,
    }));
    match LOCALS.compare_exchange(at, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            LOCALS_GENERATION.fetch_add(1, Ordering::Release);
            // SAFETY: leaked just now.
            &unsafe { &*fresh }.addresses
        }
        Err(theirs) => {
            // SAFETY: made above; another thread's was taken.
            drop(unsafe { Box::from_raw(fresh) });
            // SAFETY: leaked by that thread and never changed.
            &unsafe { &*theirs }.addresses
        }
    }
}

/// Changes when this host's addresses do: what was derived from them is stale.
pub(crate) fn locals_generation() -> u64 {
    locals();
    LOCALS_GENERATION.load(Ordering::Acquire)
}

/// Milliseconds of a clock that costs no system call (some 5 ns, 1–4 ms coarse).
fn coarse_ms() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: one timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    // Never 0, which means that nothing was read yet.
    seconds * 1_000 + nanos / 1_000_000 + BELIEVED_MS
}
