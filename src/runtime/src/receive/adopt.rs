//! How a socket of the application's becomes a receiving one: which path it takes.
//!
//! ```text
//!                 probe: works or unknown; no filter of the application's; alone on
//!   Auto ────────► its port; C can be bound ───────────────► kernel path
//!     │ else                                                     │ forced: or an error
//!     └──────────► path through user space ◄── forced            ▼
//! ```
//! Promises: what fails leaves D as it was. Is not undone while D lives: a selector
//! is attached once (kernels without commit 18fc650ccd7f use a replaced one after it
//! was freed).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use flexcast_udp::filter::{self, Untrailed};
use flexcast_udp::selftest::Probe;
use flexcast_udp::{process, sockopt, Errno};
use flexcast_wire::{Kind, Nonce};

use super::identity::Bound;
use super::inheritance::Inheritance;
use super::process_wide::Process;
use super::receiver::{Filtered, Plan};
use super::shared::Shared;
use super::worker::Command;
use super::{Path, PathInUse, ReceiveSettings, ReceivingSocket};

/// Ids of receiving sockets, never used twice.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What is known of D before a path is chosen.
struct Candidate {
    raw: i32,
    bound: Bound,
    inherited: Option<Inheritance>,
    /// The application attached a filter of its own.
    has_filter: bool,
}

/// See [`ReceivingSocket::adopt`].
pub(super) fn adopt(
    raw: i32,
    settings: &ReceiveSettings,
    untrailed: Untrailed,
) -> Result<ReceivingSocket, Errno> {
    let process = Process::get()?;
    let bound = Bound::of(raw)?;
    let filter = sockopt::read_filter(raw);
    let inherited = match &filter {
        Ok(Some(program)) => Inheritance::read(&program.passengers()),
        _ => None,
    };
    let has_filter = inherited.is_none() && !matches!(filter, Ok(None));
    let candidate = Candidate {
        raw,
        bound,
        inherited,
        has_filter,
    };
    let probe = match settings.path {
        Path::Kernel => None,
        Path::Auto | Path::User => Some(process.probe(candidate.bound.family)?),
    };
    if settings.path != Path::User {
        let tried = match candidate.against_kernel_path(settings, probe)? {
            None => candidate.by_kernel(&process, settings, untrailed),
            Some(reason) => {
                log::info!("a receiving socket goes through user space: {reason}");
                Err(Errno::EOPNOTSUPP)
            }
        };
        match tried {
            Err(errno) if settings.path == Path::Auto => log::debug!("kernel path: {errno}"),
            outcome => return outcome,
        }
    }
    let filtered = !has_filter && !matches!(probe, Some(Probe::DoesNot(_)));
    candidate.by_user(&process, settings, untrailed, filtered)
}

impl Candidate {
    /// Why the kernel path is out of the question; none where it is not.
    fn against_kernel_path(
        &self,
        settings: &ReceiveSettings,
        probe: Option<Probe>,
    ) -> Result<Option<String>, Errno> {
        if let Some(Probe::DoesNot(reason)) = probe {
            return Ok(Some(reason.to_string()));
        }
        if self.has_filter {
            return Ok(Some("the program has a filter of its own".to_owned()));
        }
        let (port, family) = (self.bound.local.port(), self.bound.family);
        if port == settings.fp {
            // Requests come from any port but FP.
            return Ok(Some("it is bound to the port of requests".to_owned()));
        }
        if sockopt::reuse_port(self.raw)? && self.inherited.is_none() {
            let others = process::udp_sockets(port, family).unwrap_or_default();
            let others = others
                .iter()
                .filter(|cookie| **cookie != self.bound.identity.cookie);
            if others.count() > 0 {
                return Ok(Some("other sockets share its port".to_owned()));
            }
        }
        Ok(None)
    }

    fn shared(&self) -> Arc<Shared> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Arc::new(Shared::new(id, self.bound.clone(), self.raw))
    }

    fn nonce(&self) -> Result<Nonce, Errno> {
        match &self.inherited {
            Some(inherited) => Ok(inherited.nonce),
            None => loop {
                let random = process::random_u64()?;
                if random != 0 {
                    return Ok(Nonce(random));
                }
            },
        }
    }

    fn by_kernel(
        &self,
        process: &Arc<Process>,
        settings: &ReceiveSettings,
        untrailed: Untrailed,
    ) -> Result<ReceivingSocket, Errno> {
        let before = sockopt::reuse_port(self.raw)?;
        sockopt::set_reuse_port(self.raw, true)?;
        let shared = self.shared();
        let plan = Plan {
            path: PathInUse::Kernel,
            filtered: true,
            nonce: self.nonce()?,
            untrailed,
            settings: settings.clone(),
        };
        let nonce = plan.nonce;
        let done = self.stand_beside(process, &shared, plan).and_then(|()| {
            if self.inherited.is_some() {
                return Ok(()); // The selector is there, with this nonce.
            }
            let selector = filter::selector(nonce.0, Kind::Control.word());
            sockopt::attach_reuseport_selector(self.raw, &selector)
        });
        match done {
            Ok(()) => Ok(ReceivingSocket::new(
                process.clone(),
                shared,
                PathInUse::Kernel,
            )),
            Err(errno) => {
                let id = shared.id;
                let _ = process.background.ask(|reply| Command::Abandon(id, reply));
                let _ = sockopt::set_reuse_port(self.raw, before);
                if self.inherited.is_none() {
                    let _ = sockopt::detach_filter(self.raw);
                }
                Err(errno)
            }
        }
    }

    /// C is bound, and D has its filter.
    fn stand_beside(
        &self,
        process: &Arc<Process>,
        shared: &Arc<Shared>,
        plan: Plan,
    ) -> Result<(), Errno> {
        process.begin(shared, plan)?;
        match process.filter(shared.id)? {
            Filtered::Done => Ok(()),
            Filtered::Failed(errno) => Err(errno),
            Filtered::NotHere | Filtered::Refused => Err(Errno::EPERM),
        }
    }

    fn by_user(
        &self,
        process: &Arc<Process>,
        settings: &ReceiveSettings,
        untrailed: Untrailed,
        filtered: bool,
    ) -> Result<ReceivingSocket, Errno> {
        if !self.bound.device.is_empty() {
            return Err(Errno::EOPNOTSUPP);
        }
        let shared = self.shared();
        let plan = Plan {
            path: PathInUse::User,
            filtered,
            nonce: self.nonce()?,
            untrailed,
            settings: settings.clone(),
        };
        process.begin(&shared, plan)?;
        if filtered && process.filter(shared.id)? != Filtered::Done {
            process.background.post(Command::Unfiltered(shared.id));
        }
        Ok(ReceivingSocket::new(
            process.clone(),
            shared,
            PathInUse::User,
        ))
    }
}
