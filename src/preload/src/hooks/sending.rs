//! Datagrams that the program sends: send, sendto, sendmsg, sendmmsg, write, writev.
//!
//! Promises: all of them are cancellation points, so the frames hold nothing that is
//! dropped, and whoever waits in one of ours can be cancelled. What a signal's handler
//! sends while its thread is at our work is dropped, as a full queue would. Is not
//! sendfile and splice, nor what a destination means (`push`).

use std::ptr;

use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t};

use crate::guard::{guarded, is_inside};
use crate::hook::{cancellation_point, fail, fail_long, hide_missing_multicast, Verdict};
use crate::push::{self, Message};
use crate::{errno, marks, name, real};

/// As many messages of sendmmsg are looked at together.
const MOST_TOGETHER: usize = 64;

fn decide(fd: c_int, message: Result<Message<'_>, c_int>, flags: c_int) -> Verdict {
    match message {
        Ok(message) => push::send(fd, &message, flags),
        Err(number) => Verdict::Fail(number),
    }
}

/// Of send, sendto and write. What goes to a family that is not ours is not read.
#[inline(never)]
unsafe fn plain(
    fd: c_int,
    data: *const c_void,
    length: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_length: socklen_t,
) -> Verdict {
    let address = name::read(to, to_length);
    if leaves(fd, to.cast(), to_length) {
        return Verdict::Kernel;
    }
    if is_inside() {
        return Verdict::Done(isize::try_from(length).unwrap_or(isize::MAX));
    }
    guarded(Verdict::Fail(libc::EIO), || {
        decide(fd, Message::plain(address, data, length), flags)
    })
}

#[inline(never)]
unsafe fn vector(fd: c_int, parts: *const iovec, count: c_int) -> Verdict {
    if push::leaves(fd, None) {
        return Verdict::Kernel;
    }
    if is_inside() {
        return Verdict::Done(push::length(parts, usize::try_from(count).unwrap_or(0)));
    }
    guarded(Verdict::Fail(libc::EIO), || {
        let Ok(count) = usize::try_from(count) else {
            return Verdict::Kernel;
        };
        match Message::vector(parts, count) {
            // The kernel sends nothing where there are no bytes (do_iter_write).
            Ok(message) if message.length() == 0 => Verdict::Kernel,
            message => decide(fd, message, 0),
        }
    })
}

/// Whether a message is the kernel's by its destination alone.
unsafe fn left_to_kernel(fd: c_int, header: *const msghdr) -> bool {
    leaves(fd, (*header).msg_name, (*header).msg_namelen)
}

/// Whether what is sent to this destination is the kernel's; also where it is of
/// another family or too short, and the kernel has to say what it thinks of it.
unsafe fn leaves(fd: c_int, to: *const c_void, length: socklen_t) -> bool {
    let named = !to.is_null() && length != 0;
    let address = name::read(to.cast(), length);
    (named && address.is_none()) || push::leaves(fd, address)
}

#[inline(never)]
unsafe fn with_header(fd: c_int, header: *const msghdr, flags: c_int) -> Verdict {
    if header.is_null() || left_to_kernel(fd, header) {
        return Verdict::Kernel;
    }
    if is_inside() {
        return Verdict::Done(push::length((*header).msg_iov, (*header).msg_iovlen));
    }
    guarded(Verdict::Fail(libc::EIO), || {
        decide(fd, Message::header(header), flags)
    })
}

/// A datagram of ours that the kernel is to send, to `to` where that is given.
unsafe fn by_kernel(fd: c_int, header: *const msghdr, flags: c_int, verdict: &Verdict) -> ssize_t {
    match verdict {
        Verdict::KernelTo(to) => {
            let mut copy = *header;
            copy.msg_name = to.as_ptr().cast_mut().cast();
            copy.msg_namelen = to.length();
            real::sendmsg(fd, &raw const copy, flags)
        }
        Verdict::KernelQuietly => {
            let before = errno::get();
            let answer = real::sendmsg(fd, header, flags);
            if answer >= 0 {
                return answer;
            }
            hide_missing_multicast(
                answer,
                push::length((*header).msg_iov, (*header).msg_iovlen),
                before,
            )
        }
        _ => real::sendmsg(fd, header, flags),
    }
}

/// A header around one part.
fn header_of(part: *const iovec, to: *const sockaddr, to_length: socklen_t) -> msghdr {
    msghdr {
        msg_name: to.cast_mut().cast(),
        msg_namelen: to_length,
        msg_iov: part.cast_mut(),
        msg_iovlen: 1,
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    }
}

/// Of send, sendto and write: the answer; none where it is the kernel's, to the call
/// that the program made.
#[inline(always)]
unsafe fn unless_kernels(
    fd: c_int,
    data: *const c_void,
    length: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_length: socklen_t,
) -> Option<ssize_t> {
    loop {
        real::cancellation_point();
        match plain(fd, data, length, flags, to, to_length) {
            Verdict::Kernel => return None,
            Verdict::Done(sent) => return Some(sent),
            Verdict::Fail(number) => return Some(fail_long(number)),
            Verdict::Again => {}
            other => {
                let part = iovec {
                    iov_base: data.cast_mut(),
                    iov_len: length,
                };
                let header = header_of(&raw const part, to, to_length);
                return Some(by_kernel(fd, &raw const header, flags, &other));
            }
        }
    }
}

