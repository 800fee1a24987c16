//! `flexcast run --wait-for`: who is there first, and whose the process is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flexcast_testbed::World;

use crate::receiver;
use crate::room::{assert_same, await_that, flexcast, Room, Running};

const MAP: &str = "239.1.1.4:5000=127.0.0.1";

/// Something harmless that the dynamic linker can preload: the library is not what is
/// tested here.
fn stand_in() -> PathBuf {
    let libraries = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64"];
    let mut found = libraries
        .iter()
        .map(|folder| Path::new(folder).join("libm.so.6"));
    found.find(|path| path.exists()).unwrap()
}

/// `flexcast run … -- sh -c SCRIPT`, its standard output in a file called `out`.
fn run(room: &Room, more: &[&str], script: &str) -> Running {
    let mut command = flexcast();
    command.env("FLEXCAST_PRELOAD", stand_in());
    command.env("FLEXCAST_BIN", env!("CARGO_BIN_EXE_flexcast"));
    command.args(["run", "--map", MAP]).args(more);
    command.args(["--", "sh", "-c", script]);
    let out = std::fs::File::create(room.path("out")).unwrap();
    room.run("run", command.stdout(out).stdin(Stdio::piped()))
}

fn out(room: &Room) -> String {
    std::fs::read_to_string(room.path("out")).unwrap()
}

/// Processes that hold receivers for `program`.
fn holders(program: u32) -> usize {
    let of = format!("hold\0--program\0{program}\0");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| std::fs::read(p.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(&of))
        .count()
}

#[test]
fn the_first_datagram_reaches_all_that_were_waited_for() {
    let test = "wait_for::the_first_datagram_reaches_all_that_were_waited_for";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new("wait_for_first");
    let (file, film) = room.film(400_000);
    let script = format!(
        "echo started; cat; \"$FLEXCAST_BIN\" send -q 239.1.1.4:5000 {} -r 40M; exit 7",
        file.display()
    );
    let first = receiver(&room, "first", "239.1.1.4:5000", &["--map", MAP]);
    let wait = ["--wait-for", "239.1.1.4:5000=2", "-v"];
    let mut program = run(&room, &wait, &script);
    program.await_words("waiting for receivers: 1 of 2");
    assert_eq!(out(&room), "", "not before the second one is there");
    let second = receiver(&room, "second", "239.1.1.4:5000", &["--map", MAP]);
    await_that("the program starts", || out(&room) == "started\n");
    assert!(!first.said().contains("granted"), "held as pending");
    // Standard input is the program's, and so is standard output.
    let mut input = program.child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"typed\n").unwrap();
    drop(input);
    let pid = program.child.id();
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(7), "{said}");
    assert_eq!(out(&room), "started\ntyped\n");
    for (name, receiver) in [("first", first), ("second", second)] {
        let said = receiver.end_well();
        assert!(said.contains(" 0 lost, 0 duplicates"), "{said}");
        assert_same(&room.path(name), &film);
    }
    await_that("nothing stays behind", || holders(pid) == 0);
}

#[test]
fn another_sender_on_the_host_that_owns_the_port_is_no_hindrance() {
    let test = "wait_for::another_sender_on_the_host_that_owns_the_port_is_no_hindrance";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new("wait_for_beside");
    let (file, film) = room.film(400_000);
    let owner = ["send", "self#1", "/dev/zero", "-r", "50pps", "-w1"];
    let owner = room.start("owner", &owner);
    let others = receiver(&room, "others", "127.0.0.1#1", &[]);
    others.await_words("granted");
    let script = format!(
        "\"$FLEXCAST_BIN\" send -q 239.1.1.4:5000 {} -r 40M",
        file.display()
    );
    let program = run(&room, &["-w", "239.1.1.4:5000=1", "-v"], &script);
    program.await_words("waiting for receivers: 0 of 1");
    let own = receiver(&room, "own", "239.1.1.4:5000", &["--map", MAP]);
    program.end_well();
    let said = own.end_well();
    assert!(said.contains(" 0 lost, 0 duplicates"), "{said}");
    assert_same(&room.path("own"), &film);
    // The other stream ran on meanwhile.
    owner.signal("TERM");
    let said = others.end_well();
    assert!(said.contains(" 0 lost, 0 duplicates"), "{said}");
}

