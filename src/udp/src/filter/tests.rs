//! The programs, read by the interpreter.

use std::net::{IpAddr, SocketAddr};

use super::interpreter::{run, Packet};
use super::*;
use crate::Family;

pub(super) const WORDS: FilterWords = FilterWords {
    data_word: 0x01F1_EC57,
    control_word: 0x02F1_EC57,
    end_word: 0x03F1_EC57,
    magic_mask: 0x00FF_FFFF,
};
pub(super) const TOKEN: u64 = 0x1122_3344_5566_7788;
const NONCE: u64 = 0x99AA_BBCC_DDEE_FF00;

pub(super) fn trailed(body: &[u8], token: u64, word: u32) -> Vec<u8> {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&token.to_be_bytes());
    bytes.extend_from_slice(&7_u32.to_be_bytes());
    bytes.extend_from_slice(&word.to_be_bytes());
    bytes
}

fn packet(from: &str, payload: &[u8]) -> Packet {
    let from: SocketAddr = from.parse().unwrap();
    let mut network = Vec::new();
    match from.ip() {
        IpAddr::V4(address) => {
            network.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
            network.extend_from_slice(&address.octets());
            network.extend_from_slice(&[10, 0, 0, 9]);
        }
        IpAddr::V6(address) => {
            network.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, 17, 64]);
            network.extend_from_slice(&address.octets());
            network.extend_from_slice(&[0xFD; 16]);
        }
    }
    let data = network.len();
    network.extend_from_slice(&from.port().to_be_bytes());
    network.extend_from_slice(&[0; 6]);
    network.extend_from_slice(payload);
    Packet { network, data }
}

/// Payload bytes kept, none where dropped.
fn kept(program: &Program, from: &str, payload: &[u8]) -> Option<usize> {
    let packet = packet(from, payload);
    match run(program, &packet) as usize {
        0 => None,
        length => Some((packet.network.len() - packet.data).min(length) - 8),
    }
}

fn source(address: &str, token: Option<u64>) -> Source {
    let address: SocketAddr = address.parse().unwrap();
    Source {
        address: address.ip(),
        port: address.port(),
        token,
    }
}

#[test]
fn a_reader_keeps_data_and_ends_of_its_sources_whole_and_nothing_else() {
    let sources = [source("10.0.0.1:7450", Some(TOKEN))];
    for family in [Family::V4, Family::V6] {
        let program = reader(&sources, WORDS, family, &[1, 2]);
        let data = trailed(b"body", TOKEN, WORDS.data_word);
        let end = trailed(b"", TOKEN, WORDS.end_word);
        assert_eq!(kept(&program, "10.0.0.1:7450", &data), Some(20));
        assert_eq!(kept(&program, "10.0.0.1:7450", &end), Some(16));
        let control = trailed(b"", TOKEN, WORDS.control_word);
        assert_eq!(kept(&program, "10.0.0.1:7450", &control), None);
        assert_eq!(kept(&program, "10.0.0.1:7451", &data), None);
        let forged = trailed(b"body", TOKEN ^ 1, WORDS.data_word);
        assert_eq!(kept(&program, "10.0.0.1:7450", &forged), None);
        assert_eq!(
            kept(&program, "10.0.0.1:7450", b"plain and long enough"),
            None
        );
        assert_eq!(program.passengers(), [1, 2]);
    }
}

#[test]
fn the_selector_sorts_out_control_with_our_nonce_only() {
    let program = selector(NONCE, WORDS.control_word);
    let member = |payload: &[u8]| {
        run(
            &program,
            &Packet {
                network: payload.to_vec(),
                data: 0,
            },
        )
    };
    assert_eq!(member(&trailed(b"hello", NONCE, WORDS.control_word)), 1);
    assert_eq!(member(&trailed(b"", NONCE, WORDS.control_word)), 1);
    assert_eq!(member(&trailed(b"hello", NONCE ^ 1, WORDS.control_word)), 0);
    assert_eq!(
        member(&trailed(b"hello", NONCE ^ 1 << 63, WORDS.control_word)),
        0
    );
    assert_eq!(member(&trailed(b"hello", NONCE, WORDS.data_word)), 0);
    assert_eq!(member(&trailed(b"", NONCE, WORDS.control_word)[1..]), 0);
    assert_eq!(member(b""), 0);
}

