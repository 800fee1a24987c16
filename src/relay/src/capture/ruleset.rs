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
//!     tproxy to :port, mark, count, accept }
//!   chain untracked { hook prerouting priority raw; as the first rule above   → jump untrack }
//!   chain untrack   { those let through → accept; notrack }
//!   chain output    { hook output priority raw; from FP → notrack } }
//! ```
//! The last three are left out where the kernel tracks no connections.
//! The mark comes after `tproxy`: with no listener the packet passes unmarked.
//! It promises that the whole table appears at once, or not at all.

use super::attribute::Attributes;
use super::error::Part;
use super::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use super::rule::{self, CAPTURE, OUTPUT, UNTRACK};
use super::set;
use super::transaction::{Message, Transaction};
use super::Settings;

const PREROUTING: &str = "prerouting";
const HOOK_PREROUTING: u32 = 0;
const PRIORITY_MANGLE: i32 = -150;
/// Before connection tracking.
const PRIORITY_RAW: i32 = -300;
/// `NFT_TABLE_F_OWNER`
const FLAG_OWNER: u32 = 2;

/// How a table is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// The kernel removes it with the process.
    pub(super) owned: bool,
    /// An abandoned one of that name goes first.
    pub(super) replace: bool,
    /// With the rules against connection tracking.
    pub(super) untrack: bool,
}

/// Writes the whole table.
pub(super) fn create(to: &mut Transaction<'_>, settings: &Settings, manner: Manner) {
    let table = settings.table_name.as_str();
    if manner.replace {
        remove(to, table);
    }
    let flags = if manner.owned { FLAG_OWNER } else { 0 };
    let content = Attributes::new().text(1, table).u32(2, flags);
    to.add(
        Part::Table,
        Message::NewTable,
        NLM_F_CREATE | NLM_F_EXCL,
        &content,
    );
    set::create(to, settings);
    create_chains(to, table);
    for (name, expressions) in rule::all(settings) {
        let chain = match name.part {
            Part::RequestRule | Part::IcmpRules => PREROUTING,
            _ => CAPTURE,
        };
        let content = Attributes::new()
            .text(1, table)
            .text(2, chain)
            .nested(4, expressions.attributes())
            .bytes(7, &rule::comment(name));
        to.add(
            name.part,
            Message::NewRule,
            NLM_F_CREATE | NLM_F_APPEND,
            &content,
        );
    }
    if manner.untrack {
        create_untracking(to, settings);
    }
    set::fill_alive(to, table);
}

fn create_untracking(to: &mut Transaction<'_>, settings: &Settings) {
    const HOOK_OUTPUT: u32 = 3;
    let table = settings.table_name.as_str();
    let part = Part::UntrackRules;
    let untrack = Attributes::new().text(1, table).text(3, UNTRACK);
    add_chain(to, part, &untrack);
    let bases = [("untracked", HOOK_PREROUTING), (OUTPUT, HOOK_OUTPUT)];
    for (name, hook) in bases {
        add_chain(to, part, &base_chain(table, name, hook, PRIORITY_RAW));
    }
    for (chain, expressions) in rule::untracking(settings) {
        let content = Attributes::new()
            .text(1, table)
            .text(2, chain)
            .nested(4, expressions.attributes());
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        to.add(part, Message::NewRule, flags, &content);
    }
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

/// Which table `get` and `list` ask for (the same number in all of them).
pub(super) fn of_table(table: &str) -> Attributes {
    Attributes::new().text(1, table)
}

fn create_chains(to: &mut Transaction<'_>, table: &str) {
    let capture = Attributes::new().text(1, table).text(3, CAPTURE);
    add_chain(to, Part::Chain, &capture);
    let prerouting = base_chain(table, PREROUTING, HOOK_PREROUTING, PRIORITY_MANGLE);
    add_chain(to, Part::Chain, &prerouting);
}

fn base_chain(table: &str, name: &str, hook: u32, priority: i32) -> Attributes {
    const POLICY_ACCEPT: u32 = 1;
    let hook = Attributes::new()
        .u32(1, hook)
        .bytes(2, &priority.to_be_bytes());
    Attributes::new()
        .text(1, table)
        .text(3, name)
        .nested(4, &hook)
        .u32(5, POLICY_ACCEPT)
        .text(7, "filter")
}

fn add_chain(to: &mut Transaction<'_>, part: Part, chain: &Attributes) {
    to.add(part, Message::NewChain, NLM_F_CREATE | NLM_F_EXCL, chain);
}
