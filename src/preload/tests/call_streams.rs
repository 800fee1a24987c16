//! What a program that calls another host gets, and what its sender sees of it: the
//! stream, unicast both ways, ends, refusals, and who is counted when. The sender is
//! the library's own, in this process at 10.0.0.5; the caller a program under the
//! preload library on a host of its own, told what to do line by line
//! (`programs/commands.c`).

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use flexcast_runtime::send::{Guard, Scope};
use flexcast_testbed::{Host, World};
use flexcast_wire::{Channel, ChannelId};

mod support;

use support::streams::{asked_for, sending, Receiver, Sender, FP};

const RULE: &str = "10.0.0.5:5000 [2001:db8::5]:5000";
/// A leave is sent at once; with a second's margin.
const AT_ONCE: Duration = Duration::from_millis(1_250);
/// What no hook saw is looked for every two seconds.
const LOOKED: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(5);
/// Called as, the sender, the caller's host.
const WAYS: [(&str, &str, &str); 3] = [
    ("10.0.0.5", "10.0.0.5", "10.0.0.6"),
    ("2001:db8::5", "2001:db8::5", "2001:db8::6"),
    ("::ffff:10.0.0.5", "10.0.0.5", "::ffff:10.0.0.6"),
];
const PATHS: [Option<&str>; 2] = [None, Some("user")];

/// This host, and the caller's.
fn enter(test: &str) -> Option<(World, Host)> {
    let world = support::enter(test)?;
    let host = world.host("c");
    support::ip(&format!("link set v1 netns {}", host.pid()));
    for line in [
        "link set v1 up",
        "address add 10.0.0.6/24 dev v1",
        "address add 2001:db8::6/64 dev v1 nodad",
    ] {
        host.ip(&line.split(' ').collect::<Vec<_>>());
    }
    Some((world, host))
}

fn channel(sender: &str) -> Channel {
    Channel::new(sender.parse().unwrap(), ChannelId::new(5000).unwrap())
}

/// A program on the caller's host.
fn program(host: &Host, rule: &str, called: &str, path: Option<&str>) -> Receiver {
    let pid = host.pid().to_string();
    let there = ["nsenter", "-t", &pid, "-n", "--"];
    Receiver::start(rule, called, &there, path)
}

