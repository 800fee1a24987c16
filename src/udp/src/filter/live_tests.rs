//! The programs in the kernel, on loopback.

use std::net::{IpAddr, SocketAddr};

use super::tests::{trailed, TOKEN, WORDS};
use super::*;
use crate::process::{poll, PollFd};
use crate::{recv_one, send_one, sockopt, Class, Errno, Family, FanOut, Target, UdpSocket};

/// Family of the receiver, and the address on which it is reached.
const WAYS: [(Family, &str); 3] = [
    (Family::V4, "127.0.0.1"),
    (Family::V6, "::1"),
    (Family::V6, "::ffff:127.0.0.1"),
];

struct Pair {
    receiver: UdpSocket,
    sender: UdpSocket,
    family: Family,
    to: SocketAddr,
    from: SocketAddr,
}

impl Pair {
    fn new((family, address): (Family, &str)) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let receiver = UdpSocket::new(family).unwrap();
        receiver.set_receive_buffer(4 << 20).unwrap();
        receiver.bind(SocketAddr::new(address, 0)).unwrap();
        let sender = UdpSocket::new(Family::of(address)).unwrap();
        sender.set_no_path_mtu_discovery().unwrap();
        sender.set_send_buffer(1 << 20).unwrap();
        sender
            .bind(SocketAddr::new(crate::canonical(address), 0))
            .unwrap();
        let to = crate::canonical_socket(receiver.local_addr().unwrap());
        let from = sender.local_addr().unwrap();
        Self {
            receiver,
            sender,
            family,
            to,
            from,
        }
    }

    fn filter(&self, token: Option<u64>, untrailed: Untrailed) {
        let source = Source {
            address: self.from.ip(),
            port: self.from.port(),
            token,
        };
        let program = super::receiver(&[source], untrailed, WORDS, self.family, &[9, 8]);
        self.receiver.attach_filter(&program).unwrap();
    }

    fn say(&self, payload: &[u8]) {
        send_one(&self.sender, self.to, None, Class::Stream, &[payload]).unwrap();
    }

    fn wakes(&self, patience_us: u64) -> bool {
        let mut fds = [PollFd::new(self.receiver.as_raw(), PollFd::IN)];
        poll(&mut fds, Some(patience_us)).unwrap() == 1
    }

    fn hears(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv_one(&self.receiver, buffer).map(|received| received.payload.len())
    }
}

#[test]
fn every_length_arrives_without_its_trailer() {
    let mut buffer = vec![0; 65_536];
    let body: Vec<u8> = (0_u8..=250).cycle().take(65_491).collect();
    for way in WAYS {
        let pair = Pair::new(way);
        pair.filter(Some(TOKEN), Untrailed::Drop);
        let lengths = (0..64).chain([1316, 1456, 1457, 4_096, 9_000, 32_768, 65_490, 65_491]);
        for length in lengths {
            pair.say(&trailed(&body[..length], TOKEN, WORDS.data_word));
            assert!(pair.wakes(1_000_000), "{way:?} {length}");
            assert_eq!(pair.hears(&mut buffer), Ok(length), "{way:?}");
            assert_eq!(buffer[..length], body[..length]);
        }
    }
}

#[test]
fn forged_datagrams_never_wake_the_receiver() {
    let mut buffer = [0; 2048];
    for way in WAYS {
        let pair = Pair::new(way);
        pair.filter(Some(TOKEN), Untrailed::Drop);
        pair.say(&trailed(b"forged", TOKEN ^ 1, WORDS.data_word));
        pair.say(&trailed(b"forged", TOKEN, WORDS.control_word));
        pair.say(&trailed(b"forged", TOKEN, WORDS.end_word));
        pair.say(b"no trailer at all, yet longer than one");
        pair.say(b"");
        let stranger = UdpSocket::new(Family::of(pair.from.ip())).unwrap();
        let right = trailed(b"right", TOKEN, WORDS.data_word);
        send_one(&stranger, pair.to, None, Class::Stream, &[&right]).unwrap();
        assert!(!pair.wakes(20_000), "{way:?}");
        pair.say(&right);
        assert!(pair.wakes(1_000_000), "{way:?}");
        assert_eq!(pair.hears(&mut buffer), Ok(5));
        assert_eq!(pair.hears(&mut buffer), Err(Errno::EAGAIN));
    }
}