cancellation_point! {
    fn sendto(
        fd: c_int,
        data: *const c_void,
        length: size_t,
        flags: c_int,
        to: *const sockaddr,
        to_length: socklen_t,
    ) -> ssize_t {
        if marks::is_foreign(fd) {
            return real::sendto(fd, data, length, flags, to, to_length);
        }
        match unless_kernels(fd, data, length, flags, to, to_length) {
            Some(answer) => answer,
            None => real::sendto(fd, data, length, flags, to, to_length),
        }
    }
}

cancellation_point! {
    fn send(fd: c_int, data: *const c_void, length: size_t, flags: c_int) -> ssize_t {
        if marks::is_foreign(fd) {
            return real::send(fd, data, length, flags);
        }
        sendto(fd, data, length, flags, ptr::null(), 0)
    }
}

cancellation_point! {
    fn __send(fd: c_int, data: *const c_void, length: size_t, flags: c_int) -> ssize_t {
        send(fd, data, length, flags)
    }
}

cancellation_point! {
    fn write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t {
        if marks::get(fd) != marks::Mark::Ours {
            return real::write(fd, data, length);
        }
        // The number may be another file's by now: what is the kernel's is written.
        match unless_kernels(fd, data, length, 0, ptr::null(), 0) {
            Some(answer) => answer,
            None => real::write(fd, data, length),
        }
    }
}

cancellation_point! {
    fn __write(fd: c_int, data: *const c_void, length: size_t) -> ssize_t {
        write(fd, data, length)
    }
}

cancellation_point! {
    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        if marks::is_foreign(fd) {
            return real::writev(fd, parts, count);
        }
        loop {
            real::cancellation_point();
            match vector(fd, parts, count) {
                Verdict::Kernel => return real::writev(fd, parts, count),
                Verdict::Done(sent) => return sent,
                Verdict::Fail(number) => return fail_long(number),
                Verdict::Again => {}
                other => {
                    let mut header = header_of(parts, ptr::null(), 0);
                    header.msg_iovlen = usize::try_from(count).unwrap_or(0);
                    return by_kernel(fd, &raw const header, 0, &other);
                }
            }
        }
    }
}

cancellation_point! {
    fn sendmsg(fd: c_int, header: *const msghdr, flags: c_int) -> ssize_t {
        if marks::is_foreign(fd) {
            return real::sendmsg(fd, header, flags);
        }
        loop {
            real::cancellation_point();
            match with_header(fd, header, flags) {
                Verdict::Done(sent) => return sent,
                Verdict::Fail(number) => return fail_long(number),
                Verdict::Again => {}
                other => return by_kernel(fd, header, flags, &other),
            }
        }
    }
}

/// The first of `count` messages that have the same fate, and how many they are;
/// lengths of those that we have sent are filled in.
#[inline(never)]
unsafe fn several(
    fd: c_int,
    messages: *mut mmsghdr,
    count: usize,
    flags: c_int,
) -> (Verdict, usize) {
    if messages.is_null() {
        return (Verdict::Kernel, count);
    }
    let left = (0..count)
        .take_while(|&at| left_to_kernel(fd, &raw const (*messages.add(at)).msg_hdr))
        .count();
    if left > 0 {
        return (Verdict::Kernel, left);
    }
    if is_inside() {
        let header = &(*messages).msg_hdr;
        let length = push::length(header.msg_iov, header.msg_iovlen);
        (*messages).msg_len = c_uint::try_from(length).unwrap_or(0);
        return (Verdict::Done(length), 1);
    }
    guarded((Verdict::Fail(libc::EIO), 1), || {
        let mut read = Vec::with_capacity(count.min(MOST_TOGETHER));
        for at in 0..count.min(MOST_TOGETHER) {
            match Message::header(&raw const (*messages.add(at)).msg_hdr) {
                Ok(message) => read.push(message),
                Err(number) if read.is_empty() => return (Verdict::Fail(number), 1),
                Err(_) => break,
            }
        }
        let mut sent = 1;
        let verdict = push::send_run(fd, &read, flags, &mut sent);
        if let Verdict::Done(_) = verdict {
            for (at, message) in read.iter().enumerate().take(sent) {
                (*messages.add(at)).msg_len = c_uint::try_from(message.length()).unwrap_or(0);
            }
        }
        (verdict, sent)
    })
}

cancellation_point! {
    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        if marks::is_foreign(fd) {
            return real::sendmmsg(fd, messages, count, flags);
        }
        let mut done: c_uint = 0;
        while done < count {
            real::cancellation_point();
            let at = messages.wrapping_add(done as usize);
            let (verdict, together) = several(fd, at, (count - done) as usize, flags);
            let together = c_uint::try_from(together).unwrap_or(1);
            match verdict {
                Verdict::Again => {}
                Verdict::Done(_) => done += together,
                Verdict::Kernel => {
                    let sent = real::sendmmsg(fd, at, together, flags);
                    match c_uint::try_from(sent) {
                        Ok(sent) => done += sent,
                        Err(_) if done > 0 => break,
                        Err(_) => return sent,
                    }
                    if sent < answer(together) {
                        break;
                    }
                }
                Verdict::Fail(_) if done > 0 => break,
                Verdict::Fail(number) => return fail(number),
                other => {
                    let sent = by_kernel(fd, &raw const (*at).msg_hdr, flags, &other);
                    if sent < 0 && done > 0 {
                        break;
                    }
                    if sent < 0 {
                        return -1;
                    }
                    (*at).msg_len = c_uint::try_from(sent).unwrap_or(0);
                    done += 1;
                }
            }
        }
        answer(done)
    }
}

fn answer(done: c_uint) -> c_int {
    c_int::try_from(done).unwrap_or(c_int::MAX)
}
