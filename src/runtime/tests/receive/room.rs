//! What the tests share: settings, waiting, a receiving socket beside a node.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use flexcast_runtime::receive::{Asking, Path, ReceiveSettings, ReceivingSocket};
use flexcast_runtime::{RequesterSettings, Untrailed};
use flexcast_wire::Channel;

use crate::node::Node;

pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Node's address, D's address.
pub(crate) const WAYS: [(&str, &str); 6] = [
    ("127.0.0.1", "0.0.0.0:0"),
    ("127.0.0.1", "127.0.0.1:0"),
    ("::1", "[::]:0"),
    ("::1", "[::1]:0"),
    ("127.0.0.1", "[::]:0"),
    ("127.0.0.1", "[::ffff:127.0.0.1]:0"),
];

pub(crate) fn settings(node: &Node, path: Path) -> ReceiveSettings {
    ReceiveSettings {
        fp: node.fp(),
        path,
        // A tenth of the default: silence is noticed within 0.3 s.
        requester: RequesterSettings {
            heartbeat: Duration::from_millis(100),
            ..RequesterSettings::default()
        },
    }
}

pub(crate) fn asking(node: &Node) -> Asking {
    Asking {
        at: node.at,
        strict: false,
    }
}

/// Runs the test `name` in a process of its own (as nextest does with each): what it
/// does concerns the whole process. True in that process.
pub(crate) fn alone(name: &str) -> bool {
    const ALONE: &str = "RECEIVE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "alone: {out}\n{err}");
    assert!(out.contains("1 passed"), "no test is called {name}: {out}");
    false
}

/// Waits for what must come to be.
#[track_caller]
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < deadline, "not within 5 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A receiving socket and its node.
pub(crate) struct Room {
    pub(crate) node: Node,
    pub(crate) d: UdpSocket,
    pub(crate) socket: ReceivingSocket,
}

impl Room {
    pub(crate) fn new((node, d): (&str, &str), path: Path, untrailed: Untrailed) -> Room {
        let node = Node::new(node);
        let d = UdpSocket::bind(d).unwrap();
        d.set_read_timeout(Some(LIMIT)).unwrap();
        let socket =
            ReceivingSocket::adopt(d.as_raw_fd(), &settings(&node, path), untrailed).unwrap();
        Room { node, d, socket }
    }

    /// Where D is reached from the node.
    pub(crate) fn d_at(&self) -> SocketAddr {
        let port = self.d.local_addr().unwrap().port();
        SocketAddr::new(self.node.at.ip(), port)
    }

    pub(crate) fn join(&self, channel: Channel) {
        self.socket.join(channel, asking(&self.node)).unwrap();
    }

    /// Joins an open channel and waits until it is granted with its token known.
    pub(crate) fn granted(&self, id: u64) -> Channel {
        let channel = self.node.channel(id);
        self.node.open(channel);
        self.join(channel);
        self.await_grant(channel);
        channel
    }

    #[track_caller]
    pub(crate) fn await_grant(&self, channel: Channel) {
        until("a grant", || {
            let report = self.socket.report();
            let known = |c: &flexcast_runtime::receive::ChannelReport| {
                c.channel == channel && c.token_known
            };
            report.channels.iter().any(known) && self.node.receivers(channel) > 0
        });
    }

    /// The next datagram that D gives, and whom the program is shown.
    #[track_caller]
    pub(crate) fn recv(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 66_000];
        let (length, from) = self.d.recv_from(&mut buffer).unwrap();
        buffer.truncate(length);
        (buffer, self.socket.source_of(from))
    }

    /// Sends through the channel and checks that it is the next that D gives.
    #[track_caller]
    pub(crate) fn passes(&self, channel: Channel, body: &[u8]) {
        assert!(self.node.send(channel, body) > 0);
        assert_eq!(self.recv().0, body);
    }

    /// Whether D is readable, and stays so or not for 20 ms.
    pub(crate) fn is_quiet(&self) -> bool {
        use flexcast_udp::process::{poll, PollFd};
        let mut fds = [PollFd::new(self.d.as_raw_fd(), PollFd::IN)];
        poll(&mut fds, Some(20_000)) == Ok(0)
    }
}