#[test]
fn data_with_the_known_token_is_kept_without_its_trailer() {
    let program = receiver(
        &[source("10.0.0.5:7450", Some(TOKEN))],
        Untrailed::Drop,
        WORDS,
        Family::V4,
        &[],
    );
    let body = vec![5; 1316];
    let data = trailed(&body, TOKEN, WORDS.data_word);
    assert_eq!(kept(&program, "10.0.0.5:7450", &data), Some(1316));
    let empty = trailed(b"", TOKEN, WORDS.data_word);
    assert_eq!(kept(&program, "10.0.0.5:7450", &empty), Some(0));
    assert_eq!(kept(&program, "10.0.0.6:7450", &data), None, "another host");
    assert_eq!(kept(&program, "10.0.0.5:7451", &data), None, "another port");
    for (token, word) in [
        (TOKEN ^ 1, WORDS.data_word),
        (TOKEN ^ 1 << 40, WORDS.data_word),
        (TOKEN, WORDS.control_word),
        (TOKEN, WORDS.end_word),
        (TOKEN, 0x0900_0000 | WORDS.data_word & WORDS.magic_mask),
        (TOKEN, WORDS.data_word ^ 1),
    ] {
        let forged = trailed(&body, token, word);
        assert_eq!(
            kept(&program, "10.0.0.5:7450", &forged),
            None,
            "{token:x} {word:x}"
        );
    }
}

#[test]
fn before_the_token_is_known_any_token_from_the_source_will_do() {
    let program = receiver(
        &[source("10.0.0.5:7450", None)],
        Untrailed::Pass,
        WORDS,
        Family::V4,
        &[],
    );
    let data = trailed(b"body", 1234, WORDS.data_word);
    assert_eq!(kept(&program, "10.0.0.5:7450", &data), Some(4));
    assert_eq!(kept(&program, "10.0.0.7:7450", &data), None);
    let end = trailed(b"", 1234, WORDS.end_word);
    assert_eq!(kept(&program, "10.0.0.5:7450", &end), None);
}

#[test]
fn datagrams_without_the_magic_fare_as_told() {
    let from = "10.0.0.5:7450";
    let with = |untrailed| receiver(&[source(from, None)], untrailed, WORDS, Family::V6, &[]);
    let plain = vec![3; 40];
    let pass = with(Untrailed::Pass);
    for length in [0, 1, 15, 16, 40] {
        assert_eq!(kept(&pass, "10.1.1.1:9", &plain[..length]), Some(length));
        assert_eq!(kept(&with(Untrailed::Drop), from, &plain[..length]), None);
    }
    for (only, right, wrong) in [
        ("10.0.0.8:53", "10.0.0.8:53", "10.0.0.8:54"),
        ("10.0.0.8:0", "10.0.0.8:999", "10.0.0.9:999"),
        ("[fd00::8]:53", "[fd00::8]:53", "[fd00::9]:53"),
        ("[::ffff:10.0.0.8]:53", "10.0.0.8:53", "[fd00::8]:53"),
    ] {
        let program = with(Untrailed::OnlyFrom(only.parse().unwrap()));
        assert_eq!(kept(&program, right, &plain), Some(40), "{only}");
        assert_eq!(kept(&program, right, b""), Some(0), "{only}");
        assert_eq!(kept(&program, wrong, &plain), None, "{only}");
        let forged = trailed(b"x", 1, WORDS.control_word);
        assert_eq!(kept(&program, right, &forged), None, "{only}");
    }
}

