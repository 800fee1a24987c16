//! The policy routing that turns captured packets to this host.
//!
//! ```text
//! ip rule  fwmark MARK/MASK ipproto udp dport FP lookup TABLE      and ip -6
//! ip rule  fwmark MARK/MASK ipproto icmp | ipv6-icmp lookup TABLE
//! ip route local default dev lo table TABLE                        and ip -6
//! ```
//! The rules are selective because with `src_valid_mark` the reverse look-up of
//! a source uses them too. They outlive a killed relay: the next one finds and
//! keeps them, so nothing is ever there twice. Without IPv6 the IPv4 half works.

use std::io;

use flexcast_udp::Errno;
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use netlink_packet_route::rule::RuleMessage;

use super::error::{CaptureError, Part};
use super::finding::Finding;
use super::netlink::{Netlink, Replies, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use super::selector::{priority_of, table_of, Family, Selector, LOOPBACK};
use super::Settings;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;

/// The kernel's own; rules that look there are no rivals, wherever they stand.
const TABLE_LOCAL: u32 = 255;
/// Before what routers and VPNs commonly use; still lower when they do not.
const PRIORITY: u32 = 74;

/// The rules and routes of one relay.
pub(super) struct PolicyRouting {
    netlink: Netlink,
    selector: Selector,
    ipv6: bool,
}

impl PolicyRouting {
    /// # Errors
    /// A kernel without routing netlink; out of descriptors.
    pub(super) fn open(settings: &Settings) -> Result<Self, CaptureError> {
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE)
            .and_then(|netlink| netlink.filter_dumps().map(|()| netlink))
            .map_err(|error| CaptureError::socket(Part::Ipv4Rules, error))?;
        let Settings {
            mark,
            mask,
            fp,
            route_table: table,
            ..
        } = *settings;
        let selector = Selector {
            mark,
            mask,
            fp,
            table,
        };
        Ok(Self {
            netlink,
            selector,
            ipv6: false,
        })
    }

    /// Puts in place what is missing. `Some`: why only for IPv4.
    pub(super) fn install(&mut self) -> Result<Option<String>, CaptureError> {
        self.install_rules(Family::V4)?;
        self.install_route(Family::V4)?;
        // Until it is known otherwise, so that a failure removes its half.
        self.ipv6 = true;
        let six = self
            .install_rules(Family::V6)
            .and_then(|()| self.install_route(Family::V6));
        match six {
            Ok(()) => Ok(None),
            Err(error) if ipv6_is_off() => {
                // Without IPv6 in the kernel there is nothing to remove, nor anybody to ask.
                let _ = self.remove_family(Family::V6);
                self.ipv6 = false;
                Ok(Some(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// What is not there any more.
    pub(super) fn missing(&mut self) -> Result<Vec<Part>, CaptureError> {
        let mut missing = Vec::new();
        for family in self.families() {
            let rules = self.list_rules(family)?;
            let there = |protocol| rules.iter().any(|rule| self.selector.takes(rule, protocol));
            if !family.protocols().into_iter().all(there) {
                missing.push(family.rules());
            }
            if !self.route_is_there(family)? {
                missing.push(family.route());
            }
        }
        Ok(missing)
    }

    /// Rules of others that look at bits of our mark.
    pub(super) fn rivals(&mut self) -> Result<Vec<Finding>, CaptureError> {
        let mut rivals = Vec::new();
        for family in [Family::V4, Family::V6] {
            let rules = match self.list_rules(family) {
                // Without IPv6 there are none.
                Err(_) if family == Family::V6 && ipv6_is_off() => break,
                rules => rules?,
            };
            let selector = self.selector;
            let ours = |rule: &&RuleMessage| {
                let protocols = family.protocols();
                protocols
                    .iter()
                    .any(|&protocol| selector.takes(rule, protocol))
            };
            let theirs = rules.iter().filter(|rule| !ours(rule));
            let shared = theirs.filter_map(|rule| selector.shares(rule));
            rivals.extend(shared.map(|rule| Finding::SharedMark { rule }));
        }
        Ok(rivals)
    }

    /// Takes rules and routes away, as far as they are there.
    pub(super) fn remove(&mut self) -> Result<(), CaptureError> {
        for family in self.families() {
            self.remove_family(family)?;
        }
        Ok(())
    }

    fn families(&self) -> Vec<Family> {
        match self.ipv6 {
            true => vec![Family::V4, Family::V6],
            false => vec![Family::V4],
        }
    }

    fn install_rules(&mut self, family: Family) -> Result<(), CaptureError> {
        let rules = self.list_rules(family)?;
        let selector = self.selector;
        let is_ours =
            |rule: &&RuleMessage| family.protocols().iter().any(|&p| selector.takes(rule, p));
        let foreign = rules
            .iter()
            .filter(|rule| !is_ours(rule) && table_of(rule) != TABLE_LOCAL);
        let first_foreign = foreign
            .map(priority_of)
            .filter(|&p| p > 0)
            .min()
            .unwrap_or(PRIORITY + 1);
        let priority = PRIORITY.min(first_foreign.saturating_sub(1)).max(1);
        for protocol in family.protocols() {
            let mut kept = false;
            for rule in rules.iter().filter(|rule| selector.takes(rule, protocol)) {
                if kept || priority_of(rule) > priority {
                    self.change(RTM_DELRULE, 0, rule, family.rules(), &[Errno::ENOENT])?;
                } else {
                    kept = true;
                }
            }
            if !kept {
                let rule = selector.rule(family, protocol, priority);
                let flags = NLM_F_CREATE | NLM_F_EXCL;
                self.change(RTM_NEWRULE, flags, &rule, family.rules(), &[Errno::EEXIST])?;
            }
        }
        Ok(())
    }

    fn install_route(&mut self, family: Family) -> Result<(), CaptureError> {
        let route = self.selector.route(family);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(
            RTM_NEWROUTE,
            flags,
            &route,
            family.route(),
            &[Errno::EEXIST],
        )?;
        match self.route_is_there(family)? {
            true => Ok(()),
            false => Err(CaptureError::RouteTableTaken {
                table: self.selector.table,
            }),
        }
    }

    fn remove_family(&mut self, family: Family) -> Result<(), CaptureError> {
        let selector = self.selector;
        for rule in self.list_rules(family)? {
            if family
                .protocols()
                .iter()
                .any(|&protocol| selector.takes(&rule, protocol))
            {
                self.change(RTM_DELRULE, 0, &rule, family.rules(), &[Errno::ENOENT])?;
            }
        }
        if self.route_is_there(family)? {
            let gone = [Errno::ESRCH, Errno::ENOENT];
            self.change(
                RTM_DELROUTE,
                0,
                &selector.route(family),
                family.route(),
                &gone,
            )?;
        }
        Ok(())
    }

    /// Rules that cannot be read are not ours.
    fn list_rules(&mut self, family: Family) -> Result<Vec<RuleMessage>, CaptureError> {
        let mut which = RuleMessage::default();
        which.header.family = family.number();
        let bodies = self.list(RTM_GETRULE, &which, family.rules())?;
        Ok(bodies
            .iter()
            .filter_map(|body| RuleMessage::parse(body).ok())
            .collect())
    }

    fn route_is_there(&mut self, family: Family) -> Result<bool, CaptureError> {
        let mut which = RouteMessage::default();
        which.header = RouteHeader {
            protocol: RouteProtocol::Unspec,
            ..which.header
        };
        which.header.address_family = family.number();
        which
            .attributes
            .push(RouteAttribute::Table(self.selector.table));
        let bodies = self.list(RTM_GETROUTE, &which, family.route())?;
        let routes = bodies
            .iter()
            .filter_map(|body| RouteMessage::parse(body).ok());
        let table = self.selector.table;
        Ok(routes.into_iter().any(|route| {
            route.header.kind == RouteType::Local
                && route.header.destination_prefix_length == 0
                && route.attributes.contains(&RouteAttribute::Oif(LOOPBACK))
                && route.attributes.contains(&RouteAttribute::Table(table))
        }))
    }

    fn list(
        &mut self,
        kind: u16,
        which: &impl Emitable,
        part: Part,
    ) -> Result<Vec<Vec<u8>>, CaptureError> {
        // ENOENT: a routing table that was never used.
        Ok(self
            .ask(kind, NLM_F_DUMP, which, part, &[Errno::ENOENT])?
            .bodies)
    }

    fn change(
        &mut self,
        kind: u16,
        flags: u16,
        what: &impl Emitable,
        part: Part,
        fine: &[Errno],
    ) -> Result<(), CaptureError> {
        self.ask(kind, NLM_F_ACK | flags, what, part, fine)
            .map(drop)
    }

    /// One exchange; refusals with an errno in `fine` are none.
    fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        what: &impl Emitable,
        part: Part,
        fine: &[Errno],
    ) -> Result<Replies, CaptureError> {
        let mut body = vec![0; what.buffer_len()];
        what.emit(&mut body);
        let replies = self
            .netlink
            .ask(kind, flags, &body)
            .map_err(|error| CaptureError::socket(part, error))?;
        match replies.refusal() {
            Some(answer) if !fine.contains(&answer.errno) => {
                Err(CaptureError::refused(part, answer))
            }
            _ => Ok(replies),
        }
    }
}

/// Whether this network namespace has IPv6 switched off, on loopback at least.
fn ipv6_is_off() -> bool {
    match std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6") {
        Ok(value) => value.trim() != "0",
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
