//! What a program sends to a mapped address reaches the channel's audience: every way
//! of sending, once, in order, byte for byte. The receiver is the library's native
//! one, in this process.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flexcast_runtime::native::{Event, Receiver, ReceiverSettings};
use flexcast_testbed::World;
use flexcast_wire::{Channel, ChannelId, Verdict};

mod support;

use support::lay_link;

const FP: u16 = 7450;
const LIMIT: Duration = Duration::from_secs(30);

/// group, range of the rule, S as it is written in the rule, S.
const FAMILIES: [(&str, &str, &str, &str); 3] = [
    ("239.1.1.1", "239.1.0.0/16", "10.0.0.5", "10.0.0.5"),
    ("::ffff:239.1.1.1", "239.1.0.0/16", "10.0.0.5", "10.0.0.5"),
    (
        "ff3e::8000:1",
        "[ff3e::8000:0]/112",
        "[2001:db8::5]",
        "2001:db8::5",
    ),
];

fn listen(group: &str, port: u16, sender: &str) -> Receiver {
    let group: IpAddr = group.parse().unwrap();
    let id = if group.to_canonical().is_multicast() {
        ChannelId::from_group(group, port).unwrap()
    } else {
        ChannelId::from_unicast_port(port).unwrap()
    };
    let channel = Channel::new(sender.parse().unwrap(), id);
    Receiver::open(ReceiverSettings::new(channel, FP)).unwrap()
}

/// Datagrams up to the one that says `last`.
fn hear(receiver: &mut Receiver) -> Vec<Vec<u8>> {
    let (mut heard, deadline) = (Vec::new(), Instant::now() + LIMIT);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.next(Some(left)) {
            Event::Datagram(bytes) if bytes == b"last" => return heard,
            Event::Datagram(bytes) => heard.push(bytes.to_vec()),
            Event::TimedOut => panic!("no last datagram after {heard:?}"),
            _ => {}
        }
    }
}

/// Whether the stream is said to end within two seconds.
fn ends(receiver: &mut Receiver) -> bool {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.next(Some(left)) {
            Event::Ended => return true,
            Event::TimedOut => return false,
            _ => {}
        }
    }
}

