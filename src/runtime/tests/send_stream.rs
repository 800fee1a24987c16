//! One sender process and its requesters: joining, the stream, its end.

#![allow(clippy::print_stderr)] // times, for whoever reads them

mod send_world;

use std::time::{Duration, Instant};

use send_world::{Actor, Link};

#[test]
fn actor() {
    send_world::act();
}

const V4: &str = "10.0.0.1#5000";
const V6: &str = "2001:db8::1#5001";

#[test]
fn a_receiver_is_granted_gets_the_stream_and_its_end() {
    let Some(link) = Link::enter("a_receiver_is_granted_gets_the_stream_and_its_end") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    for channel in [V4, V6] {
        sender.ask(&format!("open {channel}"));
        // Nobody there: no error, and nothing is kept for later.
        let unheard = sender.ask(&format!("send {channel} 10 100 1"));
        assert!(unheard.starts_with("0 0 0 "), "{unheard}");
        assert_eq!(sender.ask(&format!("counters {channel}")), "10 10 0 0");
        receiver.ask(&format!("ask {channel} 1"));
    }
    receiver.until("granted", |s| s.is_granted());
    for channel in [V4, V6] {
        assert_eq!(sender.ask(&format!("wait {channel} 1 2000")), "true");
        assert_eq!(sender.ask(&format!("receivers {channel}")), "1");
        let sent = sender.ask(&format!("send {channel} 500 1316 7"));
        assert!(sent.starts_with("500 0 0 "), "{sent}");
        sender.ask(&format!("end {channel}"));
        assert_eq!(sender.ask(&format!("send {channel} 1 10 1")), "EPIPE");
    }
    for stats in receiver.until("ended", |s| s.number("ends") == 3) {
        assert_eq!(stats.number("received"), 500, "{stats:?}");
        assert_eq!(stats.number("bytes"), 500 * 1316);
        assert_eq!(stats.number("missed") + stats.number("twice"), 0);
        assert_eq!(stats.number("first"), 0);
        assert_eq!(stats.text("verdict"), "Ended");
        assert_eq!(stats.number("strange"), 0, "all came from S:FP");
        assert_eq!(stats.number("port"), 4000);
    }
    // A new stream of the same channel: another token, and the waiting one hears it.
    sender.ask(&format!("open {V4}"));
    let sent = sender.ask(&format!("send {V4} 5 100 1"));
    assert!(sent.starts_with("5 0 0 "), "{sent}");
    receiver.until_nth(0, "again", |s| s.number("received") == 505);
    receiver.until_nth(0, "granted again", |s| s.is_granted());
    assert_eq!(receiver.stats()[0].number("tokens"), 2);
}

#[test]
fn sixty_four_requesters_get_each_datagram_once_and_in_order() {
    let test = "sixty_four_requesters_get_each_datagram_once_and_in_order";
    let Some(link) = Link::enter(test) else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    sender.ask(&format!("open {V4}"));
    sender.ask(&format!("open {V6}"));
    receiver.ask(&format!("ask {V4} 64"));
    receiver.ask(&format!("ask {V6} 64"));
    receiver.until("granted", |s| s.is_granted());
    assert_eq!(sender.ask(&format!("receivers {V4}")), "64");
    // Batches of all shapes: single, runs, more than one super-packet, unequal ends.
    let mut expected = 0;
    for (count, size, at_once) in [(20, 300, 1), (200, 1316, 44), (100, 500, 100), (7, 0, 3)] {
        for channel in [V4, V6] {
            let sent = sender.ask(&format!("send {channel} {count} {size} {at_once}"));
            assert!(sent.starts_with(&format!("{} 0 0 ", count * 64)), "{sent}");
        }
        expected += count;
        receiver.until("arrived", |s| s.number("received") >= expected);
    }
    for stats in receiver.stats() {
        assert_eq!(stats.number("received"), expected, "{stats:?}");
        assert_eq!(stats.number("missed") + stats.number("twice"), 0);
    }
    receiver.ask("leave");
    let deadline = Instant::now() + Duration::from_secs(2);
    while sender.ask(&format!("receivers {V4}")) != "0" {
        assert!(Instant::now() < deadline, "not all have left");
    }
}

