//! A network of three namespaces for the tests of capture, each test its own:
//!
//! ```text
//!   client                       relay (the test itself)                    server
//!   10.1.0.2, fd01::2  c ── rc  10.1.0.1  fd01::1
//!                               10.2.0.1  fd02::1  rs ── s  10.2.0.2, fd02::2
//! ```
//! A test runs itself again under `unshare -Urnm`, builds the network there by
//! moving veth ends into child namespaces, and everything goes with its
//! processes. Needs util-linux, iproute2, nftables and python3 (standard
//! library), and says which is missing.
#![allow(dead_code)] // each test binary uses a part of it

use std::any::type_name;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use flexcast_relay::capture::{Capture, Settings};

/// Requests of these tests begin with this word, then their type.
pub(crate) const WORD: u32 = 0xF1EC_A501;
pub(crate) const REQUEST: u8 = 1;
pub(crate) const DIRECT: u8 = 2;
pub(crate) const TRACE: u8 = 5;
pub(crate) const FP: u16 = 7450;

const STAGE: &str = "FLEXCAST_TEST_STAGE";
const NAME: &str = "FLEXCAST_TEST_NAME";
const OWNER: &str = "FLEXCAST_TEST_OWNER";

pub(crate) fn settings() -> Settings {
    Settings::new(FP, WORD, 4, vec![REQUEST, TRACE])
}

/// A control-like payload.
pub(crate) fn control(message: u8) -> String {
    format!("{WORD:08x}{message:02x}00000000000000")
}

/// Runs a test in a world of its own. The closure must stand in the test
/// function itself, whose name is read from its type.
pub(crate) fn enter<F: FnOnce()>(test: F) {
    match env::var(STAGE).as_deref() {
        Ok("world") => test(),
        Ok("holder") => hold(),
        _ => run_in_new_world(&test_name::<F>()),
    }
}

/// `binary::the_test::{{closure}}` without its ends.
fn test_name<F>() -> String {
    let full = type_name::<F>().trim_end_matches("::{{closure}}");
    full.split_once("::")
        .map_or(full, |(_, name)| name)
        .to_owned()
}

fn run_in_new_world(name: &str) {
    for (program, package) in [
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("python3", "python3"),
        ("unshare", "util-linux"),
    ] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output();
        assert!(
            found.is_ok_and(|o| o.status.success()),
            "{program} is missing: apt install {package}"
        );
    }
    let output = Command::new("timeout")
        .args(["60", "unshare", "-Urnm"])
        .arg(env::current_exe().expect("own path"))
        .args([name, "--exact", "--nocapture", "--test-threads", "1"])
        .env(STAGE, "world")
        .env(NAME, name)
        .env_remove("NEXTEST_EXECUTION_MODE")
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name} in its world:\n{said}{complained}"
    );
    assert!(said.contains("1 passed"), "{name} did not run: {said}");
}

/// The network, and the ends of it.
pub(crate) struct World {
    pub(crate) client: End,
    pub(crate) relay: End,
    pub(crate) server: End,
    namespaces: [Namespace; 2],
}

impl World {
    /// Builds the network; the relay's transparent socket and the server's
    /// sockets are open on FP, the client's on 5001 (`four`, `six`).
    pub(crate) fn build() -> World {
        let (client, server) = (Namespace::new(), Namespace::new());
        run("ip link set lo up");
        for (namespace, near, far, net) in [(&client, "rc", "c", 1), (&server, "rs", "s", 2)] {
            run(&format!(
                "ip link add {near} type veth peer name {far} netns {}",
                namespace.child.id()
            ));
            run(&format!("ip addr add 10.{net}.0.1/24 dev {near}"));
            run(&format!("ip addr add fd0{net}::1/64 dev {near} nodad"));
            run(&format!("ip link set {near} up"));
            namespace.run("ip link set lo up");
            namespace.run(&format!("ip addr add 10.{net}.0.2/24 dev {far}"));
            namespace.run(&format!("ip addr add fd0{net}::2/64 dev {far} nodad"));
            namespace.run(&format!("ip link set {far} up"));
            namespace.run(&format!("ip route add default via 10.{net}.0.1"));
            namespace.run(&format!("ip route add default via fd0{net}::1"));
        }
        set("net/ipv4/ip_forward", "1");
        set("net/ipv6/conf/all/forwarding", "1");
        let ends = [
            End::start(Some(&client)),
            End::start(None),
            End::start(Some(&server)),
        ];
        let [mut client_end, mut relay, mut server_end] = ends;
        client_end.ask("open four 10.1.0.2 5001");
        client_end.ask("open six fd01::2 5001");
        client_end.ask(&format!("open fp 10.1.0.2 {FP}"));
        relay.ask(&format!("open fp :: {FP} transparent"));
        server_end.ask(&format!("open fp :: {FP}"));
        let namespaces = [client, server];
        let mut world = World {
            client: client_end,
            relay,
            server: server_end,
            namespaces,
        };
        world.wait_for_links();
        world
    }

