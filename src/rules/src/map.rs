//! All rules together: first match wins.
//!
//! Promises: look-ups allocate nothing. Is not what a match means for a call
//! (`push`, `join`, `unicast`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use flexcast_wire::{canonical, ChannelId};

use crate::fault::RuleError;
use crate::parse::{self, Resolve};
use crate::rule::{Role, Rule};

/// The rules in their order; one and the same map is meant for all hosts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Map {
    rules: Vec<Rule>,
}

/// The rule that takes an address, with what follows for that address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Match<'a> {
    /// The first rule that covers the address and port.
    pub rule: &'a Rule,
    /// Its place in the map, from 0.
    pub index: usize,
    /// The channel's id, alike on all hosts.
    pub id: ChannelId,
}

impl Map {
    /// Reads rules separated by white space. Host names are refused with the
    /// advice to use `flexcast run`, which resolves them
    /// ([`Map::parse_resolving`]).
    ///
    /// # Errors
    /// The first fault, with its position in `text`.
    pub fn parse(text: &str) -> Result<Map, RuleError> {
        Self::parse_resolving(text, &mut parse::no_names)
    }

    /// As [`Map::parse`]; host names are turned into addresses by `resolve`.
    ///
    /// # Errors
    /// The first fault, with its position in `text`.
    pub fn parse_resolving(text: &str, resolve: &mut Resolve<'_>) -> Result<Map, RuleError> {
        parse::rules(text, resolve).map(|rules| Map { rules })
    }

    /// The rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules of `later` after those that are here.
    pub fn append(&mut self, later: Map) {
        self.rules.extend(later.rules);
    }

    /// The rule that takes `address`: the first that covers it. Port 0 is taken
    /// by none.
    #[must_use]
    pub fn look_up(&self, address: SocketAddr) -> Option<&Rule> {
        self.match_of(address).map(|found| found.rule)
    }

    /// As [`Map::look_up`], with the rule's place and the channel's id.
    #[must_use]
    pub fn match_of(&self, address: SocketAddr) -> Option<Match<'_>> {
        let ip = canonical(address.ip());
        let port = address.port();
        let mut rules = self.rules.iter().enumerate();
        let (index, rule) = rules.find(|(_, rule)| rule.covers(ip, port))?;
        let id = rule.id_at(ip, port)?;
        Some(Match { rule, index, id })
    }

    /// Whether some rule names `group` on any port: a join or datagram to it on
    /// a port that none names goes to the kernel, and the kernel's lack of
    /// multicast is hidden (RTCP beside RTP).
    #[must_use]
    pub fn names_group(&self, group: IpAddr) -> bool {
        let group = canonical(group);
        group.is_multicast()
            && self
                .rules
                .iter()
                .any(|rule| rule.role != Some(Role::Off) && rule.range.covers(group))
    }
}

impl FromStr for Map {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Map, RuleError> {
        Map::parse(text)
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, rule) in self.rules.iter().enumerate() {
            if n > 0 {
                f.write_str(" ")?;
            }
            rule.fmt(f)?;
        }
        Ok(())
    }
}