#[test]
fn one_id_asked_of_two_addresses_is_one_stream() {
    let Some(link) = Link::enter("one_id_asked_of_two_addresses_is_one_stream") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    sender.ask("open 10.0.0.1#7");
    sender.ask("open 2001:db8::1#7");
    receiver.ask("ask 10.0.0.1#7 1");
    receiver.ask("ask 2001:db8::1#7 1");
    receiver.until("granted", |s| s.is_granted());
    sender.ask("send 10.0.0.1#7 3 10 1");
    sender.ask("send 2001:db8::1#7 3 10 1");
    for stats in receiver.until("both", |s| s.number("received") == 6) {
        assert_eq!(stats.number("missed") + stats.number("twice"), 0);
        assert_eq!(stats.number("strange"), 0, "each from the address it asked");
    }
}

#[test]
fn the_longest_bodies_arrive_and_longer_ones_are_refused() {
    let Some(link) = Link::enter("the_longest_bodies_arrive_and_longer_ones_are_refused") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    for (channel, longest) in [(V4, 65_491), (V6, 65_511)] {
        sender.ask(&format!("open {channel}"));
        receiver.ask(&format!("ask {channel} 1"));
        receiver.until("granted", |s| s.is_granted());
        let sent = sender.ask(&format!("send {channel} 2 {longest} 2"));
        assert!(sent.starts_with("2 0 0 "), "{sent}");
        let over = sender.ask(&format!("send {channel} 1 {} 1", longest + 1));
        assert_eq!(over, "EMSGSIZE");
    }
    let stats = receiver.until("both", |s| s.number("received") == 2);
    assert_eq!(stats[0].number("bytes"), 2 * 65_491);
    assert_eq!(stats[1].number("bytes"), 2 * 65_511);
}

#[test]
fn a_stream_goes_on_when_the_application_closes_every_descriptor() {
    let test = "a_stream_goes_on_when_the_application_closes_every_descriptor";
    let Some(link) = Link::enter(test) else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    for channel in [V4, V6] {
        sender.ask(&format!("open {channel}"));
        receiver.ask(&format!("ask {channel} 1"));
    }
    receiver.until("granted", |s| s.is_granted());
    for round in 1..=3 {
        for channel in [V4, V6] {
            let sent = sender.ask(&format!("send {channel} 10 100 1"));
            assert!(sent.starts_with("10 0 0 "), "{sent}");
        }
        receiver.until("arrived", |s| s.number("received") == 10 * round);
        sender.ask("closefrom");
    }
    // The background thread's own are out of the application's reach.
    let mut late = link.receiver();
    late.ask(&format!("ask {V4} 1"));
    late.until("granted", |s| s.is_granted());
}

#[test]
fn requesters_on_the_same_host_are_served_or_left_out() {
    let Some(link) = Link::enter("requesters_on_the_same_host_are_served_or_left_out") else {
        return;
    };
    let (mut sender, mut away) = (link.sender(), link.receiver());
    let mut here = Actor::start(&link.sends, "receiver");
    for channel in [V4, V6] {
        sender.ask(&format!("open {channel}"));
        here.ask(&format!("ask {channel} 1"));
        away.ask(&format!("ask {channel} 1"));
    }
    here.until("granted", |s| s.is_granted());
    away.until("granted", |s| s.is_granted());
    for channel in [V4, V6] {
        sender.ask(&format!("send {channel} 3 100 1"));
        sender.ask(&format!("loop {channel} off"));
        let sent = sender.ask(&format!("send {channel} 4 100 1"));
        assert!(sent.starts_with("4 0 0 "), "{sent}");
        sender.ask(&format!("loop {channel} on"));
        sender.ask(&format!("send {channel} 5 100 1"));
    }
    for stats in away.until("all", |s| s.number("received") == 12) {
        assert_eq!(stats.number("missed"), 0, "{stats:?}");
    }
    for stats in here.until("some", |s| s.number("received") == 8) {
        assert_eq!(stats.number("missed"), 4, "{stats:?}");
    }
}

