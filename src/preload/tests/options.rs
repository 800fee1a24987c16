//! Whatever is asked of a socket that has joined a mapped group reads as if the kernel
//! had joined it: nothing of what we do to it shows (`programs/options.c`).

use std::process::Command;
use std::time::Duration;

use flexcast_testbed::World;

mod support;

use support::{ip, lay_link};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn every_option_of_a_joined_socket_reads_as_in_the_kernel() {
    let library = support::library();
    let test = "every_option_of_a_joined_socket_reads_as_in_the_kernel";
    let Some(_world) = World::enter(test) else {
        return;
    };
    lay_link();
    for line in [
        "route add 224.0.0.0/4 dev v0",
        "-6 route replace multicast ff3e::/16 dev v0 table local",
    ] {
        ip(line);
    }
    let program = support::program("options.c", &[]);
    let map = "239.1.0.0/16=10.0.0.9 [ff3e::8000:0]/112=2001:db8::9";
    for group in ["239.1.1.1", "ff3e::8000:1"] {
        for ways in [&[][..], &["reuse"], &["reuse", "at-group"]] {
            let right = support::finish(Command::new(&program).arg(group).args(ways), LIMIT);
            assert!(right.contains("bind: 0\njoin: 0\n"), "{right}");
            let mut command = support::preloaded(&library, Some(map), &program);
            let said = support::finish(command.arg(group).args(ways), LIMIT);
            let lines = said.lines().zip(right.lines());
            let other: Vec<_> = lines.filter(|(said, right)| said != right).collect();
            assert!(other.is_empty(), "{group} {ways:?}: {other:?}");
            assert_eq!(said.lines().count(), right.lines().count());
        }
    }
}
