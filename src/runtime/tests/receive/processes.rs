//! Receiving sockets in several processes: side by side, shared, handed over; and in
//! a sandbox that refuses `pidfd_getfd` (Docker's seccomp filter does).
//!
//! A test's other processes are its own binary, told by the environment what to do.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flexcast_runtime::receive::{inherited, Asking, Path, ReceiveSettings, ReceivingSocket};
use flexcast_runtime::{RequesterSettings, Untrailed};
use flexcast_wire::Channel;

use crate::node::Node;
use crate::room::{alone, asking, settings, until, Room, LIMIT, WAYS};

const NODE: &str = "RECEIVE_TEST_NODE";

/// This binary once more, for the one test `name`, with the node's address; D on
/// standard input where there is one.
fn again(name: &str, node: &Node, d: Option<OwnedFd>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(NODE, node.at.to_string())
        .stdin(d.map_or_else(Stdio::null, Stdio::from))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// In the other process: the node that the test told it.
fn told() -> Option<(Asking, ReceiveSettings, Channel)> {
    let at = std::env::var(NODE).ok()?.parse().unwrap();
    let asking = Asking { at, strict: false };
    let settings = ReceiveSettings {
        fp: at.port(),
        path: Path::Kernel,
        requester: RequesterSettings::default(),
    };
    let channel = format!("{}#9", at.ip()).parse().unwrap();
    Some((asking, settings, channel))
}

fn recv(d: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let length = d.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn two_processes_receive_side_by_side() {
    if let Some((asking, settings, channel)) = told() {
        let d = UdpSocket::bind("127.0.0.1:0").unwrap();
        d.set_read_timeout(Some(LIMIT)).unwrap();
        let socket = ReceivingSocket::adopt(d.as_raw_fd(), &settings, Untrailed::Drop).unwrap();
        socket.join(channel, asking).unwrap();
        assert_eq!(recv(&d), b"to all");
        drop(d);
        assert!(socket.closed());
        return;
    }
    let node = Node::new("127.0.0.1");
    let channel = node.channel(9);
    node.open(channel);
    let name = "processes::two_processes_receive_side_by_side";
    let mut others = [again(name, &node, None), again(name, &node, None)];
    until("both", || node.receivers(channel) == 2);
    assert_eq!(node.send(channel, b"to all"), 2);
    for other in &mut others {
        assert!(other.wait().unwrap().success());
    }
    until("nobody", || node.receivers(channel) == 0);
}

#[test]
fn a_socket_that_another_process_holds_does_not_leave_before_that_ends() {
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    let channel = room.granted(1);
    let Room { node, d, socket } = room;
    let theirs = d.as_fd().try_clone_to_owned().unwrap();
    let mut other = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::from(theirs))
        .spawn()
        .unwrap();
    drop(d);
    assert!(!socket.closed());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(node.send(channel, b"kept"), 1);
    assert_eq!(node.leaves(channel), 0);
    other.kill().unwrap();
    other.wait().unwrap();
    until("the leave", || node.receivers(channel) == 0);
    assert!(socket.closed());
}

#[test]
fn a_successor_takes_a_socket_over_with_its_nonce() {
    if let Some((asking, settings, channel)) = told() {
        let stdin = std::io::stdin();
        let socket = ReceivingSocket::adopt(stdin.as_raw_fd(), &settings, Untrailed::Drop).unwrap();
        socket.join(channel, asking).unwrap();
        // Until it is killed.
        std::thread::sleep(Duration::from_secs(20));
        return;
    }
    let node = Node::new("127.0.0.1");
    let channel = node.channel(9);
    let token = node.open(channel);
    let d = UdpSocket::bind("127.0.0.1:0").unwrap();
    d.set_read_timeout(Some(LIMIT)).unwrap();
    let theirs = d.as_fd().try_clone_to_owned().unwrap();
    let name = "processes::a_successor_takes_a_socket_over_with_its_nonce";
    let mut first = again(name, &node, Some(theirs));
    until("the first is granted", || {
        let left = inherited(d.as_raw_fd());
        left.is_some_and(|left| left.channels.iter().any(|c| c.token == Some(token)))
    });
    node.send(channel, b"one");
    assert_eq!(recv(&d), b"one");
    first.kill().unwrap();
    first.wait().unwrap();
    node.send(channel, b"two");
    assert_eq!(recv(&d), b"two", "the filter goes on without us");

    let left = inherited(d.as_raw_fd()).unwrap();
    let before = node.requests();
    let settings = settings(&node, Path::Kernel);
    let socket = ReceivingSocket::adopt(d.as_raw_fd(), &settings, Untrailed::Drop).unwrap();
    for inherited in &left.channels {
        let asking = inherited.asking.clone();
        socket.join(inherited.channel, asking).unwrap();
    }
    until("it asks and is heard", || {
        node.requests() > before && socket.report().channels[0].token_known
    });
    assert_eq!(inherited(d.as_raw_fd()).unwrap().nonce, left.nonce);
    assert_eq!(node.receivers(channel), 1, "the same entry");
    node.send(channel, b"three");
    assert_eq!(recv(&d), b"three");
    drop(d);
    assert!(socket.closed());
    until("nobody", || node.receivers(channel) == 0);
}

/// Runs the test `name` once more where one system call answers EPERM: `number`, and
/// (not 0) with this first argument.
fn confined(name: &str, number: u32, argument: u32) {
    // A classic BPF program on struct seccomp_data: number 4, architecture 4,
    // instruction pointer 8, arguments.
    let script = "
import ctypes, os, struct, sys
number, argument = int(sys.argv[1]), int(sys.argv[2])
step = lambda *fields: struct.pack('HBBI', *fields)
program = step(0x20, 0, 0, 0) + step(0x15, 0, 3, number) + step(0x20, 0, 0, 16)
program += step(0x15, 0 if argument else 0, 1 if argument else 0, argument)
program += step(0x06, 0, 0, 0x00050001) + step(0x06, 0, 0, 0x7fff0000)
room = ctypes.create_string_buffer(program)
header = struct.pack('HxxxxxxP', len(program) // 8, ctypes.addressof(room))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, header, 0, 0) == 0
os.execv(sys.argv[3], sys.argv[3:])
";
    let output = Command::new("python3")
        .args(["-c", script, &number.to_string(), &argument.to_string()])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(NODE, "confined")
        .output()
        .expect("python3 is installed");
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "confined: {out}\n{err}");
    assert!(out.contains("1 passed"), "{out}");
}

fn is_confined() -> bool {
    std::env::var_os(NODE).is_some()
}

/// Whether a thread of ours has this name.
fn has_thread(name: &str) -> bool {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.flatten().any(|task| {
        let comm = std::fs::read_to_string(task.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    })
}

#[test]
fn where_pidfd_getfd_is_refused_a_helper_passes_the_socket() {
    if !is_confined() {
        let name = "processes::where_pidfd_getfd_is_refused_a_helper_passes_the_socket";
        // pidfd_getfd, on all architectures.
        return confined(name, 438, 0);
    }
    let own = flexcast_udp::process::pidfd_open(flexcast_udp::process::pid()).unwrap();
    let refused = flexcast_udp::process::pidfd_getfd(&own, 0);
    assert_eq!(refused.err(), Some(flexcast_runtime::Errno::EPERM));
    for path in [Path::Kernel, Path::User] {
        let room = Room::new(WAYS[0], path, Untrailed::Drop);
        let channel = room.granted(1);
        room.passes(channel, b"granted");
        assert!(has_thread("flexcast-pass"));
        // Later changes come from the background thread.
        let old = room.node.open(channel);
        room.node.restart();
        assert_ne!(room.node.open(channel), old);
        until("the new token", || {
            room.node.send(channel, b"new") == 1 && !room.is_quiet()
        });
        // Under a number that nobody told.
        let moved = room.d.try_clone().unwrap();
        let Room { node, d, socket } = room;
        drop(d);
        let second = node.channel(2);
        node.open(second);
        socket.join(second, asking(&node)).unwrap();
        until("the second", || node.send(second, b"second") == 1);
        moved.set_read_timeout(Some(LIMIT)).unwrap();
        while recv(&moved) != b"second" {}
        drop(moved);
        let began = Instant::now();
        assert!(socket.closed());
        assert!(began.elapsed() < Duration::from_millis(500));
    }
}

#[test]
fn where_the_kernel_does_not_list_sockets_our_own_table_says_who_is_gone() {
    if !is_confined() {
        let name =
            "processes::where_the_kernel_does_not_list_sockets_our_own_table_says_who_is_gone";
        // socket(AF_NETLINK, …)
        let number = if cfg!(target_arch = "aarch64") {
            198
        } else {
            41
        };
        return confined(name, number, 16);
    }
    assert!(flexcast_udp::process::local_addresses().is_err());
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    let channel = room.granted(1);
    let twin = room.d.try_clone().unwrap();
    let Room { node, d, socket } = room;
    drop(d);
    assert!(!socket.closed());
    assert_eq!(node.send(channel, b"still"), 1);
    assert_eq!(recv(&twin), b"still");
    drop(twin);
    assert!(socket.closed());
    until("the leave", || node.receivers(channel) == 0);
}

#[test]
fn a_forked_childs_state_is_its_own() {
    if !alone("processes::a_forked_childs_state_is_its_own") {
        return;
    }
    // What a child does first; its parent's threads are not there any more.
    let room = Room::new(WAYS[0], Path::Kernel, Untrailed::Drop);
    let channel = room.granted(1);
    flexcast_runtime::receive::forget_after_fork();
    let settings = settings(&room.node, Path::Kernel);
    let d = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = ReceivingSocket::adopt(d.as_raw_fd(), &settings, Untrailed::Drop).unwrap();
    socket.join(channel, asking(&room.node)).unwrap();
    until("two", || room.node.receivers(channel) == 2);
    room.node.send(channel, b"both");
    assert_eq!(recv(&d), b"both");
    assert_eq!(room.recv().0, b"both");
    drop(d);
    assert!(socket.closed());
    until("one", || room.node.receivers(channel) == 1);
}
