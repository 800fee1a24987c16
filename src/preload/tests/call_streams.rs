//! What a program that calls another host gets, and what its sender sees of it: the
//! stream, unicast both ways, and who is counted when (`support/calls.rs` says between
//! whom). Is not how a call ends by itself (`call_ends`).

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

mod support;

use support::calls::{
    channel, enter, program, server, takes, AT_ONCE, LONG, LOOKED, PATHS, RULE, WAYS,
};
use support::streams::{asked_for, Sender, FP};

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
