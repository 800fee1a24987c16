//! What the tests of `send`, `recv` and `run --wait-for` share: a folder of the test's
//! own, programs with their output in files, and waiting with a deadline.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A folder, gone when dropped.
pub(crate) struct Room(PathBuf);

impl Room {
    pub(crate) fn new(test: &str) -> Room {
        let path = std::env::temp_dir().join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Room(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file of this many bytes, no two pieces of it alike.
    pub(crate) fn film(&self, bytes: usize) -> (PathBuf, Vec<u8>) {
        let mut state = 7_u64;
        let mut film = Vec::with_capacity(bytes + 8);
        while film.len() < bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            film.extend_from_slice(&state.to_be_bytes());
        }
        film.truncate(bytes);
        let path = self.path("film");
        fs::write(&path, &film).unwrap();
        (path, film)
    }

    /// Starts `flexcast`, its standard error in a file.
    pub(crate) fn start(&self, name: &str, arguments: &[&str]) -> Running {
        self.run(name, flexcast().args(arguments).stdin(Stdio::null()))
    }

    pub(crate) fn run(&self, name: &str, command: &mut Command) -> Running {
        let said = self.path(&format!("{name}.err"));
        let errors = File::create(&said).unwrap();
        let child = command.stderr(errors).spawn().unwrap();
        let name = name.to_owned();
        Running { name, child, said }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A program at work, killed when dropped.
pub(crate) struct Running {
    name: String,
    pub(crate) child: Child,
    said: PathBuf,
}

impl Running {
    /// What it has said on standard error so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// Waits until it has said `words`.
    pub(crate) fn await_words(&self, words: &str) {
        await_that(&format!("{} says {words:?}", self.name), || {
            self.said().contains(words)
        });
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Its exit status and what it said.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let name = &self.name;
            assert!(Instant::now() < deadline, "{name} runs on: {}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        };
        (status, self.said())
    }

    /// As [`Running::end`]; it must have succeeded.
    pub(crate) fn end_well(self) -> String {
        let name = self.name.clone();
        let (status, said) = self.end();
        assert!(status.success(), "{name}: {status}, {said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, without settings of the surroundings.
pub(crate) fn flexcast() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flexcast"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FLEXCAST_")) {
        command.env_remove(name);
    }
    command.env_remove("LD_PRELOAD");
    command
}

pub(crate) fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The number before `word` in what a receiver says at its end.
pub(crate) fn number(said: &str, word: &str) -> usize {
    let before = said.split(word).next().unwrap().trim_end();
    let digits = before.rsplit(' ').next().unwrap();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("{word} in {said:?}"))
}

/// Whether two byte strings are equal, without printing megabytes.
pub(crate) fn assert_same(path: &Path, expected: &[u8]) {
    let got = fs::read(path).unwrap();
    let first = got.iter().zip(expected).position(|(a, b)| a != b);
    let same = got.len() == expected.len() && first.is_none();
    let (got, wanted) = (got.len(), expected.len());
    assert!(
        same,
        "{got} bytes of {wanted}, the first other one at {first:?}"
    );
}
