//! Whole files and directory listings (for /proc and small settings files).
//!
//! Promises: raw calls, so that no hook of open, read or close is met.
//! Is not: `std::fs`.

use crate::raw::{call, int};
use crate::{Errno, Fd};

/// Appends the whole file to `into`; the number of bytes appended.
///
/// # Errors
/// As open(2) and read(2); `ENAMETOOLONG` from 4 096 bytes of path on, `EINVAL` for
/// a path with a NUL inside.
pub fn read_file(path: impl AsRef<[u8]>, into: &mut Vec<u8>) -> Result<usize, Errno> {
    let file = open(path.as_ref(), libc::O_RDONLY)?;
    let before = into.len();
    loop {
        let end = into.len();
        into.resize(end + 4096, 0);
        let read = read(&file, &mut into[end..]);
        into.truncate(end + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => return Ok(into.len() - before),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(other) => return Err(other),
        }
    }
}

/// How many entries a directory has, `.` and `..` not counted (`/proc/self/task`:
/// the threads of this process).
///
/// # Errors
/// As open(2) and getdents64(2).
pub fn count_entries(path: impl AsRef<[u8]>) -> Result<usize, Errno> {
    let mut count = 0;
    each_entry(path.as_ref(), |_| count += 1)?;
    Ok(count)
}

/// The names in a directory, but `.` and `..`.
///
/// # Errors
/// As open(2) and getdents64(2).
pub fn list_entries(path: impl AsRef<[u8]>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    each_entry(path.as_ref(), |name| names.push(name.to_vec()))?;
    Ok(names)
}

/// Where a symbolic link points (at most 255 bytes of it).
///
/// # Errors
/// As readlink(2); paths as [`read_file`].
pub fn read_link(path: impl AsRef<[u8]>) -> Result<Vec<u8>, Errno> {
    let terminated = terminated(path.as_ref())?;
    let mut target = [0; 255];
    let arguments = [
        int(libc::AT_FDCWD),
        terminated.as_ptr() as usize,
        target.as_mut_ptr() as usize,
        target.len(),
        0,
        0,
    ];
    // SAFETY: the kernel reads the path up to its NUL, which is inside the array,
    // and writes at most the target's size into the target.
    let length = unsafe { call(libc::SYS_readlinkat, arguments) }?;
    Ok(target[..length.min(target.len())].to_vec())
}

/// Calls `visit` with each name but `.` and `..`.
pub(super) fn each_entry(path: &[u8], mut visit: impl FnMut(&[u8])) -> Result<Fd, Errno> {
    let directory = open(path, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut buffer = [0_u64; 512];
    loop {
        let buffer_at = buffer.as_mut_ptr() as usize;
        let arguments = [
            int(directory.as_raw()),
            buffer_at,
            size_of_val(&buffer),
            0,
            0,
            0,
        ];
        // SAFETY: the kernel writes at most the buffer's size into the buffer.
        let length = unsafe { call(libc::SYS_getdents64, arguments) }?;
        if length == 0 {
            return Ok(directory);
        }
        let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut rest = &bytes[..length.min(bytes.len())];
        // linux_dirent64: inode 8, offset 8, record length 2, type 1, name.
        while let Some(length) = rest.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let Some(record) = rest.get(..length).filter(|record| record.len() > 19) else {
                break;
            };
            let name = record[19..].split(|byte| *byte == 0).next().unwrap_or(&[]);
            if name != b"." && name != b".." {
                visit(name);
            }
            rest = &rest[length..];
        }
    }
}

/// The path with a NUL behind it.
fn terminated(path: &[u8]) -> Result<[u8; 4096], Errno> {
    let mut terminated = [0; 4096];
    if path.len() >= terminated.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    if path.contains(&0) {
        return Err(Errno::EINVAL);
    }
    terminated[..path.len()].copy_from_slice(path);
    Ok(terminated)
}

fn open(path: &[u8], flags: i32) -> Result<Fd, Errno> {
    let terminated = terminated(path)?;
    let flags = int(flags | libc::O_CLOEXEC);
    let arguments = [
        int(libc::AT_FDCWD),
        terminated.as_ptr() as usize,
        flags,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel reads the path up to its NUL, which is inside the array.
    unsafe { call(libc::SYS_openat, arguments) }.map(Fd::from_answer)
}

fn read(file: &Fd, into: &mut [u8]) -> Result<usize, Errno> {
    let arguments = [
        int(file.as_raw()),
        into.as_mut_ptr() as usize,
        into.len(),
        0,
        0,
        0,
    ];
    // SAFETY: the kernel writes at most into.len() bytes into a slice that is ours.
    unsafe { call(libc::SYS_read, arguments) }
}
