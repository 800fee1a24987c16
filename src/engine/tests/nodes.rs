//! Senders and relays as whoever asks them sees them: limits, refusals, what is
//! forgotten when.

mod ask;

use std::net::SocketAddr;

use ask::{after, channel, emit, join, plain, relay, sender, Asked, FULL, START};
use flexcast_engine::{NodeSettings, Outbox, Sender, Time};
use flexcast_wire::{Body, Control, Kind, NodeId, Reason, Request, Sequence, Verdict, Want};

#[test]
fn a_source_has_its_limit_and_hinders_nobody_else() {
    let settings = || NodeSettings {
        entries_per_source: 2,
        ..NodeSettings::sender()
    };
    let mut nodes: [Box<dyn Asked>; 2] =
        [Box::new(sender(settings())), Box::new(relay(settings()))];
    for node in &mut nodes {
        let mut says = |from, nonce, id| {
            let status = join(node.as_mut(), START, from, channel(id), nonce);
            (status.verdict, status.reason)
        };
        let pending = (Verdict::Pending, Reason::None);
        // Over all channels, pending ones too.
        assert_eq!(says("10.0.1.1:1", 1, "10.0.0.1#5"), pending);
        assert_eq!(says("10.0.1.1:2", 2, "10.0.0.1#6"), pending);
        assert_eq!(says("10.0.1.1:3", 3, "10.0.0.1#5"), FULL);
        assert_eq!(says("10.0.1.1:3", 3, "10.0.0.1#7"), FULL);
        assert_eq!(says("10.0.1.2:1", 4, "10.0.0.1#5"), pending);
        // Who is in may go on, and a new socket takes its own port's place.
        assert_eq!(says("10.0.1.1:1", 9, "10.0.0.1#5"), pending);
        // An IPv6 source is a /64.
        assert_eq!(says("[2001:db8::1]:1", 5, "10.0.0.1#5"), pending);
        assert_eq!(says("[2001:db8::2]:1", 6, "10.0.0.1#5"), pending);
        assert_eq!(says("[2001:db8::3]:1", 7, "10.0.0.1#5"), FULL);
        assert_eq!(says("[2001:db8:0:1::1]:1", 8, "10.0.0.1#5"), pending);
    }
}

#[test]
fn a_place_that_was_left_can_be_taken_again() {
    let settings = NodeSettings {
        entries_per_source: 1,
        ..NodeSettings::sender()
    };
    let mut node = sender(settings);
    let c = channel("10.0.0.1#5");
    join(&mut node, START, "10.0.1.1:1", c, 1);
    assert_eq!(
        join(&mut node, START, "10.0.1.1:2", c, 2).reason,
        Reason::Full
    );
    let leave = Request {
        want: Want::Leave { none_below: false },
        ..plain()
    };
    let mut out = Outbox::new();
    let from = "10.0.1.1:1".parse().unwrap();
    node.take(START, from, c.sender, &emit(c, 1, 3, leave), &mut out);
    assert_eq!(
        join(&mut node, START, "10.0.1.1:2", c, 2).reason,
        Reason::None
    );
    // And one whose time is over.
    node.poll(after(60_000), &mut out);
    let again = join(&mut node, after(60_000), "10.0.1.1:3", c, 3);
    assert_eq!(again.reason, Reason::None);
    assert_eq!(node.counters().refused_full, 1);
}

