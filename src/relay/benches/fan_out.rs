//! What one copy of a datagram costs a relay, against a plain loop of recv and
//! sendto in its place: thread CPU time, 100 receivers, in alternation.
//!
//! ```text
//! cargo bench -p flexcast-relay --bench fan_out [-- TURNS]
//! fan_out singles 100 receivers: relay 61.2 ns, loop 921.0 ns a copy, ratio 15.0 (14.1 .. 15.8), lost 0 and 0
//! fan_out batched 100 receivers: …
//! ```
//! `singles`: datagrams sent one by one, flat out, at most 64 under way; `batched`:
//! super-packets of 44. Medians, and the least and largest ratio of a pair.
//! Promises: every copy of the last receiver is counted, so what was lost on the way
//! is told, and no cost of a copy that was not made; the far end drops what the others get, as their work is not the relay's.
//! Is not a test: it fails only where it cannot measure.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../tests/tree/mod.rs"]
mod tree;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use flexcast_testbed::{Host, Process};
use flexcast_wire::Kind;
use tree::speaker::{Origin, Receiver, Stage};
use tree::{inside, sh, RelayProcess, Tree};

const INSIDE: &str = "TESTBED_WORLD";
const LOOP: &str = "FLEXCAST_BENCH_LOOP";
const SIZE: usize = 1_300;
const RECEIVERS: usize = 100;
const SPAN: Duration = Duration::from_secs(2);
/// Datagrams under way: fewer than a default receive buffer holds.
const WINDOW: usize = 64;
const BURST: usize = 44;

#[derive(Clone, Copy, PartialEq)]
enum Arrivals {
    Singles,
    Batched,
}

fn main() {
    if let Some(targets) = std::env::var_os(LOOP) {
        return plain_loop(&targets.to_string_lossy());
    }
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().expect("own path");
        let arguments = std::env::args_os().skip(1);
        let mut command = Command::new("unshare");
        command.args(["-Urnm", "--"]).arg(own).args(arguments);
        let status = command.env(INSIDE, "1").status().expect("unshare runs");
        std::process::exit(status.code().unwrap_or(1));
    }
    let world = tree::enter("").expect("inside");
    let turns = std::env::args().find_map(|word| word.parse().ok());
    let turns = turns.unwrap_or(5_usize).max(1);
    let tree = Tree::build(world);
    for arrivals in [Arrivals::Singles, Arrivals::Batched] {
        let mut pairs = Vec::new();
        for _ in 0..turns {
            pairs.push((relay(&tree, arrivals), looped(&tree, arrivals)));
        }
        report(arrivals, &pairs);
    }
}

fn report(arrivals: Arrivals, pairs: &[(Cost, Cost)]) {
    let median = |values: Vec<f64>| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        (
            values[0],
            values[values.len() / 2],
            values[values.len() - 1],
        )
    };
    let relay = median(pairs.iter().map(|p| p.0 .0).collect()).1;
    let plain = median(pairs.iter().map(|p| p.1 .0).collect()).1;
    let (least, ratio, most) = median(pairs.iter().map(|p| p.1 .0 / p.0 .0).collect());
    let lost: usize = pairs.iter().map(|p| p.0 .1).sum();
    let plainly: usize = pairs.iter().map(|p| p.1 .1).sum();
    let name = match arrivals {
        Arrivals::Singles => "singles",
        Arrivals::Batched => "batched",
    };
    println!(
        "fan_out {name} {RECEIVERS} receivers: relay {relay:.1} ns, loop {plain:.1} ns a copy, \
         ratio {ratio:.1} ({least:.1} .. {most:.1}), lost {lost} and {plainly}"
    );
}

/// Datagrams under way, and those given up.
struct Window {
    sent: usize,
    came: usize,
    lost: usize,
    progress: Instant,
}

impl Window {
    fn new() -> Window {
        Window {
            sent: 0,
            came: 0,
            lost: 0,
            progress: Instant::now(),
        }
    }

    /// Whether so many more may be sent.
    fn has_room(&self, count: usize) -> bool {
        self.sent + count <= self.came + self.lost + WINDOW
    }

    fn is_empty(&self) -> bool {
        self.sent <= self.came + self.lost
    }

    /// So many have come by now; after half a second without one, the others are lost.
    fn note(&mut self, came: usize) {
        if came > self.came {
            (self.came, self.progress) = (came, Instant::now());
        } else if self.progress.elapsed() > Duration::from_millis(500) {
            self.lost = self.sent - self.came;
            self.progress = Instant::now();
        }
    }

    /// Nanoseconds of `cpu` a copy, and how many were lost.
    #[allow(clippy::cast_precision_loss)] // a few million
    fn cost(&self, cpu: f64) -> Cost {
        (cpu / (self.came * (RECEIVERS + 1)) as f64, self.lost)
    }
}

/// Nanoseconds a copy, datagrams lost.
type Cost = (f64, usize);

/// The far end drops the stream to all but the probe, or takes all.
fn drop_at(host: &Host, probe: u16, dropping: bool) {
    let _ = host
        .command("nft")
        .args(["delete", "table", "inet", "far"])
        .output();
    if dropping {
        sh(
            host,
            &format!(
                "nft 'table inet far {{ chain in {{ type filter hook prerouting priority -350; \
                 udp sport 7450 ip dscp 0 udp dport != {probe} drop; }}; }}'"
            ),
        );
    }
}