#[test]
fn unknown_tokens_and_untrailed_datagrams_pass_where_they_may() {
    let mut buffer = [0; 2048];
    for way in WAYS {
        let pair = Pair::new(way);
        pair.filter(None, Untrailed::OnlyFrom(pair.from));
        pair.say(&trailed(b"body", 5, WORDS.data_word));
        assert_eq!(pair.hears(&mut buffer), Ok(4), "{way:?}");
        pair.say(b"");
        assert_eq!(pair.hears(&mut buffer), Ok(0), "{way:?}");
        let elsewhere = SocketAddr::new(pair.from.ip(), pair.from.port() ^ 1);
        pair.filter(None, Untrailed::OnlyFrom(elsewhere));
        pair.say(b"plain");
        assert_eq!(pair.hears(&mut buffer), Err(Errno::EAGAIN), "{way:?}");
    }
}

#[test]
fn segmented_sends_arrive_one_by_one_and_trimmed() {
    let mut buffer = [0; 2048];
    for way in WAYS {
        let pair = Pair::new(way);
        pair.filter(Some(TOKEN), Untrailed::Drop);
        let mut datagrams: Vec<Vec<u8>> = (0..40)
            .map(|n| trailed(&[n; 1000], TOKEN, WORDS.data_word))
            .collect();
        // A forged one in the middle of a super-packet is dropped alone.
        datagrams[20] = trailed(&[20; 1000], !TOKEN, WORDS.data_word);
        let datagrams: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        let targets = [Target {
            to: pair.to,
            source: None,
        }];
        let mut fan_out = FanOut::new();
        let flushed = fan_out.send(&pair.sender, &datagrams, &targets, &mut |_, errno| {
            panic!("{errno}")
        });
        assert_eq!(flushed.sent, 40);
        assert!(fan_out.segments());
        for n in (0..40).filter(|n| *n != 20) {
            assert!(pair.wakes(1_000_000));
            assert_eq!(pair.hears(&mut buffer), Ok(1000), "{way:?} {n}");
            assert_eq!(buffer[..1000], [n; 1000]);
        }
        assert!(!pair.wakes(5_000));
    }
}

#[test]
fn sixty_four_sources_of_each_family_fit_and_passengers_come_back() {
    let sources: Vec<Source> = (0..64_u8)
        .flat_map(|n| {
            let token = Some(u64::from(n));
            let four = IpAddr::from([10, 0, 0, n]);
            let six = IpAddr::from([0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n]);
            [four, six].map(|address| Source {
                address,
                port: 7450,
                token,
            })
        })
        .collect();
    let socket = UdpSocket::new(Family::V6).unwrap();
    let raw = socket.as_raw();
    assert_eq!(sockopt::read_filter(raw), Ok(None));
    let words: Vec<u32> = (0..40).collect();
    let program = super::receiver(&sources, Untrailed::Drop, WORDS, Family::V6, &words);
    socket.attach_filter(&program).unwrap();
    let read = sockopt::read_filter(raw).unwrap().unwrap();
    assert_eq!(read, program);
    assert_eq!(read.passengers(), words);
    sockopt::detach_filter(raw).unwrap();
    assert_eq!(sockopt::read_filter(raw), Ok(None));
}

#[test]
fn a_filter_replaced_in_the_stream_loses_nothing() {
    let mut buffer = [0; 2048];
    let pair = Pair::new(WAYS[0]);
    let mut heard = 0;
    for round in 0..200 {
        pair.filter((round % 2 == 0).then_some(TOKEN), Untrailed::Drop);
        pair.say(&trailed(b"body", TOKEN, WORDS.data_word));
        heard += usize::from(pair.hears(&mut buffer) == Ok(4));
    }
    assert_eq!(heard, 200);
}
