//! Fan-outs in a live kernel: super-packets, fall-backs, order, blocked and resumed.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

use flexcast_testbed::World;

use super::*;
use crate::process::{poll, PollFd};
use crate::sandbox::answer_instead;
use crate::{canonical, Family, ReceiveBatch};

const WAYS: [(Family, &str); 3] = [
    (Family::V4, "127.0.0.1"),
    (Family::V6, "::1"),
    (Family::V6, "127.0.0.1"),
];

/// A socket that shows super-packets as they came.
struct Ear {
    socket: UdpSocket,
    at: Target,
    batch: ReceiveBatch,
}

impl Ear {
    fn new(address: &str) -> Ear {
        let address: IpAddr = address.parse().unwrap();
        let socket = UdpSocket::new(Family::of(address)).unwrap();
        socket.set_receive_buffer(4 << 20).unwrap();
        socket.set_gro(true).unwrap();
        socket.bind(SocketAddr::new(address, 0)).unwrap();
        let at = Target {
            to: socket.local_addr().unwrap(),
            source: None,
        };
        Ear {
            socket,
            at,
            batch: ReceiveBatch::new(1024, 65_535),
        }
    }

    /// The datagrams since the last call, and in how many kernel packets they came.
    fn heard(&mut self) -> (Vec<Vec<u8>>, usize) {
        let packets = self.batch.receive(&self.socket).unwrap();
        let segments = self.batch.iter().flat_map(|received| received.segments());
        (segments.map(<[u8]>::to_vec).collect(), packets)
    }
}

/// `count` datagrams of `size` bytes, each with its number in front.
fn numbered(count: u32, size: usize) -> Vec<Vec<u8>> {
    let one = |n: u32| [&n.to_be_bytes()[..], &vec![0; size - 4]].concat();
    (0..count).map(one).collect()
}

fn slices(datagrams: &[Vec<u8>]) -> Vec<&[u8]> {
    datagrams.iter().map(Vec::as_slice).collect()
}

fn sender(family: Family) -> UdpSocket {
    let socket = UdpSocket::new(family).unwrap();
    socket.set_send_buffer(1 << 20).unwrap();
    socket
}

