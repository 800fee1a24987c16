//! The grammar: what reads, what it prints as, and each fault by its place.

use flexcast_rules::{Fault, Map, Range, RuleError};
use proptest::prelude::*;

fn printed(text: &str) -> String {
    Map::parse(text)
        .unwrap_or_else(|e| panic!("{text}: {e}"))
        .to_string()
}

#[test]
fn rules_print_as_they_are_written() {
    for text in [
        "10.0.0.5",
        "10.0.0.0/24:5000-5010",
        "239.1.0.0/16=10.0.0.5",
        "239.1.1.4:5000=10.0.0.5+10.0.0.6#7",
        "239.1.1.4:5000=self,empty=wait:3:30",
        "239.1.1.4,empty=wait,role=push,strict",
        "239.1.1.4,empty=wait:1:500ms",
        "10.0.0.5:5000,via=10.0.0.1+10.0.0.2,empty=error,role=call,port=keep",
        "[2001:db8::]/64:5000=[2001:db8::5]",
        "[ff3e::]/96#18446744073709551615",
        "239.1.1.1 239.1.1.2=self 10.0.0.5,role=off",
    ] {
        assert_eq!(printed(text), text);
    }
}

#[test]
fn other_spellings_mean_the_same_rule() {
    for (text, same) in [
        ("[ff3e::8000:0]/96", "[ff3e::]/96"),
        ("10.0.0.5/32", "10.0.0.5"),
        ("[::ffff:10.0.0.5]:80", "10.0.0.5:80"),
        ("[::ffff:10.0.0.0]/104", "10.0.0.0/8"),
        ("[ff3e::1]=2001:db8::5", "[ff3e::1]=[2001:db8::5]"),
        ("239.1.1.1,empty=wait:1:10s,empty", ""),
        ("239.1.1.1,empty=drop", "239.1.1.1"),
        ("\t239.1.1.1\n 239.1.1.2 ", "239.1.1.1 239.1.1.2"),
    ] {
        if same.is_empty() {
            assert!(Map::parse(text).is_err());
        } else {
            assert_eq!(printed(text), same);
        }
    }
}

#[test]
fn each_fault_names_its_place_its_value_and_the_nearest() {
    let range = |text: &str| -> Range { Map::parse(text).unwrap().rules()[0].range() };
    let v4 = range("10.0.0.1").family();
    for (text, position, value, fault, nearest) in [
        ("10.0.0", 0, "10.0.0", Fault::Address, None),
        ("[10.0.0.1]", 1, "10.0.0.1", Fault::Address, None),
        (
            "2001:db8::1/64",
            0,
            "2001:db8::1/64",
            Fault::Brackets,
            Some("[2001:db8::1]/64"),
        ),
        ("[ff3e::1", 0, "[ff3e::1", Fault::BracketOpen, None),
        ("[ff3e::1]5000", 9, "5000", Fault::Excess, None),
        ("camera:5000", 0, "camera", Fault::HostName, None),
        ("239.1.1.1=slef", 10, "slef", Fault::HostName, Some("self")),
        ("1.1.1.1 0.0.0.0", 8, "0.0.0.0", Fault::Unspecified, None),
        ("10.0.0.0/33", 9, "33", Fault::PrefixLength(32), None),
        ("[::]/129", 5, "129", Fault::PrefixLength(128), None),
        (
            "[::ffff:10.0.0.0]/8",
            18,
            "8",
            Fault::PrefixLength(128),
            None,
        ),
        (
            "224.0.0.0/25",
            0,
            "224.0.0.0/25",
            Fault::CoversNothing,
            None,
        ),
        ("10.0.0.5:0", 9, "0", Fault::Port, None),
        ("10.0.0.5:70000", 9, "70000", Fault::Port, None),
        ("10.0.0.5:5-x", 11, "x", Fault::Port, None),
        ("10.0.0.5:9-5", 9, "9-5", Fault::PortOrder, Some("5-9")),
        ("239.1.1.1=239.1.1.2", 10, "239.1.1.2", Fault::Host, None),
        (
            "239.1.1.1=10.0.0.5,via=0.0.0.0",
            23,
            "0.0.0.0",
            Fault::Host,
            None,
        ),
        (
            "239.1.1.1=[2001:db8::1]",
            10,
            "[2001:db8::1]",
            Fault::HostFamily(v4),
            None,
        ),
        (
            "239.1.1.1=10.0.0.5+self",
            19,
            "self",
            Fault::SelfAmongOthers,
            None,
        ),
        (
            "239.1.1.1=10.0.0.5+10.0.0.5",
            19,
            "10.0.0.5",
            Fault::HostTwice,
            None,
        ),
        ("239.1.1.1#0", 10, "0", Fault::Id, None),
        ("239.1.1.1#5=10.0.0.5", 10, "5=10.0.0.5", Fault::Id, None),
        ("239.1.1.1,rol=push", 10, "rol", Fault::Option, Some("role")),
        ("239.1.1.1,", 10, "", Fault::Option, None),
        (
            "239.1.1.1,strict,strict",
            17,
            "strict",
            Fault::OptionTwice,
            None,
        ),
        (
            "239.1.1.1,via",
            10,
            "via",
            Fault::OptionValueMissing("via=HOST{+HOST}"),
            None,
        ),
        (
            "239.1.1.1,strict=1",
            10,
            "strict=1",
            Fault::OptionValueExcess,
            None,
        ),
        (
            "239.1.1.1,empty=wiat",
            16,
            "wiat",
            Fault::Empty,
            Some("wait"),
        ),
        ("239.1.1.1,empty=drop:1", 16, "drop:1", Fault::Empty, None),
        ("239.1.1.1,empty=wait:0", 21, "0", Fault::Receivers, None),
        (
            "239.1.1.1,empty=wait:1:90000",
            23,
            "90000",
            Fault::Seconds,
            None,
        ),
        ("239.1.1.1,empty=wait:1:x", 23, "x", Fault::Seconds, None),
        ("239.1.1.1,role=jion", 15, "jion", Fault::Role, Some("join")),
        (
            "239.1.1.1,role=call",
            15,
            "call",
            Fault::RoleNeverFits(range("239.1.1.1")),
            None,
        ),
        (
            "10.0.0.1,role=join",
            14,
            "join",
            Fault::RoleNeverFits(range("10.0.0.1")),
            None,
        ),
        (
            "239.1.1.1,port=kep",
            15,
            "kep",
            Fault::PortOption,
            Some("keep"),
        ),
    ] {
        let expected = RuleError {
            position,
            value: value.to_owned(),
            fault,
            nearest: nearest.map(str::to_owned),
        };
        let error = Map::parse(text).expect_err(text);
        assert_eq!(error, expected, "{text}");
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("byte {position}: ")),
            "{message}"
        );
    }
}

