//! Datagrams that leave soon after the call: a hundred requesters and a program that is
//! flat out, or nearly, get each of them once and in order, whatever ends the stream.
//!
//! Requesters of a test poll each millisecond: what is sent at once stays far below what
//! a default receive queue holds.

mod send_world;

use std::time::{Duration, Instant};

use send_world::{Actor, Link};

#[test]
fn actor() {
    send_world::act();
}

const V4: &str = "10.0.0.1#5000";
const V6: &str = "2001:db8::1#5001";
const MANY: usize = 100;
/// Datagrams sent at once.
const BURST: u64 = 150;

/// A sender with an open channel and so many requesters that are in.
fn crowd(link: &Link, channel: &str, count: usize) -> (Actor, Actor) {
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    sender.ask(&format!("open {channel}"));
    receiver.ask(&format!("ask {channel} {count}"));
    receiver.until("granted", |s| s.is_granted());
    assert_eq!(sender.ask(&format!("wait {channel} {count} 5000")), "true");
    (sender, receiver)
}

/// All that were sent, once each and in order.
fn all_have(receiver: &mut Actor, count: u64) {
    for stats in receiver.until("all", |s| s.number("received") >= count) {
        assert_eq!(stats.number("received"), count, "{stats:?}");
        let strays = stats.number("missed") + stats.number("twice") + stats.number("strange");
        assert_eq!(strays, 0, "{stats:?}");
    }
}

