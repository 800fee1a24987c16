//! The group of two sockets on one port, in the kernel: D has the data, C the
//! control, whoever comes and goes.
//!
//! Promises: shows the order of members that the selector relies on.

use std::net::{IpAddr, SocketAddr};

use super::tests::{trailed, TOKEN, WORDS};
use super::*;
use crate::{canonical, canonical_socket, recv_one, send_one, sockopt, Class, Errno, Family};
use crate::{FanOut, Target, UdpSocket};

const NONCE: u64 = 0x0F1E_2D3C_4B5A_6978;
const WAYS: [(Family, &str); 3] = [
    (Family::V4, "127.0.0.1"),
    (Family::V6, "::1"),
    (Family::V6, "::ffff:127.0.0.1"),
];

/// D and C, and who sends to them.
struct Group {
    data: UdpSocket,
    control: UdpSocket,
    sender: UdpSocket,
    at: SocketAddr,
    to: SocketAddr,
}

impl Group {
    /// `late`: D was bound, alone and plain, before it became a member.
    fn new((family, address): (Family, &str), late: bool) -> Group {
        let address: IpAddr = address.parse().unwrap();
        let data = UdpSocket::new(family).unwrap();
        let bind = |at| data.bind(at).and_then(|()| data.local_addr());
        let join = || {
            data.set_reuse_port(true).unwrap();
            sockopt::attach_reuseport_selector(data.as_raw(), &selector(NONCE, WORDS.control_word))
        };
        let any_port = SocketAddr::new(address, 0);
        let (at, control) = if late {
            let at = bind(any_port).unwrap();
            data.set_reuse_port(true).unwrap();
            let control = member(family, at);
            join().unwrap();
            (at, control)
        } else {
            join().unwrap();
            let at = bind(any_port).unwrap();
            (at, member(family, at))
        };
        let sender = UdpSocket::new(Family::of(address)).unwrap();
        sender.bind(SocketAddr::new(canonical(address), 0)).unwrap();
        let source = Source {
            address: canonical(address),
            port: sender.local_addr().unwrap().port(),
            token: Some(TOKEN),
        };
        let keep = super::receiver(&[source], Untrailed::Drop, WORDS, family, &[]);
        data.attach_filter(&keep).unwrap();
        let to = canonical_socket(at);
        Group {
            data,
            control,
            sender,
            at,
            to,
        }
    }

    fn say(&self, body: &[u8], token: u64, word: u32) {
        let bytes = trailed(body, token, word);
        send_one(&self.sender, self.to, None, Class::Stream, &[&bytes]).unwrap();
    }

    /// One datagram of each kind; each arrives where it belongs, forged ones nowhere.
    fn check(&self, control: &UdpSocket, what: &str) {
        self.say(b"data", TOKEN, WORDS.data_word);
        self.say(b"forged", !TOKEN, WORDS.data_word);
        self.say(b"control", NONCE, WORDS.control_word);
        self.say(b"forged", !NONCE, WORDS.control_word);
        assert_eq!(hears(&self.data), Ok(b"data".to_vec()), "{what}");
        assert_eq!(hears(&self.data), Err(Errno::EAGAIN), "{what}");
        let whole = trailed(b"control", NONCE, WORDS.control_word);
        assert_eq!(hears(control), Ok(whole), "{what}");
        assert_eq!(hears(control), Err(Errno::EAGAIN), "{what}");
    }
}

fn member(family: Family, at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::new(family).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(at).unwrap();
    socket
}

fn hears(socket: &UdpSocket) -> Result<Vec<u8>, Errno> {
    recv_one(socket, &mut [0; 2048]).map(|received| received.payload.to_vec())
}

#[test]
fn control_with_our_nonce_goes_to_c_and_all_else_to_d() {
    for way in WAYS {
        let group = Group::new(way, false);
        group.check(&group.control, &format!("{way:?}"));
    }
}

#[test]
fn a_socket_that_was_bound_before_can_become_d() {
    for way in WAYS {
        let group = Group::new(way, true);
        group.check(&group.control, &format!("{way:?}"));
    }
}

#[test]
fn a_successors_c_takes_the_place_of_the_one_that_closed() {
    for way in WAYS {
        let Group {
            data,
            control,
            sender,
            at,
            to,
        } = Group::new(way, false);
        // C2 joins while C is there, as when a process takes a socket over: the
        // kernel moves the last member into the gap.
        let successor = member(way.0, at);
        drop(control);
        let control = successor;
        let mut group = Group {
            data,
            control,
            sender,
            at,
            to,
        };
        group.check(&group.control, &format!("{way:?}, C2 before C's end"));
        // And the other way round: C is gone for a while.
        group.control = member(way.0, SocketAddr::new(way.0.loopback(), 0));
        group.say(b"control", NONCE, WORDS.control_word);
        assert_eq!(
            hears(&group.data),
            Err(Errno::EAGAIN),
            "{way:?}: D filters it"
        );
        group.control = member(way.0, at);
        group.check(&group.control, &format!("{way:?}, C2 after C's end"));
    }
}

#[test]
fn one_forged_control_carries_no_run_of_data_away() {
    for way in WAYS {
        let group = Group::new(way, false);
        // The kernel picks one member for a whole super-packet, by its last bytes.
        let mut datagrams: Vec<Vec<u8>> = (0..20)
            .map(|n| trailed(&[n; 900], TOKEN, WORDS.data_word))
            .collect();
        datagrams.push(trailed(b"short", !NONCE, WORDS.control_word));
        let datagrams: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        let targets = [Target {
            to: group.to,
            source: None,
        }];
        let mut fan_out = FanOut::new();
        let sent = fan_out.send(&group.sender, &datagrams, &targets, &mut |_, errno| {
            panic!("{errno}")
        });
        assert_eq!(sent.sent, 21);
        assert!(fan_out.segments());
        for n in 0..20 {
            assert_eq!(hears(&group.data), Ok(vec![n; 900]), "{way:?}");
        }
        assert_eq!(hears(&group.data), Err(Errno::EAGAIN), "{way:?}");
        assert_eq!(hears(&group.control), Err(Errno::EAGAIN), "{way:?}");
    }
}
