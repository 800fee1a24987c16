//! Finds libflexcast_preload.so.
//!
//! Promises: an absolute path that the dynamic linker can take from
//! `LD_PRELOAD`. Looks where it was told (`FLEXCAST_PRELOAD`), beside the
//! program `flexcast`, and in `../lib` and `../lib/flexcast` from there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const NAME: &str = "libflexcast_preload.so";

/// The library cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PreloadError {
    /// `FLEXCAST_PRELOAD` names no file.
    #[error("FLEXCAST_PRELOAD={0}: no such file; name the library, or unset the variable")]
    Named(String),
    /// It is in no usual place.
    #[error(
        "{NAME} is not in {0}; build it (cargo build --release), or name it in FLEXCAST_PRELOAD"
    )]
    Nowhere(String),
    /// `LD_PRELOAD` separates by these.
    #[error(
        "{0}: LD_PRELOAD cannot name a path with a space or a colon; \
         put the library elsewhere and name it in FLEXCAST_PRELOAD"
    )]
    Unnameable(String),
}

/// The library's path.
pub(crate) fn find(named: Option<&OsStr>, program: &Path) -> Result<PathBuf, PreloadError> {
    let found = match named.filter(|named| !named.is_empty()) {
        Some(named) => {
            let path = Path::new(named);
            let real = path.canonicalize().ok().filter(|path| path.is_file());
            real.ok_or_else(|| PreloadError::Named(path.display().to_string()))?
        }
        None => beside(program)?,
    };
    if found
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|b| b" :\t\n".contains(b))
    {
        return Err(PreloadError::Unnameable(found.display().to_string()));
    }
    Ok(found)
}

fn beside(program: &Path) -> Result<PathBuf, PreloadError> {
    let folder = program.parent().unwrap_or(Path::new("/"));
    let folders = [".", "../lib", "../lib/flexcast"].map(|f| folder.join(f));
    let mut places = folders
        .iter()
        .filter_map(|f| f.join(NAME).canonicalize().ok());
    places.find(|path| path.is_file()).ok_or_else(|| {
        let listed = folders.iter().map(|f| f.display().to_string());
        PreloadError::Nowhere(listed.collect::<Vec<_>>().join(", "))
    })
}

/// `LD_PRELOAD` with `library` before what is there already.
pub(crate) fn prepended(library: &Path, existing: Option<OsString>) -> OsString {
    let library = library.as_os_str();
    let existing = existing.unwrap_or_default();
    let mut others = existing.as_bytes().split(|b| b" :\t\n".contains(b));
    if others.any(|other| other == library.as_bytes()) {
        return existing;
    }
    let mut bytes = library.as_bytes().to_vec();
    if !existing.is_empty() {
        bytes.push(b':');
        bytes.extend_from_slice(existing.as_bytes());
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_comes_before_other_preloads_and_only_once() {
        let library = Path::new("/lib/ours.so");
        let with = |existing: &str| prepended(library, Some(existing.into()));
        assert_eq!(prepended(library, None), "/lib/ours.so");
        assert_eq!(with(""), "/lib/ours.so");
        assert_eq!(with("jemalloc.so"), "/lib/ours.so:jemalloc.so");
        assert_eq!(with("a.so:/lib/ours.so"), "a.so:/lib/ours.so");
    }

    #[test]
    fn the_library_is_found_where_it_is_named_and_beside_the_program() {
        let folder = std::env::temp_dir().join(format!("preload-{}", std::process::id()));
        let spaced = folder.join("lib").join("a b.so");
        std::fs::create_dir_all(folder.join("lib")).unwrap();
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        let program = folder.join("bin").join("flexcast");
        let nowhere = find(None, &program);
        std::fs::write(&spaced, "").unwrap();
        std::fs::write(folder.join("lib").join(NAME), "").unwrap();
        let beside = find(None, &program);
        let named = find(
            Some(folder.join("lib").join(NAME).as_os_str()),
            Path::new("/"),
        );
        let missing = find(Some(OsStr::new("/nowhere.so")), &program);
        let unnameable = find(Some(spaced.as_os_str()), &program);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(nowhere, Err(PreloadError::Nowhere(_))));
        assert!(beside.unwrap().ends_with("lib/libflexcast_preload.so"));
        assert!(named.unwrap().is_absolute());
        assert_eq!(missing, Err(PreloadError::Named("/nowhere.so".to_owned())));
        assert!(matches!(unnameable, Err(PreloadError::Unnameable(_))));
    }
}
