//! What a program that calls is told when there is nothing more to come, or never will
//! be: the end of the stream and a final refusal wake it in whatever call it waits. And
//! when this host's own address is called at all.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use flexcast_runtime::send::{Guard, Scope};
use flexcast_wire::ChannelId;

mod support;

use support::calls::{channel, enter, program, server, takes, LONG, LOOKED, PATHS, RULE, WAYS};
use support::streams::{sending, Receiver, Sender};

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
        passing: false,
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
        passing: false,
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
