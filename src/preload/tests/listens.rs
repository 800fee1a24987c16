//! A server in the accept style sees on a datagram socket, under the library, what the
//! kernel shows it on a stream socket.
//!
//! `programs/listens.c` prints what each call answers. Run natively on a stream socket,
//! with TCP connections for peers, it says what is right; under the library, on a
//! datagram socket with receivers for peers, it must say the same. Is not about POLLOUT
//! on the listening socket, which a datagram socket always has, nor about POLLRDHUP before
//! the end of the file was read.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver as Told, Sender as Tell};
use std::thread;
use std::time::{Duration, Instant};

use flexcast_runtime::native::{Event, Receiver, ReceiverSettings};
use flexcast_testbed::World;
use flexcast_wire::{Channel, ChannelId};

mod support;

const PORT: u16 = 5000;
const MAP: &str = "127.0.0.1:5000 10.0.0.5:5000 [::1]:5000 [2001:db8::5]:5000";

/// Where the program listens, and where its peers look for it.
const PLACES: [(&str, &str); 7] = [
    ("127.0.0.1", "127.0.0.1"),
    ("0.0.0.0", "10.0.0.5"),
    ("10.0.0.5", "10.0.0.5"),
    ("::1", "::1"),
    ("2001:db8::5", "2001:db8::5"),
    ("::", "::1"),
    ("::", "127.0.0.1"),
];

fn lay_link() {
    for line in [
        "link add v0 type veth peer name v1",
        "address add 10.0.0.5/24 dev v0",
        "address add 2001:db8::5/64 dev v0 nodad",
        "link set v0 up",
        "link set v1 up",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status();
        assert!(status.expect("ip is installed").success(), "ip {line}");
    }
}

/// What a peer that is told to go still waits for.
const QUIET: Duration = Duration::from_millis(50);

/// A peer, until it is told to go and hears nothing more, or the stream ends.
struct Peer {
    go: Tell<()>,
    body: thread::JoinHandle<Vec<u8>>,
}

impl Peer {
    fn connected(at: SocketAddr) -> Peer {
        Peer::start(move |go| {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.set_read_timeout(Some(QUIET)).unwrap();
            let (mut heard, mut buffer) = (Vec::new(), [0; 100]);
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => return heard,
                    Ok(length) => heard.extend_from_slice(&buffer[..length]),
                    Err(_) if go.try_recv().is_ok() => return heard,
                    Err(_) => {}
                }
            }
        })
    }

    fn asking(at: SocketAddr) -> Peer {
        Peer::start(move |go| {
            let id = ChannelId::from_unicast_port(at.port()).unwrap();
            let settings = ReceiverSettings::new(Channel::new(at.ip(), id), 7450);
            let mut receiver = Receiver::open(settings).unwrap();
            let mut heard = Vec::new();
            loop {
                match receiver.next(Some(QUIET)) {
                    Event::Datagram(bytes) => heard.extend_from_slice(bytes),
                    Event::Ended => break,
                    Event::TimedOut if go.try_recv().is_ok() => break,
                    _ => {}
                }
            }
            assert_eq!(receiver.counts().lost, 0);
            heard
        })
    }

    fn start(body: impl FnOnce(Told<()>) -> Vec<u8> + Send + 'static) -> Peer {
        let (go, told) = mpsc::channel();
        let body = thread::spawn(move || body(told));
        Peer { go, body }
    }

    /// What it has heard when it is gone, told to go.
    fn sent_away(self) -> String {
        let _ = self.go.send(());
        self.gone()
    }

    /// What it has heard when it is gone by itself, at the end of the stream.
    fn gone(self) -> String {
        String::from_utf8(self.body.join().unwrap()).unwrap()
    }
}

/// Runs the program with peers as it asks for them; what it said, and what they heard.
fn serve(command: &mut Command, peer: impl Fn() -> Peer) -> (Vec<String>, Vec<String>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut said, mut heard, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        match line.unwrap().as_str() {
            "? come" => {
                heard.extend(peers.drain(..).map(Peer::gone));
                peers.push(peer());
            }
            "? go" => heard.push(peers.pop().unwrap().sent_away()),
            other => said.push(other.to_owned()),
        }
        assert!(Instant::now() < deadline, "{said:#?}");
    }
    assert!(child.wait().unwrap().success(), "{said:#?}");
    heard.extend(peers.into_iter().map(Peer::gone));
    (said, heard)
}

fn compare(library: &Path, program: &Path, (bound, asked): (&str, &str)) {
    let at = SocketAddr::new(asked.parse().unwrap(), PORT);
    let port = PORT.to_string();
    let mut native = Command::new(program);
    let native = native.args(["stream", bound, &port]);
    let (right, heard) = serve(native, || Peer::connected(at));
    assert!(right.len() > 90, "{right:#?}");
    let mut ours = support::preloaded(library, Some(MAP), program);
    let ours = ours.args(["datagram", bound, &port]);
    let (said, heard_by_ours) = serve(ours, || Peer::asking(at));
    for (n, (said, right)) in said.iter().zip(&right).enumerate() {
        assert_eq!(said, right, "line {} at {bound}", n + 1);
    }
    assert_eq!(said.len(), right.len(), "{said:#?}");
    assert_eq!(heard_by_ours, heard, "{bound}");
    assert!(heard[0].starts_with("onexoneone"), "{heard:?}");
}

#[test]
fn a_listening_program_sees_what_a_stream_socket_would_show() {
    let libraries = support::libraries();
    let test = "a_listening_program_sees_what_a_stream_socket_would_show";
    let Some(_world) = World::enter(test) else {
        return;
    };
    lay_link();
    let program = support::program("listens.c", &[]);
    for place in PLACES {
        compare(&libraries[0], &program, place);
    }
    compare(libraries.last().unwrap(), &program, PLACES[0]);
}
