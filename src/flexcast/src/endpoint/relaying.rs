//! The two halves of a relay: a socket that listens for other hosts' channels, and one
//! that is connected in the stead of an accepted one's audience.
//!
//! ```text
//!   transparent, bind, listen ──accept──► accepted ◄──downstream── a fresh one, connect
//!        recv on the connected one ──whole datagrams──► send on the accepted one
//! ```
//! Promises: neither half keeps the other alive. Is not what happens between them
//! (`runtime`).

use std::net::IpAddr;

use flexcast_runtime::kernel::local_addresses;
use flexcast_runtime::send::Sending;
use flexcast_runtime::Errno;

use super::{Endpoint, Plans, Role};
use crate::process;

impl Endpoint {
    /// It is to listen for other hosts' channels.
    pub(crate) fn set_transparent(&self, on: bool) -> Result<(), Errno> {
        let mut plans = self.open_plans()?;
        if plans.binding.is_some() {
            return Err(Errno::EINVAL);
        }
        plans.transparent = on;
        Ok(())
    }

    pub(crate) fn is_transparent(&self) -> bool {
        self.plans().transparent
    }

    /// It is to ask in the stead of an accepted socket's audience.
    pub(crate) fn set_downstream(&self, accepted: &Endpoint) -> Result<(), Errno> {
        let Some(Role::Delivering(outlet)) = accepted.role() else {
            return Err(Errno::ENOTCONN);
        };
        accepted.check_owned()?;
        let tie = outlet.tie().ok_or(Errno::EINVAL)?;
        let mut plans = self.open_plans()?;
        if plans.binding.is_some() {
            return Err(Errno::EOPNOTSUPP);
        }
        plans.downstream = Some(tie);
        Ok(())
    }
}

/// Whether an address may be bound: of this host, or (transparent) of another.
pub(super) fn check_sender(sender: IpAddr, transparent: bool) -> Result<(), Errno> {
    let addresses = local_addresses()?;
    let local = sender.is_loopback() || addresses.contains(&sender);
    if local == transparent {
        return Err(Errno::EADDRNOTAVAIL);
    }
    match sender.is_multicast() {
        true => Err(Errno::EINVAL),
        false => Ok(()),
    }
}

/// Before it listens.
pub(super) fn prepare(sending: &Sending, plans: &Plans) -> Result<(), Errno> {
    match (plans.transparent, &plans.guard) {
        (false, _) => Ok(()),
        (true, Some(_)) => Err(Errno::EOPNOTSUPP),
        (true, None) => sending.set_transparent().map_err(process::errno),
    }
}
