//! Capture: how requests to others come to this relay, and stop coming when it
//! is not well.
//!
//! An nf_tables table hands requests to a transparent socket, policy routing
//! makes them local; both are set up over netlink, without other programs
//! (`ruleset` draws the table, `policy_routing` the rules). It promises that a
//! relay is never worse than none: capture lives for two seconds after each
//! [`Capture::renew`], the kernel removes the table with the process (Linux
//! 5.12), and with no listener packets pass. It has no thread, owns no UDP
//! socket, and knows no message: what to match comes in as [`Settings`].

mod attribute;
mod error;
mod expression;
mod finding;
mod netlink;
mod owner;
mod policy_routing;
mod rule;
mod ruleset;
mod selector;
mod set;
mod settings;
mod table;
mod transaction;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

pub use error::{CaptureError, Part};
pub use finding::{look_around, Finding};
pub use owner::holder_of_udp_port;
use policy_routing::PolicyRouting;
pub use settings::Settings;
use table::Table;
use transaction::Transaction;

/// What the rules counted since the table was made, in packets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Requests handed to the relay's socket. Where fewer arrive, a firewall's
    /// INPUT policy (or a full receive queue) drops them.
    pub captured: u64,
    /// Requests that passed because no transparent socket listened.
    pub no_listener: u64,
    /// Requests that were let through: pairs and senders together.
    pub let_through: u64,
    /// ICMP errors about streams, turned to this host.
    pub icmp_errors: u64,
}

/// What a look at the kernel's tables found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureState {
    /// What is gone; while there is any, requests may vanish: suspend.
    pub missing: Vec<Part>,
    /// Whether requests are captured at this moment: neither suspended nor
    /// unrenewed for two seconds.
    pub alive: bool,
    /// What the rules counted.
    pub counters: Counters,
}

/// Policy routing rules of other programs that get in a relay's way.
///
/// # Errors
/// As [`Capture::install`], where the rules cannot be read.
pub fn rivals(settings: &Settings) -> Result<Vec<Finding>, CaptureError> {
    PolicyRouting::open(settings)?.rivals()
}

/// Requests captured for as long as this lives and is renewed.
pub struct Capture {
    settings: Settings,
    table: Table,
    routing: PolicyRouting,
    suspended: bool,
    installed: bool,
}

impl Capture {
    /// Sets everything up; requests are captured from its return on, for two
    /// seconds. The transparent socket should be bound before. Findings are for
    /// the log: it works, but not all of it.
    ///
    /// # Errors
    /// What is missing, refused or taken, with the remedy; then nothing is left
    /// behind.
    pub fn install(settings: Settings) -> Result<(Capture, Vec<Finding>), CaptureError> {
        settings.check()?;
        if !finding::loopback_is_up() {
            return Err(CaptureError::LoopbackDown);
        }
        let mut capture = Capture {
            table: Table::open()?,
            routing: PolicyRouting::open(&settings)?,
            settings,
            suspended: false,
            installed: false,
        };
        // A table of somebody else's must be known before routing is touched,
        // which the two would share.
        let replace = capture.table.look_for_another(&capture.settings)?;
        capture.installed = true;
        let ipv6_off = capture.routing.install()?;
        let mut findings = capture.table.create(&capture.settings, replace)?;
        findings.extend(look_around(capture.settings.mask, ipv6_off.is_none()));
        findings.extend(capture.routing.rivals()?);
        findings.extend(ipv6_off.map(|reason| Finding::Ipv6Off { reason }));
        Ok((capture, findings))
    }

    /// Lets capture live for another two seconds; to be called every 500 ms by
    /// the very loop whose health matters. Does nothing while suspended.
    ///
    /// # Errors
    /// [`CaptureError::Gone`] when another program took the table away.
    pub fn renew(&mut self) -> Result<(), CaptureError> {
        match self.suspended {
            true => Ok(()),
            false => self.table.change(set::renew, &self.settings),
        }
    }

