//! What joining a group means.
//!
//! Promises: the answer depends on the map, the group, the port and the source
//! alone, so that a leave finds what its join found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use flexcast_wire::Channel;

use crate::map::Map;
use crate::range::Family;
use crate::rule::{Role, Rule, Senders};

/// What becomes of a join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Join<'a> {
    /// No rule takes the group on this port, or its rule leaves it alone.
    NotMapped,
    /// Mapped, but nobody says who sends: the kernel's.
    LeaveToKernel,
    /// Requested, each; never empty.
    Channels(Vec<Channel>, &'a Rule),
}

impl Map {
    /// What joining `group` with a socket bound to `port` means. A `source` that
    /// the join names wins over the rule's SENDERS; without one, each of them is
    /// asked. `self` is asked at this host's loopback address, where `is_local`
    /// counts that as local.
    #[must_use]
    pub fn join(
        &self,
        group: IpAddr,
        port: u16,
        source: Option<IpAddr>,
        is_local: &dyn Fn(IpAddr) -> bool,
    ) -> Join<'_> {
        let found = self.match_of(SocketAddr::new(group, port));
        let Some(found) = found.filter(|_| group.to_canonical().is_multicast()) else {
            return Join::NotMapped;
        };
        let (rule, id) = (found.rule, found.id);
        if !rule.allows(Role::Join) {
            return Join::NotMapped;
        }
        if let Some(source) = source.filter(|s| !s.is_unspecified()) {
            return Join::Channels(vec![Channel::new(source, id)], rule);
        }
        match &rule.senders {
            Senders::Hosts(_) => Join::Channels(rule.named_channels(id), rule),
            Senders::Own => match loopback(group) {
                own if is_local(own) => Join::Channels(vec![Channel::new(own, id)], rule),
                _ => Join::LeaveToKernel,
            },
            Senders::Unnamed => Join::LeaveToKernel,
        }
    }
}

fn loopback(group: IpAddr) -> IpAddr {
    match Family::of(group) {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}
