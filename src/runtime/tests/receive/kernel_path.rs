//! What the kernel path alone promises: C beside D, the filter on the right socket,
//! nothing of ours on the way of the stream.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use flexcast_runtime::receive::{inherited, Path, PathInUse, ReceivingSocket};
use flexcast_runtime::{Errno, Untrailed};
use flexcast_udp::{sockopt, Family};

use crate::room::{asking, settings, until, Room, WAYS};

#[test]
fn requests_leave_from_ds_own_port() {
    for way in WAYS {
        let room = Room::new(way, Path::Auto, Untrailed::Drop);
        let channel = room.granted(1);
        assert_eq!(room.socket.report().path, PathInUse::Kernel);
        assert_eq!(room.node.requesters(channel), [room.d_at()]);
        assert_eq!(room.socket.report().channels[0].counts, None);
        assert_eq!(room.socket.report().drops, Some(0));
    }
}

#[test]
fn the_filter_never_lands_on_a_stranger_that_has_got_the_number() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    let channel = room.granted(1);
    let number = room.d.as_raw_fd();
    // D moves to a number that nobody told us; its old one becomes a stranger's.
    let moved = room.d.try_clone().unwrap();
    let Room { node, d, socket } = room;
    drop(d);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(stranger.as_raw_fd(), number, "the lowest free number");
    // A new filter, twice: a channel more, and another policy.
    let second = node.channel(2);
    node.open(second);
    socket.join(second, asking(&node)).unwrap();
    socket.set_untrailed(Untrailed::Pass);
    assert_eq!(sockopt::read_filter(number), Ok(None));
    assert!(sockopt::read_filter(moved.as_raw_fd()).unwrap().is_some());
    until("both", || node.receivers(second) == 1);
    moved.set_read_timeout(Some(crate::room::LIMIT)).unwrap();
    let mut buffer = [0; 64];
    for (channel, body) in [(channel, b"one"), (second, b"two")] {
        assert_eq!(node.send(channel, body), 1);
        assert_eq!(moved.recv(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], body);
    }
}

#[test]
fn a_successor_finds_in_the_filter_what_it_needs() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    assert_eq!(inherited(room.d.as_raw_fd()).unwrap().channels, []);
    let channel = room.granted(5000);
    room.socket.set_role(3);
    let token = room.node.open(channel);
    until("the token", || {
        let left = inherited(room.d.as_raw_fd()).unwrap();
        left.channels
            .first()
            .is_some_and(|c| c.token == Some(token))
    });
    let left = inherited(room.d.as_raw_fd()).unwrap();
    assert_eq!((left.role, left.fp), (3, room.node.fp()));
    assert_eq!(left.channels[0].channel, channel);
    assert_eq!(left.channels[0].asking, asking(&room.node));
    assert_eq!(left.channels[0].app_port, crate::node::APP_PORT);
    assert_ne!(left.nonce.0, 0);
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(inherited(plain.as_raw_fd()), None);
}

#[test]
fn a_filter_of_the_programs_own_is_left_alone() {
    let room = Room::new(WAYS[0], Path::Auto, Untrailed::Pass);
    let d = UdpSocket::bind("127.0.0.1:0").unwrap();
    let theirs = flexcast_udp::filter::receiver(
        &[],
        Untrailed::Pass,
        flexcast_udp::filter::FilterWords {
            data_word: 0x0100_0001,
            control_word: 0x0200_0001,
            end_word: 0x0300_0001,
            magic_mask: 0x00FF_FFFF,
        },
        Family::V4,
        &[],
    );
    sockopt::attach_filter(d.as_raw_fd(), &theirs).unwrap();
    let kernel = settings(&room.node, Path::Kernel);
    assert_eq!(
        ReceivingSocket::adopt(d.as_raw_fd(), &kernel, Untrailed::Pass).err(),
        Some(Errno::EOPNOTSUPP)
    );
    let auto = settings(&room.node, Path::Auto);
    let socket = ReceivingSocket::adopt(d.as_raw_fd(), &auto, Untrailed::Pass).unwrap();
    assert_eq!(socket.report().path, PathInUse::User);
    assert_eq!(sockopt::reuse_port(d.as_raw_fd()), Ok(false));
    let channel = room.node.channel(1);
    room.node.open(channel);
    socket.join(channel, asking(&room.node)).unwrap();
    until("a grant", || room.node.receivers(channel) == 1);
    d.set_read_timeout(Some(crate::room::LIMIT)).unwrap();
    for body in [&b"whole"[..], b"", b"\x01\x00\x00\x01 theirs to judge"] {
        assert_eq!(room.node.send(channel, body), 1);
        let mut buffer = [0; 64];
        let (length, from) = d.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], body);
        assert_eq!(socket.source_of(from).port(), crate::node::APP_PORT);
    }
    assert_eq!(sockopt::read_filter(d.as_raw_fd()), Ok(Some(theirs)));
}

#[test]
fn who_shares_its_port_with_others_goes_through_user_space() {
    let room = Room::new(WAYS[0], Path::Auto, Untrailed::Pass);
    let made = || {
        let socket = flexcast_udp::UdpSocket::new(Family::V4).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket
    };
    let first = made();
    first.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let auto = settings(&room.node, Path::Auto);
    let alone = ReceivingSocket::adopt(first.as_raw(), &auto, Untrailed::Pass).unwrap();
    assert_eq!(alone.report().path, PathInUse::Kernel);
    let (one, other) = (made(), made());
    one.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    other.bind(one.local_addr().unwrap()).unwrap();
    let socket = ReceivingSocket::adopt(one.as_raw(), &auto, Untrailed::Pass).unwrap();
    assert_eq!(socket.report().path, PathInUse::User);
    assert_eq!(sockopt::reuse_port(one.as_raw()), Ok(true), "as it was");
}
