//! A relay between the node above and those below: what goes up and when it stops, what
//! is passed on, what is said in whose stead.

mod ask;

use std::net::SocketAddr;

use ask::{after, channel, emit, join, join_as, plain, relay, sender, Asked, FP, FULL, START};
use flexcast_engine::{NodeSettings, Order, Outbox, Relay, Route, Time};
use flexcast_wire::{
    Body, Channel, Control, Handover, Header, Kind, NodeId, Path, Reason, Request, Sequence,
    Status, StreamToken, Verdict, Want,
};

/// What a relay sends up between two times: when (ms), and what it wants.
fn goes_up(node: &mut Relay, from: u64, to: u64) -> Vec<(u64, Want, bool)> {
    let mut went = Vec::new();
    for ms in from..=to {
        let mut out = Outbox::new();
        node.poll(after(ms), &mut out);
        for (letter, bytes) in out.iter() {
            let Route::Upstream(_) = letter.route else {
                continue;
            };
            let Body::Request(request) = Control::parse(bytes).unwrap().body else {
                panic!("relays ask");
            };
            went.push((ms, request.want, request.direct));
        }
    }
    went
}

/// The node above a relay says this to the channel's requester.
fn answer(node: &mut Relay, now: Time, c: Channel, sequence: u32, status: &Status) {
    let control = Control {
        header: Header {
            channel: c,
            nonce: node.nonce(&c).unwrap(),
            node: NodeId(0xAA),
            sequence: Sequence(sequence),
            answered: Sequence(now.wrapping_ms() + 1_000),
        },
        body: Body::Status(*status),
    };
    node.on_answer(now, c, &control, &mut Outbox::new());
}

fn granted() -> Status {
    Status {
        verdict: Verdict::Granted,
        standby: false,
        sign_of_life_wanted: false,
        ask: false,
        handover: None,
        app_port: 5000,
        hold_ms: 35_000,
        heartbeat_ms: 10_000,
        token: Some(StreamToken(9)),
        cookie: [0; 16],
        datagrams: 0,
        bytes: 0,
        highest: None,
        reason: Reason::None,
        own_address: None,
        path: Path::EMPTY.with(NodeId(0xAA)).unwrap(),
    }
}

#[test]
fn a_relay_says_granted_only_after_the_node_above_did() {
    let mut node = relay(NodeSettings::relay());
    let c = channel("10.0.0.1#5");
    assert_eq!(
        join(&mut node, START, "10.0.1.1:1", c, 1).verdict,
        Verdict::Pending
    );
    assert_eq!(node.next_order(), Some(Order::Open(c)));
    assert_eq!(node.next_order(), None);
    answer(
        &mut node,
        after(10),
        c,
        1,
        &Status {
            verdict: Verdict::Pending,
            token: None,
            ..granted()
        },
    );
    assert_eq!(
        join(&mut node, after(20), "10.0.1.1:2", c, 2).verdict,
        Verdict::Pending
    );
    answer(&mut node, after(30), c, 2, &granted());
    let status = join(&mut node, after(40), "10.0.1.1:3", c, 3);
    assert_eq!(
        (status.verdict, status.token),
        (Verdict::Granted, Some(StreamToken(9)))
    );
    assert_eq!(status.path.nodes(), [NodeId(0xAA), node.node()]);
    let refused = Status {
        verdict: Verdict::RefusedFinal,
        reason: Reason::Policy,
        ..granted()
    };
    answer(&mut node, after(50), c, 3, &refused);
    let status = join(&mut node, after(60), "10.0.1.1:4", c, 4);
    assert_eq!(
        (status.verdict, status.reason),
        (Verdict::RefusedFinal, Reason::Policy)
    );
}

