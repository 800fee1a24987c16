//! One rule, and how it is written.
//!
//! Promises: a rule prints as text that reads back as the same rule. Is not
//! the reader (`parse`), nor the meaning for one address (`push`, `join`,
//! `unicast`).

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use flexcast_wire::{canonical, Channel, ChannelId};

use crate::duration::Written;
use crate::range::{Bracketed, Ports, Range};

/// What a part of the address space means.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    pub(crate) range: Range,
    pub(crate) ports: Option<Ports>,
    pub(crate) senders: Senders,
    pub(crate) id: Option<ChannelId>,
    pub(crate) via: Vec<IpAddr>,
    pub(crate) empty: EmptyPolicy,
    pub(crate) role: Option<Role>,
    pub(crate) keeps_port: bool,
    pub(crate) strict: bool,
}

/// Who sends to the addresses of a rule.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Senders {
    /// Nobody is named: a unicast address sends itself, a group's sender is
    /// whoever pushes or whom a join names.
    Unnamed,
    /// This host, at any of its addresses.
    Own,
    /// These hosts, each a channel of its own; never empty.
    Hosts(Vec<IpAddr>),
}

/// What becomes of a datagram when nobody listens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum EmptyPolicy {
    /// Dropped and counted, as multicast would.
    #[default]
    Drop,
    /// The call fails.
    Error,
    /// The first send (or connect) waits, once per channel, then as `Drop`.
    Wait {
        /// Receivers to wait for; at least 1.
        receivers: u32,
        /// At most this long.
        limit: Duration,
    },
}

impl EmptyPolicy {
    /// `empty=wait` with nothing after it: one receiver, 10 s.
    pub const WAIT: EmptyPolicy = EmptyPolicy::Wait {
        receivers: 1,
        limit: Duration::from_secs(10),
    };
}

/// The one role that a rule is limited to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Sends to a mapped address that is this host's channel.
    Push,
    /// Joins a mapped group.
    Join,
    /// Connects to another host's mapped address.
    Call,
    /// Listens and accepts at a mapped local address.
    Listen,
    /// Answers hellos at a mapped local address.
    Hello,
    /// Waits at a port for another host's stream.
    Wait,
    /// None: what the rule covers is left to the kernel.
    Off,
}

impl Role {
    /// Every role, in the order of the grammar.
    pub const ALL: [Role; 7] = [
        Role::Push,
        Role::Join,
        Role::Call,
        Role::Listen,
        Role::Hello,
        Role::Wait,
        Role::Off,
    ];

    /// The role's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Push => "push",
            Role::Join => "join",
            Role::Call => "call",
            Role::Listen => "listen",
            Role::Hello => "hello",
            Role::Wait => "wait",
            Role::Off => "off",
        }
    }

    /// Whether some address of `range` can have this role: groups are pushed to
    /// and joined, hosts are anything but joined.
    #[must_use]
    pub fn fits(self, range: &Range) -> bool {
        match self {
            Role::Push | Role::Off => true,
            Role::Join => range.has_groups(),
            Role::Call | Role::Listen | Role::Hello | Role::Wait => range.has_hosts(),
        }
    }
}

impl Rule {
    /// The addresses.
    #[must_use]
    pub fn range(&self) -> Range {
        self.range
    }

    /// The ports; all where none are written.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports.unwrap_or(Ports::ALL)
    }

    /// Whether the rule writes its ports out.
    #[must_use]
    pub fn writes_ports(&self) -> bool {
        self.ports.is_some()
    }

    /// Who sends.
    #[must_use]
    pub fn senders(&self) -> &Senders {
        &self.senders
    }

    /// The id that the rule fixes, if it does.
    #[must_use]
    pub fn fixed_id(&self) -> Option<ChannelId> {
        self.id
    }

    /// Nodes to ask instead of the sender, in order; empty: the sender.
    #[must_use]
    pub fn via(&self) -> &[IpAddr] {
        &self.via
    }

    /// What becomes of a datagram when nobody listens.
    #[must_use]
    pub fn empty(&self) -> EmptyPolicy {
        self.empty
    }

    /// The one role that the rule is limited to, if it is.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// `port=keep`: a receiving socket keeps its port although it would share it.
    #[must_use]
    pub fn keeps_port(&self) -> bool {
        self.keeps_port
    }

    /// `strict`: nothing is delivered before the stream's token is known, nor
    /// anything that is not of the stream.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Whether the rule lets an application take `role`.
    #[must_use]
    pub fn allows(&self, role: Role) -> bool {
        self.role.is_none_or(|only| only == role)
    }

    /// Whether the rule takes `address` at `port`.
    #[must_use]
    pub fn covers(&self, address: IpAddr, port: u16) -> bool {
        self.ports().contains(port) && self.range.covers(address)
    }

    /// The id of the channel at `address` and `port`, alike on all hosts; none
    /// for port 0.
    #[must_use]
    pub fn id_at(&self, address: IpAddr, port: u16) -> Option<ChannelId> {
        if port == 0 {
            return None;
        }
        self.id.or_else(|| {
            if canonical(address).is_multicast() {
                ChannelId::from_group(address, port)
            } else {
                ChannelId::from_unicast_port(port)
            }
        })
    }

    /// The channels at `address` and `port` of the hosts that SENDERS names.
    pub(crate) fn named_channels(&self, id: ChannelId) -> Vec<Channel> {
        match &self.senders {
            Senders::Hosts(hosts) => hosts.iter().map(|&s| Channel::new(s, id)).collect(),
            Senders::Unnamed | Senders::Own => Vec::new(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.range.fmt(f)?;
        if let Some(ports) = self.ports {
            write!(f, ":{ports}")?;
        }
        match &self.senders {
            Senders::Unnamed => {}
            Senders::Own => f.write_str("=self")?,
            Senders::Hosts(hosts) => write!(f, "={}", Hosts(hosts))?,
        }
        if let Some(id) = self.id {
            write!(f, "#{id}")?;
        }
        if !self.via.is_empty() {
            write!(f, ",via={}", Hosts(&self.via))?;
        }
        if self.empty != EmptyPolicy::Drop {
            write!(f, ",empty={}", self.empty)?;
        }
        if let Some(role) = self.role {
            write!(f, ",role={}", role.name())?;
        }
        if self.keeps_port {
            f.write_str(",port=keep")?;
        }
        if self.strict {
            f.write_str(",strict")?;
        }
        Ok(())
    }
}

impl fmt::Display for EmptyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            EmptyPolicy::Drop => f.write_str("drop"),
            EmptyPolicy::Error => f.write_str("error"),
            EmptyPolicy::WAIT => f.write_str("wait"),
            EmptyPolicy::Wait { receivers, limit } => {
                write!(f, "wait:{receivers}:{}", Written(limit))
            }
        }
    }
}

struct Hosts<'a>(&'a [IpAddr]);

impl fmt::Display for Hosts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, host) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("+")?;
            }
            Bracketed(*host).fmt(f)?;
        }
        Ok(())
    }
}
