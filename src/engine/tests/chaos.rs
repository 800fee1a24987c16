//! Whatever happens, once it is over everybody is served: relays that vanish, start,
//! stop, wake and drain, receivers that come and go, a sender that restarts, loss,
//! reordering, in a random order.
//!
//! Promises: a seed gives the same run; what is checked is the calm after the storm
//! (everything once, one copy a link, one entry each). Is not: a bound on the outage.

mod sim;

use flexcast_engine::Time;
use sim::{deep_tree, Host, Net, Role, MS, S};

const PACE: u64 = 20 * MS;

struct Storm {
    net: Net,
    relays: Vec<Host>,
    leaves: Vec<Host>,
}

impl Storm {
    fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap();
        usize::try_from(self.net.seed.next() % n).unwrap()
    }

    fn is_relay(&self, host: Host) -> bool {
        matches!(self.net.hosts[host], Role::Relay(_))
    }

    fn happen(&mut self) {
        let relay = self.below(self.relays.len());
        let relay = self.relays[relay];
        match self.below(9) {
            0 => {
                self.net.stopped[relay] = false;
                self.net.replace(relay, Role::Router);
            }
            1 | 2 => {
                self.net.stopped[relay] = false;
                let fresh = self.net.new_relay();
                self.net.replace(relay, fresh);
            }
            3 if self.is_relay(relay) => self.net.stop(relay),
            4 if self.net.stopped[relay] => self.net.wake(relay),
            5 if self.is_relay(relay) && !self.net.stopped[relay] => {
                let now = Time(self.net.now);
                self.net.relay(relay).drain(now);
                self.net.rearm(relay);
            }
            6 => {
                let leaf = self.below(self.leaves.len());
                let leaf = self.leaves[leaf];
                if matches!(&self.net.hosts[leaf], Role::Receiver(r) if r.requester.is_leaving()) {
                    // Another socket on the same port.
                    let again = self.net.new_receiver(40_000);
                    self.net.replace(leaf, again);
                } else {
                    self.net.leave(leaf);
                }
            }
            7 => {
                let sender = self.net.new_sender();
                self.net.replace(0, sender);
                self.net.open();
            }
            _ => {
                self.net.control_loss = self.net.seed.next() % 30;
                self.net.jitter = self.net.seed.next() % (20 * MS);
                self.net.duplicate_control = self.net.seed.next() % 10;
            }
        }
    }

    /// No more loss, nobody stopped, a relay at each place.
    fn calm(&mut self) {
        self.net.control_loss = 0;
        self.net.jitter = 0;
        self.net.duplicate_control = 0;
        for relay in self.relays.clone() {
            if self.net.stopped[relay] {
                self.net.wake(relay);
            }
            if matches!(&self.net.hosts[relay], Role::Relay(r) if r.is_draining()) {
                self.net.run(11 * S);
                self.net.replace(relay, Role::Router);
            }
            // A router would carry a copy for each receiver below it.
            if !self.is_relay(relay) {
                let fresh = self.net.new_relay();
                self.net.replace(relay, fresh);
            }
        }
        for leaf in self.leaves.clone() {
            let gone =
                matches!(&self.net.hosts[leaf], Role::Receiver(r) if r.requester.is_leaving());
            if gone {
                self.net.replace(leaf, Role::Router);
            }
        }
    }
}

#[test]
fn after_any_storm_everybody_gets_everything_once_over_one_copy_a_link() {
    for seed in 0..30 {
        let (mut net, relays, leaves) = deep_tree(400 + seed, 12);
        net.open();
        net.stream(1, PACE, 3_600 * S);
        net.run(3 * S);
        let mut storm = Storm {
            net,
            relays,
            leaves,
        };
        for _ in 0..40 {
            storm.happen();
            let pause = storm.net.seed.next() % (4 * S);
            storm.net.run(pause);
        }
        storm.calm();
        // The longest hold, a refresh, a handover.
        storm.net.run(90 * S);
        check(&mut storm, seed);
    }
}

fn check(storm: &mut Storm, seed: u64) {
    let net = &mut storm.net;
    net.links.clear();
    let sent_before = net.sent.len();
    net.run(10 * S);
    let sent: Vec<(u64, u32)> = net.sent[sent_before..].to_vec();
    net.run(S);
    let most = u64::try_from(net.sent.len() - sent_before).unwrap();
    for (link, (data, _)) in &net.links {
        assert!(
            *data <= most + 1,
            "seed {seed}: {data} of {most} on {link:?}"
        );
    }
    let live: Vec<Host> = storm
        .leaves
        .iter()
        .copied()
        .filter(|&leaf| matches!(net.hosts[leaf], Role::Receiver(_)))
        .collect();
    for &leaf in &live {
        let got = &net.receiver(leaf).got;
        for datagram in &sent {
            let times = got.get(datagram).copied().unwrap_or(0);
            assert_eq!(times, 1, "seed {seed}: receiver {leaf}, {datagram:?}");
        }
        let feeding = net.entries_of(leaf);
        assert_eq!(
            feeding.len(),
            1,
            "seed {seed}: receiver {leaf}: {feeding:?}"
        );
    }
    let id = net.channel.id;
    let below = net.sender().receivers(id);
    assert_eq!(below, live.len() as u64, "seed {seed}: receivers below");
}
