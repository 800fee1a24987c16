//! Relays that are killed, stopped, drained and started under a stream, and hosts
//! that work against them. Numbers over many repeats come from `benches/outage`.

mod tree;

use std::net::IpAddr;
use std::time::Duration;

use flexcast_engine::RequesterSettings;
use flexcast_testbed::Host;
use tree::speaker::{Origin, Receiver, Stage};
use tree::{enter, inside, sh, status, RelayProcess, Tree, FP};

const SIZE: usize = 1_316;
const SECOND: Duration = Duration::from_secs(1);
/// How long a relay that drains may take to be gone: 10 s by the protocol, and a
/// second's margin (the kernel removes its table in an RCU grace period).
const GONE: Duration = Duration::from_secs(11);

/// Sender and one receiver on each of a and b, fed at this pace. They refresh
/// every second, so that a route that changed is noticed within the test.
fn fed(tree: &Tree, sender: &str, per_second: u64) -> Stage {
    let address: IpAddr = sender.parse().expect("an address");
    let origin = Origin::new(&tree.s, address, SIZE);
    let channel = origin.channel;
    let settings = RequesterSettings {
        refresh: SECOND,
        ..RequesterSettings::default()
    };
    let receiver = |host| Receiver::asking(host, channel, SIZE, settings.clone());
    let receivers = vec![receiver(&tree.a), receiver(&tree.b)];
    let mut stage = Stage { origin, receivers };
    stage.origin.pace(per_second);
    stage.until("fed", 10 * SECOND, |stage| stage.all_are_fed());
    stage.count_anew(per_second);
    stage
}

/// How many requesters the relay on a host feeds, the sender's own included.
fn audience(stage: &Stage) -> usize {
    let fan = stage.origin.sender.fan(stage.origin.channel.id);
    fan.map_or(0, flexcast_engine::Fan::len)
}

fn assert_nothing_lost_or_twice(stage: &mut Stage) {
    stage.origin.pace(0);
    stage.run(Duration::from_millis(200));
    let sent = &stage.origin.sent;
    assert_eq!(stage.origin.refused, 0);
    let late = Duration::from_micros(stage.origin.longest_delay);
    for (n, receiver) in stage.receivers.iter().enumerate() {
        let missing = sent.iter().filter(|(n, _)| !receiver.got.contains_key(n));
        let (lost, twice) = (missing.count(), receiver.twice());
        assert!(
            lost == 0 && twice == 0,
            "receiver {n} of {} sent: {lost} lost, {twice} twice; the machine was {late:?} late",
            sent.len()
        );
        assert_eq!(receiver.wrong, Vec::<String>::new());
    }
}

#[test]
fn a_killed_relay_costs_three_heartbeats_and_a_little() {
    let test = "a_killed_relay_costs_three_heartbeats_and_a_little";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let _r1 = RelayProcess::start(&tree.r1, test);
    let mut r2 = RelayProcess::start(&tree.r2, test);
    for sender in ["10.0.0.1", "fd00::1"] {
        let mut stage = fed(&tree, sender, 500);
        r2.process.kill();
        stage.run(Duration::from_millis(100));
        assert!(!stage.all_are_fed(), "the relay fed them");
        stage.until("fed again", 5 * SECOND, |stage| stage.all_are_fed());
        stage.run(SECOND);
        let of_sender = stage.origin.sender.summaries(tree::speaker::now());
        assert_eq!(audience(&stage), 1, "r1 asks for both: {of_sender:?}");
        for receiver in &stage.receivers {
            let gap = Duration::from_micros(receiver.longest_gap);
            assert!(gap < Duration::from_millis(3_700), "{gap:?}");
            assert_eq!((receiver.twice(), &receiver.wrong[..]), (0, &[][..]));
        }
        r2 = RelayProcess::start(&tree.r2, test);
    }
}

#[test]
fn a_stopped_relay_lets_requests_pass_and_sends_nothing_stale_when_it_wakes() {
    let test = "a_stopped_relay_lets_requests_pass_and_sends_nothing_stale_when_it_wakes";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let _r1 = RelayProcess::start(&tree.r1, test);
    let r2 = RelayProcess::start(&tree.r2, test);
    let mut stage = fed(&tree, "10.0.0.1", 500);
    r2.signal("STOP");
    stage.run(Duration::from_millis(100));
    stage.until("fed again", 5 * SECOND, |stage| stage.all_are_fed());
    for receiver in &stage.receivers {
        let gap = Duration::from_micros(receiver.longest_gap);
        assert!(gap < Duration::from_millis(3_700), "{gap:?}");
    }
    stage.run(Duration::from_millis(300));
    stage.count_anew(500);
    r2.signal("CONT");
    stage.run(Duration::from_millis(500));
    stage.until("the woken relay feeds them", 10 * SECOND, |stage| {
        let report = status(&tree.r2);
        let fed = |c: &flexcast_relay::ChannelLine| c.requesters.iter().all(|r| !r.standby);
        stage.all_are_fed()
            && report
                .channels
                .first()
                .is_some_and(|c| c.requesters.len() == 2 && fed(c))
    });
    assert!(r2.log().contains("stood still"), "{}", r2.log());
    stage.run(SECOND);
    assert_nothing_lost_or_twice(&mut stage);
}

