//! The sets of the table: what lives, what is captured, who is let through.
//!
//! ```text
//!   alive               transport protocols; two seconds, refilled every 500 ms
//!   messages            types of control messages that are captured
//!   pairs4, pairs6      address . port (padded to 4 bytes) . S; 60 s, 4 096 at most
//!   senders4, senders6  S; 60 s, 4 096 at most
//! ```
//! Promises: a refill is one transaction, so capture has no gap.

use std::net::IpAddr;

use super::attribute::Attributes;
use super::error::Part;
use super::netlink::{NLM_F_CREATE, NLM_F_EXCL};
use super::transaction::{Message, Transaction};
use super::Settings;

pub(super) const ALIVE: &str = "alive";
pub(super) const MESSAGES: &str = "messages";

/// How long capture lives without being renewed, milliseconds.
const ALIVE_MS: u64 = 2_000;
/// How long a pair or sender is let through, milliseconds.
const LET_THROUGH_MS: u64 = 60_000;
const LET_THROUGH_SIZE: u32 = 4_096;

const PROTOCOLS: [&[u8]; 3] = [&[UDP], &[ICMP], &[ICMPV6]];
pub(super) const UDP: u8 = 17;
pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;

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
pub(super) struct Family {
    /// As `meta nfproto` has it.
    pub(super) number: u8,
    pub(super) pairs: &'static str,
    pub(super) senders: &'static str,
    address_type: u32,
    pub(super) address_length: u32,
    /// Where in the IP header the addresses stand.
    pub(super) source_at: u32,
    pub(super) destination_at: u32,
}

/// IPv4, then IPv6.
pub(super) const FAMILIES: [Family; 2] = [
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

/// Which set's elements `list` asks for.
pub(super) fn of_alive(table: &str) -> Attributes {
    Attributes::new().text(1, table).text(2, ALIVE)
}

/// Makes all sets, and fills those whose content is known.
pub(super) fn create(to: &mut Transaction<'_>, settings: &Settings) {
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

/// Puts what lives into an empty set.
pub(super) fn fill_alive(to: &mut Transaction<'_>, table: &str) {
    add_elements(to, Part::AliveSet, table, ALIVE, &PROTOCOLS, Some(ALIVE_MS));
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

fn family_of(address: IpAddr) -> Family {
    FAMILIES[usize::from(address.is_ipv6())]
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
