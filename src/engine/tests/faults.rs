//! What goes wrong and must heal: a relay that stops and wakes, a sender that
//! restarts, a ring, balanced requests, a full audience, a moved address, a flood of
//! forged requests.

mod sim;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use flexcast_engine::{
    Entropy, NodeSettings, Outbox, Relay, Requester, RequesterEvent, RequesterSettings, Sender,
    Time,
};
use flexcast_wire::{Body, Channel, Control, CookieStamp, NodeId, Nonce, Reason, Verdict};
use sim::{deep_tree, Host, Net, Role, Seed, FP, MS, S};

/// sender – relay – relay – 4 receivers, a datagram every 10 ms.
fn line(seed: u64) -> (Net, [Host; 2], Vec<Host>) {
    line_for(seed, 600 * S)
}

/// The same, for so long.
fn line_for(seed: u64, lasting: u64) -> (Net, [Host; 2], Vec<Host>) {
    let mut net = Net::new(seed);
    let a = net.add_relay(0);
    let b = net.add_relay(a);
    let leaves: Vec<Host> = (0..4).map(|_| net.add_receiver(b)).collect();
    net.open();
    net.stream(1, 10 * MS, lasting);
    net.run(5 * S);
    (net, [a, b], leaves)
}

fn flows(net: &Net, leaves: &[Host]) -> bool {
    let fresh = |leaf: &Host| net.now - net.receiver(*leaf).last_data < 100 * MS;
    leaves.iter().all(fresh)
}

#[test]
fn a_relay_stopped_for_20_s_is_passed_by_and_sends_nothing_stale_when_it_wakes() {
    for stopped in [0, 1] {
        let (mut net, relays, leaves) = line(50 + stopped as u64);
        net.stop(relays[stopped]);
        net.run(3_500 * MS);
        assert!(flows(&net, &leaves), "back while relay {stopped} stands");
        net.run(16_500 * MS);
        let gaps: Vec<u64> = leaves
            .iter()
            .map(|&leaf| net.receiver(leaf).longest_gap)
            .collect();
        assert!(gaps.iter().all(|gap| *gap <= 3_500 * MS), "{gaps:?}");
        net.wake(relays[stopped]);
        net.run(S);
        net.links.clear();
        net.run(40 * S);
        assert!(flows(&net, &leaves));
        for &leaf in &leaves {
            let r = net.receiver(leaf);
            assert_eq!(r.twice(), 0, "relay {stopped}");
            assert_eq!(r.longest_gap, gaps[leaf - leaves[0]], "no second gap");
            // Back at the relay below, which is the nearest.
            assert_eq!(net.entries_of(leaf), [(relays[1], false)]);
        }
        // One copy per link again, all through both relays.
        net.run(20 * S);
        net.links.clear();
        net.run(10 * S);
        assert_eq!(net.links[&(0, relays[0])].0, 1000, "relay {stopped}");
        assert_eq!(net.links[&(relays[0], relays[1])].0, 1000);
    }
}

#[test]
fn a_sender_that_restarts_after_a_while_is_found_again() {
    let (mut net, _, leaves) = line(60);
    let first = net.receiver(leaves[0]).token;
    net.replace(0, Role::Router);
    net.run(30 * S);
    let sender = net.new_sender();
    net.replace(0, sender);
    let token = net.open();
    net.run(1_500 * MS);
    for &leaf in &leaves {
        let r = net.receiver(leaf);
        assert_eq!(r.token, Some(token));
        assert_ne!(r.token, first);
    }
    assert!(flows(&net, &leaves));
}

#[test]
fn a_sender_that_restarts_at_once_is_noticed_by_its_token() {
    let (mut net, _, leaves) = line(61);
    for _ in 0..3 {
        let sender = net.new_sender();
        net.replace(0, sender);
        let token = net.open();
        // Three heartbeats, 0.3 s and three round trips at the very most.
        net.run(3_500 * MS);
        assert!(flows(&net, &leaves));
        for &leaf in &leaves {
            let r = net.receiver(leaf);
            assert_eq!(r.token, Some(token));
            assert_eq!(r.twice(), 0);
        }
        net.run(5 * S);
    }
}