    /// The kernel takes up to a second to see that a link is up. Nothing of
    /// what is sent here is left in a queue.
    fn wait_for_links(&mut self) {
        for (socket, net) in [("four", "10.2.0.2"), ("six", "fd02::2")] {
            wait_for("the links", || {
                self.client.ask(&format!("send {socket} {net} {FP} 00"));
                self.server.ask("receive fp 0.05") != "nothing"
            });
            while self.server.ask("receive fp 0.05") != "nothing" {}
        }
    }

    /// Runs a command in the client's namespace.
    pub(crate) fn run_at_client(&self, command: &str) -> String {
        self.namespaces[0].run(command)
    }

    /// Sends from the client to the server's FP; who got it?
    pub(crate) fn ask_server(&mut self, socket: &str, data: &str) -> Got {
        let to = if socket == "six" {
            "fd02::2"
        } else {
            "10.2.0.2"
        };
        self.send_to(socket, to, data)
    }

    /// Sends from the client to an address's FP; who got it?
    pub(crate) fn send_to(&mut self, socket: &str, to: &str, data: &str) -> Got {
        assert_eq!(
            self.client.ask(&format!("send {socket} {to} {FP} {data}")),
            "ok"
        );
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            for (end, got) in [
                (&mut self.relay, Got::Relay as fn(String) -> Got),
                (&mut self.server, Got::Server),
            ] {
                let answer = end.ask("receive fp 0.02");
                if answer != "nothing" {
                    assert!(answer.ends_with(data), "something else arrived: {answer}");
                    return got(answer);
                }
            }
        }
        Got::Nobody
    }
}

/// Who got a datagram: from, port, to (of a transparent socket), payload.
#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    Relay(String),
    Server(String),
    Nobody,
}

impl Got {
    pub(crate) fn is_relay(&self) -> bool {
        matches!(self, Got::Relay(_))
    }

    pub(crate) fn is_server(&self) -> bool {
        matches!(self, Got::Server(_))
    }
}

/// A child network namespace, gone with the process that holds its input.
struct Namespace {
    child: Child,
}

impl Namespace {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["-n", "cat"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("unshare");
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        wait_for("a network namespace", || {
            let other = of(&child.id().to_string());
            other.is_some() && other != of("self")
        });
        Self { child }
    }

    fn run(&self, command: &str) -> String {
        run(&format!("nsenter -t {} -n {command}", self.child.id()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A process with UDP sockets in a namespace, driven line by line.
pub(crate) struct End {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl End {
    fn start(namespace: Option<&Namespace>) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/world/end.py");
        match namespace {
            Some(of) => Self::spawn(Command::new("nsenter").args([
                "-t",
                &of.child.id().to_string(),
                "-n",
                "python3",
                script,
            ])),
            None => Self::spawn(Command::new("python3").arg(script)),
        }
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            input: child.stdin.take(),
            child,
            output,
        }
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().expect("open"), "{line}").expect("it listens");
        self.hear()
    }

    pub(crate) fn hear(&mut self) -> String {
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        answer.trim().to_owned()
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        run(&format!("kill -{name} {}", self.child.id()));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, and returns when it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it was alive");
        self.child.wait().expect("it is gone");
    }
}

impl Drop for End {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// A process of its own that holds a capture and renews it every 500 ms. Its
/// answer is `ready`, or why it cannot. `wrapper`: a program that starts it.
pub(crate) fn holder(owner: bool, wrapper: &[&str]) -> (End, String) {
    let own = env::current_exe().expect("own path");
    let own = own.to_str().expect("a path in UTF-8").to_owned();
    let name = env::var(NAME).expect("inside a world");
    let mut words: Vec<&str> = wrapper.to_vec();
    words.extend([
        own.as_str(),
        &name,
        "--exact",
        "--nocapture",
        "--test-threads",
        "1",
    ]);
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env(STAGE, "holder")
        .env(OWNER, owner.to_string());
    let mut end = End::spawn(&mut command);
    // The test harness has a few words of its own first.
    loop {
        let line = end.hear();
        if let Some((_, said)) = line.split_once("holder: ") {
            let said = said.to_owned();
            return (end, said);
        }
    }
}

fn hold() {
    let owner = env::var(OWNER).is_ok_and(|value| value == "true");
    let mut capture = match Capture::install(Settings {
        owner,
        ..settings()
    }) {
        Ok((capture, _)) => capture,
        Err(error) => return say(&error.to_string()),
    };
    say("ready");
    let (end, ended) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        drop(end);
    });
    use std::sync::mpsc::RecvTimeoutError::Timeout;
    while ended.recv_timeout(Duration::from_millis(500)) == Err(Timeout) {
        capture.renew().expect("renewed");
    }
}

/// What a holder says to its test.
fn say(text: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "\nholder: {text}").expect("somebody reads");
}

/// Runs a command in the relay's namespace; its output.
pub(crate) fn run(command: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", command])
        .output()
        .expect("sh");
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {complained}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sets a sysctl by its path below /proc/sys.
pub(crate) fn set(path: &str, value: &str) {
    fs::write(format!("/proc/sys/{path}"), value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Waits until it is so, at most five seconds.
pub(crate) fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not within 5 s");
        sleep(Duration::from_millis(10));
    }
}
