//! A sender, a relay tree of depth 3, 50 receivers: joining, one copy per link,
//! leaving, loss of control, receivers before the sender.

mod sim;

use sim::{deep_tree, Role, MS, S};

#[test]
fn fifty_receivers_get_everything_once_over_one_copy_per_link() {
    let (mut net, relays, leaves) = deep_tree(1, 50);
    let token = net.open();
    net.run(2 * S);
    net.links.clear();
    let first = net.sent.len();
    net.stream(1, 10 * MS, 5 * S);
    net.run(6 * S);
    let sent = net.sent.len() - first;
    assert_eq!(sent, 500);
    for &leaf in &leaves {
        let r = net.receiver(leaf);
        assert!(
            r.requester.is_granted(),
            "receiver {leaf}: {:?}",
            r.requester.verdict()
        );
        assert_eq!((r.got.len(), r.twice()), (500, 0), "receiver {leaf}");
        assert!(r.got.keys().all(|k| k.0 == token.0));
    }
    assert_eq!(net.links[&(0, relays[0])].0, 500);
    assert_eq!(net.links[&(relays[0], relays[1])].0, 500);
    assert_eq!(net.links[&(relays[1], relays[3])].0, 500);
}

#[test]
fn receivers_may_start_before_the_sender() {
    let (mut net, _, leaves) = deep_tree(2, 8);
    net.run(30 * S);
    for &leaf in &leaves {
        assert!(!net.receiver(leaf).requester.is_granted());
    }
    net.open();
    net.run(100 * MS);
    net.stream(1, 10 * MS, S);
    net.run(2 * S);
    for &leaf in &leaves {
        let r = net.receiver(leaf);
        assert!(r.requester.is_granted());
        assert_eq!(r.got.len(), 100);
    }
}

#[test]
fn a_changed_number_of_receivers_reaches_the_sender_at_once() {
    let (mut net, relays, leaves) = deep_tree(6, 12);
    net.open();
    net.run(20 * S);
    let id = net.channel.id;
    assert_eq!(net.sender().receivers(id), 12);
    let more = net.add_receiver(relays[5]);
    // Two round trips to get in, and one way up through three relays.
    net.run(60 * MS);
    assert_eq!(net.sender().receivers(id), 13);
    net.run(S);
    net.leave(more);
    net.leave(leaves[0]);
    net.run(60 * MS);
    assert_eq!(net.sender().receivers(id), 11);
    // Many at once are told together, at most five times a second a relay.
    net.run(S);
    net.links.clear();
    for n in 0..100 {
        net.add_receiver(relays[3 + n % 4]);
        net.run(10 * MS);
    }
    // 200 ms at each of three relays.
    net.run(700 * MS);
    assert_eq!(net.sender().receivers(id), 111);
    let (_, up) = net.links[&(relays[0], 0)];
    assert!(up <= 9, "{up} requests in 1.7 s");
}

#[test]
fn after_the_last_leave_all_links_fall_silent() {
    let (mut net, relays, leaves) = deep_tree(3, 4);
    net.open();
    net.stream(1, 5 * MS, 20 * S);
    net.run(3 * S);
    for &leaf in &leaves {
        net.leave(leaf);
    }
    // one-way 5 ms a hop, 4 hops, and 250 ms at the bottom relay alone
    net.run(250 * MS + 2 * 40 * MS);
    net.links.clear();
    net.run(5 * S);
    let data: u64 = net.links.values().map(|l| l.0).sum();
    assert_eq!(data, 0);
    assert_eq!(net.relay(relays[0]).channels(), 0);
}

#[test]
fn twenty_percent_loss_of_control_leaves_nobody_without_an_entry_for_five_seconds() {
    let (mut net, _, leaves) = deep_tree(4, 50);
    net.control_loss = 20;
    net.jitter = 3 * MS;
    net.duplicate_control = 2;
    net.open();
    net.run(10 * S);
    let mut missing = vec![0u64; leaves.len()];
    let mut worst = 0;
    for _ in 0..1200 {
        net.run(500 * MS);
        for (n, &leaf) in leaves.iter().enumerate() {
            let address = net.addresses[leaf];
            let up = net.up[leaf].unwrap();
            let now = flexcast_engine::Time(net.now);
            let report = net.relay(up).report(now);
            let has = report.channels.iter().any(|c| {
                c.requesters
                    .iter()
                    .any(|r| r.address.ip() == address && !r.standby)
            });
            missing[n] = if has { 0 } else { missing[n] + 500 * MS };
            worst = worst.max(missing[n]);
        }
    }
    assert!(worst <= 5 * S, "{} ms without an entry", worst / MS);
}

#[test]
fn a_relay_that_vanishes_costs_three_heartbeats_and_a_little() {
    let (mut net, relays, leaves) = deep_tree(5, 8);
    net.open();
    net.stream(1, 5 * MS, 60 * S);
    net.run(5 * S);
    net.replace(relays[3], Role::Router);
    net.run(10 * S);
    for &leaf in &leaves {
        let r = net.receiver(leaf);
        assert!(r.longest_gap <= 3_500 * MS, "{} ms", r.longest_gap / MS);
        assert!(net.now - r.last_data < 100 * MS);
        assert_eq!(r.twice(), 0);
    }
}
