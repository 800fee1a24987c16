//! Several sender processes on one host: one owns FP, each has its own streams, and
//! what becomes of one is nothing to the receivers of the others.

#![allow(clippy::print_stderr)] // outages, for whoever reads them

mod send_world;

use std::time::{Duration, Instant};

use send_world::{Actor, Link};

#[test]
fn actor() {
    send_world::act();
}

const A: &str = "10.0.0.1#5000";
const B: &str = "10.0.0.1#6000";
const SOON: Duration = Duration::from_millis(1500);
const B6: &str = "2001:db8::1#6006";

fn wait_until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < limit, "{what}: not after {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    started.elapsed()
}

/// An owner that streams A and a member that streams B, each with a receiver.
struct Two {
    link: Link,
    owner: Actor,
    member: Actor,
    hears_a: Actor,
    hears_b: Actor,
}

impl Two {
    fn enter(test: &str) -> Option<Two> {
        let link = Link::enter(test)?;
        let (mut owner, mut member) = (link.sender(), link.sender());
        assert!(owner.ask("standing").starts_with("Owner"));
        assert!(member.ask("standing").starts_with("Member"));
        let (mut hears_a, mut hears_b) = (link.receiver(), link.receiver());
        owner.ask(&format!("open {A}"));
        hears_a.ask(&format!("ask {A} 2"));
        for channel in [B, B6] {
            member.ask(&format!("open {channel}"));
            hears_b.ask(&format!("ask {channel} 2"));
        }
        hears_a.until("granted", |s| s.is_granted());
        hears_b.until("granted", |s| s.is_granted());
        owner.ask(&format!("stream {A} 500 2000"));
        for channel in [B, B6] {
            member.ask(&format!("stream {channel} 500 2000"));
        }
        hears_a.until("streams", |s| s.number("received") > 50);
        hears_b.until("streams", |s| s.number("received") > 50);
        hears_a.ask("mark");
        hears_b.ask("mark");
        Some(Two {
            link,
            owner,
            member,
            hears_a,
            hears_b,
        })
    }
}

/// The stream has gone on, whole and under its one token; prints the longest pause.
fn unhurt(what: &str, receiver: &mut Actor) {
    let before = receiver.stats()[0].number("received");
    receiver.until("goes on", |s| s.number("received") > before + 100);
    for stats in receiver.stats() {
        assert_eq!(stats.number("missed"), 0, "{what}: {stats:?}");
        assert_eq!(stats.number("twice"), 0, "{what}: {stats:?}");
        assert_eq!(stats.number("tokens"), 1, "{what}: {stats:?}");
        assert!(stats.number("pause") < 1_000, "{what}: {stats:?}");
    }
    let pauses: Vec<u64> = receiver.stats().iter().map(|s| s.number("pause")).collect();
    eprintln!("{what}: longest pauses {pauses:?} ms");
}

/// A new receiver gets in, and the stream; how long that takes.
fn gets_in(what: &str, link: &Link, channel: &str, limit: Duration) -> Actor {
    let mut late = link.receiver();
    let started = Instant::now();
    late.ask(&format!("ask {channel} 1"));
    let took = wait_until(what, limit, || late.stats()[0].number("received") > 0);
    eprintln!("{what}: in after {took:?} ({:?})", started.elapsed());
    late
}

#[test]
fn two_processes_send_each_its_channel_in_both_families() {
    let test = "two_processes_send_each_its_channel_in_both_families";
    let Some(mut two) = Two::enter(test) else {
        return;
    };
    unhurt("the owner's", &mut two.hears_a);
    unhurt("the member's", &mut two.hears_b);
    assert_eq!(two.owner.ask(&format!("receivers {A}")), "2");
    assert_eq!(two.member.ask(&format!("receivers {B}")), "2");
    for stats in two.hears_b.stats() {
        assert_eq!(stats.number("strange"), 0, "{stats:?}");
    }
    // What is gone at a member's is heard by the owner's sockets, and passed on.
    two.hears_b.kill();
    wait_until(
        "the member hears of it",
        Duration::from_millis(1500),
        || {
            two.member.ask(&format!("receivers {B}")) == "0"
                && two.member.ask(&format!("receivers {B6}")) == "0"
        },
    );
}

