//! C programs that are written for the library: they compile without a warning as C11
//! and as C++17, link with the shared and with the static library, and do what
//! `flexcast.h` says. Is not the list of what that is: `programs/calls.c`.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use flexcast_testbed::World;

#[path = "c_api/rows.rs"]
mod rows;
mod support;

use support::{compile, link_library, run, As};

#[test]
fn every_call_does_what_the_header_says() {
    let Some(_world) = World::enter("every_call_does_what_the_header_says") else {
        return;
    };
    let calls = compile("calls", "calls", As::C);
    assert_eq!(run(&mut Command::new(calls)), "calls: all right\n");
}

#[test]
fn a_sanitizer_finds_nothing_in_any_call() {
    let Some(_world) = World::enter("a_sanitizer_finds_nothing_in_any_call") else {
        return;
    };
    let calls = compile("sanitized", "calls", As::Sanitized);
    let mut command = Command::new(calls);
    // A forked child has none of the threads that hold the parent's memory.
    command.env("ASAN_OPTIONS", "detect_leaks=0");
    assert_eq!(run(&mut command), "calls: all right\n");
}

#[test]
fn three_receivers_get_ten_thousand_datagrams_each() {
    let Some(_world) = World::enter("three_receivers_get_ten_thousand_datagrams_each") else {
        return;
    };
    for (name, kind) in [
        ("c", As::C),
        ("cxx", As::Cxx),
        ("static", As::Static),
        ("sanitized-pair", As::Sanitized),
    ] {
        let (sender, receiver) = (
            compile(name, "sender", kind),
            compile(name, "receiver", kind),
        );
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let mut command = Command::new(&receiver);
                command.args(["127.0.0.1", "5000"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        run(Command::new(&sender).args(["3", "10000"]));
        for receiver in receivers {
            let output = receiver.wait_with_output().unwrap();
            let out = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(
                out,
                "10000 0 0 0\n",
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

/// A sender that listens.
fn listening(program: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "listening\n");
    child
}

#[test]
fn processes_share_a_host_by_id_and_one_has_the_wildcard() {
    let Some(_world) = World::enter("processes_share_a_host_by_id_and_one_has_the_wildcard") else {
        return;
    };
    let (sender, receiver) = (
        compile("hosts", "sender", As::C),
        compile("hosts", "receiver", As::C),
    );
    let (any, six): (&[&str], &[&str]) = (&["1", "50"], &["1", "50", "6"]);
    // The first one receives the other's requests, too.
    for order in [[any, six], [six, any]] {
        let senders = order.map(|arguments| listening(&sender, arguments));
        for taken in order {
            let output = Command::new(&sender).args(taken).output().unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(err.contains("Address already in use"), "{taken:?}: {err}");
        }
        for id in ["6", "7"] {
            let mut command = Command::new(&receiver);
            command.args(["127.0.0.1", id]);
            assert_eq!(run(&mut command), "50 0 0 0\n", "{id} of {order:?}");
        }
        for mut sender in senders {
            assert!(sender.wait().unwrap().success());
        }
    }
}

/// The functions that a header declares, sorted.
fn declared(header: &str) -> Vec<String> {
    let code: String = header
        .split("/*")
        .map(|part| part.split_once("*/").map_or(part, |(_, code)| code))
        .collect();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let calls = code.match_indices("flexcast_").filter_map(|(at, _)| {
        let name = code[at..].split(|c| !word(c)).next()?;
        let starts = !code[..at].ends_with(word);
        (starts && code[at + name.len()..].starts_with('(')).then(|| name.to_owned())
    });
    let mut calls: Vec<String> = calls.collect();
    calls.sort_unstable();
    calls
}

/// What C programs include.
fn header() -> String {
    include_str!("../include/flexcast.h").to_owned()
}

#[test]
fn the_shared_library_exports_the_declared_calls_under_their_version_and_nothing_else() {
    assert_eq!(
        declared("/* flexcast_no(). */ int flexcast_b(int);\nint (*flexcast_a)(xflexcast_c());"),
        ["flexcast_b"]
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("native/exports");
    link_library(&folder);
    let library = folder.join("libflexcast.so");
    let names = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&library));
    // The version node itself is an absolute symbol of GNU ld's.
    let mut names: Vec<&str> = names
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .filter(|name| *name != "FLEXCAST_1")
        .collect();
    names.sort_unstable();
    let mut wanted = declared(&header());
    let compat = declared(include_str!("../include/flexcast_compat.h"));
    // Its inline functions are compiled with the source.
    wanted.extend(
        compat
            .into_iter()
            .filter(|name| name.starts_with("flexcast_compat_")),
    );
    wanted.sort_unstable();
    wanted.dedup();
    assert!(wanted.contains(&"flexcast_accept".to_owned()), "{wanted:?}");
    let wanted: Vec<String> = wanted
        .iter()
        .map(|name| format!("{name}@@FLEXCAST_1"))
        .collect();
    assert_eq!(names, wanted);
}

#[test]
fn the_shared_library_is_found_by_its_soname_and_needs_nothing_that_is_not_there() {
    let test = "soname";
    let program = compile(test, "receiver", As::C);
    let library = program.with_file_name("libflexcast.so");
    let dynamic = run(Command::new("readelf").args(["-d", "-W"]).arg(&library));
    for has in ["Library soname: [libflexcast.so.0]", "NODELETE", "BIND_NOW"] {
        assert!(dynamic.contains(has), "{has}: {dynamic}");
    }
    let needed = run(Command::new("readelf").args(["-d", "-W"]).arg(&program));
    assert!(needed.contains("[libflexcast.so.0]"), "{needed}");
    let wanted = run(Command::new("nm").args(["-D", "-u"]).arg(&program));
    assert!(wanted.contains("flexcast_recv@FLEXCAST_1"), "{wanted}");
    for file in [library, program] {
        let resolved = run(Command::new("ldd").arg("-r").arg(&file));
        let missing = |line: &&str| line.contains("undefined") || line.contains("not found");
        assert_eq!(resolved.lines().find(missing), None, "{resolved}");
        assert!(resolved.contains("libc.so.6"), "{resolved}");
    }
}
