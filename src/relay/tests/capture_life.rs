//! Capture over time: installed, watched, stopped, killed, left behind, removed.
//!
//! Each test lives in a network of its own (`world` draws it). Which packets are
//! captured stands in `capture`.

mod world;

use std::thread::sleep;
use std::time::Duration;

use flexcast_relay::capture::{Capture, CaptureError, Finding, Part, Settings};
use world::{control, enter, holder, run, set, settings, wait_for, World, REQUEST};

/// All that a capture leaves its traces in.
fn traces() -> String {
    run(
        "nft list tables; ip rule; ip -6 rule; ip route show table 7450 2>/dev/null || true; \
         ip -6 route show table 7450 2>/dev/null || true",
    )
}

#[test]
fn what_was_installed_goes_without_a_trace() {
    enter(|| {
        run("ip link set lo up");
        let before = traces();
        let (capture, _) = Capture::install(settings()).expect("installed");
        let during = traces();
        for word in [
            "table inet flexcast",
            "ipproto udp dport 7450",
            "ipproto ipv6-icmp",
            "local default dev lo",
        ] {
            assert!(during.contains(word), "{word} in {during}");
        }
        capture.remove().expect("removed");
        assert_eq!(traces(), before);
        drop(Capture::install(settings()).expect("installed again"));
        assert_eq!(traces(), before);
    });
}

#[test]
fn the_ruleset_reads_as_its_drawing() {
    enter(|| {
        run("ip link set lo up");
        let _capture = Capture::install(settings()).expect("installed");
        let listed = run("nft list ruleset");
        for words in [
            "flags owner",
            "type filter hook prerouting priority mangle; policy accept;",
            "meta l4proto @alive",
            "udp dport 7450 udp sport != 7450",
            "fib daddr type unicast jump capture",
            "ip saddr . th sport . ip daddr @pairs4",
            "ip6 saddr . th sport . ip6 daddr @pairs6",
            "tproxy to :7450 meta mark set meta mark & 0xffffff5f | 0x00000050",
            "type ipv6_addr . inet_service . ipv6_addr",
            "comment \"captured\"",
        ] {
            assert!(listed.contains(words), "{words} in {listed}");
        }
    });
}

#[test]
fn a_stopped_relay_captures_nothing_after_two_seconds() {
    enter(|| {
        let mut world = World::build();
        let (relay, said) = holder(true, &[]);
        assert_eq!(said, "ready");
        sleep(Duration::from_millis(2500));
        assert!(
            world.ask_server("four", &control(REQUEST)).is_relay(),
            "renewed"
        );
        relay.signal("STOP");
        assert!(
            world.ask_server("four", &control(REQUEST)).is_relay(),
            "for two seconds more"
        );
        sleep(Duration::from_millis(2050));
        assert!(
            world.ask_server("four", &control(REQUEST)).is_server(),
            "stopped"
        );
        assert!(
            world.ask_server("six", &control(REQUEST)).is_server(),
            "stopped"
        );
        relay.signal("CONT");
        wait_for("capture after waking", || {
            world.ask_server("four", &control(REQUEST)).is_relay()
        });
    });
}

#[test]
fn a_killed_relay_captures_nothing_from_then_on_and_the_next_finds_its_rules() {
    enter(|| {
        let mut world = World::build();
        let (relay, said) = holder(true, &[]);
        assert_eq!(said, "ready");
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
        let rules = run("ip rule; ip -6 rule");
        relay.kill();
        assert!(world.ask_server("four", &control(REQUEST)).is_server());
        assert_eq!(
            run("ip rule; ip -6 rule"),
            rules,
            "rules outlive the process"
        );
        let (capture, findings) = Capture::install(settings()).expect("installed");
        assert_eq!(findings, []);
        assert_eq!(run("ip rule; ip -6 rule"), rules, "none is there twice");
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
        capture.remove().expect("removed");
        assert!(!run("ip rule; ip -6 rule").contains("7450"));
    });
}

#[test]
fn a_second_relay_is_told_whose_the_table_is() {
    enter(|| {
        run("ip link set lo up");
        let (first, said) = holder(true, &[]);
        assert_eq!(said, "ready");
        let before = traces();
        let error = Capture::install(settings())
            .err()
            .expect("taken")
            .to_string();
        assert!(
            error.contains(&format!("process {} (", first.pid())),
            "{error}"
        );
        assert_eq!(traces(), before, "the first one's is untouched");
        let other = Settings {
            table_name: "other".into(),
            mark: 0x60,
            route_table: 99,
            fp: 7451,
            ..settings()
        };
        Capture::install(other)
            .expect("beside it")
            .0
            .remove()
            .expect("removed");
        assert_eq!(traces(), before, "the first one's is untouched");
    });
}

#[test]
fn a_foreign_table_of_that_name_is_left_alone() {
    enter(|| {
        run("ip link set lo up; nft add table inet flexcast");
        let error = Capture::install(settings()).err().expect("taken");
        assert!(matches!(error, CaptureError::TableTaken { .. }), "{error}");
        assert!(
            error.to_string().contains("nft delete table inet flexcast"),
            "{error}"
        );
        assert!(!run("ip rule").contains("7450"), "nothing is left behind");
        run("nft delete table inet flexcast");
        Capture::install(settings()).expect("free now");
    });
}

