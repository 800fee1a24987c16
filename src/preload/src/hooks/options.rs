//! Options of sockets: setsockopt, getsockopt.
//!
//! Promises: what the kernel accepts or refuses stands; a value is read and written
//! within the length that the program gave. Is not the meaning (`join`, `push`).

use std::net::IpAddr;
use std::slice;

use libc::{c_int, c_void, socklen_t};

use crate::guard::guarded;
use crate::hook::{fail, hide_missing_multicast, Verdict};
use crate::join::{self, Shown, SourceList};
use crate::{errno, listen, marks, push, real};

/// The value, as far as anybody looks.
unsafe fn bytes<'a>(value: *const c_void, length: socklen_t) -> &'a [u8] {
    if value.is_null() {
        return &[];
    }
    slice::from_raw_parts(value.cast(), (length as usize).min(join::LONGEST))
}

unsafe fn decide(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> Verdict {
    guarded(Verdict::Kernel, || {
        // A candidate has nothing but joins to lose.
        if marks::get(fd) == marks::Mark::Ours || join::concerns(level, name) {
            let given = bytes(value, length);
            let verdict = listen::set_option(fd, level, name, given)
                .or_else(|| join::set_option(fd, level, name, given));
            return verdict.unwrap_or(Verdict::Kernel);
        }
        Verdict::Kernel
    })
}

redhook::hook! {
    unsafe fn setsockopt(
        fd: c_int,
        level: c_int,
        option: c_int,
        value: *const c_void,
        length: socklen_t
    ) -> c_int => set_option {
        if marks::is_foreign(fd) {
            return real::setsockopt(fd, level, option, value, length);
        }
        let before = errno::get();
        let answer = match decide(fd, level, option, value, length) {
            Verdict::Done(_) => return 0,
            Verdict::Fail(number) => return fail(number),
            Verdict::KernelQuietly => {
                let answer = real::setsockopt(fd, level, option, value, length);
                let answer = hide_missing_multicast(answer as isize, 0, before);
                c_int::try_from(answer).unwrap_or(-1)
            }
            _ => real::setsockopt(fd, level, option, value, length),
        };
        if answer == 0 {
            guarded((), || push::option_set(fd, level, option));
        }
        answer
    }
}

/// Gives an `int`, or the byte that the kernel gives where there is room for no more
/// (`do_ip_getsockopt`).
unsafe fn give_word(level: c_int, on: bool, value: *mut c_void, length: *mut socklen_t) -> Verdict {
    if value.is_null() || length.is_null() {
        return Verdict::Fail(libc::EFAULT);
    }
    let Ok(room) = c_int::try_from(length.read_unaligned()) else {
        return Verdict::Fail(libc::EINVAL);
    };
    let word = u32::from(on).to_ne_bytes();
    let byte = [u8::from(on)];
    let given: &[u8] = match usize::try_from(room).unwrap_or(0) {
        room @ 1..=3 if level == libc::SOL_IP => &byte[..room.min(1)],
        room => &word[..room.min(word.len())],
    };
    value
        .cast::<u8>()
        .copy_from_nonoverlapping(given.as_ptr(), given.len());
    length.write_unaligned(socklen_t::try_from(given.len()).unwrap_or(0));
    Verdict::Done(0)
}

/// Gives mode, number and as many sources as the program has room for; the number is
/// that of all (`ip_mc_msfget`, `ip_mc_gsfget`).
unsafe fn give_sources(list: &SourceList, value: *mut c_void, length: *mut socklen_t) -> Verdict {
    let (head, each) = if list.generic { (136, 128) } else { (8, 4) };
    let first = head + 8;
    let value = value.cast::<u8>();
    let wanted = value.add(head + 4).cast::<u32>().read_unaligned();
    let room = (length.read_unaligned() as usize).saturating_sub(first) / each;
    let count = list.sources.len().min(wanted as usize).min(room);
    let all = u32::try_from(list.sources.len()).unwrap_or(u32::MAX);
    value.add(head).cast::<u32>().write_unaligned(list.mode);
    value.add(head + 4).cast::<u32>().write_unaligned(all);
    for (n, source) in list.sources.iter().take(count).enumerate() {
        let to = value.add(first + n * each);
        match (list.generic, source) {
            (true, source) => {
                to.copy_from_nonoverlapping(join::storage(*source).as_ptr(), each);
            }
            (false, IpAddr::V4(ip)) => to.copy_from_nonoverlapping(ip.octets().as_ptr(), each),
            (false, IpAddr::V6(_)) => {}
        }
    }
    length.write_unaligned(socklen_t::try_from(first + count * each).unwrap_or(0));
    Verdict::Done(0)
}

unsafe fn answer(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    length: *mut socklen_t,
) -> Verdict {
    guarded(Verdict::Kernel, || {
        let shown = listen::get_option(fd, level, name);
        match shown.or_else(|| join::get_option(fd, level, name)) {
            Some(Shown::Word(on)) => return give_word(level, on, value, length),
            Some(Shown::Nothing) if length.is_null() => return Verdict::Fail(libc::EFAULT),
            Some(Shown::Nothing) => {
                length.write_unaligned(0);
                return Verdict::Done(0);
            }
            None => {}
        }
        if length.is_null() || !join::concerns(level, name) {
            return Verdict::Kernel;
        }
        let given = bytes(value, length.read_unaligned());
        match join::sources(fd, level, name, given) {
            Some(list) => give_sources(&list, value, length),
            None => Verdict::Kernel,
        }
    })
}

redhook::hook! {
    unsafe fn getsockopt(
        fd: c_int,
        level: c_int,
        option: c_int,
        value: *mut c_void,
        length: *mut socklen_t
    ) -> c_int => get_option {
        if marks::get(fd) != marks::Mark::Ours {
            return real::getsockopt(fd, level, option, value, length);
        }
        match answer(fd, level, option, value, length) {
            Verdict::Done(_) => 0,
            Verdict::Fail(number) => fail(number),
            _ => real::getsockopt(fd, level, option, value, length),
        }
    }
}
