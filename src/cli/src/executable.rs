//! Whether a program can run under the preload library at all.
//!
//! Promises: looks through the interpreters of scripts to the binary that the
//! kernel will run; each refusal names the file, the reason and what to do
//! instead. Is not a sandbox check: the file can change until it is run.

mod binary;
mod script;
mod search;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(crate) use binary::Unfit;

/// Interpreters of interpreters that the kernel follows (binfmt: 5 rewrites).
const MAX_DEPTH: usize = 5;

/// What the kernel reads of a `#!` line (BINPRM_BUF_SIZE).
const HEAD: u64 = 256;

/// A program that cannot be run under Flexcast.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecutableError {
    /// Nowhere.
    #[error("{name}: not found{place}; check the name, or give its path")]
    NotFound { name: String, place: &'static str },
    /// A file, but not to be run.
    #[error("{path}: not executable ({why}); check its permissions", path = path.display())]
    NotExecutable { path: PathBuf, why: &'static str },
    /// A script's interpreter.
    #[error("{path}: its interpreter {interpreter:?} was not found; install it, or correct the #! line", path = path.display())]
    NoInterpreter {
        path: PathBuf,
        interpreter: OsString,
    },
    /// Interpreters without end.
    #[error("{path}: its interpreters go round or too deep; correct the #! line", path = path.display())]
    TooDeep { path: PathBuf },
    /// `#!/usr/bin/env -i`
    #[error("{path}: its #! line clears the environment, and LD_PRELOAD with it; run its interpreter directly", path = path.display())]
    ClearsEnvironment { path: PathBuf },
    /// It cannot be read.
    #[error("{path}: cannot be read to see whether it can be preloaded: {error}", path = path.display())]
    Unreadable {
        path: PathBuf,
        error: std::io::Error,
    },
    /// A binary that the library cannot get into.
    #[error("{path}: {unfit}", path = path.display())]
    Unfit { path: PathBuf, unfit: Unfit },
}

/// The path of the program `name`, found as a shell finds it, if the library can
/// get into it.
pub(crate) fn check(name: &OsStr) -> Result<PathBuf, ExecutableError> {
    check_in(name, std::env::var_os("PATH").as_deref())
}

fn check_in(name: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, ExecutableError> {
    let path = search::find(name, search)?;
    follow(&path, search, 0)?;
    Ok(path)
}

/// Checks `path`, and the interpreters that it needs.
fn follow(path: &Path, search: Option<&OsStr>, depth: usize) -> Result<(), ExecutableError> {
    if depth > MAX_DEPTH {
        let path = path.to_owned();
        return Err(ExecutableError::TooDeep { path });
    }
    let head = read_head(path).map_err(|error| ExecutableError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let interpreters = match script::interpreters(&head) {
        script::Kind::Binary => return binary::check(path),
        script::Kind::ClearsEnvironment => {
            let path = path.to_owned();
            return Err(ExecutableError::ClearsEnvironment { path });
        }
        script::Kind::Script(interpreters) => interpreters,
    };
    for interpreter in interpreters {
        let found = search::find(&interpreter, search).map_err(|error| match error {
            ExecutableError::NotFound { .. } => ExecutableError::NoInterpreter {
                path: path.to_owned(),
                interpreter: interpreter.clone(),
            },
            other => other,
        })?;
        follow(&found, search, depth + 1)?;
    }
    Ok(())
}

fn read_head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests;