/// Who follows a sender that ended, or died, says *pending* until it opens the channel.
/// Whoever it then counts gets its first datagram, however short the stream is.
#[test]
fn a_successor_that_was_asked_before_it_opens_is_heard_from_its_first_datagram() {
    for seed in 70..90 {
        let (mut net, [a, _], leaves) = line_for(seed, 5 * S);
        if seed % 2 == 0 {
            let (now, id) = (Time(net.now), net.channel.id);
            net.sender().end(now, id);
            net.rearm(0);
            net.run(100 * MS);
        }
        let sender = net.new_sender();
        net.replace(0, sender);
        let wait = net.seed.next() % S;
        net.run(wait);
        // The relay asks for one more, and takes the old sender for alive.
        let newcomer = net.add_receiver(a);
        let id = net.channel.id;
        for _ in 0..5_000 {
            if net.sender().receivers(id) == 5 {
                break;
            }
            net.run(MS);
        }
        assert_eq!(net.sender().receivers(id), 5, "seed {seed}");
        let token = net.open();
        for _ in 0..20 {
            net.send_one();
        }
        net.run(S / 10);
        for leaf in leaves.into_iter().chain([newcomer]) {
            let r = net.receiver(leaf);
            let of_it = r.got.keys().filter(|(t, _)| *t == token.0).count();
            assert_eq!((of_it, r.twice()), (20, 0), "seed {seed}, host {leaf}");
        }
    }
}

