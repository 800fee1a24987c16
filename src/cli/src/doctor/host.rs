//! What files of /proc and /sys say of this host and this process.
//!
//! Promises: what cannot be read is said to be unknown, never guessed.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file's text without the white space around it.
pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// The value of one line of /proc/self/status.
pub(super) fn status_line(name: &str) -> Option<String> {
    let status = read("/proc/self/status")?;
    let value = |line: &str| {
        Some(
            line.strip_prefix(name)?
                .strip_prefix(':')?
                .trim()
                .to_owned(),
        )
    };
    status.lines().find_map(value)
}

/// The first of a path's folders, or the path itself, that not everybody may pass and read.
pub(super) fn first_closed(path: &Path) -> Option<PathBuf> {
    let mut parts: Vec<&Path> = path.ancestors().collect();
    parts.reverse();
    let closed = |part: &&Path| {
        let needed = if *part == path { 0o004 } else { 0o001 };
        let mode = std::fs::metadata(part).map_or(0, |file| file.permissions().mode());
        mode & needed == 0
    };
    parts.into_iter().find(closed).map(Path::to_path_buf)
}

/// The least limit of tasks among this process's control groups, and how many there are;
/// none where there is no limit (cgroup v2, Documentation/admin-guide/cgroup-v2.rst).
pub(super) fn tasks_of_control_group() -> Option<(u64, u64)> {
    let groups = read("/proc/self/cgroup")?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let root = Path::new("/sys/fs/cgroup");
    let folders = root.join(own);
    let folders = folders
        .ancestors()
        .take_while(|folder| folder.starts_with(root));
    let limits = folders.filter_map(|folder| {
        let number = |file| read(folder.join(file))?.parse().ok();
        Some((number("pids.max")?, number("pids.current")?))
    });
    limits.min_by_key(|(limit, now): &(u64, u64)| limit.saturating_sub(*now))
}

/// Whether nobody has this port, on IPv4 nor on IPv6.
pub(super) fn udp_port_is_free(port: u16) -> bool {
    let taken = |outcome: std::io::Result<UdpSocket>| {
        outcome.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
    };
    !taken(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))
        && !taken(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_folder_is_the_first_that_others_cannot_pass() {
        let folder = std::env::temp_dir().join(format!("closed-{}", std::process::id()));
        let inner = folder.join("a").join("b");
        std::fs::create_dir_all(&inner).unwrap();
        let file = inner.join("library.so");
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for path in [&folder, &folder.join("a"), &inner] {
            mode(path, 0o755);
        }
        mode(&file, 0o644);
        let open = first_closed(&file);
        mode(&file, 0o640);
        let closed_file = first_closed(&file);
        mode(&folder.join("a"), 0o700);
        let closed_folder = first_closed(&file);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(open, None);
        assert_eq!(closed_file.as_deref(), Some(file.as_path()));
        assert_eq!(closed_folder, Some(folder.join("a")));
    }

    #[test]
    fn a_taken_port_is_not_free() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(!udp_port_is_free(port));
        drop(socket);
        assert!(udp_port_is_free(port));
    }

    #[test]
    fn this_process_has_a_name_and_no_line_that_is_none() {
        assert!(status_line("Name").is_some_and(|name| !name.is_empty()));
        assert_eq!(status_line("Nam"), None);
    }
}
