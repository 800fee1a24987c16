//! Every call by which a program receives sees the payload alone: the kernel took
//! the trailer away before any of them looked. Over IPv4, IPv6 and v4-mapped.
//!
//! Promises: the calls are the program's own (libc's), made on a socket with the
//! receiver's filter; a forged datagram is sent before each right one and must not
//! be seen. Is not: the hooks of the preload library.

use std::io::IoSliceMut;
use std::mem::zeroed;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use flexcast_udp::filter::{receiver, FilterWords, Source, Untrailed};
use flexcast_udp::process::{poll, PollFd};
use flexcast_udp::{canonical, canonical_socket, send_one, Class, Family, UdpSocket};
use io_uring::{cqueue, opcode, types, IoUring};

const WORDS: FilterWords = FilterWords {
    data_word: 0x01F1_ECA5,
    control_word: 0x02F1_ECA5,
    end_word: 0x03F1_ECA5,
    magic_mask: 0x00FF_FFFF,
};
const TOKEN: u64 = 0x0102_0304_0506_0708;
const BODY: &[u8] = b"exactly nineteen by";
const WAYS: [(Family, &str); 3] = [
    (Family::V4, "127.0.0.1"),
    (Family::V6, "::1"),
    (Family::V6, "::ffff:127.0.0.1"),
];

/// A receiving socket with its filter, and a sender whose data it keeps.
struct Pair {
    receiver: UdpSocket,
    sender: UdpSocket,
    to: SocketAddr,
}

impl Pair {
    fn new((family, address): (Family, &str)) -> Pair {
        let address: IpAddr = address.parse().unwrap();
        let receiver = UdpSocket::new(family).unwrap();
        receiver.bind(SocketAddr::new(address, 0)).unwrap();
        let sender = UdpSocket::new(Family::of(address)).unwrap();
        sender.bind(SocketAddr::new(canonical(address), 0)).unwrap();
        let from = sender.local_addr().unwrap();
        let source = Source {
            address: from.ip(),
            port: from.port(),
            token: Some(TOKEN),
        };
        let program = self::receiver(&[source], Untrailed::Drop, WORDS, family, &[]);
        receiver.attach_filter(&program).unwrap();
        let to = canonical_socket(receiver.local_addr().unwrap());
        Pair {
            receiver,
            sender,
            to,
        }
    }

    /// A forged datagram, then a right one.
    fn say(&self) {
        self.forge();
        self.send(BODY, TOKEN);
    }

    fn forge(&self) {
        self.send(BODY, !TOKEN);
    }

    fn send(&self, body: &[u8], token: u64) {
        let mut trailer = [0; 16];
        trailer[..8].copy_from_slice(&token.to_be_bytes());
        trailer[12..].copy_from_slice(&WORDS.data_word.to_be_bytes());
        send_one(
            &self.sender,
            self.to,
            None,
            Class::Stream,
            &[body, &trailer],
        )
        .unwrap();
    }

    fn raw(&self) -> i32 {
        self.receiver.as_raw()
    }
}

/// Tries a call on each way; it must find [`BODY`] and nothing behind it.
fn each_way(call: impl Fn(&Pair)) {
    for way in WAYS {
        let pair = Pair::new(way);
        pair.say();
        call(&pair);
        let mut left = [PollFd::new(pair.raw(), PollFd::IN)];
        assert_eq!(poll(&mut left, Some(0)), Ok(0), "{way:?}");
    }
}

fn recv(raw: i32, buffer: &mut [u8], flags: i32) -> isize {
    // SAFETY: the kernel writes at most the buffer's length into the buffer.
    unsafe { libc::recv(raw, buffer.as_mut_ptr().cast(), buffer.len(), flags) }
}

fn signed(length: usize) -> isize {
    isize::try_from(length).unwrap()
}

#[test]
fn recv_sees_the_payload_alone() {
    each_way(|pair| {
        let mut buffer = [0; 64];
        assert_eq!(recv(pair.raw(), &mut buffer, 0), signed(BODY.len()));
        assert_eq!(&buffer[..BODY.len()], BODY);
        assert_eq!(buffer[BODY.len()..], [0; 64 - BODY.len()]);
    });
}

