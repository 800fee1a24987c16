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

use flexcast_udp::filter::Untrailed;
use flexcast_udp::selftest::Probe;
use flexcast_udp::{process, sockopt, Errno};
use flexcast_wire::Nonce;

use super::identity::Bound;
use super::inheritance::Inheritance;
use super::process_wide::Process;
use super::reading::Reading;
use super::receiver::Plan;
use super::shared::Shared;
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
    /// Its program reads by our calls.
    reads: bool,
}

/// See [`ReceivingSocket::adopt`].
pub(super) fn adopt(
    raw: i32,
    settings: &ReceiveSettings,
    untrailed: Untrailed,
) -> Result<ReceivingSocket, Errno> {
    begin(raw, settings, untrailed, false)
}

/// See [`ReceivingSocket::adopt_reader`].
pub(super) fn adopt_reader(raw: i32, settings: &ReceiveSettings) -> Result<ReceivingSocket, Errno> {
    begin(raw, settings, Untrailed::Drop, true)
}

fn begin(
    raw: i32,
    settings: &ReceiveSettings,
    untrailed: Untrailed,
    reads: bool,
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
        reads,
    };
    let probe = match settings.path {
        Path::Kernel => None,
        Path::Auto | Path::User => Some(process.probe(candidate.bound.family)?),
    };
    if settings.path != Path::User {
        let tried = match candidate.against_kernel_path(settings, probe)? {
            None => candidate.by(PathInUse::Kernel, true, settings, untrailed),
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
    if !candidate.bound.device.is_empty() {
        return Err(Errno::EOPNOTSUPP);
    }
    let filtered = !has_filter && !matches!(probe, Some(Probe::DoesNot(_)));
    let by_user = |filtered| candidate.by(PathInUse::User, filtered, settings, untrailed);
    match by_user(filtered) {
        // D is out of our reach: then without a filter.
        Err(Errno::EPERM) if filtered => by_user(false),
        outcome => outcome,
    }
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

    /// # Errors
    /// As [`super::receiver::Receiver::stand_beside`] and
    /// [`super::receiver::Receiver::stand_apart`].
    fn by(
        &self,
        path: PathInUse,
        filtered: bool,
        settings: &ReceiveSettings,
        untrailed: Untrailed,
    ) -> Result<ReceivingSocket, Errno> {
        let process = Process::get()?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut shared = Shared::new(id, self.bound.clone(), self.raw);
        if self.reads {
            shared = shared.read_by(Reading::new()?);
        }
        let shared = Arc::new(shared);
        let plan = Plan {
            path,
            filtered,
            nonce: self.nonce()?,
            inherited: self.inherited.is_some(),
            untrailed,
            settings: settings.clone(),
        };
        process.begin(&shared, &plan, false)?;
        Ok(ReceivingSocket::new(shared, plan))
    }
}
