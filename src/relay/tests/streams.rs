//! Streams through two relays on real sockets: unchanged, once a link, and pruned.
//!
//! What happens when a relay goes stands in `faults`.

mod tree;

use std::net::IpAddr;
use std::time::Duration;

use flexcast_engine::RequesterSettings;
use flexcast_wire::Kind;
use tree::speaker::{Origin, Receiver, Stage};
use tree::{enter, sh, status, RelayProcess, Tree, FP};

const SIZE: usize = 1_316;
const SECOND: Duration = Duration::from_secs(1);

/// Sender and one receiver on each of a and b, fed through both relays.
fn joined(tree: &Tree, sender: &str, size: usize) -> Stage {
    let address: IpAddr = sender.parse().expect("an address");
    let origin = Origin::new(&tree.s, address, size);
    let channel = origin.channel;
    let receivers = [&tree.a, &tree.b].map(|host| Receiver::new(host, channel, size));
    let mut stage = Stage {
        origin,
        receivers: receivers.into(),
    };
    stage.until("granted", 10 * SECOND, |stage| {
        stage.receivers.iter().all(|r| r.requester.is_granted())
    });
    stage
}

/// Counts what arrives on a host's first link from port FP with the stream's class.
fn count_stream(host: &flexcast_testbed::Host) {
    sh(
        host,
        &format!(
            "nft 'table inet count {{ counter stream {{}}; chain in {{ \
             type filter hook prerouting priority -350; \
             udp sport {FP} ip dscp 0 counter name stream; \
             udp sport {FP} ip6 dscp 0 counter name stream; }}; }}'"
        ),
    );
}

/// Datagrams counted: a super-packet has one header and many bytes.
fn counted(host: &flexcast_testbed::Host, size: usize, headers: usize) -> usize {
    let listed = sh(host, "nft list counter inet count stream");
    let number = |word: &str| -> usize {
        let mut words = listed.split_ascii_whitespace().skip_while(|w| *w != word);
        words.nth(1).and_then(|n| n.parse().ok()).expect("counted")
    };
    (number("bytes") - number("packets") * headers) / (size + 16)
}

fn passes_two_relays(test: &str, sender: &str, headers: usize) {
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let (_r1, _r2) = (
        RelayProcess::start(&tree.r1, test),
        RelayProcess::start(&tree.r2, test),
    );
    let mut stage = joined(&tree, sender, SIZE);
    for host in [&tree.r1, &tree.r2, &tree.a, &tree.b] {
        count_stream(host);
    }
    stage.begin_count();
    for _ in 0..50 {
        for _ in 0..20 {
            stage.origin.send(Kind::Data);
        }
        stage.run(Duration::from_millis(5));
    }
    stage.until("all came", SECOND, |stage| {
        stage.receivers.iter().all(|r| r.got.len() == 1_000)
    });
    for receiver in &stage.receivers {
        assert_eq!((receiver.twice(), &receiver.wrong[..]), (0, &[][..]));
    }
    assert!(
        stage.origin.sent.iter().all(|(_, copies)| *copies == 1),
        "one copy leaves the sender"
    );
    for host in [&tree.r1, &tree.r2, &tree.a, &tree.b] {
        assert_eq!(
            counted(host, SIZE, headers),
            1_000,
            "on {}'s link",
            host.name()
        );
    }
    for (host, below) in [(&tree.r1, 1), (&tree.r2, 2)] {
        let report = status(host);
        assert!(report.capturing && !report.draining, "{report:?}");
        assert_eq!(report.channels.len(), 1, "{report:?}");
        let channel = &report.channels[0];
        assert_eq!(channel.channel, stage.origin.channel.to_string());
        assert_eq!(
            (channel.verdict.as_str(), channel.datagrams),
            ("granted", 1_000)
        );
        assert_eq!((channel.lost, channel.duplicates), (0, 0));
        assert_eq!(channel.receivers_below, 2);
        assert_eq!(channel.requesters.len(), below);
        for requester in &channel.requesters {
            assert_eq!((requester.datagrams, requester.standby), (1_000, false));
            assert_eq!(requester.asked, sender);
        }
    }
    assert_eq!(status(&tree.r2).channels[0].path.len(), 3, "s, r1, r2");

    // The end is said at once, and once.
    stage.origin.end();
    stage.until("ended", SECOND, |stage| {
        stage.receivers.iter().all(|r| r.ended)
    });
}

#[test]
fn a_stream_passes_two_relays_unchanged_in_one_copy_a_link() {
    passes_two_relays(
        "a_stream_passes_two_relays_unchanged_in_one_copy_a_link",
        "10.0.0.1",
        28,
    );
}

#[test]
fn a_stream_passes_two_relays_over_ipv6() {
    passes_two_relays("a_stream_passes_two_relays_over_ipv6", "fd00::1", 48);
}

