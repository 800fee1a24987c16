//! State that a process has once, and that a forked child can leave behind.
//!
//! ```text
//!   first ──► next ──► next        a child of a child … stands one further on
//!     ▲ age 0   ▲ age 1
//! ```
//! Promises: [`PerProcess::forget`] takes no lock of the parent's (another thread may
//! have held it at the fork); what the parent had stays where it is, unused.
//! Is not a watch for forks: the child says that it is one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use flexcast_udp::Errno;

use crate::background::{lock, lock_within};

/// The state of this process, made when first needed.
#[derive(Debug)]
pub(crate) struct PerProcess<T: 'static> {
    first: Generation<T>,
    age: AtomicUsize,
}

#[derive(Debug)]
struct Generation<T: 'static> {
    state: Mutex<Option<Arc<T>>>,
    /// Made by a child before it has a second thread.
    next: OnceLock<Box<Generation<T>>>,
}

impl<T> Generation<T> {
    const fn new() -> Generation<T> {
        Generation {
            state: Mutex::new(None),
            next: OnceLock::new(),
        }
    }
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess {
            first: Generation::new(),
            age: AtomicUsize::new(0),
        }
    }

    fn current(&self) -> &Generation<T> {
        let mut generation = &self.first;
        for _ in 0..self.age.load(Ordering::Acquire) {
            match generation.next.get() {
                Some(next) => generation = next,
                None => break,
            }
        }
        generation
    }

    /// The state; `start` makes it where there is none yet.
    ///
    /// # Errors
    /// What `start` failed with; the next call tries again.
    pub(crate) fn get_or_start(
        &self,
        start: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<Arc<T>, Errno> {
        let mut state = lock(&self.current().state);
        if let Some(state) = &*state {
            return Ok(state.clone());
        }
        let started = Arc::new(start()?);
        *state = Some(started.clone());
        Ok(started)
    }

    /// The state, if there is one and nobody is making it for that long.
    pub(crate) fn running_within(&self, limit: Duration) -> Option<Arc<T>> {
        lock_within(&self.current().state, limit)?.clone()
    }

    /// In a forked child, first thing: the parent's state is the parent's.
    pub(crate) fn forget(&self) {
        self.current()
            .next
            .get_or_init(|| Box::new(Generation::new()));
        self.age.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_child_starts_anew_though_the_parents_lock_was_held() {
        static STATE: PerProcess<u32> = PerProcess::new();
        assert_eq!(STATE.running_within(NOW), None);
        assert_eq!(
            STATE.get_or_start(|| Err(Errno::EAGAIN)),
            Err(Errno::EAGAIN)
        );
        assert_eq!(*STATE.get_or_start(|| Ok(1)).unwrap(), 1);
        let held = STATE.first.state.lock().unwrap();
        assert_eq!(STATE.running_within(NOW), None, "nobody waits at exit");
        for n in 2..5 {
            STATE.forget();
            assert_eq!(STATE.running_within(NOW), None);
            assert_eq!(*STATE.get_or_start(|| Ok(n)).unwrap(), n);
            assert_eq!(*STATE.get_or_start(|| Ok(99)).unwrap(), n);
        }
        drop(held);
    }
}
