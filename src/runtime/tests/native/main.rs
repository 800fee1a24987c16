//! The native receiver over loopback, fed by a node of the test's own: what it
//! delivers, drops, counts and tells, and that it leaves.

mod node;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use flexcast_runtime::native::{Counts, Event, Receiver, ReceiverSettings};
use flexcast_runtime::Errno;
use flexcast_udp::{send_one, Class, Family, UdpSocket};
use flexcast_wire::{Channel, ChannelId, Kind, Reason, Sequence, Trailer, Verdict};

use node::Node;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));
const GRANTED: Event<'static> = Event::Verdict(Verdict::Granted, Reason::None);

fn channel(sender: IpAddr) -> Channel {
    Channel::new(sender, ChannelId::new(77).unwrap())
}

fn settings(node: &Node) -> ReceiverSettings {
    let address = node.address;
    ReceiverSettings::new(channel(address.ip()), address.port())
}

/// A receiver that is granted, and its node.
fn granted(address: IpAddr) -> (Node, Receiver) {
    let node = Node::at(address);
    node.open(channel(address));
    let mut receiver = Receiver::open(settings(&node)).unwrap();
    assert_eq!(receiver.next(PATIENCE), GRANTED);
    (node, receiver)
}

/// Datagrams until something else comes, which is given too.
fn drain(receiver: &mut Receiver) -> (Vec<Vec<u8>>, Option<Verdict>, bool) {
    let mut datagrams = Vec::new();
    let mut verdict = None;
    loop {
        match receiver.next(PATIENCE) {
            Event::Datagram(bytes) => datagrams.push(bytes.to_vec()),
            Event::Verdict(told, _) => verdict = Some(told),
            Event::Ended => return (datagrams, verdict, true),
            Event::TimedOut | Event::Unsent(_) => return (datagrams, verdict, false),
        }
    }
}

#[test]
fn a_receiver_before_its_sender_gets_the_stream_from_the_first_datagram_on() {
    for address in [V4, V6] {
        let node = Node::at(address);
        let channel = channel(address);
        let mut receiver = Receiver::open(settings(&node)).unwrap();
        let pending = Event::Verdict(Verdict::Pending, Reason::None);
        assert_eq!(receiver.next(PATIENCE), pending);
        node.open(channel);
        let sent: Vec<Vec<u8>> = (0..100).map(|n| vec![n; usize::from(n)]).collect();
        for body in &sent {
            node.push(channel, body);
        }
        node.end(channel);
        let (datagrams, _, ended) = drain(&mut receiver);
        assert_eq!((datagrams.len(), ended), (100, true), "{address}");
        assert_eq!(datagrams, sent, "empty ones too");
        let expected = Counts {
            datagrams: 100,
            bytes: 4950,
            ..Counts::default()
        };
        assert_eq!(receiver.counts(), expected);
    }
}

#[test]
fn runs_that_offload_has_joined_are_taken_apart() {
    for address in [V4, V6] {
        let (node, mut receiver) = granted(address);
        let mut sent: Vec<Vec<u8>> = (0..40).map(|n| vec![n; 1316]).collect();
        sent.push(vec![99; 7]);
        node.push_run(channel(address), &sent);
        node.end(channel(address));
        let (datagrams, _, ended) = drain(&mut receiver);
        assert!(ended && datagrams == sent, "{} came", datagrams.len());
    }
}

#[test]
fn what_is_missing_and_what_comes_twice_is_counted() {
    let (node, mut receiver) = granted(V4);
    let channel = channel(V4);
    for n in 0..10_u8 {
        let trailer = node.stamp(channel, Kind::Data);
        match n {
            3 | 4 | 9 => {}
            7 => {
                node.send(channel, &[n], &trailer);
                node.send(channel, &[n], &trailer);
            }
            _ => node.send(channel, &[n], &trailer),
        }
    }
    node.end(channel);
    let (datagrams, _, ended) = drain(&mut receiver);
    assert_eq!(datagrams, [[0], [1], [2], [5], [6], [7], [8]]);
    assert!(ended);
    let expected = Counts {
        datagrams: 7,
        bytes: 7,
        lost: 3,
        duplicates: 1,
        foreign: 0,
    };
    assert_eq!(receiver.counts(), expected);
}

#[test]
fn an_end_that_was_lost_is_told_by_the_status() {
    let (node, mut receiver) = granted(V4);
    node.push(channel(V4), b"last");
    node.end_by_status_alone(channel(V4));
    let (datagrams, verdict, ended) = drain(&mut receiver);
    assert_eq!(datagrams, [b"last"]);
    assert_eq!((verdict, ended), (Some(Verdict::Ended), true));
}

