//! What a program sees, whichever path the stream takes.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use flexcast_runtime::receive::{Asking, Path, ReceivingSocket};
use flexcast_runtime::{Errno, Untrailed};
use flexcast_wire::{Kind, Verdict};

use crate::node::{data, trailed, Node, APP_PORT};
use crate::room::{asking, settings, until, Room, WAYS};

const PATHS: [Path; 2] = [Path::Kernel, Path::User];

fn each(mut test: impl FnMut(Room)) {
    for path in PATHS {
        for way in WAYS {
            test(Room::new(way, path, Untrailed::Pass));
        }
    }
}

#[test]
fn a_granted_stream_arrives_without_its_trailer() {
    each(|room| {
        let channel = room.granted(5000);
        for length in [0, 1, 15, 16, 17, 1_316, 1_500, 9_000, 65_491] {
            let body: Vec<u8> = (0..length)
                .map(|n| u8::try_from(n % 251).unwrap())
                .collect();
            assert_eq!(room.node.send(channel, &body), 1);
            let (got, from) = room.recv();
            assert_eq!(got.len(), body.len());
            assert_eq!(got, body);
            assert_eq!(from.ip().to_canonical(), room.node.at.ip());
            assert_eq!(from.port(), APP_PORT);
        }
        let longest = if room.node.at.is_ipv4() {
            65_491
        } else {
            65_511
        };
        room.passes(channel, &vec![9; longest]);
        assert!(room.is_quiet());
    });
}

#[test]
fn a_receiver_that_was_first_gets_the_first_datagram() {
    each(|room| {
        let channel = room.node.channel(7);
        room.join(channel);
        until("pending", || {
            let report = room.socket.report();
            report.channels[0].verdict.map(|v| v.0) == Some(Verdict::Pending)
        });
        room.node.open(channel);
        room.passes(channel, b"the very first");
        assert!(room.is_quiet());
    });
}

#[test]
fn nothing_forged_wakes_a_reader() {
    each(|room| {
        let channel = room.granted(5000);
        let stranger = UdpSocket::bind(SocketAddr::new(room.node.at.ip(), 0)).unwrap();
        let to = room.node.requesters(channel)[0];
        for kind in [Kind::Data, Kind::Control, Kind::End] {
            room.node.say(to, &trailed(b"wrong token", 77, kind));
            stranger
                .send_to(&trailed(b"wrong source", 77, kind), to)
                .unwrap();
            stranger
                .send_to(&trailed(b"wrong source", 77, kind), room.d_at())
                .unwrap();
        }
        assert!(room.is_quiet());
        room.passes(channel, b"right");
        assert!(room.is_quiet());
    });
}

#[test]
fn untrailed_datagrams_fare_as_told() {
    each(|room| {
        let stranger = UdpSocket::bind(SocketAddr::new(room.node.at.ip(), 0)).unwrap();
        let from = stranger.local_addr().unwrap();
        let say = |body: &[u8]| stranger.send_to(body, room.d_at()).unwrap();
        let channel = room.granted(5000);
        say(b"plain");
        let (body, seen) = room.recv();
        assert_eq!(body, b"plain");
        assert_eq!(seen.port(), from.port());
        room.socket.set_untrailed(Untrailed::Drop);
        say(b"plain");
        assert!(room.is_quiet());
        room.socket.set_untrailed(Untrailed::OnlyFrom(from));
        say(b"again");
        assert_eq!(room.recv().0, b"again");
        room.node.say(room.d_at(), b"of another");
        assert!(room.is_quiet());
        room.passes(channel, b"stream");
    });
}

#[test]
fn several_channels_of_one_socket_arrive_together_and_leave_alone() {
    for path in PATHS {
        let room = Room::new(WAYS[0], path, Untrailed::Drop);
        let other = Node::new("127.0.0.2");
        let first = room.granted(1);
        let second = room.granted(2);
        let third = other.channel(3);
        other.open_from(third, 777);
        room.socket.join(third, asking(&other)).unwrap();
        until("the third", || other.send(third, b"3") == 1);
        assert_eq!(
            room.recv(),
            (b"3".to_vec(), "127.0.0.2:777".parse().unwrap())
        );
        while !room.is_quiet() {
            assert_eq!(room.recv().0, b"3");
        }
        assert_eq!(room.socket.channels(), [first, second, third]);
        assert_eq!(
            room.socket.join(second, asking(&room.node)),
            Err(Errno::EADDRINUSE)
        );
        room.socket.leave(&first).unwrap();
        assert_eq!(room.socket.leave(&first), Err(Errno::EADDRNOTAVAIL));
        until("the leave", || room.node.receivers(first) == 0);
        assert_eq!(room.node.send(first, b"1"), 0);
        room.passes(second, b"2");
        assert_eq!(other.send(third, b"33"), 1);
        assert_eq!(room.recv().0, b"33");
        room.join(first);
        room.await_grant(first);
        room.passes(first, b"back");
    }
}

