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

use super::attribute::Attributes;
use super::error::Part;
use super::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use super::rule::{self, CAPTURE};
use super::set;
use super::transaction::{Message, Transaction};
use super::Settings;

const PREROUTING: &str = "prerouting";
/// `NFT_TABLE_F_OWNER`
const FLAG_OWNER: u32 = 2;

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
    set::fill_alive(to, table);
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
