//! What the kernel path alone promises: C beside D, the filter on the right socket,
//! nothing of ours on the way of the stream.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use flexcast_runtime::receive::{inherited, Path, PathInUse, ReceivingSocket};
use flexcast_runtime::{Errno, Untrailed};
use flexcast_udp::{sockopt, Family};

use crate::room::{alone, asking, settings, until, Room, WAYS};

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
    if !alone("kernel_path::the_filter_never_lands_on_a_stranger_that_has_got_the_number") {
        return;
    }
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

#[test]
fn who_could_bind_the_port_beside_it_still_can() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Pass);
    let beside = |first: bool, second: bool, adopted: bool| {
        let d = flexcast_udp::UdpSocket::new(Family::V4).unwrap();
        d.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        d.set_reuse_address(first).unwrap();
        let kernel = settings(&room.node, Path::Kernel);
        let socket =
            adopted.then(|| ReceivingSocket::adopt(d.as_raw(), &kernel, Untrailed::Pass).unwrap());
        let other = flexcast_udp::UdpSocket::new(Family::V4).unwrap();
        other.set_reuse_address(second).unwrap();
        let outcome = other.bind(d.local_addr().unwrap());
        drop(d);
        assert!(socket.is_none_or(|socket| socket.closed()));
        outcome
    };
    for (first, second) in [(false, false), (false, true), (true, false), (true, true)] {
        let without = beside(first, second, false);
        assert_eq!(without.is_ok(), first && second);
        assert_eq!(beside(first, second, true), without, "{first} {second}");
    }
}

#[test]
fn a_socket_bound_to_an_interface_has_its_control_there_too() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    let d = flexcast_udp::UdpSocket::new(Family::V4).unwrap();
    d.bind_to_device(b"lo").unwrap();
    d.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let kernel = settings(&room.node, Path::Kernel);
    let socket = ReceivingSocket::adopt(d.as_raw(), &kernel, Untrailed::Drop).unwrap();
    let channel = room.node.channel(1);
    room.node.open(channel);
    socket.join(channel, asking(&room.node)).unwrap();
    until("the stream", || room.node.send(channel, b"here") == 1);
    let mut buffer = [0; 16];
    let received = flexcast_udp::recv_one(&d, &mut buffer).unwrap();
    assert_eq!(received.payload, b"here");
    drop(d);
    assert!(socket.closed());
    until("the leave", || room.node.receivers(channel) == 0);

    let d = flexcast_udp::UdpSocket::new(Family::V4).unwrap();
    d.bind_to_device(b"lo").unwrap();
    d.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let user = settings(&room.node, Path::User);
    let refused = ReceivingSocket::adopt(d.as_raw(), &user, Untrailed::Drop);
    assert_eq!(refused.err(), Some(Errno::EOPNOTSUPP));
}

#[test]
fn a_socket_is_asked_for_no_stream_that_it_cannot_hear() {
    let room = Room::new(WAYS[0], Path::Auto, Untrailed::Drop);
    let auto = settings(&room.node, Path::Auto);
    let join = |d: &flexcast_udp::UdpSocket, at: &str| {
        let socket = ReceivingSocket::adopt(d.as_raw(), &auto, Untrailed::Drop).unwrap();
        let at: std::net::SocketAddr = at.parse().unwrap();
        let channel = format!("{}#1", at.ip()).parse().unwrap();
        let asking = flexcast_runtime::receive::Asking { at, strict: false };
        socket.join(channel, asking)
    };
    let (four, six) = ("127.0.0.1:9", "[::1]:9");
    for (at, v6_only, hears_four, hears_six) in [
        ("0.0.0.0:0", false, true, false),
        ("[::]:0", false, true, true),
        ("[::]:0", true, false, true),
        ("[::1]:0", false, false, true),
        ("[::ffff:127.0.0.1]:0", false, true, false),
    ] {
        let at: std::net::SocketAddr = at.parse().unwrap();
        for (sender, hears) in [(four, hears_four), (six, hears_six)] {
            let family = if at.is_ipv4() { Family::V4 } else { Family::V6 };
            let d = flexcast_udp::UdpSocket::new(family).unwrap();
            d.set_v6_only(v6_only).unwrap();
            d.bind(at).unwrap();
            let expected = if hears {
                Ok(())
            } else {
                Err(Errno::EAFNOSUPPORT)
            };
            assert_eq!(join(&d, sender), expected, "{at} {v6_only} {sender}");
        }
    }
}

