//! Compiles and runs the C programs of `programs/`, as they would be built elsewhere.
//! Is not a test.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The static library that cargo built with this test: it has a hash in its name, and
/// those of earlier builds may lie beside it.
fn archive() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = std::fs::read_dir(test.parent().unwrap()).unwrap();
    let archives = folder.flatten().filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libflexcast-") && name.ends_with(".a")
    });
    let newest = archives.max_by_key(|entry| entry.metadata().unwrap().modified().unwrap());
    newest.expect("cargo builds a static library").path()
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {out}{err}");
    assert_eq!(err, "", "{command:?} has something to say");
    out
}

/// The shared library, from the static one that cargo built.
pub(crate) fn link_library(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(root.join("scripts/link-library.sh"));
    run(command.arg(folder).arg(archive()));
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum As {
    C,
    Cxx,
    Static,
    Sanitized,
}

/// Compiles a program; where it stands.
pub(crate) fn compile(test: &str, program: &str, kind: As) -> PathBuf {
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
    if program == "compat" {
        command.args(["-include", "flexcast_compat.h"]);
    }
    command.arg(here.join("tests/programs").join(format!("{program}.c")));
    command.args(["-x", "none"]);
    if kind == As::Static {
        command.arg(archive());
        command.args(["-lpthread", "-ldl", "-lm"]);
    } else {
        link_library(&folder);
        command
            .arg(folder.join("libflexcast.so"))
            .arg(format!("-Wl,-rpath,{}", folder.display()));
    }
    let to = folder.join(program);
    run(command.arg("-o").arg(&to));
    to
}
