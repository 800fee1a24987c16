//! The process's own questions, asked of a live kernel.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::raw::{call, int};
use crate::{is_live, Errno, Family, Fd, UdpSocket};

const PATIENCE_US: u64 = 2_000_000;

#[test]
fn a_private_table_is_out_of_reach_for_the_rest_of_the_process() {
    let shared = EventFd::new().unwrap();
    let raw = shared.fd.as_raw();
    let (tell, told) = mpsc::channel();
    let (go, on) = mpsc::channel::<()>();
    let worker = thread::spawn(move || {
        private_descriptors().unwrap();
        // Empty: the first number is 0, and the shared one is not here.
        let emptied = !is_live(raw) && !is_live(0);
        let own = EventFd::new().unwrap();
        tell.send((emptied, own.fd.as_raw(), tid())).unwrap();
        on.recv().unwrap();
        own.raise();
        own.lower()
    });
    let (emptied, own, tid) = told.recv().unwrap();
    assert!(emptied);
    assert_eq!(own, 0, "numbers start anew");
    assert!(is_live(raw), "ours is as it was");
    // What we do to its number here, and to all that we have, changes nothing there.
    assert_eq!(count_entries(format!("/proc/self/task/{tid}/fd")), Ok(1));
    go.send(()).unwrap();
    assert!(worker.join().unwrap(), "its descriptor lives");
}

#[test]
fn a_private_table_reaches_the_processs_descriptors_by_pidfd() {
    let event = EventFd::new().unwrap();
    let raw = event.fd.as_raw();
    let reached = thread::spawn(move || {
        private_descriptors().unwrap();
        let process = pidfd_open(pid()).unwrap();
        let missing = pidfd_getfd(&process, 1_000_000).err();
        let theirs = EventFd {
            fd: pidfd_getfd(&process, raw).unwrap(),
        };
        theirs.raise();
        missing
    });
    assert_eq!(reached.join().unwrap(), Some(Errno::EBADF));
    assert!(event.lower());
    assert_eq!(pidfd_open(i32::MAX).err(), Some(Errno::ESRCH));
}

#[test]
fn a_threads_own_table_is_reached_by_its_thread_id() {
    let (tell, told) = mpsc::channel();
    let (go, on) = mpsc::channel::<()>();
    let worker = thread::spawn(move || {
        private_descriptors().unwrap();
        let own = EventFd::new().unwrap();
        tell.send((tid(), own.fd.as_raw())).unwrap();
        on.recv().unwrap();
        own.lower()
    });
    let (tid, raw) = told.recv().unwrap();
    match pidfd_open_thread(tid) {
        Ok(thread) => {
            let fd = pidfd_getfd(&thread, raw).unwrap();
            EventFd { fd }.raise();
            go.send(()).unwrap();
            assert!(worker.join().unwrap());
        }
        // Before 6.9.
        Err(errno) => {
            assert_eq!(errno, Errno::EINVAL);
            go.send(()).unwrap();
            assert!(!worker.join().unwrap());
        }
    }
}

#[test]
fn a_closed_descriptor_is_closed_once() {
    // In a table of its own: no other test takes a number that was just closed.
    let alone = thread::spawn(|| {
        private_descriptors().unwrap();
        close_once();
    });
    alone.join().unwrap();
}

fn close_once() {
    let event = EventFd::new().unwrap();
    let copy = event.fd.dup_above(500).unwrap();
    assert!(copy.as_raw() >= 500);
    let raw = copy.as_raw();
    drop(copy);
    assert!(!is_live(raw) && is_live(event.fd.as_raw()));
    let kept = event.fd.into_raw();
    assert!(is_live(kept));
    drop(Fd::from_raw(kept));
    assert!(!is_live(kept));
}

#[test]
fn epoll_tells_which_descriptor_is_ready_until_it_is_read() {
    let set = Epoll::new().unwrap();
    let (first, second) = (EventFd::new().unwrap(), EventFd::new().unwrap());
    set.add(first.fd.as_raw(), 11, Interest::READ).unwrap();
    set.add(second.fd.as_raw(), u64::MAX, Interest::READ)
        .unwrap();
    let raw = first.fd.as_raw();
    assert_eq!(set.add(raw, 1, Interest::READ), Err(Errno::EEXIST));
    let mut events = Events::new(8);
    assert_eq!(set.wait(&mut events, Some(0)), Ok(0));
    second.raise();
    for _ in 0..2 {
        assert_eq!(set.wait(&mut events, Some(PATIENCE_US)), Ok(1));
        let event = events.iter().next().unwrap();
        assert_eq!(event.token, u64::MAX);
        assert!(event.is_readable() && !event.is_writable());
    }
    assert!(second.lower() && !second.lower());
    assert_eq!(set.wait(&mut events, Some(0)), Ok(0));
    assert_eq!(events.iter().count(), 0);
    set.modify(raw, 12, Interest::BOTH).unwrap();
    assert_eq!(set.wait(&mut events, Some(PATIENCE_US)), Ok(1));
    let event = events.iter().next().unwrap();
    assert!(event.token == 12 && event.is_writable() && !event.is_readable());
    set.remove(raw).unwrap();
    assert_eq!(set.remove(raw), Err(Errno::ENOENT));
    assert_eq!(set.wait(&mut events, Some(0)), Ok(0));
}

