//! Control messages: golden bytes, both directions, and one reason for each flaw.

mod messages;

use flexcast_wire::{
    Body, Control, Malformed, NodeId, Records, Trailer, CONTROL_WORD, HEADER_LEN, MESSAGE_OFFSET,
    REQUEST_LEN, TRAILER_LEN,
};
use messages::{any_control, one_of_each};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    let line = |chunk: &[u8]| chunk.iter().map(|b| format!("{b:02x}")).collect::<String>();
    bytes.chunks(16).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_message_has_golden_bytes() {
    let golden = include_str!("golden.txt");
    let mut written = String::from(
        "# The bytes of one message of each kind. They change with the version byte only.\n",
    );
    for (name, bytes) in one_of_each() {
        written += &format!("\n{name}, {} bytes\n{}\n", bytes.len(), hex(&bytes));
    }
    assert_eq!(written, golden, "{written}");
}

#[test]
fn what_a_capture_rule_compares_stands_where_it_looks() {
    for (name, bytes) in one_of_each() {
        assert_eq!(bytes[..4], CONTROL_WORD.to_be_bytes(), "{name}");
        let control = Control::parse(&bytes).unwrap();
        let number = control.message_type() as u8;
        assert_eq!(bytes[MESSAGE_OFFSET], number, "{name}");
    }
}

#[test]
fn a_challenge_is_never_longer_than_a_request() {
    let length = |wanted: &str| {
        let found = one_of_each().into_iter().find(|(name, _)| *name == wanted);
        found.unwrap().1.len()
    };
    assert_eq!(length("until"), REQUEST_LEN + TRAILER_LEN);
    assert!(length("challenge") < length("until"));
}

#[test]
fn records_are_read_as_they_were_pushed_and_at_most_32() {
    let buffer = messages::two_records();
    let records: Vec<_> = Records::of(&buffer).iter().collect();
    assert_eq!((records.len(), records[0].node), (2, NodeId(0xA1)));
    assert_eq!((records[1].own_address, records[1].upstream), (None, None));
    let mut many = Vec::new();
    for _ in 0..40 {
        Records::push(&records[0], &mut many);
    }
    assert_eq!(Records::of(&many).iter().count(), 32);
    assert_eq!(
        Records::of(&buffer[..100]).iter().count(),
        1,
        "a cut one is left out"
    );
}

/// A message with bytes changed from `at` on.
fn with(wanted: &str, at: usize, bytes: &[u8]) -> Result<(), Malformed> {
    let found = one_of_each().into_iter().find(|(name, _)| *name == wanted);
    let mut datagram = found.unwrap().1;
    datagram[at..at + bytes.len()].copy_from_slice(bytes);
    Control::parse(&datagram).map(|_| ())
}

/// A message cut to `length` bytes before its trailer.
fn cut(wanted: &str, length: usize) -> Result<(), Malformed> {
    let found = one_of_each().into_iter().find(|(name, _)| *name == wanted);
    let datagram = found.unwrap().1;
    let (body, trailer) = Trailer::split(&datagram).unwrap();
    let mut short = body[..length].to_vec();
    short.extend_from_slice(&trailer.bytes());
    Control::parse(&short).map(|_| ())
}

#[test]
fn each_flaw_has_its_reason() {
    assert_eq!(with("request", 0, &[0]), Err(Malformed::Magic));
    assert_eq!(with("request", 3, &[2]), Err(Malformed::Version));
    for message in [0, 7, 255] {
        assert_eq!(with("request", 4, &[message]), Err(Malformed::Message));
    }
    assert_eq!(with("request", 8, &[0; 8]), Err(Malformed::Wildcard));
    for sender in [
        "::",
        "::ffff:0.0.0.0",
        "ff3e::1",
        "::ffff:239.1.1.1",
        "::ffff:255.255.255.255",
    ] {
        let sender: std::net::Ipv6Addr = sender.parse().unwrap();
        assert_eq!(
            with("request", 16, &sender.octets()),
            Err(Malformed::Sender)
        );
    }
    for flags in [3, 5, 6, 7, 8, 10, 12, 16, 128] {
        assert_eq!(
            with("request", 68, &[flags]),
            Err(Malformed::Flags),
            "{flags}"
        );
    }
    for verdict in [0, 8, 255] {
        assert_eq!(with("status", 48, &[verdict]), Err(Malformed::Verdict));
    }
    assert_eq!(with("status", 49, &[8 | 16]), Err(Malformed::Flags));
    assert_eq!(with("status", 109, &[33]), Err(Malformed::Path), "too long");
    assert_eq!(
        with("status", 109, &[32]),
        Err(Malformed::Short),
        "not there"
    );
    assert_eq!(with("status", 128, &[0; 8]), Err(Malformed::Path), "node 0");
    assert_eq!(with("trace", 49, &[33]), Err(Malformed::Records));
    assert_eq!(with("trace", 49, &[3]), Err(Malformed::Records));
    assert_eq!(with("trace-reply", 49, &[3]), Err(Malformed::Records));
    assert_eq!(with("request", 145, &[4]), Err(Malformed::Option));
    assert_eq!(cut("request", 146), Err(Malformed::Option));
    assert_eq!(cut("request", 145), Err(Malformed::Option));
    assert_eq!(cut("request", 144), Ok(()));
    for (name, whole) in [
        ("until", 144),
        ("challenge", 64),
        ("refusal", 128),
        ("trace-reply", 52),
    ] {
        for length in 0..whole {
            assert!(cut(name, length).is_err(), "{name} of {length} bytes");
        }
        assert_eq!(cut(name, HEADER_LEN), Err(Malformed::Short));
    }
}

#[test]
fn later_reasons_of_a_refusal_read_as_none_given() {
    assert_eq!(with("refusal", 108, &[200]), Ok(()));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(control in any_control()) {
        let mut bytes = Vec::new();
        control.emit(&mut bytes);
        prop_assert_eq!(Control::parse(&bytes), Ok(control));
    }

    #[test]
    fn unknown_options_change_nothing(control in any_control(), option: Vec<u8>, kind in 2u8..) {
        let mut bytes = Vec::new();
        control.emit(&mut bytes);
        let (body, trailer) = Trailer::split(&bytes).unwrap();
        let option = &option[..option.len().min(255)];
        let mut longer = body.to_vec();
        longer.push(kind);
        longer.push(u8::try_from(option.len()).unwrap());
        longer.extend_from_slice(option);
        longer.extend_from_slice(&trailer.bytes());
        prop_assert_eq!(Control::parse(&longer), Ok(control));
    }

    #[test]
    fn no_cut_message_is_taken_for_a_whole_one(control in any_control(), at: proptest::sample::Index) {
        let mut bytes = Vec::new();
        control.emit(&mut bytes);
        let (body, trailer) = Trailer::split(&bytes).unwrap();
        let mut short = body[..at.index(body.len())].to_vec();
        short.extend_from_slice(&trailer.bytes());
        match (Control::parse(&short), control.body) {
            (Err(_), _) => {}
            // An option that was cut off whole is one that was never there.
            (Ok(read), Body::Request(_)) => prop_assert!(read != control && short.len() >= REQUEST_LEN),
            (Ok(read), _) => prop_assert!(false, "{:?}", read),
        }
    }
}
