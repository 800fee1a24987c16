//! A sending program sees the same answers with the kernel's multicast and with us:
//! every call that we take, beside the same call on what we leave alone.
//!
//! `programs/calls.c` prints what each call answers. Run natively in a world with a
//! multicast route it says what is right; under the library it must say the same,
//! whoever the rules make the sender, with the route and without.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use flexcast_testbed::World;

mod support;

use support::{ip, lay_link};

/// group, port, unicast address to listen at, prefix of the rules.
const FAMILIES: [(&str, &str, &str); 3] = [
    ("239.1.1.1", "127.0.0.1", "239.1.0.0/16"),
    ("::ffff:239.1.1.1", "::ffff:127.0.0.1", "239.1.0.0/16"),
    ("ff3e::8000:1", "::1", "[ff3e::8000:0]/112"),
];
const OWN: [&str; 2] = ["10.0.0.5", "[2001:db8::5]"];
const OTHERS: [&str; 2] = ["10.0.0.9", "[2001:db8::9]"];

const ROUTES: [&str; 2] = [
    "route replace 224.0.0.0/4 dev v0",
    "-6 route replace multicast ff3e::/16 dev v0 table local",
];

fn run(mut command: Command, family: (&str, &str, &str)) -> String {
    let (group, unicast, _) = family;
    let command = command.args([group, "5000", unicast]);
    support::finish(command, Duration::from_secs(20))
}

fn compare(library: &Path, program: &Path, family: (&str, &str, &str), rule: &str, right: &str) {
    let command = support::preloaded(library, Some(rule), program);
    let said = run(command, family);
    for (n, (said, right)) in said.lines().zip(right.lines()).enumerate() {
        assert_eq!(said, right, "line {} of {family:?} under {rule}", n + 1);
    }
    assert_eq!(said.lines().count(), right.lines().count(), "{rule}");
}

#[test]
fn a_sending_program_sees_what_the_kernels_multicast_would_show() {
    let library = support::library();
    let test = "a_sending_program_sees_what_the_kernels_multicast_would_show";
    let Some(_world) = World::enter(test) else {
        return;
    };
    lay_link();
    let program = support::program("calls.c", &[]);
    for (n, family) in FAMILIES.into_iter().enumerate() {
        ROUTES.into_iter().for_each(ip);
        let right = run(Command::new(&program), family);
        assert!(right.lines().count() > 100, "{right}");
        let (range, at) = (family.2, usize::from(n == 2));
        let mapped = [
            format!("{range}={}", OWN[at]),
            format!("{range}=self"),
            range.to_owned(),
            format!("{range}={}", OTHERS[at]),
            // A group that is named, on a port that is not.
            format!("{range}:6000=self"),
        ];
        let alone = [
            "239.9.0.0/16=self [ff3e::9:0]/112=self".to_owned(),
            format!("{range}=self,role=off"),
        ];
        for rule in mapped.iter().chain(&alone) {
            compare(&library, &program, family, rule, &right);
        }
        if family.1.contains('.') {
            ip("route delete 224.0.0.0/4");
            for rule in &mapped {
                compare(&library, &program, family, rule, &right);
            }
            // Without a rule the network's lack of multicast is not hidden.
            let said = run(
                support::preloaded(&library, Some(&alone[0]), &program),
                family,
            );
            assert!(said.contains("sendto: ENETUNREACH"), "{said}");
        }
    }
}
