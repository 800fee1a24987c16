//! State that every process of a family of forks has for itself.
//!
//! ```text
//!   born ──► child's ──► grandchild's      each derived from the one before, once
//! ```
//! Promises: a child never waits for a lock that a thread of its parent held at the
//! fork; what cannot be derived for that reason starts anew; a process that never forks
//! pays one relaxed load. Is not state of the whole process ([`crate::per_process`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, TryLockError};

static FORKS: AtomicU64 = AtomicU64::new(0);

/// How many forks lie between the process that loaded us and this one.
#[must_use]
pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// In a forked child, before it has a second thread.
pub(crate) fn count_fork() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How a child begins with what its parent had.
pub trait Forked {
    /// The child's. Must not wait.
    #[must_use]
    fn forked(&self) -> Self;
}

impl<T: Clone + Default> Forked for Mutex<T> {
    fn forked(&self) -> Self {
        Mutex::new(match self.try_lock() {
            Ok(there) => there.clone(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().clone(),
            // A thread of the parent's is at it for ever.
            Err(TryLockError::WouldBlock) => T::default(),
        })
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct AcrossForks<T> {
    born: u64,
    first: Generation<T>,
}

#[derive(Debug)]
struct Generation<T> {
    state: T,
    next: OnceLock<Box<Generation<T>>>,
}

impl<T> Generation<T> {
    const fn new(state: T) -> Generation<T> {
        Generation {
            state,
            next: OnceLock::new(),
        }
    }
}

impl<T> AcrossForks<T> {
    /// For a static: as if made before any fork.
    pub(crate) const fn from_the_start(state: T) -> AcrossForks<T> {
        AcrossForks {
            born: 0,
            first: Generation::new(state),
        }
    }

    /// This process's, and what its children will begin with.
    #[must_use]
    pub fn new(state: T) -> AcrossForks<T> {
        AcrossForks {
            born: forks(),
            first: Generation::new(state),
        }
    }
}

impl<T: Forked> AcrossForks<T> {
    /// This process's.
    pub fn get(&self) -> &T {
        let mut generation = &self.first;
        for _ in self.born..forks() {
            let before = generation;
            let derive = || Box::new(Generation::new(before.state.forked()));
            generation = before.next.get_or_init(derive);
        }
        &generation.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test of this process that counts forks, nextest or not: the counter is
    /// the process's.
    #[test]
    fn a_child_goes_on_with_a_copy_and_never_waits_for_a_held_lock() {
        let before = AcrossForks::new(Mutex::new(vec![1]));
        let held = AcrossForks::new(Mutex::new(vec![1]));
        let never_released = held.get().lock().unwrap();
        count_fork();
        before.get().lock().unwrap().push(2);
        assert_eq!(*before.get().lock().unwrap(), [1, 2]);
        assert_eq!(*before.first.state.lock().unwrap(), [1], "the parent's");
        assert!(held.get().lock().unwrap().is_empty());
        let later = AcrossForks::new(Mutex::new(3));
        count_fork();
        assert_eq!(*before.get().lock().unwrap(), [1, 2]);
        assert_eq!(*later.get().lock().unwrap(), 3);
        drop(never_released);
    }
}
