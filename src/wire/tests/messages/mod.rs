//! One message of each kind, and any message at all, for the tests of this crate.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use flexcast_wire::{
    Body, Challenge, Channel, Control, CookieStamp, Credential, Handover, Header, NodeId, Nonce,
    Path, Reason, Records, Request, Sequence, Status, StreamToken, Trace, TraceRecord, TraceReply,
    Verdict, Want,
};
use proptest::prelude::*;

pub fn channel(text: &str) -> Channel {
    text.parse().unwrap()
}

fn header(channel: Channel, node: u64) -> Header {
    Header {
        channel,
        nonce: Nonce(0x1122_3344_5566_7788),
        node: NodeId(node),
        sequence: Sequence(0x0102_0304),
        answered: Sequence(0x0506_0708),
    }
}

/// Records of two nodes, as [`Records::of`] takes them.
pub fn two_records() -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut record = TraceRecord {
        node: NodeId(0xA1),
        own_address: Some("10.0.0.3".parse().unwrap()),
        upstream: Some("2001:db8::7".parse().unwrap()),
        audience: 100,
        highest: Sequence(0xFFFF_FFFF),
        lost: 3,
        datagrams_per_second: 2_000,
        bytes_per_second: 2_632_000,
        age_ms: 86_400_000,
    };
    Records::push(&record, &mut buffer);
    record.node = NodeId(0xA2);
    record.own_address = None;
    record.upstream = None;
    Records::push(&record, &mut buffer);
    buffer
}

/// One of each message, with a name each, written.
pub fn one_of_each() -> Vec<(&'static str, Vec<u8>)> {
    let v4 = channel("10.0.0.1#5000");
    let v6 = channel("[2001:db8::1]#18446744073709551615");
    let stamp = |node, cookie| CookieStamp {
        node: NodeId(node),
        cookie: [cookie; 16],
    };
    let request = Request {
        direct: false,
        want: Want::Stream,
        hold_ms: 35_000,
        heartbeat_ms: 1_000,
        parent: NodeId(0xB1),
        attempt: 2,
        hop_budget: 32,
        received: 1_000_000,
        lost: None,
        receivers_below: 6,
        path_mtu: 1_280,
        cookies: [stamp(0xB1, 0xC1), stamp(0xB2, 0xC2)],
        credential: Credential::new(b"key").unwrap(),
    };
    let until = Request {
        direct: true,
        want: Want::Until(Sequence(0x0A0B_0C0D)),
        lost: Some(7),
        credential: Credential::NONE,
        ..request
    };
    let status = Status {
        verdict: Verdict::Granted,
        standby: true,
        sign_of_life_wanted: false,
        ask: false,
        handover: Some(Handover::StartsAt(Sequence(0x0A0B_0C0D))),
        app_port: 5_000,
        hold_ms: 35_000,
        heartbeat_ms: 1_000,
        token: Some(StreamToken(0xDDDD_0000_0000_0001)),
        cookie: [0xC3; 16],
        datagrams: 12,
        bytes: 15_792,
        highest: Some(Sequence(0x0A0B_0C00)),
        reason: Reason::None,
        own_address: Some("10.0.0.3".parse().unwrap()),
        path: Path::EMPTY
            .with(NodeId(0xB1))
            .and_then(|p| p.with(NodeId(0xB2)))
            .unwrap(),
    };
    let refusal = Status {
        verdict: Verdict::RefusedPassing,
        reason: Reason::Full,
        standby: false,
        handover: None,
        token: None,
        highest: None,
        own_address: None,
        path: Path::EMPTY,
        ..status
    };
    let records = two_records();
    let trace = Trace {
        hop_budget: 30,
        cookies: [stamp(0xB1, 0xC1), CookieStamp::default()],
        credential: Credential::NONE,
        records: Records::of(&records),
    };
    let reply = TraceReply {
        records: Records::of(&records),
    };
    let bodies = [
        ("request", v4, 0, Body::Request(request)),
        ("until", v6, 0xB9, Body::Request(until)),
        (
            "challenge",
            v4,
            0xB1,
            Body::Challenge(Challenge { cookie: [0xC1; 16] }),
        ),
        ("status", v6, 0xB2, Body::Status(status)),
        ("refusal", v4, 0xB2, Body::Status(refusal)),
        ("trace", v4, 0, Body::Trace(trace)),
        ("trace-reply", v4, 0xB1, Body::TraceReply(reply)),
    ];
    let write = |(name, channel, node, body)| {
        let mut bytes = Vec::new();
        let header = header(channel, node);
        Control { header, body }.emit(&mut bytes);
        (name, bytes)
    };
    bodies.into_iter().map(write).collect()
}

