//! A background thread inside somebody else's process: an event loop with a
//! descriptor table of its own.
//!
//! ```text
//!   any thread ── post ──► queue ── datagram to an abstract address ──► the thread
//!                                       epoll: sockets, timers, commands
//! ```
//! Promises: signals stay away from it (but glibc's own 32 and 33); it is woken by a
//! datagram, so that no descriptor of it stands in the application's table; it does
//! not keep a process alive whose main thread has left. Is not the work itself
//! ([`Work`]).

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use flexcast_engine::Time;
use flexcast_udp::process::{self, Epoll, Event, Events, Interest};
use flexcast_udp::unix::UnixDatagram;
use flexcast_udp::Errno;

/// The epoll token of the wake-up address; those of [`Work`] are below it.
const WAKE: u64 = u64::MAX;
const STACK: usize = 256 * 1024;
/// How often a thread looks whether it is the last one.
const WATCH: Duration = Duration::from_secs(1);
/// How long a caller waits for the thread's answer at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Threads of ours in this process.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The present moment, as the engine counts.
#[must_use]
pub fn now() -> Time {
    Time(process::boottime_us())
}

/// Locks, also where another thread panicked while it held the lock: what is behind
/// our locks is whole between any two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks, unless somebody keeps the lock for that long: for those at exit, who may be
/// a signal's handler that has interrupted whoever holds it. Makes no system call where
/// the lock is free: programs that never needed us exit through here too.
pub(crate) fn lock_within<T>(mutex: &Mutex<T>, limit: Duration) -> Option<MutexGuard<'_, T>> {
    let mut until = None;
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock)
                if now() >= *until.get_or_insert_with(|| now() + limit) =>
            {
                return None
            }
            Err(TryLockError::WouldBlock) => process::sleep_us(200),
        }
    }
}

/// What a background thread does. Lives and dies in that thread.
pub(crate) trait Work<C> {
    /// Does what another thread asked for.
    fn command(&mut self, now: Time, command: C);
    /// A descriptor that was added to the thread's epoll is ready.
    fn ready(&mut self, now: Time, event: Event);
    /// When [`Work::due`] next has something to do.
    fn next_time(&self) -> Time;
    /// Does what is due; called after every command and event, too.
    fn due(&mut self, now: Time);
    /// Whether the thread has nothing left to do, and ends.
    fn is_over(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct Queue<C> {
    commands: Mutex<VecDeque<C>>,
    address: Vec<u8>,
}

/// A running background thread, as other threads see it.
#[derive(Debug)]
pub(crate) struct Background<C> {
    queue: Arc<Queue<C>>,
}

impl<C> Clone for Background<C> {
    fn clone(&self) -> Self {
        Background {
            queue: self.queue.clone(),
        }
    }
}

impl<C: Send + 'static> Background<C> {
    /// Starts the thread. `make` runs in it, with its epoll, after it has its own
    /// descriptor table; its failure is this call's.
    ///
    /// # Errors
    /// What `make` failed with; `EAGAIN` where no thread could be started.
    pub(crate) fn start<W: Work<C>>(
        name: &str,
        make: impl FnOnce(Rc<Epoll>) -> Result<W, Errno> + Send + 'static,
    ) -> Result<Background<C>, Errno> {
        let address = format!("flexcast-wake/{:016x}", process::random_u64()?);
        let queue = Arc::new(Queue {
            commands: Mutex::new(VecDeque::new()),
            address: address.into_bytes(),
        });
        let outcome = Reply::new();
        let (theirs, answer) = (queue.clone(), outcome.clone());
        spawn(name, move || run(&theirs, make, &answer))?;
        outcome.wait(PATIENCE).unwrap_or(Err(Errno::ETIMEDOUT))?;
        Ok(Background { queue })
    }

    /// Hands the thread a command. Orders of one caller stay in order.
    pub(crate) fn post(&self, command: C) {
        self.queue_up(lock(&self.queue.commands), command);
    }

    fn queue_up(&self, mut commands: MutexGuard<'_, VecDeque<C>>, command: C) {
        commands.push_back(command);
        let first = commands.len() == 1;
        drop(commands);
        if first {
            // Whoever finds the queue empty wakes; the descriptor lives for one call.
            if let Ok(socket) = UnixDatagram::unbound() {
                let _ = socket.send_to(&self.queue.address, b"!");
            }
        }
    }

    /// Hands the thread a command that is answered, and waits for the answer.
    ///
    /// # Errors
    /// `ETIMEDOUT` where the thread does not answer within 5 s.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(Reply<T>) -> C,
    ) -> Result<T, Errno> {
        self.ask_within(PATIENCE, command)
    }

