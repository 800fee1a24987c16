//! The nf_tables table of a relay: its sets, chains and rules.
//!
//! ```text
//! table inet flexcast { flags owner
//!   set alive     { type inet_proto; flags timeout }          refilled every 500 ms for 2 s
//!   set messages  { types of captured control messages }
//!   set pairs4    { ip saddr . udp sport . ip daddr; timeout 60s; size 4096 }        pairs6
//!   set senders4  { ip daddr; timeout 60s; size 4096 }                               senders6
//!   chain prerouting { type filter hook prerouting priority mangle; policy accept
//!     meta l4proto @alive, to FP, not from FP, magic and version, type in @messages,
//!       to another host                                    → jump capture
//!     meta l4proto @alive, ICMP error quoting UDP from FP, to another host → mark, accept }
//!   chain capture {
//!     pair in @pairs4, receiver's S in @senders4 (and 6)   → count, accept
//!     tproxy to :port, mark, count, accept } }
//! ```
//! The mark comes after `tproxy`: with no listener the packet passes unmarked.
//! It promises that the whole table appears at once, or not at all.

use std::net::IpAddr;

use super::attribute::Attributes;
use super::error::Part;
use super::expression::{Expressions, Header, Meta};
use super::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use super::transaction::{Message, Transaction};
use super::Settings;

/// How long capture lives without being renewed, milliseconds.
const ALIVE_MS: u64 = 2_000;
/// How long a pair or sender is let through, milliseconds.
const LET_THROUGH_MS: u64 = 60_000;
const LET_THROUGH_SIZE: u32 = 4_096;

const ALIVE: &str = "alive";
const MESSAGES: &str = "messages";
const PREROUTING: &str = "prerouting";
const CAPTURE: &str = "capture";

const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

const FLAG_OWNER: u32 = 2;
const SET_ELEMENT_LIST: u16 = 3;
const DATA_VALUE: u16 = 1;
/// `NFT_SET_TIMEOUT`
const SET_TIMEOUT: u32 = 0x10;

/// How `nft` prints keys of sets (its `enum datatypes`); the kernel ignores it.
const TYPE_INTEGER: u32 = 4;
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;

/// The two families of addresses, as sets and rules tell them apart.
#[derive(Clone, Copy)]
struct Family {
    number: u8,
    pairs: &'static str,
    senders: &'static str,
    address_type: u32,
    address_length: u32,
    source_at: u32,
    destination_at: u32,
}

const FAMILIES: [Family; 2] = [
    Family {
        number: 2,
        pairs: "pairs4",
        senders: "senders4",
        address_type: TYPE_IPV4,
        address_length: 4,
        source_at: 12,
        destination_at: 16,
    },
    Family {
        number: 10,
        pairs: "pairs6",
        senders: "senders6",
        address_type: TYPE_IPV6,
        address_length: 16,
        source_at: 8,
        destination_at: 24,
    },
];

/// A rule by the comment that it carries, which `nft list ruleset` shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RuleName {
    pub(super) comment: &'static str,
    pub(super) part: Part,
}

/// Every rule of the table, in the order in which they are made.
pub(super) const RULES: [RuleName; 10] = [
    REQUESTS,
    ICMP_ERRORS[0],
    ICMP_ERRORS[1],
    ICMP_ERRORS[2],
    PAIRS[0],
    SENDERS[0],
    PAIRS[1],
    SENDERS[1],
    CAPTURED,
    UNHEARD,
];

pub(super) const REQUESTS: RuleName = RuleName {
    comment: "requests",
    part: Part::RequestRule,
};
pub(super) const ICMP_ERRORS: [RuleName; 3] = [
    RuleName {
        comment: "icmp unreachable",
        part: Part::IcmpRules,
    },
    RuleName {
        comment: "icmpv6 unreachable",
        part: Part::IcmpRules,
    },
    RuleName {
        comment: "icmpv6 packet too big",
        part: Part::IcmpRules,
    },
];
pub(super) const CAPTURED: RuleName = RuleName {
    comment: "captured",
    part: Part::CaptureRule,
};
pub(super) const UNHEARD: RuleName = RuleName {
    comment: "no listener",
    part: Part::CaptureRule,
};
pub(super) const PAIRS: [RuleName; 2] = [
    RuleName {
        comment: "let through pairs ipv4",
        part: Part::LetThroughRules,
    },
    RuleName {
        comment: "let through pairs ipv6",
        part: Part::LetThroughRules,
    },
];
pub(super) const SENDERS: [RuleName; 2] = [
    RuleName {
        comment: "let through senders ipv4",
        part: Part::LetThroughRules,
    },
    RuleName {
        comment: "let through senders ipv6",
        part: Part::LetThroughRules,
    },
];

