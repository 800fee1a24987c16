//! What a relay's end costs its receivers: killed with -9, and drained and started
//! again, under 2 000 datagrams a second, many times.
//!
//! ```text
//! cargo bench -p flexcast-relay --bench outage [-- TURNS]
//! outage kill 20 turns: worst 2901 ms, median 2802 ms, lost 219272 (worst turn 11513), …
//! outage drain+restart 20 turns: worst 20 ms, median 8 ms, lost 0 (worst turn 0), …
//! ```
//! An outage is the longest pause between two datagrams at one of two receivers. Those
//! of a killed relay have joined anew before, with the default settings; those of a
//! drained one refresh every second, which is when they find the new one. What a busy
//! machine does to the sender is told, since it shows in the pauses. Promises: `lost` and `twice` are exact, over both.
//! Is not a test: see `tests/faults`.
#![allow(clippy::print_stdout)]

#[path = "../tests/tree/mod.rs"]
mod tree;

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use flexcast_engine::RequesterSettings;
use tree::speaker::{Origin, Receiver, Stage};
use tree::{status, RelayProcess, Tree};

const INSIDE: &str = "TESTBED_WORLD";
const SIZE: usize = 1_316;
const PACE: u64 = 2_000;
const SECOND: Duration = Duration::from_secs(1);

/// One turn: the longest pause in µs, datagrams lost and come twice, and how late
/// the sender itself was at most, µs.
type Turn = (u64, usize, usize, u64);

fn main() {
    if std::env::var_os(INSIDE).is_none() && std::env::var_os(tree::ROLE).is_none() {
        let own = std::env::current_exe().expect("own path");
        let arguments = std::env::args_os().skip(1);
        let mut command = Command::new("unshare");
        command.args(["-Urnm", "--"]).arg(own).args(arguments);
        let status = command.env(INSIDE, "1").status().expect("unshare runs");
        std::process::exit(status.code().unwrap_or(1));
    }
    let tree = Tree::build(tree::enter("").expect("inside"));
    let turns = std::env::args().find_map(|word| word.parse().ok());
    let turns = turns.unwrap_or(20_usize).max(1);
    let _r1 = RelayProcess::start(&tree.r1, "");
    let mut r2 = RelayProcess::start(&tree.r2, "");
    let address: IpAddr = "10.0.0.1".parse().expect("an address");
    let origin = Origin::new(&tree.s, address, SIZE);
    let mut stage = Stage {
        origin,
        receivers: Vec::new(),
    };
    stage.origin.pace(PACE);
    let mut turned = Vec::new();
    for _ in 0..turns {
        join(&mut stage, &tree, RequesterSettings::default());
        r2.process.kill();
        stage.run(SECOND / 10);
        stage.until("fed again", 5 * SECOND, |stage| stage.all_are_fed());
        stage.run(SECOND / 2);
        turned.push(count(&mut stage));
        r2 = RelayProcess::start(&tree.r2, "");
    }
    report("kill", &mut turned);
    turned.clear();
    let settings = RequesterSettings {
        refresh: SECOND,
        ..RequesterSettings::default()
    };
    join(&mut stage, &tree, settings);
    for _ in 0..turns {
        stage.count_anew(PACE);
        stage.run(SECOND / 2);
        r2.signal("TERM");
        stage.until("drained", 11 * SECOND, |_| r2.log().contains("drained"));
        // The kernel removes its table in an RCU grace period: long on a busy host.
        r2.process.await_end(30 * SECOND);
        stage.run(SECOND / 2);
        r2 = RelayProcess::begin(&tree.r2, "", &[]);
        at_home(&mut stage, &tree);
        stage.run(SECOND / 2);
        turned.push(count(&mut stage));
    }
    report("drain+restart", &mut turned);
}

/// Lets the receivers leave, and new ones join; they are fed and counted anew.
fn join(stage: &mut Stage, tree: &Tree, settings: RequesterSettings) {
    for receiver in &mut stage.receivers {
        receiver.requester.leave(tree::speaker::now(), false);
    }
    stage.until("left", 5 * SECOND, |stage| {
        stage.receivers.iter().all(|r| r.requester.is_gone())
    });
    let channel = stage.origin.channel;
    let receiver = |host| Receiver::asking(host, channel, SIZE, settings.clone());
    stage.receivers = vec![receiver(&tree.a), receiver(&tree.b)];
    stage.origin.pace(PACE);
    stage.until("fed", 10 * SECOND, |stage| stage.all_are_fed());
    at_home(stage, tree);
    stage.count_anew(PACE);
    stage.run(SECOND / 2);
}

/// Both receivers are fed by the lower relay, and by no other.
fn at_home(stage: &mut Stage, tree: &Tree) {
    let fed_by = |host: &flexcast_testbed::Host| {
        let report = tree::inside(host, || flexcast_relay::ask_status(tree::FP));
        report.ok().and_then(|report| {
            let channel = report.channels.first()?;
            channel
                .requesters
                .iter()
                .all(|r| !r.standby)
                .then_some(channel.requesters.len())
        })
    };
    let mut looked = tree::speaker::now();
    stage.until("back at the lower relay", 20 * SECOND, |_| {
        if tree::speaker::now() < looked {
            return false;
        }
        looked = tree::speaker::now() + SECOND / 20;
        fed_by(&tree.r2) == Some(2) && status(&tree.r1).channels[0].requesters.len() == 1
    });
}

fn count(stage: &mut Stage) -> Turn {
    stage.origin.pace(0);
    stage.run(SECOND / 10);
    let sent = &stage.origin.sent;
    let mut turn = (0, 0, 0, stage.origin.longest_delay);
    for receiver in &stage.receivers {
        assert_eq!(receiver.wrong, Vec::<String>::new());
        turn.0 = turn.0.max(receiver.longest_gap);
        // To the last, not only to the last that came.
        turn.1 += sent
            .iter()
            .filter(|(n, _)| !receiver.got.contains_key(n))
            .count();
        turn.2 += receiver.twice();
    }
    turn
}

fn report(what: &str, turned: &mut [Turn]) {
    turned.sort_unstable();
    let ms = |turn: &Turn| turn.0.div_ceil(1_000);
    let (median, worst) = (ms(&turned[turned.len() / 2]), turned.iter().map(ms).max());
    let lost: usize = turned.iter().map(|turn| turn.1).sum();
    let most = turned.iter().map(|turn| turn.1).max();
    let twice: usize = turned.iter().map(|turn| turn.2).sum();
    println!(
        "outage {what} {} turns: worst {} ms, median {median} ms, lost {lost} (worst turn {}), \
         twice {twice}; the sender itself was {} ms late at most",
        turned.len(),
        worst.unwrap_or(0),
        most.unwrap_or(0),
        turned.iter().map(|turn| turn.3).max().unwrap_or(0) / 1_000,
    );
}