#[test]
fn a_channel_has_the_room_that_whoever_listens_gives_it_and_keeps_those_it_has() {
    let mut node = sender(NodeSettings::sender());
    let (one, other) = (channel("10.0.0.1#5"), channel("10.0.0.1#6"));
    let rooms = |of_one, of_all| [(Some(one.id), of_one), (None, of_all)].into();
    node.set_limits(rooms(2, 1), Some(3));
    let says = |node: &mut Sender, from, channel, nonce| {
        let status = join(node, START, from, channel, nonce);
        (status.verdict, status.reason)
    };
    let pending = (Verdict::Pending, Reason::None);
    assert_eq!(says(&mut node, "10.0.1.1:1", one, 1), pending);
    assert_eq!(says(&mut node, "10.0.1.2:1", one, 2), pending);
    assert_eq!(says(&mut node, "10.0.1.3:1", one, 3), FULL);
    assert_eq!(says(&mut node, "10.0.1.1:2", other, 4), pending);
    assert_eq!(says(&mut node, "10.0.1.1:3", other, 5), FULL);
    assert_eq!(node.counters().refused_full, 2);
    // More of one source than it may have.
    node.set_limits(rooms(4, 4), Some(3));
    assert_eq!(says(&mut node, "10.0.1.1:3", other, 5), pending);
    assert_eq!(says(&mut node, "10.0.1.1:4", other, 6), FULL);
    assert_eq!(says(&mut node, "10.0.1.3:1", one, 3), pending);
    // Less room than there is: nobody is turned out. An open channel keeps its room.
    node.open(START, one, 0);
    node.set_limits(rooms(1, 1), None);
    assert_eq!(says(&mut node, "10.0.1.4:1", one, 7).0, Verdict::Granted);
    assert_eq!(says(&mut node, "10.0.1.5:1", one, 8), FULL);
    assert_eq!(says(&mut node, "10.0.1.6:1", other, 9), FULL);
    let inside = |id| node.summary(START, id).unwrap().requesters.len();
    assert_eq!((inside(one.id), inside(other.id)), (4, 2));
}

#[test]
fn channels_have_a_limit_per_node_and_per_sender() {
    let settings = NodeSettings {
        channels: 3,
        channels_per_sender: 2,
        ..NodeSettings::relay()
    };
    let mut node = relay(settings);
    let mut says = |id, nonce| {
        let from = format!("10.0.1.1:{nonce}");
        let status = join(&mut node, START, &from, channel(id), nonce);
        (status.verdict, status.reason)
    };
    let pending = (Verdict::Pending, Reason::None);
    assert_eq!(says("10.0.0.1#1", 1), pending);
    assert_eq!(says("10.0.0.1#2", 2), pending);
    assert_eq!(says("10.0.0.1#3", 3), FULL, "of one sender");
    assert_eq!(says("10.0.0.2#3", 4), pending);
    assert_eq!(says("10.0.0.3#4", 5), FULL, "of the node");
    assert_eq!(says("10.0.0.1#1", 6), pending, "those that are there go on");
    assert_eq!(node.channels(), 3);
    assert_eq!(node.report(START).counters.refused_full, 2);
    let settings = NodeSettings {
        channels: 1,
        ..NodeSettings::sender()
    };
    let mut node = sender(settings);
    assert_eq!(
        join(&mut node, START, "10.0.1.1:1", channel("10.0.0.1#1"), 1).verdict,
        Verdict::Pending
    );
    let status = join(&mut node, START, "10.0.1.1:2", channel("10.0.0.1#2"), 2);
    assert_eq!((status.verdict, status.reason), FULL);
}

#[test]
fn challenges_have_a_budget_and_above_it_there_is_silence() {
    let settings = NodeSettings {
        challenges_per_second: 10,
        ..NodeSettings::sender()
    };
    let mut node = sender(settings);
    let c = channel("10.0.0.1#5");
    let count = |node: &mut Sender, now| {
        let mut out = Outbox::new();
        for port in 1..=100 {
            let from = SocketAddr::from(([10, 0, 1, 1], port));
            node.take(
                now,
                from,
                c.sender,
                &emit(c, u64::from(port), 1, plain()),
                &mut out,
            );
        }
        out.len()
    };
    assert_eq!(count(&mut node, START), 10);
    assert_eq!(count(&mut node, START), 0);
    assert_eq!(count(&mut node, after(500)), 5);
    assert_eq!(count(&mut node, after(60_000)), 10, "no more is saved up");
    assert_eq!(node.counters().silenced, 400 - 25);
    assert_eq!(node.counters().challenged, 25);
}

