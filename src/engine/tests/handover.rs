//! The exact handover: 0 lost and 0 twice at any pace when a relay starts in a
//! live path or drains; with 20 % loss of control 0 lost.

mod sim;

use flexcast_engine::Time;
use sim::{Host, Net, Role, MS, S};

const PACES: [(u32, u64); 6] = [
    (1, 2_000 * MS),
    (1, 333 * MS),
    (1, 10 * MS),
    (1, 500),
    (1, 200),
    (200, 1_000 * MS),
];

/// sender – router – router – 3 receivers, streaming.
fn line(seed: u64, pace: (u32, u64)) -> (Net, [Host; 2], Vec<Host>) {
    let mut net = Net::new(seed);
    let a = net.add(Role::Router, Some(0));
    let b = net.add(Role::Router, Some(a));
    let leaves: Vec<Host> = (0..3).map(|_| net.add_receiver(b)).collect();
    net.open();
    net.run(2 * S);
    net.stream(pace.0, pace.1, 300 * S);
    net.run(10 * S);
    (net, [a, b], leaves)
}

fn lost_and_twice(net: &mut Net, leaves: &[Host]) -> (usize, usize) {
    // What is under way arrives.
    let last = net.sent.len();
    net.run(S / 5);
    let mut sums = (0, 0);
    for &leaf in leaves {
        let r = net.receiver(leaf);
        sums.0 += net.sent[..last]
            .iter()
            .filter(|k| !r.got.contains_key(k))
            .count();
        sums.1 += r.twice();
    }
    sums
}

fn parents(net: &mut Net, leaves: &[Host], at: Host) -> usize {
    let now = Time(net.now);
    let node = net.relay(at).report(now).node;
    let mut n = 0;
    for &leaf in leaves {
        let parent = net.receiver(leaf).requester.parent().map(|p| p.node);
        n += usize::from(parent == Some(node));
    }
    n
}

#[test]
fn a_relay_that_starts_in_a_live_path_loses_nothing() {
    for (n, pace) in PACES.into_iter().enumerate() {
        let (mut net, [a, _], leaves) = line(10 + n as u64, pace);
        let relay = net.new_relay();
        net.replace(a, relay);
        net.run(20 * S);
        assert_eq!(parents(&mut net, &leaves, a), 3, "pace {pace:?}");
        assert_eq!(lost_and_twice(&mut net, &leaves), (0, 0), "pace {pace:?}");
        net.links.clear();
        net.run(4 * S);
        let sent = net.links[&(0, a)].0;
        let expected = u64::from(pace.0) * (4 * S / pace.1);
        assert!(
            sent <= expected + u64::from(pace.0),
            "{sent} of {expected} at {pace:?}"
        );
    }
}

#[test]
fn a_relay_that_drains_loses_nothing() {
    for (n, pace) in PACES.into_iter().enumerate() {
        let (mut net, [a, b], leaves) = line(20 + n as u64, pace);
        let relay = net.new_relay();
        net.replace(a, relay);
        net.run(20 * S);
        let relay = net.new_relay();
        net.replace(b, relay);
        net.run(20 * S);
        assert_eq!(parents(&mut net, &leaves, b), 3, "pace {pace:?}");
        let now = Time(net.now);
        net.relay(b).drain(now);
        net.rearm(b);
        net.run(9 * S);
        assert_eq!(parents(&mut net, &leaves, a), 3, "pace {pace:?}");
        let now = Time(net.now);
        assert!(net.relay(b).is_drained(now), "pace {pace:?}");
        net.replace(b, Role::Router);
        net.run(5 * S);
        assert_eq!(lost_and_twice(&mut net, &leaves), (0, 0), "pace {pace:?}");
    }
}

