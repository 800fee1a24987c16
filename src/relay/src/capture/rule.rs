//! The rules of the table, each known by the comment that it carries.
//!
//! `ruleset` draws them in their chains. Offsets in ICMP errors count from the
//! ICMP header: 8 bytes, then the quoted IP header, then the quoted UDP header.

use super::error::Part;
use super::expression::{Expressions, Header, Meta};
use super::set::{ALIVE, FAMILIES, ICMP, ICMPV6, MESSAGES, UDP};
use super::Settings;

/// The chain that requests jump to.
pub(super) const CAPTURE: &str = "capture";

/// The chain that decides what is not tracked.
pub(super) const UNTRACK: &str = "untrack";
/// The chain of locally sent packets.
pub(super) const OUTPUT: &str = "output";

/// A rule by its comment, which `nft list ruleset` shows.
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

pub(super) const REQUESTS: RuleName = named("requests", Part::RequestRule);
pub(super) const ICMP_ERRORS: [RuleName; 3] = [
    named("icmp unreachable", Part::IcmpRules),
    named("icmpv6 unreachable", Part::IcmpRules),
    named("icmpv6 packet too big", Part::IcmpRules),
];
pub(super) const PAIRS: [RuleName; 2] = [
    named("let through pairs ipv4", Part::LetThroughRules),
    named("let through pairs ipv6", Part::LetThroughRules),
];
pub(super) const SENDERS: [RuleName; 2] = [
    named("let through senders ipv4", Part::LetThroughRules),
    named("let through senders ipv6", Part::LetThroughRules),
];
pub(super) const CAPTURED: RuleName = named("captured", Part::CaptureRule);
pub(super) const UNHEARD: RuleName = named("no listener", Part::CaptureRule);

/// The rules against connection tracking, with their chains: those of captured
/// requests, and of what is sent from FP. On a router that translates addresses,
/// tracked requests come with its own address, and answers clash with entries of
/// before the relay.
pub(super) fn untracking(settings: &Settings) -> Vec<(&'static str, Expressions)> {
    let mut rules = vec![("untracked", requests(settings, UNTRACK))];
    for let_through in let_through() {
        rules.push((UNTRACK, let_through.accept()));
    }
    rules.push((UNTRACK, Expressions::new().notrack()));
    // Alive or not: what a draining relay sends must not make entries either.
    let sent = Expressions::new()
        .meta_is(Meta::Transport, &[UDP])
        .bytes_are(Header::Transport, 0, &settings.fp.to_be_bytes());
    rules.push((OUTPUT, sent.notrack()));
    rules
}

/// What is in the sets of those let through: pairs, then senders, of IPv4, then IPv6.
fn let_through() -> impl Iterator<Item = Expressions> {
    FAMILIES.into_iter().flat_map(|family| {
        let of_family = || Expressions::new().meta_is(Meta::Family, &[family.number]);
        let source = (Header::Network, family.source_at, family.address_length);
        let port = (Header::Transport, 0, 2);
        let sender = (
            Header::Network,
            family.destination_at,
            family.address_length,
        );
        [
            of_family().bytes_in(&[source, port, sender], family.pairs),
            of_family().bytes_in(&[sender], family.senders),
        ]
    })
}

/// All rules with what they do, in the order of [`RULES`].
pub(super) fn all(settings: &Settings) -> Vec<(RuleName, Expressions)> {
    let mut rules = vec![
        (REQUESTS, requests(settings, CAPTURE)),
        (ICMP_ERRORS[0], icmp_errors(settings)),
        (ICMP_ERRORS[1], icmpv6_errors(settings, 1)),
        (ICMP_ERRORS[2], icmpv6_errors(settings, 2)),
    ];
    let names = [PAIRS[0], SENDERS[0], PAIRS[1], SENDERS[1]];
    for (name, passing) in names.into_iter().zip(let_through()) {
        rules.push((name, passing.counter().accept()));
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

fn requests(settings: &Settings, then: &str) -> Expressions {
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
        .jump(then)
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

/// A comment as `nft` reads it from a rule's user data: type 0, length, text.
pub(super) fn comment(name: RuleName) -> Vec<u8> {
    let text = name.comment;
    let length = u8::try_from(text.len() + 1).expect("a short comment");
    let mut data = vec![0, length];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}

const fn named(comment: &'static str, part: Part) -> RuleName {
    RuleName { comment, part }
}
