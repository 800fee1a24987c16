//! The testbed itself: hosts are apart, links join them, nothing stays.

use std::path::Path;
use std::time::Duration;

use flexcast_testbed::World;

const SEND: &str = "import socket,sys
s=socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET,socket.SOCK_DGRAM)
s.settimeout(1)
s.connect((sys.argv[1],9)); s.send(b'x'); s.recv(1)";

#[test]
fn a_link_joins_two_hosts_and_no_third() {
    let Some(world) = World::enter("a_link_joins_two_hosts_and_no_third") else {
        return;
    };
    let (a, b, c) = (world.host("a"), world.host("b"), world.host("c"));
    world.link((&a, "10.0.0.1/24"), (&b, "10.0.0.2/24"));
    world.link((&a, "2001:db8::1/64"), (&b, "2001:db8::2/64"));
    for (host, address, reaches) in [
        (&a, "10.0.0.2", true),
        (&b, "2001:db8::1", true),
        (&c, "10.0.0.2", false),
    ] {
        let output = host.command("python3").args(["-c", SEND, address]).output();
        let error = String::from_utf8(output.unwrap().stderr).unwrap();
        // A port that nobody has answers with an ICMP error only if reached.
        let unreachable = error.contains("Network is unreachable");
        assert_eq!(
            !unreachable,
            reaches,
            "{} to {address}: {error}",
            host.name()
        );
    }
}

#[test]
fn what_is_dropped_is_ended_and_reaped() {
    let Some(world) = World::enter("what_is_dropped_is_ended_and_reaped") else {
        return;
    };
    let host = world.host("a");
    let mut short = host.start("true", &[]);
    assert!(short.await_end(Duration::from_secs(5)).success());
    let long = host.start("sleep", &["60"]);
    let gone = [host.pid(), long.pid()].map(|pid| format!("/proc/{pid}"));
    assert!(gone.iter().all(|path| Path::new(path).exists()));
    drop((long, host));
    assert!(gone.iter().all(|path| !Path::new(path).exists()));
}

#[test]
#[should_panic(expected = "no test is called")]
fn a_name_that_no_test_has_is_noticed() {
    let _ = World::enter("no_such_test_anywhere");
}