prop_compose! {
    fn any_header()(
        v4: [u8; 4], v6: [u8; 16], six: bool, id in 1u64.., nonce in 1u64..,
        node: u64, sequence: u32, answered: u32,
    ) -> Header {
        let sender = if six { std::net::IpAddr::from(v6) } else { std::net::IpAddr::from(v4) };
        let id = flexcast_wire::ChannelId::new(id).unwrap();
        Header {
            channel: Channel::new(sender, id),
            nonce: Nonce(nonce),
            node: NodeId(node),
            sequence: Sequence(sequence),
            answered: Sequence(answered),
        }
    }
}

fn is_host(header: &Header) -> bool {
    let sender = header.channel.sender;
    let broadcast = sender == std::net::IpAddr::from([255; 4]);
    !(sender.is_unspecified() || sender.is_multicast() || broadcast)
}

prop_compose! {
    fn any_stamp()(node: u64, cookie: [u8; 16]) -> CookieStamp {
        CookieStamp { node: NodeId(node), cookie }
    }
}

fn any_want() -> impl Strategy<Value = Want> {
    prop_oneof![
        Just(Want::Stream),
        any::<u32>().prop_map(|k| Want::From(Sequence(k))),
        any::<u32>().prop_map(|j| Want::Until(Sequence(j))),
        any::<bool>().prop_map(|none_below| Want::Leave { none_below }),
    ]
}

prop_compose! {
    fn any_request()(
        direct: bool, want in any_want(), times: [u32; 2], parent: u64, attempt: u8,
        hop_budget: u8, received: u64, lost in proptest::option::of(0..u64::MAX),
        receivers_below: u32, path_mtu: u16, cookies in [any_stamp(), any_stamp()],
        credential in proptest::collection::vec(any::<u8>(), 0..=64),
    ) -> Body<'static> {
        Body::Request(Request {
            direct, want, hold_ms: times[0], heartbeat_ms: times[1], parent: NodeId(parent),
            attempt, hop_budget, received, lost, receivers_below, path_mtu, cookies,
            credential: Credential::new(&credential).unwrap(),
        })
    }
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    proptest::sample::select(vec![
        Verdict::Granted,
        Verdict::Pending,
        Verdict::Left,
        Verdict::RefusedFinal,
        Verdict::RefusedPassing,
        Verdict::Ended,
        Verdict::Draining,
    ])
}

fn any_reason() -> impl Strategy<Value = Reason> {
    proptest::sample::select(vec![
        Reason::None,
        Reason::Policy,
        Reason::Credential,
        Reason::Full,
        Reason::Loop,
        Reason::TooDeep,
        Reason::Overload,
    ])
}

prop_compose! {
    fn any_status()(
        verdict in any_verdict(), reason in any_reason(), flags: [bool; 3],
        handover in proptest::option::of((any::<bool>(), any::<u32>())),
        app_port: u16, times: [u32; 2], token: u64, cookie: [u8; 16], sums: [u64; 2],
        highest in proptest::option::of(any::<u32>()), own: [u8; 4],
        path in proptest::collection::vec(1u64.., 0..=32),
    ) -> Body<'static> {
        let own = std::net::IpAddr::from(own);
        Body::Status(Status {
            verdict, reason, standby: flags[0], sign_of_life_wanted: flags[1], ask: flags[2],
            handover: handover.map(|(starts, at)| if starts {
                Handover::StartsAt(Sequence(at))
            } else {
                Handover::StoppedAt(Sequence(at))
            }),
            app_port, hold_ms: times[0], heartbeat_ms: times[1],
            token: Some(StreamToken(token)).filter(|t| t.0 != 0), cookie,
            datagrams: sums[0], bytes: sums[1], highest: highest.map(Sequence),
            own_address: Some(own).filter(|a| !a.is_unspecified()),
            path: path.into_iter().fold(Path::EMPTY, |p, n| p.with(NodeId(n)).unwrap()),
        })
    }
}

/// Any message but those with records, which borrow.
pub fn any_control() -> impl Strategy<Value = Control<'static>> {
    let challenge = any::<[u8; 16]>().prop_map(|cookie| Body::Challenge(Challenge { cookie }));
    let body = prop_oneof![any_request(), any_status(), challenge];
    let header = any_header().prop_filter("S is a host", is_host);
    (header, body).prop_map(|(header, body)| Control { header, body })
}
