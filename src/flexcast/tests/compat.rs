//! A source that was written for TCP, compiled with `flexcast_compat.h`: as C11, as C++17 and
//! under AddressSanitizer, on both receive paths. Is not the list of what it is given:
//! `programs/compat.c`.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::process::Command;

use flexcast_testbed::World;

mod support;

use support::{compile, run, As};

/// The rules of `programs/compat.c`.
const COMPAT: &str = "127.0.0.0/8:6000-6049=self [::1]:6000-6049=self \
                      127.0.0.1:6050=127.0.0.1+127.0.0.2 127.0.0.1:6051=self,role=off";

#[test]
fn a_source_for_tcp_is_served_as_its_header_says() {
    let Some(_world) = World::enter("a_source_for_tcp_is_served_as_its_header_says") else {
        return;
    };
    for (folder, kind) in [
        ("compat", As::C),
        ("compat-cxx", As::Cxx),
        ("compat-sanitized", As::Sanitized),
    ] {
        let program = compile(folder, "compat", kind);
        for path in ["kernel", "user"] {
            let mut command = Command::new(&program);
            command.env("FLEXCAST_MAP", COMPAT);
            command.env("FLEXCAST_PATH", path);
            // A server that was killed is noticed three of these later.
            command.env("FLEXCAST_HEARTBEAT", "200ms");
            assert_eq!(run(&mut command), "compat: all right\n", "{folder}, {path}");
        }
    }
}

#[test]
fn a_file_gives_a_recompiled_source_its_rules_and_the_port_of_requests() {
    let test = "a_file_gives_a_recompiled_source_its_rules_and_the_port_of_requests";
    let Some(_world) = World::enter(test) else {
        return;
    };
    let program = compile("compat-file", "compat", As::C);
    let file = program.with_file_name("flexcast.toml");
    let rules: Vec<String> = COMPAT.split(' ').map(|rule| format!("{rule:?}")).collect();
    let text = format!(
        "map = [{}]\nport = 7451\nheartbeat = \"200ms\"\n",
        rules.join(", ")
    );
    std::fs::write(&file, text).unwrap();
    // The port that it must not want.
    let _held = UdpSocket::bind(("0.0.0.0", 7450)).unwrap();
    let mut command = Command::new(&program);
    command.env("FLEXCAST_CONFIG", &file);
    assert_eq!(run(&mut command), "compat: all right\n");
    let mut command = Command::new(&program);
    command.env("FLEXCAST_MAP", COMPAT);
    let output = command.output().unwrap();
    assert!(!output.status.success(), "the port is another's");
}

#[test]
fn a_source_for_tcp_is_the_systems_where_no_rule_takes_it() {
    let Some(_world) = World::enter("a_source_for_tcp_is_the_systems_where_no_rule_takes_it")
    else {
        return;
    };
    let program = compile("compat-plain", "compat", As::C);
    let plain = |variable: Option<(&str, &str)>| {
        let mut command = Command::new(&program);
        command.arg("plain").envs(variable);
        let output = command.output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(out, "compat: all right\n", "{variable:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(plain(None), "");
    assert_eq!(plain(Some(("FLEXCAST_MAP", COMPAT))), "");
    let said = plain(Some(("FLEXCAST_MAP", "127.0.0.1:7000=slef")));
    assert!(said.contains("did you mean \"self\"?"), "{said}");
    assert_eq!(said.matches("nothing is mapped").count(), 1, "{said}");
    let said = plain(Some(("FLEXCAST_CONFIG", "/nowhere.toml")));
    assert!(said.contains("FLEXCAST_CONFIG=/nowhere.toml"), "{said}");
}

/// What `FAILS(call(…), ERRNO)` of a program says: `call ERRNO`.
fn failures(program: &str) -> BTreeSet<String> {
    let failure = |line: &str| {
        let line = line.trim().strip_prefix("FAILS(")?.strip_suffix(");")?;
        let (call, errno) = (line.split('(').next()?, line.rsplit(' ').next()?);
        Some(format!("{call} {errno}"))
    };
    program.lines().filter_map(failure).collect()
}

/// What `.TP \" call` and `.B ERRNO` of a page's errors say.
fn rows(page: &str) -> BTreeSet<String> {
    let (_, errors) = page.split_once("\n.SH ERRORS\n").unwrap();
    let errors: Vec<&str> = errors.split("\n.SH ").next().unwrap().lines().collect();
    let row = |pair: &[&str]| {
        let call = pair[0].strip_prefix(".TP \\\" ")?;
        Some(format!("{call} {}", pair[1].strip_prefix(".B ")?))
    };
    errors.windows(2).filter_map(row).collect()
}

#[test]
fn each_error_of_the_page_is_one_that_the_program_causes() {
    let program = include_str!("programs/compat.c");
    // What is not Flexcast's has its errors from the system.
    let (ours, systems) = program
        .split_once("/* The system's own: both ways")
        .unwrap();
    assert!(failures(systems).contains("connect EBADF"));
    let rows = rows(include_str!("../man/flexcast_compat.3"));
    assert!(rows.len() > 15, "{rows:?}");
    assert_eq!(rows, failures(ours));
}