#[test]
fn a_killed_owner_is_succeeded_and_the_others_receivers_are_unhurt() {
    let test = "a_killed_owner_is_succeeded_and_the_others_receivers_are_unhurt";
    let Some(mut two) = Two::enter(test) else {
        return;
    };
    let mut third = two.link.sender();
    two.owner.kill();
    wait_until("one succeeds", Duration::from_secs(1), || {
        let standings = [two.member.ask("standing"), third.ask("standing")];
        let owners = standings.iter().filter(|s| s.starts_with("Owner")).count();
        let members = standings.iter().filter(|s| s.starts_with("Member")).count();
        owners == 1 && members == 1
    });
    unhurt("the survivor's", &mut two.hears_b);
    let limit = Duration::from_millis(1500);
    let _late = gets_in("a new one", &two.link, B, limit);
    let _late6 = gets_in("a new one by IPv6", &two.link, B6, limit);
    // The dead one's receivers wait, and are served by whoever sends next.
    third.ask(&format!("open {A}"));
    wait_until("the orphans", Duration::from_secs(6), || {
        third.ask(&format!("receivers {A}")) == "2"
    });
    third.ask(&format!("send {A} 1 10 1"));
    two.hears_a.until("again", |s| s.number("tokens") == 2);
}

#[test]
fn a_killed_member_is_nothing_to_the_owners_receivers() {
    let test = "a_killed_member_is_nothing_to_the_owners_receivers";
    let Some(mut two) = Two::enter(test) else {
        return;
    };
    two.member.kill();
    unhurt("the owner's", &mut two.hears_a);
    let _late = gets_in("a new one", &two.link, A, Duration::from_secs(1));
    // Its receivers become pending at the owner.
    wait_until("the orphans", Duration::from_secs(6), || {
        two.owner.ask(&format!("receivers {B}")) == "2"
    });
    two.owner.ask(&format!("open {B}"));
    two.owner.ask(&format!("stream {B} 100 2000"));
    for n in 0..2 {
        let what = "the stream that replaces the dead one's";
        two.hears_b.until_nth(n, what, |s| s.number("tokens") == 2);
    }
}

#[test]
fn a_stopped_owner_is_overtaken_and_stands_back_when_it_wakes() {
    let test = "a_stopped_owner_is_overtaken_and_stands_back_when_it_wakes";
    let Some(mut two) = Two::enter(test) else {
        return;
    };
    two.owner.signal("-STOP");
    let stopped = Instant::now();
    let _late = gets_in("a new one", &two.link, B, Duration::from_secs(4));
    let _late6 = gets_in("by IPv6", &two.link, B6, Duration::from_secs(4));
    assert!(two.member.ask("standing").contains("Owner { generation: 2"));
    unhurt("the member's", &mut two.hears_b);
    // Whoever starts meanwhile finds the living owner, not the stopped one.
    let mut third = two.link.sender();
    assert!(third.ask("standing").contains("generation: 2"));
    std::thread::sleep(Duration::from_secs(4).saturating_sub(stopped.elapsed()));
    two.owner.signal("-CONT");
    wait_until("it stands back", Duration::from_secs(1), || {
        two.owner.ask("standing").contains("Member { generation: 2")
    });
    // The woken one's stream goes on under its token, and new receivers find it.
    two.hears_a.until("granted", |s| s.is_granted());
    let before = two.hears_a.stats()[0].number("received");
    two.hears_a
        .until("goes on", |s| s.number("received") > before + 50);
    assert_eq!(two.hears_a.stats()[0].number("tokens"), 1);
    let _late = gets_in("at the woken one's", &two.link, A, Duration::from_secs(2));
    unhurt("the member's again", &mut two.hears_b);
    // And so on: the second owner is killed, the woken one succeeds.
    two.member.kill();
    wait_until("succession", Duration::from_secs(1), || {
        let standings = [two.owner.ask("standing"), third.ask("standing")];
        standings.iter().any(|s| s.starts_with("Owner"))
    });
    let _late = gets_in("after that", &two.link, A, Duration::from_secs(2));
}