    /// As [`Background::ask`], for those who have less time.
    ///
    /// # Errors
    /// `ETIMEDOUT` where the thread does not answer within `limit`.
    pub(crate) fn ask_within<T: Send + 'static>(
        &self,
        limit: Duration,
        command: impl FnOnce(Reply<T>) -> C,
    ) -> Result<T, Errno> {
        let reply = Reply::new();
        let commands = lock_within(&self.queue.commands, limit).ok_or(Errno::ETIMEDOUT)?;
        self.queue_up(commands, command(reply.clone()));
        reply.wait(limit).ok_or(Errno::ETIMEDOUT)
    }
}

/// Starts a thread that belongs to us: no signals, and it does not count as one of
/// the process's own.
///
/// # Errors
/// `EAGAIN` where no thread could be started.
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    let before = process::block_signals();
    let spawned = std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(move || {
            THREADS.fetch_add(1, Ordering::Relaxed);
            work();
            THREADS.fetch_sub(1, Ordering::Relaxed);
        });
    process::restore_signals(before);
    spawned.map(drop).map_err(|_| Errno::EAGAIN)
}

/// An answer that is still to come.
#[derive(Debug)]
pub(crate) struct Reply<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Reply(self.0.clone())
    }
}

impl<T> Reply<T> {
    pub(crate) fn new() -> Reply<T> {
        Reply(Arc::new((Mutex::new(None), Condvar::new())))
    }

    /// Gives the answer.
    pub(crate) fn give(&self, value: T) {
        *lock(&self.0 .0) = Some(value);
        self.0 .1.notify_all();
    }

    /// Waits for it; none where it does not come in time.
    fn wait(&self, limit: Duration) -> Option<T> {
        let slot = lock(&self.0 .0);
        let waited = self
            .0
             .1
            .wait_timeout_while(slot, limit, |answer| answer.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

/// The thread.
fn run<C, W: Work<C>>(
    queue: &Queue<C>,
    make: impl FnOnce(Rc<Epoll>) -> Result<W, Errno>,
    outcome: &Reply<Result<(), Errno>>,
) {
    match prepare(queue, make) {
        Ok((wake, epoll, mut work)) => {
            outcome.give(Ok(()));
            work_on(queue, &wake, &epoll, &mut work);
        }
        Err(errno) => outcome.give(Err(errno)),
    }
}

fn prepare<C, W: Work<C>>(
    queue: &Queue<C>,
    make: impl FnOnce(Rc<Epoll>) -> Result<W, Errno>,
) -> Result<(UnixDatagram, Rc<Epoll>, W), Errno> {
    process::private_descriptors()?;
    let wake = UnixDatagram::bind(&queue.address)?;
    let epoll = Rc::new(Epoll::new()?);
    epoll.add(wake.fd.as_raw(), WAKE, Interest::READ)?;
    let work = make(epoll.clone())?;
    Ok((wake, epoll, work))
}

fn work_on<C, W: Work<C>>(queue: &Queue<C>, wake: &UnixDatagram, epoll: &Epoll, work: &mut W) {
    let mut events = Events::new(64);
    let mut next_watch = now() + WATCH;
    loop {
        let until = work.next_time().min(next_watch);
        let wait = u64::try_from(until.since(now()).as_micros()).unwrap_or(u64::MAX);
        // A failure here can only be a programming error; it must not spin.
        if epoll.wait(&mut events, Some(wait)).is_err() {
            process::sleep_us(10_000);
        }
        let moment = now();
        for event in events.iter() {
            if event.token == WAKE {
                let mut byte = [0; 8];
                while wake.recv(&mut byte).is_ok() {}
            } else {
                work.ready(moment, event);
            }
        }
        while let Some(command) = take(queue) {
            work.command(now(), command);
        }
        work.due(now());
        if work.is_over() {
            return;
        }
        if moment >= next_watch {
            next_watch = moment + WATCH;
            leave_with_the_last();
        }
    }
}

fn take<C>(queue: &Queue<C>) -> Option<C> {
    lock(&queue.commands).pop_front()
}

/// In a forked child, which has none of its parent's threads.
pub(crate) fn forget_threads() {
    THREADS.store(0, Ordering::Relaxed);
}

/// Ends the process where main has left by pthread_exit and nobody else is there:
/// without us the kernel would have ended it.
fn leave_with_the_last() {
    let mut stat = Vec::new();
    if process::read_file("/proc/self/stat", &mut stat).is_err() {
        return;
    }
    let state = stat.iter().rposition(|b| *b == b')').map(|at| at + 2);
    if state.and_then(|at| stat.get(at)) != Some(&b'Z') {
        return;
    }
    let ours = THREADS.load(Ordering::Relaxed);
    if process::count_entries("/proc/self/task").is_ok_and(|all| all <= ours + 1) {
        std::process::exit(0);
    }
}
