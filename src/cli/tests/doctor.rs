//! `flexcast doctor` from outside: what it says of a host that is as it should be, and of
//! one that is broken in each of the ways that it knows.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use flexcast_testbed::{Process, World};
use serde_json::Value;

/// name → verdict and what was found, of each check; the exit code.
type Answer = (i32, BTreeMap<String, Vec<(String, String)>>);

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output();
    let output = output.expect("sh runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn doctor(before: &str, arguments: &str) -> Answer {
    let binary = env!("CARGO_BIN_EXE_flexcast");
    let output = Command::new("sh")
        .args([
            "-c",
            &format!("{before} '{binary}' doctor --json {arguments}"),
        ])
        .env_remove("FLEXCAST_MAP")
        .env("FLEXCAST_PRELOAD", binary)
        .output()
        .expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let mut checks = BTreeMap::<_, Vec<_>>::new();
    for check in json["checks"].as_array().expect("a list") {
        let word = |key: &str| check[key].as_str().expect("a string").to_owned();
        let good = word("verdict") == "ok";
        assert_eq!(
            good,
            word("remedy").is_empty(),
            "a remedy where it is needed: {check}"
        );
        let found = (word("verdict"), word("found"));
        checks.entry(word("name")).or_default().push(found);
    }
    let count = |verdict| checks.values().flatten().filter(|c| c.0 == verdict).count();
    assert_eq!(json["faults"], count("fault"));
    assert_eq!(json["warnings"], count("warning"));
    let code = output.status.code().expect("no signal");
    assert_eq!(code, i32::from(json["faults"] != 0), "{json:#}");
    (code, checks)
}

/// The one check of this name.
fn check<'a>(answer: &'a Answer, name: &str) -> (&'a str, &'a str) {
    let found = answer
        .1
        .get(name)
        .unwrap_or_else(|| panic!("{name}: {answer:?}"));
    (&found[0].0, &found[0].1)
}

const LINK: &str = "ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up;
    ip address add 10.0.0.5/24 dev v0";

#[test]
fn an_endpoint_as_it_should_be_has_no_fault_and_a_broken_one_is_told_how() {
    let test = "an_endpoint_as_it_should_be_has_no_fault_and_a_broken_one_is_told_how";
    let Some(_world) = World::enter(test) else {
        return;
    };
    sh(LINK);
    let map = "--map '239.1.0.0/16=10.0.0.9 239.2.0.0/16=10.0.0.5'";
    let good = doctor("", map);
    assert_eq!(good.0, 0, "{good:?}");
    for name in [
        "kernel",
        "receive-path-ipv4",
        "receive-path-ipv6",
        "pidfd_getfd",
        "sock_diag",
    ] {
        assert_eq!(check(&good, name).0, "ok", "{good:?}");
    }
    for name in ["udp-segment", "udp-gro", "port", "map", "threads"] {
        assert_eq!(check(&good, name).0, "ok", "{good:?}");
    }
    let senders = &good.1["sender"];
    assert_eq!(senders[0].1, "10.0.0.5 is this host");
    assert!(
        senders[1].1.contains("10.0.0.9: there is a route"),
        "{senders:?}"
    );

    sh("ip link set v0 mtu 1300");
    let narrow = doctor("", map);
    assert_eq!(narrow.1["sender"][1].0, "warning", "{narrow:?}");
    let nowhere = doctor("", "--map 239.1.0.0/16=10.1.0.9");
    assert_eq!((nowhere.0, check(&nowhere, "sender").0), (1, "fault"));
    let wrong = doctor("", "--map 239.1.0.0/16=10.1.0.999");
    assert!(check(&wrong, "map").1.contains("10.1.0.999"), "{wrong:?}");
    assert_eq!((wrong.0, check(&wrong, "map").0), (1, "fault"));
    let few = doctor("ulimit -n 64;", "");
    assert_eq!(check(&few, "descriptors"), ("warning", "64 a process"));
    let closed = doctor("FLEXCAST_PRELOAD=/nowhere.so", "");
    assert_eq!((closed.0, check(&closed, "library").0), (1, "fault"));

    let holder = UdpSocket::bind("0.0.0.0:7450").unwrap();
    let held = doctor("", "");
    let (verdict, found) = check(&held, "port");
    assert!(
        verdict == "warning" && found.contains(&std::process::id().to_string()),
        "{held:?}"
    );
    drop(holder);
    sh("ip link set lo down");
    let silent = doctor("", "");
    let (verdict, found) = check(&silent, "receive-path-ipv4");
    assert!(
        verdict == "warning" && found.contains("could not be tried"),
        "{found}"
    );
}