#[test]
fn a_relay_that_drains_and_one_that_starts_lose_and_double_nothing() {
    let test = "a_relay_that_drains_and_one_that_starts_lose_and_double_nothing";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let _r1 = RelayProcess::start(&tree.r1, test);
    let mut r2 = RelayProcess::start(&tree.r2, test);
    let mut stage = fed(&tree, "10.0.0.1", 2_000);
    stage.run(Duration::from_millis(500));
    r2.signal("TERM");
    stage.run(Duration::from_millis(100));
    assert!(r2.log().contains("draining"), "{}", r2.log());
    let served = || r2.log().contains("drained");
    let took = stage.until("drained", 10 * SECOND, |_| served());
    assert!(took < 5 * SECOND, "{took:?}");
    assert!(r2.process.await_end(GONE).success());
    assert_eq!(
        status(&tree.r1).channels[0].requesters.len(),
        2,
        "both moved up"
    );
    assert!(!sh(&tree.r2, "ip rule; nft list tables").contains("7450"));

    let _r2 = RelayProcess::start(&tree.r2, test);
    stage.until("back at the new relay", 5 * SECOND, |_| {
        status(&tree.r1).channels[0].requesters.len() == 1
    });
    stage.run(2 * SECOND);
    assert_eq!(audience(&stage), 1);
    assert_eq!(
        status(&tree.r1).channels[0].requesters.len(),
        1,
        "one copy a link"
    );
    assert_eq!(status(&tree.r2).channels[0].requesters.len(), 2);
    assert_nothing_lost_or_twice(&mut stage);
}

#[test]
fn what_a_relay_catches_for_another_node_reaches_that_node() {
    let test = "what_a_relay_catches_for_another_node_reaches_that_node";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let _r1 = RelayProcess::start(&tree.r1, test);
    for sender in ["10.0.0.1", "fd00::1"] {
        let origin = Origin::new(&tree.s, sender.parse().expect("an address"), SIZE);
        let receiver = |host| Receiver::new(host, origin.channel, SIZE);
        let receivers = vec![receiver(&tree.a), receiver(&tree.b)];
        let mut stage = Stage { origin, receivers };
        stage.origin.pace(500);
        stage.until("fed", 10 * SECOND, |stage| stage.all_are_fed());
        // r1 feeds them; r2 stands between, and knows neither.
        let r2 = RelayProcess::start(&tree.r2, test);
        stage.receivers[0]
            .requester
            .leave(tree::speaker::now(), false);
        let name = stage.origin.channel.to_string();
        let entries = || {
            let report = status(&tree.r1);
            let channel = report.channels.iter().find(|c| c.channel == name);
            channel.map_or(0, |c| c.requesters.len())
        };
        let took = stage.until("the leave is answered", SECOND, |stage| {
            stage.receivers[0].requester.is_gone()
        });
        assert!(
            took < Duration::from_millis(150),
            "by the first try: {took:?}"
        );
        stage.until("one is left", SECOND, |_| entries() == 1);
        drop(stage.receivers.pop());
        let took = stage.until("its death is noticed", 2 * SECOND, |_| entries() == 0);
        assert!(took < Duration::from_millis(1_700), "{took:?}");
        assert!(status(&tree.r2).passed_on >= 2);
        assert!(status(&tree.r2).channels.is_empty());
        drop(r2);
    }
}