/// CPU nanoseconds of a process.
fn spent(process: &Process) -> f64 {
    let path = format!("/proc/{}/schedstat", process.pid());
    let text = std::fs::read_to_string(path).expect("it runs");
    let first = text.split_ascii_whitespace().next();
    first.and_then(|ns| ns.parse().ok()).expect("a number")
}

/// Nanoseconds a copy at the relay.
fn relay(tree: &Tree, arrivals: Arrivals) -> Cost {
    let relay = RelayProcess::begin(&tree.r1, "", &["taskset", "-c", "1"]);
    relay.await_capture();
    let address: IpAddr = "10.0.0.1".parse().expect("an address");
    let origin = Origin::new(&tree.s, address, SIZE);
    let channel = origin.channel;
    let receivers = (0..=RECEIVERS).map(|_| Receiver::new(&tree.r2, channel, SIZE));
    let mut stage = Stage {
        origin,
        receivers: receivers.collect(),
    };
    let all_but_one = stage.receivers.len() - 1;
    // The probe enters last, and is served last.
    let probe = stage.receivers.pop().expect("one");
    let port = probe.port();
    stage.until("granted", Duration::from_secs(10), |stage| {
        stage.receivers.iter().all(|r| r.requester.is_granted())
    });
    stage.receivers.push(probe);
    stage.until("the probe is granted", Duration::from_secs(10), |stage| {
        stage.receivers[all_but_one].requester.is_granted()
    });
    drop_at(&tree.r2, port, true);
    stage.begin_count();
    let (began, before) = (Instant::now(), spent(&relay.process));
    let (mut tended, mut window) = (Instant::now(), Window::new());
    while began.elapsed() < SPAN || !window.is_empty() {
        if began.elapsed() < SPAN {
            match arrivals {
                Arrivals::Singles if window.has_room(1) => {
                    stage.origin.send(Kind::Data);
                    window.sent += 1;
                }
                Arrivals::Batched if window.has_room(BURST) => {
                    stage.origin.send_burst(BURST);
                    window.sent += BURST;
                }
                _ => {}
            }
        }
        stage.receivers[all_but_one].turn();
        window.note(stage.receivers[all_but_one].got.len());
        if tended.elapsed() > Duration::from_millis(50) {
            stage.turn();
            tended = Instant::now();
        }
    }
    let cpu = spent(&relay.process) - before;
    drop_at(&tree.r2, 0, false);
    window.cost(cpu)
}

/// Nanoseconds a copy of a plain loop in the relay's place, between sockets of the
/// same hosts.
fn looped(tree: &Tree, arrivals: Arrivals) -> Cost {
    let bound = |host, address: &'static str| inside(host, move || roomy(&format!("{address}:0")));
    let origin = bound(&tree.s, "10.0.0.1");
    let receivers: Vec<UdpSocket> = (0..=RECEIVERS)
        .map(|_| bound(&tree.r2, "10.0.1.2"))
        .collect();
    let probe = &receivers[RECEIVERS];
    probe.set_nonblocking(true).expect("set");
    let ports = receivers
        .iter()
        .map(|r| r.local_addr().expect("bound").port());
    let ports: Vec<String> = ports.map(|port| port.to_string()).collect();
    let own = std::env::current_exe().expect("own path");
    let mut command = tree.r1.command("taskset");
    command
        .args(["-c", "1"])
        .arg(own)
        .env(LOOP, ports.join(" "));
    let process = Process::start("loop", &mut command);
    let to = SocketAddr::from(([10, 0, 0, 2], 7450));
    let (payload, mut buffer) = (vec![7; SIZE + 16], vec![0; 2_048]);
    // It is there when the first datagram has come.
    let deadline = Instant::now() + Duration::from_secs(5);
    while probe.recv(&mut buffer).is_err() {
        assert!(Instant::now() < deadline, "the loop does not start");
        let _ = origin.send_to(&payload, to);
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(50));
    while probe.recv(&mut buffer).is_ok() {}
    let port: u16 = ports[RECEIVERS].parse().expect("a port");
    drop_at(&tree.r2, port, true);
    let (began, before) = (Instant::now(), spent(&process));
    let (mut came, mut window) = (0, Window::new());
    let count = if arrivals == Arrivals::Singles {
        1
    } else {
        BURST
    };
    while began.elapsed() < SPAN || !window.is_empty() {
        if began.elapsed() < SPAN && window.has_room(count) {
            for _ in 0..count {
                origin.send_to(&payload, to).expect("sent");
            }
            window.sent += count;
        }
        while probe.recv(&mut buffer).is_ok() {
            came += 1;
        }
        window.note(came);
    }
    let cpu = spent(&process) - before;
    drop_at(&tree.r2, 0, false);
    window.cost(cpu)
}

/// A socket with the largest buffer that anybody may have.
fn roomy(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).expect("bound");
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 1 << 20).expect("a buffer");
    socket
}

/// One datagram in, a sendto for each receiver.
fn plain_loop(ports: &str) {
    let socket = roomy("10.0.0.2:7450");
    let ports = ports.split_ascii_whitespace();
    let targets: Vec<SocketAddr> = ports
        .map(|port| SocketAddr::from(([10, 0, 1, 2], port.parse().expect("a port"))))
        .collect();
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = socket.recv(&mut buffer) {
        for target in &targets {
            let _ = socket.send_to(&buffer[..length], target);
        }
    }
}