fn no_trouble(target: usize, errno: Errno) {
    panic!("target {target}: {errno}");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

#[test]
fn each_target_gets_all_in_order_in_few_kernel_packets() {
    for (family, address) in WAYS {
        let mut ears: Vec<Ear> = (0..70).map(|_| Ear::new(address)).collect();
        let targets: Vec<Target> = ears.iter().map(|ear| ear.at).collect();
        let mut datagrams = numbered(100, 1316);
        datagrams.extend(numbered(3, 200));
        datagrams.push(Vec::new());
        datagrams.push(vec![9; 5000]);
        let mut fan_out = FanOut::new();
        let sent = fan_out.send(
            &sender(family),
            &slices(&datagrams),
            &targets,
            &mut no_trouble,
        );
        let expected = Flushed {
            sent: 105 * 70,
            ..Flushed::default()
        };
        assert_eq!(sent, expected);
        assert!(fan_out.segments());
        for ear in &mut ears {
            let (heard, packets) = ear.heard();
            assert!(heard == datagrams, "{address}: in order, none missing");
            // 44, 44, 12 and one shorter, 2, the empty one, the long one.
            assert_eq!(packets, 6, "{address}");
        }
    }
}

#[test]
fn without_offload_the_same_arrives_one_by_one() {
    for (family, address) in WAYS {
        let mut ear = Ear::new(address);
        let datagrams = numbered(100, 700);
        let mut fan_out = FanOut::plain();
        assert!(!fan_out.segments());
        let sent = fan_out.send(
            &sender(family),
            &slices(&datagrams),
            &[ear.at],
            &mut no_trouble,
        );
        assert_eq!(sent.sent, 100);
        assert_eq!(ear.heard(), (datagrams, 100), "{address}");
    }
}

#[test]
fn nothing_to_send_or_nobody_to_send_to_is_nothing() {
    let ear = Ear::new("127.0.0.1");
    let socket = sender(Family::V4);
    let mut fan_out = FanOut::new();
    for (datagrams, targets) in [(&[][..], &[ear.at][..]), (&[b"x".as_slice()], &[])] {
        let sent = fan_out.send(&socket, datagrams, targets, &mut no_trouble);
        assert_eq!(sent, Flushed::default());
    }
}

#[test]
fn a_datagram_that_no_packet_holds_fails_alone_for_each_target() {
    let mut ears = [Ear::new("127.0.0.1"), Ear::new("127.0.0.1")];
    let targets = [ears[0].at, ears[1].at];
    let mut datagrams = numbered(3, 1000);
    datagrams.insert(1, vec![7; 65_508]);
    let mut troubles = Vec::new();
    let mut fan_out = FanOut::new();
    let sent = fan_out.send(
        &sender(Family::V4),
        &slices(&datagrams),
        &targets,
        &mut |target, errno| troubles.push((target, errno)),
    );
    assert_eq!((sent.sent, sent.failed, sent.blocked_at), (6, 2, None));
    assert_eq!(troubles, [(0, Errno::EMSGSIZE), (1, Errno::EMSGSIZE)]);
    assert!(
        fan_out.segments(),
        "that was the datagram's, not the socket's"
    );
    datagrams.remove(1);
    assert!(ears.iter_mut().all(|ear| ear.heard().0 == datagrams));
}

#[test]
fn a_targets_error_stays_its_own() {
    let mut ears = [Ear::new("127.0.0.1"), Ear::new("127.0.0.1")];
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let wrong = Target {
        to: nowhere,
        source: None,
    };
    let foreign = Target {
        source: Some("::1".parse().unwrap()),
        ..ears[0].at
    };
    let targets = [wrong, ears[0].at, foreign, ears[1].at, wrong];
    let datagrams = numbered(5, 1400);
    let mut troubles = Vec::new();
    let sent = FanOut::new().send(
        &sender(Family::V4),
        &slices(&datagrams),
        &targets,
        &mut |target, errno| troubles.push((target, errno)),
    );
    assert_eq!((sent.sent, sent.failed), (10, 15));
    let count = |target, errno| {
        let wanted = (target, errno);
        troubles
            .iter()
            .filter(|trouble| **trouble == wanted)
            .count()
    };
    // EINVAL may have been about segments: tried one by one. A source of the other
    // family never was.
    assert_eq!(count(0, Errno::EINVAL), 5);
    assert_eq!(count(2, Errno::EAFNOSUPPORT), 1);
    assert_eq!(count(4, Errno::EINVAL), 5);
    assert_eq!(troubles.len(), 11);
    assert!(ears.iter_mut().all(|ear| ear.heard().0 == datagrams));
}

#[test]
fn above_one_targets_mtu_that_target_alone_gets_plain_sends() {
    let name = "fan_out::tests::above_one_targets_mtu_that_target_alone_gets_plain_sends";
    if World::enter(name).is_none() {
        return;
    }
    ip("route add local 10.9.9.9 dev lo mtu 1280");
    ip("-6 address add fd09::9/128 dev lo");
    ip("-6 route del local fd09::9 dev lo table local");
    ip("-6 route add local fd09::9 dev lo table local metric 1 mtu 1280");
    for (near, far) in [("127.0.0.1", "10.9.9.9"), ("::1", "fd09::9")] {
        let mut ears = [Ear::new(near), Ear::new(far), Ear::new(near)];
        let targets: Vec<Target> = ears.iter().map(|ear| ear.at).collect();
        let datagrams = numbered(60, 1400);
        let mut fan_out = FanOut::new();
        let socket = sender(Family::of(near.parse().unwrap()));
        for _ in 0..10 {
            let sent = fan_out.send(&socket, &slices(&datagrams), &targets, &mut no_trouble);
            assert_eq!(sent.sent, 180);
            assert!(fan_out.segments(), "{near}");
            let packets = ears.each_mut().map(|ear| {
                let (heard, packets) = ear.heard();
                assert!(heard == datagrams);
                packets
            });
            assert_eq!(packets, [2, 60, 2], "{near}");
        }
    }
}

#[test]
fn eio_is_the_sockets_and_remembered() {
    let test = thread::spawn(|| {
        // Three targets, one run: a call with three messages holds super-packets.
        // No plain call below has three.
        answer_instead(libc::SYS_sendmmsg, 2, 3, libc::EIO);
        let mut ears = [(); 3].map(|()| Ear::new("127.0.0.1"));
        let targets: Vec<Target> = ears.iter().map(|ear| ear.at).collect();
        let datagrams = numbered(44, 1000);
        let mut fan_out = FanOut::new();
        let socket = sender(Family::V4);
        for _ in 0..2 {
            let sent = fan_out.send(&socket, &slices(&datagrams), &targets, &mut no_trouble);
            assert_eq!((sent.sent, sent.failed), (132, 0));
            assert!(!fan_out.segments());
            for ear in &mut ears {
                let (heard, packets) = ear.heard();
                assert!(heard == datagrams && packets == 44);
            }
        }
    });
    test.join().unwrap();
}

/// Checksums off: UDP_SEGMENT then says EINVAL (`udp_send_skb`).
fn without_checksums(socket: &UdpSocket) {
    sockopt::set_u32(socket.as_raw(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
}

#[test]
fn a_socket_without_checksums_is_never_asked_to_segment() {
    let mut ear = Ear::new("127.0.0.1");
    let socket = sender(Family::V4);
    without_checksums(&socket);
    let mut fan_out = FanOut::new();
    let datagrams = numbered(10, 1400);
    fan_out.send(&socket, &slices(&datagrams), &[ear.at], &mut no_trouble);
    assert!(!fan_out.segments());
    assert_eq!(ear.heard(), (datagrams, 10));
}

#[test]
fn einval_is_the_sockets_at_once_for_small_segments_and_after_eight_for_large() {
    for (size, rounds) in [(1000, 1), (1400, 8)] {
        let mut ear = Ear::new("127.0.0.1");
        let socket = sender(Family::V4);
        let mut fan_out = FanOut::new();
        let datagrams = numbered(10, size);
        let mut send = |fan_out: &mut FanOut| {
            let sent = fan_out.send(&socket, &slices(&datagrams), &[ear.at], &mut no_trouble);
            assert_eq!((sent.sent, sent.failed), (10, 0));
            assert!(ear.heard().0 == datagrams, "in order, none twice");
        };
        send(&mut fan_out);
        without_checksums(&socket);
        for round in 1..=rounds {
            assert!(fan_out.segments(), "{size}: before round {round}");
            send(&mut fan_out);
        }
        assert!(!fan_out.segments(), "{size}");
        send(&mut fan_out);
    }
}

/// A socket in the network namespace of another process.
fn ear_in(process: u32, address: &'static str) -> Ear {
    let there = thread::spawn(move || {
        let namespace = File::open(format!("/proc/{process}/ns/net")).unwrap();
        let arguments = [
            int(namespace.as_raw_fd()),
            int(libc::CLONE_NEWNET),
            0,
            0,
            0,
            0,
        ];
        // SAFETY: integers only; this thread alone changes its namespace.
        unsafe { call(libc::SYS_setns, arguments) }.unwrap();
        Ear::new(address)
    });
    there.join().unwrap()
}

#[test]
fn a_full_send_buffer_stops_and_the_rest_goes_on_from_there() {
    let name = "fan_out::tests::a_full_send_buffer_stops_and_the_rest_goes_on_from_there";
    let Some(world) = World::enter(name) else {
        return;
    };
    let far = world.host("far");
    ip(&format!(
        "link add near type veth peer name far netns {}",
        far.pid()
    ));
    ip("address add 10.0.0.1/24 dev near");
    ip("link set near up");
    // Nobody answers for its address: datagrams wait, and hold the send buffer.
    far.ip(&[
        "link",
        "set",
        "far",
        "address",
        "02:00:00:00:00:09",
        "arp",
        "off",
        "up",
    ]);
    far.ip(&["address", "add", "10.0.0.9/24", "dev", "far"]);
    let mut ears = [ear_in(far.pid(), "10.0.0.9"), Ear::new("127.0.0.1")];
    let targets = [ears[0].at, ears[1].at];
    let socket = UdpSocket::new(Family::V4).unwrap();
    socket.set_send_buffer(60_000).unwrap();
    let datagrams = numbered(400, 1000);
    let datagrams_at = slices(&datagrams);
    for mut fan_out in [FanOut::new(), FanOut::plain()] {
        let first = fan_out.send(&socket, &datagrams_at, &targets, &mut no_trouble);
        let mut at = first.blocked_at.expect("the send buffer is full");
        assert!(first.sent > 0 && first.dropped > 0 && first.failed == 0);
        assert_eq!(first.sent + first.dropped, 800);
        let again = fan_out.resume(&socket, &datagrams_at, &targets, at, &mut no_trouble);
        assert_eq!((again.sent, again.dropped), (0, first.dropped));
        assert_eq!(again.blocked_at, Some(at));
        ip("neigh replace 10.0.0.9 lladdr 02:00:00:00:00:09 dev near nud permanent");
        let mut sent = first.sent;
        let mut rounds = 0;
        loop {
            let mut fds = [PollFd::new(socket.as_raw(), PollFd::OUT)];
            assert_eq!(poll(&mut fds, Some(2_000_000)), Ok(1));
            let more = fan_out.resume(&socket, &datagrams_at, &targets, at, &mut no_trouble);
            sent += more.sent;
            rounds += 1;
            assert!(rounds < 10_000);
            match more.blocked_at {
                Some(further) => at = further,
                None => break,
            }
        }
        assert_eq!(sent, 800, "each copy once");
        for ear in &mut ears {
            let mut heard = Vec::new();
            while heard.len() < 400 {
                let mut fds = [PollFd::new(ear.socket.as_raw(), PollFd::IN)];
                assert_eq!(poll(&mut fds, Some(2_000_000)), Ok(1));
                heard.extend(ear.heard().0);
            }
            assert!(heard == datagrams, "in order, none missing, none twice");
        }
        ip("neigh del 10.0.0.9 dev near");
    }
}

#[test]
fn v4_mapped_targets_and_sources_go_as_ipv4() {
    let mut ear = Ear::new("127.0.0.1");
    let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
    let target = Target {
        to: SocketAddr::new(mapped, ear.at.to.port()),
        source: Some("::ffff:127.0.7.7".parse().unwrap()),
    };
    let datagrams = numbered(5, 100);
    let socket = sender(Family::V6);
    FanOut::new().send(&socket, &slices(&datagrams), &[target], &mut no_trouble);
    assert_eq!(ear.batch.receive(&ear.socket), Ok(1));
    let from = ear.batch.get(0).from.ip();
    assert_eq!(canonical(from), IpAddr::from([127, 0, 7, 7]));
}