#[test]
fn many_sources_of_both_families_each_have_their_own_token() {
    for count in [1_u8, 2, 64, 200] {
        let mut sources = Vec::new();
        for n in 0..count {
            sources.push(source(
                &format!("10.0.0.{n}:7450"),
                Some(TOKEN + u64::from(n)),
            ));
            sources.push(source(
                &format!("[fd00::{n:x}]:7450"),
                Some(TOKEN - u64::from(n)),
            ));
        }
        let program = receiver(&sources, Untrailed::Drop, WORDS, Family::V6, &[1, 2]);
        for n in [0, count / 2, count - 1] {
            let four = trailed(b"four", TOKEN + u64::from(n), WORDS.data_word);
            let six = trailed(b"sixes", TOKEN - u64::from(n), WORDS.data_word);
            assert_eq!(kept(&program, &format!("10.0.0.{n}:7450"), &four), Some(4));
            assert_eq!(
                kept(&program, &format!("[fd00::{n:x}]:7450"), &six),
                Some(5)
            );
            assert_eq!(kept(&program, &format!("[fe00::{n:x}]:7450"), &six), None);
            let other = trailed(b"four", TOKEN + 1000, WORDS.data_word);
            assert_eq!(kept(&program, &format!("10.0.0.{n}:7450"), &other), None);
        }
    }
}

#[test]
fn an_ipv4_socket_has_no_use_for_ipv6_sources() {
    let sources = [
        source("[fd00::1]:7450", None),
        source("10.0.0.1:7450", None),
    ];
    let program = receiver(&sources, Untrailed::Drop, WORDS, Family::V4, &[]);
    let data = trailed(b"four", 1, WORDS.data_word);
    assert_eq!(kept(&program, "10.0.0.1:7450", &data), Some(4));
    let mapped = [source("[::ffff:10.0.0.1]:7450", None)];
    let program = receiver(&mapped, Untrailed::Drop, WORDS, Family::V4, &[]);
    assert_eq!(kept(&program, "10.0.0.1:7450", &data), Some(4));
}

#[test]
fn passengers_ride_along_and_change_nothing() {
    let sources = [source("10.0.0.5:7450", Some(TOKEN))];
    let make = |words: &[u32]| receiver(&sources, Untrailed::Pass, WORDS, Family::V6, words);
    let words = [0, u32::MAX, 0xF1EC_0003, 42];
    let loaded = make(&words);
    assert_eq!(loaded.passengers(), words);
    assert_eq!(make(&[]).passengers(), []);
    assert_eq!(drop_all().passengers(), []);
    let data = trailed(b"body", TOKEN, WORDS.data_word);
    for from in ["10.0.0.5:7450", "10.0.0.6:7450", "[fd00::1]:1"] {
        assert_eq!(kept(&loaded, from, &data), kept(&make(&[]), from, &data));
    }
    assert_eq!(kept(&loaded, "10.0.0.5:7450", &data), Some(4));
}

#[test]
fn drop_all_drops_all() {
    assert_eq!(kept(&drop_all(), "10.0.0.5:7450", b"anything"), None);
}

#[test]
fn one_voice_alone_is_heard_whatever_it_says() {
    for (own, others) in [
        ("127.0.0.1:9", ["127.0.0.1:8", "127.0.0.2:9", "[::1]:9"]),
        ("[::1]:9", ["[::1]:8", "[::2]:9", "127.0.0.1:9"]),
    ] {
        let program = only_from(own.parse().unwrap(), Family::V6);
        let data = trailed(b"four", 1, WORDS.data_word);
        for payload in [b"".as_slice(), b"!", &data] {
            assert_eq!(kept(&program, own, payload), Some(payload.len()), "{own}");
            for other in others {
                assert_eq!(kept(&program, other, payload), None, "{other}");
            }
        }
    }
    let program = only_from("127.0.0.1:9".parse().unwrap(), Family::V4);
    assert_eq!(kept(&program, "127.0.0.1:9", b"!"), Some(1));
    assert_eq!(kept(&program, "127.0.0.1:8", b"!"), None);
}