#[test]
fn read_and_readv_see_the_payload_alone() {
    each_way(|pair| {
        let mut buffer = [0_u8; 64];
        // SAFETY: the kernel writes at most 64 bytes into the buffer.
        let length = unsafe { libc::read(pair.raw(), buffer.as_mut_ptr().cast(), 64) };
        assert_eq!(length, signed(BODY.len()));
        pair.say();
        let (mut head, mut tail) = ([0; 7], [0; 57]);
        let parts = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)];
        // SAFETY: IoSliceMut has the layout of iovec; the slices live on.
        let length = unsafe { libc::readv(pair.raw(), parts.as_ptr().cast(), 2) };
        assert_eq!(length, signed(BODY.len()));
        assert_eq!(head, BODY[..7]);
        assert_eq!(tail[..BODY.len() - 7], BODY[7..]);
        assert!(tail[BODY.len() - 7..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn recvmsg_into_an_exact_buffer_says_nothing_was_cut() {
    each_way(|pair| {
        let mut buffer = [0; BODY.len()];
        let mut part = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all zeros is a valid msghdr: no name, no parts, no control.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        // SAFETY: the header names the buffer with its true length.
        let length = unsafe { libc::recvmsg(pair.raw(), &raw mut header, 0) };
        assert_eq!(length, signed(BODY.len()));
        assert_eq!(header.msg_flags & libc::MSG_TRUNC, 0);
        assert_eq!(buffer, BODY);
    });
}

#[test]
fn recvmmsg_sees_as_many_payloads_as_were_right() {
    each_way(|pair| {
        pair.say();
        pair.say();
        let mut buffers = [[0_u8; 64]; 8];
        let mut parts = buffers.each_mut().map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        });
        // SAFETY: all zeros is a valid mmsghdr: no name, no parts, no control.
        let mut headers: [libc::mmsghdr; 8] = unsafe { zeroed() };
        for (header, part) in headers.iter_mut().zip(&mut parts) {
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        let (at, none) = (headers.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: each header names its buffer with its true length.
        let count = unsafe { libc::recvmmsg(pair.raw(), at, 8, libc::MSG_DONTWAIT, none) };
        assert_eq!(count, 3);
        for (header, buffer) in headers.iter().zip(&buffers).take(3) {
            assert_eq!(header.msg_len as usize, BODY.len());
            assert_eq!(&buffer[..BODY.len()], BODY);
        }
    });
}

#[test]
fn peek_trunc_and_fionread_count_the_payload_alone() {
    each_way(|pair| {
        let mut waiting = 0;
        // SAFETY: FIONREAD writes one int.
        let answer = unsafe { libc::ioctl(pair.raw(), libc::FIONREAD, &raw mut waiting) };
        assert_eq!((answer, waiting), (0, i32::try_from(BODY.len()).unwrap()));
        let mut short = [0; 4];
        let flags = libc::MSG_PEEK | libc::MSG_TRUNC;
        assert_eq!(recv(pair.raw(), &mut short, flags), signed(BODY.len()));
        assert_eq!(recv(pair.raw(), &mut short, libc::MSG_PEEK), 4);
        assert_eq!(
            recv(pair.raw(), &mut short, libc::MSG_TRUNC),
            signed(BODY.len())
        );
        assert_eq!(short, BODY[..4]);
    });
}

#[test]
fn poll_and_select_wake_for_right_datagrams_only() {
    for way in WAYS {
        let pair = Pair::new(way);
        let ready = |wait_ms: i32| {
            let mut fds = [PollFd::new(pair.raw(), PollFd::IN)];
            let polled = poll(&mut fds, Some(u64::try_from(wait_ms).unwrap() * 1_000)).unwrap();
            assert_eq!(polled == 1, select(pair.raw(), wait_ms), "{way:?}");
            polled == 1
        };
        pair.forge();
        assert!(!ready(5), "{way:?}");
        pair.say();
        assert!(ready(1_000), "{way:?}");
        assert_eq!(recv(pair.raw(), &mut [0; 64], 0), signed(BODY.len()));
        assert!(!ready(0), "{way:?}");
    }
}

fn select(raw: i32, wait_ms: i32) -> bool {
    // SAFETY: all zeros is the empty set.
    let mut set: libc::fd_set = unsafe { zeroed() };
    // SAFETY: the descriptor is below FD_SETSIZE in these small processes.
    unsafe { libc::FD_SET(raw, &raw mut set) };
    let mut time = libc::timeval {
        tv_sec: 0,
        tv_usec: i64::from(wait_ms) * 1_000 % 1_000_000,
    };
    let none = std::ptr::null_mut();
    // SAFETY: the kernel reads and writes one set and one timeval.
    let count = unsafe { libc::select(raw + 1, &raw mut set, none, none, &raw mut time) };
    count == 1
}

#[test]
fn edge_triggered_epoll_has_one_edge_a_right_datagram() {
    for way in WAYS {
        let pair = Pair::new(way);
        // SAFETY: takes a flag and makes a new descriptor.
        let set = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(set >= 0);
        // SAFETY: the number is fresh from the kernel, and nobody else's.
        let _closes = unsafe { OwnedFd::from_raw_fd(set) };
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLET).cast_unsigned(),
            u64: 7,
        };
        // SAFETY: the kernel reads one event.
        let added =
            unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, pair.raw(), &raw mut event) };
        assert_eq!(added, 0);
        let edge = |wait_ms| {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
            // SAFETY: the kernel writes at most four events.
            unsafe { libc::epoll_wait(set, events.as_mut_ptr(), 4, wait_ms) }
        };
        pair.forge();
        assert_eq!(edge(5), 0, "{way:?}");
        pair.say();
        assert_eq!(edge(1_000), 1, "{way:?}");
        pair.forge();
        assert_eq!(edge(5), 0, "no new edge for a forged one: {way:?}");
        pair.say();
        assert_eq!(edge(1_000), 1, "{way:?}");
    }
}

