//! Two groups that become one channel: legal, and seldom meant.
//!
//! Promises: finds every pair of rules that can give two different addresses
//! of one sender the same id, of which one at least is a group. Is not a
//! refusal: `flexcast run` warns.

use std::fmt;
use std::net::SocketAddr;

use flexcast_wire::ChannelId;

use crate::map::Map;
use crate::rule::{Role, Rule, Senders};

/// Two groups (or a group and a host) with one channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collision {
    /// The rule that fixes the id, as its place in the map from 0.
    pub fixed: usize,
    /// The rule that gives the same id; the same as `fixed` where one rule
    /// fixes the id of several groups.
    pub other: usize,
    /// The id.
    pub id: ChannelId,
    text: (String, String),
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fixed, other) = &self.text;
        if self.fixed == self.other {
            write!(
                f,
                "rule {} ({fixed}) makes all its groups and ports the one channel #{}: \
                 receivers of any get the datagrams of all",
                self.fixed + 1,
                self.id
            )
        } else {
            write!(
                f,
                "rules {} ({fixed}) and {} ({other}) share the channel #{}: \
                 receivers of one get the datagrams of both",
                self.fixed + 1,
                self.other + 1,
                self.id
            )
        }
    }
}

/// The collisions that a map contains. Hash collisions of IPv6 groups (63 bits)
/// are not looked for.
#[must_use]
pub fn collisions(map: &Map) -> Vec<Collision> {
    let rules: Vec<(usize, &Rule)> = map
        .rules()
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.role() != Some(Role::Off))
        .collect();
    let mut found = Vec::new();
    for &(n, rule) in &rules {
        let Some(id) = rule.fixed_id() else { continue };
        let collision = |other: usize| Collision {
            fixed: n,
            other,
            id,
            text: (rule.to_string(), map.rules()[other].to_string()),
        };
        if rule.range().has_groups() && !is_one_address(rule) {
            found.push(collision(n));
        }
        for &(m, other) in &rules {
            let groups = rule.range().has_groups() || other.range().has_groups();
            let twice = other.fixed_id() == Some(id);
            let collides = if twice { n < m } else { gives(other, id) };
            if n != m && groups && collides && share_sender(rule, other) && !same(rule, other) {
                found.push(collision(m));
            }
        }
    }
    found
}

fn is_one_address(rule: &Rule) -> bool {
    rule.range().is_address() && rule.ports().first() == rule.ports().last()
}

fn same(a: &Rule, b: &Rule) -> bool {
    is_one_address(a) && is_one_address(b) && a.range() == b.range() && a.ports() == b.ports()
}

/// Whether `rule`, which fixes no id or another one, derives `id` from some
/// address and port that it covers.
fn gives(rule: &Rule, id: ChannelId) -> bool {
    if rule.fixed_id().is_some() {
        return false;
    }
    let (range, ports) = (rule.range(), rule.ports());
    let number = id.get();
    if let Ok(port) = u16::try_from(number) {
        return range.has_hosts() && ports.contains(port);
    }
    if number >> 63 == 1 {
        let group = range.network();
        return range.is_address()
            && range.has_groups()
            && (ports.first()..=ports.last())
                .any(|port| ChannelId::from_group(group, port) == Some(id));
    }
    let port = u16::try_from(number & 0xffff).unwrap_or(0);
    u32::try_from(number >> 16).is_ok_and(|group| {
        let address = SocketAddr::from((group.to_be_bytes(), port)).ip();
        address.is_multicast() && rule.covers(address, port)
    })
}

/// Whether one host can be the sender of both.
fn share_sender(a: &Rule, b: &Rule) -> bool {
    match (a.senders(), b.senders()) {
        (Senders::Hosts(a), Senders::Hosts(b)) => a.iter().any(|host| b.contains(host)),
        (Senders::Unnamed, other) | (other, Senders::Unnamed) => unnamed_can_be(a, b, other),
        (Senders::Own, Senders::Own) => true,
        (Senders::Own, Senders::Hosts(_)) | (Senders::Hosts(_), Senders::Own) => false,
    }
}

/// A group without SENDERS can be anybody's; a host without SENDERS is its own.
fn unnamed_can_be(a: &Rule, b: &Rule, other: &Senders) -> bool {
    let hosts_alone =
        |rule: &Rule| *rule.senders() == Senders::Unnamed && !rule.range().has_groups();
    let host = [a, b].into_iter().find(|rule| hosts_alone(rule));
    match (host, other) {
        (Some(host), Senders::Hosts(senders)) => {
            senders.iter().any(|&sender| host.range().covers(sender))
        }
        _ => true,
    }
}
