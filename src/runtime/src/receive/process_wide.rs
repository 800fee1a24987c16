//! The receiving half of this process: one background thread, started when first
//! needed, and what has been found out about this machine.
//!
//! Promises: a forked child leaves it behind by [`forget_after_fork`]. Is not told of
//! forks by anybody else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use flexcast_udp::selftest::Probe;
use flexcast_udp::{Errno, Family};

use super::passer::Passer;
use super::receiver::{Filtered, Plan};
use super::shared::Shared;
use super::worker::{Begun, Command, Worker};
use crate::background::{forget_threads, lock, Background};
use crate::per_process::PerProcess;

/// At exit nobody waits longer than this.
const AT_EXIT: Duration = Duration::from_millis(45);

static PROCESS: PerProcess<Process> = PerProcess::new();

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

    /// Makes a socket ours.
    pub(super) fn begin(&self, shared: &Arc<Shared>, plan: &Plan) -> Result<(), Errno> {
        let begin = || {
            let (shared, plan) = (shared.clone(), Box::new(plan.clone()));
            self.background
                .ask(|reply| Command::Begin(shared, plan, reply))?
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
/// nobody waits for answers.
pub fn leave_all() {
    if let Some(process) = PROCESS.running_within(AT_EXIT) {
        let _ = process.background.ask_within(AT_EXIT, Command::LeaveAll);
    }
}

/// To be called by a forked child before anything else here: threads, descriptors and
/// locks of the receiving half are its parent's. Sockets that were adopted before are
/// adopted anew.
pub fn forget_after_fork() {
    PROCESS.forget();
    forget_threads();
}