#[test]
fn after_its_seconds_the_program_starts_anyway() {
    let test = "wait_for::after_its_seconds_the_program_starts_anyway";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new("wait_for_seconds");
    let wait = [
        "--wait-for",
        "self#9=2:0.2",
        "--wait-for",
        "239.1.1.4:5000=1:0.4",
    ];
    let begun = Instant::now();
    let program = run(&room, &wait, "echo started; exec sleep 0.1");
    let pid = program.child.id();
    await_that("the program starts", || out(&room) == "started\n");
    assert!(
        begun.elapsed() >= Duration::from_millis(400),
        "the longer one"
    );
    let holding = || holders(pid);
    assert_eq!(holding(), 1, "kept while the program runs");
    // The program has no child that it did not start.
    let children = format!("/proc/{pid}/task/{pid}/children");
    assert_eq!(std::fs::read_to_string(children).unwrap_or_default(), "");
    let said = program.end_well();
    assert!(
        said.contains("warning: 0 of 2 receivers of self#9"),
        "{said}"
    );
    let other = "warning: 0 of 1 receivers of 239.1.1.4:5000";
    assert!(said.contains(other), "{said}");
    await_that("nothing stays behind", || holding() == 0);
}

#[test]
fn signals_and_the_way_it_ends_are_the_programs_own() {
    let test = "wait_for::signals_and_the_way_it_ends_are_the_programs_own";
    let Some(_world) = World::enter(test) else {
        return;
    };
    use std::os::unix::process::ExitStatusExt;
    let room = Room::new("wait_for_signals");
    let wait = ["--wait-for", "self#9=1:0.05"];
    for (signal, name) in [
        (15, "TERM"),
        (2, "INT"),
        (1, "HUP"),
        (3, "QUIT"),
        (10, "USR1"),
        (12, "USR2"),
        (28, "WINCH"),
    ] {
        let trap = format!("trap 'exit 9' {name}; echo ready; while :; do sleep 0.01; done");
        let program = run(&room, &wait, &trap);
        await_that("ready", || out(&room) == "ready\n");
        program.signal(name);
        assert_eq!(program.end().0.code(), Some(9), "{name} is passed on");
        if name != "WINCH" {
            let program = run(&room, &wait, "ulimit -c 0; echo ready; exec sleep 20");
            await_that("ready", || out(&room) == "ready\n");
            program.signal(name);
            assert_eq!(program.end().0.signal(), Some(signal), "{name} ends it");
        }
    }
    // Stopped and continued as one.
    let program = run(&room, &wait, "echo ready; exec sleep 0.3");
    await_that("ready", || out(&room) == "ready\n");
    program.signal("TSTP");
    let stat = format!("/proc/{}/stat", program.child.id());
    let stops = || std::fs::read_to_string(&stat).unwrap().contains(") T ");
    await_that("it stops", stops);
    program.signal("CONT");
    program.end_well();
}

#[test]
fn who_is_interrupted_while_waiting_leaves_nothing_behind() {
    let test = "wait_for::who_is_interrupted_while_waiting_leaves_nothing_behind";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new("wait_for_interrupted");
    let wait = ["--wait-for", "self#9=1", "-v"];
    for signal in ["INT", "KILL"] {
        let program = run(&room, &wait, "echo started");
        program.await_words("waiting for receivers: 0 of 1");
        let pid = program.child.id();
        await_that("it is held", || holders(pid) == 1);
        program.signal(signal);
        assert!(!program.end().0.success());
        await_that("nothing stays behind", || holders(pid) == 0);
        assert_eq!(out(&room), "");
    }
}

#[test]
fn what_cannot_be_waited_for_is_said() {
    let test = "wait_for::what_cannot_be_waited_for_is_said";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let room = Room::new("wait_for_refused");
    // Another host's channel.
    let program = run(&room, &["--wait-for", "10.9.9.9#5=1"], "echo started");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(
        said.contains("10.9.9.9#5 is sent by another host"),
        "{said}"
    );
    // FP is somebody else's.
    let taken = std::net::UdpSocket::bind("0.0.0.0:7450").unwrap();
    let program = run(&room, &["--wait-for", "self#9=1"], "echo started");
    let (status, said) = program.end();
    assert_eq!(status.code(), Some(1), "{said}");
    let own = std::process::id().to_string();
    assert!(said.contains("7450") && said.contains(&own), "{said}");
    drop(taken);
    assert_eq!(out(&room), "");
    // Nothing is started where the program cannot be.
    let mut command = Command::new(env!("CARGO_BIN_EXE_flexcast"));
    command.env("FLEXCAST_PRELOAD", stand_in());
    command.args([
        "run",
        "--map",
        MAP,
        "--wait-for",
        "self#9=1",
        "--",
        "nowhere",
    ]);
    let (status, said) = room.run("run", &mut command).end();
    assert_eq!(status.code(), Some(127), "{said}");
}
