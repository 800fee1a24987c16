//! Hosts, relays as processes, and a sender and receivers that speak the protocol
//! on real sockets (`speaker`).
//!
//! ```text
//!                 10.0.1.x           10.0.2.2, fd00:2::2
//!   s ──────── r1 ──────── r2 ──────── a
//!   10.0.0.1   10.0.0.2      └──────── b
//!   fd00::1                          10.0.3.2, fd00:3::2
//! ```
//! Promises: each test has a network of its own, and everything ends with it. A
//! relay is the test binary run again on a router: the same [`Service`] that the
//! program runs. Is not for capture alone (`world`).
#![allow(dead_code)] // each test binary uses a part of it

pub(crate) mod speaker;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use flexcast_relay::{ask_status, Service, Settings, StatusReport};
use flexcast_testbed::{Host, Process, World};
use flexcast_udp::process::{block_signals, restore_signals};

pub(crate) const FP: u16 = 7450;

/// Says that this process is a relay, and by which settings.
pub(crate) const ROLE: &str = "FLEXCAST_TEST_RELAY";

/// Enters the world of the test; a relay's process never returns.
pub(crate) fn enter(test: &str) -> Option<World> {
    if std::env::var_os(ROLE).is_some() {
        std::process::exit(be_a_relay());
    }
    World::enter(test)
}

fn be_a_relay() -> i32 {
    struct Lines;
    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let line = format!("{} {}\n", record.level(), record.args());
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        }
        fn flush(&self) {}
    }
    log::set_boxed_logger(Box::new(Lines)).expect("the first logger");
    log::set_max_level(log::LevelFilter::Debug);
    let service = Service::start(Settings::default());
    match service.and_then(|mut service| service.run()) {
        Ok(()) => 0,
        Err(error) => {
            log::error!("{error}");
            1
        }
    }
}

/// The network of the drawing.
pub(crate) struct Tree {
    pub(crate) s: Host,
    pub(crate) r1: Host,
    pub(crate) r2: Host,
    pub(crate) a: Host,
    pub(crate) b: Host,
    pub(crate) world: World,
}

impl Tree {
    pub(crate) fn build(world: World) -> Tree {
        let host = |name: &str| world.host(name);
        let (s, r1, r2, a, b) = (host("s"), host("r1"), host("r2"), host("a"), host("b"));
        for (near, far, net) in [(&s, &r1, 0), (&r1, &r2, 1), (&r2, &a, 2), (&r2, &b, 3)] {
            let four = |end| format!("10.0.{net}.{end}/24");
            let six = |end| format!("fd00:{net}::{end}/64");
            let names = world.link((near, &four(1)), (far, &four(2)));
            for (host, name, end) in [(near, &names.0, 1), (far, &names.1, 2)] {
                host.ip(&["address", "add", &six(end), "dev", name, "nodad"]);
            }
        }
        for (host, to, via) in [
            (&s, "default", "10.0.0.2"),
            (&s, "default", "fd00:0::2"),
            (&r1, "10.0.2.0/24", "10.0.1.2"),
            (&r1, "10.0.3.0/24", "10.0.1.2"),
            (&r1, "fd00:2::/64", "fd00:1::2"),
            (&r1, "fd00:3::/64", "fd00:1::2"),
            (&r2, "default", "10.0.1.1"),
            (&r2, "default", "fd00:1::1"),
            (&a, "default", "10.0.2.1"),
            (&a, "default", "fd00:2::1"),
            (&b, "default", "10.0.3.1"),
            (&b, "default", "fd00:3::1"),
        ] {
            host.ip(&["route", "add", to, "via", via]);
        }
        for router in [&r1, &r2] {
            sh(
                router,
                "echo 1 >/proc/sys/net/ipv4/ip_forward; \
                 echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
            );
        }
        for host in [&a, &b] {
            await_way(host, "10.0.0.1");
            await_way(host, "fd00::1");
        }
        // The neighbour table is shared by all namespaces of the machine, and entries
        // go when it is full: then whatever is on its way is lost.
        for host in [&s, &r1, &r2, &a, &b] {
            sh(
                host,
                "{ ip neigh; ip -6 neigh; } | awk '$4 == \"lladdr\" { print \"ip neigh replace\", \
                 $1, \"dev\", $3, \"lladdr\", $5, \"nud permanent\" }' | sh",
            );
        }
        Tree {
            s,
            r1,
            r2,
            a,
            b,
            world,
        }
    }
}