#[test]
fn a_change_above_is_told_below_at_0_50_and_200_ms() {
    let path = |nodes: &[u64]| {
        let with = |path: Path, node: &u64| path.with(NodeId(*node)).unwrap();
        nodes.iter().fold(Path::EMPTY, with)
    };
    let changes = [
        Status {
            verdict: Verdict::Ended,
            ..granted()
        },
        Status {
            token: Some(StreamToken(10)),
            ..granted()
        },
        Status {
            path: path(&[0xBB, 0xAA]),
            ..granted()
        },
        Status {
            app_port: 6000,
            ..granted()
        },
    ];
    for changed in changes {
        let mut node = relay(NodeSettings::relay());
        let c = channel("10.0.0.1#5");
        join(&mut node, START, "10.0.1.1:1", c, 1);
        answer(&mut node, after(1), c, 1, &granted());
        goes_up(&mut node, 1, 999);
        answer(&mut node, after(1_000), c, 2, &granted());
        answer(&mut node, after(1_000), c, 3, &changed);
        let mut told = Vec::new();
        for ms in 1_000..2_000 {
            let mut out = Outbox::new();
            node.poll(after(ms), &mut out);
            let down = out
                .iter()
                .filter(|(letter, _)| letter.route != Route::Upstream(c));
            told.extend(down.map(|_| ms - 1_000));
        }
        assert_eq!(told, [0, 50, 200], "{changed:?}");
    }
}

#[test]
fn a_relay_leaves_250_ms_after_the_last_and_at_once_where_none_is_left_below() {
    for (none_below, pause) in [(false, 250), (true, 0)] {
        let mut node = relay(NodeSettings::relay());
        let c = channel("10.0.0.1#5");
        join(&mut node, START, "10.0.1.1:1", c, 1);
        answer(&mut node, after(1), c, 1, &granted());
        goes_up(&mut node, 1, 999);
        let leave = Request {
            want: Want::Leave { none_below },
            ..plain()
        };
        let mut out = Outbox::new();
        let from = "10.0.1.1:1".parse().unwrap();
        node.take(
            after(1_000),
            from,
            c.sender,
            &emit(c, 1, 3, leave),
            &mut out,
        );
        let at_once = out
            .iter()
            .filter(|(l, _)| l.route == Route::Upstream(c))
            .count();
        let left: Vec<_> = goes_up(&mut node, 1_000, 3_000);
        let first = if at_once > 0 { 1_000 } else { left[0].0 };
        assert_eq!(first, 1_000 + pause, "none below: {none_below}");
        assert_eq!(at_once + left.len(), 3, "three times: {left:?}");
        let up = Want::Leave { none_below: true };
        assert!(left.iter().all(|(_, want, _)| *want == up));
        assert_eq!(node.channels(), 0);
        let orders: Vec<Order> = std::iter::from_fn(|| node.next_order()).collect();
        assert_eq!(orders, [Order::Open(c), Order::Close(c)]);
    }
}

#[test]
fn who_comes_back_within_250_ms_finds_the_stream_still_there() {
    let mut node = relay(NodeSettings::relay());
    let c = channel("10.0.0.1#5");
    join(&mut node, START, "10.0.1.1:1", c, 1);
    answer(&mut node, after(1), c, 1, &granted());
    let leave = Request {
        want: Want::Leave { none_below: false },
        ..plain()
    };
    let from = "10.0.1.1:1".parse().unwrap();
    node.take(
        after(1_000),
        from,
        c.sender,
        &emit(c, 1, 3, leave),
        &mut Outbox::new(),
    );
    goes_up(&mut node, 1_000, 1_200);
    assert_eq!(
        join(&mut node, after(1_240), "10.0.1.1:2", c, 2).verdict,
        Verdict::Granted
    );
    let went = goes_up(&mut node, 1_240, 5_000);
    assert!(
        !went
            .iter()
            .any(|(_, want, _)| matches!(want, Want::Leave { .. })),
        "{went:?}"
    );
}

#[test]
fn a_farewell_that_means_another_node_goes_on_as_it_is() {
    let mut node = relay(NodeSettings::relay());
    let c = channel("10.0.0.1#5");
    let from = "10.0.1.1:1".parse().unwrap();
    for want in [Want::Until(Sequence(70)), Want::Leave { none_below: false }] {
        let farewell = Request {
            want,
            parent: NodeId(0xAA),
            ..plain()
        };
        let bytes = emit(c, 1, 9, farewell);
        let mut out = Outbox::new();
        node.take(START, from, c.sender, &bytes, &mut out);
        assert!(out.is_empty(), "no way up, nothing to pass it on by");
        join(&mut node, START, "10.0.1.1:1", c, 1);
        node.take(after(1), from, c.sender, &bytes, &mut out);
        let (letter, passed) = out.iter().next().expect("passed on");
        assert_eq!(letter.route, Route::Upstream(c));
        assert_eq!(letter.to, SocketAddr::new(c.sender, FP));
        assert_eq!(passed, bytes);
        assert_eq!(out.len(), 1);
        assert_eq!(node.report(START).entries, 1, "our own entry is not meant");
        out.clear();
        // A direct one was for a node that is no longer here.
        let direct = emit(
            c,
            1,
            10,
            Request {
                direct: true,
                ..farewell
            },
        );
        node.take(
            after(2),
            from,
            "10.0.0.3".parse().unwrap(),
            &direct,
            &mut out,
        );
        assert!(out.is_empty());
        node = relay(NodeSettings::relay());
    }
}