#[test]
fn a_datagram_of_a_channel_just_left_is_not_delivered() {
    for path in PATHS {
        let room = Room::new(WAYS[0], path, Untrailed::Pass);
        let channel = room.granted(1);
        let keep = room.granted(2);
        let to = room.node.requesters(channel)[0];
        let token = room.node.open(channel).0;
        room.socket.leave(&channel).unwrap();
        room.node.say(to, &data(b"late", token));
        room.passes(keep, b"right");
        assert!(room.is_quiet());
    }
}

#[test]
fn sixty_four_channels_are_the_most() {
    for path in PATHS {
        let room = Room::new(WAYS[0], path, Untrailed::Pass);
        for id in 1..=64 {
            room.join(room.node.channel(id));
        }
        assert_eq!(
            room.socket.join(room.node.channel(65), asking(&room.node)),
            Err(Errno::ENOBUFS)
        );
        room.socket.leave(&room.node.channel(3)).unwrap();
        room.join(room.node.channel(65));
        let last = room.node.channel(65);
        room.node.open(last);
        room.await_grant(last);
        room.passes(last, b"last");
    }
}

#[test]
fn connect_narrows_to_one_source() {
    for path in PATHS {
        let room = Room::new(WAYS[0], path, Untrailed::Pass);
        let other = Node::new("127.0.0.2");
        let mine = room.granted(1);
        let theirs = other.channel(2);
        other.open_from(theirs, 777);
        room.socket.join(theirs, asking(&other)).unwrap();
        until("their grant", || {
            room.socket.report().channels[1].token_known
        });
        let only = |address: &str| room.socket.only_from(Some(address.parse().unwrap()));
        for (source, hears_mine, hears_theirs) in [
            ("127.0.0.1:41000", true, false),
            ("127.0.0.1:0", true, false),
            (&room.node.at.to_string(), true, false),
            ("127.0.0.1:41001", false, false),
            ("127.0.0.2:777", false, true),
            ("[::ffff:127.0.0.2]:777", false, true),
        ] {
            only(source);
            assert_eq!(room.node.send(mine, b"mine"), 1);
            if hears_mine {
                assert_eq!(room.recv().0, b"mine", "{source}");
            }
            assert_eq!(other.send(theirs, b"theirs"), 1);
            if hears_theirs {
                assert_eq!(room.recv().0, b"theirs", "{source}");
            }
            let stranger = UdpSocket::bind("127.0.0.3:0").unwrap();
            stranger.send_to(b"stranger", room.d_at()).unwrap();
            assert!(room.is_quiet(), "{source}");
        }
        let stranger = UdpSocket::bind("127.0.0.3:0").unwrap();
        only(&stranger.local_addr().unwrap().to_string());
        stranger.send_to(b"answer", room.d_at()).unwrap();
        assert_eq!(room.recv().0, b"answer");
        room.socket.only_from(None);
        room.passes(mine, b"all again");
        assert_eq!(other.send(theirs, b"theirs too"), 1);
        assert_eq!(room.recv().0, b"theirs too");
    }
}

#[test]
fn the_first_datagram_shows_its_senders_port_to_who_catches_up() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    assert!(!room.socket.is_unsettled(), "nothing is asked for");
    for id in 1..=100 {
        let channel = room.node.channel(id);
        room.join(channel);
        assert!(room.socket.is_unsettled());
        until("a pending entry", || room.node.receivers(channel) == 1);
        room.node.open_with(channel, b"first");
        let mut buffer = [0; 8];
        let (_, from) = room.d.recv_from(&mut buffer).unwrap();
        room.socket.catch_up();
        let shown = room.socket.source_of(from);
        assert_eq!(shown.port(), crate::node::APP_PORT, "channel {id}");
        assert!(!room.socket.is_unsettled());
        room.socket.leave(&channel).unwrap();
    }
}

#[test]
fn a_sender_that_restarts_is_followed() {
    for path in PATHS {
        let room = Room::new(WAYS[0], path, Untrailed::Pass);
        let channel = room.granted(5000);
        room.passes(channel, b"before");
        let old = room.node.open(channel);
        room.node.restart();
        let new = room.node.open(channel);
        assert_ne!(old, new);
        until("the new token", || {
            room.node.send(channel, b"after") == 1 && !room.is_quiet()
        });
        assert_eq!(room.recv().0, b"after");
        while !room.is_quiet() {
            assert_eq!(room.recv().0, b"after");
        }
        room.node
            .say(room.node.requesters(channel)[0], &data(b"old", old.0));
        room.passes(channel, b"and on");
    }
}

