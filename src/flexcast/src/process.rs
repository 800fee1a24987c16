//! What a process has once: its sending half, and the port of requests.
//! Is not started before a socket listens.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use flexcast_runtime::receive::{self, Path};
use flexcast_runtime::send::{self, SendError, SendSettings, Sending};
use flexcast_runtime::Errno;
use flexcast_wire::FLEXCAST_PORT;

thread_local! {
    static DETAIL: RefCell<Option<(Errno, String)>> = const { RefCell::new(None) };
}

/// What settings said that were read in another way than by these variables: the port of
/// requests, and the way that streams take.
static CONFIGURED: OnceLock<(u16, Path)> = OnceLock::new();

static SENDING: Mutex<Option<Arc<Sending>>> = Mutex::new(None);

/// Settings go before the variables from now on; those of the first call.
pub(crate) fn configure(port: u16, path: Path) {
    let _ = CONFIGURED.set((port, path));
}

/// The port of requests.
///
/// # Errors
/// `EINVAL` where `FLEXCAST_PORT` is no port.
pub(crate) fn port() -> Result<u16, Errno> {
    if let Some((port, _)) = CONFIGURED.get() {
        return Ok(*port);
    }
    match std::env::var("FLEXCAST_PORT") {
        Err(std::env::VarError::NotPresent) => Ok(FLEXCAST_PORT),
        Ok(text) => match text.parse() {
            Ok(0) | Err(_) => Err(Errno::EINVAL),
            Ok(port) => Ok(port),
        },
        Err(std::env::VarError::NotUnicode(_)) => Err(Errno::EINVAL),
    }
}

/// Which way streams take to sockets: `FLEXCAST_PATH`.
///
/// # Errors
/// `EINVAL` where it is neither `kernel` nor `user`.
pub(crate) fn path() -> Result<Path, Errno> {
    if let Some((_, path)) = CONFIGURED.get() {
        return Ok(*path);
    }
    match std::env::var("FLEXCAST_PATH").as_deref() {
        Err(std::env::VarError::NotPresent) => Ok(Path::Auto),
        Ok("kernel") => Ok(Path::Kernel),
        Ok("user") => Ok(Path::User),
        _ => Err(Errno::EINVAL),
    }
}

/// The sending half of this process; started by the first call.
///
/// # Errors
/// `EADDRINUSE` where another user or program holds the port of requests.
pub(crate) fn sending() -> Result<Arc<Sending>, Errno> {
    let fp = port()?;
    let mut sending = SENDING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sending) = &*sending {
        return Ok(sending.clone());
    }
    let settings = SendSettings {
        fp,
        ..SendSettings::default()
    };
    let started = Sending::start(settings).map_err(errno)?;
    *sending = Some(started.clone());
    Ok(started)
}

/// The error's number; what it says beyond that is kept for [`detail`].
pub(crate) fn errno(error: SendError) -> Errno {
    let text = error.to_string();
    let errno = match error {
        SendError::Held { .. } => Errno::EADDRINUSE,
        SendError::System { errno, .. } => errno,
    };
    // A thread on its way out has nobody to tell.
    let _ = DETAIL.try_with(|detail| *detail.borrow_mut() = Some((errno, text)));
    errno
}

/// What this thread's last error with this number said.
pub(crate) fn detail(errno: Errno) -> Option<String> {
    DETAIL.with(|detail| {
        let detail = detail.borrow();
        let (known, text) = detail.as_ref()?;
        (*known == errno).then(|| text.clone())
    })
}

/// The sending half, where it is there, and nobody is about to change that.
fn running() -> Option<Arc<Sending>> {
    // It stays where it is: other threads may be on their way to it.
    SENDING.try_lock().ok().and_then(|sending| sending.clone())
}

/// What is still queued leaves.
pub(crate) fn flush() {
    if let Some(sending) = running() {
        sending.flush();
    }
}

/// At exit: streams end, receivers leave.
pub(crate) fn finish() {
    if let Some(sending) = running() {
        sending.finish();
    }
    receive::leave_all();
}

/// Before a fork: nobody is in the middle of anything while this is held.
pub(crate) fn hold() -> MutexGuard<'static, Option<Arc<Sending>>> {
    SENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In the child: what the parent had is the parent's.
pub(crate) fn forget(mut held: MutexGuard<'static, Option<Arc<Sending>>>) {
    std::mem::forget(held.take());
    drop(held);
    send::forget_after_fork();
    receive::forget_after_fork();
}
