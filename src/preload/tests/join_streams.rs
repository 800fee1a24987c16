//! What joins mean for the sender: who is counted, who has left, what is asked where.
//! The sender is the library's own, in this process; the receiver a program under the
//! preload library, told what to do line by line (`programs/commands.c`).

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use flexcast_wire::{Channel, ChannelId};

mod support;

use support::enter;
use support::streams::{asked_for, Receiver, Sender, FP};

const RULE: &str = "239.1.0.0/16=10.0.0.5";
const SIX: &str = "[ff3e::8000:0]/112=[2001:db8::5]";
/// What no hook saw is looked for every two seconds.
const LOOKED: Duration = Duration::from_secs(3);
/// A leave is sent at once; everything is on one host.
const AT_ONCE: Duration = Duration::from_millis(250);

const LONG: Duration = Duration::from_secs(5);

#[test]
fn every_way_of_closing_leaves_at_once() {
    let test = "every_way_of_closing_leaves_at_once";
    let Some(_world) = enter(test) else { return };
    let sender = Sender::start("239.1.1.1", "10.0.0.5");
    for path in [None, Some("user")] {
        let mut receiver = Receiver::start(RULE, "239.1.1.1", &[], path);
        for way in ["leave", "close", "range", "over", "blocked"] {
            for how in ["group shared", "any shared", "any alone"] {
                receiver.joins(how);
                sender.counts(1, LONG);
                receiver.tell(way);
                sender.counts(0, AT_ONCE);
                // The number, and the port, are free again.
                if way == "leave" {
                    receiver.tell("close");
                }
            }
        }
        receiver.joins("group shared");
        sender.counts(1, LONG);
        assert_eq!(receiver.tell("twice"), "closed once");
        sender.send("still there");
        assert!(receiver.tell("hear 1000").starts_with("still there"));
        sender.counts(1, LONG);
        receiver.tell("close");
        sender.counts(0, AT_ONCE);
        receiver.joins("any shared");
        sender.counts(1, LONG);
        receiver.ends("exit");
        sender.counts(0, AT_ONCE);
    }
}

#[test]
fn a_close_that_goes_past_every_hook_is_noticed() {
    let test = "a_close_that_goes_past_every_hook_is_noticed";
    let Some(_world) = enter(test) else { return };
    let sender = Sender::start("239.1.1.1", "10.0.0.5");
    let mut receiver = Receiver::start(RULE, "239.1.1.1", &[], None);
    for how in ["group shared", "any shared", "any alone"] {
        receiver.joins(how);
        sender.counts(1, LONG);
        receiver.tell("raw");
        sender.counts(0, LOOKED);
    }
}

#[test]
fn while_a_child_holds_the_socket_nobody_leaves() {
    let test = "while_a_child_holds_the_socket_nobody_leaves";
    let Some(_world) = enter(test) else { return };
    let sender = Sender::start("239.1.1.1", "10.0.0.5");
    let mut receiver = Receiver::start(RULE, "239.1.1.1", &[], None);
    receiver.joins("group shared");
    sender.counts(1, LONG);
    assert_eq!(receiver.tell("child"), "closed");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sender.channel.receivers(), 1);
    assert_eq!(receiver.tell("end"), "ended");
    sender.counts(0, LOOKED);
}

#[test]
fn what_a_child_does_to_the_socket_does_not_cost_its_parent_the_stream() {
    let test = "what_a_child_does_to_the_socket_does_not_cost_its_parent_the_stream";
    let Some(_world) = enter(test) else { return };
    let sender = Sender::start("239.1.1.1", "10.0.0.5");
    for how in ["group shared", "any shared", "any alone"] {
        let mut receiver = Receiver::start(RULE, "239.1.1.1", &[], None);
        receiver.joins(how);
        sender.counts(1, LONG);
        assert_eq!(receiver.tell("forked"), "it is over");
        sender.counts(1, LONG);
        sender.send("word");
        assert!(receiver.tell("hear 1000").starts_with("word"), "{how}");
        receiver.ends("exit");
        sender.counts(0, AT_ONCE);
    }
}