/// The server's own unicast.
fn server(address: &str) -> UdpSocket {
    let address = address.parse().unwrap();
    let socket = UdpSocket::bind(SocketAddr::new(address, 5000)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

fn takes(server: &UdpSocket) -> (String, SocketAddr) {
    let mut bytes = [0; 100];
    let (length, from) = server.recv_from(&mut bytes).expect("a datagram comes");
    (support::text(&bytes[..length]), from)
}

#[test]
fn a_call_gets_the_stream_and_speaks_unicast_with_the_sender() {
    let test = "a_call_gets_the_stream_and_speaks_unicast_with_the_sender";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    for (called, address, own) in WAYS {
        let sender = Sender::of(channel(address));
        let server = server(address);
        for path in PATHS {
            for options in ["", "shared", "nonblocking", "bound", "shared bound"] {
                let mut caller = program(&host, RULE, called, path);
                assert_eq!(caller.tell(&format!("call {options}")), "called");
                sender.counts(1, LONG);
                sender.send("word");
                let peer = format!("{called} 5000");
                assert_eq!(caller.tell("hear 1000"), format!("word from {peer}"));
                let names = caller.tell("names");
                let (local, shown) = names.split_once(" to ").unwrap();
                assert_eq!(shown, peer, "{options}");
                let (ip, port) = local.split_once(' ').unwrap();
                assert_eq!(ip, own, "{options}");
                assert_eq!(caller.tell("say send question"), "said");
                let (question, from) = takes(&server);
                assert_eq!(question, "question");
                // As with a join, one that would share its port has another.
                let shares = options == "shared bound";
                assert_eq!(from.port().to_string() == port, !shares, "{options}");
                server.send_to(b"answer", from).unwrap();
                assert_eq!(caller.tell("hear 1000"), format!("answer from {peer}"));
                let stranger =
                    UdpSocket::bind(SocketAddr::new(server.local_addr().unwrap().ip(), 0));
                stranger.unwrap().send_to(b"stranger", from).unwrap();
                assert_eq!(caller.tell("hear 100"), "nothing", "{options} {path:?}");
                caller.tell("close");
                sender.counts(0, AT_ONCE);
            }
        }
    }
}

#[test]
fn every_way_of_closing_hangs_up() {
    let test = "every_way_of_closing_hangs_up";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    let sender = Sender::of(channel("10.0.0.5"));
    let mut caller = program(&host, RULE, "10.0.0.5", None);
    for way in ["close", "range", "over", "blocked"] {
        assert_eq!(caller.tell("call"), "called");
        sender.counts(1, LONG);
        caller.tell(way);
        sender.counts(0, AT_ONCE);
    }
    assert_eq!(caller.tell("call"), "called");
    sender.counts(1, LONG);
    assert_eq!(caller.tell("twice"), "closed once");
    sender.send("still there");
    assert!(caller.tell("hear 1000").starts_with("still there"));
    sender.counts(1, LONG);
    caller.tell("close");
    sender.counts(0, AT_ONCE);
    assert_eq!(caller.tell("call"), "called");
    sender.counts(1, LONG);
    caller.tell("raw");
    sender.counts(0, LOOKED);
}

#[test]
fn a_first_datagram_calls_and_other_destinations_stay_plain() {
    let test = "a_first_datagram_calls_and_other_destinations_stay_plain";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    for (called, address, _) in WAYS {
        let sender = Sender::of(channel(address));
        let server = server(address);
        let other = UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 5001)).unwrap();
        other.set_read_timeout(Some(LONG)).unwrap();
        for path in PATHS {
            let mut caller = program(&host, RULE, called, path);
            assert_eq!(caller.tell("hello sendto first"), "said");
            let (first, from) = takes(&server);
            assert_eq!(first, "first");
            sender.counts(1, LONG);
            assert_eq!(caller.tell("hello sendto second"), "said");
            assert_eq!(takes(&server), ("second".to_owned(), from));
            sender.send("word");
            assert_eq!(caller.tell("hear 1000"), format!("word from {called} 5000"));
            server.send_to(b"answer", from).unwrap();
            assert_eq!(
                caller.tell("hear 1000"),
                format!("answer from {called} 5000")
            );
            // Not connected, it talks to whom it likes.
            assert_eq!(caller.tell(&format!("tell {called} 5001 plain")), "told");
            assert_eq!(takes(&other), ("plain".to_owned(), from));
            other.send_to(b"other", from).unwrap();
            assert_eq!(
                caller.tell("hear 1000"),
                format!("other from {called} 5001")
            );
            assert!(caller.tell("names").ends_with("to ENOTCONN"));
            sender.counts(1, LONG);
            // A call that was begun by a datagram outlasts a connection to the same.
            assert_eq!(caller.tell(&format!("connect {called} 5000")), "connected");
            assert_eq!(caller.tell("undo"), "undone");
            sender.counts(1, LONG);
            sender.send("on");
            assert_eq!(caller.tell("hear 1000"), format!("on from {called} 5000"));
            caller.tell("close");
            sender.counts(0, AT_ONCE);
        }
    }
}