#[test]
fn a_relay_starts_on_a_router_that_translates_addresses() {
    let test = "a_relay_starts_on_a_router_that_translates_addresses";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    sh(
        &tree.r2,
        "nft 'add table inet nat; \
         add chain inet nat p { type nat hook postrouting priority srcnat; }; \
         add rule inet nat p ip daddr 10.0.0.0/23 ip saddr 10.0.2.0/23 masquerade; \
         add rule inet nat p ip6 daddr fd00:0::/64 ip6 saddr != fd00:1::/64 masquerade'",
    );
    for sender in ["10.0.0.1", "fd00::1"] {
        let mut stage = fed(&tree, sender, 500);
        let name = stage.origin.channel.to_string();
        let at_sender = stage.origin.sender.summaries(tree::speaker::now());
        let router: [IpAddr; 2] = ["10.0.1.2", "fd00:1::2"].map(|a| a.parse().expect("one"));
        let translated = |r: &flexcast_engine::RequesterSummary| router.contains(&r.address.ip());
        assert!(
            at_sender[0].requesters.iter().all(translated),
            "{at_sender:?}"
        );

        let mut r2 = RelayProcess::start(&tree.r2, test);
        stage.until("both are at the relay", 5 * SECOND, |stage| {
            let report = status(&tree.r2);
            let channel = report.channels.iter().find(|c| c.channel == name);
            channel.is_some_and(|c| {
                let own = |r: &flexcast_relay::RequesterLine| {
                    r.address.starts_with("10.0.2.2:")
                        || r.address.starts_with("10.0.3.2:")
                        || r.address.starts_with("[fd00:2::2]:")
                        || r.address.starts_with("[fd00:3::2]:")
                };
                c.requesters.len() == 2 && c.requesters.iter().all(own)
            }) && audience(stage) == 1
        });
        stage.run(SECOND);
        r2.signal("TERM");
        stage.until("drained", 10 * SECOND, |_| r2.log().contains("drained"));
        assert!(r2.process.await_end(GONE).success());
        stage.until("through the translation again", 5 * SECOND, |stage| {
            audience(stage) == 2
        });
        assert_nothing_lost_or_twice(&mut stage);
    }
}

#[test]
fn a_second_signal_ends_a_draining_relay_at_once() {
    let test = "a_second_signal_ends_a_draining_relay_at_once";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let mut r2 = RelayProcess::start(&tree.r2, test);
    // Nobody answers but the relay: its requesters cannot move.
    let mut stage = fed(&tree, "10.0.0.1", 100);
    sh(&tree.r1, "nft 'add table ip no; add chain ip no f { type filter hook forward priority 0; policy drop; }'");
    r2.signal("TERM");
    stage.run(SECOND);
    assert!(
        !r2.log().contains("drained"),
        "it serves them on: {}",
        r2.log()
    );
    r2.signal("INT");
    assert!(r2.process.await_end(SECOND).success());
}

#[test]
fn a_pair_that_answers_do_not_reach_is_let_through() {
    let test = "a_pair_that_answers_do_not_reach_is_let_through";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let r2 = RelayProcess::start(&tree.r2, test);
    // What r2 itself sends to a is lost; what it forwards is not.
    sh(&tree.r2, "nft 'add table ip no; add chain ip no o { type filter hook output priority 0; }; add rule ip no o ip daddr 10.0.2.2 udp sport 7450 drop'");
    let stage = fed(&tree, "10.0.0.1", 200);
    let port = stage.receivers[0].port();
    let line = format!("requests of 10.0.2.2:{port} to 10.0.0.1 pass");
    assert!(r2.log().contains(&line), "{}", r2.log());
    assert_eq!(audience(&stage), 2, "a's own and r2's for b");
}

#[test]
fn a_sender_that_our_requests_do_not_reach_is_let_through() {
    let test = "a_sender_that_our_requests_do_not_reach_is_let_through";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let r2 = RelayProcess::start(&tree.r2, test);
    sh(&tree.r2, "nft 'add table inet no; add chain inet no o { type filter hook output priority 0; }; add rule inet no o udp dport 7450 drop'");
    for sender in ["10.0.0.1", "fd00::1"] {
        let stage = fed(&tree, sender, 200);
        let line = format!("requests to {sender} pass for 60 s: ours fail (EPERM)");
        assert!(r2.log().contains(&line), "{}", r2.log());
        assert_eq!(audience(&stage), 2);
    }
}

#[test]
fn a_sender_that_a_firewall_on_the_way_prohibits_is_let_through() {
    let test = "a_sender_that_a_firewall_on_the_way_prohibits_is_let_through";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let r2 = RelayProcess::start(&tree.r2, test);
    sh(
        &tree.r1,
        "nft 'add table inet no; \
         add chain inet no f { type filter hook forward priority 0; }; \
         add rule inet no f ip saddr 10.0.1.2 udp dport 7450 \
           reject with icmp type admin-prohibited; \
         add rule inet no f ip6 saddr fd00:1::2 udp dport 7450 \
           reject with icmpv6 type admin-prohibited'",
    );
    for sender in ["10.0.0.1", "fd00::1"] {
        let stage = fed(&tree, sender, 200);
        let line = format!("requests to {sender} pass for 60 s: ours fail (ICMP: prohibited)");
        assert!(r2.log().contains(&line), "{}", r2.log());
        assert_eq!(audience(&stage), 2);
    }
}

/// Waits for words in a relay's log.
fn await_words(stage: &mut Stage, relay: &RelayProcess, words: &str, limit: Duration) {
    stage.until(words, limit, |_| relay.log().contains(words));
}

