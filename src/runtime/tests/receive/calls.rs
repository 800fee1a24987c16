//! What a calling program is told through its own socket, whichever path the stream
//! takes: whom it hears, the end of the stream, a final refusal.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use flexcast_runtime::receive::Path;
use flexcast_runtime::Untrailed;
use flexcast_wire::{Channel, Verdict};

use crate::room::{asking, until, Room, WAYS};

const PORT: u16 = 5000;

/// Calls channel 5000 on every path and in every family.
fn each(mut test: impl FnMut(&Room, Channel)) {
    for path in [Path::Kernel, Path::User] {
        for way in WAYS {
            let room = Room::new(way, path, Untrailed::Drop);
            let channel = room.node.channel(u64::from(PORT));
            test(&room, channel);
        }
    }
}

fn peer(room: &Room) -> SocketAddr {
    SocketAddr::new(room.node.at.ip(), PORT)
}

fn call(room: &Room, channel: Channel) {
    let called = room.socket.call(channel, asking(&room.node), peer(room));
    called.unwrap();
}

fn verdict(room: &Room) -> Option<Verdict> {
    room.socket.report().channels[0].verdict.map(|v| v.0)
}

#[test]
fn the_stream_and_its_one_end_are_the_peers() {
    each(|room, channel| {
        let shown = |from: SocketAddr| (from.ip().to_canonical(), from.port());
        room.node.open(channel);
        call(room, channel);
        room.await_grant(channel);
        assert_eq!(room.node.send(channel, b"word"), 1);
        let (body, from) = room.recv();
        assert_eq!((body, shown(from)), (b"word".to_vec(), shown(peer(room))));
        room.node.end(channel);
        let began = Instant::now();
        let (body, from) = room.recv();
        assert_eq!((body, shown(from)), (Vec::new(), shown(peer(room))));
        let waited = began.elapsed();
        assert!(waited > Duration::from_millis(190), "{waited:?}");
        assert!(waited < Duration::from_millis(1_200), "{waited:?}");
        assert!(room.is_quiet());
        // It goes on asking, and the next stream has an end of its own.
        room.node.open(channel);
        until("the next", || room.node.receivers(channel) == 1);
        room.passes(channel, b"next");
        until("granted", || verdict(room) == Some(Verdict::Granted));
        room.node.end(channel);
        assert_eq!(room.recv().0, b"");
        assert!(room.is_quiet());
    });
}

#[test]
fn a_stream_that_was_over_before_the_call_is_no_end() {
    each(|room, channel| {
        room.node.open(channel);
        room.node.end(channel);
        call(room, channel);
        until("pending", || verdict(room) == Some(Verdict::Pending));
        std::thread::sleep(Duration::from_millis(300));
        assert!(room.is_quiet());
        room.node.open(channel);
        until("granted", || verdict(room) == Some(Verdict::Granted));
        room.passes(channel, b"and then it begins");
    });
}

#[test]
fn an_end_that_another_stream_follows_at_once_comes_before_it() {
    each(|room, channel| {
        room.node.open(channel);
        call(room, channel);
        room.await_grant(channel);
        room.node.end(channel);
        until("ended", || verdict(room) == Some(Verdict::Ended));
        room.node.open_with(channel, b"perhaps lost");
        until("granted", || verdict(room) == Some(Verdict::Granted));
        assert_eq!(room.recv().0, b"");
        until("the next stream", || {
            room.node.send(channel, b"on") == 1 && !room.is_quiet()
        });
        while !room.is_quiet() {
            let heard = room.recv().0;
            assert!(heard == b"perhaps lost" || heard == b"on", "{heard:?}");
        }
    });
}

#[test]
fn of_several_senders_of_one_address_the_last_ones_end_is_the_end() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    let channels = [1, 2].map(|id| room.node.channel(id));
    for channel in channels {
        room.node.open(channel);
        call(&room, channel);
        room.await_grant(channel);
    }
    room.node.end(channels[0]);
    until("ended", || verdict(&room) == Some(Verdict::Ended));
    std::thread::sleep(Duration::from_millis(300));
    assert!(room.is_quiet());
    room.passes(channels[1], b"the other");
    room.node.end(channels[1]);
    assert_eq!(room.recv().0, b"");
    std::thread::sleep(Duration::from_millis(300));
    assert!(room.is_quiet());
}

#[test]
fn a_final_refusal_is_told_once_to_who_calls_and_not_to_who_joins() {
    each(|room, channel| {
        room.node.refuse(channel);
        call(room, channel);
        let told = room.d.recv(&mut [0; 9]).unwrap_err();
        assert_eq!(told.kind(), ErrorKind::ConnectionRefused);
        // Whoever wakes at once may still find the error queue in use.
        until("it is told once", || room.is_quiet());
        room.socket.leave(&channel).unwrap();
        let other = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
        let channel = other.node.channel(7);
        other.node.refuse(channel);
        other.join(channel);
        until("refused", || verdict(&other) == Some(Verdict::RefusedFinal));
        assert!(other.is_quiet());
    });
}
