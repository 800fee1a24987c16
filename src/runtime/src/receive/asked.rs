//! One channel that a receiving socket asks for.
//!
//! Promises: what of its stream is to be delivered, and as whose. Is not the asking
//! (`engine`'s requester).

use std::net::SocketAddr;

use flexcast_wire::StreamToken;

use super::call::Call;
use super::forwarding::Origin;
use super::tied::Asker;
use super::Asking;

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) asker: Asker,
    pub(super) asking: Asking,
    /// The token that a predecessor knew, good until somebody has answered us.
    pub(super) inherited: Option<StreamToken>,
    /// On the path through user space.
    pub(super) origin: Option<Origin>,
    /// Where the program calls the sender.
    pub(super) call: Option<Call>,
}

impl Asked {
    pub(super) fn is_wanted(&self) -> bool {
        !self.asker.is_leaving()
    }

    /// The sender as the program sees it.
    pub(super) fn shown(&self) -> SocketAddr {
        if let Some(call) = &self.call {
            return call.peer;
        }
        let port = match self.asker.app_port() {
            0 => self.asking.at.port(),
            port => port,
        };
        SocketAddr::new(self.asker.channel().sender, port)
    }

    /// Whether its stream is to be delivered where only `only` is. S:FP is what a
    /// program is shown whose sender's own port is not known yet: who has connected to
    /// it means this S, also when the port is known.
    pub(super) fn is_from(&self, only: SocketAddr) -> bool {
        if let Some(call) = &self.call {
            return only.ip() == call.peer.ip() && [0, call.peer.port()].contains(&only.port());
        }
        let port_fits = only.port() == 0
            || only.port() == self.asking.at.port()
            || self.asker.app_port() == 0
            || self.asker.app_port() == only.port();
        only.ip() == self.asker.channel().sender && port_fits
    }

    /// The stream token that data must carry: `Err` where no data is to be taken yet,
    /// none where any will do.
    pub(super) fn token(&self) -> Result<Option<StreamToken>, ()> {
        // Nothing of the next stream before the end of the last one was told.
        if let Some(token) = self.call.as_ref().and_then(Call::ending) {
            return Ok(Some(token));
        }
        let unanswered = self.asker.verdict().is_none();
        let inherited = self.inherited.filter(|_| unanswered);
        match self.asker.token().or(inherited) {
            None if self.asking.strict => Err(()),
            token => Ok(token),
        }
    }
}