/// A relay that was about to leave is asked again: it knows the last stream's token
/// still, which a newcomer must not take for the next one's.
#[test]
fn a_pending_status_names_no_token() {
    for seed in 90..100 {
        let (mut net, [a, b], leaves) = line_for(seed, 5 * S);
        let sender = net.new_sender();
        for leaf in leaves {
            net.leave(leaf);
        }
        net.replace(0, sender);
        // The upper relay says its leave, which nobody answers.
        let wait = 300 * MS + net.seed.next() % (200 * MS);
        net.run(wait);
        let leaves = [a, b].map(|at| net.add_receiver(at));
        net.run(S);
        for leaf in leaves {
            let r = net.receiver(leaf);
            let told = r.requester.verdict().map(|v| v.0);
            assert_eq!(
                (told, r.token),
                (Some(Verdict::Pending), None),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_sender_that_opens_its_channel_anew_is_followed_at_once() {
    let (mut net, _, leaves) = line(62);
    let (now, id) = (Time(net.now), net.channel.id);
    net.sender().end(now, id);
    net.rearm(0);
    net.run(S);
    for &leaf in &leaves {
        assert_eq!(
            net.receiver(leaf).requester.verdict().map(|v| v.0),
            Some(Verdict::Ended)
        );
        assert_eq!(net.receiver(leaf).token, None, "any token will do again");
    }
    net.run(10 * S);
    let token = net.open();
    net.run(200 * MS);
    assert!(flows(&net, &leaves), "granted without being asked");
    assert!(leaves
        .iter()
        .all(|&leaf| net.receiver(leaf).token == Some(token)));
}

#[test]
fn a_ring_of_relays_never_says_granted_and_starves() {
    let mut net = Net::new(70);
    let ring: Vec<Host> = (0..3).map(|_| net.add_relay(0)).collect();
    for n in 0..3 {
        net.up[ring[n]] = Some(ring[(n + 1) % 3]);
    }
    let leaves: Vec<Host> = ring.iter().map(|&relay| net.add_receiver(relay)).collect();
    net.open();
    let mut worst = 0;
    for _ in 0..60 {
        net.control_log.clear();
        net.run(S);
        worst = worst.max(net.control_log.len());
        for &leaf in &leaves {
            let events = &net.receiver(leaf).events;
            let granted = RequesterEvent::Verdict(Verdict::Granted, Reason::None);
            assert!(!events.contains(&granted));
        }
    }
    assert!(worst < 300, "{worst} control datagrams in a second");
    let now = Time(net.now);
    let looped: u64 = ring
        .iter()
        .map(|&n| net.relay(n).report(now).counters.refused_loop)
        .sum();
    assert!(looped > 0, "somebody found its own id in the path");
    for &leaf in &leaves {
        net.leave(leaf);
    }
    // Nobody is left outside the ring: it may not feed on itself.
    net.run(60 * S);
    for &relay in &ring {
        assert_eq!(net.relay(relay).channels(), 0);
    }
    net.control_log.clear();
    net.run(60 * S);
    assert!(net.control_log.is_empty());
}

#[test]
fn requests_that_alternate_between_two_relays_converge() {
    let mut net = Net::new(80);
    let top = net.add_relay(0);
    let pair: Vec<Host> = (0..2).map(|_| net.add_relay(top)).collect();
    let leaves: Vec<Host> = (0..5).map(|_| net.add_receiver(pair[0])).collect();
    for &leaf in &leaves {
        net.balanced.insert(leaf, pair.clone());
    }
    net.open();
    net.stream(1, 10 * MS, 600 * S);
    net.run(2 * S);
    for &leaf in &leaves {
        assert!(net.receiver(leaf).requester.is_granted(), "in after 2 s");
    }
    net.run(120 * S);
    let first = net.receiver(leaves[0]).got.len();
    net.run(60 * S);
    let after = net.receiver(leaves[0]).got.len();
    assert!((5_990..=6_010).contains(&(after - first)));
    for &leaf in &leaves {
        let r = net.receiver(leaf);
        assert!(r.longest_gap < 50 * MS, "{} ms", r.longest_gap / MS);
        assert_eq!(r.twice(), 0);
        let feeding = net.entries_of(leaf);
        let feeding: Vec<_> = feeding.iter().filter(|(_, standby)| !standby).collect();
        assert_eq!(feeding.len(), 1, "one parent each");
    }
}

#[test]
fn a_full_audience_keeps_those_it_has() {
    let mut net = Net::new(90);
    let entropy = Entropy::new({
        let mut seed = Seed(5);
        move || seed.next()
    });
    let settings = NodeSettings {
        requesters: 3,
        ..NodeSettings::sender()
    };
    let sender = Sender::new(Time(net.now), settings, entropy);
    net.replace(0, Role::Sender(Box::new(sender)));
    let inside: Vec<Host> = (0..3).map(|_| net.add_receiver(0)).collect();
    net.open();
    net.stream(1, 10 * MS, 600 * S);
    net.run(S);
    let outside: Vec<Host> = (0..5).map(|_| net.add_receiver(0)).collect();
    net.run(60 * S);
    for &leaf in &inside {
        assert!(net.receiver(leaf).longest_gap < 20 * MS);
        assert!(net.receiver(leaf).requester.is_granted());
    }
    for &leaf in &outside {
        let r = net.receiver(leaf);
        let refused = Some((Verdict::RefusedPassing, Reason::Full));
        assert_eq!(r.requester.verdict(), refused);
        assert!(r.got.is_empty());
    }
    let counters = net.sender().counters().clone();
    let refusals = counters.refused_full;
    assert!((5 * 8..=5 * 60).contains(&refusals), "{refusals} in 60 s");
    // A place that gets free is taken within the refused ones' next try.
    net.leave(inside[0]);
    net.run(10 * S);
    let now_in = outside
        .iter()
        .filter(|&&leaf| net.receiver(leaf).requester.is_granted());
    assert_eq!(now_in.count(), 1);
}

#[test]
fn a_requester_whose_address_moves_keeps_its_entry() {
    let (mut net, relays, leaves) = line(100);
    let moved = leaves[1];
    let Role::Receiver(r) = &mut net.hosts[moved] else {
        panic!("a receiver");
    };
    // The NAT gave it another port: what is sent to the old one is lost.
    r.port = 41_111;
    net.run(15 * S);
    assert!(flows(&net, &leaves));
    assert_eq!(net.entries_of(moved), [(relays[1], false)]);
    assert_eq!(net.receiver(moved).twice(), 0);
    let now = Time(net.now);
    let report = net.relay(relays[1]).report(now);
    assert_eq!(report.entries, 4, "moved, not added");
    let ports: Vec<u16> = report.channels[0]
        .requesters
        .iter()
        .map(|r| r.address.port())
        .collect();
    assert_eq!(ports.iter().filter(|p| **p == 41_111).count(), 1);
}

#[test]
fn a_new_socket_on_the_same_port_replaces_the_entry() {
    let (mut net, relays, leaves) = line(101);
    let again = net.new_receiver(40_000);
    net.replace(leaves[0], again);
    net.run(2 * S);
    assert!(flows(&net, &leaves));
    let now = Time(net.now);
    assert_eq!(net.relay(relays[1]).report(now).entries, 4);
}

#[test]
fn nobody_but_the_entry_is_harmed_when_its_host_falls_silent() {
    let (mut net, relays, leaves) = line(102);
    let address = SocketAddr::new(net.addresses[leaves[0]], 40_000);
    let alive = SocketAddr::new(net.addresses[leaves[1]], 40_000);
    net.replace(leaves[0], Role::Router);
    let now = Time(net.now);
    net.relay(relays[1]).on_unreachable(now, address);
    // A forged ICMP error about one that lives ends nothing.
    net.relay(relays[1]).on_unreachable(now, alive);
    net.rearm(relays[1]);
    net.run(1_100 * MS);
    assert_eq!(net.entries_of(leaves[0]), []);
    assert_eq!(net.entries_of(leaves[1]), [(relays[1], false)]);
    assert!(net.receiver(leaves[1]).longest_gap < 50 * MS);
}

/// A request from a random address, some with a cookie made up for `node`.
fn forged(seed: &mut Seed, channel: Channel, node: NodeId) -> (SocketAddr, Vec<u8>) {
    let bits = seed.next().to_be_bytes();
    let from = SocketAddr::from(([10, bits[0], bits[1], bits[2]], 1024 | u16::from(bits[3])));
    let mut requester = Requester::new(
        Time(seed.next() >> 20),
        channel,
        Nonce(seed.next() | 1),
        NodeId::NONE,
        SocketAddr::new(channel.sender, FP),
        RequesterSettings::default(),
    );
    let mut out = Outbox::new();
    requester.poll(Time::NEVER, &mut out);
    let bytes = out.iter().next().unwrap().1.to_vec();
    let mut control = Control::parse(&bytes).unwrap();
    let mut forged = Vec::new();
    if let Body::Request(request) = &mut control.body {
        if bits[4] & 1 == 1 {
            let mut cookie = [0; 16];
            cookie[..8].copy_from_slice(&seed.next().to_be_bytes());
            request.cookies[0] = CookieStamp { node, cookie };
        }
    }
    control.emit(&mut forged);
    (from, forged)
}

/// The node under attack, either kind.
enum Node {
    Relay(Box<Relay>),
    Sender(Box<Sender>),
}

impl Node {
    fn take(&mut self, now: Time, from: SocketAddr, bytes: &[u8], out: &mut Outbox) {
        let control = Control::parse(bytes).unwrap();
        let asked = control.header.channel.sender;
        match self {
            Node::Relay(r) => r.on_control(now, from, asked, &mut |_| None, &control, out),
            Node::Sender(s) => s.on_control(now, from, asked, &control, out),
        }
    }

    fn entries(&self, now: Time) -> u64 {
        match self {
            Node::Relay(r) => r.report(now).entries,
            Node::Sender(s) => s
                .summaries(now)
                .iter()
                .map(|c| c.requesters.len() as u64)
                .sum(),
        }
    }
}

#[test]
fn a_million_forged_requests_move_nothing_and_an_honest_one_gets_in() {
    let mut seed = Seed(110);
    let channel: Channel = "10.0.0.1#5000".parse().unwrap();
    let mut generator = seed.clone();
    let mut entropy = || {
        let mut seed = Seed(generator.next());
        Entropy::new(move || seed.next())
    };
    let start = Time(1_000 * S);
    let relay = Relay::new(
        start,
        FP,
        NodeSettings::relay(),
        RequesterSettings::default(),
        entropy(),
    );
    let sender = Sender::new(start, NodeSettings::sender(), entropy());
    let nodes = [
        (relay.node(), Node::Relay(Box::new(relay))),
        (sender.node(), Node::Sender(Box::new(sender))),
    ];
    for (id, mut node) in nodes {
        let mut out = Outbox::new();
        let mut now = start;
        let flood = |node: &mut Node, now: &mut Time, seed: &mut Seed, count: u32| {
            let (mut inward, mut outward) = (0, 0);
            let mut out = Outbox::new();
            for _ in 0..count {
                // 100 000 a second: twice the budget of challenges.
                *now = Time(now.0 + seed.next() % 20);
                let (from, bytes) = forged(seed, channel, id);
                out.clear();
                node.take(*now, from, &bytes, &mut out);
                for (letter, answer) in out.iter() {
                    assert_eq!(letter.to, from, "nobody else hears of it");
                    assert!(answer.len() <= bytes.len());
                    let answer = Control::parse(answer).unwrap();
                    assert!(matches!(answer.body, Body::Challenge(_)));
                }
                inward += bytes.len();
                outward += out.total_bytes();
            }
            assert!(outward > 0 && outward <= inward);
        };
        flood(&mut node, &mut now, &mut seed, 500_000);
        assert_eq!(node.entries(now), 0);
        if let Node::Relay(relay) = &mut node {
            assert!(relay.next_order().is_none(), "nothing is asked upstream");
            assert_eq!(relay.channels(), 0);
            assert_eq!(relay.next_time(), Time::NEVER);
        }
        // In the middle of it, somebody honest.
        let home = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9)), 40_000);
        let mut honest = Requester::new(
            now,
            channel,
            Nonce(7),
            NodeId::NONE,
            SocketAddr::new(channel.sender, FP),
            RequesterSettings::default(),
        );
        let began = now;
        while honest.verdict().is_none() {
            flood(&mut node, &mut now, &mut seed, 100);
            now = Time(now.0 + seed.next() % 20);
            let mut asks = Outbox::new();
            honest.poll(now, &mut asks);
            for _ in 0..2 {
                out.clear();
                for (_, bytes) in asks.iter() {
                    node.take(now, home, bytes, &mut out);
                }
                asks.clear();
                for (_, bytes) in out.iter() {
                    let control = Control::parse(bytes).unwrap();
                    match &control.body {
                        Body::Challenge(c) => {
                            honest.on_challenge(now, &control.header, c.cookie, &mut asks);
                        }
                        Body::Status(s) => honest.on_status(now, &control.header, s, &mut asks),
                        _ => panic!("neither challenge nor status"),
                    }
                }
            }
            assert!(now.since(began).as_secs() < 5, "still outside");
        }
        assert_eq!(node.entries(now), 1);
        flood(&mut node, &mut now, &mut seed, 500_000);
        assert_eq!(node.entries(now), 1);
    }
}

#[test]
fn a_relay_sends_no_more_requests_up_than_came_while_nobody_answers() {
    let mut net = Net::new(120);
    let relay = net.add_relay(0);
    net.replace(0, Role::Router);
    let leaf = net.add_receiver(relay);
    for _ in 0..400 {
        net.run(S);
        let (_, came) = net.links.get(&(leaf, relay)).copied().unwrap_or_default();
        let (_, went) = net.links.get(&(relay, 0)).copied().unwrap_or_default();
        assert!(went > 0 && went <= came, "{went} up for {came}");
    }
    // And one of the tree above it, whoever joins: a deep tree asks as a whole.
    let (mut net, relays, _) = deep_tree(121, 50);
    net.run(30 * S);
    net.links.clear();
    net.run(30 * S);
    let (_, up) = net.links[&(relays[0], 0)];
    assert!(
        up <= 60,
        "{up} requests of 50 receivers in 30 s reach the sender"
    );
}
