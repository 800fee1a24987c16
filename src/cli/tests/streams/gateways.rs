//! `send --from-udp` and `recv --to-udp`: plain programs on both sides, each datagram as
//! it was, in its order.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use flexcast_testbed::World;

use crate::room::{flexcast, number, Room, Running};

/// Each is numbered by its place; none, one byte, usual, and as long as a channel carries.
const LENGTHS: [usize; 6] = [0, 1, 188, 1316, 9_000, 65_491];

fn datagrams() -> Vec<Vec<u8>> {
    let numbered = LENGTHS.iter().cycle().take(60).enumerate();
    let filled = |(n, &length)| vec![u8::try_from(n).unwrap(); length];
    numbered.map(filled).collect()
}

/// A gateway in each direction, with a granted stream between them.
fn gateways(room: &Room, from: &str, to: &str, more: &[&str]) -> (Running, Running) {
    let arguments = ["recv", "-v", "127.0.0.1#77", "--to-udp", to];
    let receiver = room.start("recv", &[&arguments[..], more].concat());
    receiver.await_words("asking");
    let arguments = ["send", "-v", "self#77", "--from-udp", from, "--wait", "1"];
    let sender = room.start("send", &arguments);
    receiver.await_words("granted");
    (sender, receiver)
}

/// Sends all, a few at a time, as a receive queue holds only so much, and hears them.
fn pass(plain: &UdpSocket, from: SocketAddr, ear: &UdpSocket, sent: &[Vec<u8>]) -> Vec<Vec<u8>> {
    ear.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = vec![0; 70_000];
    let mut heard = Vec::new();
    for datagram in sent {
        plain.send_to(datagram, from).unwrap();
        let length = ear.recv(&mut buffer).expect("it comes within 10 s");
        heard.push(buffer[..length].to_vec());
    }
    heard
}

#[test]
fn plain_programs_on_both_sides_see_each_datagram_as_it_was() {
    let test = "gateways::plain_programs_on_both_sides_see_each_datagram_as_it_was";
    let Some(_world) = World::enter(test) else {
        return;
    };
    for (from, to) in [
        ("127.0.0.1:9000", "127.0.0.1:9001"),
        ("[::1]:9000", "[::1]:9001"),
    ] {
        let room = Room::new("gateways");
        let ear = UdpSocket::bind(to).unwrap();
        let (sender, receiver) = gateways(&room, from, to, &[]);
        let from: SocketAddr = from.parse().unwrap();
        let plain = UdpSocket::bind((from.ip(), 0)).unwrap();
        // Longer than a channel carries: left out, and nothing else with it.
        plain.send_to(&vec![255; 65_500], from).unwrap();
        let sent = datagrams();
        assert!(pass(&plain, from, &ear, &sent) == sent);
        sender.signal("INT");
        let said = sender.end_well();
        assert_eq!(number(&said, " datagrams, "), 60, "{said}");
        assert_eq!(number(&said, " left out"), 1, "{said}");
        receiver.signal("INT");
        let said = receiver.end_well();
        assert!(said.contains("60 datagrams, "), "{said}");
        assert!(said.contains("0 lost, 0 duplicates"), "{said}");
    }
}

#[test]
fn groups_of_the_local_link_go_in_and_come_out() {
    let test = "gateways::groups_of_the_local_link_go_in_and_come_out";
    let Some(_world) = World::enter(test) else {
        return;
    };
    for line in [
        "link add v0 type veth peer name v1",
        "address add 10.0.0.5/24 dev v0",
        "address add 2001:db8::5/64 dev v0 nodad",
        "link set v0 up",
        "link set v1 up",
        "route add 224.0.0.0/4 dev v0",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status();
        assert!(status.unwrap().success(), "ip {line}");
    }
    let index = std::fs::read_to_string("/proc/net/if_inet6").unwrap();
    let line = index.lines().find(|line| line.ends_with(" v0")).unwrap();
    let index = line.split_ascii_whitespace().nth(1).unwrap();
    let index = u32::from_str_radix(index, 16).unwrap();

    for (from, to) in [
        ("239.1.1.1:9000%v0", "239.1.1.2:9001%v0"),
        ("[ff15::1]:9000%v0", "[ff15::2]:9001%v0"),
    ] {
        let room = Room::new("gateways-groups");
        let address =
            |text: &str| -> SocketAddr { text.split('%').next().unwrap().parse().unwrap() };
        let ear = UdpSocket::bind(address(to)).unwrap();
        let (sender, receiver) = gateways(&room, from, to, &["--ttl", "2"]);
        let plain = match address(to).ip() {
            IpAddr::V4(group) => {
                ear.join_multicast_v4(&group, &[10, 0, 0, 5].into())
                    .unwrap();
                UdpSocket::bind("10.0.0.5:0").unwrap()
            }
            IpAddr::V6(group) => {
                ear.join_multicast_v6(&group, index).unwrap();
                UdpSocket::bind("[2001:db8::5]:0").unwrap()
            }
        };
        let mut into = address(from);
        if let SocketAddr::V6(into) = &mut into {
            into.set_scope_id(index);
        }
        let sent = datagrams();
        assert!(pass(&plain, into, &ear, &sent) == sent, "{from}");
        for gateway in [sender, receiver] {
            gateway.signal("TERM");
            gateway.end_well();
        }
    }
}

#[test]
fn what_cannot_be_a_gateway_is_named() {
    let test = "gateways::what_cannot_be_a_gateway_is_named";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let taken = UdpSocket::bind("127.0.0.1:9000").unwrap();
    for (arguments, code, words) in [
        (
            ["send", "self#1", "--from-udp", "127.0.0.1:9000"],
            1,
            "ss -ulpn",
        ),
        (
            ["send", "self#1", "--from-udp", "10.9.9.9:9000"],
            1,
            "ip address",
        ),
        (
            ["send", "self#1", "--from-udp", "239.1.1.1:9000"],
            1,
            "ADDRESS:PORT%INTERFACE",
        ),
        (
            ["send", "self#1", "--from-udp", "239.1.1.1:9%v9"],
            1,
            "interface v9",
        ),
        (
            ["send", "self#1", "--from-udp", "239.1.1.1"],
            2,
            "expected ADDRESS:PORT",
        ),
        (
            ["recv", "self#1", "--to-udp", "10.9.9.9:9000"],
            1,
            "no way there",
        ),
        (
            ["recv", "self#1", "--to-udp", ":9000"],
            1,
            "name the address",
        ),
    ] {
        let output = flexcast().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    drop(taken);
}
