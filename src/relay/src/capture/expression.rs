//! Rules of nf_tables, expression by expression.
//!
//! A rule is a list of small instructions over registers; one that does not
//! match ends the rule. This file writes those that capture needs, as
//! `linux/netfilter/nf_tables.h` numbers them and `nft --debug=netlink` shows
//! them. What the rules mean stands in `ruleset`.

use super::attribute::Attributes;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// The first four-byte register (`NFT_REG32_00`); keys of several fields
/// stand in this one and those after it.
pub(super) const KEY: u32 = 8;
/// Where single values are compared (`NFT_REG_1`, the same storage).
const SCRATCH: u32 = 1;
const VERDICT: u32 = 0;

/// What `meta` can load.
#[derive(Clone, Copy)]
pub(super) enum Meta {
    /// The packet mark, in the machine's byte order.
    Mark = 3,
    /// 2: IPv4, 10: IPv6.
    Family = 15,
    /// The transport protocol.
    Transport = 16,
}

/// Where in the packet an offset counts from.
#[derive(Clone, Copy)]
pub(super) enum Header {
    /// The IP header.
    Network = 1,
    /// The UDP or ICMP header.
    Transport = 2,
}

/// A rule being written.
#[derive(Default)]
pub(super) struct Expressions(Attributes);

impl Expressions {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn attributes(&self) -> &Attributes {
        &self.0
    }

    /// `meta KEY == value`
    pub(super) fn meta_is(self, key: Meta, value: &[u8]) -> Self {
        self.load_meta(key).compare(true, value)
    }

    /// `meta KEY @set`
    pub(super) fn meta_in(self, key: Meta, set: &str) -> Self {
        self.load_meta(key).look_up(SCRATCH, set)
    }

    /// `value` at this byte offset of the packet.
    pub(super) fn bytes_are(self, header: Header, offset: u32, value: &[u8]) -> Self {
        self.load_bytes(header, offset, length_of(value), SCRATCH)
            .compare(true, value)
    }

    /// Anything but `value` at this byte offset.
    pub(super) fn bytes_are_not(self, header: Header, offset: u32, value: &[u8]) -> Self {
        self.load_bytes(header, offset, length_of(value), SCRATCH)
            .compare(false, value)
    }

    /// The fields (header, offset, length), each padded to four bytes, are
    /// together a key of the set.
    pub(super) fn bytes_in(self, fields: &[(Header, u32, u32)], set: &str) -> Self {
        let mut register = KEY;
        let mut rule = self;
        for &(header, offset, length) in fields {
            rule = rule.load_bytes(header, offset, length, register);
            register += length.div_ceil(4);
        }
        rule.look_up(KEY, set)
    }

    /// `fib daddr type unicast`: neither local, multicast nor broadcast, nor
    /// (IPv6) without a route.
    pub(super) fn for_another_host(self) -> Self {
        const RESULT_ADDRESS_TYPE: u32 = 3;
        const FLAG_DESTINATION: u32 = 2;
        const RTN_UNICAST: u32 = 1;
        let data = Attributes::new()
            .u32(1, SCRATCH)
            .u32(2, RESULT_ADDRESS_TYPE)
            .u32(3, FLAG_DESTINATION);
        self.push("fib", &data)
            .compare(true, &RTN_UNICAST.to_ne_bytes())
    }

    /// `tproxy to :port`: hands the packet to a transparent socket on this
    /// port. Without one the rule ends here.
    pub(super) fn tproxy(self, port: u16) -> Self {
        let value = Attributes::new().bytes(DATA_VALUE, &port.to_be_bytes());
        let immediate = Attributes::new().u32(1, SCRATCH).nested(2, &value);
        let both_families = 0;
        let data = Attributes::new().u32(1, both_families).u32(3, SCRATCH);
        self.push("immediate", &immediate).push("tproxy", &data)
    }

    /// `meta mark set meta mark and not mask or mark`
    pub(super) fn set_mark(self, mark: u32, mask: u32) -> Self {
        let keep = Attributes::new().bytes(DATA_VALUE, &(!mask).to_ne_bytes());
        let set = Attributes::new().bytes(DATA_VALUE, &mark.to_ne_bytes());
        let bits = Attributes::new()
            .u32(1, SCRATCH)
            .u32(2, SCRATCH)
            .u32(3, 4)
            .nested(4, &keep)
            .nested(5, &set);
        let store = Attributes::new().u32(2, Meta::Mark as u32).u32(3, SCRATCH);
        self.load_meta(Meta::Mark)
            .push("bitwise", &bits)
            .push("meta", &store)
    }

    pub(super) fn counter(self) -> Self {
        self.push("counter", &Attributes::new())
    }

    /// No connection tracking for this packet.
    pub(super) fn notrack(self) -> Self {
        self.push("notrack", &Attributes::new())
    }

    pub(super) fn accept(self) -> Self {
        const NF_ACCEPT: u32 = 1;
        self.verdict(&Attributes::new().u32(1, NF_ACCEPT))
    }

    pub(super) fn jump(self, chain: &str) -> Self {
        const NFT_JUMP: i32 = -3;
        let jump = Attributes::new().bytes(1, &NFT_JUMP.to_be_bytes());
        self.verdict(&jump.text(2, chain))
    }

    fn load_meta(self, key: Meta) -> Self {
        self.push(
            "meta",
            &Attributes::new().u32(2, key as u32).u32(1, SCRATCH),
        )
    }

    fn load_bytes(self, header: Header, offset: u32, length: u32, register: u32) -> Self {
        let data = Attributes::new()
            .u32(1, register)
            .u32(2, header as u32)
            .u32(3, offset)
            .u32(4, length);
        self.push("payload", &data)
    }

    fn compare(self, equal: bool, value: &[u8]) -> Self {
        let value = Attributes::new().bytes(DATA_VALUE, value);
        let data = Attributes::new()
            .u32(1, SCRATCH)
            .u32(2, u32::from(!equal))
            .nested(3, &value);
        self.push("cmp", &data)
    }

    fn look_up(self, register: u32, set: &str) -> Self {
        self.push("lookup", &Attributes::new().text(1, set).u32(2, register))
    }

    fn verdict(self, verdict: &Attributes) -> Self {
        let data = Attributes::new().nested(DATA_VERDICT, verdict);
        self.push(
            "immediate",
            &Attributes::new().u32(1, VERDICT).nested(2, &data),
        )
    }

    fn push(self, name: &str, data: &Attributes) -> Self {
        let expression = Attributes::new()
            .text(EXPRESSION_NAME, name)
            .nested(EXPRESSION_DATA, data);
        Self(self.0.nested(LIST_ELEMENT, &expression))
    }
}

fn length_of(value: &[u8]) -> u32 {
    u32::try_from(value.len()).expect("a field of a packet")
}