#[test]
fn a_stopped_owner_without_members_is_overtaken_by_the_next_process() {
    let test = "a_stopped_owner_without_members_is_overtaken_by_the_next_process";
    let Some(link) = Link::enter(test) else {
        return;
    };
    let first = link.sender();
    first.signal("-STOP");
    let started = Instant::now();
    let mut second = link.sender();
    let took = started.elapsed();
    assert!(took > Duration::from_millis(1900), "{took:?}");
    assert!(second.ask("standing").contains("Owner { generation: 2"));
    for channel in [B, B6] {
        second.ask(&format!("open {channel}"));
        let mut receiver = link.receiver();
        receiver.ask(&format!("ask {channel} 8"));
        receiver.until("granted", |s| s.is_granted());
    }
}

#[test]
fn a_stopped_member_is_nothing_to_the_owners_receivers() {
    let test = "a_stopped_member_is_nothing_to_the_owners_receivers";
    let Some(mut two) = Two::enter(test) else {
        return;
    };
    two.member.signal("-STOP");
    // More requests than its queue holds.
    let mut many = two.link.receiver();
    many.ask(&format!("ask {B} 200"));
    std::thread::sleep(Duration::from_secs(2));
    unhurt("the owner's", &mut two.hears_a);
    let _late = gets_in("a new one", &two.link, A, Duration::from_secs(1));
    two.member.signal("-CONT");
    many.until("granted", |s| s.is_granted());
    assert!(two
        .member
        .ask("standing")
        .contains("Member { generation: 1"));
    assert_eq!(two.member.ask(&format!("receivers {B}")), "202");
    let stats = two.hears_b.until("granted", |s| s.is_granted());
    assert!(stats.iter().all(|s| s.number("tokens") == 1));
}

#[test]
fn receivers_that_wait_are_granted_with_the_opening_by_whichever_process() {
    let test = "receivers_that_wait_are_granted_with_the_opening_by_whichever_process";
    let Some(link) = Link::enter(test) else {
        return;
    };
    // Before there is any sender process.
    let mut receiver = link.receiver();
    for channel in [A, B, B6] {
        receiver.ask(&format!("ask {channel} 3"));
    }
    std::thread::sleep(Duration::from_millis(300));
    let mut waits = link.sender();
    assert_eq!(waits.ask(&format!("wait {A} 4 50")), "false");
    assert_eq!(waits.ask(&format!("wait {A} 3 5000")), "true");
    assert_eq!(waits.ask(&format!("wait {B} 3 5000")), "true");
    receiver.until("pending", |s| s.text("verdict") == "Pending");
    // A member sees them, too, though they are kept by the owner.
    let mut sends = link.sender();
    assert_eq!(sends.ask(&format!("wait {B6} 3 5000")), "true");
    for (process, channel) in [(&mut waits, A), (&mut sends, B)] {
        process.ask(&format!("open {channel}"));
        let sent = process.ask(&format!("send {channel} 20 1000 10"));
        assert!(sent.starts_with("60 0 0 "), "{channel}: {sent}");
    }
    for n in 0..6 {
        receiver.until_nth(n, "all", |s| s.number("received") == 20);
        let stats = &receiver.stats()[n];
        assert_eq!(stats.number("first"), 0, "{stats:?}");
        assert_eq!(stats.number("missed") + stats.number("twice"), 0);
    }
    // The one that waited ends; those that are pending there ask the other.
    waits.quit();
    wait_until("pending again", Duration::from_secs(6), || {
        sends.ask(&format!("receivers {B6}")) == "3"
    });
    sends.ask(&format!("open {B6}"));
    wait_until("granted again", Duration::from_secs(6), || {
        sends
            .ask(&format!("send {B6} 1 100 1"))
            .starts_with("3 0 0 ")
    });
}