#[test]
fn sources_read_the_senders_address_and_port() {
    let test = "sources_read_the_senders_address_and_port";
    let Some(_world) = enter(test) else { return };
    for (group, address, rule) in [
        ("239.1.1.1", "10.0.0.5", RULE),
        ("ff3e::8000:1", "2001:db8::5", SIX),
    ] {
        let sender = Sender::start(group, address);
        for path in [None, Some("user")] {
            let mut receiver = Receiver::start(rule, group, &[], path);
            receiver.joins("any shared");
            sender.counts(1, LONG);
            sender.send("word");
            let heard = receiver.tell("hear 1000");
            assert_eq!(heard, format!("word from {address} 40000"));
            receiver.ends("exit");
            sender.counts(0, AT_ONCE);
        }
    }
}

#[test]
fn another_user_without_capabilities_receives_alike() {
    let test = "another_user_without_capabilities_receives_alike";
    let Some(_world) = enter(test) else { return };
    let sender = Sender::start("239.1.1.1", "10.0.0.5");
    let user = [
        "unshare",
        "--user",
        "--map-user=1000",
        "--map-group=1000",
        "--keep-caps",
        "setpriv",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--ambient-caps=-all",
    ];
    for path in [None, Some("user")] {
        let mut receiver = Receiver::start(RULE, "239.1.1.1", &user, path);
        receiver.joins("group shared");
        sender.counts(1, LONG);
        sender.send("word");
        assert_eq!(receiver.tell("hear 1000"), "word from 10.0.0.5 40000");
        receiver.tell("close");
        sender.counts(0, AT_ONCE);
    }
}

/// Sends one ordinary datagram to port 5000 of this host.
fn unicast(text: &str) {
    let socket = UdpSocket::bind("10.0.0.5:0").unwrap();
    // Nobody there is no error of the test's.
    let _ = socket.send_to(text.as_bytes(), "10.0.0.5:5000");
}

#[test]
fn ordinary_unicast_passes_where_the_socket_has_the_port_and_is_not_strict() {
    let test = "ordinary_unicast_passes_where_the_socket_has_the_port_and_is_not_strict";
    let Some(_world) = enter(test) else { return };
    let sender = Sender::start("239.1.1.1", "10.0.0.5");
    for (options, how, passes) in [
        ("", "any alone", true),
        (",strict", "any alone", false),
        ("", "any shared", false),
        (",port=keep", "any shared", true),
        (",port=keep,strict", "any shared", false),
        ("", "group alone", false),
    ] {
        for path in [None, Some("user")] {
            let rule = format!("{RULE}{options}");
            let mut receiver = Receiver::start(&rule, "239.1.1.1", &[], path);
            receiver.joins(how);
            sender.counts(1, LONG);
            unicast("plain");
            let heard = receiver.tell("hear 200");
            let case = format!("{options} {how} {path:?}: {heard}");
            assert_eq!(heard.starts_with("plain"), passes, "{case}");
            assert_eq!(heard == "nothing", !passes, "{case}");
            // The positive control: the stream passes in every case.
            sender.send("stream");
            assert!(receiver.tell("hear 1000").starts_with("stream"), "{case}");
            receiver.ends("exit");
            sender.counts(0, AT_ONCE);
        }
    }
}

#[test]
fn a_thread_that_waits_for_a_stream_can_be_cancelled() {
    let test = "a_thread_that_waits_for_a_stream_can_be_cancelled";
    let libraries = support::libraries();
    let Some(_world) = enter(test) else { return };
    let sender = Sender::start("239.1.1.1", "10.0.0.5");
    for library in libraries {
        let mut receiver = Receiver::start_under(&library, RULE, "239.1.1.1", &[], None);
        receiver.joins("group shared");
        sender.counts(1, LONG);
        for call in ["recv", "recvfrom", "recvmsg", "recvmmsg"] {
            let ended = receiver.tell(&format!("cancel {call}"));
            assert_eq!(ended, "cancelled", "{call} under {library:?}");
        }
        sender.send("still here");
        assert!(receiver.tell("hear 1000").starts_with("still here"));
        receiver.ends("exit");
        sender.counts(0, AT_ONCE);
    }
}

