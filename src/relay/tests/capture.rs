//! Capture on real packets: what comes to the relay, and what passes.
//!
//! Each test lives in a network of its own (`world` draws it). What the table
//! and the rules do over time stands in `capture_life`.

mod world;

use std::net::IpAddr;

use flexcast_relay::capture::{Capture, Finding, Settings};
use world::{control, enter, run, set, settings, wait_for, World, DIRECT, FP, REQUEST, TRACE};

fn install() -> Capture {
    Capture::install(settings()).expect("installed").0
}

#[test]
fn a_request_comes_to_the_relay_with_the_destination_that_it_was_sent_to() {
    enter(|| {
        let mut world = World::build();
        assert!(
            world.ask_server("four", &control(REQUEST)).is_server(),
            "before capture"
        );
        let mut capture = install();
        for message in [REQUEST, TRACE] {
            let data = control(message);
            let four = world::Got::Relay(format!("10.1.0.2 5001 10.2.0.2 {data}"));
            assert_eq!(world.ask_server("four", &data), four);
            let six = world::Got::Relay(format!("fd01::2 5001 fd02::2 {data}"));
            assert_eq!(world.ask_server("six", &data), six);
        }
        let counters = capture.counters().expect("counted");
        assert_eq!(
            (
                counters.captured,
                counters.no_listener,
                counters.let_through
            ),
            (4, 0, 0)
        );
    });
}

#[test]
fn an_answer_from_a_foreign_source_arrives() {
    enter(|| {
        let mut world = World::build();
        let _capture = install();
        assert_eq!(world.relay.ask("send fp 10.1.0.2 5001 cafe 10.2.0.2"), "ok");
        assert_eq!(
            world.client.ask("receive four 2"),
            format!("10.2.0.2 {FP} - cafe")
        );
        assert_eq!(world.relay.ask("send fp fd01::2 5001 cafe fd02::2"), "ok");
        assert_eq!(
            world.client.ask("receive six 2"),
            format!("fd02::2 {FP} - cafe")
        );
    });
}

#[test]
fn what_is_no_request_passes() {
    enter(|| {
        let mut world = World::build();
        let mut capture = install();
        let longer = format!("{}{}", control(DIRECT), "00".repeat(1000));
        let passing = [
            ("a stranger's", "00112233445566778899".to_owned()),
            ("another version's", "f1eca50201000000".to_owned()),
            ("a direct request", control(DIRECT)),
            ("a long direct request", longer),
            ("a word without type", "f1eca501".to_owned()),
            ("a short one", "f1".to_owned()),
        ];
        for socket in ["four", "six"] {
            for (what, data) in &passing {
                assert!(
                    world.ask_server(socket, data).is_server(),
                    "{what} ({socket})"
                );
            }
            assert!(
                world.ask_server(socket, &control(REQUEST)).is_relay(),
                "the control ({socket})"
            );
        }
        assert!(
            world.ask_server("fp", &control(REQUEST)).is_server(),
            "from FP"
        );
        assert_eq!(capture.counters().expect("counted").captured, 2);
    });
}

#[test]
fn a_request_to_the_relay_itself_is_delivered_uncaptured() {
    enter(|| {
        let mut world = World::build();
        let mut capture = install();
        assert!(world
            .send_to("four", "10.1.0.1", &control(REQUEST))
            .is_relay());
        assert!(world
            .send_to("four", "10.2.0.1", &control(REQUEST))
            .is_relay());
        assert!(world
            .send_to("six", "fd02::1", &control(REQUEST))
            .is_relay());
        assert_eq!(capture.counters().expect("counted").captured, 0);
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
        assert_eq!(capture.counters().expect("counted").captured, 1);
    });
}

#[test]
fn a_pair_that_is_let_through_passes_and_no_other() {
    enter(|| {
        let mut world = World::build();
        world.client.ask("open four-too 10.1.0.2 5002");
        let mut capture = install();
        let server4: IpAddr = "10.2.0.2".parse().unwrap();
        let mapped: IpAddr = "::ffff:10.2.0.2".parse().unwrap();
        let server6: IpAddr = "fd02::2".parse().unwrap();
        for sender in [server4, mapped] {
            capture
                .let_through("10.1.0.2:5001".parse().unwrap(), sender)
                .expect("let through");
        }
        let request = control(REQUEST);
        assert!(world.ask_server("four", &request).is_server());
        assert!(
            world.ask_server("four-too", &request).is_relay(),
            "another port"
        );
        assert!(
            world.ask_server("six", &request).is_relay(),
            "another family"
        );
        capture
            .let_through("[fd01::2]:5001".parse().unwrap(), server6)
            .expect("let through");
        assert!(world.ask_server("six", &request).is_server());
        capture
            .let_through("10.1.0.2:5001".parse().unwrap(), server6)
            .expect_err("two families");
        assert_eq!(capture.counters().expect("counted").let_through, 2);
    });
}