#[test]
fn waits_last_as_long_as_told_below_a_millisecond_too() {
    let set = Epoll::new().unwrap();
    let mut events = Events::new(1);
    for us in [300, 2_000, 2_500] {
        let before = boottime_us();
        assert_eq!(set.wait(&mut events, Some(us)), Ok(0));
        assert!(boottime_us() - before >= us, "{us}");
        let before = boottime_us();
        assert_eq!(poll(&mut [], Some(us)), Ok(0));
        assert!(boottime_us() - before >= us, "{us}");
        let before = boottime_us();
        sleep_us(us);
        assert!(boottime_us() - before >= us, "{us}");
    }
}

#[test]
fn a_negative_descriptor_is_not_polled() {
    let event = EventFd::new().unwrap();
    event.raise();
    let mut fds = [
        PollFd::new(-1, PollFd::IN),
        PollFd::new(event.fd.as_raw(), PollFd::IN | PollFd::OUT),
    ];
    assert_eq!(poll(&mut fds, None), Ok(1));
    assert!(!fds[0].is_readable() && fds[1].is_readable() && fds[1].is_writable());
}

#[test]
fn signals_are_read_where_they_were_blocked_and_come_back_after() {
    let outcome = thread::spawn(|| {
        let before = block_signals();
        let blocked = block_signals();
        restore_signals(before);
        let read = SignalFd::new(&[libc::SIGUSR2]).unwrap();
        let quiet = read.read();
        let (process, thread) = (int(pid()), int(tid()));
        let arguments = [process, thread, int(libc::SIGUSR2), 0, 0, 0];
        // SAFETY: integers only; to this very thread, whose mask holds it back.
        let sent = unsafe { call(libc::SYS_tgkill, arguments) };
        (blocked, quiet, sent, read.read(), read.read())
    });
    let (blocked, quiet, sent, heard, after) = outcome.join().unwrap();
    let left_open = SignalMask::of(&[32, 33, libc::SIGKILL, libc::SIGSTOP]).0;
    assert_eq!(blocked.0 | left_open, u64::MAX);
    assert_eq!(blocked.0 & SignalMask::of(&[32, 33]).0, 0);
    assert_eq!((quiet, sent), (None, Ok(0)));
    assert_eq!((heard, after), (Some(libc::SIGUSR2), None));
}

#[test]
fn a_mask_holds_signals_1_to_64_and_no_others() {
    assert_eq!(SignalMask::of(&[1, 64]).0, 1 | 1 << 63);
    assert_eq!(SignalMask::of(&[0, -1, 65, i32::MIN]).0, 0);
}

#[test]
fn the_hosts_addresses_are_local_and_others_are_not() {
    let addresses = local_addresses().unwrap();
    assert!(addresses.contains(&"127.0.0.1".parse().unwrap()));
    for (address, local) in [
        ("127.0.0.1", true),
        ("127.99.0.1", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("192.0.2.77", false),
        ("2001:db8::77", false),
    ] {
        assert_eq!(is_local(address.parse().unwrap()), Ok(local), "{address}");
    }
}

#[test]
fn all_sockets_of_a_port_are_found_members_of_a_group_too() {
    for family in [Family::V4, Family::V6] {
        let group: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::new(family).unwrap()).collect();
        let mut at = SocketAddr::new(family.loopback(), 0);
        for socket in &group {
            socket.set_reuse_port(true).unwrap();
            socket.bind(at).unwrap();
            at = socket.local_addr().unwrap();
        }
        let mut expected: Vec<u64> = group.iter().map(UdpSocket::cookie).collect();
        let mut found = udp_sockets(at.port(), family).unwrap();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
        let all = udp_sockets(0, family).unwrap();
        assert!(expected.iter().all(|cookie| all.contains(cookie)));
        drop(group);
        assert_eq!(udp_sockets(at.port(), family), Ok(vec![]));
    }
}

