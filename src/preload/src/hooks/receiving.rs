//! Datagrams that the program receives, where it is told a source: recvfrom, recvmsg,
//! recvmmsg.
//!
//! Promises: the kernel's own receive call with the program's own arguments; what is
//! changed is the source of a stream's datagram, and the group in its ancillary data.
//! Queued errors (MSG_ERRQUEUE) are left alone. Sockets that listen or were accepted
//! have an end of file, and no source (`reading`). All are cancellation points, so the frames hold
//! nothing that is dropped. Is not the meaning (`join`).

use std::ptr;

use libc::{
    c_int, c_uint, c_void, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timespec,
};

use super::reading;
use crate::guard::guarded_anyway;
use crate::hook::cancellation_point;
use crate::join::{self, Changed};
use crate::{marks, real};

/// As many messages of one recvmmsg are looked at (`UIO_MAXIOV`, the kernel's limit).
const MOST: usize = 1024;

/// What a call on `fd` may have to change.
#[inline(always)]
fn changed(fd: c_int, flags: c_int) -> Changed {
    if marks::get(fd) != marks::Mark::Ours || flags & libc::MSG_ERRQUEUE != 0 {
        return Changed::Nothing;
    }
    join::changed(fd)
}

#[inline(never)]
unsafe fn change_source(fd: c_int, address: *mut sockaddr, room: socklen_t, length: socklen_t) {
    guarded_anyway((), || {
        join::change_source(fd, address, room, length);
    });
}

/// A message as the kernel has filled it; its name had `room` bytes.
#[inline(never)]
unsafe fn change_message(fd: c_int, message: *const msghdr, room: socklen_t, changed: Changed) {
    guarded_anyway((), || {
        let (name, length) = ((*message).msg_name, (*message).msg_namelen);
        if name.is_null() {
            return;
        }
        let is_stream = join::change_source(fd, name.cast(), room, length);
        if is_stream && changed == Changed::SourceAndGroup && !(*message).msg_control.is_null() {
            join::change_group(fd, message);
        }
    });
}

cancellation_point! {
    fn recvfrom(
        fd: c_int,
        data: *mut c_void,
        length: size_t,
        flags: c_int,
        name: *mut sockaddr,
        name_length: *mut socklen_t,
    ) -> ssize_t {
        if marks::is_serving(fd) && flags & libc::MSG_ERRQUEUE == 0 {
            let received = match reading::before(fd) {
                Some(answer) => answer,
                None => {
                    let (nobody, none) = (ptr::null_mut(), ptr::null_mut());
                    reading::after(fd, real::recvfrom(fd, data, length, flags, nobody, none))
                }
            };
            if received >= 0 && !name_length.is_null() {
                name_length.write_unaligned(0);
            }
            return received;
        }
        if name.is_null() || name_length.is_null() || changed(fd, flags) == Changed::Nothing {
            return real::recvfrom(fd, data, length, flags, name, name_length);
        }
        let room = name_length.read_unaligned();
        let received = real::recvfrom(fd, data, length, flags, name, name_length);
        if received >= 0 {
            change_source(fd, name, room, name_length.read_unaligned());
        }
        received
    }
}

extern "C" {
    fn __chk_fail() -> !;
}

cancellation_point! {
    fn __recvfrom_chk(
        fd: c_int,
        data: *mut c_void,
        length: size_t,
        room: size_t,
        flags: c_int,
        name: *mut sockaddr,
        name_length: *mut socklen_t,
    ) -> ssize_t {
        if length > room {
            __chk_fail();
        }
        recvfrom(fd, data, length, flags, name, name_length)
    }
}

cancellation_point! {
    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        if marks::is_serving(fd) && flags & libc::MSG_ERRQUEUE == 0 && !message.is_null() {
            let received = match reading::before(fd) {
                Some(answer) => answer,
                None => reading::after(fd, real::recvmsg(fd, message, flags)),
            };
            if received >= 0 {
                (*message).msg_namelen = 0;
                (*message).msg_controllen = 0;
                (*message).msg_flags = 0;
            }
            return received;
        }
        let changed = changed(fd, flags);
        if changed == Changed::Nothing || message.is_null() {
            return real::recvmsg(fd, message, flags);
        }
        let room = (*message).msg_namelen;
        if !(*message).msg_name.is_null() {
            let received = real::recvmsg(fd, message, flags);
            if received >= 0 {
                change_message(fd, message, room, changed);
            }
            return received;
        }
        if changed != Changed::SourceAndGroup || (*message).msg_control.is_null() {
            return real::recvmsg(fd, message, flags);
        }
        // Only the source tells whether the ancillary data is about the group.
        let mut name = [0_u64; 4];
        let mut copy = *message;
        copy.msg_name = name.as_mut_ptr().cast();
        copy.msg_namelen = 32;
        let received = real::recvmsg(fd, &raw mut copy, flags);
        if received >= 0 {
            change_message(fd, &raw const copy, 32, changed);
            copy.msg_name = ptr::null_mut();
            copy.msg_namelen = room;
            *message = copy;
        }
        received
    }
}

/// Of each message's name: the room, as far as 255.
#[inline(never)]
unsafe fn rooms(messages: *const mmsghdr, count: usize, rooms: &mut [u8; MOST]) {
    for (at, room) in rooms.iter_mut().enumerate().take(count) {
        let length = (*messages.add(at)).msg_hdr.msg_namelen;
        *room = u8::try_from(length).unwrap_or(u8::MAX);
    }
}

#[inline(never)]
unsafe fn change_messages(
    fd: c_int,
    messages: *const mmsghdr,
    count: usize,
    rooms: &[u8; MOST],
    changed: Changed,
) {
    for (at, room) in rooms.iter().enumerate().take(count) {
        let message = &raw const (*messages.add(at)).msg_hdr;
        change_message(fd, message, socklen_t::from(*room), changed);
    }
}

cancellation_point! {
    fn recvmmsg(
        fd: c_int,
        messages: *mut mmsghdr,
        count: c_uint,
        flags: c_int,
        limit: *mut timespec,
    ) -> c_int {
        let changed = changed(fd, flags);
        if changed == Changed::Nothing || messages.is_null() {
            return real::recvmmsg(fd, messages, count, flags, limit);
        }
        let mut room = [0; MOST];
        rooms(messages, count as usize, &mut room);
        let received = real::recvmmsg(fd, messages, count, flags, limit);
        if let Ok(received) = usize::try_from(received) {
            change_messages(fd, messages, received, &room, changed);
        }
        received
    }
}