#[test]
fn every_call_that_sends_is_taken_and_each_message_goes_by_its_own_address() {
    let test = "every_call_that_sends_is_taken_and_each_message_goes_by_its_own_address";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    for (called, address, _) in WAYS {
        let sender = Sender::of(channel(address));
        let server = server(address);
        let other = UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 5001)).unwrap();
        other.set_read_timeout(Some(LONG)).unwrap();
        let mut caller = program(&host, RULE, called, None);
        for call in ["sendto", "sendmsg", "sendmmsg"] {
            assert_eq!(caller.tell(&format!("hello {call} first")), "said");
            assert_eq!(takes(&server).0, "first", "{call}");
            sender.counts(1, LONG);
            assert_eq!(caller.tell(&format!("both {called} 5001")), "2 sent");
            let (one, from) = takes(&server);
            assert_eq!((one, from), ("each".to_owned(), takes(&other).1));
            caller.tell("close");
            sender.counts(0, AT_ONCE);
        }
        assert_eq!(caller.tell("call"), "called");
        sender.counts(1, LONG);
        for call in ["send", "sendto", "sendmsg", "sendmmsg", "write", "writev"] {
            assert_eq!(caller.tell(&format!("say {call} word")), "said");
            assert_eq!(takes(&server).0, "word", "{call}");
        }
        // What is shut down for writing still receives.
        assert_eq!(caller.tell("shut wr"), "shut");
        assert_eq!(caller.tell("say send more"), "EPIPE");
        sender.send("stream");
        assert!(caller.tell("hear 1000").starts_with("stream"));
        assert_eq!(caller.tell("shut rd"), "shut");
        assert!(caller.tell("hear 1000").starts_with("end"));
        caller.tell("close");
        sender.counts(0, AT_ONCE);
    }
}

#[test]
fn strict_hears_unicast_of_the_sender_alone_connected_or_not() {
    let test = "strict_hears_unicast_of_the_sender_alone_connected_or_not";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    let sender = Sender::of(channel("10.0.0.5"));
    let server = server("10.0.0.5");
    let stranger = UdpSocket::bind("10.0.0.5:0").unwrap();
    for path in PATHS {
        for verb in ["hello sendto question", "call"] {
            let mut caller = program(&host, "10.0.0.5:5000,strict", "10.0.0.5", path);
            caller.tell(verb);
            if verb == "call" {
                caller.tell("say send question");
            }
            let (_, from) = takes(&server);
            sender.counts(1, LONG);
            stranger.send_to(b"stranger", from).unwrap();
            server.send_to(b"answer", from).unwrap();
            assert_eq!(caller.tell("hear 1000"), "answer from 10.0.0.5 5000");
            // Until the grant is taken in, the stream is not.
            let began = Instant::now();
            let mut heard = "nothing".to_owned();
            while heard == "nothing" {
                assert!(began.elapsed() < LONG, "nothing for {LONG:?}");
                sender.send("stream");
                heard = caller.tell("hear 100");
            }
            assert_eq!(heard, "stream from 10.0.0.5 5000");
            caller.tell("close");
            sender.counts(0, AT_ONCE);
        }
    }
}

#[test]
fn the_rule_says_who_is_asked_and_where_unicast_goes() {
    let test = "the_rule_says_who_is_asked_and_where_unicast_goes";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    let node = UdpSocket::bind(("10.0.0.5", FP)).unwrap();
    node.set_read_timeout(Some(LONG)).unwrap();
    let server = server("10.0.0.5");
    for (rule, sender, called) in [
        ("10.0.0.9:5000,via=10.0.0.5", "10.0.0.9", "10.0.0.9"),
        ("10.0.0.0/24:5000=10.0.0.5", "10.0.0.5", "10.0.0.9"),
    ] {
        let mut caller = program(&host, rule, called, None);
        assert_eq!(caller.tell("call"), "called");
        assert_eq!(asked_for(&node), channel(sender), "{rule}");
        assert!(caller.tell("names").ends_with(&format!("to {sender} 5000")));
        if sender == "10.0.0.5" {
            assert_eq!(caller.tell("say send word"), "said");
            assert_eq!(takes(&server).0, "word");
        }
    }
}

