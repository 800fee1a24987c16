//! `#!` lines: which programs the kernel (and `env`) will run for a script.
//!
//! Source: fs/binfmt_script.c (one interpreter, the rest of the line is one
//! argument), env(1) for `-S`, and execvp(3), which has /bin/sh run text files
//! without a `#!` line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What a file's first bytes make of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No text.
    Binary,
    /// Run by these, each with our environment.
    Script(Vec<OsString>),
    /// Run by `env -i`.
    ClearsEnvironment,
}

/// Judges a file by its first bytes.
pub(super) fn interpreters(head: &[u8]) -> Kind {
    let Some(line) = head.strip_prefix(b"#!") else {
        return if head.starts_with(b"\x7fELF") || head.contains(&0) {
            Kind::Binary
        } else {
            Kind::Script(vec!["/bin/sh".into()])
        };
    };
    let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
    let mut words = line
        .split(|b| b.is_ascii_whitespace())
        .filter(|word| !word.is_empty());
    let Some(interpreter) = words.next() else {
        return Kind::Script(vec!["/bin/sh".into()]);
    };
    let interpreter = OsStr::from_bytes(interpreter);
    let is_env = interpreter.as_bytes().rsplit(|&b| b == b'/').next() == Some(b"env");
    let mut needed = vec![interpreter.to_owned()];
    if is_env {
        match env_runs(words) {
            Ok(program) => needed.extend(program),
            Err(ClearsEnvironment) => return Kind::ClearsEnvironment,
        }
    }
    Kind::Script(needed)
}

struct ClearsEnvironment;

/// The program that `env` runs with these arguments.
fn env_runs<'l>(
    mut words: impl Iterator<Item = &'l [u8]>,
) -> Result<Option<OsString>, ClearsEnvironment> {
    while let Some(word) = words.next() {
        match word {
            b"-i" | b"-" | b"--ignore-environment" | b"-iS" => return Err(ClearsEnvironment),
            b"-u" => match words.next() {
                Some(b"LD_PRELOAD") => return Err(ClearsEnvironment),
                _ => continue,
            },
            _ if word.starts_with(b"-") || word.contains(&b'=') => {}
            program => return Ok(Some(OsStr::from_bytes(program).to_owned())),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(needed: &[&str]) -> Kind {
        Kind::Script(needed.iter().map(OsString::from).collect())
    }

    #[test]
    fn the_line_names_who_runs_the_script() {
        for (head, needed) in [
            ("#!/bin/sh\n", vec!["/bin/sh"]),
            ("#! /usr/bin/python3 -u\nprint()", vec!["/usr/bin/python3"]),
            ("#!/usr/bin/env python3\n", vec!["/usr/bin/env", "python3"]),
            (
                "#!/usr/bin/env -S A=b node --flag\n",
                vec!["/usr/bin/env", "node"],
            ),
            ("echo no line\n", vec!["/bin/sh"]),
            ("", vec!["/bin/sh"]),
        ] {
            assert_eq!(interpreters(head.as_bytes()), script(&needed), "{head:?}");
        }
        assert_eq!(interpreters(b"\x7fELF..."), Kind::Binary);
        assert_eq!(interpreters(b"MZ\0\0"), Kind::Binary);
    }

    #[test]
    fn env_that_clears_the_environment_is_noticed() {
        for head in ["#!/usr/bin/env -i sh", "#!/usr/bin/env -S -u LD_PRELOAD sh"] {
            assert_eq!(interpreters(head.as_bytes()), Kind::ClearsEnvironment);
        }
    }
}