#[test]
fn capture_is_taken_away_when_a_part_is_gone_and_put_back() {
    let test = "capture_is_taken_away_when_a_part_is_gone_and_put_back";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let r2 = RelayProcess::start(&tree.r2, test);
    let mut stage = fed(&tree, "10.0.0.1", 200);
    assert_eq!(audience(&stage), 1);
    sh(
        &tree.r2,
        "ip rule del fwmark 0x50/0xf0 ipproto udp dport 7450",
    );
    await_words(
        &mut stage,
        &r2,
        "the IPv4 policy routing rules (ip rule)",
        3 * SECOND,
    );
    assert!(r2.log().contains("nothing is captured"), "{}", r2.log());
    let report = status(&tree.r2);
    assert!(
        !report.capturing && report.not_capturing.contains("ip rule"),
        "{report:?}"
    );
    stage.until("requests pass to the sender", 5 * SECOND, |stage| {
        audience(stage) == 2
    });
    assert!(stage.all_are_fed());
    await_words(&mut stage, &r2, "capturing again", 7 * SECOND);
    assert!(sh(&tree.r2, "ip rule").contains("fwmark 0x50/0xf0 ipproto udp dport 7450"));
    stage.until("the relay feeds them again", 5 * SECOND, |stage| {
        audience(stage) == 1
    });
    assert_nothing_lost_or_twice(&mut stage);
}

#[test]
fn capture_is_taken_away_when_a_firewall_drops_what_it_counts() {
    let test = "capture_is_taken_away_when_a_firewall_drops_what_it_counts";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    sh(&tree.r2, "nft 'add table inet host; add chain inet host in { type filter hook input priority 0; policy drop; }; add rule inet host in iif lo accept'");
    let r2 = RelayProcess::start(&tree.r2, test);
    let mut stage = fed(&tree, "10.0.0.1", 200);
    let words = "a firewall of this host drops them";
    await_words(&mut stage, &r2, words, 3 * SECOND);
    assert_eq!(audience(&stage), 2, "fed by the sender itself");
}

#[test]
fn what_a_killed_relay_left_behind_is_used_again_and_removed_in_the_end() {
    let test = "what_a_killed_relay_left_behind_is_used_again_and_removed_in_the_end";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let rules = |host: &Host| {
        sh(host, "ip rule; ip -6 rule; ip route show table all; ip -6 route show table 7450 2>/dev/null || true; nft list tables")
    };
    let before = rules(&tree.r2);
    let mut first = RelayProcess::start(&tree.r2, test);
    first.process.kill();
    assert!(rules(&tree.r2).contains("7450"), "rules outlive it");
    let mut second = RelayProcess::start(&tree.r2, test);
    assert_eq!(
        sh(&tree.r2, "ip rule").matches("7450").count(),
        3,
        "none is twice"
    );
    second.signal("TERM");
    assert!(second.process.await_end(SECOND).success());
    assert_eq!(rules(&tree.r2), before);
}

#[test]
fn what_stands_in_the_way_is_named_with_its_remedy() {
    let test = "what_stands_in_the_way_is_named_with_its_remedy";
    let Some(world) = enter(test) else { return };
    let tree = Tree::build(world);
    let refused = |wrapper: &[&str]| -> String {
        let mut relay = RelayProcess::begin(&tree.r2, test, wrapper);
        assert_eq!(
            relay.process.await_end(5 * SECOND).code(),
            Some(1),
            "{}",
            relay.log()
        );
        relay.log()
    };
    let said = refused(&["setpriv", "--bounding-set", "-net_admin"]);
    assert!(
        said.contains("CAP_NET_ADMIN is missing") && said.contains("setcap"),
        "{said}"
    );

    let socket = inside(&tree.r2, || std::net::UdpSocket::bind(("0.0.0.0", FP)));
    let said = refused(&[]);
    let holder = format!(
        "UDP port 7450 is in use by process {} (",
        std::process::id()
    );
    assert!(said.contains(&holder) && said.contains("--port"), "{said}");
    drop(socket);

    let running = RelayProcess::start(&tree.r2, test);
    let said = refused(&[]);
    let other = format!(
        "a relay (process {}) runs on port 7450",
        running.process.pid()
    );
    assert!(
        said.contains(&other) && said.contains("flexcast status"),
        "{said}"
    );
    drop(running);

    // Without CAP_NET_RAW it works, but for ICMP errors.
    let wrapper = ["setpriv", "--bounding-set", "-net_raw"];
    let relay = RelayProcess::begin(&tree.r2, test, &wrapper);
    relay.await_capture();
    let mut stage = fed(&tree, "10.0.0.1", 100);
    assert!(
        relay.log().contains("remedy: CAP_NET_RAW"),
        "{}",
        relay.log()
    );
    assert_eq!(status(&tree.r2).channels[0].requesters.len(), 2);
    assert_nothing_lost_or_twice(&mut stage);
}