#[test]
fn without_the_owner_flag_an_abandoned_table_is_replaced_and_a_living_one_is_not() {
    enter(|| {
        let mut world = World::build();
        let (relay, said) = holder(false, &[]);
        assert_eq!(said, "ready");
        assert!(!run("nft list table inet flexcast").contains("owner"));
        relay.kill();
        assert!(
            world.ask_server("four", &control(REQUEST)).is_relay(),
            "for two seconds more"
        );
        let error = Capture::install(settings()).err().expect("still alive");
        assert!(matches!(error, CaptureError::TableTaken { .. }), "{error}");
        sleep(Duration::from_millis(2050));
        assert!(
            world.ask_server("four", &control(REQUEST)).is_server(),
            "dead man's switch"
        );
        let (_capture, findings) = Capture::install(settings()).expect("replaced");
        assert_eq!(
            findings,
            [Finding::ReplacedTable {
                table: "flexcast".into()
            }]
        );
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
    });
}

#[test]
fn a_check_names_what_is_missing_and_restoring_puts_it_back() {
    enter(|| {
        let mut world = World::build();
        let settings = Settings {
            owner: false,
            ..settings()
        };
        let (mut capture, _) = Capture::install(settings).expect("installed");
        let damage = [
            (
                "ip rule del fwmark 0x50/0xf0 ipproto udp dport 7450",
                Part::Ipv4Rules,
            ),
            ("ip rule del fwmark 0x50/0xf0 ipproto icmp", Part::Ipv4Rules),
            (
                "ip -6 rule del fwmark 0x50/0xf0 ipproto ipv6-icmp",
                Part::Ipv6Rules,
            ),
            ("ip route flush table 7450", Part::Ipv4Route),
            ("ip -6 route flush table 7450", Part::Ipv6Route),
            (
                "nft flush chain inet flexcast capture",
                Part::LetThroughRules,
            ),
            ("nft delete table inet flexcast", Part::Table),
        ];
        for (command, part) in damage {
            let state = capture.check().expect("looked");
            assert!(
                state.missing.is_empty() && state.alive,
                "before {command}: {state:?}"
            );
            run(command);
            let missing = capture.check().expect("looked").missing;
            assert_eq!(missing.first(), Some(&part), "after {command}: {missing:?}");
            capture
                .restore()
                .unwrap_or_else(|error| panic!("after {command}: {error}"));
            assert!(
                world.ask_server("four", &control(REQUEST)).is_relay(),
                "after {command}"
            );
            assert!(
                world.ask_server("six", &control(REQUEST)).is_relay(),
                "after {command}"
            );
        }
        run("nft delete table inet flexcast");
        let error = capture.renew().expect_err("gone");
        assert!(
            matches!(error, CaptureError::Gone { part: Part::Table }),
            "{error}"
        );
    });
}

#[test]
fn rules_come_before_those_of_others() {
    enter(|| {
        let mut world = World::build();
        run("ip rule add pref 40 from all lookup 99; ip route add blackhole default table 99");
        let (mut capture, _) = Capture::install(settings()).expect("installed");
        assert!(run("ip rule")
            .contains("39:\tfrom all fwmark 0x50/0xf0 ipproto udp dport 7450 lookup 7450"));
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
        assert_eq!(capture.check().expect("looked").missing, []);
    });
}

#[test]
fn a_used_routing_table_is_refused() {
    enter(|| {
        run("ip link set lo up; ip route add blackhole default table 7450");
        let before = traces();
        let error = Capture::install(settings()).err().expect("taken");
        assert!(
            matches!(error, CaptureError::RouteTableTaken { table: 7450 }),
            "{error}"
        );
        assert_eq!(traces(), before, "nothing is left behind");
    });
}

#[test]
fn with_loopback_down_the_remedy_is_named_and_nothing_left_behind() {
    enter(|| {
        let before = traces();
        let error = Capture::install(settings()).err().expect("down");
        assert!(error.to_string().contains("ip link set lo up"), "{error}");
        assert_eq!(traces(), before);
        run("ip link set lo up");
        Capture::install(settings()).expect("up");
    });
}

#[test]
fn without_the_capability_its_name_is_told() {
    enter(|| {
        run("ip link set lo up");
        let (_, said) = holder(true, &["setpriv", "--bounding-set", "-net_admin"]);
        assert!(said.contains("CAP_NET_ADMIN"), "{said}");
        let (_, said) = holder(true, &["setpriv", "--bounding-set", "-net_raw"]);
        assert_eq!(said, "ready");
    });
}

#[test]
fn what_stands_in_the_way_is_found() {
    enter(|| {
        run("ip link set lo up");
        set("net/ipv4/ip_forward", "0");
        set("net/ipv6/conf/all/forwarding", "0");
        let wide = Settings {
            mark: 0x4000,
            mask: 0xFF00,
            ..settings()
        };
        let (capture, findings) = Capture::install(wide).expect("installed");
        let names: Vec<_> = findings.iter().map(Finding::name).collect();
        assert_eq!(
            names,
            [
                "ipv4-forwarding-off",
                "ipv6-forwarding-off",
                "kubernetes-mark"
            ]
        );
        capture.remove().expect("removed");
        set("net/ipv4/ip_forward", "1");
        set("net/ipv6/conf/all/forwarding", "1");
        assert_eq!(Capture::install(settings()).expect("installed").1, []);
    });
}
