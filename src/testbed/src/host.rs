//! One host: a network namespace, held open by a process that sleeps in it.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::Process;

/// A network namespace of its own, gone when dropped.
#[derive(Debug)]
pub struct Host {
    name: String,
    holder: Process,
}

impl Host {
    pub(crate) fn new(name: &str) -> Host {
        let mut command = Command::new("unshare");
        // Bounded, should the test be killed before it can end it.
        command.args(["-n", "--", "sleep", "600"]);
        let holder = Process::start(name, &mut command);
        let host = Host {
            name: name.to_owned(),
            holder,
        };
        host.await_namespace();
        host.ip(&["link", "set", "lo", "up"]);
        host
    }

    /// The name that was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that holds the namespace open.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// A command that runs on this host.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.pid().to_string();
        command.args(["-t", &target, "-n", "--", program]);
        command
    }

    /// Starts a program on this host; it ends when the value is dropped.
    #[must_use]
    pub fn start(&self, program: &str, arguments: &[&str]) -> Process {
        Process::start(program, self.command(program).args(arguments))
    }

    /// Runs `ip` on this host.
    ///
    /// # Panics
    /// Where it fails, with what it said.
    pub fn ip(&self, arguments: &[&str]) {
        ip(Some(self), arguments);
    }

    /// `unshare` makes the namespace some milliseconds after its start.
    fn await_namespace(&self) {
        let own = fs::read_link("/proc/self/ns/net").expect("/proc is mounted");
        let theirs = format!("/proc/{}/ns/net", self.pid());
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::read_link(&theirs).is_ok_and(|theirs| theirs == own) {
            assert!(Instant::now() < deadline, "{}: no namespace", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs `ip`, on a host or in the world itself; panics where it fails.
pub(crate) fn ip(host: Option<&Host>, arguments: &[&str]) {
    let mut command = host.map_or_else(|| Command::new("ip"), |host| host.command("ip"));
    let output = command
        .args(arguments)
        .output()
        .expect("ip (iproute2) is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {said}");
}