#[test]
fn a_sender_that_is_let_through_is_left_alone() {
    enter(|| {
        let mut world = World::build();
        run("ip addr add 10.3.0.1/32 dev lo");
        let mut capture = install();
        let request = control(REQUEST);
        capture
            .let_through_sender("10.9.9.9".parse().unwrap())
            .expect("let through");
        assert!(
            world.ask_server("four", &request).is_relay(),
            "another sender"
        );
        capture
            .let_through_sender("10.2.0.2".parse().unwrap())
            .expect("let through");
        capture
            .let_through_sender("fd02::2".parse().unwrap())
            .expect("let through");
        assert!(world.ask_server("four", &request).is_server());
        assert!(world.ask_server("six", &request).is_server());
    });
}

#[test]
fn at_most_4096_pairs_are_let_through() {
    enter(|| {
        run("ip link set lo up");
        let mut capture = install();
        let sender: IpAddr = "10.2.0.2".parse().unwrap();
        for port in 1..=4096 {
            let requester = ("10.1.0.2".parse::<IpAddr>().unwrap(), port).into();
            capture
                .let_through(requester, sender)
                .expect("there is room");
        }
        let error = capture
            .let_through("10.1.0.2:5000".parse().unwrap(), sender)
            .expect_err("full");
        assert!(error.to_string().contains("full"), "{error}");
        capture.renew().expect("the table works on");
        capture
            .let_through("[fd01::2]:1".parse().unwrap(), "fd02::2".parse().unwrap())
            .expect("its own set");
    });
}

#[test]
fn a_suspended_capture_lets_all_pass_and_a_resumed_one_captures() {
    enter(|| {
        let mut world = World::build();
        let mut capture = install();
        let request = control(REQUEST);
        assert!(world.ask_server("four", &request).is_relay());
        capture.suspend().expect("suspended");
        capture.renew().expect("does nothing");
        assert!(!capture.check().expect("looked").alive);
        assert!(world.ask_server("four", &request).is_server());
        assert!(world.ask_server("six", &request).is_server());
        capture.resume().expect("resumed");
        assert!(capture.check().expect("looked").alive);
        assert!(world.ask_server("four", &request).is_relay());
    });
}

#[test]
fn without_a_listener_requests_pass() {
    enter(|| {
        let mut world = World::build();
        let mut capture = Capture::install(Settings {
            listen_port: 7999,
            ..settings()
        })
        .expect("installed")
        .0;
        assert!(world.ask_server("four", &control(REQUEST)).is_server());
        assert!(world.ask_server("six", &control(REQUEST)).is_server());
        assert_eq!(capture.counters().expect("counted").no_listener, 2);
        world.relay.ask("open fp :: 7999 transparent");
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
        assert_eq!(capture.counters().expect("counted").captured, 1);
    });
}

#[test]
fn captured_packets_that_a_firewall_drops_are_counted() {
    enter(|| {
        let mut world = World::build();
        let mut capture = install();
        run("nft 'add table inet host; add chain inet host in { type filter hook input priority 0; policy drop; }'");
        assert_eq!(
            world.ask_server("four", &control(REQUEST)),
            world::Got::Nobody
        );
        assert_eq!(capture.counters().expect("counted").captured, 1);
        run("nft delete table inet host");
        capture.renew().expect("renewed after waiting in vain");
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
    });
}

#[test]
fn an_icmp_error_about_a_stream_reaches_the_relay() {
    enter(|| {
        let mut world = World::build();
        let mut capture = install();
        for (to, sender) in [("10.1.0.2", "10.2.0.2"), ("fd01::2", "fd02::2")] {
            assert_eq!(
                world.relay.ask(&format!("send fp {to} 5999 cafe {sender}")),
                "ok"
            );
            assert_eq!(
                world.relay.ask("receive fp 2"),
                "errno ECONNREFUSED",
                "{to}"
            );
        }
        assert_eq!(capture.counters().expect("counted").icmp_errors, 2);
        // Errors about others' traffic pass: from another port than FP.
        world.relay.ask("open other :: 7999 transparent");
        assert_eq!(
            world.relay.ask("send other 10.1.0.2 5999 cafe 10.2.0.2"),
            "ok"
        );
        assert_eq!(world.relay.ask("receive other 0.3"), "nothing");
        capture.suspend().expect("suspended");
        assert_eq!(world.relay.ask("send fp 10.1.0.2 5999 cafe 10.2.0.2"), "ok");
        assert_eq!(world.relay.ask("receive fp 0.3"), "nothing");
        assert_eq!(capture.counters().expect("counted").icmp_errors, 2);
    });
}

