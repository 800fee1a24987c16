//! Why the program ends without success, and with which exit code.
//!
//! Promises: 1 what was asked for failed; 2 it was asked for wrongly; 126 and
//! 127, as a shell: the program to run cannot be run, or is not there; 128 and a
//! signal's number: interrupted before the work was done.

use std::path::PathBuf;
use std::process::ExitCode;

use flexcast_relay::capture::CaptureError;
use flexcast_relay::{ServiceError, StatusError};
use flexcast_rules::{ChannelText, ChannelTextError, RuleError, SettingsError};
use flexcast_runtime::send::SendError;
use flexcast_udp::Errno;
use flexcast_wire::Channel;

use crate::executable::ExecutableError;

/// The end of a command that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A rule on the command line.
    #[error("--map {text:?}: {error}")]
    Rule { text: String, error: RuleError },
    /// A rule in the environment.
    #[error("FLEXCAST_MAP: {0}")]
    MapVariable(RuleError),
    /// Variables and the configuration file.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// Nothing to do for `run`.
    #[error(
        "no rule given: say what is carried, such as --map 239.1.0.0/16=10.0.0.5 \
         (group range = sender), in FLEXCAST_MAP or in a file (--config)"
    )]
    NoRule,
    /// A file that cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        path: PathBuf,
        error: std::io::Error,
    },
    /// libflexcast_preload.so is nowhere.
    #[error("{0}")]
    Preload(#[from] crate::preload::PreloadError),
    /// The program cannot be run under Flexcast.
    #[error("{0}")]
    Executable(#[from] ExecutableError),
    /// The relay cannot start or go on.
    #[error("{0}")]
    Relay(#[from] ServiceError),
    /// No relay to be asked.
    #[error("{0}")]
    Status(#[from] StatusError),
    /// What CHANNEL names cannot be used so.
    #[error("{0}")]
    Channel(#[from] ChannelTextError),
    /// No receiver can be made.
    #[error("{channel}: cannot receive: {errno}")]
    Receive { channel: Channel, errno: Errno },
    /// The sender, or a relay, says no.
    #[error("{channel}: refused: {reason}")]
    Refused {
        channel: ChannelText,
        reason: &'static str,
    },
    /// `--timeout` is over.
    #[error("{channel}: no datagram for {seconds} s ({state})")]
    NothingCame {
        channel: ChannelText,
        seconds: f64,
        state: String,
    },
    /// No sender can be made.
    #[error("cannot send: {0}")]
    Send(#[from] SendError),
    /// A datagram that no link carries.
    #[error("a datagram of {0} bytes is too large: --size takes 65491 at most, over IPv6 65511")]
    TooLarge(usize),
    /// The other side of a gateway.
    #[error("{address}: {why}")]
    Gateway { address: String, why: String },
    /// `--wait-for` cannot wait.
    #[error("cannot wait for receivers: {0}")]
    Hold(String),
    /// What was received cannot be written.
    #[error("cannot write {path}: {error}", path = path.display())]
    Output {
        path: PathBuf,
        error: std::io::Error,
    },
    /// A signal came before the work was done.
    #[error("interrupted by signal {0}; the stream was ended")]
    Interrupted(i32),
    /// A call that fails only where the kernel lacks memory or descriptors.
    #[error("{0}")]
    Kernel(Errno),
    /// The kernel refused to run it.
    #[error("cannot run {path}: {error}", path = path.display())]
    Exec {
        path: PathBuf,
        error: std::io::Error,
    },
    /// The doctor found what does not work.
    #[error("faults found: {0}; their remedies stand beside them")]
    Faults(usize),
    /// What was to be printed went nowhere.
    #[error("cannot write the answer: {0}")]
    Write(#[from] std::io::Error),
}

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Rule { .. }
            | Failure::MapVariable(_)
            | Failure::Settings(_)
            | Failure::NoRule
            | Failure::Channel(_)
            | Failure::Relay(ServiceError::Capture(CaptureError::Setting { .. })) => 2,
            Failure::Relay(_) | Failure::Status(_) | Failure::Faults(_) => 1,
            Failure::Receive { .. }
            | Failure::Refused { .. }
            | Failure::NothingCame { .. }
            | Failure::Send(_)
            | Failure::TooLarge(_)
            | Failure::Gateway { .. }
            | Failure::Hold(_)
            | Failure::Output { .. }
            | Failure::Kernel(_) => 1,
            Failure::Interrupted(signal) => u8::try_from(*signal).map_or(255, |n| n | 128),
            Failure::Read { .. } | Failure::Preload(_) | Failure::Write(_) => 1,
            Failure::Executable(ExecutableError::NotFound { .. }) => 127,
            Failure::Exec { error, .. } if error.kind() == std::io::ErrorKind::NotFound => 127,
            Failure::Executable(_) | Failure::Exec { .. } => 126,
        })
    }
}
