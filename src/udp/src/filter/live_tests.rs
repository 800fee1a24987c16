//! The programs in the kernel, on loopback.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use flexcast_testbed::World;

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
fn fragmented_datagrams_of_every_length_arrive_without_their_trailer() {
    let name =
        "filter::live_tests::fragmented_datagrams_of_every_length_arrive_without_their_trailer";
    if World::enter(name).is_none() {
        return;
    }
    let set = Command::new("ip")
        .args(["link", "set", "lo", "mtu", "1280"])
        .status();
    assert!(set.unwrap().success());
    let mut buffer = vec![0; 65_536];
    let body: Vec<u8> = (0_u8..=250).cycle().take(65_491).collect();
    for way in WAYS {
        let pair = Pair::new(way);
        pair.filter(Some(TOKEN), Untrailed::Drop);
        // Around each place where another fragment begins, a trailer cut in two too.
        let near = |at: usize| at.saturating_sub(20)..=(at + 20).min(65_491);
        let lengths = [1_232, 1_252, 2_464, 2_488, 10_000, 65_491];
        for length in lengths.into_iter().flat_map(near) {
            let forged = trailed(&body[..length], !TOKEN, WORDS.data_word);
            pair.say(&forged);
            pair.say(&trailed(&body[..length], TOKEN, WORDS.data_word));
            assert!(pair.wakes(1_000_000), "{way:?} {length}");
            assert_eq!(pair.hears(&mut buffer), Ok(length), "{way:?}");
            assert!(buffer[..length] == body[..length]);
            assert_eq!(pair.hears(&mut buffer), Err(Errno::EAGAIN), "{way:?}");
        }
    }
}

#[test]
fn datagrams_that_offload_joined_are_filtered_one_by_one() {
    // Where a socket takes joined datagrams, the kernel filters the join as a whole:
    // this is why an application's own UDP_GRO must not happen on a filtered socket.
    // Without it, joins are taken apart before the filter; see the segmented sends.
    for way in WAYS {
        let pair = Pair::new(way);
        pair.receiver.set_gro(true).unwrap();
        pair.receiver.set_gro(false).unwrap();
        pair.filter(Some(TOKEN), Untrailed::Drop);
        let datagrams: Vec<Vec<u8>> = (0..10_u8)
            .map(|n| {
                trailed(
                    &[n; 1000],
                    if n % 3 == 0 { !TOKEN } else { TOKEN },
                    WORDS.data_word,
                )
            })
            .collect();
        let datagrams: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        let targets = [Target {
            to: pair.to,
            source: None,
        }];
        let told = &mut |_, errno| panic!("{errno}");
        FanOut::new().send(&pair.sender, &datagrams, &targets, told);
        let mut buffer = [0; 2048];
        for n in (0..10).filter(|n| n % 3 != 0) {
            assert_eq!(pair.hears(&mut buffer), Ok(1000), "{way:?} {n}");
            assert_eq!(buffer[0], n);
        }
        assert_eq!(pair.hears(&mut buffer), Err(Errno::EAGAIN));
    }
}

#[test]
fn filters_replaced_while_the_stream_flows_lose_nothing_and_trim_all() {
    const COUNT: u32 = 20_000;
    for way in WAYS {
        let pair = Pair::new(way);
        pair.filter(Some(TOKEN), Untrailed::Drop);
        let heard = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..COUNT {
                    // Never more on the way than the receive buffer holds.
                    while n - heard.load(Relaxed) >= 64 {
                        thread::yield_now();
                    }
                    pair.say(&trailed(&n.to_be_bytes(), TOKEN, WORDS.data_word));
                }
            });
            let mut buffer = [0; 64];
            let mut replaced = 0_u32;
            while heard.load(Relaxed) < COUNT {
                assert!(pair.wakes(2_000_000), "{way:?}: lost at {heard:?}");
                while let Ok(length) = pair.hears(&mut buffer) {
                    let n = heard.fetch_add(1, Relaxed);
                    assert_eq!((length, &buffer[..4]), (4, &n.to_be_bytes()[..]), "{way:?}");
                    if n.is_multiple_of(8) {
                        pair.filter(n.is_multiple_of(16).then_some(TOKEN), Untrailed::Drop);
                        replaced += 1;
                    }
                }
            }
            assert_eq!(replaced, COUNT / 8);
        });
    }
}