#[test]
fn a_leave_prunes_link_by_link() {
    let test = "a_leave_prunes_link_by_link";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let (_r1, _r2) = (
        RelayProcess::start(&tree.r1, test),
        RelayProcess::start(&tree.r2, test),
    );
    let mut stage = joined(&tree, "10.0.0.1", SIZE);
    stage.origin.pace(1_000);
    stage.until("fed", SECOND, |stage| stage.all_are_fed());
    let first = &mut stage.receivers[0];
    first.requester.leave(tree::speaker::now(), false);
    stage.until("left", SECOND, |stage| {
        stage.receivers[0].requester.is_gone()
    });
    stage.run(Duration::from_millis(50));
    stage.begin_count();
    stage.run(Duration::from_millis(300));
    assert_eq!(stage.receivers[0].got.len(), 0, "its link is silent");
    assert!(stage.receivers[1].got.len() > 200, "the other's is not");
    assert_eq!(status(&tree.r2).channels[0].requesters.len(), 1);

    let second = &mut stage.receivers[1];
    second.requester.leave(tree::speaker::now(), false);
    let id = stage.origin.channel.id;
    let took = stage.until("the sender's audience is empty", SECOND, |stage| {
        stage
            .origin
            .sender
            .fan(id)
            .is_some_and(flexcast_engine::Fan::is_empty)
    });
    // 250 ms at the last relay, none above it, and the way.
    assert!(took < Duration::from_millis(400), "{took:?}");
    stage.until("the relays forget it", SECOND, |_| {
        [&tree.r1, &tree.r2]
            .iter()
            .all(|host| status(host).channels.is_empty())
    });
}

#[test]
fn a_receiver_that_is_gone_without_a_word_gets_no_stream_after_a_second() {
    let test = "a_receiver_that_is_gone_without_a_word_gets_no_stream_after_a_second";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let (_r1, _r2) = (
        RelayProcess::start(&tree.r1, test),
        RelayProcess::start(&tree.r2, test),
    );
    for sender in ["10.0.0.1", "fd00::1"] {
        let mut stage = joined(&tree, sender, SIZE);
        stage.origin.pace(1_000);
        stage.until("fed", SECOND, |stage| stage.all_are_fed());
        drop(stage.receivers.remove(0));
        let name = stage.origin.channel.to_string();
        let took = stage.until("its entry is gone", 3 * SECOND, |_| {
            let report = status(&tree.r2);
            let channel = report.channels.iter().find(|c| c.channel == name);
            channel.is_some_and(|c| c.requesters.len() == 1)
        });
        // 1 s for the sign of life, and a second's margin for a loaded machine.
        assert!(took < 2 * SECOND, "{took:?}");
        assert!(
            took > Duration::from_millis(500),
            "a sign of life was awaited"
        );
        assert!(status(&tree.r2).icmp_unreachable > 0);
        let other = &stage.receivers[0];
        assert_eq!(other.lost(&stage.origin.sent), 0, "nobody else suffers");
        drop(stage);
    }
}

