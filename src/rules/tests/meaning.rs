//! What addresses mean under a map, with golden ids.

use std::net::{IpAddr, SocketAddr};

use flexcast_rules::{
    collisions, Call, ChannelText, ChannelTextError, Join, Map, Push, Role, Serve, Wait,
};

fn map(text: &str) -> Map {
    Map::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// This host: 10.0.0.5 and loopback.
fn here(address: IpAddr) -> bool {
    address == ip("10.0.0.5") || address == ip("2001:db8::5") || address.is_loopback()
}

fn push(text: &str, to: &str, source: Option<&str>) -> String {
    let map = map(text);
    let source = source.map(ip);
    match map.push(at(to), &here, source) {
        Push::NotMapped => "kernel".to_owned(),
        Push::Own {
            channel_ids,
            sender,
            ..
        } => {
            let sender = sender.map_or("any".to_owned(), |s| s.to_string());
            format!("own {sender}#{channel_ids}")
        }
        Push::Foreign { .. } => "foreign".to_owned(),
        Push::Calls { channels, .. } => {
            let list: Vec<String> = channels.iter().map(ToString::to_string).collect();
            format!("calls {}", list.join(" "))
        }
    }
}

fn join(text: &str, group: &str, port: u16, source: Option<&str>) -> String {
    match map(text).join(ip(group), port, source.map(ip), &here) {
        Join::NotMapped => "not mapped".to_owned(),
        Join::LeaveToKernel => "kernel".to_owned(),
        Join::Channels(channels, _) => {
            let list: Vec<String> = channels.iter().map(ToString::to_string).collect();
            list.join(" ")
        }
    }
}

#[test]
fn one_map_makes_one_host_the_sender_and_the_others_receivers() {
    let map = "239.1.0.0/16=10.0.0.5";
    assert_eq!(
        push(map, "239.1.1.4:5000", None),
        "own 10.0.0.5#262787591050120"
    );
    assert_eq!(
        push(map, "[::ffff:239.1.1.4]:5000", None),
        "own 10.0.0.5#262787591050120"
    );
    assert_eq!(
        push("239.1.0.0/16=10.0.0.6", "239.1.1.4:5000", None),
        "foreign"
    );
    assert_eq!(push(map, "239.2.1.4:5000", None), "kernel");
    assert_eq!(
        join(map, "239.1.1.4", 5000, None),
        "10.0.0.5#262787591050120"
    );
    assert_eq!(
        join(map, "239.1.1.4", 5000, Some("10.9.9.9")),
        "10.9.9.9#262787591050120"
    );
    assert_eq!(262_787_591_050_120_u64, 0xEF01_0104_1388);
}

#[test]
fn ipv6_groups_have_their_golden_id() {
    let map = "[ff3e::8000:0]/96:5000=[2001:db8::5]";
    let id = 0x9D18_55D2_412C_8519_u64;
    // ff3e::8000:1 of the wire's golden value lies in ff3e::/96.
    assert_eq!(
        join(map, "ff3e::8000:1", 5000, None),
        format!("2001:db8::5#{id}")
    );
    assert_eq!(
        push(map, "[ff3e::8000:1]:5000", None),
        format!("own 2001:db8::5#{id}")
    );
}

#[test]
fn a_group_without_senders_is_whoevers_that_push_it() {
    let map = "239.1.1.4:5000";
    assert_eq!(push(map, "239.1.1.4:5000", None), "own any#262787591050120");
    let named = push(map, "239.1.1.4:5000", Some("10.0.0.5"));
    assert_eq!(named, "own 10.0.0.5#262787591050120");
    // Not a source that this host has.
    assert_eq!(
        push(map, "239.1.1.4:5000", Some("9.9.9.9")),
        "own any#262787591050120"
    );
    assert_eq!(join(map, "239.1.1.4", 5000, None), "kernel");
    assert_eq!(
        join(map, "239.1.1.4", 5000, Some("10.9.9.9")),
        "10.9.9.9#262787591050120"
    );
}

#[test]
fn self_is_any_address_of_this_host() {
    assert_eq!(
        push("239.1.1.4=self#9", "239.1.1.4:5000", Some("10.0.0.5")),
        "own any#9"
    );
    assert_eq!(
        join("239.1.1.4=self#9", "239.1.1.4", 5000, None),
        "127.0.0.1#9"
    );
}

#[test]
fn each_sender_is_a_channel_of_its_own() {
    let map = "239.1.1.4=10.0.0.6+10.0.0.5#9";
    assert_eq!(join(map, "239.1.1.4", 5000, None), "10.0.0.6#9 10.0.0.5#9");
    assert_eq!(push(map, "239.1.1.4:5000", None), "own 10.0.0.5#9");
}

#[test]
fn the_first_match_wins_and_roles_limit_it() {
    let text = "239.1.1.4:5000,role=off 239.1.0.0/16=10.0.0.5#3";
    assert_eq!(push(text, "239.1.1.4:5000", None), "kernel");
    assert_eq!(push(text, "239.1.1.4:5001", None), "own 10.0.0.5#3");
    assert_eq!(
        join("239.1.1.4=10.0.0.5,role=push", "239.1.1.4", 1, None),
        "not mapped"
    );
    assert_eq!(
        push("239.1.1.4=10.0.0.5,role=join", "239.1.1.4:1", None),
        "kernel"
    );
    assert!(map(text).look_up(at("239.1.1.4:0")).is_none());
}

#[test]
fn a_named_group_is_known_on_its_other_ports() {
    let map = map("239.1.1.4:5000 239.1.1.5,role=off 10.0.0.5:5000");
    assert!(map.names_group(ip("239.1.1.4")));
    assert!(map.names_group(ip("::ffff:239.1.1.4")));
    assert!(!map.names_group(ip("239.1.1.5")));
    assert!(!map.names_group(ip("239.1.1.6")));
    assert!(!map.names_group(ip("10.0.0.5")));
}

#[test]
fn unicast_addresses_are_pushed_called_waited_for_and_served() {
    assert_eq!(
        push("10.0.0.5:5019", "10.0.0.5:5019", None),
        "own 10.0.0.5#5019"
    );
    assert_eq!(
        push("10.0.0.6:5019", "10.0.0.6:5019", None),
        "calls 10.0.0.6#5019"
    );
    let locals = [ip("127.0.0.1"), ip("10.0.0.5")];
    let waits = map("10.0.0.0/24:5019=10.0.0.6");
    for bound in ["0.0.0.0:5019", "10.0.0.5:5019", "[::]:5019"] {
        let wait = waits.wait(at(bound), &locals, &here);
        assert!(matches!(wait, Wait::Channels(c, _) if c[0].to_string() == "10.0.0.6#5019"));
    }
    assert_eq!(
        waits.wait(at("0.0.0.0:5020"), &locals, &here),
        Wait::NotMapped
    );
    let portless = map("10.0.0.0/24=10.0.0.6");
    assert_eq!(
        portless.wait(at("0.0.0.0:5019"), &locals, &here),
        Wait::NotMapped
    );
    let own = map("10.0.0.5:5019");
    assert_eq!(
        own.wait(at("0.0.0.0:5019"), &locals, &here),
        Wait::NotMapped
    );
    let serve = own.serve(Role::Listen, at("10.0.0.5:5019"), &locals, &here);
    assert!(matches!(serve, Serve::Own { sender: Some(s), .. } if s == ip("10.0.0.5")));
    assert_eq!(
        waits.serve(Role::Hello, at("0.0.0.0:5019"), &locals, &here),
        Serve::NotMapped
    );
    assert_eq!(own.call(at("10.0.0.5:5019"), &here, false), Call::NotMapped);
    assert!(matches!(
        own.call(at("10.0.0.5:5019"), &here, true),
        Call::Channels(..)
    ));
    assert!(matches!(
        waits.call(at("10.0.0.6:5019"), &here, false),
        Call::Channels(..)
    ));
}

#[test]
fn channels_on_the_command_line_go_through_the_rules() {
    let map = map("239.1.1.4:5000=10.0.0.5 10.0.0.6:80 239.1.1.9");
    let receive = |text: &str| {
        let text: ChannelText = text.parse()?;
        text.to_receive(&map, &here).map(|c| c[0].to_string())
    };
    assert_eq!(receive("10.0.0.9#7").unwrap(), "10.0.0.9#7");
    assert_eq!(receive("self#7").unwrap(), "127.0.0.1#7");
    assert_eq!(
        receive("239.1.1.4:5000").unwrap(),
        "10.0.0.5#262787591050120"
    );
    assert_eq!(receive("10.0.0.6:80").unwrap(), "10.0.0.6#80");
    assert!(matches!(
        receive("239.1.1.8:1"),
        Err(ChannelTextError::NotMapped(_))
    ));
    assert!(matches!(
        receive("239.1.1.9:1"),
        Err(ChannelTextError::NoSender(_))
    ));
    for bad in [
        "",
        "x",
        "239.1.1.4",
        "239.1.1.4:0",
        "self#0",
        "10.0.0.5#",
        "self#+1",
    ] {
        assert!(
            matches!(receive(bad), Err(ChannelTextError::Syntax(_))),
            "{bad}"
        );
    }
    let send = |text: &str| text.parse::<ChannelText>().unwrap().to_send(&map, &here);
    assert_eq!(send("239.1.1.4:5000").unwrap().sender, Some(ip("10.0.0.5")));
    assert_eq!(send("self#7").unwrap().sender, None);
    assert!(matches!(
        send("10.0.0.9#7"),
        Err(ChannelTextError::NotOwn(_))
    ));
    assert!(matches!(
        send("10.0.0.6:80"),
        Err(ChannelTextError::NotOwn(_))
    ));
}

#[test]
fn groups_that_become_one_channel_are_found() {
    let count = |text: &str| collisions(&map(text)).len();
    assert_eq!(count("239.1.1.4:5000=10.0.0.5 239.1.1.5:5000=10.0.0.5"), 0);
    assert_eq!(count("239.1.1.4:1=10.0.0.5#9 239.1.1.5:1=10.0.0.5#9"), 1);
    assert_eq!(count("239.1.1.4:1=10.0.0.5#9 239.1.1.5:1=10.0.0.6#9"), 0);
    assert_eq!(count("239.1.1.0/24:1=10.0.0.5#9"), 1);
    let derived = "239.1.1.5:1=10.0.0.5#262787591050120 239.1.1.4:5000=10.0.0.5";
    assert_eq!(count(derived), 1);
    assert!(collisions(&map(derived))[0]
        .to_string()
        .contains("262787591050120"));
}

#[test]
fn an_explanation_names_the_rule_and_what_becomes() {
    let map = map("10.0.0.9 239.1.0.0/16=10.0.0.5,empty=wait:3");
    let told = map.explain(at("239.1.1.4:5000"), &[], &here);
    assert_eq!((told.rule_number, told.sends_here), (Some(2), true));
    assert!(
        told.to_string().contains("10.0.0.5#262787591050120"),
        "{told}"
    );
    assert!(told.to_string().contains("waits for 3 receiver"), "{told}");
    let call = Map::parse("10.0.0.0/24:5019=10.0.0.7").unwrap();
    let told = call.explain(at("10.0.0.8:5019"), &[], &here).to_string();
    assert!(told.contains("requests 10.0.0.7#5019"), "{told}");
    assert!(
        told.contains("goes to 10.0.0.7:5019 as ordinary unicast"),
        "{told}"
    );
    let none = map.explain(at("192.0.2.1:1"), &[], &here);
    assert_eq!((none.rule_number, none.id), (None, None));
}
