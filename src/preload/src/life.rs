//! The life of the library in a process: loaded, forked, ended.
//!
//! ```text
//!   loaded ──► real functions found, variables kept, nothing started
//!   fork   ──► child: state is new, inherited sockets are taken over at first use
//!   exit   ──► streams end, receivers leave, at most 50 ms
//! ```
//! Promises: no lock is taken around a fork, so a child never waits for one that a
//! vanished thread held: what is per process stands behind a pointer that the child
//! sets to null. In a vfork child, which shares our memory, nothing is changed.

use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flexcast_runtime::kernel::pid;

use crate::{call, environment, guard, join, push, real, table, world};

#[used]
#[link_section = ".init_array"]
static CONSTRUCTOR: extern "C" fn() = construct;

#[used]
#[link_section = ".fini_array"]
static DESTRUCTOR: extern "C" fn() = end;

/// The process whose state this is; 0 where nothing can be mapped.
static PROCESS: AtomicI32 = AtomicI32::new(0);

extern "C" fn construct() {
    real::resolve();
    if environment::keep() {
        guard::keep_panics_quiet();
        PROCESS.store(pid(), Ordering::Relaxed);
        // SAFETY: the handler is a function of this object, which is never unloaded.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
        world::want();
    }
}

/// In the child, before fork returns there.
unsafe extern "C" fn forked() {
    guard::guarded_anyway((), || {
        PROCESS.store(pid(), Ordering::Relaxed);
        table::forget();
        push::forget();
        join::forget();
        call::forget();
    });
}

extern "C" fn end() {
    guard::guarded_anyway((), || {
        if same_process() {
            push::finish();
            join::leave_all();
        }
    });
}

/// Whether this is the process whose state we hold, and not a child that shares or
/// copied our memory without a fork of the C library's.
pub(crate) fn same_process() -> bool {
    PROCESS.load(Ordering::Relaxed) == pid()
}

/// State of one process, made at its first use.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    own: AtomicPtr<T>,
    parents: AtomicPtr<T>,
}

impl<T: Default + Sync> PerProcess<T> {
    /// Nothing yet.
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess {
            own: AtomicPtr::new(std::ptr::null_mut()),
            parents: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// The state, where some was made.
    pub(crate) fn made(&self) -> Option<&'static T> {
        // SAFETY: null, or leaked by `get`.
        unsafe { self.own.load(Ordering::Acquire).as_ref() }
    }

    /// The parent's state, as it was at the fork: locks that its other threads held
    /// are held for ever.
    pub(crate) fn parents(&self) -> Option<&'static T> {
        // SAFETY: null, or leaked by `get` in the parent.
        unsafe { self.parents.load(Ordering::Acquire).as_ref() }
    }

    /// The state.
    pub(crate) fn get(&self) -> &'static T {
        if let Some(made) = self.made() {
            return made;
        }
        let fresh = Box::into_raw(Box::<T>::default());
        let null = std::ptr::null_mut();
        let outcome = self
            .own
            .compare_exchange(null, fresh, Ordering::AcqRel, Ordering::Acquire);
        match outcome {
            // SAFETY: leaked just now.
            Ok(_) => unsafe { &*fresh },
            Err(theirs) => {
                // SAFETY: made above; another thread's was taken.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: leaked by that thread.
                unsafe { &*theirs }
            }
        }
    }

    /// In a forked child: the parent's state is left as it is, locks and all.
    pub(crate) fn forget(&self) {
        let parents = self.own.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !parents.is_null() {
            self.parents.store(parents, Ordering::Release);
        }
    }
}

/// Locks, also where another thread panicked while it held the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
