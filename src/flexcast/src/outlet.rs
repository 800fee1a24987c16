//! What an accepted socket sends to: an audience, of a stream of this host's own or of
//! another host's.
//! Is not the socket (`endpoint`).

use std::net::SocketAddr;

use flexcast_runtime::kernel::Family;
use flexcast_runtime::send::{Delivery, Listening, Passing, Tie};
use flexcast_runtime::{Errno, RequesterSummary};
use flexcast_wire::Channel;

use crate::process;

/// See the head of this file.
#[derive(Debug)]
pub(crate) enum Outlet {
    /// The program's own stream.
    Own(Delivery),
    /// Another host's, which passes here.
    Passing(Box<Passing>),
}

impl Outlet {
    /// The next channel that waits at a socket; none where none does.
    pub(crate) fn accept(listening: &Listening, bell: SocketAddr) -> Result<Option<Outlet>, Errno> {
        if listening.is_for_passing() {
            let passing = listening.accept_passing(bell);
            return Ok(passing.map(Box::new).map(Outlet::Passing));
        }
        let delivery = listening.accept(bell).map_err(process::errno)?;
        Ok(delivery.map(Outlet::Own))
    }

    /// What a socket needs to ask in the audience's stead; none where nobody is to.
    pub(crate) fn tie(&self) -> Option<Tie> {
        match self {
            Outlet::Own(_) => None,
            Outlet::Passing(passing) => Some(passing.tie()),
        }
    }

    pub(crate) fn channel(&self) -> Channel {
        match self {
            Outlet::Own(delivery) => delivery.channel(),
            Outlet::Passing(passing) => passing.channel(),
        }
    }

    /// Whether nobody is there any more.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Outlet::Own(delivery) => delivery.is_over(),
            Outlet::Passing(passing) => passing.is_over(),
        }
    }

    pub(crate) fn first_requester(&self) -> Option<SocketAddr> {
        match self {
            Outlet::Own(delivery) => delivery.first_requester(),
            Outlet::Passing(passing) => passing.first_requester(),
        }
    }

    pub(crate) fn requesters(&self) -> Vec<RequesterSummary> {
        match self {
            Outlet::Own(delivery) => delivery.requesters(),
            Outlet::Passing(passing) => passing.requesters(),
        }
    }

    /// Sends now, or, of the program's own stream, soon.
    pub(crate) fn send_soon(&self, datagrams: &[&[&[u8]]], block: bool) -> Result<(), Errno> {
        match self {
            Outlet::Own(delivery) => delivery.send_soon(datagrams, block),
            Outlet::Passing(passing) if passing.is_inherited() => Err(Errno::EOPNOTSUPP),
            Outlet::Passing(passing) => passing.send(datagrams, block),
        }
    }

    /// Which socket of the program's it is: by it, a stream of the program's own goes on as
    /// long as any process holds it.
    pub(crate) fn is_behind(&self, cookie: u64, family: Family) {
        if let Outlet::Own(delivery) = self {
            delivery.is_behind(cookie, family);
        }
    }

    /// This process's last number of the socket was closed.
    pub(crate) fn closed(&self) {
        if let Outlet::Own(delivery) = self {
            delivery.closed();
        }
    }

    /// In a forked child: it is done with it.
    pub(crate) fn let_go(&self) {
        if let Outlet::Own(delivery) = self {
            delivery.let_go();
        }
    }

    /// In a forked child: as [`Outlet::end`].
    pub(crate) fn end_inherited(&self) -> Result<(), Errno> {
        match self {
            Outlet::Own(delivery) => delivery.end_inherited(),
            Outlet::Passing(_) => Err(Errno::EOPNOTSUPP),
        }
    }

    /// Ends the stream, or gives it up where it is another's.
    pub(crate) fn end(&self) {
        match self {
            Outlet::Own(delivery) => delivery.end(),
            Outlet::Passing(passing) => passing.end(),
        }
    }
}
