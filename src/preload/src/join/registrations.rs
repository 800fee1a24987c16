//! Epoll registrations of a socket that another one is to take the place of.
//!
//! Epoll knows a registration by file and number, so a new file under the old number
//! is not in it. `/proc/self/fdinfo` of an epoll descriptor lists what is.
//!
//! ```text
//!   tfd:        5 events:       19 data: 1122334455667788  pos:0 ino:3a2b1 sdev:8
//! ```
//! Promises: event masks and data are those that the program gave; a registration
//! whose number was closed since, while a duplicate lives on, is carried, too. Is
//! not for io_uring polls, nor for epoll descriptors of other processes.

use flexcast_runtime::kernel::{raw, read_file, read_link};
use flexcast_runtime::Errno;
use libc::c_int;

use super::descriptor;

/// One registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Registration {
    epoll: c_int,
    number: c_int,
    events: u32,
    data: u64,
}

/// All registrations of the socket with this inode, by any of this process's epoll
/// descriptors.
pub(super) fn of(numbers: &[c_int], inode: u64) -> Vec<Registration> {
    let mut found = Vec::new();
    for epoll in numbers.iter().copied().filter(|number| is_epoll(*number)) {
        let mut text = Vec::new();
        if read_file(format!("/proc/self/fdinfo/{epoll}"), &mut text).is_ok() {
            let text = String::from_utf8_lossy(&text);
            found.extend(text.lines().filter_map(|line| read(line, epoll, inode)));
        }
    }
    found
}

fn is_epoll(number: c_int) -> bool {
    let link = read_link(format!("/proc/self/fd/{number}"));
    link.is_ok_and(|link| link == b"anon_inode:[eventpoll]")
}

fn read(line: &str, epoll: c_int, inode: u64) -> Option<Registration> {
    let mut words = line.split_ascii_whitespace();
    let mut after = |key: &str| {
        let word = words.next()?;
        // "tfd: 5" or "ino:3a2b1": the value is the next word, or joined.
        match word.strip_prefix(key)? {
            "" => words.next(),
            joined => Some(joined),
        }
    };
    let number = after("tfd:")?.parse().ok()?;
    let events = u32::from_str_radix(after("events:")?, 16).ok()?;
    let data = u64::from_str_radix(after("data:")?, 16).ok()?;
    let _position = after("pos:")?;
    let listed = u64::from_str_radix(after("ino:")?, 16).ok()?;
    (listed == inode).then_some(Registration {
        epoll,
        number,
        events,
        data,
    })
}

/// Takes them out of their epolls, as long as their numbers still name the old
/// socket. Gives those that are to be entered again: an epoll that has two numbers
/// lists each registration twice.
pub(super) fn take_out(all: Vec<Registration>) -> Vec<Registration> {
    let stays = |r: &Registration| match change(libc::EPOLL_CTL_DEL, r) {
        // Closed since: the old socket's end will take it out.
        Ok(()) | Err(Errno::EBADF) => true,
        Err(_) => false,
    };
    let mut kept: Vec<Registration> = Vec::new();
    for registration in all.into_iter().filter(stays) {
        let again = |r: &Registration| {
            (r.number, r.events, r.data)
                == (registration.number, registration.events, registration.data)
                && descriptor::control(registration.number, libc::F_GETFD, 0).is_err()
        };
        if !kept.iter().any(again) {
            kept.push(registration);
        }
    }
    kept
}

/// Enters them for what their numbers name now; those whose number is closed, for
/// `fresh`, another number of the same socket.
pub(super) fn enter(all: &[Registration], fresh: c_int) {
    for registration in all {
        let number = registration.number;
        let closed = descriptor::control(number, libc::F_GETFD, 0).is_err();
        if closed && descriptor::duplicate_over(fresh, number, libc::O_CLOEXEC).is_err() {
            continue;
        }
        if let Err(errno) = change(libc::EPOLL_CTL_ADD, registration) {
            log::debug!("an epoll registration of number {number} is not carried over: {errno}");
        }
        if closed {
            descriptor::close(number);
        }
    }
}

fn change(operation: c_int, registration: &Registration) -> Result<(), Errno> {
    let event = libc::epoll_event {
        events: registration.events,
        u64: registration.data,
    };
    let words = [
        raw::int(registration.epoll),
        raw::int(operation),
        raw::int(registration.number),
        (&raw const event) as usize,
        0,
        0,
    ];
    // SAFETY: the kernel reads one event, which lives through the call.
    unsafe { raw::call(libc::SYS_epoll_ctl, words) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_fdinfo_is_read_whole_or_not_at_all() {
        let line = "tfd:        5 events: 80000019 data: 1122334455667788  pos:0 ino:3a2b1 sdev:8";
        let expected = Registration {
            epoll: 3,
            number: 5,
            events: 0x8000_0019,
            data: 0x1122_3344_5566_7788,
        };
        assert_eq!(read(line, 3, 0x3A2B1), Some(expected));
        assert_eq!(read(line, 3, 0x3A2B2), None);
        assert_eq!(read("tfd: 5 events: 19", 3, 0), None);
        assert_eq!(read("flags:\t02", 3, 0), None);
    }
}
