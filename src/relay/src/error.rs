//! Why a relay could not start or go on, each with its remedy, and who is in the
//! way. Is not the findings of a relay that works (`capture::Finding`).

use flexcast_udp::Errno;

use crate::capture::{holder_of_udp_port, CaptureError};

/// Why a relay could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The port of requests is taken.
    #[error(
        "UDP port {port} is in use by {holder}: stop it (a sender under Flexcast on this host \
         needs no relay here), or choose another port for the whole network with --port"
    )]
    PortInUse {
        /// The port.
        port: u16,
        /// Process id and name where they can be known.
        holder: String,
    },
    /// Another relay runs here.
    #[error(
        "a relay{process} runs on port {port} in this network namespace already: \
         `flexcast status` shows it; stop it first"
    )]
    AnotherRelay {
        /// The port.
        port: u16,
        /// Its process id in words, or nothing.
        process: String,
    },
    /// A capability is missing.
    #[error(
        "{0} is missing: run as root, or give the program its capabilities with \
         `setcap cap_net_admin,cap_net_raw+ep FILE` (systemd: \
         AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW)"
    )]
    Capability(&'static str),
    /// Capture could not be set up.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A system call failed.
    #[error("{what}: {errno}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The error.
        errno: Errno,
    },
}

impl ServiceError {
    /// For `map_err`: what was being done.
    pub(crate) fn of(what: &'static str) -> impl FnOnce(Errno) -> ServiceError {
        move |errno| ServiceError::System { what, errno }
    }

    /// Binding the port of requests failed.
    pub(crate) fn binding(port: u16, errno: Errno) -> ServiceError {
        match errno {
            Errno::EADDRINUSE => ServiceError::PortInUse {
                port,
                holder: holder_of_udp_port(port)
                    .unwrap_or_else(|| "another program of this host".to_owned()),
            },
            Errno::EPERM | Errno::EACCES => ServiceError::Capability("CAP_NET_RAW"),
            errno => ServiceError::of("the listening socket")(errno),
        }
    }
}
