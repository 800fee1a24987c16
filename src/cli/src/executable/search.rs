//! Finds a program as execvp does: by its path, or along `PATH`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{access, Access};

use super::ExecutableError;

/// What is searched where PATH is not set (confstr(_CS_PATH)).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The executable file that `name` means.
pub(super) fn find(name: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, ExecutableError> {
    let not_found = |place| ExecutableError::NotFound {
        name: name.to_string_lossy().into_owned(),
        place,
    };
    if name.is_empty() {
        return Err(not_found(""));
    }
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match obstacle(&path) {
            None => Ok(path),
            Some(Obstacle::Absent) => Err(not_found("")),
            Some(Obstacle::Refused(why)) => Err(ExecutableError::NotExecutable { path, why }),
        };
    }
    // As a shell: a file that may not be run is remembered, and the search goes on.
    let mut refused = None;
    for folder in std::env::split_paths(search.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &folder
        };
        let path = folder.join(name);
        match obstacle(&path) {
            None => return Ok(path),
            Some(Obstacle::Absent) => {}
            Some(Obstacle::Refused(why)) => {
                refused.get_or_insert(ExecutableError::NotExecutable { path, why });
            }
        }
    }
    Err(refused.unwrap_or_else(|| not_found(" in PATH")))
}

enum Obstacle {
    Absent,
    Refused(&'static str),
}

fn obstacle(path: &Path) -> Option<Obstacle> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Some(Obstacle::Refused("a folder on its path may not be entered"))
        }
        Err(_) => Some(Obstacle::Absent),
        Ok(found) if found.is_dir() => Some(Obstacle::Refused("it is a folder")),
        Ok(found) if !found.is_file() => Some(Obstacle::Refused("it is no regular file")),
        Ok(_) if access(path, Access::EXEC_OK).is_err() => {
            Some(Obstacle::Refused("no permission to execute"))
        }
        Ok(_) => None,
    }
}
