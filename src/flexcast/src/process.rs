//! What a process has once: its sending half, and the port of requests.
//! Is not started before a socket listens.

use std::sync::{Arc, Mutex, PoisonError};

use flexcast_runtime::receive::Path;
use flexcast_runtime::send::{SendError, SendSettings, Sending};
use flexcast_runtime::Errno;
use flexcast_wire::FLEXCAST_PORT;

static SENDING: Mutex<Option<Arc<Sending>>> = Mutex::new(None);

/// The port of requests.
///
/// # Errors
/// `EINVAL` where `FLEXCAST_PORT` is no port.
pub(crate) fn port() -> Result<u16, Errno> {
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

pub(crate) fn errno(error: SendError) -> Errno {
    match error {
        SendError::Held { .. } => Errno::EADDRINUSE,
        SendError::System { errno, .. } => errno,
    }
}