#[test]
fn after_the_end_the_next_stream_is_taken() {
    for path in PATHS {
        let room = Room::new(WAYS[0], path, Untrailed::Drop);
        let channel = room.granted(5000);
        room.node.end(channel);
        until("ended", || {
            room.socket.report().channels[0].verdict.map(|v| v.0) == Some(Verdict::Ended)
        });
        assert!(!room.socket.report().channels[0].token_known);
        room.node.open(channel);
        room.passes(channel, b"the next one's first");
    }
}

#[test]
fn strict_takes_nothing_before_the_token_is_known() {
    for path in PATHS {
        for strict in [false, true] {
            let room = Room::new(WAYS[0], path, Untrailed::Drop);
            let channel = room.node.channel(1);
            let strictly = Asking {
                strict,
                ..asking(&room.node)
            };
            room.socket.join(channel, strictly).unwrap();
            until("pending", || room.node.requests() >= 2);
            until("an answer", || {
                room.socket.report().channels[0].verdict.is_some()
            });
            // To whoever asked: D's port, or the user path's own.
            let from = room.node.last_requester();
            room.node.say(from, &data(b"injected", 1234));
            if strict {
                assert!(room.is_quiet());
            } else {
                assert_eq!(room.recv().0, b"injected");
            }
            room.node.open(channel);
            room.await_grant(channel);
            room.node.say(from, &data(b"injected", 1234));
            room.passes(channel, b"granted");
        }
    }
}

#[test]
fn with_a_fifth_of_control_lost_both_ways_the_stream_is_granted() {
    for path in PATHS {
        for n in 0..10 {
            let room = Room::new(WAYS[0], path, Untrailed::Drop);
            room.node.lose(20);
            let channel = room.granted(1 + n);
            room.passes(channel, b"through");
        }
    }
}

#[test]
fn two_sockets_of_one_process_have_their_own_streams() {
    for path in PATHS {
        let room = Room::new(WAYS[0], path, Untrailed::Drop);
        let d = UdpSocket::bind("0.0.0.0:0").unwrap();
        let second =
            ReceivingSocket::adopt(d.as_raw_fd(), &settings(&room.node, path), Untrailed::Drop)
                .unwrap();
        let channel = room.granted(1);
        second.join(channel, asking(&room.node)).unwrap();
        until("two", || room.node.receivers(channel) == 2);
        assert_eq!(room.node.send(channel, b"both"), 2);
        assert_eq!(room.recv().0, b"both");
        let mut buffer = [0; 16];
        assert_eq!(d.recv(&mut buffer).unwrap(), 4);
        assert!(second.is(d.as_raw_fd()) && !second.is(room.d.as_raw_fd()));
        drop(d);
        assert!(second.closed());
        until("one", || room.node.receivers(channel) == 1);
        room.passes(channel, b"the first goes on");
    }
}

#[test]
fn a_filter_is_replaced_under_the_stream_and_nothing_is_lost() {
    const REPLACED: u64 = 300;
    for path in PATHS {
        let room = Room::new(WAYS[0], path, Untrailed::Drop);
        let channel = room.granted(1);
        let read = AtomicU32::new(0);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..REPLACED {
                    let odd = n % 2 == 1;
                    let untrailed = if odd {
                        Untrailed::Drop
                    } else {
                        Untrailed::Pass
                    };
                    room.socket.set_untrailed(untrailed);
                    let other = room.node.channel(2 + n % 7);
                    if room.socket.leave(&other).is_err() {
                        room.join(other);
                    }
                }
                over.store(true, Ordering::Relaxed);
            });
            scope.spawn(|| {
                for n in 0.. {
                    // The queue holds some 270 of these.
                    while n > read.load(Ordering::Relaxed) + 100 {
                        std::thread::yield_now();
                    }
                    let last = over.load(Ordering::Relaxed);
                    let body = if last {
                        vec![]
                    } else {
                        n.to_be_bytes().to_vec()
                    };
                    assert_eq!(room.node.send(channel, &body), 1);
                    if last {
                        break;
                    }
                }
            });
            for n in 0_u32.. {
                let (body, _) = room.recv();
                if body.is_empty() {
                    break;
                }
                assert_eq!(body, n.to_be_bytes());
                read.store(n, Ordering::Relaxed);
            }
        });
        assert!(read.into_inner() > 300);
        assert_eq!(room.socket.report().drops, Some(0));
    }
}
