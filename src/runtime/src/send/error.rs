//! Why this process cannot send: mostly somebody else holds FP.
//! Is not an error of one datagram (those are counted, or an [`Errno`]).

use std::fmt;

use flexcast_udp::Errno;

/// Whoever holds a port, as far as the kernel tells us.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Holder {
    /// Its process id, where it can be known.
    pub pid: Option<i32>,
    /// Its user id, where it can be known.
    pub uid: Option<u32>,
    /// The name of its program, where it can be known.
    pub command: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => write!(f, "another process")?,
        }
        if let Some(command) = &self.command {
            write!(f, " ({command})")?;
        }
        match self.uid {
            Some(uid) => write!(f, " of user {uid}"),
            None => Ok(()),
        }
    }
}

/// Why this process cannot send.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The port that requests go to belongs to somebody who shares it with nobody of
    /// ours: another user, a relay, another program.
    #[error(
        "UDP port {port}, on which requests arrive, is held by {holder}: end it, run both as \
         the same user, or give the whole network another port (FLEXCAST_PORT)"
    )]
    Held {
        /// FP.
        port: u16,
        /// Who has it.
        holder: Holder,
    },
    /// The kernel refused something that sending needs.
    #[error("{what}: {errno}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl SendError {
    /// For `map_err`.
    pub(super) fn system(what: &'static str) -> impl FnOnce(Errno) -> SendError {
        move |errno| SendError::System { what, errno }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_who_holds_the_port_and_what_to_do() {
        let holder = Holder {
            pid: Some(4321),
            uid: Some(1000),
            command: Some("vlc".to_owned()),
        };
        let text = SendError::Held { port: 7450, holder }.to_string();
        assert!(text.contains("UDP port 7450"), "{text}");
        assert!(
            text.contains("process 4321 (vlc) of user 1000: end it"),
            "{text}"
        );
        let holder = Holder::default();
        let text = SendError::Held { port: 1, holder }.to_string();
        assert!(text.contains("held by another process: end it"), "{text}");
    }
}
