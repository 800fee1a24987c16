//! `flexcast relay` and `flexcast status` from outside: options, messages, codes.
//!
//! What a relay does stands in the relay's own tests.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flexcast_testbed::{Process, World};

/// Code, standard output, standard error.
fn ends(arguments: &[&str]) -> (i32, String, String) {
    let output = flexcast(arguments).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("no signal"),
        text(output.stdout),
        text(output.stderr),
    )
}

fn flexcast(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flexcast"));
    command.env_remove("FLEXCAST_PORT").args(arguments);
    command
}

/// A relay in the background, with its log.
struct Relay {
    process: Process,
    log: PathBuf,
}

impl Relay {
    fn start(change: impl FnOnce(&mut Command, &File)) -> Relay {
        let name = format!("flexcast-cli-relay-{}.log", std::process::id());
        let log = std::env::temp_dir().join(name);
        let file = File::create(&log).expect("a place for the log");
        let mut command = flexcast(&["relay"]);
        change(&mut command, &file);
        command.stdout(Stdio::null()).stderr(file);
        let process = Process::start("relay", &mut command);
        let relay = Relay { process, log };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !relay.log().contains("is capturing") {
            assert!(Instant::now() < deadline, "{}", relay.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        relay
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn terminate(&mut self) {
        let pid = self.process.pid().to_string();
        let sent = Command::new("kill").arg(pid).status().expect("kill runs");
        assert!(sent.success());
        let status = self.process.await_end(Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
    }
}

#[test]
fn a_relay_shows_its_status_and_ends_with_0_when_asked_to() {
    let Some(_world) = World::enter("a_relay_shows_its_status_and_ends_with_0_when_asked_to")
    else {
        return;
    };
    let (code, _, err) = ends(&["status"]);
    assert!(
        code == 1 && err.contains("no relay runs on port 7450"),
        "{err}"
    );
    let mut relay = Relay::start(|_, _| {});
    let (code, out, err) = ends(&["status"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let head = format!("UDP port 7450, process {}: capturing", relay.process.pid());
    assert!(out.contains(&head), "{out}");
    assert!(out.contains("0 channels, 0 requesters"), "{out}");
    let (code, out, _) = ends(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, 0);
    assert_eq!(json["pid"], relay.process.pid());
    assert_eq!(json["capturing"], true);
    assert_eq!(json["channels"], serde_json::json!([]));

    let (code, _, err) = ends(&["relay"]);
    assert!(
        code == 1 && err.contains("runs on port 7450") && err.contains("flexcast status"),
        "{code} {err}"
    );
    relay.terminate();
    assert!(relay.log().ends_with("drained\n"), "{}", relay.log());
    let first = relay.log().lines().next().map(str::to_owned);
    let first = first.expect("a line");
    assert_eq!(
        (&first[4..5], &first[10..11], &first[23..24]),
        ("-", "T", "Z")
    );
}

#[test]
fn the_port_comes_from_an_option_or_the_environment() {
    let Some(_world) = World::enter("the_port_comes_from_an_option_or_the_environment") else {
        return;
    };
    let mut relay = Relay::start(|command, _| {
        command.env("FLEXCAST_PORT", "7461");
        command.args([
            "--mark",
            "0x60",
            "--route-table",
            "99",
            "--table-name",
            "lab",
        ]);
    });
    let rules = Command::new("sh")
        .args(["-c", "ip rule; nft list tables"])
        .output();
    let rules = String::from_utf8(rules.expect("sh runs").stdout).expect("UTF-8");
    let wanted = "fwmark 0x60/0xf0 ipproto udp dport 7461 lookup 99";
    assert!(rules.contains(wanted), "{rules}");
    assert!(rules.contains("table inet lab"), "{rules}");
    assert_eq!(ends(&["status"]).0, 1);
    assert_eq!(ends(&["status", "--port", "7461"]).0, 0);
    relay.terminate();
}

#[test]
fn the_journal_gets_levels_and_no_times() {
    let Some(_world) = World::enter("the_journal_gets_levels_and_no_times") else {
        return;
    };
    let mut relay = Relay::start(|command, stderr| {
        let file = stderr.metadata().expect("a file");
        let stream = format!("{}:{}", file.dev(), file.ino());
        command.env("JOURNAL_STREAM", stream);
    });
    relay.terminate();
    let log = relay.log();
    assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
    assert!(log.contains("<4>this host does not forward IPv4"), "{log}");
    assert!(log.contains("<6>relay "), "{log}");
}

#[test]
fn wrong_options_end_with_2() {
    for (arguments, words) in [
        (&["relay", "--mark", "0x150"][..], "mark = 0x150/0xf0"),
        (&["relay", "--mark", "fifty"], "0x…"),
        (&["relay", "--route-table", "254"], "route_table = 254"),
        (&["relay", "--port", "0"], "--port"),
        (&["relay", "--log-level", "loud"], "loud"),
        (&["status", "--port", "70000"], "--port"),
    ] {
        // Inside a namespace of its own, should it start after all.
        let mut command = Command::new("unshare");
        command.args(["-Urn", "sh", "-c", "ip link set lo up; exec \"$@\"", "-"]);
        command.arg(env!("CARGO_BIN_EXE_flexcast")).args(arguments);
        let output = command.output().expect("unshare runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
