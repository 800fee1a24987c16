//! Batches on loopback: IPv4, IPv6 and IPv4 on an IPv6 socket.

use std::net::{IpAddr, SocketAddr};

use flexcast_testbed::World;

use super::*;
use crate::ancillary::records;
use crate::process::{poll, PollFd};
use crate::{canonical, sockopt, Errno, Family, FanOut, Target, UdpSocket};

const WAYS: [(Family, &str); 3] = [
    (Family::V4, "127.0.0.1"),
    (Family::V6, "::1"),
    (Family::V6, "127.0.0.1"),
];

fn bound(family: Family, address: IpAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::new(family).unwrap();
    socket.set_receive_buffer(1 << 20).unwrap();
    socket.bind(SocketAddr::new(address, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, SocketAddr::new(canonical(address), port))
}

fn wait(socket: &UdpSocket) {
    let mut fds = [PollFd::new(socket.as_raw(), PollFd::IN)];
    assert_eq!(poll(&mut fds, Some(1_000_000)), Ok(1));
}

#[test]
fn a_batch_tells_who_sent_what_to_which_address() {
    for (family, address) in WAYS {
        let address: IpAddr = address.parse().unwrap();
        let (receiver, at) = bound(family, family.any());
        let to = SocketAddr::new(address, at.port());
        receiver.set_packet_info(true).unwrap();
        let (sender, port) = bound(family, family.any());
        let mut out = SendBatch::new();
        let mut batch = ReceiveBatch::new(200, 2048);
        assert_eq!(batch.receive(&receiver), Ok(0));
        for round in 0..3_u8 {
            for n in 0..150 {
                out.push(to, Some(address), Class::Stream, &[round, n]);
            }
            let flushed = out.flush(&sender, &mut |_, errno| panic!("{errno}"));
            assert_eq!(
                flushed,
                Flushed {
                    sent: 150,
                    failed: 0,
                    blocked_at: None
                }
            );
            assert!(out.is_empty());
            wait(&receiver);
            assert_eq!(batch.receive(&receiver), Ok(150));
            for (n, received) in (0..).zip(batch.iter()) {
                assert_eq!(received.payload, [round, n]);
                assert_eq!(received.from, SocketAddr::new(address, port.port()));
                assert_eq!(received.to, Some(address));
                assert_ne!(received.interface, 0);
                assert!(!received.truncated && received.segment.is_none());
                assert_eq!(received.segments().count(), 1);
            }
        }
    }
}

#[test]
fn the_source_is_the_one_asked_for() {
    // All of 127/8 is ours; without packet info the kernel would say 127.0.0.1.
    let source: IpAddr = "127.9.8.7".parse().unwrap();
    for family in [Family::V4, Family::V6] {
        let (receiver, to) = bound(Family::V4, Family::V4.loopback());
        let (sender, _) = bound(family, family.any());
        send_one(&sender, to, Some(source), Class::Stream, &[b"one"]).unwrap();
        let mut out = SendBatch::new();
        out.push(to, Some(source), Class::Control, b"two");
        out.flush(&sender, &mut |_, errno| panic!("{errno}"));
        let targets = [Target {
            to,
            source: Some(source),
        }];
        let mut fan_out = FanOut::new();
        fan_out.send(&sender, &[b"three", b"four!"], &targets, &mut |_, errno| {
            panic!("{errno}")
        });
        let mut buffer = [0; 64];
        for expected in [&b"one"[..], b"two", b"three", b"four!"] {
            let received = recv_one(&receiver, &mut buffer).unwrap();
            assert_eq!((received.payload, received.from.ip()), (expected, source));
        }
    }
}

#[test]
fn a_transparent_socket_speaks_as_anybody() {
    let name = "batch::tests::a_transparent_socket_speaks_as_anybody";
    if World::enter(name).is_none() {
        return;
    }
    for (family, near, foreign) in [
        (Family::V4, "127.0.0.1", "10.77.0.1"),
        (Family::V6, "127.0.0.1", "10.77.0.1"),
        (Family::V6, "::1", "fd77::1"),
    ] {
        let (near, foreign): (IpAddr, IpAddr) = (near.parse().unwrap(), foreign.parse().unwrap());
        let (receiver, to) = bound(Family::of(near), near);
        let (sender, port) = bound(family, family.any());
        let say = || send_one(&sender, to, Some(foreign), Class::Stream, &[b"hello"]);
        assert!(say().is_err(), "{near}: a foreign source needs the option");
        sender.set_transparent(true).unwrap();
        assert_eq!(say(), Ok(5), "{near}");
        wait(&receiver);
        let mut buffer = [0; 16];
        let heard = recv_one(&receiver, &mut buffer).unwrap();
        assert_eq!(heard.from, SocketAddr::new(foreign, port.port()));
        // And it can be bound to an address that is not ours.
        let elsewhere = UdpSocket::new(family).unwrap();
        elsewhere.set_transparent(true).unwrap();
        assert_eq!(elsewhere.bind(SocketAddr::new(foreign, 7450)), Ok(()));
    }
}

#[test]
fn stream_and_control_differ_in_ttl_and_traffic_class() {
    for (family, address) in WAYS {
        let (receiver, to) = bound(
            Family::of(address.parse().unwrap()),
            address.parse().unwrap(),
        );
        let set = |level, name| sockopt::set_u32(receiver.as_raw(), level, name, 1).unwrap();
        if to.is_ipv4() {
            set(libc::SOL_IP, libc::IP_RECVTTL);
            set(libc::SOL_IP, libc::IP_RECVTOS);
        } else {
            set(libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT);
            set(libc::SOL_IPV6, libc::IPV6_RECVTCLASS);
        }
        let (sender, _) = bound(family, family.any());
        let mut out = SendBatch::new();
        for (class, ttl, tos) in [(Class::Stream, 64, 0), (Class::Control, 63, 0xC0)] {
            out.push(to, None, class, b"batch");
            out.flush(&sender, &mut |_, errno| panic!("{errno}"));
            send_one(&sender, to, None, class, &[b"si", b"", b"ngle"]).unwrap();
            for expected in [&b"batch"[..], b"single"] {
                let (payload, control) = receive::tests_raw(&receiver);
                assert_eq!(payload, expected);
                let values: Vec<u8> = records(&control).map(|record| record.data[0]).collect();
                assert_eq!(values.len(), 2);
                assert!(values.contains(&ttl) && values.contains(&tos), "{values:?}");
            }
        }
    }
}

#[test]
fn one_destinations_error_is_its_own() {
    for (family, address) in WAYS {
        let (receiver, to) = bound(
            Family::of(address.parse().unwrap()),
            address.parse().unwrap(),
        );
        let (sender, _) = bound(family, family.any());
        // Port 0 is EINVAL, an address of the other family cannot be written, and
        // nothing carries 65 600 bytes.
        let nowhere = SocketAddr::new(to.ip(), 0);
        let strange: IpAddr = if to.is_ipv4() { "::1" } else { "127.0.0.1" }
            .parse()
            .unwrap();
        let long = vec![0; 65_600];
        let mut out = SendBatch::new();
        out.push(nowhere, None, Class::Stream, b"bad");
        out.push(to, None, Class::Stream, b"good");
        out.push(to, Some(strange), Class::Stream, b"bad");
        out.push(to, None, Class::Stream, &long);
        out.push(to, None, Class::Stream, b"good");
        let mut troubles = Vec::new();
        let flushed = out.flush(&sender, &mut |index, errno| troubles.push((index, errno)));
        assert_eq!(
            flushed,
            Flushed {
                sent: 2,
                failed: 3,
                blocked_at: None
            }
        );
        let expected = [
            (0, Errno::EINVAL),
            (2, Errno::EAFNOSUPPORT),
            (3, Errno::EMSGSIZE),
        ];
        assert_eq!(troubles, expected);
        let mut batch = ReceiveBatch::new(8, 64);
        assert_eq!(batch.receive(&receiver), Ok(2));
        assert!(batch.iter().all(|received| received.payload == b"good"));
    }
}

#[test]
fn an_older_datagrams_refusal_does_not_stop_a_connected_sender() {
    let (receiver, to) = bound(Family::V4, Family::V4.loopback());
    let (closed, nobody) = bound(Family::V4, Family::V4.loopback());
    drop(closed);
    let (sender, _) = bound(Family::V4, Family::V4.loopback());
    sender.connect(nobody).unwrap();
    send_one(&sender, nobody, None, Class::Stream, &[b"refused by ICMP"]).unwrap();
    assert_eq!(
        send_one(&sender, to, None, Class::Stream, &[b"heard"]),
        Ok(5)
    );
    assert_eq!(
        recv_one(&receiver, &mut [0; 9]).map(|received| received.payload.len()),
        Ok(5)
    );
    assert_eq!(sender.take_error(), None);
}

#[test]
fn joined_datagrams_are_split_as_they_were_sent() {
    for (family, address) in WAYS {
        let address: IpAddr = address.parse().unwrap();
        let (receiver, to) = bound(Family::of(address), address);
        receiver.set_gro(true).unwrap();
        let (sender, _) = bound(family, family.any());
        let bodies: Vec<Vec<u8>> = (0..20_u8)
            .map(|n| vec![n; 700])
            .chain([vec![99; 3]])
            .collect();
        let datagrams: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
        let targets = [Target { to, source: None }];
        FanOut::new().send(&sender, &datagrams, &targets, &mut |_, errno| {
            panic!("{errno}")
        });
        let mut batch = ReceiveBatch::new(32, 65_535);
        wait(&receiver);
        assert_eq!(
            batch.receive(&receiver),
            Ok(1),
            "loopback carries a super-packet whole"
        );
        assert_eq!(batch.get(0).segment, Some(700));
        let split: Vec<&[u8]> = batch.get(0).segments().collect();
        assert_eq!(split, datagrams);
    }
}

#[test]
fn a_datagram_longer_than_its_slot_is_told_to_be_cut() {
    let (receiver, to) = bound(Family::V4, Family::V4.loopback());
    let mut batch = ReceiveBatch::new(4, 10);
    for length in [10, 11, 0] {
        send_one(&receiver, to, None, Class::Stream, &[&[1; 11][..length]]).unwrap();
    }
    assert_eq!(batch.receive(&receiver), Ok(3));
    let seen: Vec<_> = batch
        .iter()
        .map(|r| (r.payload.len(), r.truncated))
        .collect();
    assert_eq!(seen, [(10, false), (10, true), (0, false)]);
    assert_eq!(batch.get(2).segments().collect::<Vec<_>>(), [&[] as &[u8]]);
}

#[test]
fn more_parts_than_fit_are_refused() {
    let (socket, to) = bound(Family::V4, Family::V4.loopback());
    let send = |parts: &[&[u8]]| send_one(&socket, to, None, Class::Stream, parts);
    assert_eq!(send(&[b"a".as_slice(); MAX_PARTS]), Ok(MAX_PARTS));
    assert_eq!(send(&[b"a".as_slice(); MAX_PARTS + 1]), Err(Errno::EINVAL));
}