#[test]
fn a_hop_budget_that_is_used_up_is_refused_as_too_deep() {
    let mut node = relay(NodeSettings::relay());
    let c = channel("10.0.0.1#5");
    let with = |hop_budget| Request {
        hop_budget,
        ..plain()
    };
    let deep = (Verdict::RefusedPassing, Reason::TooDeep);
    let says = |node: &mut Relay, nonce: u64, budget| {
        let from = format!("10.0.1.1:{nonce}");
        let status = join_as(node, START, &from, c, nonce, with(budget));
        (status.verdict, status.reason)
    };
    assert_eq!(says(&mut node, 1, 1), deep, "nobody above may be asked");
    assert_eq!(node.channels(), 0);
    assert_eq!(says(&mut node, 2, 2), (Verdict::Pending, Reason::None));
    assert_eq!(
        says(&mut node, 3, 1),
        (Verdict::Pending, Reason::None),
        "into a tree that is there"
    );
    assert_eq!(says(&mut node, 4, 0), deep);
    assert_eq!(node.report(START).counters.refused_loop, 2);
    assert_eq!(node.report(START).entries, 2);
}

#[test]
fn a_relay_that_finds_itself_in_the_path_leaves_and_refuses() {
    let mut node = relay(NodeSettings::relay());
    let c = channel("10.0.0.1#5");
    join(&mut node, START, "10.0.1.1:1", c, 1);
    goes_up(&mut node, 0, 5);
    let looped = Status {
        verdict: Verdict::Pending,
        token: None,
        path: granted().path.with(node.node()).unwrap(),
        ..granted()
    };
    answer(&mut node, after(10), c, 1, &looped);
    let status = join(&mut node, after(11), "10.0.1.1:2", c, 2);
    assert_eq!(
        (status.verdict, status.reason),
        (Verdict::RefusedPassing, Reason::Loop)
    );
    let went = goes_up(&mut node, 11, 1_000);
    assert!(matches!(went[0].1, Want::Leave { .. }));
    assert!(went
        .iter()
        .all(|(_, want, _)| matches!(want, Want::Leave { .. })));
    let again = goes_up(&mut node, 1_001, 10_000);
    assert!(
        again.iter().any(|(_, want, _)| *want == Want::Stream),
        "it tries again later"
    );
    assert_eq!(node.report(START).counters.refused_loop, 1);
}

#[test]
fn copies_and_strange_tokens_are_not_passed_on() {
    let mut node = relay(NodeSettings::relay());
    let c = channel("10.0.0.1#5");
    join(&mut node, START, "10.0.1.1:1", c, 1);
    let trailer = |token, sequence| flexcast_wire::Trailer {
        token,
        sequence: Sequence(sequence),
        kind: Kind::Data,
    };
    assert!(
        !node.on_stream(&c, &trailer(9, 1)),
        "a relay never takes any token"
    );
    answer(&mut node, after(1), c, 1, &granted());
    assert!(node.on_stream(&c, &trailer(9, 1)));
    assert!(!node.on_stream(&c, &trailer(9, 1)), "a copy");
    assert!(!node.on_stream(&c, &trailer(8, 2)), "a strange token");
    assert!(node.on_stream(&c, &trailer(9, 3)) && node.on_stream(&c, &trailer(9, 2)));
    let renewed = Status {
        token: Some(StreamToken(10)),
        ..granted()
    };
    answer(&mut node, after(2), c, 2, &renewed);
    assert!(!node.on_stream(&c, &trailer(9, 4)));
    assert!(node.on_stream(&c, &trailer(10, 1)), "sequences begin anew");
    let report = node.report(after(3));
    assert_eq!(report.channels[0].duplicates, 1);
    assert_eq!(report.channels[0].state.token, Some(StreamToken(10)));
}