#[test]
fn an_unvalidated_farewell_of_nobody_known_meets_silence() {
    let mut nodes: [Box<dyn Asked>; 2] = [
        Box::new(sender(NodeSettings::sender())),
        Box::new(relay(NodeSettings::relay())),
    ];
    let c = channel("10.0.0.1#5");
    for node in &mut nodes {
        let mut out = Outbox::new();
        for want in [Want::Leave { none_below: true }, Want::Until(Sequence(4))] {
            for parent in [NodeId::NONE, NodeId(999)] {
                let farewell = Request {
                    want,
                    parent,
                    ..plain()
                };
                let from = "10.0.1.1:1".parse().unwrap();
                node.take(START, from, c.sender, &emit(c, 1, 1, farewell), &mut out);
            }
        }
        assert!(out.is_empty());
    }
}

#[test]
fn a_pending_channel_without_audience_is_forgotten_after_exactly_ten_minutes() {
    let mut node = sender(NodeSettings::sender());
    let c = channel("10.0.0.1#5");
    assert_eq!(
        join(&mut node, START, "10.0.1.1:1", c, 1).verdict,
        Verdict::Pending
    );
    let mut out = Outbox::new();
    node.open(START, channel("10.0.0.1#6"), 6000);
    node.poll(after(60_000), &mut out);
    assert_eq!(node.summaries(after(60_000)).len(), 2, "empty, and kept");
    node.poll(Time(after(600_000).0 - 1), &mut out);
    assert_eq!(node.summaries(START).len(), 2);
    assert_eq!(node.next_time(), after(600_000));
    node.poll(after(600_000), &mut out);
    let left = node.summaries(START);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].channel.id.get(), 6, "an open channel stays");
}

#[test]
fn pendings_are_granted_with_the_opening_and_told_who_sends() {
    let mut node = sender(NodeSettings::sender());
    let c = channel("10.0.0.1#5");
    join(&mut node, START, "10.0.1.1:1", c, 1);
    let token = node.open(after(5_000), c, 4321);
    assert_eq!(
        node.open(after(5_001), c, 4321),
        token,
        "once open, it is open"
    );
    let mut out = Outbox::new();
    node.poll(after(5_001), &mut out);
    let (_, bytes) = out.iter().next().expect("told at once");
    let Body::Status(status) = Control::parse(bytes).unwrap().body else {
        panic!("no status");
    };
    assert_eq!(
        (status.verdict, status.token),
        (Verdict::Granted, Some(token))
    );
    assert_eq!(
        (status.app_port, status.path.nodes()),
        (4321, &[node.node()][..])
    );
    let first = node.stamp(after(5_002), c.id, Kind::Data).unwrap();
    let second = node.stamp(after(5_002), c.id, Kind::End).unwrap();
    assert_eq!(
        (first.token, second.sequence),
        (token.0, first.sequence.next())
    );
    node.end(after(6_000), c.id);
    assert!(!node.is_open(c.id));
    assert_ne!(node.open(after(7_000), c, 4321), token, "a new incarnation");
}

#[test]
fn what_one_process_validated_another_serves() {
    let mut owner = sender(NodeSettings::sender());
    let c = channel("10.0.0.1#5");
    join(&mut owner, START, "10.0.1.1:1", c, 1);
    join(&mut owner, START, "10.0.1.1:2", c, 2);
    let records = owner.hand_out(c.id);
    assert_eq!(records.len(), 2);
    assert!(owner.summaries(START).is_empty() && owner.hand_out(c.id).is_empty());
    let mut other = sender(NodeSettings::sender());
    let mut out = Outbox::new();
    let token = other.open(START, c, 5000);
    other.hand_in(START, c, &records, &mut out);
    assert_eq!(other.receivers(c.id), 2);
    assert_eq!(other.fan(c.id).unwrap().len(), 2);
    other.poll(START, &mut out);
    assert_eq!(out.len(), 2);
    for (_, bytes) in out.iter() {
        let Body::Status(status) = Control::parse(bytes).unwrap().body else {
            panic!("no status");
        };
        assert_eq!(
            (status.verdict, status.token),
            (Verdict::Granted, Some(token))
        );
    }
}
