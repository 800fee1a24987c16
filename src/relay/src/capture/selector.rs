//! What a policy routing rule and a route of this relay look like.
//!
//! Pure: it writes messages and recognises the kernel's, and talks to nobody.

use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage, RulePortRange,
};
use netlink_packet_route::{AddressFamily, IpProtocol};

use super::error::Part;

/// The crate has no name for it.
const ICMPV6: IpProtocol = IpProtocol::Other(58);

/// The loopback device has this number in every network namespace.
pub(super) const LOOPBACK: u32 = 1;

/// What makes a packet ours.
#[derive(Clone, Copy)]
pub(super) struct Selector {
    pub(super) mark: u32,
    pub(super) mask: u32,
    pub(super) fp: u16,
    pub(super) table: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn number(self) -> AddressFamily {
        match self {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        }
    }

    pub(super) fn protocols(self) -> [IpProtocol; 2] {
        match self {
            Family::V4 => [IpProtocol::Udp, IpProtocol::Icmp],
            Family::V6 => [IpProtocol::Udp, ICMPV6],
        }
    }

    pub(super) fn rules(self) -> Part {
        match self {
            Family::V4 => Part::Ipv4Rules,
            Family::V6 => Part::Ipv6Rules,
        }
    }

    pub(super) fn route(self) -> Part {
        match self {
            Family::V4 => Part::Ipv4Route,
            Family::V6 => Part::Ipv6Route,
        }
    }
}

impl Selector {
    pub(super) fn rule(self, family: Family, protocol: IpProtocol, priority: u32) -> RuleMessage {
        let mut rule = RuleMessage::default();
        rule.header = RuleHeader {
            family: family.number(),
            action: RuleAction::ToTable,
            ..RuleHeader::default()
        };
        rule.attributes = vec![
            RuleAttribute::Priority(priority),
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(self.mask),
            RuleAttribute::Table(self.table),
            RuleAttribute::IpProtocol(protocol),
            RuleAttribute::Protocol(RouteProtocol::Static),
        ];
        rule.attributes.extend(self.port(protocol));
        rule
    }

    /// Whether a rule of the kernel is ours for this protocol, at any priority.
    pub(super) fn takes(self, rule: &RuleMessage, protocol: IpProtocol) -> bool {
        let mut wanted = vec![
            RuleAttribute::FwMark(self.mark),
            RuleAttribute::FwMask(self.mask),
            RuleAttribute::Table(self.table),
            RuleAttribute::IpProtocol(protocol),
        ];
        wanted.extend(self.port(protocol));
        let narrower = |attribute: &RuleAttribute| {
            use RuleAttribute as A;
            match attribute {
                A::Destination(_) | A::Source(_) | A::Iifname(_) | A::Oifname(_) => true,
                A::TunId(_) | A::UidRange(_) | A::SourcePortRange(_) => true,
                A::DestinationPortRange(_) => !wanted.contains(attribute),
                _ => false,
            }
        };
        rule.header.action == RuleAction::ToTable
            && !rule.header.flags.contains(RuleFlags::Invert)
            && rule.header.tos == 0
            && wanted
                .iter()
                .all(|attribute| rule.attributes.contains(attribute))
            && !rule.attributes.iter().any(narrower)
    }

    /// A rule that looks at bits of our mark, as `ip rule` writes it.
    pub(super) fn shares(self, rule: &RuleMessage) -> Option<String> {
        let find =
            |which: fn(&RuleAttribute) -> Option<u32>| rule.attributes.iter().find_map(which);
        let mark = find(|attribute| match attribute {
            RuleAttribute::FwMark(mark) => Some(*mark),
            _ => None,
        });
        let mask = find(|attribute| match attribute {
            RuleAttribute::FwMask(mask) => Some(*mask),
            _ => None,
        });
        // Without a mark the kernel still says a mask of zero, or none.
        let (mark, mask) = (mark.unwrap_or(0), mask.unwrap_or(0));
        let (priority, table) = (priority_of(rule), table_of(rule));
        (mask & self.mask != 0)
            .then(|| format!("{priority}: fwmark {mark:#x}/{mask:#x} lookup {table}"))
    }

    fn port(self, protocol: IpProtocol) -> Option<RuleAttribute> {
        let range = RulePortRange {
            start: self.fp,
            end: self.fp,
        };
        (protocol == IpProtocol::Udp).then_some(RuleAttribute::DestinationPortRange(range))
    }

    pub(super) fn route(self, family: Family) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header = RouteHeader {
            address_family: family.number(),
            protocol: RouteProtocol::Static,
            scope: match family {
                Family::V4 => RouteScope::Host,
                Family::V6 => RouteScope::Universe,
            },
            kind: RouteType::Local,
            ..RouteHeader::default()
        };
        route.attributes = vec![
            RouteAttribute::Table(self.table),
            RouteAttribute::Oif(LOOPBACK),
        ];
        route
    }
}

pub(super) fn priority_of(rule: &RuleMessage) -> u32 {
    let priority = |attribute: &RuleAttribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    };
    rule.attributes.iter().find_map(priority).unwrap_or(0)
}

pub(super) fn table_of(rule: &RuleMessage) -> u32 {
    let table = |attribute: &RuleAttribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    };
    rule.attributes
        .iter()
        .find_map(table)
        .unwrap_or(u32::from(rule.header.table))
}