#[test]
fn via_names_who_is_asked() {
    let test = "via_names_who_is_asked";
    let Some(_world) = enter(test) else { return };
    let node = UdpSocket::bind(("10.0.0.5", FP)).unwrap();
    node.set_read_timeout(Some(LONG)).unwrap();
    let rule = "239.1.0.0/16=10.0.0.9,via=10.0.0.5";
    let mut receiver = Receiver::start(rule, "239.1.1.1", &[], None);
    receiver.joins("group shared");
    let group: IpAddr = "239.1.1.1".parse().unwrap();
    let id = ChannelId::from_group(group, 5000).unwrap();
    let wanted = Channel::new("10.0.0.9".parse().unwrap(), id);
    assert_eq!(asked_for(&node), wanted);
}

#[test]
fn the_end_of_a_joined_stream_is_silent_and_a_new_one_follows() {
    let test = "the_end_of_a_joined_stream_is_silent_and_a_new_one_follows";
    let Some(_world) = enter(test) else { return };
    let sender = Sender::start("239.1.1.1", "10.0.0.5");
    let mut receiver = Receiver::start(RULE, "239.1.1.1", &[], None);
    receiver.joins("group shared");
    sender.counts(1, LONG);
    sender.send("first");
    assert!(receiver.tell("hear 1000").starts_with("first"));
    sender.channel.end();
    assert_eq!(receiver.tell("hear 500"), "nothing");
    let group: IpAddr = "239.1.1.1".parse().unwrap();
    let id = ChannelId::from_group(group, 5000).unwrap();
    let channel = Channel::new("10.0.0.5".parse().unwrap(), id);
    let again = sender.sending.open(channel, 40_001).expect("it opens");
    let began = Instant::now();
    while again.receivers() != 1 {
        assert!(began.elapsed() < LONG, "nobody asks for the new stream");
        std::thread::sleep(Duration::from_millis(1));
    }
    again
        .send(&[&[&b"second"[..]][..]], true)
        .expect("it is sent");
    let heard = receiver.tell("hear 1000");
    assert!(heard.starts_with("second from 10.0.0.5"), "{heard}");
}

#[test]
fn a_receiver_that_no_rule_concerns_is_left_alone() {
    let test = "a_receiver_that_no_rule_concerns_is_left_alone";
    let Some(_world) = enter(test) else { return };
    let status = Command::new("ip")
        .args("route add 224.0.0.0/4 dev v0".split(' '))
        .status();
    assert!(status.unwrap().success());
    let multicast = UdpSocket::bind("10.0.0.5:0").unwrap();
    for rule in [
        "239.9.0.0/16=10.0.0.5",
        "239.1.0.0/16:6000=10.0.0.5",
        "239.1.0.0/16=10.0.0.5,role=push",
        "239.1.0.0/16",
    ] {
        for how in ["group shared", "any shared", "any alone"] {
            let mut receiver = Receiver::start(rule, "239.1.1.1", &[], None);
            receiver.joins(how);
            multicast.send_to(b"native", "239.1.1.1:5000").unwrap();
            let heard = receiver.tell("hear 1000");
            assert!(
                heard.starts_with("native from 10.0.0.5"),
                "{rule} {how}: {heard}"
            );
            let threads = format!("/proc/{}/task", receiver.child.id());
            let threads = std::fs::read_dir(threads).unwrap().count();
            assert_eq!(threads, 1, "nothing was started: {rule} {how}");
            receiver.ends("exit");
        }
    }
}
