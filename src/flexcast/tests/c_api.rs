//! C programs that are written for the library: they compile without a warning as C11
//! and as C++17, link with the shared and with the static library, and do what
//! `flexcast.h` says. Is not the list of what that is: `programs/calls.c`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use flexcast_testbed::World;

/// `target/debug/deps`, where this test and the libraries are.
fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_owned()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {out}{err}");
    assert_eq!(err, "", "{command:?} has something to say");
    out
}

#[derive(Clone, Copy, PartialEq)]
enum As {
    C,
    Cxx,
    Static,
    Sanitized,
}

/// Compiles a program; where it stands.
fn compile(test: &str, program: &str, kind: As) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("native")
        .join(test);
    std::fs::create_dir_all(&folder).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (compiler, standard) = match kind {
        As::C | As::Static | As::Sanitized => ("cc", "-std=c11"),
        As::Cxx => ("c++", "-std=c++17"),
    };
    let mut command = Command::new(compiler);
    command.args([standard, "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1"]);
    // Functions that POSIX has and plain C11 has not.
    command
        .arg("-D_DEFAULT_SOURCE")
        .arg("-I")
        .arg(here.join("include"));
    if kind == As::Sanitized {
        command.args(["-g", "-fsanitize=address,undefined"]);
    }
    if kind == As::Cxx {
        command.args(["-x", "c++"]);
    }
    command.arg(here.join("tests/programs").join(format!("{program}.c")));
    command.args(["-x", "none"]);
    if kind == As::Static {
        command.arg(built().join("libflexcast.a"));
        command.args(["-lpthread", "-ldl", "-lm"]);
    } else {
        // By its soname, as an installed one is found.
        let soname = folder.join("libflexcast.so.0");
        let _ = std::fs::remove_file(&soname);
        std::os::unix::fs::symlink(built().join("libflexcast.so"), &soname).unwrap();
        command
            .arg(&soname)
            .arg(format!("-Wl,-rpath,{}", folder.display()));
    }
    let to = folder.join(program);
    run(command.arg("-o").arg(&to));
    to
}

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

#[test]
fn the_shared_library_exports_its_calls_and_nothing_else() {
    let library = built().join("libflexcast.so");
    let names = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&library));
    let names: Vec<&str> = names
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    let header = include_str!("../include/flexcast.h");
    for name in &names {
        assert!(name.starts_with("flexcast_"), "{name}");
        assert!(
            header.contains(&format!("{name}(")),
            "{name} is not in the header"
        );
    }
    assert_eq!(names.len(), 16, "{names:?}");
    let dynamic = run(Command::new("readelf").arg("-d").arg(&library));
    assert!(
        dynamic.contains("Library soname: [libflexcast.so.0]"),
        "{dynamic}"
    );
}
