//! Sender and receiver processes for the tests of the sending half: this test binary
//! run again on a host of the test's world, told what to do line by line.
//!
//! Promises: real processes, real namespaces; each answer is one line; a process that
//! does not answer within 10 s fails the test. Is not the preload library.

#![allow(dead_code)] // each test binary uses a part

mod handover;
mod receiver;
mod sender;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::{Duration, Instant};

use flexcast_testbed::{Host, World};

/// Tells an actor's run from a test's.
const ROLE: &str = "FLEXCAST_TEST_ROLE";
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of the test named `actor`, which every test binary has.
pub(crate) fn act() {
    match std::env::var(ROLE).as_deref() {
        Ok("sender") => sender::run(),
        Ok("receiver") => receiver::run(),
        _ => {}
    }
}

/// Two hosts and a link: 10.0.0.1 and 2001:db8::1 send, 10.0.0.2 and ::2 receive.
pub(crate) struct Link {
    pub(crate) sends: Host,
    pub(crate) receives: Host,
    pub(crate) devices: (String, String),
    world: World,
}

impl Link {
    pub(crate) fn enter(test: &str) -> Option<Link> {
        let world = World::enter(test)?;
        let (sends, receives) = (world.host("sends"), world.host("receives"));
        let devices = world.link((&sends, "10.0.0.1/24"), (&receives, "10.0.0.2/24"));
        let (a, b) = (devices.0.as_str(), devices.1.as_str());
        sends.ip(&["address", "add", "2001:db8::1/64", "dev", a, "nodad"]);
        receives.ip(&["address", "add", "2001:db8::2/64", "dev", b, "nodad"]);
        Some(Link {
            sends,
            receives,
            devices,
            world,
        })
    }

    /// A sender process that has started (or was refused).
    pub(crate) fn sender(&self) -> Actor {
        let mut actor = Actor::start(&self.sends, "sender");
        assert_eq!(actor.ask("start"), "ok");
        actor
    }

    pub(crate) fn receiver(&self) -> Actor {
        Actor::start(&self.receives, "receiver")
    }
}

/// A process of this test binary.
pub(crate) struct Actor {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Actor {
    pub(crate) fn start(host: &Host, role: &str) -> Actor {
        let binary = std::env::current_exe().unwrap();
        let mut command = host.command(binary.to_str().unwrap());
        Actor::spawn(&mut command, role)
    }

    pub(crate) fn spawn(command: &mut Command, role: &str) -> Actor {
        let mut child = command
            .args(["actor", "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some((_, answer)) = line.split_once("=> ") {
                    let _ = tell.send(answer.to_owned());
                }
            }
        });
        Actor {
            child,
            input,
            answers,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it something, without waiting.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    pub(crate) fn answer(&mut self, to: &str) -> String {
        let answer = self.answers.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|error| {
            let ended = self.child.try_wait();
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
            let threads = tasks.into_iter().flatten().flatten().map(|task| {
                let read = |name| std::fs::read_to_string(task.path().join(name));
                let words = [read("comm"), read("wchan"), read("syscall")];
                words.map(|word| word.unwrap_or_default()).join(" ")
            });
            let threads: Vec<String> = threads.collect();
            panic!("no answer to {to:?}: {error}, {ended:?}, {threads:?}")
        })
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer(command)
    }

    /// What its sockets have seen.
    pub(crate) fn stats(&mut self) -> Vec<Stats> {
        let count: usize = self.ask("stats").parse().unwrap();
        (0..count)
            .map(|_| Stats::read(&self.answer("stats")))
            .collect()
    }

    /// Asks until every socket has what is wanted.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Stats) -> bool) -> Vec<Stats> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats();
            if stats.iter().all(&wanted) {
                return stats;
            }
            assert!(Instant::now() < deadline, "{what}: {stats:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks until the socket with this number has what is wanted.
    pub(crate) fn until_nth(&mut self, n: usize, what: &str, wanted: impl Fn(&Stats) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let stats = self.stats();
            if wanted(&stats[n]) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", stats[n]);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it end by itself.
    pub(crate) fn quit(mut self) {
        self.tell("quit");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What one requester has seen since it asked.
#[derive(Clone, Default, Debug)]
pub(crate) struct Stats {
    fields: HashMap<String, String>,
}

impl Stats {
    fn read(line: &str) -> Stats {
        let fields = line.split_ascii_whitespace();
        let fields = fields.filter_map(|field| field.split_once('='));
        Stats {
            fields: fields.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| panic!("{name}={text:?}"))
    }

    pub(crate) fn is_granted(&self) -> bool {
        self.text("verdict") == "Granted"
    }
}

/// Writes an answer of an actor.
#[allow(clippy::print_stdout)] // that is how it answers
fn say(answer: &str) {
    // The harness writes "test actor ... " in front of the first line.
    println!("=> {answer}");
}