/// Writes the whole table. `replace`: an abandoned one of that name goes first.
pub(super) fn create(to: &mut Transaction<'_>, settings: &Settings, owned: bool, replace: bool) {
    let table = settings.table_name.as_str();
    if replace {
        remove(to, table);
    }
    let flags = if owned { FLAG_OWNER } else { 0 };
    let content = Attributes::new().text(1, table).u32(2, flags);
    to.add(
        Part::Table,
        Message::NewTable,
        NLM_F_CREATE | NLM_F_EXCL,
        &content,
    );
    create_sets(to, settings);
    create_chains(to, table);
    for (rule, expressions) in rules(settings) {
        let chain = match rule.part {
            Part::RequestRule | Part::IcmpRules => PREROUTING,
            _ => CAPTURE,
        };
        let content = Attributes::new()
            .text(1, table)
            .text(2, chain)
            .nested(4, expressions.attributes())
            .bytes(7, &comment(rule.comment));
        to.add(
            rule.part,
            Message::NewRule,
            NLM_F_CREATE | NLM_F_APPEND,
            &content,
        );
    }
    fill_alive(to, table);
}

/// Takes the whole table away.
pub(super) fn remove(to: &mut Transaction<'_>, table: &str) {
    to.add(
        Part::Table,
        Message::DeleteTable,
        0,
        &Attributes::new().text(1, table),
    );
}

/// Lets capture live for another two seconds.
pub(super) fn renew(to: &mut Transaction<'_>, table: &str) {
    suspend(to, table);
    fill_alive(to, table);
}

/// Nothing is captured from now on.
pub(super) fn suspend(to: &mut Transaction<'_>, table: &str) {
    let whole_set = Attributes::new().text(1, table).text(2, ALIVE);
    to.add(Part::AliveSet, Message::DeleteSetElement, 0, &whole_set);
}

/// Lets requests of this address and port to this sender through; both of one
/// family.
pub(super) fn let_pair_through(
    to: &mut Transaction<'_>,
    table: &str,
    requester: IpAddr,
    port: u16,
    sender: IpAddr,
) {
    let mut key = octets(requester);
    key.extend_from_slice(&port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key.extend_from_slice(&octets(sender));
    add_elements(
        to,
        Part::LetThroughSets,
        table,
        family_of(sender).pairs,
        &[&key],
        None,
    );
}

/// Lets all requests to this sender through.
pub(super) fn let_sender_through(to: &mut Transaction<'_>, table: &str, sender: IpAddr) {
    let set = family_of(sender).senders;
    add_elements(
        to,
        Part::LetThroughSets,
        table,
        set,
        &[&octets(sender)],
        None,
    );
}

/// Which table `get` and `list` ask for (the same number in all of them).
pub(super) fn of_table(table: &str) -> Attributes {
    Attributes::new().text(1, table)
}

/// Which set's elements `list` asks for.
pub(super) fn of_alive(table: &str) -> Attributes {
    Attributes::new().text(1, table).text(2, ALIVE)
}

fn create_sets(to: &mut Transaction<'_>, settings: &Settings) {
    let table = settings.table_name.as_str();
    let mut id = 0;
    let mut set =
        |to: &mut Transaction<'_>, part, name: &str, kind: u32, length: u32, timeout: bool| {
            id += 1;
            let flags = if timeout { SET_TIMEOUT } else { 0 };
            let mut content = Attributes::new()
                .text(1, table)
                .text(2, name)
                .u32(3, flags)
                .u32(4, kind)
                .u32(5, length)
                .u32(10, id);
            if part == Part::LetThroughSets {
                let size = Attributes::new().u32(1, LET_THROUGH_SIZE);
                let collect_every_ms = 10_000;
                content = content
                    .nested(9, &size)
                    .u64(11, LET_THROUGH_MS)
                    .u32(12, collect_every_ms);
            }
            to.add(part, Message::NewSet, NLM_F_CREATE | NLM_F_EXCL, &content);
        };
    set(to, Part::AliveSet, ALIVE, TYPE_PROTOCOL, 1, true);
    set(to, Part::MessageSet, MESSAGES, TYPE_INTEGER, 1, false);
    for family in FAMILIES {
        let pair_type = family.address_type << 12 | TYPE_PORT << 6 | family.address_type;
        let pair_length = 2 * family.address_length + 4;
        set(
            to,
            Part::LetThroughSets,
            family.pairs,
            pair_type,
            pair_length,
            true,
        );
        set(
            to,
            Part::LetThroughSets,
            family.senders,
            family.address_type,
            family.address_length,
            true,
        );
    }
    let messages: Vec<&[u8]> = settings
        .captured_messages
        .iter()
        .map(std::slice::from_ref)
        .collect();
    add_elements(to, Part::MessageSet, table, MESSAGES, &messages, None);
}

fn create_chains(to: &mut Transaction<'_>, table: &str) {
    const HOOK_PREROUTING: u32 = 0;
    const PRIORITY_MANGLE: i32 = -150;
    const POLICY_ACCEPT: u32 = 1;
    let capture = Attributes::new().text(1, table).text(3, CAPTURE);
    to.add(
        Part::Chain,
        Message::NewChain,
        NLM_F_CREATE | NLM_F_EXCL,
        &capture,
    );
    let hook = Attributes::new()
        .u32(1, HOOK_PREROUTING)
        .bytes(2, &PRIORITY_MANGLE.to_be_bytes());
    let prerouting = Attributes::new()
        .text(1, table)
        .text(3, PREROUTING)
        .nested(4, &hook)
        .u32(5, POLICY_ACCEPT)
        .text(7, "filter");
    to.add(
        Part::Chain,
        Message::NewChain,
        NLM_F_CREATE | NLM_F_EXCL,
        &prerouting,
    );
}