#[test]
fn what_comes_late_of_a_stream_that_has_ended_is_passed_on() {
    let mut node = relay(NodeSettings::relay());
    let c = channel("10.0.0.1#5");
    join(&mut node, START, "10.0.1.1:1", c, 1);
    let trailer = |token, sequence| flexcast_wire::Trailer {
        token,
        sequence: Sequence(sequence),
        kind: Kind::Data,
    };
    answer(&mut node, after(1), c, 1, &granted());
    assert!(node.on_stream(&c, &trailer(9, 1)));
    let ended = Status {
        verdict: Verdict::Ended,
        token: None,
        ..granted()
    };
    answer(&mut node, after(2), c, 2, &ended);
    // *ended* went by another socket, and overtook it.
    assert!(node.on_stream(&c, &trailer(9, 2)));
    assert!(!node.on_stream(&c, &trailer(9, 2)), "a copy");
    assert!(
        !node.on_stream(&c, &trailer(10, 1)),
        "nobody told that token"
    );
    answer(&mut node, after(3), c, 3, &ended);
    assert!(
        node.on_stream(&c, &trailer(9, 3)),
        "however often it is said"
    );
    let next = Status {
        token: Some(StreamToken(10)),
        ..granted()
    };
    answer(&mut node, after(4), c, 4, &next);
    assert!(
        !node.on_stream(&c, &trailer(9, 4)),
        "that stream is over now"
    );
    assert!(node.on_stream(&c, &trailer(10, 1)));
}

#[test]
fn a_draining_relay_says_so_every_200_ms_and_ends_with_its_last_or_after_10_s() {
    let mut node = relay(NodeSettings::relay());
    let c = channel("10.0.0.1#5");
    join(&mut node, START, "10.0.1.1:1", c, 1);
    answer(&mut node, after(1), c, 1, &granted());
    goes_up(&mut node, 1, 999);
    node.drain(after(1_000));
    assert!(node.is_draining());
    let mut said = Vec::new();
    for ms in 1_000..2_000 {
        let mut out = Outbox::new();
        node.poll(after(ms), &mut out);
        for (letter, bytes) in out.iter() {
            if let (Route::Node(_), Body::Status(s)) =
                (letter.route, Control::parse(bytes).unwrap().body)
            {
                assert_eq!(s.verdict, Verdict::Draining);
                said.push(ms);
            }
        }
    }
    assert_eq!(said, [1_000, 1_200, 1_400, 1_600, 1_800]);
    let new = join(
        &mut node,
        after(2_000),
        "10.0.1.1:2",
        channel("10.0.0.1#6"),
        2,
    );
    assert_eq!((new.verdict, new.reason), FULL);
    assert!(!node.is_drained(Time(after(11_000).0 - 1)));
    assert!(node.is_drained(after(11_000)));
    let until = Request {
        want: Want::Until(Sequence(1)),
        parent: node.node(),
        ..plain()
    };
    let mut out = Outbox::new();
    node.take(
        after(2_100),
        "10.0.1.1:1".parse().unwrap(),
        c.sender,
        &emit(c, 1, 9, until),
        &mut out,
    );
    goes_up(&mut node, 2_100, 6_000);
    assert!(node.is_drained(after(6_000)), "served until its last left");
}

#[test]
fn from_k_is_answered_with_j_by_a_relay_as_by_a_sender() {
    let mut node = sender(NodeSettings::sender());
    let c = channel("10.0.0.1#5");
    node.open(START, c, 5000);
    let beside = Request {
        parent: NodeId(0xBB),
        ..plain()
    };
    let status = join_as(&mut node, START, "10.0.1.1:1", c, 1, beside);
    assert!(status.standby && node.fan(c.id).unwrap().is_empty());
    let first = node.stamp(START, c.id, Kind::Data).unwrap().sequence;
    node.carried_on(START, c.id, &[first], &[10]);
    let from = Request {
        want: Want::From(first),
        ..beside
    };
    let status = join_as(&mut node, START, "10.0.1.1:2", c, 2, from);
    assert_eq!(status.handover, Some(Handover::StartsAt(first.next())));
}
