//! Each way to D, in a live kernel.

use super::*;
use crate::receive::identity::Bound;
use flexcast_udp::{Family, UdpSocket};
use std::sync::mpsc;

fn bound() -> (UdpSocket, Shared) {
    let socket = UdpSocket::new(Family::V4).unwrap();
    socket
        .bind(std::net::SocketAddr::new(Family::V4.loopback(), 0))
        .unwrap();
    let raw = socket.as_raw();
    let shared = Shared::new(1, Bound::of(raw).unwrap(), raw);
    (socket, shared)
}

/// Runs in a thread with a descriptor table of its own.
fn privately<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            process::private_descriptors().unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_number_that_is_a_strangers_now_does_not_lead_to_the_stranger() {
    let (socket, shared) = bound();
    let number = socket.as_raw();
    let moved = socket.fd.dup_above(500).unwrap();
    drop(socket);
    let stranger = UdpSocket::new(Family::V4).unwrap();
    // Another test's thread may have taken the number: a stranger as well.
    assert!(flexcast_udp::is_live(number));
    let found = privately(|| match Reacher::new().unwrap().reach(&shared) {
        Reach::Found(fd) => shared.bound.identity.is(fd.as_raw()),
        other => panic!("{other:?}"),
    });
    assert!(found);
    drop((moved, stranger));
    let gone = privately(|| matches!(Reacher::new().unwrap().reach(&shared), Reach::NotHere));
    assert!(gone);
}

#[test]
fn where_main_has_left_its_threads_lead_to_the_socket() {
    let (socket, shared) = bound();
    // The harness's own threads share its table: any of them will do.
    let (stop, stopped) = mpsc::channel::<()>();
    let sharer = std::thread::spawn(move || stopped.recv());
    let by = privately(|| match by_threads(&shared) {
        Reach::Found(fd) => Some(shared.bound.identity.is(fd.as_raw())),
        // Before 6.9 no thread can be opened.
        Reach::Refused => None,
        Reach::NotHere => Some(false),
    });
    let thread = process::pidfd_open_thread(process::tid());
    assert_eq!(by, thread.is_ok().then_some(true));
    drop((socket, stop));
    let _ = sharer.join();
}

#[test]
fn a_helper_passes_it_and_says_when_it_is_gone() {
    let (socket, shared) = bound();
    let passer = Passer::start().unwrap();
    let reach = |known: bool| {
        if !known {
            shared.numbers.remove(socket.as_raw());
        }
        privately(|| {
            let mut reacher = Reacher::new().unwrap();
            assert!(matches!(reacher.by_passer(&shared), Reach::Refused));
            reacher.set_passer(passer.clone());
            match reacher.by_passer(&shared) {
                Reach::Found(fd) => shared.bound.identity.is(fd.as_raw()),
                other => panic!("{other:?}"),
            }
        })
    };
    assert!(reach(true));
    assert!(reach(false), "found by its inode");
    drop(socket);
    let gone = privately(|| {
        let mut reacher = Reacher::new().unwrap();
        reacher.set_passer(passer.clone());
        matches!(reacher.by_passer(&shared), Reach::NotHere)
    });
    assert!(gone);
}
