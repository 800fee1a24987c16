//! What the kernel path costs: nothing of ours per datagram.
//!
//! Promises: counts, not times, so a loaded machine does not fail it. Is not the
//! benchmark (`scripts/bench.sh`).

use std::os::fd::AsRawFd;

use flexcast_runtime::receive::{Path, ReceivingSocket};
use flexcast_runtime::Untrailed;
use flexcast_udp::process::{Epoll, Events, Interest};

use crate::room::{alone, asking, settings, until, Room, LIMIT, WAYS};

/// The background thread's directory in /proc.
fn background() -> std::path::PathBuf {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut tasks = tasks.flatten().map(|task| task.path());
    let ours = tasks.find(|task| {
        let comm = std::fs::read_to_string(task.join("comm"));
        comm.is_ok_and(|comm| comm.trim() == "flexcast-recv")
    });
    ours.expect("a background thread")
}

/// How often the background thread has gone to sleep by itself.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string(background().join("status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("voluntary"));
    let count = line.and_then(|l| l.split_whitespace().last());
    count.unwrap().parse().unwrap()
}

/// Descriptors in a table.
fn descriptors(directory: &std::path::Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn nothing_of_ours_stands_in_the_programs_table_and_nothing_is_left_behind() {
    if !alone("cost::nothing_of_ours_stands_in_the_programs_table_and_nothing_is_left_behind") {
        return;
    }
    let node = crate::node::Node::new("127.0.0.1");
    let own = std::path::Path::new("/proc/thread-self/fd");
    let mut before = 0;
    for n in 0..60 {
        let path = [Path::Kernel, Path::User][n % 2];
        let d = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let theirs = descriptors(own);
        let socket =
            ReceivingSocket::adopt(d.as_raw_fd(), &settings(&node, path), Untrailed::Drop).unwrap();
        for id in 1..4 {
            socket.join(node.channel(id), asking(&node)).unwrap();
        }
        assert_eq!(descriptors(own), theirs);
        drop(d);
        assert!(socket.closed());
        // After the first of each path all that stays is made.
        if n == 1 {
            until("its leaves are over", || node.leaves(node.channel(3)) >= 2);
            std::thread::sleep(std::time::Duration::from_millis(500));
            before = descriptors(&background().join("fd"));
        }
    }
    until("all are over", || {
        descriptors(&background().join("fd")) <= before
    });
}

#[test]
fn the_background_thread_sleeps_while_the_stream_runs() {
    if !alone("cost::the_background_thread_sleeps_while_the_stream_runs") {
        return;
    }
    let counted = |path| {
        let room = Room::new(WAYS[0], path, Untrailed::Drop);
        let channel = room.granted(1);
        let before = sleeps();
        for n in 0..2_000_u32 {
            room.passes(channel, &n.to_be_bytes());
        }
        sleeps() - before
    };
    let kernel = counted(Path::Kernel);
    // Heartbeats come every 100 ms here.
    assert!(kernel < 100, "{kernel}");
    let user = counted(Path::User);
    assert!(user > 500, "the positive control: {user}");
}

#[test]
fn an_edge_triggered_reader_is_woken_by_the_stream_alone() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    let channel = room.granted(1);
    let epoll = Epoll::new().unwrap();
    let edge = Interest(Interest::READ.0 | 1 << 31); // EPOLLET
    epoll.add(room.d.as_raw_fd(), 1, edge).unwrap();
    let mut events = Events::new(4);
    let limit = u64::try_from(LIMIT.as_micros()).unwrap();
    for n in 0..20_u8 {
        for forged in 0..5 {
            let bytes = crate::node::data(&[forged], 1234);
            room.node.say(room.d_at(), &bytes);
        }
        assert_eq!(epoll.wait(&mut events, Some(0)), Ok(0), "no wake-up");
        assert_eq!(room.node.send(channel, &[n]), 1);
        assert_eq!(epoll.wait(&mut events, Some(limit)), Ok(1));
        assert_eq!(room.recv().0, [n]);
    }
}
