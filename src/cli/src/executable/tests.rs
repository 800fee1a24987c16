//! The checks on real files: this host's shell, whole and altered.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

/// A folder of its own for each test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("executable-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn file(&self, name: &str, contents: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, contents).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn shell() -> Vec<u8> {
    std::fs::read("/bin/sh").unwrap()
}

fn refusal(path: &Path) -> Option<Unfit> {
    match check_in(path.as_os_str(), None) {
        Ok(_) => None,
        Err(ExecutableError::Unfit { unfit, .. }) => Some(unfit),
        Err(other) => panic!("{other}"),
    }
}

/// `old` in `bytes` becomes `new`, of the same length, everywhere.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let places: Vec<usize> = (0..bytes.len() - old.len())
        .filter(|&i| bytes[i..].starts_with(old))
        .collect();
    assert!(!places.is_empty());
    for i in places {
        bytes[i..i + new.len()].copy_from_slice(new);
    }
}

/// The program headers' type fields, of which PT_INTERP becomes PT_NULL.
fn without_interpreter(bytes: &mut [u8]) {
    let u16_at = |b: &[u8], i: usize| usize::from(u16::from_le_bytes([b[i], b[i + 1]]));
    let table = usize::try_from(u64::from_le_bytes(bytes[32..40].try_into().unwrap())).unwrap();
    let (size, count) = (u16_at(bytes, 54), u16_at(bytes, 56));
    let mut headers = (0..count).map(|n| table + n * size);
    let interp = headers
        .find(|&at| bytes[at..at + 4] == [3, 0, 0, 0])
        .unwrap();
    bytes[interp] = 0;
}

#[test]
fn an_ordinary_program_is_let_through() {
    let folder = Folder::new("plain");
    assert_eq!(refusal(&folder.file("sh", &shell(), 0o755)), None);
    assert_eq!(
        check_in(OsStr::new("sh"), Some(OsStr::new("/nowhere:/bin"))).unwrap(),
        Path::new("/bin/sh")
    );
}

#[test]
fn a_static_program_is_refused() {
    let folder = Folder::new("static");
    let mut bytes = shell();
    without_interpreter(&mut bytes);
    assert_eq!(
        refusal(&folder.file("sh", &bytes, 0o755)),
        Some(Unfit::Static)
    );
}

#[test]
fn a_go_program_is_refused_even_when_dynamic() {
    let folder = Folder::new("go");
    let mut bytes = shell();
    replace(&mut bytes, b".gnu_debuglink\0", b".gopclntab\0\0\0\0\0");
    assert_eq!(
        refusal(&folder.file("sections", &bytes, 0o755)),
        Some(Unfit::Go)
    );
    let mut bytes = shell();
    // The build id's note: name size 4, "GNU\0"; Go's linker writes "Go\0\0".
    replace(&mut bytes, b"\x03\0\0\0GNU\0", b"\x04\0\0\0Go\0\0");
    assert_eq!(
        refusal(&folder.file("notes", &bytes, 0o755)),
        Some(Unfit::Go)
    );
}

#[test]
fn a_program_that_gains_privileges_is_refused() {
    let folder = Folder::new("setid");
    for mode in [0o4755, 0o2755] {
        let path = folder.file("sh", &shell(), mode);
        assert_eq!(refusal(&path), Some(Unfit::SetId), "{mode:o}");
    }
    let path = folder.file("caps", &shell(), 0o755);
    // VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective.
    let mut value = [0_u8; 20];
    value[..8].copy_from_slice(&[1, 0, 0, 2, 0, 0x20, 0, 0]);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "security.capability", &value, flags)
        .expect("this test needs CAP_SETFCAP: run it as root or under unshare -Ur");
    assert_eq!(refusal(&path), Some(Unfit::Capabilities));
}

#[test]
fn a_foreign_architecture_or_libc_is_refused_by_name() {
    let folder = Folder::new("foreign");
    let mut bytes = shell();
    bytes[18..20].copy_from_slice(&[243, 0]);
    let unfit = Some(Unfit::Architecture("riscv".to_owned()));
    assert_eq!(refusal(&folder.file("riscv", &bytes, 0o755)), unfit);
    let mut bytes = shell();
    bytes[4] = 1; // ELFCLASS32
    let narrow = refusal(&folder.file("narrow", &bytes, 0o755));
    assert!(matches!(narrow, Some(Unfit::Architecture(_))), "{narrow:?}");
    let mut bytes = shell();
    replace(&mut bytes, b"/ld-linux-", b"/ld-musl--");
    let musl = refusal(&folder.file("musl", &bytes, 0o755));
    assert!(
        matches!(&musl, Some(Unfit::Libc(linker)) if linker.contains("ld-musl")),
        "{musl:?}"
    );
}

#[test]
fn scripts_are_looked_through_to_their_binary() {
    let folder = Folder::new("scripts");
    let mut bytes = shell();
    without_interpreter(&mut bytes);
    let fixed = folder.file("fixed", &bytes, 0o755);
    let direct = format!("#!{}\n", fixed.display());
    let direct = folder.file("direct", direct.as_bytes(), 0o755);
    assert_eq!(refusal(&direct), Some(Unfit::Static));
    let twice = format!("#! {} -x\n", direct.display());
    assert_eq!(
        refusal(&folder.file("twice", twice.as_bytes(), 0o755)),
        Some(Unfit::Static)
    );
    let by_env = folder.file("by-env", b"#!/usr/bin/env fixed\n", 0o755);
    let error = check_in(by_env.as_os_str(), Some(folder.0.as_os_str())).unwrap_err();
    assert!(
        matches!(error, ExecutableError::Unfit { ref path, .. } if *path == fixed),
        "{error}"
    );
    assert_eq!(refusal(&folder.file("good", b"#!/bin/sh\n", 0o755)), None);
    assert_eq!(refusal(&folder.file("lineless", b"echo\n", 0o755)), None);
}

#[test]
fn what_cannot_be_run_is_told_apart() {
    let folder = Folder::new("absent");
    let fault = |path: &Path| check_in(path.as_os_str(), None).unwrap_err();
    assert!(matches!(
        fault(&folder.0.join("none")),
        ExecutableError::NotFound { .. }
    ));
    assert!(matches!(
        fault(&folder.0),
        ExecutableError::NotExecutable { .. }
    ));
    let plain = folder.file("plain", b"#!/bin/sh\n", 0o644);
    assert!(matches!(
        fault(&plain),
        ExecutableError::NotExecutable { .. }
    ));
    let lost = folder.file("lost", b"#!/no/such/shell\n", 0o755);
    assert!(matches!(
        fault(&lost),
        ExecutableError::NoInterpreter { .. }
    ));
    let own = format!("#!{}\n", folder.0.join("round").display());
    let round = folder.file("round", own.as_bytes(), 0o755);
    assert!(matches!(fault(&round), ExecutableError::TooDeep { .. }));
    let clears = folder.file("clears", b"#!/usr/bin/env -i sh\n", 0o755);
    assert!(matches!(
        fault(&clears),
        ExecutableError::ClearsEnvironment { .. }
    ));
    let noise = folder.file("noise", b"\0\x01\x02\x03", 0o755);
    assert_eq!(refusal(&noise), Some(Unfit::NoProgram));
    // A file that may not be run does not hide a later one that may.
    folder.file("sh", b"", 0o644);
    let search = format!("{}:/bin", folder.0.display());
    assert_eq!(
        check_in(OsStr::new("sh"), Some(OsStr::new(&search))).unwrap(),
        Path::new("/bin/sh")
    );
}