/// Waits until `host` reaches an address: the kernel takes up to a second to see
/// that a link is up. A port that nobody has is answered by an ICMP error.
pub(crate) fn await_way(host: &Host, address: &str) {
    let to: std::net::IpAddr = address.parse().expect("an address");
    let reached = inside(host, || {
        let any = flexcast_udp::Family::of(to).any();
        let socket = std::net::UdpSocket::bind((any, 0)).expect("a socket");
        let patience = Some(Duration::from_millis(50));
        socket.set_read_timeout(patience).expect("a timeout");
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            let _ = socket.connect((to, 9)).and_then(|()| socket.send(b"?"));
            let answer = socket.recv(&mut [0]).map_err(|error| error.kind());
            if answer == Err(std::io::ErrorKind::ConnectionRefused) {
                return true;
            }
        }
        false
    });
    assert!(reached, "{} does not reach {address}", host.name());
}

/// Runs a shell command on a host; its output.
pub(crate) fn sh(host: &Host, script: &str) -> String {
    let output = host.command("sh").args(["-c", script]).output();
    let output = output.expect("sh runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {script}: {said}", host.name());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Does something in a host's network namespace: sockets made there stay there.
pub(crate) fn inside<T: Send>(host: &Host, work: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{move_into_link_name_space, LinkNameSpaceType};
    use std::os::fd::AsFd;
    let file = File::open(format!("/proc/{}/ns/net", host.pid())).expect("it lives");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("we are root in it");
            work()
        });
        thread.join().expect("no panic in the namespace")
    })
}

/// A relay on a router.
pub(crate) struct RelayProcess {
    pub(crate) process: Process,
    log: PathBuf,
}

impl RelayProcess {
    /// Starts one and waits until it captures.
    pub(crate) fn start(on: &Host, test: &str) -> RelayProcess {
        let relay = RelayProcess::begin(on, test, &[]);
        relay.await_capture();
        relay
    }

    /// Waits until it captures.
    pub(crate) fn await_capture(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.log().contains("is capturing") {
            assert!(Instant::now() < deadline, "no capture: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts one by a wrapper (`setpriv …`), whatever becomes of it.
    pub(crate) fn begin(on: &Host, test: &str, wrapper: &[&str]) -> RelayProcess {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("flexcast-relay-{}-{n}.log", std::process::id());
        let log = std::env::temp_dir().join(name);
        let file = File::create(&log).expect("a place for the log");
        let own = std::env::current_exe().expect("own path");
        let own = own.to_str().expect("a path in UTF-8").to_owned();
        let mut words: Vec<&str> = wrapper.to_vec();
        words.extend([
            own.as_str(),
            test,
            "--exact",
            "--nocapture",
            "--test-threads=1",
        ]);
        // One test thread: then it is the main one, which signals come to.
        let mut command = on.command(words[0]);
        command
            .args(&words[1..])
            .env(ROLE, "1")
            .stdout(std::process::Stdio::null())
            .stderr(file);
        // The test harness has a main thread of its own, which would die of a
        // signal: blocked here, it is blocked there, and the relay reads it.
        let mask = block_signals();
        let process = Process::start("relay", &mut command);
        restore_signals(mask);
        RelayProcess { process, log }
    }

    /// All that it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill runs").success(), "{name} to {pid}");
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut error = std::io::stderr();
            let _ = std::io::Write::write_all(&mut error, self.log().as_bytes());
        }
        let _ = fs::remove_file(&self.log);
    }
}

/// What the relay on a host says of itself.
pub(crate) fn status(host: &Host) -> StatusReport {
    inside(host, || ask_status(FP)).expect("a relay answers")
}
