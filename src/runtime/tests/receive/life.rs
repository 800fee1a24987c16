//! The end of receiving sockets: by hooks, behind their back, in other processes.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use flexcast_runtime::receive::{leave_all, Path};
use flexcast_runtime::Untrailed;

use crate::room::{alone, asking, until, Room, WAYS};

#[test]
fn a_closed_socket_has_left_and_its_port_is_free_at_once() {
    for path in [Path::Kernel, Path::User] {
        for way in WAYS {
            let room = Room::new(way, path, Untrailed::Pass);
            let channels = [room.granted(1), room.granted(2)];
            let Room { node, d, socket } = room;
            let at = d.local_addr().unwrap();
            drop(d);
            assert!(socket.closed());
            let again = UdpSocket::bind(at).unwrap();
            for channel in channels {
                until("the leave", || node.receivers(channel) == 0);
                assert_eq!(node.send(channel, b"nobody"), 0);
            }
            again
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            assert!(again.recv(&mut [0; 2048]).is_err(), "nothing of ours comes");
            assert!(socket.closed(), "and it stays so");
            assert!(socket.channels().is_empty());
        }
    }
}

#[test]
fn leaves_are_repeated_from_elsewhere_until_they_are_heard() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Pass);
    let channel = room.granted(1);
    let Room { node, d, socket } = room;
    node.lose(100);
    drop(d);
    assert!(socket.closed());
    until("the second leave", || node.leaves(channel) == 2);
    node.lose(0);
    until("it is heard", || node.receivers(channel) == 0);
    assert!(node.leaves(channel) <= 3);
}

#[test]
fn while_another_number_holds_it_there_is_no_leave() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Pass);
    let channel = room.granted(1);
    let twin = room.d.try_clone().unwrap();
    let Room { node, d, socket } = room;
    drop(d);
    assert!(!socket.closed());
    assert_eq!(node.send(channel, b"still"), 1);
    let mut buffer = [0; 16];
    assert_eq!(twin.recv(&mut buffer).unwrap(), 5);
    assert_eq!(node.leaves(channel), 0);
    drop(twin);
    assert!(socket.closed());
    until("the leave", || node.receivers(channel) == 0);
}

#[test]
fn a_socket_that_goes_behind_our_back_is_noticed() {
    for path in [Path::Kernel, Path::User] {
        let room = Room::new(WAYS[0], path, Untrailed::Pass);
        let channel = room.granted(1);
        let Room { node, d, socket } = room;
        let at = d.local_addr().unwrap();
        drop(d);
        let began = Instant::now();
        until("the leave", || node.receivers(channel) == 0);
        assert!(began.elapsed() < Duration::from_secs(4));
        until("the port is free", || UdpSocket::bind(at).is_ok());
        assert!(socket.closed());
    }
}

#[test]
fn under_stream_it_is_noticed_at_once() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Pass);
    let channel = room.granted(1);
    let Room { node, d, .. } = room;
    // After the last look, the next would be 2 s away.
    std::thread::sleep(Duration::from_millis(300));
    drop(d);
    let began = Instant::now();
    until("the leave", || node.send(channel, b"to nobody") == 0);
    assert!(began.elapsed() < Duration::from_millis(700));
}

#[test]
fn at_exit_every_socket_says_that_it_leaves() {
    if !alone("life::at_exit_every_socket_says_that_it_leaves") {
        return;
    }
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Pass);
    let second = Room::new(WAYS[0], Path::User, Untrailed::Pass);
    let channels = [room.granted(1), second.granted(1)];
    let began = Instant::now();
    leave_all();
    assert!(began.elapsed() < Duration::from_millis(50));
    until("both have left", || {
        room.node.receivers(channels[0]) + second.node.receivers(channels[1]) == 0
    });
}

#[test]
fn a_leave_and_a_join_in_one_breath_leave_the_stream_on() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Pass);
    let channel = room.granted(1);
    room.socket.leave(&channel).unwrap();
    room.socket.join(channel, asking(&room.node)).unwrap();
    until("it is back", || room.node.send(channel, b"x") == 1);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(room.node.receivers(channel), 1);
    assert!(room.d.as_raw_fd() >= 0);
}