/// Two relays start one after the other at a random moment, the lower one drains.
fn start_start_drain(seed: u64, pace: (u32, u64), disturb: impl Fn(&mut Net)) -> (usize, usize) {
    let (mut net, [a, b], leaves) = line(seed, pace);
    disturb(&mut net);
    for at in [a, b] {
        let wait = net.seed.next() % S;
        net.run(wait);
        let relay = net.new_relay();
        net.replace(at, relay);
        net.run(15 * S);
        assert_eq!(parents(&mut net, &leaves, at), 3, "pace {pace:?}");
    }
    let now = Time(net.now);
    net.relay(b).drain(now);
    net.rearm(b);
    net.run(9 * S);
    net.replace(b, Role::Router);
    net.run(5 * S);
    assert_eq!(parents(&mut net, &leaves, a), 3, "pace {pace:?}");
    lost_and_twice(&mut net, &leaves)
}

/// Handovers at any phase of the stream. Where datagrams pass each other, those of a
/// burst that is on its way just then may come twice: `most` percent of the
/// handovers.
fn at_any_phase(base: u64, most: usize, disturb: impl Fn(&mut Net)) {
    for pace in PACES {
        let fast = pace.1 < MS;
        let seeds = if fast {
            2
        } else if pace.0 == 1 {
            40
        } else {
            12
        };
        let mut twice = 0;
        for seed in base..base + seeds {
            let (lost, again) = start_start_drain(seed, pace, &disturb);
            assert_eq!(lost, 0, "seed {seed}, pace {pace:?}");
            twice += again;
        }
        let handovers = usize::try_from(seeds * 3 * 3).unwrap();
        let most = if pace.0 > 1 {
            handovers * most / 100
        } else {
            0
        };
        assert!(twice <= most, "{twice} twice at pace {pace:?}");
    }
}

#[test]
fn handovers_are_exact_at_any_phase_of_the_stream() {
    at_any_phase(200, 0, |_| {});
}

/// Who has just joined knows the stream from one status: K is not to be guessed from it.
#[test]
fn who_has_just_joined_moves_as_exactly() {
    for pace in PACES {
        for seed in 400..412 {
            let mut net = Net::new(seed);
            let far = (0..4).fold(0, |up, _| net.add(Role::Router, Some(up)));
            let b = net.add_relay(far);
            net.add_receiver(b);
            net.open();
            net.stream(pace.0, pace.1, 300 * S);
            let wait = 5 * S + net.seed.next() % S;
            net.run(wait);
            let leaves: Vec<Host> = (0..3).map(|_| net.add_receiver(far)).collect();
            let wait = 150 * MS + net.seed.next() % S;
            net.run(wait);
            net.sent.clear();
            // The route moves: the relay is near, and answers before the parent.
            for &leaf in &leaves {
                net.up[leaf] = Some(b);
                net.ask_anew(leaf);
            }
            net.run(9 * S);
            assert_eq!(
                parents(&mut net, &leaves, b),
                3,
                "seed {seed}, pace {pace:?}"
            );
            let found = lost_and_twice(&mut net, &leaves);
            assert_eq!(found, (0, 0), "seed {seed}, pace {pace:?}");
        }
    }
}

#[test]
fn reordering_and_duplication_change_nothing() {
    // Delays from 5 to 13 ms a hop: at 5 000 a second neighbours swap often.
    at_any_phase(300, 10, |net| {
        net.jitter = 8 * MS;
        net.duplicate_control = 10;
        net.duplicate_data = 5;
    });
}

#[test]
fn a_relay_that_starts_in_the_middle_of_a_tree_takes_over_from_far_above() {
    for (n, pace) in PACES.into_iter().enumerate() {
        let mut net = Net::new(50 + n as u64);
        let top = net.add_relay(0);
        let middle = net.add(Role::Router, Some(top));
        let low: Vec<Host> = (0..2).map(|_| net.add_relay(middle)).collect();
        let leaves: Vec<Host> = (0..8).map(|n| net.add_receiver(low[n % 2])).collect();
        net.open();
        net.run(2 * S);
        net.stream(pace.0, pace.1, 300 * S);
        net.run(10 * S);
        let relay = net.new_relay();
        net.replace(middle, relay);
        net.run(20 * S);
        let now = Time(net.now);
        assert_eq!(net.relay(middle).report(now).entries, 2, "pace {pace:?}");
        assert_eq!(lost_and_twice(&mut net, &leaves), (0, 0), "pace {pace:?}");
    }
}

