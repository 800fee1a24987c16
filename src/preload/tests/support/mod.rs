//! Small C programs, built when a test needs them, run with and without the library.
//!
//! Promises: the library under test is the one of this build (and the optimised one
//! where a test asks for it), built if it is missing; every run is bounded. Is not a
//! world of its own: tests that send enter one first (testbed).
#![allow(dead_code)]

pub(crate) mod calls;
pub(crate) mod streams;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use flexcast_testbed::World;

/// A test's own world with [`lay_link`], entered once the library is built.
pub(crate) fn enter(test: &str) -> Option<World> {
    library();
    let world = World::enter(test)?;
    lay_link();
    Some(world)
}

/// Gives this world's host an address of each family on a link.
pub(crate) fn lay_link() {
    for line in [
        "link add v0 type veth peer name v1",
        "address add 10.0.0.5/24 dev v0",
        "address add 2001:db8::5/64 dev v0 nodad",
        "link set v0 up",
        "link set v1 up",
    ] {
        ip(line);
    }
}

/// One command of ip(8).
pub(crate) fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status();
    assert!(status.expect("ip is installed").success(), "ip {line}");
}

/// The libraries of this build and of the optimised one.
pub(crate) fn libraries() -> Vec<PathBuf> {
    let own = library();
    let optimised = target_folder().join("release/libflexcast_preload.so");
    if own == optimised {
        return vec![own];
    }
    build(&["--release"]);
    assert!(optimised.exists(), "{optimised:?} is built");
    vec![own, optimised]
}

/// The library of this build.
pub(crate) fn library() -> PathBuf {
    let folder = profile_folder();
    let release = folder.ends_with("release");
    build(if release { &["--release"] } else { &[] });
    let library = folder.join("libflexcast_preload.so");
    assert!(library.exists(), "{library:?} is built");
    library
}

/// Brings the library up to date: cargo does not by itself for a library that no test
/// links. Not inside a test's world, where the outer run has done it.
fn build(options: &[&str]) {
    if std::env::var_os("TESTBED_WORLD").is_some() {
        return;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--offline", "--quiet", "-p", "flexcast-preload"])
        .args(options)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    assert!(
        status.expect("cargo runs").success(),
        "cargo build -p flexcast-preload {options:?} fails"
    );
}

/// `target/debug` or `target/release`: this test lies in its `deps`.
fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a path");
    own.ancestors()
        .nth(2)
        .expect("deps has a parent")
        .to_owned()
}

fn target_folder() -> PathBuf {
    profile_folder().parent().expect("below target").to_owned()
}

/// Builds `programs/NAME.c`, or what else is named by its path; where it was put.
pub(crate) fn program(source: impl AsRef<Path>, options: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let source = folder.join(source);
    let stem = source.file_stem().expect("a source has a name");
    let name = format!("{}{}", stem.to_string_lossy(), options.concat());
    // The folder is shared by the tests of all crates.
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("preload");
    std::fs::create_dir_all(&programs).expect("the target folder can be written");
    let built = programs.join(name);
    // Tests run side by side: each builds its own, and the last one's name stays.
    let own = built.with_extension(std::process::id().to_string());
    let output = Command::new("cc")
        .args(["-O1", "-Wall", "-Wno-unused-result", "-pthread", "-o"])
        .arg(&own)
        .arg(&source)
        .args(options)
        .output()
        .expect("cc is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{source:?}: {said}");
    std::fs::rename(&own, &built).expect("both are in one folder");
    built
}

/// A command under the library, with `map` where one is given.
pub(crate) fn preloaded(library: &Path, map: Option<&str>, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command
        .env("LD_PRELOAD", library)
        .env_remove("FLEXCAST_MAP");
    if let Some(map) = map {
        command.env("FLEXCAST_MAP", map);
    }
    command
}

/// Runs a command to its end; panics where it has not ended after `limit`, or fails.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> String {
    let output = output(command, limit);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{out}\n{err}",
        output.status
    );
    assert_eq!(err, "", "{command:?} says nothing on standard error");
    out
}

/// Runs a command to its end; panics where it has not ended after `limit`.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let deadline = Instant::now() + limit;
    // What these programs say fits into a pipe.
    while child.try_wait().expect("it is our child").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("it is our child");
            let output = child.wait_with_output().expect("it is our child");
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            panic!("{command:?} still runs after {limit:?}\n{out}\n{err}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.wait_with_output().expect("it is our child")
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