/// A ring, where this kernel lets programs have one; else a program has nothing
/// that could go wrong either.
fn ring() -> Option<IoUring> {
    match IoUring::new(8) {
        Ok(ring) => Some(ring),
        Err(error) => {
            let refused = [libc::ENOSYS, libc::EPERM, libc::EACCES];
            assert!(refused.contains(&error.raw_os_error().unwrap()), "{error}");
            None
        }
    }
}

#[test]
fn io_uring_receives_the_payload_alone() {
    let Some(mut ring) = ring() else { return };
    for way in WAYS {
        let pair = Pair::new(way);
        let mut buffer = [0_u8; 64];
        let receive = opcode::Recv::new(types::Fd(pair.raw()), buffer.as_mut_ptr(), 64).build();
        // SAFETY: the buffer lives until the completion below was seen.
        unsafe { ring.submission().push(&receive) }.unwrap();
        ring.submit().unwrap();
        pair.say();
        ring.submit_and_wait(1).unwrap();
        let done = ring.completion().next().unwrap();
        assert_eq!(done.result(), i32::try_from(BODY.len()).unwrap(), "{way:?}");
        assert_eq!(&buffer[..BODY.len()], BODY);
    }
}

#[test]
fn io_uring_multishot_completes_once_a_right_datagram() {
    const GROUP: u16 = 1;
    const EACH: usize = 64;
    let Some(mut ring) = ring() else { return };
    for way in WAYS {
        let pair = Pair::new(way);
        let mut buffers = [0_u8; 8 * EACH];
        let at = buffers.as_mut_ptr();
        let provide = opcode::ProvideBuffers::new(at, 64, 8, GROUP, 0).build();
        let receive = opcode::RecvMulti::new(types::Fd(pair.raw()), GROUP).build();
        // SAFETY: the buffers live until the ring gave them up at the end.
        unsafe { ring.submission().push(&provide) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        assert!(ring.completion().next().unwrap().result() >= 0);
        // SAFETY: as above.
        unsafe { ring.submission().push(&receive) }.unwrap();
        ring.submit().unwrap();
        // Not 0: an empty datagram ends a multishot receive, with or without us.
        for length in [19_u8, 1, 5] {
            pair.forge();
            pair.send(&BODY[..usize::from(length)], TOKEN);
            ring.submit_and_wait(1).unwrap();
            let done = ring.completion().next().unwrap();
            assert_eq!(done.result(), i32::from(length), "{way:?}");
            assert!(cqueue::more(done.flags()), "{way:?}");
            let slot = usize::from(cqueue::buffer_select(done.flags()).unwrap());
            let seen = &buffers[slot * EACH..][..usize::from(length)];
            assert_eq!(seen, &BODY[..usize::from(length)]);
        }
        assert!(ring.completion().next().is_none(), "{way:?}");
        let cancel = opcode::AsyncCancel::new(0).build();
        // SAFETY: carries no pointers.
        unsafe { ring.submission().push(&cancel) }.unwrap();
        ring.submit_and_wait(2).unwrap();
        assert_eq!(ring.completion().count(), 2);
        let remove = opcode::RemoveBuffers::new(8, GROUP).build();
        // SAFETY: carries no pointers.
        unsafe { ring.submission().push(&remove) }.unwrap();
        ring.submit_and_wait(1).unwrap();
        assert_eq!(ring.completion().count(), 1);
    }
}

#[test]
fn the_standard_librarys_socket_sees_the_payload_and_the_sender() {
    each_way(|pair| {
        // SAFETY: the descriptor is open as long as the pair lives.
        let borrowed = unsafe { BorrowedFd::borrow_raw(pair.raw()) };
        let socket = std::net::UdpSocket::from(borrowed.try_clone_to_owned().unwrap());
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], BODY);
        assert_eq!(canonical_socket(from), pair.sender.local_addr().unwrap());
    });
}