#[test]
fn a_receiver_that_is_gone_is_known_by_icmp_and_its_link_falls_silent() {
    let test = "a_receiver_that_is_gone_is_known_by_icmp_and_its_link_falls_silent";
    let Some(link) = Link::enter(test) else {
        return;
    };
    for channel in [V4, V6] {
        let mut sender = link.sender();
        let (mut stays, mut goes) = (link.receiver(), link.receiver());
        sender.ask(&format!("open {channel}"));
        stays.ask(&format!("ask {channel} 1"));
        goes.ask(&format!("ask {channel} 1"));
        stays.until("granted", |s| s.is_granted());
        goes.until("granted", |s| s.is_granted());
        sender.ask(&format!("stream {channel} 100 5000"));
        goes.until("streams", |s| s.number("received") > 20);
        goes.kill();
        let gone = Instant::now();
        let outage = loop {
            if sender.ask(&format!("receivers {channel}")) == "1" {
                break gone.elapsed();
            }
            assert!(gone.elapsed() < Duration::from_millis(1500), "{channel}");
            std::thread::sleep(Duration::from_millis(5));
        };
        eprintln!("{channel}: gone after {outage:?}");
        let before = stays.stats()[0].number("received");
        stays.until("goes on", |s| s.number("received") > before + 100);
        assert_eq!(stays.stats()[0].number("missed"), 0);
        sender.kill();
    }
}

/// Packets to the receiver's host wait at the sender's: its neighbour does not answer.
fn unanswered(link: &Link, on: bool) {
    let (ours, theirs) = (link.devices.0.as_str(), link.devices.1.as_str());
    let state = if on { "off" } else { "on" };
    link.receives.ip(&["link", "set", theirs, "arp", state]);
    link.sends.ip(&["neigh", "flush", "dev", ours]);
}

#[test]
fn a_full_buffer_makes_a_blocking_sender_wait_and_another_drop() {
    let test = "a_full_buffer_makes_a_blocking_sender_wait_and_another_drop";
    let Some(link) = Link::enter(test) else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    sender.ask(&format!("open {V4}"));
    receiver.ask(&format!("ask {V4} 1"));
    receiver.until("granted", |s| s.is_granted());
    sender.ask(&format!("send {V4} 1 100 1"));
    let sockets = sender.ask("buffer 4096");
    assert!(sockets.contains("["), "{sockets}");
    unanswered(&link, true);
    let sent = sender.ask(&format!("send {V4} 100 1000 1 nonblock"));
    let numbers: Vec<u64> = sent.split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(numbers[2] > 80 && numbers[0] + numbers[2] == 100, "{sent}");
    // At most 10 ms a call, and some for the rest.
    assert!(numbers[3] >= 900 && numbers[3] < 2_500, "{sent}");
    assert!(sender
        .ask(&format!("counters {V4}"))
        .ends_with(&format!(" {} 0", numbers[2])));
    sender.tell(&format!("send {V4} 100 1000 1 block"));
    std::thread::sleep(Duration::from_millis(300));
    unanswered(&link, false);
    let sent = sender.answer("the blocked send");
    let numbers: Vec<u64> = sent.split(' ').map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers[..3], [100, 0, 0], "{sent}");
    assert!(numbers[3] >= 250, "it waited: {sent}");
}

