//! Local sockets: names, boundaries, descriptors that travel.

use super::*;
use crate::is_live;
use crate::process::{pid, private_descriptors, random_u64, uid, EventFd};

/// A name that no other test has.
fn name() -> Vec<u8> {
    format!("flexcast-udp-test-{:016x}", random_u64().unwrap()).into_bytes()
}

fn is_close_on_exec(fd: &Fd) -> bool {
    let arguments = [int(fd.as_raw()), int(libc::F_GETFD), 0, 0, 0, 0];
    // SAFETY: F_GETFD takes integers only.
    let flags = unsafe { call(libc::SYS_fcntl, arguments) }.unwrap();
    flags & int(libc::FD_CLOEXEC) != 0
}

#[test]
fn a_name_is_taken_until_its_socket_is_gone() {
    let name = name();
    let first = Listener::bind(&name).unwrap();
    assert_eq!(Listener::bind(&name).err(), Some(Errno::EADDRINUSE));
    drop(first);
    assert_eq!(Stream::connect(&name).err(), Some(Errno::ECONNREFUSED));
    let _second = Listener::bind(&name).unwrap();
    // Each type of socket has its own names.
    let _datagram = UnixDatagram::bind(&name).unwrap();
}

#[test]
fn names_have_1_to_107_bytes_of_any_kind() {
    for bad in [&[][..], &[b'x'; 108]] {
        assert_eq!(UnixDatagram::bind(bad).err(), Some(Errno::ENAMETOOLONG));
        let socket = UnixDatagram::unbound().unwrap();
        assert_eq!(socket.send_to(bad, b"x"), Err(Errno::ENAMETOOLONG));
    }
    let mut longest = [0; 107];
    longest[99..].copy_from_slice(&random_u64().unwrap().to_ne_bytes());
    let socket = UnixDatagram::bind(&longest).unwrap();
    // A name that differs in its last byte alone, or is cut, is another's.
    let mut other = longest;
    other[106] ^= 1;
    let sender = UnixDatagram::unbound().unwrap();
    assert_eq!(sender.send_to(&other, b"x"), Err(Errno::ECONNREFUSED));
    assert_eq!(
        sender.send_to(&longest[..106], b"x"),
        Err(Errno::ECONNREFUSED)
    );
    assert_eq!(sender.send_to(&longest, b"found"), Ok(5));
    assert_eq!(socket.recv(&mut [0; 9]).unwrap().0, 5);
}

#[test]
fn connections_keep_message_boundaries_and_tell_their_end() {
    let name = name();
    let listener = Listener::bind(&name).unwrap();
    assert_eq!(listener.accept().err(), Some(Errno::EAGAIN));
    let near = Stream::connect(&name).unwrap();
    let far = listener.accept().unwrap();
    let mut buffer = [0; 64];
    assert_eq!(far.recv(&mut buffer).err(), Some(Errno::EAGAIN));
    near.send(b"one", &[]).unwrap();
    near.send(b"three", &[]).unwrap();
    assert_eq!(far.recv(&mut buffer).unwrap().0, 3);
    assert_eq!(far.recv(&mut buffer).unwrap().0, 5);
    assert_eq!(&buffer[..5], b"three");
    far.send(b"back", &[]).unwrap();
    assert_eq!(near.recv(&mut buffer).unwrap().0, 4);
    drop(near);
    assert!(matches!(far.recv(&mut buffer), Ok((0, fds)) if fds.is_empty()));
    assert_eq!(far.send(b"nobody", &[]), Err(Errno::EPIPE));
}

#[test]
fn the_other_end_is_who_it_is() {
    let (near, far) = Stream::pair().unwrap();
    let us = Peer {
        pid: pid(),
        uid: uid(),
    };
    assert_eq!((near.peer(), far.peer()), (Ok(us), Ok(us)));
}

#[test]
fn descriptors_travel_and_work_at_the_other_end() {
    // In a table of its own: no other test takes a number that was just closed.
    let alone = std::thread::spawn(|| {
        private_descriptors().unwrap();
        travel();
    });
    alone.join().unwrap();
}

fn travel() {
    let (near, far) = Stream::pair().unwrap();
    let event = EventFd::new().unwrap();
    near.send(b"take", &[event.fd.as_raw(); 3]).unwrap();
    drop(near);
    let (length, fds) = far.recv(&mut [0; 16]).unwrap();
    assert_eq!((length, fds.len()), (4, 3));
    assert!(fds.iter().all(is_close_on_exec));
    assert!(fds.iter().all(|fd| fd.as_raw() != event.fd.as_raw()));
    event.raise();
    let numbers: Vec<i32> = fds.iter().map(Fd::as_raw).collect();
    let mut fds = fds.into_iter();
    let received = EventFd {
        fd: fds.next().unwrap(),
    };
    assert!(
        received.lower() && !event.lower(),
        "one counter, two numbers"
    );
    drop((received, fds));
    assert!(
        numbers.iter().all(|raw| !is_live(*raw)),
        "dropped is closed"
    );
}

#[test]
fn datagrams_bring_descriptors_too_and_at_most_eight() {
    let name = name();
    let receiver = UnixDatagram::bind(&name).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let raw = sender.fd.as_raw();
    assert_eq!(
        sender.send_to_with(&name, b"x", &[raw; 9]),
        Err(Errno::EINVAL)
    );
    assert_eq!(sender.send_to_with(&name, b"x", &[-1]), Err(Errno::EBADF));
    assert_eq!(sender.send_to_with(&name, b"", &[raw; 8]), Ok(0));
    let (length, fds) = receiver.recv(&mut [0; 16]).unwrap();
    assert_eq!((length, fds.len()), (0, 8));
    assert_eq!(receiver.recv(&mut [0; 16]).err(), Some(Errno::EAGAIN));
}

#[test]
fn a_full_queue_blocks_nobody() {
    let name = name();
    let receiver = UnixDatagram::bind(&name).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let sent = (0..100_000)
        .take_while(|_| sender.send_to(&name, b"x") == Ok(1))
        .count();
    assert_eq!(sender.send_to(&name, b"x"), Err(Errno::EAGAIN));
    let heard = (0..)
        .take_while(|_| receiver.recv(&mut [0; 1]).is_ok())
        .count();
    assert_eq!(heard, sent);
    assert_eq!(sender.send_to(&name, b"x"), Ok(1));
}
