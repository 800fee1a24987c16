//! Numbers of the program's descriptor table that change hands, also where no hook
//! sees it, and threads that go at awkward moments: what each call answers is what it
//! answers without us (`programs/descriptors.c`).

use std::process::Command;
use std::time::Duration;

use flexcast_testbed::World;

mod support;

const LIMIT: Duration = Duration::from_secs(20);

/// Runs `what` with multicast of the kernel's, and with us under `map`: the same.
fn compare(test: &str, what: &str, map: &str) {
    let library = support::library();
    let Some(_world) = World::enter(test) else {
        return;
    };
    for line in [
        "address add 10.0.0.5/32 dev lo",
        "route add 224.0.0.0/4 dev lo",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status();
        assert!(status.expect("ip is installed").success(), "ip {line}");
    }
    let program = support::program("descriptors.c", &[]);
    let right = support::finish(Command::new(&program).arg(what), LIMIT);
    assert!(right.lines().count() >= 4, "{right}");
    let mut command = support::preloaded(&library, Some(map), &program);
    assert_eq!(support::finish(command.arg(what), LIMIT), right);
}

#[test]
fn a_number_that_another_file_has_got_is_that_files() {
    let test = "a_number_that_another_file_has_got_is_that_files";
    compare(test, "reused", "239.1.0.0/16=self");
}

#[test]
fn a_number_of_ours_that_the_program_takes_is_the_programs() {
    let test = "a_number_of_ours_that_the_program_takes_is_the_programs";
    compare(test, "taken", "239.1.0.0/16=self");
}

#[test]
fn a_socket_closed_by_a_cancelled_thread_is_closed() {
    let test = "a_socket_closed_by_a_cancelled_thread_is_closed";
    compare(test, "cancelled", "239.1.0.0/16=10.0.0.9");
}

#[test]
fn a_forked_child_runs_until_its_last_thread_ends() {
    let test = "a_forked_child_runs_until_its_last_thread_ends";
    compare(test, "outlived", "239.1.0.0/16=10.0.0.9");
}