/// Datagrams that were queued, and the longest wait of one in microseconds.
fn queued(sender: &mut Actor, channel: &str) -> (u64, u64) {
    let answer = sender.ask(&format!("queued {channel}"));
    let (count, longest) = answer.split_once(' ').unwrap();
    (count.parse().unwrap(), longest.parse().unwrap())
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_hundred_requesters_get_what_is_sent_flat_out_once_and_in_order() {
    let Some(link) =
        Link::enter("a_hundred_requesters_get_what_is_sent_flat_out_once_and_in_order")
    else {
        return;
    };
    for (channel, size) in [(V4, 1316), (V6, 200)] {
        let (mut sender, mut receiver) = crowd(&link, channel, MANY);
        let mut rounds = 0;
        // A busy machine may interrupt a program that is flat out until it is none.
        while rounds < 10 || queued(&mut sender, channel).0 < BURST {
            let sent = sender.ask(&format!("send {channel} {BURST} {size} 1 soon"));
            assert!(!sent.starts_with('E'), "{sent}");
            rounds += 1;
            all_have(&mut receiver, rounds * BURST);
            assert!(rounds < 200, "it is never seen as flat out");
        }
        let all = format!("{} 0 0 0", rounds * BURST);
        assert_eq!(sender.ask(&format!("counters {channel}")), all);
        // The worker goes when it has nothing to do.
        std::thread::sleep(Duration::from_millis(1_500));
        sender.ask(&format!("send {channel} {BURST} {size} 1 soon"));
        all_have(&mut receiver, (rounds + 1) * BURST);
        sender.quit();
    }
}

#[test]
fn a_program_that_paces_itself_sends_at_once() {
    let Some(link) = Link::enter("a_program_that_paces_itself_sends_at_once") else {
        return;
    };
    let (mut sender, mut receiver) = crowd(&link, V4, MANY);
    // 500 a second.
    sender.ask(&format!("bursts {V4} 1316 1 2000"));
    receiver.until("streams", |s| s.number("received") > 500);
    let count: u64 = sender.ask(&format!("halt {V4}")).parse().unwrap();
    all_have(&mut receiver, count);
    // None, but where the machine stood still and the program caught up.
    let (late, _) = queued(&mut sender, V4);
    assert!(late < count / 4, "{late} of {count}");
}

#[test]
fn several_threads_share_the_way_out() {
    let Some(link) = Link::enter("several_threads_share_the_way_out") else {
        return;
    };
    let (mut sender, mut receiver) = crowd(&link, V4, MANY);
    for round in 1..=10 {
        // Two at once, in each of 25 calls.
        sender.ask(&format!("threads {V4} 3 25 soon"));
        all_have(&mut receiver, round * 150);
    }
    assert_eq!(sender.ask(&format!("counters {V4}")), "1500 0 0 0");
    // One thread that must have left when its call returns, among those that need not.
    sender.ask(&format!("bursts {V4} 200 50 20000"));
    sender.ask(&format!("threads {V4} 2 25"));
    let more: u64 = sender.ask(&format!("halt {V4}")).parse().unwrap();
    all_have(&mut receiver, 1_600 + more);
}

#[test]
fn the_end_of_the_stream_comes_after_what_was_sent_last() {
    let Some(link) = Link::enter("the_end_of_the_stream_comes_after_what_was_sent_last") else {
        return;
    };
    let (mut sender, mut receiver) = crowd(&link, V4, MANY);
    for round in 1..=20 {
        // In one go: nobody looks in between.
        sender.tell(&format!("send {V4} {BURST} 1316 1 soon"));
        sender.tell(&format!("end {V4}"));
        sender.answer("send");
        sender.answer("end");
        receiver.until("ended", |s| s.number("ends") == 3 * round);
        all_have(&mut receiver, round * BURST);
        sender.ask(&format!("open {V4}"));
        receiver.until("again", |s| s.is_granted());
    }
}

#[test]
fn neither_exit_nor_a_flush_before_sudden_death_loses_any() {
    let Some(link) = Link::enter("neither_exit_nor_a_flush_before_sudden_death_loses_any") else {
        return;
    };
    for leaving in ["finish", "flush"] {
        let (mut sender, mut receiver) = crowd(&link, V4, MANY);
        sender.tell(&format!("send {V4} {BURST} 1316 1 soon"));
        sender.tell(leaving);
        sender.answer("send");
        sender.answer(leaving);
        sender.kill();
        all_have(&mut receiver, BURST);
    }
}

#[test]
fn those_in_a_handover_get_exactly_what_they_were_told_while_others_come_and_go() {
    let Some(link) =
        Link::enter("those_in_a_handover_get_exactly_what_they_were_told_while_others_come_and_go")
    else {
        return;
    };
    let (mut sender, mut receiver) = crowd(&link, V4, 10);
    let mut passing = link.receiver();
    let mut moved = link.receiver();
    sender.ask(&format!("bursts {V4} 300 40 10000"));
    receiver.until("streams", |s| s.number("received") > 100);
    for _ in 0..3 {
        passing.ask(&format!("ask {V4} 10"));
        let fewest: usize = moved.ask(&format!("turn {V4} 8")).parse().unwrap();
        assert!(fewest >= 59, "{fewest}");
        passing.until("joined", |s| s.number("received") > 0);
        passing.ask("leave");
        let receivers = format!("receivers {V4}");
        until("they have left", || sender.ask(&receivers) == "10");
        for stats in passing.stats() {
            assert_eq!(
                stats.number("missed") + stats.number("twice"),
                0,
                "{stats:?}"
            );
        }
        passing.ask("vanish");
    }
    let count: u64 = sender.ask(&format!("halt {V4}")).parse().unwrap();
    all_have(&mut receiver, count);
    let (late, _) = queued(&mut sender, V4);
    assert!(late > 0, "of {count} none was queued");
}

#[test]
fn what_another_process_hands_over_joins_the_queue() {
    let Some(link) = Link::enter("what_another_process_hands_over_joins_the_queue") else {
        return;
    };
    let (mut sender, mut receiver) = crowd(&link, V4, 20);
    let mut other = link.sender();
    other.ask(&format!("open {V4}"));
    sender.ask(&format!("bursts {V4} 300 60 5000"));
    receiver.until("streams", |s| s.number("received") > 100);
    for _ in 0..20 {
        other.ask(&format!("send {V4} 50 300 1"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let own: u64 = sender.ask(&format!("halt {V4}")).parse().unwrap();
    all_have(&mut receiver, own + 1_000);
    let all = format!("{} 0 0 0", own + 1_000);
    assert_eq!(sender.ask(&format!("counters {V4}")), all);
}

#[test]
fn a_full_send_buffer_is_waited_for_or_counted() {
    let Some(link) = Link::enter("a_full_send_buffer_is_waited_for_or_counted") else {
        return;
    };
    let (mut sender, mut receiver) = crowd(&link, V4, 20);
    sender.ask("buffer 4608");
    sender.ask(&format!("send {V4} {BURST} 1316 1 soon"));
    all_have(&mut receiver, BURST);
    sender.ask(&format!("send {V4} {BURST} 1316 1 soon nonblock"));
    sender.ask("flush");
    let counters = sender.ask(&format!("counters {V4}"));
    let fields: Vec<u64> = counters.split(' ').map(|n| n.parse().unwrap()).collect();
    assert_eq!(fields[..2], [2 * BURST, 0], "{counters}");
    let expected: u64 = 2 * BURST * 20 - fields[2] - fields[3];
    until("all but what was dropped", || {
        let all = receiver.stats().iter().map(|s| s.number("received")).sum();
        assert!(expected >= all, "{all} of {counters}");
        expected == all
    });
}