fn start(rule: &str, program: &Path, arguments: &[&str]) -> Child {
    let mut command = support::preloaded(&support::library(), Some(rule), program);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

/// Its output; panics where it fails.
fn end(child: Child) -> String {
    let output = child.wait_with_output().expect("it is our child");
    let said = support::text(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    support::text(&output.stdout)
}

fn enter(test: &str) -> Option<(World, PathBuf)> {
    support::library();
    let world = World::enter(test)?;
    lay_link();
    Some((world, support::program("sends.c", &[])))
}

#[test]
fn every_way_of_sending_reaches_the_audience_once_and_in_order() {
    let test = "every_way_of_sending_reaches_the_audience_once_and_in_order";
    let Some((_world, program)) = enter(test) else {
        return;
    };
    // An address of another host is a channel too, where the rule says that we send.
    let unicast = ("10.0.0.9", "10.0.0.0/24", "10.0.0.5", "10.0.0.5");
    let all = FAMILIES.into_iter().chain([unicast]);
    for (port, (group, range, written, sender)) in (5000..).zip(all) {
        let rule = format!("{range}={written},empty=wait");
        let child = start(&rule, &program, &[group, &port.to_string(), "all"]);
        let mut receiver = listen(group, port, sender);
        let heard = hear(&mut receiver);
        let texts: Vec<String> = heard.iter().map(|bytes| support::text(bytes)).collect();
        let right = [
            "01 sendto",
            "02 sendmsg",
            "03 sendmmsg",
            "04 sendmmsg",
            "05 sendmmsg",
            "06 send",
            "07 write",
            "08 writev",
            "09 writev",
            "10 writev",
            "11 in parts",
            "",
            "13 by name",
            "14 by a copy",
            "15 long, i",
            "n segments",
            " of ten\0\0\0",
            "16 s",
            "ix",
            "17 by a child",
            "18 after a fork",
            "19 never waiting",
        ];
        assert_eq!(texts, right, "{group}");
        end(child);
        assert!(ends(&mut receiver), "the end of the program ends {group}");
    }
}

#[test]
fn without_loop_receivers_on_this_host_are_left_out() {
    let test = "without_loop_receivers_on_this_host_are_left_out";
    let Some((_world, program)) = enter(test) else {
        return;
    };
    for (port, (group, range, written, sender)) in (5000..).zip(FAMILIES) {
        let rule = format!("{range}={written},empty=wait");
        let child = start(&rule, &program, &[group, &port.to_string(), "quiet"]);
        let heard = hear(&mut listen(group, port, sender));
        assert_eq!(heard, [b"heard"; 3], "{group}");
        end(child);
    }
}

#[test]
fn shutting_down_ends_the_stream_and_the_next_use_begins_another() {
    let test = "shutting_down_ends_the_stream_and_the_next_use_begins_another";
    let Some((_world, program)) = enter(test) else {
        return;
    };
    let rule = "239.1.0.0/16=10.0.0.5,empty=wait";
    let child = start(rule, &program, &["239.1.1.1", "5000", "shuts"]);
    let mut receiver = listen("239.1.1.1", 5000, "10.0.0.5");
    for text in ["first", "second"] {
        let mut heard = Vec::new();
        loop {
            match receiver.next(Some(LIMIT)) {
                Event::Datagram(bytes) => heard.push(support::text(bytes)),
                Event::Ended => break,
                Event::TimedOut => panic!("the {text} stream does not end: {heard:?}"),
                _ => {}
            }
        }
        assert_eq!(heard, [text]);
    }
    end(child);
}

#[test]
fn the_longest_datagram_is_sent_and_one_byte_more_refused() {
    let test = "the_longest_datagram_is_sent_and_one_byte_more_refused";
    let Some((_world, program)) = enter(test) else {
        return;
    };
    for (port, (group, range, written, sender)) in (5000..).zip(FAMILIES) {
        let rule = format!("{range}={written},empty=wait");
        let child = start(&rule, &program, &[group, &port.to_string(), "limits"]);
        let heard = hear(&mut listen(group, port, sender));
        let lengths: Vec<usize> = heard.iter().map(Vec::len).collect();
        assert_eq!(
            lengths,
            [if group.starts_with("ff") {
                65_511
            } else {
                65_491
            }]
        );
        end(child);
    }
}

#[test]
fn a_connect_waits_until_the_receivers_are_there_and_no_longer_than_it_may() {
    let test = "a_connect_waits_until_the_receivers_are_there_and_no_longer_than_it_may";
    let Some((_world, program)) = enter(test) else {
        return;
    };
    let wait = |rule: &str, port: &str| start(rule, &program, &["239.1.1.1", port, "waits"]);
    let child = wait("239.1.0.0/16=self,empty=wait:2:20", "5000");
    let mut first = listen("239.1.1.1", 5000, "10.0.0.5");
    // Granted by the waiting connect, and one of two: it goes on waiting.
    while !matches!(first.next(Some(LIMIT)), Event::Verdict(Verdict::Granted, _)) {}
    let pause = Instant::now();
    while pause.elapsed() < Duration::from_millis(600) {
        let event = first.next(Some(Duration::from_millis(50)));
        assert!(!matches!(event, Event::Datagram(_)), "{event:?}");
    }
    let mut second = listen("239.1.1.1", 5000, "10.0.0.5");
    assert_eq!(hear(&mut second), [[0_u8; 0]; 0]);
    assert_eq!(hear(&mut first), [[0_u8; 0]; 0]);
    let took: u64 = end(child).trim().parse().unwrap();
    assert!((600..10_000).contains(&took), "{took} ms");

    let took: u64 = end(wait("239.1.0.0/16=self,empty=wait:2:1", "5001"))
        .trim()
        .parse()
        .unwrap();
    assert!((1_000..3_000).contains(&took), "{took} ms");
}

#[test]
fn an_empty_audience_is_an_error_only_where_the_rule_says_so() {
    let test = "an_empty_audience_is_an_error_only_where_the_rule_says_so";
    let Some((_world, program)) = enter(test) else {
        return;
    };
    let said = |rule: &str| end(start(rule, &program, &["239.1.1.1", "5000", "fails"]));
    assert_eq!(
        said("239.1.0.0/16=self,empty=error"),
        "-1 ECONNREFUSED\n".repeat(3)
    );
    assert_eq!(said("239.1.0.0/16=self"), "6 0\n".repeat(3));
}

#[test]
fn where_fp_is_somebody_elses_datagrams_are_dropped_and_it_is_said_once() {
    let test = "where_fp_is_somebody_elses_datagrams_are_dropped_and_it_is_said_once";
    let Some((_world, program)) = enter(test) else {
        return;
    };
    let _holder = std::net::UdpSocket::bind(SocketAddr::new([0, 0, 0, 0].into(), FP)).unwrap();
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fp-{}.log", std::process::id()));
    let fails = |rule: &str| {
        let mut command = support::preloaded(&support::library(), Some(rule), &program);
        command.env("FLEXCAST_LOG", format!("error,{}", log.display()));
        support::finish(command.args(["239.1.1.1", "5000", "fails"]), LIMIT)
    };
    assert_eq!(fails("239.1.0.0/16=self"), "6 0\n".repeat(3));
    let told = std::fs::read_to_string(&log).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(
        told.contains(&format!("process {}", std::process::id())),
        "{told}"
    );
    assert_eq!(
        fails("239.1.0.0/16=self,empty=error"),
        "-1 ENETUNREACH\n".repeat(3)
    );
    std::fs::remove_file(log).unwrap();
}

#[test]
fn a_host_that_gets_the_senders_address_is_the_sender() {
    let test = "a_host_that_gets_the_senders_address_is_the_sender";
    let Some((_world, program)) = enter(test) else {
        return;
    };
    let rule = "239.1.0.0/16=10.0.0.77";
    let mut child = start(rule, &program, &["239.1.1.1", "5000", "goes-on"]);
    std::thread::sleep(Duration::from_millis(300));
    let words = ["address", "add", "10.0.0.77/24", "dev", "v0"];
    assert!(Command::new("ip").args(words).status().unwrap().success());
    let mut receiver = listen("239.1.1.1", 5000, "10.0.0.77");
    let (mut missing, began) = (vec!["send", "sendto"], Instant::now());
    while !missing.is_empty() && began.elapsed() < Duration::from_secs(6) {
        if let Event::Datagram(bytes) = receiver.next(Some(Duration::from_millis(100))) {
            missing.retain(|what| what.as_bytes() != bytes);
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(missing, [""; 0]);
}