#[test]
fn at_exit_the_stream_ends_at_once_and_said_once() {
    let Some(link) = Link::enter("at_exit_the_stream_ends_at_once_and_said_once") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    for channel in [V4, V6] {
        sender.ask(&format!("open {channel}"));
        receiver.ask(&format!("ask {channel} 3"));
    }
    receiver.until("granted", |s| s.is_granted());
    sender.ask(&format!("send {V4} 10 1000 10"));
    let took: u64 = sender.ask("finish").parse().unwrap();
    assert!(took < 50, "{took} ms");
    sender.quit();
    for stats in receiver.until("ended", |s| s.text("verdict") == "Ended") {
        assert_eq!(stats.number("ends"), 1, "{stats:?}");
    }
    assert_eq!(receiver.stats()[0].number("received"), 10);
}

#[test]
fn after_an_exec_that_failed_the_channel_is_opened_anew() {
    let Some(link) = Link::enter("after_an_exec_that_failed_the_channel_is_opened_anew") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    sender.ask(&format!("open {V4}"));
    receiver.ask(&format!("ask {V4} 1"));
    receiver.until("granted", |s| s.is_granted());
    sender.ask("finish");
    assert_eq!(sender.ask(&format!("send {V4} 1 10 1")), "EPIPE");
    receiver.until("ended", |s| s.text("verdict") == "Ended");
    sender.ask(&format!("open {V4}"));
    assert!(sender
        .ask(&format!("send {V4} 4 10 1"))
        .starts_with("4 0 0 "));
    receiver.until("again", |s| s.number("received") == 4);
}

#[test]
fn several_threads_of_one_channel_send_in_one_order() {
    let Some(link) = Link::enter("several_threads_of_one_channel_send_in_one_order") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    sender.ask(&format!("open {V4}"));
    receiver.ask(&format!("ask {V4} 3"));
    receiver.until("granted", |s| s.is_granted());
    sender.ask(&format!("threads {V4} 8 250"));
    for stats in receiver.until("all", |s| s.number("received") == 8 * 250 * 2) {
        assert_eq!(stats.number("missed") + stats.number("twice"), 0);
    }
}

#[test]
fn a_process_without_a_free_descriptor_sends_all_the_same() {
    let Some(link) = Link::enter("a_process_without_a_free_descriptor_sends_all_the_same") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    receiver.ask(&format!("ask {V4} 2"));
    let pid = sender.pid().to_string();
    let limit = ["--pid", &pid, "--nofile=3:3"];
    let status = std::process::Command::new("prlimit").args(limit).status();
    assert!(status.unwrap().success());
    sender.ask(&format!("open {V4}"));
    receiver.until("granted", |s| s.is_granted());
    assert_eq!(
        sender.ask(&format!("send {V4} 20 100 5")).split(' ').nth(2),
        Some("0")
    );
    for stats in receiver.until("all", |s| s.number("received") == 20) {
        assert_eq!(stats.number("missed") + stats.number("twice"), 0);
    }
    assert_eq!(sender.ask(&format!("counters {V4}")), "20 0 0 0");
}

#[test]
fn a_requester_in_a_handover_gets_exactly_what_it_was_told() {
    let Some(link) = Link::enter("a_requester_in_a_handover_gets_exactly_what_it_was_told") else {
        return;
    };
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    for channel in [V4, V6] {
        sender.ask(&format!("open {channel}"));
        // Somebody steady, who must not notice.
        receiver.ask(&format!("ask {channel} 1"));
        receiver.until("granted", |s| s.is_granted());
        sender.ask(&format!("stream {channel} 300 500"));
        let n = receiver.stats().len() - 1;
        receiver.until_nth(n, "streams", |s| s.number("received") > 20);
        for _ in 0..3 {
            let fewest: usize = receiver.ask(&format!("turn {channel} 8")).parse().unwrap();
            assert!(fewest >= 59, "{fewest}");
        }
        sender.ask(&format!("halt {channel}"));
    }
    for stats in receiver.stats() {
        assert_eq!(
            stats.number("missed") + stats.number("twice"),
            0,
            "{stats:?}"
        );
    }
}