#[test]
fn a_sender_that_begins_anew_is_heard_again() {
    let (node, mut receiver) = granted(V4);
    let channel = channel(V4);
    node.push(channel, b"one");
    node.end(channel);
    let (datagrams, _, ended) = drain(&mut receiver);
    assert_eq!((datagrams, ended), (vec![b"one".to_vec()], true));
    node.open(channel);
    node.push(channel, b"two");
    node.end(channel);
    let (datagrams, _, ended) = drain(&mut receiver);
    assert_eq!((datagrams, ended), (vec![b"two".to_vec()], true));
    assert_eq!(receiver.counts().lost, 0, "tokens do not mix");
}

#[test]
fn forged_datagrams_are_dropped_and_counted() {
    let (node, mut receiver) = granted(V4);
    let channel = channel(V4);
    let token = receiver.token().unwrap().0;
    let port = flexcast_udp::sockopt::local_addr(receiver.as_raw())
        .unwrap()
        .port();
    let to = SocketAddr::new(V4, port);
    let forge = |token, sequence| Trailer {
        token,
        sequence: Sequence(sequence),
        kind: Kind::Data,
    };
    // From elsewhere, with the right token; and with no trailer at all.
    let stranger = UdpSocket::new(Family::V4).unwrap();
    let parts: [&[u8]; 2] = [b"forged", &forge(token, 9).bytes()];
    send_one(&stranger, to, None, Class::Stream, &parts).unwrap();
    send_one(&stranger, to, None, Class::Stream, &[b"plain"]).unwrap();
    // From the sender's address, with the wrong token.
    node.send(channel, b"forged", &forge(token ^ 1, 9));
    node.push(channel, b"genuine");
    node.end(channel);
    let (datagrams, _, ended) = drain(&mut receiver);
    assert_eq!((datagrams, ended), (vec![b"genuine".to_vec()], true));
    assert_eq!(receiver.counts().foreign, 3);
}

#[test]
fn strict_receivers_take_the_stream_once_a_status_has_told_its_token() {
    let node = Node::at(V4);
    let asked = ReceiverSettings {
        strict: true,
        ..settings(&node)
    };
    let mut receiver = Receiver::open(asked).unwrap();
    let pending = Event::Verdict(Verdict::Pending, Reason::None);
    assert_eq!(receiver.next(PATIENCE), pending);
    node.open(channel(V4));
    assert_eq!(receiver.next(PATIENCE), GRANTED);
    node.push(channel(V4), b"told");
    assert_eq!(receiver.next(PATIENCE), Event::Datagram(b"told"));
}

#[test]
fn a_dropped_receiver_has_left() {
    let (node, receiver) = granted(V4);
    node.await_receivers(channel(V4), 1);
    let begun = Instant::now();
    drop(receiver);
    assert!(begun.elapsed() < Duration::from_millis(400));
    node.await_receivers(channel(V4), 0);
    // Nobody there who could answer: still bounded.
    let nowhere = UdpSocket::new(Family::V4).unwrap();
    nowhere.bind(SocketAddr::new(V4, 0)).unwrap();
    let port = nowhere.local_addr().unwrap().port();
    let receiver = Receiver::open(ReceiverSettings::new(channel(V4), port)).unwrap();
    let begun = Instant::now();
    drop(receiver);
    assert!(begun.elapsed() < Duration::from_millis(100));
}

#[test]
fn a_request_that_cannot_be_sent_is_told_once_and_tried_again() {
    // A broadcast address is refused to a socket without SO_BROADCAST.
    let nowhere = IpAddr::V4(Ipv4Addr::BROADCAST);
    let mut receiver = Receiver::open(ReceiverSettings::new(channel(nowhere), 9)).unwrap();
    assert_eq!(receiver.next(PATIENCE), Event::Unsent(Errno::EACCES));
    let before = receiver.next_time();
    let limit = Duration::from_millis(250);
    assert_eq!(receiver.next(Some(limit)), Event::TimedOut);
    assert!(receiver.next_time() > before, "asked again");
}

#[test]
fn an_empty_wait_takes_as_long_as_it_may() {
    let (_node, mut receiver) = granted(V4);
    assert_eq!(receiver.take(), None);
    let begun = Instant::now();
    let limit = Duration::from_millis(60);
    assert_eq!(receiver.next(Some(limit)), Event::TimedOut);
    assert!(begun.elapsed() >= limit && begun.elapsed() < limit * 4);
}