#[test]
fn names_are_resolved_where_somebody_can() {
    let mut resolve = |name: &str, _| match name {
        "cam" => Ok("10.0.0.5".parse().unwrap()),
        _ => Err(Fault::Unresolved("unknown".to_owned())),
    };
    let map = Map::parse_resolving("239.1.1.1=cam,via=cam cam:80", &mut resolve).unwrap();
    assert_eq!(
        map.to_string(),
        "239.1.1.1=10.0.0.5,via=10.0.0.5 10.0.0.5:80"
    );
    let error = Map::parse_resolving("239.1.1.1=dog", &mut resolve).unwrap_err();
    assert_eq!(error.fault, Fault::Unresolved("unknown".to_owned()));
    assert_eq!((error.position, error.value.as_str()), (10, "dog"));
}

fn rule_text() -> impl Strategy<Value = String> {
    let options = prop_oneof![
        Just(""),
        Just(",strict"),
        Just(",port=keep"),
        Just(",role=push"),
        Just(",role=off"),
        Just(",empty=error"),
        Just(",empty=wait:7"),
        Just(",empty=wait:2:0.25,strict"),
        Just(",via=10.9.9.9"),
    ];
    let senders = prop_oneof![
        Just(String::new()),
        Just("=self".to_owned()),
        (1_u8..255).prop_map(|n| format!("=10.0.0.{n}+10.0.1.{n}")),
    ];
    let ports = prop_oneof![
        Just(String::new()),
        (1_u16..1000, 1000_u16..).prop_map(|(a, b)| format!(":{a}-{b}")),
    ];
    let id = prop_oneof![
        Just(String::new()),
        (1_u64..).prop_map(|id| format!("#{id}"))
    ];
    (
        225_u8..240,
        any::<u8>(),
        8_u8..=32,
        ports,
        senders,
        id,
        options,
    )
        .prop_map(|(a, b, length, ports, senders, id, options)| {
            format!("{a}.{b}.0.1/{length}{ports}{senders}{id}{options}")
        })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(texts in prop::collection::vec(rule_text(), 0..4)) {
        let map = Map::parse(&texts.join(" ")).unwrap();
        prop_assert_eq!(map.rules().len(), texts.len());
        prop_assert_eq!(Map::parse(&map.to_string()).unwrap(), map);
    }

    #[test]
    fn no_text_panics_the_reader(text in "\\PC*") {
        let _ = Map::parse(&text);
    }

    #[test]
    fn no_nearly_right_text_panics_the_reader(
        text in "[0-9a-f.:/\\[\\]=+#, -]{0,40}(,empty=|,via=|,role=|=self)?[a-z0-9:é.]{0,9}"
    ) {
        if let Err(error) = Map::parse(&text) {
            let value = text.get(error.position..error.position + error.value.len());
            prop_assert_eq!(value, Some(error.value.as_str()));
        }
    }
}