#[test]
fn files_are_read_whole_and_bad_paths_refused() {
    let mut bytes = b"before".to_vec();
    let count = read_file("/proc/self/status", &mut bytes).unwrap();
    assert_eq!(bytes.len(), 6 + count);
    assert!(bytes.starts_with(b"beforeName:"));
    let mut itself = Vec::new();
    read_file("/proc/self/exe", &mut itself).unwrap();
    let exe = std::fs::metadata("/proc/self/exe").unwrap();
    assert_eq!(itself.len() as u64, exe.len());
    assert_eq!(read_file("/no/such/file", &mut bytes), Err(Errno::ENOENT));
    assert_eq!(read_file("a\0b", &mut bytes), Err(Errno::EINVAL));
    assert_eq!(
        read_file([b'a'; 4096], &mut bytes),
        Err(Errno::ENAMETOOLONG)
    );
    assert_eq!(count_entries("/proc/self/exe"), Err(Errno::ENOTDIR));
    let listed = std::fs::read_dir("/proc/self/ns").unwrap().count();
    assert_eq!(count_entries("/proc/self/ns"), Ok(listed));
}

#[test]
fn who_we_are_is_what_the_library_says() {
    assert_eq!(u32::try_from(pid()).unwrap(), std::process::id());
    let same = thread::spawn(|| tid() == pid()).join().unwrap();
    assert!(!same);
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let field = |name: &str, at: usize| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.unwrap().split_whitespace().nth(at).unwrap().to_owned()
    };
    assert_eq!(field("Uid:", 2), uid().to_string());
    let bits = u64::from_str_radix(&field("CapEff:", 1), 16).unwrap();
    let expected = Capabilities {
        net_admin: bits & 1 << 12 != 0,
        net_raw: bits & 1 << 13 != 0,
    };
    assert_eq!(capabilities(), expected);
}

#[test]
fn chance_fills_every_byte_and_does_not_repeat() {
    let mut sums = [0_u32; 300];
    for _ in 0..8 {
        let mut bytes = [0; 300];
        random_fill(&mut bytes).unwrap();
        for (sum, byte) in sums.iter_mut().zip(bytes) {
            *sum += u32::from(byte);
        }
    }
    assert!(sums.iter().all(|sum| *sum > 0));
    assert_ne!(random_u64(), random_u64());
}

#[test]
fn clocks_run_and_a_threads_clock_counts_its_own_work_only() {
    let (boot, real, own) = (boottime_us(), realtime_us(), thread_cpu_ns());
    sleep_us(20_000);
    assert!(boottime_us() >= boot + 20_000);
    assert!(realtime_us() > 1_600_000_000_000_000 && real > 1_600_000_000_000_000);
    assert!(thread_cpu_ns() - own < 20_000_000, "sleeping is no work");
    let before = thread_cpu_ns();
    let mut sum = 0_u64;
    while thread_cpu_ns() == before {
        sum = sum.wrapping_add(1);
    }
    assert!(sum < u64::MAX);
}

#[test]
fn interfaces_are_told_and_a_network_of_ones_own_has_loopback_alone() {
    let name = "process::tests::interfaces_are_told_and_a_network_of_ones_own_has_loopback_alone";
    if flexcast_testbed::World::enter(name).is_none() {
        return;
    }
    let line = "link add v0 mtu 1400 type veth peer name v1";
    let status = std::process::Command::new("ip")
        .args(line.split(' '))
        .status();
    assert!(status.unwrap().success(), "ip {line}");
    let here = || -> Vec<_> {
        let all = interfaces().unwrap().into_iter();
        all.map(|i| (i.name, i.up, i.mtu)).collect()
    };
    let before = here();
    assert!(
        before.contains(&("v0".to_owned(), false, 1400)),
        "{before:?}"
    );
    let veth = interfaces().unwrap().into_iter().find(|i| i.name == "v0");
    assert_eq!(veth.unwrap().computes_checksums, Some(true));
    assert!(interface_index("v0").is_ok_and(|index| index > 1));
    assert_eq!(interface_index("v9"), Err(Errno::ENODEV));
    let there = thread::spawn(|| own_network().and_then(|()| interfaces()));
    let there = there.join().unwrap().unwrap();
    let [lo] = &there[..] else {
        panic!("{there:?}");
    };
    assert_eq!((lo.name.as_str(), lo.up), ("lo", true));
    assert_eq!(here(), before, "this thread has stayed");
}
