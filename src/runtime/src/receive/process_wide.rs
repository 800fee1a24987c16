//! The receiving half of this process: one background thread, started when first
//! needed, and what has been found out about this machine.
//!
//! Promises: a forked child leaves it behind by [`forget_after_fork`]. Is not told of
//! forks by anybody else.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use flexcast_udp::selftest::Probe;
use flexcast_udp::{Errno, Family, UdpSocket};

use super::passer::Passer;
use super::receiver::{Filtered, Plan};
use super::shared::Shared;
use super::worker::{Begun, Command, Worker};
use super::{Handle, ReceivingSocket};
use crate::across_forks::{count_fork, AcrossForks};
use crate::background::{forget_threads, lock, lock_within, now, Background};
use crate::per_process::PerProcess;

/// At exit nobody waits longer than this.
const AT_EXIT: Duration = Duration::from_millis(45);

/// Before a fork nobody waits longer than this for a name by which a child finds us.
const AT_FORK: Duration = Duration::from_millis(500);

static PROCESS: PerProcess<Process> = PerProcess::new();

/// The receiving sockets that there are: a child of a fork goes on with them.
static SOCKETS: AcrossForks<Mutex<Vec<Weak<Handle>>>> =
    AcrossForks::from_the_start(Mutex::new(Vec::new()));

/// One more.
pub(super) fn note(handle: &Arc<Handle>) {
    let mut sockets = lock(SOCKETS.get());
    sockets.retain(|socket| socket.strong_count() > 0);
    sockets.push(Arc::downgrade(handle));
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) background: Background<Command>,
    /// What the probe has shown, IPv4 and IPv6; none while unknown.
    probes: Mutex<[Option<Probe>; 2]>,
    has_passer: Mutex<bool>,
}

impl Process {
    /// This process's; its thread is started where it is the first call.
    pub(super) fn get() -> Result<Arc<Process>, Errno> {
        PROCESS.get_or_start(|| {
            Ok(Process {
                background: Background::start("flexcast-recv", Worker::new)?,
                probes: Mutex::new([None; 2]),
                has_passer: Mutex::new(false),
            })
        })
    }

    /// Whether the kernel path works. "Unknown" is asked again the next time.
    pub(super) fn probe(&self, family: Family) -> Result<Probe, Errno> {
        let at = usize::from(family == Family::V6);
        if let Some(known) = lock(&self.probes)[at] {
            return Ok(known);
        }
        let probe = self.background.ask(|reply| Command::Probe(family, reply))?;
        if !matches!(probe, Probe::Unknown(_)) {
            lock(&self.probes)[at] = Some(probe);
        }
        Ok(probe)
    }

    /// Makes a socket ours; or, where it is the parent's, stands by.
    pub(super) fn begin(
        &self,
        shared: &Arc<Shared>,
        plan: &Plan,
        inherits: bool,
    ) -> Result<(), Errno> {
        let begin = || {
            let (shared, plan) = (shared.clone(), Box::new(plan.clone()));
            self.background.ask(|reply| match inherits {
                true => Command::Inherit(shared, plan, reply),
                false => Command::Begin(shared, plan, reply),
            })?
        };
        let mut begun = begin()?;
        if begun == Begun::Refused && self.help()? {
            begun = begin()?;
        }
        match begun {
            Begun::Done => Ok(()),
            Begun::Refused => Err(Errno::EPERM),
        }
    }

    /// Where D could not be reached for its filter: a helper from now on, and once
    /// more.
    pub(super) fn refilter(&self, id: u64, filtered: Filtered) {
        if filtered != Filtered::Refused {
            return;
        }
        let helped = self.help().and_then(|helped| {
            if helped {
                self.background.ask(|reply| Command::Filter(id, reply))
            } else {
                Ok(filtered)
            }
        });
        if helped != Ok(Filtered::Done) {
            log::warn!("a receiving socket's filter: {helped:?}");
        }
    }

    /// Starts the helper, in the caller's descriptor table. False where there is one
    /// already.
    fn help(&self) -> Result<bool, Errno> {
        let mut has_passer = lock(&self.has_passer);
        if *has_passer {
            return Ok(false);
        }
        self.background.post(Command::Passer(Passer::start()?));
        *has_passer = true;
        Ok(true)
    }
}

/// All receiving sockets leave, at process exit: each says so once, within 50 ms;
/// nobody waits for answers. Those that were shared with a child are closed for that,
/// and go on where another process holds them.
pub fn leave_all() {
    let Some(process) = PROCESS.running_within(AT_EXIT) else {
        return;
    };
    let until = now() + AT_EXIT;
    let left = || until.since(now()).max(Duration::from_millis(1));
    for socket in shared_sockets() {
        close_all_numbers(&socket.shared);
        let closed = |reply| Command::Closed(socket.shared.id, reply);
        let _ = process.background.ask_within(left(), closed);
    }
    let _ = process.background.ask_within(left(), Command::LeaveAll);
}

/// Those that a child was given, too.
fn shared_sockets() -> Vec<Arc<Handle>> {
    let Some(sockets) = lock_within(SOCKETS.get(), AT_EXIT) else {
        return Vec::new();
    };
    let sockets = sockets.iter().filter_map(Weak::upgrade);
    sockets
        .filter(|socket| socket.shared.keeper.get().is_some() && !socket.shared.is_over())
        .collect()
}

/// Puts an unbound socket in D's place: the program may use its number to the last.
fn close_all_numbers(shared: &Shared) {
    let Ok(nobody) = UdpSocket::new(shared.bound.family) else {
        return;
    };
    for number in shared.bound.identity.numbers_in("/proc/self/fd") {
        if shared.bound.identity.is(number) {
            let _ = flexcast_udp::replace(number, nobody.as_raw(), true);
        }
    }
}

/// To be called before a fork, so that the child can go on with sockets that read by
/// our calls ([`inherit_all`]).
pub fn share_all() {
    if let Some(process) = PROCESS.running_within(Duration::ZERO) {
        if let Err(errno) = process.background.ask_within(AT_FORK, Command::Share) {
            log::warn!("a child will not go on with receiving sockets: {errno}");
        }
    }
}

/// To be called by a forked child after [`forget_after_fork`]: where its parent has
/// shared its sockets, the child asks for them as soon as the parent does no longer.
pub fn inherit_all() {
    let sockets = std::mem::take(&mut *lock(SOCKETS.get()));
    let sockets: Vec<ReceivingSocket> = sockets
        .iter()
        .filter_map(|socket| socket.upgrade().map(ReceivingSocket))
        .collect();
    for socket in sockets {
        if let Err(errno) = socket.process() {
            log::debug!("an inherited socket: {errno}");
        }
        note(&socket.0);
    }
}

/// To be called by a forked child before anything else here: threads, descriptors and
/// locks of the receiving half are its parent's. Sockets that were adopted before are
/// adopted anew.
pub fn forget_after_fork() {
    PROCESS.forget();
    forget_threads();
    count_fork();
}
