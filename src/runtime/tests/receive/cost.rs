//! What the kernel path costs: nothing of ours per datagram.
//!
//! Promises: counts, not times, so a loaded machine does not fail it. Is not the
//! benchmark (`scripts/bench.sh`).

use std::os::fd::AsRawFd;

use flexcast_runtime::receive::Path;
use flexcast_runtime::Untrailed;
use flexcast_udp::process::{Epoll, Events, Interest};

use crate::room::{alone, Room, LIMIT, WAYS};

/// How often the background thread has gone to sleep by itself.
fn sleeps() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    for task in tasks.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name));
        if !read("comm").is_ok_and(|comm| comm.trim() == "flexcast-recv") {
            continue;
        }
        let status = read("status").unwrap();
        let line = status.lines().find(|l| l.starts_with("voluntary"));
        let count = line.and_then(|l| l.split_whitespace().last());
        return count.unwrap().parse().unwrap();
    }
    panic!("no background thread");
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
