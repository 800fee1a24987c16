//! A receiving program sees the same answers with the kernel's multicast and with us:
//! every shape of joining, leaving and filtering, names, options, errors, addresses.
//!
//! `programs/joins.c` prints what each call answers, and whether what it sends to the
//! group arrives. Run natively in a world with a multicast route it says what is
//! right; under the library, without that route, it must say the same.

use std::process::Command;
use std::time::Duration;

use flexcast_testbed::World;

mod support;

use support::{ip, lay_link};

/// group, source: IPv4, IPv4 on an IPv6 socket, IPv6.
const FAMILIES: [(&str, &str); 3] = [
    ("239.1.1.1", "10.0.0.5"),
    ("::ffff:239.1.1.1", "::ffff:10.0.0.5"),
    ("ff3e::8000:1", "2001:db8::5"),
];
const MAP: &str = "239.1.0.0/16=10.0.0.5 [ff3e::8000:0]/112=[2001:db8::5]";
const LIMIT: Duration = Duration::from_secs(100);

/// Holds what the program says under the library against what it says natively.
fn compare(test: &str, topic: &str, families: &[(&str, &str)], path: Option<&str>) {
    let library = support::library();
    let Some(_world) = World::enter(test) else {
        return;
    };
    lay_link();
    let program = support::program("joins.c", &[]);
    for (group, source) in families {
        let arguments = [topic, group, "5000", source];
        ip("route add 224.0.0.0/4 dev v0");
        ip("-6 route replace multicast ff3e::/16 dev v0 table local");
        let right = support::finish(Command::new(&program).args(arguments), LIMIT);
        assert!(right.lines().count() > 30, "{right}");
        assert!(!right.contains("nothing arrives"), "{right}");
        ip("route delete 224.0.0.0/4 dev v0");
        ip("-6 route delete multicast ff3e::/16 dev v0 table local");
        let mut command = support::preloaded(&library, Some(MAP), &program);
        if let Some(path) = path {
            command.env("FLEXCAST_PATH", path);
        }
        let said = support::finish(command.args(arguments), LIMIT);
        for (n, (said, right)) in said.lines().zip(right.lines()).enumerate() {
            assert_eq!(said, right, "line {} of {topic}, {group}", n + 1);
        }
        assert_eq!(said.lines().count(), right.lines().count(), "{group}");
    }
}

#[test]
fn joins_leaves_and_filters_answer_as_the_kernel() {
    let test = "joins_leaves_and_filters_answer_as_the_kernel";
    compare(test, "options", &FAMILIES, None);
}

#[test]
fn a_join_before_the_bind_waits_for_its_port() {
    let test = "a_join_before_the_bind_waits_for_its_port";
    compare(test, "late", &FAMILIES, None);
}

#[test]
fn every_shape_of_joining_gets_the_stream_until_it_leaves() {
    let test = "every_shape_of_joining_gets_the_stream_until_it_leaves";
    compare(test, "shapes", &FAMILIES, None);
}

#[test]
fn sources_are_heard_as_they_are_added_dropped_blocked_and_filtered() {
    let test = "sources_are_heard_as_they_are_added_dropped_blocked_and_filtered";
    compare(test, "sources", &FAMILIES, None);
}

#[test]
fn names_and_options_read_as_the_program_set_them() {
    let test = "names_and_options_read_as_the_program_set_them";
    compare(test, "names", &FAMILIES, None);
}

#[test]
fn what_was_set_before_the_join_holds_after_it() {
    let test = "what_was_set_before_the_join_holds_after_it";
    compare(test, "copied", &FAMILIES, None);
}

#[test]
fn duplicates_and_epoll_registrations_are_carried_over() {
    let test = "duplicates_and_epoll_registrations_are_carried_over";
    compare(test, "numbers", &FAMILIES, None);
}

#[test]
fn every_receive_call_shows_the_senders_own_address() {
    let test = "every_receive_call_shows_the_senders_own_address";
    compare(test, "calls", &FAMILIES, None);
}

#[test]
fn a_connected_receiver_hears_its_peer_alone() {
    // The kernel refuses to connect an IPv6 socket that is bound to an IPv4 group.
    let families = [FAMILIES[0], FAMILIES[2]];
    let test = "a_connected_receiver_hears_its_peer_alone";
    compare(test, "connect", &families, None);
}

#[test]
fn a_socket_that_sends_to_its_own_group_hears_itself_as_the_loop_option_says() {
    let test = "a_socket_that_sends_to_its_own_group_hears_itself_as_the_loop_option_says";
    // Of an IPv6 socket's two options the kernel goes by one, we by the other.
    compare(test, "own", &[FAMILIES[0], FAMILIES[2]], None);
}

#[test]
fn the_path_through_user_space_shows_the_same() {
    let test = "the_path_through_user_space_shows_the_same";
    compare(test, "calls", &FAMILIES, Some("user"));
}

#[test]
fn sources_are_told_apart_on_the_path_through_user_space() {
    let test = "sources_are_told_apart_on_the_path_through_user_space";
    compare(test, "sources", &FAMILIES, Some("user"));
}