#[test]
fn a_second_process_of_a_channel_sends_through_the_first() {
    let test = "a_second_process_of_a_channel_sends_through_the_first";
    let Some(link) = Link::enter(test) else {
        return;
    };
    let (mut owner, mut one, mut other) = (link.sender(), link.sender(), link.sender());
    let mut receiver = link.receiver();
    receiver.ask(&format!("ask {A} 2"));
    receiver.ask(&format!("ask {B} 2"));
    // A: held by the owner; B: by a member. In both, a second process joins in.
    owner.ask(&format!("open {A}"));
    one.ask(&format!("open {A}"));
    one.ask(&format!("open {B}"));
    other.ask(&format!("open {B}"));
    receiver.until("granted", |s| s.is_granted());
    assert_eq!(
        one.ask(&format!("wait {A} 2 2000")),
        "true",
        "the holder's count"
    );
    owner.ask(&format!("send {A} 100 200 10"));
    one.ask(&format!("send {A} 100 200 10"));
    one.ask(&format!("send {B} 100 200 10"));
    other.ask(&format!("send {B} 100 200 10"));
    for stats in receiver.until("both's", |s| s.number("received") == 200) {
        assert_eq!(stats.number("missed") + stats.number("twice"), 0);
        assert_eq!(stats.number("tokens"), 1, "{stats:?}");
    }
    // The owner opens B as well, and hands its datagrams to the member that has it.
    owner.ask(&format!("open {B}"));
    owner.ask(&format!("send {B} 50 200 10"));
    receiver.until_nth(2, "all", |s| s.number("received") == 250);
    // The holder ends its stream: the next in line has the requesters.
    one.ask(&format!("end {B}"));
    wait_until("handed on", Duration::from_secs(2), || {
        let sent = other.ask(&format!("send {B} 1 200 1"));
        sent.starts_with("2 0 0 ")
    });
    // That one is killed: the owner is next.
    other.kill();
    wait_until("the last in line", Duration::from_secs(6), || {
        let sent = owner.ask(&format!("send {B} 1 200 1"));
        sent.starts_with("2 0 0 ")
    });
    receiver.until_nth(3, "three streams", |s| s.number("tokens") == 3);
}

#[test]
fn after_a_succession_a_channel_stays_with_the_process_that_has_its_audience() {
    let test = "after_a_succession_a_channel_stays_with_the_process_that_has_its_audience";
    let Some(mut two) = Two::enter(test) else {
        return;
    };
    let mut second = two.link.sender();
    for channel in [B, B6] {
        second.ask(&format!("open {channel}"));
    }
    two.owner.kill();
    wait_until("succession", Duration::from_secs(1), || {
        !second.ask("standing").starts_with("Seeking")
    });
    unhurt("the holder's", &mut two.hears_b);
    two.member.ask(&format!("halt {B}"));
    two.member.ask(&format!("halt {B6}"));
    std::thread::sleep(Duration::from_millis(400));
    let before = two.hears_b.stats();
    second.ask(&format!("send {B} 10 100 1"));
    second.ask(&format!("send {B6} 10 100 1"));
    for (n, before) in before.iter().enumerate() {
        let all = before.number("received") + 10;
        two.hears_b
            .until_nth(n, "the second's, in the first's stream", |s| {
                s.number("received") == all && s.number("tokens") == 1
            });
    }
}