#[test]
fn connecting_elsewhere_or_nowhere_hangs_up() {
    let test = "connecting_elsewhere_or_nowhere_hangs_up";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    for (called, address, _) in WAYS {
        let sender = Sender::of(channel(address));
        let other = UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 5001)).unwrap();
        other.set_read_timeout(Some(LONG)).unwrap();
        for path in PATHS {
            let mut caller = program(&host, RULE, called, path);
            assert_eq!(caller.tell("call"), "called");
            sender.counts(1, LONG);
            assert_eq!(caller.tell("undo"), "undone");
            sender.counts(0, AT_ONCE);
            assert!(caller.tell("names").ends_with("to ENOTCONN"));
            assert_eq!(caller.tell("say send nowhere"), "EDESTADDRREQ");
            // Again, then elsewhere, where it is an ordinary connected socket.
            assert_eq!(caller.tell(&format!("connect {called} 5000")), "connected");
            sender.counts(1, LONG);
            sender.send("again");
            assert_eq!(
                caller.tell("hear 1000"),
                format!("again from {called} 5000")
            );
            assert_eq!(caller.tell(&format!("connect {called} 5001")), "connected");
            sender.counts(0, AT_ONCE);
            assert!(caller.tell("names").ends_with(&format!("to {called} 5001")));
            assert_eq!(caller.tell("say send plain"), "said");
            let (text, from) = takes(&other);
            assert_eq!(text, "plain");
            other.send_to(b"answer", from).unwrap();
            assert_eq!(
                caller.tell("hear 1000"),
                format!("answer from {called} 5001")
            );
            // Nobody is connected to: everybody is heard.
            assert_eq!(caller.tell("undo"), "undone");
            let stranger = UdpSocket::bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
            stranger.send_to(b"stranger", from).unwrap();
            assert!(caller.tell("hear 1000").starts_with("stranger"));
            caller.ends("exit");
        }
    }
}

/// What a program waits in: of one family everything.
fn calls(called: &str) -> &'static [&'static str] {
    let calls = &["recv", "read", "recvfrom", "poll", "select", "epoll"];
    &calls[..if called == WAYS[0].0 { calls.len() } else { 1 }]
}

#[test]
fn the_end_of_the_stream_wakes_whoever_waits() {
    let test = "the_end_of_the_stream_wakes_whoever_waits";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    for (called, address, _) in WAYS {
        for path in PATHS {
            let mut caller = program(&host, RULE, called, path);
            for call in calls(called) {
                let sender = Sender::of(channel(address));
                assert_eq!(caller.tell("call"), "called");
                sender.counts(1, LONG);
                assert_eq!(caller.tell(&format!("waits {call}")), "waits");
                sender.channel.end();
                assert_eq!(caller.tell("woken"), "0 bytes", "{call} {called} {path:?}");
                // Once; and the next stream comes to the same socket.
                assert_eq!(
                    caller.tell("hear 300"),
                    "nothing",
                    "{call} {called} {path:?}"
                );
                let again = sender.sending.open(channel(address), 40_001).unwrap();
                let began = Instant::now();
                while again.receivers() != 1 {
                    assert!(began.elapsed() < LONG, "nobody asks for the next stream");
                    std::thread::sleep(Duration::from_millis(1));
                }
                again.send(&[&[&b"next"[..]][..]], true).unwrap();
                assert_eq!(caller.tell("hear 1000"), format!("next from {called} 5000"));
                again.end();
                assert_eq!(caller.tell("hear 2000"), format!("end from {called} 5000"));
                caller.tell("close");
            }
        }
    }
}

#[test]
fn a_final_refusal_is_connection_refused_in_whatever_call() {
    let test = "a_final_refusal_is_connection_refused_in_whatever_call";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    let sending = sending();
    let bell = UdpSocket::bind("127.0.0.1:0").unwrap();
    let scope = Scope {
        sender: None,
        ipv4_only: false,
        id: ChannelId::new(5000),
        app_port: 0,
    };
    let nobody = Guard::new(|_| false);
    let bell = bell.local_addr().unwrap();
    let _listening = sending.listen(scope, 1, bell, Some(nobody)).unwrap();
    for (called, ..) in WAYS {
        for path in PATHS {
            let mut caller = program(&host, RULE, called, path);
            for call in calls(called) {
                assert_eq!(caller.tell("call"), "called");
                assert_eq!(caller.tell(&format!("waits {call}")), "waits");
                let said = caller.tell("woken");
                assert_eq!(said, "ECONNREFUSED", "{call} {called} {path:?}");
                assert_eq!(caller.tell("hear 50"), "nothing");
                caller.tell("close");
            }
        }
    }
}