    /// From its return on nothing is captured, until [`Capture::resume`]: for
    /// draining, or when something is missing.
    ///
    /// # Errors
    /// As [`Capture::renew`].
    pub fn suspend(&mut self) -> Result<(), CaptureError> {
        self.suspended = true;
        self.table.change(set::suspend, &self.settings)
    }

    /// Captures again.
    ///
    /// # Errors
    /// As [`Capture::renew`].
    pub fn resume(&mut self) -> Result<(), CaptureError> {
        self.suspended = false;
        self.renew()
    }

    /// Requests from this address and port to this sender pass for 60 s. One
    /// that is let through already keeps its time.
    ///
    /// # Errors
    /// [`CaptureError::LetThroughFull`], [`CaptureError::Families`] (v4-mapped
    /// addresses count as IPv4), else as [`Capture::renew`].
    pub fn let_through(
        &mut self,
        requester: SocketAddr,
        sender: IpAddr,
    ) -> Result<(), CaptureError> {
        let (address, port) = (requester.ip().to_canonical(), requester.port());
        let sender = sender.to_canonical();
        if address.is_ipv4() != sender.is_ipv4() {
            return Err(CaptureError::Families {
                requester: address,
                sender,
            });
        }
        let add = |to: &mut Transaction<'_>, table: &str| {
            set::let_pair_through(to, table, address, port, sender)
        };
        self.table.change(add, &self.settings)
    }

    /// All requests to this sender pass for 60 s.
    ///
    /// # Errors
    /// As [`Capture::let_through`].
    pub fn let_through_sender(&mut self, sender: IpAddr) -> Result<(), CaptureError> {
        let sender = sender.to_canonical();
        let add =
            |to: &mut Transaction<'_>, table: &str| set::let_sender_through(to, table, sender);
        self.table.change(add, &self.settings)
    }

    /// Looks whether all that was set up is still there; cheap enough for every
    /// second. Whoever finds a part missing should [`Capture::suspend`], say
    /// which, and may [`Capture::restore`].
    ///
    /// # Errors
    /// The kernel did not answer the question.
    pub fn check(&mut self) -> Result<CaptureState, CaptureError> {
        let (mut missing, counters) = self.table.inspect(&self.settings)?;
        let alive = missing.is_empty() && self.table.is_alive(&self.settings)?;
        missing.extend(self.routing.missing()?);
        Ok(CaptureState {
            missing,
            alive,
            counters,
        })
    }

    /// What the rules counted.
    ///
    /// # Errors
    /// [`CaptureError::Gone`] when the table is not there.
    pub fn counters(&mut self) -> Result<Counters, CaptureError> {
        match self.table.inspect(&self.settings)? {
            (missing, counters) if missing.is_empty() => Ok(counters),
            (missing, _) => Err(CaptureError::Gone { part: missing[0] }),
        }
    }

    /// Puts back what another program took away; counters begin anew when the
    /// table was among it. A suspended capture stays so.
    ///
    /// # Errors
    /// As [`Capture::install`].
    pub fn restore(&mut self) -> Result<(), CaptureError> {
        self.routing.install()?;
        let (missing, _) = self.table.inspect(&self.settings)?;
        if !missing.is_empty() {
            self.table.replace(&self.settings)?;
        }
        match self.suspended {
            true => self.suspend(),
            false => self.renew(),
        }
    }

    /// Takes everything away; dropping does the same, silently.
    ///
    /// # Errors
    /// What could not be taken away.
    pub fn remove(mut self) -> Result<(), CaptureError> {
        self.take_away()
    }

    /// The table first: without it no packet is marked any more.
    fn take_away(&mut self) -> Result<(), CaptureError> {
        if !std::mem::take(&mut self.installed) {
            return Ok(());
        }
        let table = self.table.remove(&self.settings);
        let routing = self.routing.remove();
        table.and(routing)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Err(error) = self.take_away() {
            log::warn!("capture: left behind: {error}");
        }
    }
}

/// The netlink socket that owns the table: a process that is given a copy keeps
/// the table alive.
impl AsRawFd for Capture {
    fn as_raw_fd(&self) -> RawFd {
        self.table.as_raw_fd()
    }
}