#[test]
fn of_many_that_start_at_once_one_owns_and_the_next_when_that_is_killed() {
    let test = "of_many_that_start_at_once_one_owns_and_the_next_when_that_is_killed";
    let Some(link) = Link::enter(test) else {
        return;
    };
    let mut senders: Vec<Actor> = (0..8)
        .map(|_| Actor::start(&link.sends, "sender"))
        .collect();
    senders.iter_mut().for_each(|sender| sender.tell("start"));
    for sender in &mut senders {
        assert_eq!(sender.answer("start"), "ok");
    }
    let mut receiver = link.receiver();
    for (n, sender) in senders.iter_mut().enumerate() {
        let channel = format!("10.0.0.1#{}", n + 1);
        sender.ask(&format!("open {channel}"));
        receiver.ask(&format!("ask {channel} 1"));
        sender.ask(&format!("stream {channel} 100 5000"));
    }
    receiver.until("all streams", |s| s.number("received") > 10);
    let mut alive: Vec<usize> = (0..senders.len()).collect();
    while alive.len() > 1 {
        let mut owner = 0;
        let took = wait_until("one owner", Duration::from_secs(2), || {
            let standings = alive.iter().map(|n| senders[*n].ask("standing"));
            let standings: Vec<String> = standings.collect();
            let owners = standings.iter().filter(|s| s.starts_with("Owner"));
            let members = standings.iter().filter(|s| s.starts_with("Member"));
            let settled = owners.count() == 1 && members.count() == alive.len() - 1;
            let at = standings.iter().position(|s| s.starts_with("Owner"));
            owner = at.unwrap_or(0);
            settled
        });
        eprintln!("{} alive, settled after {took:?}", alive.len());
        let killed = alive.remove(owner);
        let last = alive[alive.len() / 2];
        let _late = gets_in("before", &link, &format!("10.0.0.1#{}", last + 1), SOON);
        senders[killed].kill();
        let _late = gets_in("after", &link, &format!("10.0.0.1#{}", last + 1), SOON);
    }
    let stats = &receiver.stats()[alive[0]];
    assert_eq!(stats.number("missed") + stats.number("twice"), 0);
    assert_eq!(stats.number("tokens"), 1);
    assert!(stats.number("pause") < 1_000, "{stats:?}");
}

#[test]
fn whoever_cannot_have_the_port_learns_who_holds_it() {
    let test = "whoever_cannot_have_the_port_learns_who_holds_it";
    let Some(link) = Link::enter(test) else {
        return;
    };
    let mut squatter = Actor::start(&link.sends, "sender");
    assert_eq!(squatter.ask("squat"), "ok");
    let mut sender = Actor::start(&link.sends, "sender");
    let error = sender.ask("start");
    assert!(error.contains("UDP port 7450"), "{error}");
    assert!(
        error.contains(&format!("process {} (", squatter.pid())),
        "{error}"
    );
    assert!(error.contains("of user 0"), "{error}");
    // No thread stays behind, and it can be tried again.
    let threads = std::fs::read_dir(format!("/proc/{}/task", sender.pid()));
    let before = threads.unwrap().count();
    sender.ask("start");
    let threads = std::fs::read_dir(format!("/proc/{}/task", sender.pid()));
    assert_eq!(threads.unwrap().count(), before);
    squatter.kill();
    assert_eq!(sender.ask("start"), "ok");
}

#[test]
fn a_host_without_ipv6_sends_by_ipv4() {
    let Some(link) = Link::enter("a_host_without_ipv6_sends_by_ipv4") else {
        return;
    };
    let off = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    let status = link.sends.command("sh").args(["-c", off]).status();
    assert!(status.unwrap().success());
    let (mut sender, mut receiver) = (link.sender(), link.receiver());
    sender.ask(&format!("open {A}"));
    receiver.ask(&format!("ask {A} 1"));
    receiver.until("granted", |s| s.is_granted());
    assert!(sender.ask(&format!("send {A} 3 9 1")).starts_with("3 0 0 "));
}