#[test]
fn a_child_that_holds_the_call_goes_on() {
    let test = "a_child_that_holds_the_call_goes_on";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    let sender = Sender::of(channel("10.0.0.5"));
    let mut caller = program(&host, RULE, "10.0.0.5", None);
    assert_eq!(caller.tell("call"), "called");
    sender.counts(1, LONG);
    assert_eq!(caller.tell("child"), "closed");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(sender.channel.receivers(), 1);
    sender.send("x");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(caller.tell("end"), "ended with x");
    sender.counts(0, LOOKED);
}

#[test]
fn this_hosts_own_address_is_called_only_while_somebody_serves_it() {
    let test = "this_hosts_own_address_is_called_only_while_somebody_serves_it";
    let Some((_world, _host)) = enter(test) else {
        return;
    };
    let mut caller = Receiver::start("10.0.0.5:5000", "10.0.0.5", &[], None);
    // Nobody does: the program is itself the sender, and unicast goes nowhere.
    let server = server("10.0.0.5");
    assert_eq!(caller.tell("call"), "called");
    assert_eq!(caller.tell("say send pushed"), "said");
    server
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(server.recv(&mut [0; 10]).is_err(), "it was pushed");
    caller.ends("exit");
    server.set_read_timeout(Some(LONG)).unwrap();

    let sending = sending();
    let bell = UdpSocket::bind("127.0.0.1:0").unwrap();
    let scope = Scope {
        sender: None,
        ipv4_only: false,
        id: ChannelId::new(5000),
        app_port: 0,
    };
    let listening = sending.listen(scope, 1, bell.local_addr().unwrap(), None);
    let listening = listening.unwrap();
    for verb in ["call", "hello"] {
        let mut caller = Receiver::start("10.0.0.5:5000", "10.0.0.5", &[], None);
        match verb {
            "call" => assert_eq!(caller.tell("call"), "called"),
            _ => assert_eq!(caller.tell("hello sendto hello"), "said"),
        }
        let delivery = loop {
            let accepted = listening.accept(bell.local_addr().unwrap()).unwrap();
            if let Some(delivery) = accepted {
                break delivery;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        delivery.send(&[&[&b"word"[..]][..]], true).unwrap();
        assert_eq!(caller.tell("hear 2000"), "word from 10.0.0.5 5000");
        if verb == "hello" {
            assert_eq!(takes(&server).0, "hello");
        }
        delivery.end();
        assert_eq!(caller.tell("hear 2000"), "end from 10.0.0.5 5000");
    }
}

#[test]
fn what_no_rule_calls_is_left_alone() {
    let test = "what_no_rule_calls_is_left_alone";
    let Some((_world, host)) = enter(test) else {
        return;
    };
    let server = server("10.0.0.5");
    for rule in [
        "10.0.0.5:6000",
        "10.0.0.5:5000,role=off",
        "10.0.0.5:5000,role=push",
        "239.1.0.0/16=10.0.0.5",
    ] {
        for verb in ["call", "hello"] {
            let mut caller = program(&host, rule, "10.0.0.5", None);
            match verb {
                "call" => {
                    assert_eq!(caller.tell("call"), "called");
                    assert!(caller.tell("names").ends_with("to 10.0.0.5 5000"));
                    for call in ["send", "sendto", "sendmsg", "sendmmsg", "write"] {
                        assert_eq!(caller.tell(&format!("say {call} {call}")), "said");
                        assert_eq!(takes(&server).0, call);
                    }
                    assert_eq!(caller.tell("say writev plain"), "said");
                }
                _ => {
                    for call in ["sendmsg", "sendmmsg"] {
                        assert_eq!(caller.tell(&format!("hello {call} {call}")), "said");
                        assert_eq!(takes(&server).0, call);
                    }
                    assert_eq!(caller.tell("hello sendto plain"), "said");
                }
            }
            let (text, from) = takes(&server);
            assert_eq!(text, "plain", "{rule}");
            server.send_to(b"answer", from).unwrap();
            assert_eq!(caller.tell("hear 1000"), "answer from 10.0.0.5 5000");
            let threads = format!("/proc/{}/task", caller.child.id());
            let threads = std::fs::read_dir(threads).unwrap().count();
            assert_eq!(threads, 1, "nothing was started: {rule} {verb}");
            caller.ends("exit");
        }
    }
}
