//! A host that is called and the one that calls: the sender is the library's own, in this
//! process at 10.0.0.5; the caller a program under the preload library on a host of its
//! own, told what to do line by line (`programs/commands.c`).
//!
//! Promises: of each family one way. Is not the two ends themselves (`streams`).

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use flexcast_testbed::{Host, World};
use flexcast_wire::{Channel, ChannelId};

use super::streams::Receiver;

pub(crate) const RULE: &str = "10.0.0.5:5000 [2001:db8::5]:5000";
/// A leave is sent at once; with a second's margin.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(1_250);
/// What no hook saw is looked for every two seconds.
pub(crate) const LOOKED: Duration = Duration::from_secs(3);
pub(crate) const LONG: Duration = Duration::from_secs(5);
/// Called as, the sender, the caller's host.
pub(crate) const WAYS: [(&str, &str, &str); 3] = [
    ("10.0.0.5", "10.0.0.5", "10.0.0.6"),
    ("2001:db8::5", "2001:db8::5", "2001:db8::6"),
    ("::ffff:10.0.0.5", "10.0.0.5", "::ffff:10.0.0.6"),
];
pub(crate) const PATHS: [Option<&str>; 2] = [None, Some("user")];

/// This host, and the caller's.
pub(crate) fn enter(test: &str) -> Option<(World, Host)> {
    let world = super::enter(test)?;
    let host = world.host("c");
    super::ip(&format!("link set v1 netns {}", host.pid()));
    for line in [
        "link set v1 up",
        "address add 10.0.0.6/24 dev v1",
        "address add 2001:db8::6/64 dev v1 nodad",
    ] {
        host.ip(&line.split(' ').collect::<Vec<_>>());
    }
    Some((world, host))
}

pub(crate) fn channel(sender: &str) -> Channel {
    Channel::new(sender.parse().unwrap(), ChannelId::new(5000).unwrap())
}

/// A program on the caller's host.
pub(crate) fn program(host: &Host, rule: &str, called: &str, path: Option<&str>) -> Receiver {
    let pid = host.pid().to_string();
    let there = ["nsenter", "-t", &pid, "-n", "--"];
    Receiver::start(rule, called, &there, path)
}

/// The server's own unicast.
pub(crate) fn server(address: &str) -> UdpSocket {
    let address = address.parse().unwrap();
    let socket = UdpSocket::bind(SocketAddr::new(address, 5000)).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

pub(crate) fn takes(server: &UdpSocket) -> (String, SocketAddr) {
    let mut bytes = [0; 100];
    let (length, from) = server.recv_from(&mut bytes).expect("a datagram comes");
    (super::text(&bytes[..length]), from)
}