/// Behind the client, a link of 1280 bytes to 10.9.0.2 and fd09::2.
fn add_narrow_link(world: &World) {
    for command in [
        "ip link add narrow mtu 1280 type veth peer name end",
        "ip addr add 10.9.0.1/24 dev narrow",
        "ip addr add fd09::1/64 dev narrow nodad",
        "ip link set narrow up",
        "ip link set end up",
        "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    ] {
        world.run_at_client(command);
    }
    run("ip route add 10.9.0.0/24 via 10.1.0.2; ip route add fd09::/64 via fd01::2");
}

#[test]
fn the_relay_learns_the_path_mtu_of_its_ipv6_streams() {
    enter(|| {
        let mut world = World::build();
        add_narrow_link(&world);
        let large = format!("send fp fd09::2 5001 {} fd02::2", "00".repeat(1400));
        let learnt = || run("ip -6 route show cache").contains("mtu 1280");
        let mut capture = install();
        capture.suspend().expect("suspended");
        for _ in 0..20 {
            world.relay.ask(&large);
            assert_eq!(
                world.relay.ask("receive fp 0.05"),
                "nothing",
                "errors pass to S"
            );
        }
        assert!(!learnt());
        capture.resume().expect("resumed");
        wait_for("the path MTU", || {
            world.relay.ask(&large);
            capture.renew().expect("renewed");
            learnt()
        });
        assert!(capture.counters().expect("counted").icmp_errors > 0);
    });
}

/// The kernel keeps no IPv4 path MTU for a foreign source (its look-up of the
/// route wants a local one), so streams go without DF and routers fragment.
#[test]
fn ipv4_streams_without_df_need_no_path_mtu() {
    enter(|| {
        let mut world = World::build();
        add_narrow_link(&world);
        let mut capture = install();
        let large = format!("send fp 10.9.0.2 5001 {} 10.2.0.2", "00".repeat(1400));
        let fragments = |world: &World| {
            let counters = world.run_at_client("nstat -asz IpFragCreates");
            let words = counters
                .split_ascii_whitespace()
                .skip_while(|&w| w != "IpFragCreates");
            words
                .skip(1)
                .map(|w| w.parse::<u32>().expect("a number"))
                .next()
                .expect("counted")
        };
        assert_eq!(fragments(&world), 0);
        wait_for("fragments on the narrow link", || {
            assert_eq!(world.relay.ask(&large), "ok");
            fragments(&world) >= 2
        });
        assert_eq!(capture.counters().expect("counted").icmp_errors, 0);
    });
}

#[test]
fn source_checks_with_the_mark_do_not_stop_requests() {
    enter(|| {
        let mut world = World::build();
        set("net/ipv4/conf/all/rp_filter", "1");
        set("net/ipv4/conf/rc/rp_filter", "1");
        set("net/ipv4/conf/all/src_valid_mark", "1");
        let (_capture, findings) = Capture::install(settings()).expect("installed");
        let finding = Finding::MarkedReversePath {
            interface: "all".to_owned(),
        };
        assert_eq!(findings, [finding]);
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
        // What the finding says: the errors vanish, and its remedy brings them back.
        let stream = "send fp 10.1.0.2 5999 cafe 10.2.0.2";
        assert_eq!(world.relay.ask(stream), "ok");
        assert_eq!(world.relay.ask("receive fp 0.3"), "nothing");
        set("net/ipv4/conf/all/src_valid_mark", "0");
        assert_eq!(world.relay.ask(stream), "ok");
        assert_eq!(world.relay.ask("receive fp 2"), "errno ECONNREFUSED");
    });
}

#[test]
fn without_ipv6_requests_are_captured_on_ipv4() {
    enter(|| {
        let mut world = World::build();
        set("net/ipv6/conf/all/disable_ipv6", "1");
        let (mut capture, findings) = Capture::install(settings()).expect("installed");
        let names: Vec<_> = findings.iter().map(Finding::name).collect();
        assert_eq!(names, ["ipv6-off"], "{findings:?}");
        assert!(world.ask_server("four", &control(REQUEST)).is_relay());
        assert_eq!(capture.check().expect("looked").missing, []);
        assert!(!run("ip -6 rule show").contains("7450"));
        capture.remove().expect("removed");
        assert!(world.ask_server("four", &control(REQUEST)).is_server());
    });
}