#[test]
fn a_node_whose_address_is_hidden_is_left_by_way_of_the_next() {
    for (n, pace) in PACES.into_iter().enumerate() {
        let mut net = Net::new(60 + n as u64);
        let a = net.add_relay(0);
        let b = net.add(Role::Router, Some(a));
        let leaves: Vec<Host> = (0..3).map(|_| net.add_receiver(b)).collect();
        net.hidden = vec![0, a, b];
        net.open();
        net.run(2 * S);
        net.stream(pace.0, pace.1, 300 * S);
        net.run(10 * S);
        let relay = net.new_relay();
        net.replace(b, relay);
        net.run(20 * S);
        assert_eq!(parents(&mut net, &leaves, b), 3, "pace {pace:?}");
        for &leaf in &leaves {
            assert_eq!(net.entries_of(leaf), [(b, false)], "pace {pace:?}");
        }
        // The direct ones are lost: `until J` comes some 150 ms later, in time where
        // K is far enough ahead.
        let (lost, _) = lost_and_twice(&mut net, &leaves);
        assert_eq!(lost, 0, "pace {pace:?}");
    }
}

#[test]
fn a_parent_whose_statuses_alone_are_lost_is_not_left_too_early() {
    // Seeds in which three statuses in a row are lost while another node is about to
    // take over: left at once, the old parent took 9 to 200 datagrams with it.
    let seeds = [7_018, 7_033, 7_038].map(|seed| (seed, PACES[2]));
    for (seed, pace) in seeds.into_iter().chain([(7_038, PACES[5])]) {
        let (mut net, [a, b], leaves) = line(seed, pace);
        net.control_loss = 20;
        for at in [a, b] {
            let wait = net.seed.next() % S;
            net.run(wait);
            let relay = net.new_relay();
            net.replace(at, relay);
            net.run(25 * S);
        }
        let (lost, _) = lost_and_twice(&mut net, &leaves);
        assert_eq!(lost, 0, "seed {seed}, pace {pace:?}");
    }
}

#[test]
fn twenty_percent_loss_of_control_loses_no_data_when_a_relay_drains() {
    for (n, pace) in PACES.into_iter().enumerate() {
        let (mut net, [a, b], leaves) = line(70 + n as u64, pace);
        for at in [a, b] {
            let relay = net.new_relay();
            net.replace(at, relay);
            net.run(20 * S);
        }
        net.control_loss = 20;
        let now = Time(net.now);
        net.relay(b).drain(now);
        net.rearm(b);
        net.run(10 * S);
        net.replace(b, Role::Router);
        net.run(10 * S);
        let (lost, twice) = lost_and_twice(&mut net, &leaves);
        assert_eq!(lost, 0, "pace {pace:?}");
        let second = 1 + usize::try_from(u64::from(pace.0) * S / pace.1).unwrap();
        assert!(twice <= 3 * second, "{twice} twice at {pace:?}");
    }
}

#[test]
fn twenty_percent_loss_of_control_loses_no_data_in_a_handover() {
    for (n, pace) in PACES.into_iter().enumerate() {
        let (mut net, [a, b], leaves) = line(30 + n as u64, pace);
        net.control_loss = 20;
        let relay = net.new_relay();
        net.replace(a, relay);
        net.run(25 * S);
        let relay = net.new_relay();
        net.replace(b, relay);
        net.run(25 * S);
        let (lost, twice) = lost_and_twice(&mut net, &leaves);
        assert_eq!(lost, 0, "pace {pace:?}");
        // Each hop loses a fifth, so an exchange over three hops fails three times in
        // four: at most a second of stream twice a handover and receiver.
        let second = 1 + usize::try_from(u64::from(pace.0) * S / pace.1).unwrap();
        assert!(twice <= 2 * 3 * second, "{twice} twice at {pace:?}");
    }
}