#[test]
fn where_loopback_is_down_the_kernel_path_is_taken_all_the_same() {
    let name = "kernel_path::where_loopback_is_down_the_kernel_path_is_taken_all_the_same";
    let Some(_world) = flexcast_testbed::World::enter(name) else {
        return;
    };
    let down = std::process::Command::new("ip")
        .args(["link", "set", "lo", "down"])
        .status();
    assert!(down.unwrap().success());
    assert!(matches!(
        flexcast_udp::selftest::kernel_path(Family::V4),
        flexcast_udp::selftest::Probe::Unknown(_)
    ));
    for (family, at) in [(Family::V4, "0.0.0.0:0"), (Family::V6, "[::]:0")] {
        let d = flexcast_udp::UdpSocket::new(family).unwrap();
        d.bind(at.parse().unwrap()).unwrap();
        let settings = flexcast_runtime::receive::ReceiveSettings {
            fp: 7450,
            path: Path::Auto,
            requester: flexcast_runtime::RequesterSettings::default(),
        };
        let socket = ReceivingSocket::adopt(d.as_raw(), &settings, Untrailed::Pass).unwrap();
        assert_eq!(socket.report().path, PathInUse::Kernel);
        // Nobody can be asked yet; that is nobody's error.
        let channel = "192.0.2.1#1".parse().unwrap();
        let at = "192.0.2.1:7450".parse().unwrap();
        let asking = flexcast_runtime::receive::Asking { at, strict: false };
        socket.join(channel, asking).unwrap();
        drop(d);
        assert!(socket.closed());
    }
}

#[test]
fn a_socket_becomes_ours_once() {
    for path in [Path::Kernel, Path::User] {
        let room = Room::new(WAYS[0], path, Untrailed::Drop);
        let channel = room.granted(1);
        let twin = room.d.try_clone().unwrap();
        for other in [Path::Auto, Path::User] {
            let settings = settings(&room.node, other);
            let again = ReceivingSocket::adopt(twin.as_raw_fd(), &settings, Untrailed::Pass);
            assert_eq!(again.err(), Some(Errno::EALREADY));
        }
        room.passes(channel, b"as it was");
    }
}

#[test]
fn two_senders_of_one_host_are_told_apart_under_the_stream() {
    let room = Room::new(WAYS[0], Path::Auto, Untrailed::Drop);
    let one = room.granted(1);
    assert!(room.socket.tells_apart());
    let other = room.node.channel(2);
    room.node.open_from(other, 777);
    room.join(other);
    room.await_grant(other);
    until("it is noticed", || !room.socket.tells_apart());
    let send = |n: u32| assert_eq!(room.node.send(one, &n.to_be_bytes()), 1);
    let recv = || room.recv().0;
    for n in 0..50 {
        send(n);
    }
    room.socket.tell_apart().unwrap();
    assert!(room.socket.tells_apart());
    assert_eq!(room.socket.tell_apart(), Err(Errno::EALREADY));
    assert_eq!(room.socket.report().path, PathInUse::User);
    for n in 0..50 {
        assert_eq!(recv(), u32::to_be_bytes(n), "queued before");
    }
    // Until the node has moved both entries, and beyond.
    let moved = || {
        let at = |channel| room.node.requesters(channel) != [room.d_at()];
        at(one) && at(other)
    };
    let mut n = 50;
    let mut after = 0;
    while after < 200 {
        send(n);
        assert_eq!(recv(), n.to_be_bytes());
        n += 1;
        after += u32::from(moved());
    }
    for (channel, port) in [(one, crate::node::APP_PORT), (other, 777), (one, 41_000)] {
        assert_eq!(room.node.send(channel, b"x"), 1);
        assert_eq!(
            room.recv().1,
            std::net::SocketAddr::new(room.node.at.ip(), port)
        );
    }
    assert_eq!(room.node.receivers(one) + room.node.receivers(other), 2);
    // When the overlap is over, D takes nothing from S:FP itself any more.
    let token = room.node.open(one).0;
    let direct = crate::node::data(b"direct", token);
    room.node.say(room.d_at(), &direct);
    assert_eq!(recv(), b"direct");
    std::thread::sleep(std::time::Duration::from_millis(2_300));
    room.node.say(room.d_at(), &direct);
    room.passes(other, b"the other way");
    assert!(room.is_quiet());
    let Room { node, d, socket } = room;
    drop(d);
    assert!(socket.closed());
    until("both leave", || {
        node.receivers(one) + node.receivers(other) == 0
    });
}

#[test]
fn a_forced_kernel_path_stays() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    let channel = room.granted(1);
    assert_eq!(room.socket.tell_apart(), Err(Errno::EOPNOTSUPP));
    room.passes(channel, b"as it was");
}