fn rules(settings: &Settings) -> Vec<(RuleName, Expressions)> {
    let mut rules = vec![
        (REQUESTS, requests(settings)),
        (ICMP_ERRORS[0], icmp_errors(settings)),
        (ICMP_ERRORS[1], icmpv6_errors(settings, 1)),
        (ICMP_ERRORS[2], icmpv6_errors(settings, 2)),
    ];
    for (index, family) in FAMILIES.into_iter().enumerate() {
        let of_family = || Expressions::new().meta_is(Meta::Family, &[family.number]);
        let source = (Header::Network, family.source_at, family.address_length);
        let port = (Header::Transport, 0, 2);
        let sender = (
            Header::Network,
            family.destination_at,
            family.address_length,
        );
        let pairs = of_family().bytes_in(&[source, port, sender], family.pairs);
        rules.push((PAIRS[index], pairs.counter().accept()));
        let senders = of_family().bytes_in(&[sender], family.senders);
        rules.push((SENDERS[index], senders.counter().accept()));
    }
    let captured = Expressions::new()
        .meta_is(Meta::Transport, &[UDP])
        .tproxy(settings.listen_port)
        .set_mark(settings.mark, settings.mask)
        .counter()
        .accept();
    rules.push((CAPTURED, captured));
    rules.push((UNHEARD, Expressions::new().counter()));
    rules
}

fn requests(settings: &Settings) -> Expressions {
    const UDP_HEADER: u32 = 8;
    let port = settings.fp.to_be_bytes();
    Expressions::new()
        .meta_in(Meta::Transport, ALIVE)
        .meta_is(Meta::Transport, &[UDP])
        .bytes_are(Header::Transport, 2, &port)
        .bytes_are_not(Header::Transport, 0, &port)
        .bytes_are(
            Header::Transport,
            UDP_HEADER,
            &settings.magic_word.to_be_bytes(),
        )
        .bytes_in(
            &[(Header::Transport, UDP_HEADER + settings.message_offset, 1)],
            MESSAGES,
        )
        .for_another_host()
        .jump(CAPTURE)
}

/// Destination unreachable, fragmentation needed among them, that quotes an
/// IPv4 header without options and UDP from FP.
fn icmp_errors(settings: &Settings) -> Expressions {
    const UNREACHABLE: u8 = 3;
    let quoted = 8;
    Expressions::new()
        .meta_in(Meta::Transport, ALIVE)
        .meta_is(Meta::Family, &[2])
        .meta_is(Meta::Transport, &[ICMP])
        .bytes_are(Header::Transport, 0, &[UNREACHABLE])
        .bytes_are(Header::Transport, quoted, &[0x45])
        .bytes_are(Header::Transport, quoted + 9, &[UDP])
        .bytes_are(Header::Transport, quoted + 20, &settings.fp.to_be_bytes())
        .for_another_host()
        .set_mark(settings.mark, settings.mask)
        .counter()
        .accept()
}

/// An error of this type that quotes an IPv6 header without extensions and UDP
/// from FP.
fn icmpv6_errors(settings: &Settings, kind: u8) -> Expressions {
    let quoted = 8;
    Expressions::new()
        .meta_in(Meta::Transport, ALIVE)
        .meta_is(Meta::Family, &[10])
        .meta_is(Meta::Transport, &[ICMPV6])
        .bytes_are(Header::Transport, 0, &[kind])
        .bytes_are(Header::Transport, quoted + 6, &[UDP])
        .bytes_are(Header::Transport, quoted + 40, &settings.fp.to_be_bytes())
        .for_another_host()
        .set_mark(settings.mark, settings.mask)
        .counter()
        .accept()
}

fn fill_alive(to: &mut Transaction<'_>, table: &str) {
    let protocols: [&[u8]; 3] = [&[UDP], &[ICMP], &[ICMPV6]];
    add_elements(to, Part::AliveSet, table, ALIVE, &protocols, Some(ALIVE_MS));
}

fn add_elements(
    to: &mut Transaction<'_>,
    part: Part,
    table: &str,
    set: &str,
    keys: &[&[u8]],
    timeout_ms: Option<u64>,
) {
    let mut elements = Attributes::new();
    for key in keys {
        let mut element = Attributes::new().nested(1, &Attributes::new().bytes(DATA_VALUE, key));
        if let Some(timeout) = timeout_ms {
            element = element.u64(4, timeout);
        }
        elements = elements.nested(1, &element);
    }
    let content = Attributes::new()
        .text(1, table)
        .text(2, set)
        .nested(SET_ELEMENT_LIST, &elements);
    to.add(part, Message::NewSetElement, NLM_F_CREATE, &content);
}

/// A comment as `nft` reads it from a rule's user data: type 0, length, text.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("a short comment");
    let mut data = vec![0, length];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}

fn family_of(address: IpAddr) -> Family {
    FAMILIES[usize::from(address.is_ipv6())]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