#[test]
fn a_forged_icmp_error_only_asks_for_a_sign_of_life() {
    let test = "a_forged_icmp_error_only_asks_for_a_sign_of_life";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let _r2 = RelayProcess::start(&tree.r2, test);
    let mut stage = joined(&tree, "10.0.0.1", SIZE);
    stage.origin.pace(500);
    stage.until("fed", SECOND, |stage| stage.all_are_fed());
    let port = stage.receivers[0].port();
    // Type 3, code 3, quoting a stream datagram to the first receiver.
    let script = format!(
        "import socket,struct
def sum16(b):
    s=sum(struct.unpack('!%dH'%(len(b)//2),b))
    while s>>16: s=(s&65535)+(s>>16)
    return ~s&65535
ip=struct.pack('!BBHHHBBH4s4s',0x45,0,40,0,0,64,17,0,socket.inet_aton('10.0.0.1'),socket.inet_aton('10.0.2.2'))
q=ip+struct.pack('!HHHH',{FP},{port},20,0)
m=struct.pack('!BBHI',3,3,0,0)+q
m=m[:2]+struct.pack('!H',sum16(m))+m[4:]
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_ICMP)
for _ in range(50): s.sendto(m,('10.0.0.1',0))"
    );
    let sent = tree.b.command("python3").args(["-c", &script]).status();
    assert!(sent.expect("python3 runs").success());
    stage.until("it was heard", SECOND, |_| {
        status(&tree.r2).icmp_unreachable > 0
    });
    stage.run(2 * SECOND);
    assert_eq!(
        status(&tree.r2).channels[0].requesters.len(),
        2,
        "both are in"
    );
    for receiver in &stage.receivers {
        assert_eq!(receiver.lost(&stage.origin.sent), 0);
    }
}

/// A host more, c, behind a link of 1280 bytes that a forwards to.
fn narrow_branch(tree: &Tree) -> flexcast_testbed::Host {
    let c = tree.world.host("c");
    let names = tree
        .world
        .link((&tree.a, "fd00:9::1/64"), (&c, "fd00:9::2/64"));
    tree.a.ip(&["link", "set", &names.0, "mtu", "1280"]);
    sh(&tree.a, "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    c.ip(&["route", "add", "default", "via", "fd00:9::1"]);
    for (host, via) in [(&tree.r2, "fd00:2::2"), (&tree.r1, "fd00:1::2")] {
        host.ip(&["route", "add", "fd00:9::/64", "via", via]);
    }
    tree::await_way(&c, "fd00::1");
    c
}

/// Receivers on c and b, the first refreshing every second, with 1400-byte datagrams.
fn on_both_branches(tree: &Tree, c: &flexcast_testbed::Host) -> Stage {
    let size = 1_400;
    let origin = Origin::new(&tree.s, "fd00::1".parse().expect("an address"), size);
    let channel = origin.channel;
    let settings = RequesterSettings {
        refresh: SECOND,
        ..RequesterSettings::default()
    };
    let receivers = vec![
        Receiver::asking(c, channel, size, settings),
        Receiver::new(&tree.b, channel, size),
    ];
    let mut stage = Stage { origin, receivers };
    stage.until("granted", 10 * SECOND, |stage| {
        stage.receivers.iter().all(|r| r.requester.is_granted())
    });
    stage.origin.pace(500);
    stage
}

fn assert_all_comes_for_a_second(stage: &mut Stage) {
    stage.count_anew(500);
    stage.run(SECOND);
    stage.origin.pace(0);
    stage.run(Duration::from_millis(100));
    for receiver in &stage.receivers {
        assert_eq!(receiver.got.len(), stage.origin.sent.len());
        assert_eq!(receiver.wrong, Vec::<String>::new());
    }
}

#[test]
fn a_narrow_link_below_a_relay_is_crossed_over_ipv6() {
    let test = "a_narrow_link_below_a_relay_is_crossed_over_ipv6";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let c = narrow_branch(&tree);
    let (_r1, _r2) = (
        RelayProcess::start(&tree.r1, test),
        RelayProcess::start(&tree.r2, test),
    );
    let mut stage = on_both_branches(&tree, &c);
    stage.until("fed", SECOND / 2, |stage| stage.all_are_fed());
    assert_all_comes_for_a_second(&mut stage);
    assert!(status(&tree.r2).icmp_too_big > 0);
}

#[test]
fn a_narrow_link_that_nobody_tells_of_is_crossed_after_two_reports() {
    let test = "a_narrow_link_that_nobody_tells_of_is_crossed_after_two_reports";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let c = narrow_branch(&tree);
    sh(
        &tree.a,
        "nft 'add table ip6 mute; \
         add chain ip6 mute o { type filter hook output priority 0; }; \
         add rule ip6 mute o icmpv6 type packet-too-big drop'",
    );
    let (_r1, r2) = (
        RelayProcess::start(&tree.r1, test),
        RelayProcess::start(&tree.r2, test),
    );
    let mut stage = on_both_branches(&tree, &c);
    stage.run(SECOND / 2);
    assert!(stage.receivers[0].got.is_empty(), "the link is narrow");
    stage.until("fed", 5 * SECOND, |stage| stage.all_are_fed());
    assert!(r2.log().contains("receives nothing"), "{}", r2.log());
    assert_eq!(
        status(&tree.r2).icmp_too_big,
        1,
        "its own word to its kernel"
    );
    assert_all_comes_for_a_second(&mut stage);
}

#[test]
fn what_is_no_request_of_ours_passes_untouched() {
    let test = "what_is_no_request_of_ours_passes_untouched";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let (_r1, _r2) = (
        RelayProcess::start(&tree.r1, test),
        RelayProcess::start(&tree.r2, test),
    );
    use flexcast_udp::{recv_one, send_one, Class, Family, UdpSocket};
    for (from, to) in [("10.0.2.2", "10.0.0.1"), ("fd00:2::2", "fd00::1")] {
        let bound = |host, address: &str, port| {
            let address: IpAddr = address.parse().expect("an address");
            tree::inside(host, || {
                let socket = UdpSocket::new(Family::of(address)).expect("a socket");
                socket.bind((address, port).into()).expect("bound");
                socket
            })
        };
        let server = bound(&tree.s, to, FP);
        let client = bound(&tree.a, from, 6_000);
        let to = (to.parse::<IpAddr>().expect("an address"), FP).into();
        let other_version = [0xF1, 0xEC, 0xA5, 2, 1, 0, 0, 0];
        for payload in [
            &b"a stranger's datagram"[..],
            &other_version,
            &[],
            &[7; 1_400],
        ] {
            let mut buffer = [0; 2_048];
            let deadline = tree::speaker::now() + 2 * SECOND;
            let got = loop {
                send_one(&client, to, None, Class::Stream, &[payload]).expect("sent");
                std::thread::sleep(Duration::from_millis(5));
                match recv_one(&server, &mut buffer) {
                    Ok(received) => break (received.payload.to_vec(), received.from),
                    Err(_) => assert!(tree::speaker::now() < deadline, "{payload:?} lost"),
                }
            };
            assert_eq!(got.0, payload);
            assert_eq!(got.1, (from.parse::<IpAddr>().expect("one"), 6_000).into());
            while recv_one(&server, &mut buffer).is_ok() {}
        }
    }
    for host in [&tree.r1, &tree.r2] {
        let report = status(host);
        assert_eq!((report.control_received, report.malformed.len()), (0, 0));
    }
}
