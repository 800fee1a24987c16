//! A thread that is cancelled while it blocks in a hooked call must not take the
//! process along: glibc's pthread_cancel is a forced unwind, which ends the process
//! where it meets `catch_unwind` or a frame that must not unwind.

use std::time::Duration;

use flexcast_runtime::native::{Receiver, ReceiverSettings};
use flexcast_testbed::World;
use flexcast_wire::{Channel, ChannelId};

mod support;

const WAITING: &str = "239.1.0.0/16=self,empty=wait:1:30";

#[test]
fn a_thread_cancelled_in_a_call_that_we_leave_alone_leaves_the_process_running() {
    let program = support::program("cancel.c", &[]);
    // The test itself must work without us, or it would show nothing.
    let mut native = std::process::Command::new(&program);
    let expected = support::finish(native.arg("foreign"), Duration::from_secs(30));
    assert_eq!(expected.lines().count(), 19, "{expected}");
    for library in support::libraries() {
        for map in [None, Some(WAITING)] {
            let mut command = support::preloaded(&library, map, &program);
            let out = support::finish(command.arg("foreign"), Duration::from_secs(30));
            assert_eq!(out, expected, "{library:?}, {map:?}");
        }
    }
}

#[test]
fn a_thread_cancelled_while_it_accepts_or_serves_leaves_the_process_running() {
    let libraries = support::libraries();
    let test = "a_thread_cancelled_while_it_accepts_or_serves_leaves_the_process_running";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let program = support::program("cancel.c", &[]);
    let channel = Channel::new([127, 0, 0, 1].into(), ChannelId::new(4100).unwrap());
    // It asks, and asks again for the next program, until the test ends.
    std::thread::spawn(move || {
        let mut receiver = Receiver::open(ReceiverSettings::new(channel, 7450)).unwrap();
        loop {
            let _ = receiver.next(Some(Duration::from_millis(50)));
        }
    });
    for library in libraries {
        let mut command = support::preloaded(&library, Some("127.0.0.1:4000-4100"), &program);
        let out = support::finish(command.arg("listens"), Duration::from_secs(30));
        let cancelled = out.lines().filter(|line| line.ends_with(" cancelled"));
        assert_eq!(cancelled.count(), 9, "{library:?}: {out}");
    }
}

#[test]
fn a_thread_cancelled_while_we_wait_leaves_the_process_running() {
    let libraries = support::libraries();
    let test = "a_thread_cancelled_while_we_wait_leaves_the_process_running";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let program = support::program("cancel.c", &[]);
    for library in libraries {
        let mut command = support::preloaded(&library, Some(WAITING), &program);
        let out = support::finish(command.arg("ours"), Duration::from_secs(30));
        let cancelled = out.lines().filter(|line| line.ends_with(" cancelled"));
        assert_eq!(cancelled.count(), 7, "{library:?}: {out}");
    }
}