#[test]
fn a_relays_host_is_told_what_is_missing_and_nothing_is_changed() {
    let test = "a_relays_host_is_told_what_is_missing_and_nothing_is_changed";
    let Some(_world) = World::enter(test) else {
        return;
    };
    sh(LINK);
    let network =
        "ip rule; ip -6 rule; ip link; ip address; nft list ruleset; ip route show table all";
    let before = sh(network);
    let still = doctor("", "--relay");
    assert_eq!(
        (still.0, check(&still, "ipv4-forwarding-off").0),
        (1, "fault")
    );
    assert_eq!(check(&still, "ipv6-forwarding-off").0, "warning");
    assert_eq!(sh(network), before, "nothing was changed");

    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let good = doctor("", "--relay");
    assert_eq!(good.0, 0, "{good:?}");
    for name in [
        "capabilities",
        "capture",
        "port",
        "forwarding",
        "src-valid-mark",
    ] {
        assert_eq!(check(&good, name).0, "ok", "{good:?}");
    }
    for name in ["policy-rules", "rp-filter", "links"] {
        assert_eq!(check(&good, name).0, "ok", "{good:?}");
    }

    sh(
        "ip rule add fwmark 0x10/0x30 lookup 99; ip link set v0 mtu 1300;
        sysctl -qw net.ipv4.conf.v0.rp_filter=1 net.ipv4.conf.v1.src_valid_mark=1",
    );
    let odd = doctor("", "--relay");
    assert_eq!(odd.0, 0, "{odd:?}");
    let (verdict, found) = check(&odd, "policy-rules");
    assert!(
        verdict == "warning" && found.contains("fwmark 0x10/0x30 lookup 99"),
        "{found}"
    );
    let other_bits = doctor("", "--relay --mark 0x500 --mask 0xf00");
    assert_eq!(check(&other_bits, "policy-rules").0, "ok", "{other_bits:?}");
    let (verdict, found) = check(&odd, "rp-filter");
    assert!(verdict == "warning" && found.contains("v0"), "{found}");
    let (verdict, found) = check(&odd, "marked-reverse-path");
    assert!(verdict == "warning" && found.contains("v1"), "{found}");
    assert!(odd.1["links"]
        .iter()
        .any(|(v, f)| v == "warning" && f.contains("MTU 1300")));

    let weak = doctor(
        "setpriv --bounding-set=-net_admin --inh-caps=-net_admin",
        "--relay",
    );
    assert_eq!((weak.0, check(&weak, "capabilities").0), (1, "fault"));

    let mut relay = Command::new(env!("CARGO_BIN_EXE_flexcast"));
    relay.arg("relay").stderr(Stdio::piped());
    let mut relay = Process::start("relay", &mut relay);
    sh("for n in $(seq 100); do
            ss -xl | grep -q @flexcast && break; sleep 0.05
        done");
    let running = doctor("", "--relay");
    let (verdict, found) = check(&running, "port");
    assert!(
        verdict == "ok" && found.contains(&relay.pid().to_string()),
        "{running:?}"
    );
    assert_eq!(
        check(&doctor("", ""), "port").0,
        "warning",
        "senders have no place here"
    );
    sh(&format!("kill {}", relay.pid()));
    assert!(relay
        .await_end(std::time::Duration::from_secs(11))
        .success());
    let holder = UdpSocket::bind("0.0.0.0:7450").unwrap();
    let held = doctor("", "--relay");
    assert_eq!((held.0, check(&held, "port").0), (1, "fault"), "{held:?}");
    drop(holder);
}

#[test]
fn people_read_a_line_a_check_and_a_sum() {
    let output = Command::new(env!("CARGO_BIN_EXE_flexcast"))
        .args(["doctor", "--map", "239.1.0.0/16=nonsense"])
        .env_remove("FLEXCAST_MAP")
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("fault    map "), "{text}");
    assert!(text.contains("remedy: "), "{text}");
    assert!(text.ends_with("1 fault, 0 warnings\n"), "{text}");
}
