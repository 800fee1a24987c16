//! Programs that fork: sockets that a parent and its children hold behave as UDP sockets
//! do, and the last one's close is the close. In C: the threads of a Rust test and fork
//! do not mix. What is to happen stands in `programs/shared.c` (who receives) and in
//! `programs/served.c` (who sends).

use std::process::Command;

use flexcast_testbed::World;

mod support;

use support::{compile, run, As};

/// Runs scenarios of a program one by one, by the kernel's path and through user space.
fn scenarios(test: &str, program: &str, names: &[&str], paths: &[&str]) {
    let Some(_world) = World::enter(test) else {
        return;
    };
    let built = compile(test, program, As::C);
    for name in names {
        for path in paths {
            let mut command = Command::new(&built);
            command.arg(name).env("FLEXCAST_PATH", path);
            let all_right = format!("{program}: all right\n");
            assert_eq!(run(&mut command), all_right, "{name}, {path}");
        }
    }
}

#[test]
fn a_child_goes_on_where_its_parent_closes_a_receiver() {
    let test = "a_child_goes_on_where_its_parent_closes_a_receiver";
    scenarios(test, "shared", &["closes", "closes-plainly"], &["kernel"]);
}

#[test]
fn a_child_goes_on_where_its_parent_ends() {
    let test = "a_child_goes_on_where_its_parent_ends";
    let ways = ["exit", "_exit", "killed", "daemon", "handed-down"];
    scenarios(test, "shared", &ways, &["kernel"]);
}

#[test]
fn a_parent_goes_on_whatever_its_children_do() {
    let test = "a_parent_goes_on_whatever_its_children_do";
    scenarios(test, "shared", &["child"], &["kernel", "user"]);
}

#[test]
fn parent_and_child_share_a_stream_and_both_hear_its_end() {
    let test = "parent_and_child_share_a_stream_and_both_hear_its_end";
    scenarios(test, "shared", &["both", "refused"], &["kernel", "user"]);
}

#[test]
fn what_a_child_sends_on_an_accepted_socket_reaches_all_and_the_last_one_ends_it() {
    let test = "what_a_child_sends_on_an_accepted_socket_reaches_all_and_the_last_one_ends_it";
    let ways = ["a-child-each", "all-hold", "nobody-is-left"];
    scenarios(test, "served", &ways, &["kernel", "user"]);
}
