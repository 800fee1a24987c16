//! A node: channels of the engine's sender, on an FP of the test's own.
//!
//! Promises: answers requests in a thread of its own until dropped; can lose control
//! datagrams, and can be restarted under the same address. Is not `send`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use flexcast_engine::{Entropy, NodeSettings, Outbox, Sender};
use flexcast_runtime::now;
use flexcast_wire::{
    Body, Channel, ChannelId, Control, Kind, Sequence, StreamToken, Trailer, Want,
};

pub(crate) const APP_PORT: u16 = 41_000;

struct State {
    sender: Sender,
    /// Of 100 control datagrams, each way, so many are lost.
    loss: u64,
    chance: u64,
    /// Leaves that came, by channel id.
    leaves: Vec<ChannelId>,
    requests: u64,
    last: Option<SocketAddr>,
}

impl State {
    fn loses(&mut self) -> bool {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance % 100 < self.loss
    }
}

pub(crate) struct Node {
    pub(crate) at: SocketAddr,
    socket: UdpSocket,
    state: Arc<Mutex<State>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn sender(seed: u64) -> Sender {
    let mut n = seed;
    let entropy = Entropy::new(move || {
        // splitmix64
        n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = n;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    });
    Sender::new(now(), NodeSettings::sender(), entropy)
}

impl Node {
    /// A node at `address`, on a port that the kernel chooses.
    pub(crate) fn new(address: &str) -> Node {
        let address: IpAddr = address.parse().unwrap();
        let socket = UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
        let pause = Duration::from_millis(2);
        socket.set_read_timeout(Some(pause)).unwrap();
        let at = socket.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            sender: sender(u64::from(at.port())),
            loss: 0,
            chance: 0x1234_5678_9ABC_DEF1,
            leaves: Vec::new(),
            requests: 0,
            last: None,
        }));
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, ended) = (state.clone(), over.clone());
        let ears = socket.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                serve(&ears, at.ip(), &theirs);
            }
        });
        Node {
            at,
            socket,
            state,
            over,
            thread: Some(thread),
        }
    }

    pub(crate) fn fp(&self) -> u16 {
        self.at.port()
    }

    pub(crate) fn channel(&self, id: u64) -> Channel {
        Channel::new(self.at.ip(), ChannelId::new(id).unwrap())
    }

    /// Opens a channel.
    pub(crate) fn open(&self, channel: Channel) -> StreamToken {
        self.open_from(channel, APP_PORT)
    }

    pub(crate) fn open_from(&self, channel: Channel, app_port: u16) -> StreamToken {
        let mut state = self.state.lock().unwrap();
        state.sender.open(now(), channel, app_port)
    }

    /// Opens a channel, and sends its grants and one datagram right behind them.
    pub(crate) fn open_with(&self, channel: Channel, body: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.sender.open(now(), channel, APP_PORT);
        let mut out = Outbox::new();
        state.sender.poll(now(), &mut out);
        for (letter, bytes) in out.iter() {
            self.say(letter.to, bytes);
        }
        drop(state);
        assert!(self.send(channel, body) > 0);
    }

    pub(crate) fn end(&self, channel: Channel) {
        self.state.lock().unwrap().sender.end(now(), channel.id);
    }

    /// All is forgotten, as when the process starts again.
    pub(crate) fn restart(&self) {
        self.state.lock().unwrap().sender = sender(now().0);
    }

    /// Whoever asks for it is refused for good from now on.
    pub(crate) fn refuse(&self, channel: Channel) {
        let guards = HashMap::from([(Some(channel.id), true)]);
        let mut state = self.state.lock().unwrap();
        state.sender.set_guards(now(), guards, &mut Outbox::new());
    }

    pub(crate) fn lose(&self, percent: u64) {
        self.state.lock().unwrap().loss = percent;
    }

    pub(crate) fn receivers(&self, channel: Channel) -> u64 {
        self.state.lock().unwrap().sender.receivers(channel.id)
    }

    /// Leaves that have come for the channel.
    pub(crate) fn leaves(&self, channel: Channel) -> usize {
        let state = self.state.lock().unwrap();
        state.leaves.iter().filter(|id| **id == channel.id).count()
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state.lock().unwrap().requests
    }

    /// Who asked last.
    pub(crate) fn last_requester(&self) -> SocketAddr {
        self.state.lock().unwrap().last.unwrap()
    }

    /// Where the requesters of a channel ask from.
    pub(crate) fn requesters(&self, channel: Channel) -> Vec<SocketAddr> {
        let state = self.state.lock().unwrap();
        let fan = state.sender.fan(channel.id);
        fan.map_or(Vec::new(), |fan| {
            fan.steady().iter().map(|t| t.to).collect()
        })
    }

    /// One datagram to the audience; how many got it.
    pub(crate) fn send(&self, channel: Channel, body: &[u8]) -> usize {
        let mut state = self.state.lock().unwrap();
        let Some(trailer) = state.sender.stamp(now(), channel.id, Kind::Data) else {
            return 0;
        };
        let bytes = [body, &trailer.bytes()].concat();
        let fan = state.sender.fan(channel.id).unwrap();
        let targets: Vec<SocketAddr> = fan.steady().iter().map(|t| t.to).collect();
        for to in &targets {
            self.say(*to, &bytes);
        }
        targets.len()
    }

    /// Any bytes from FP.
    pub(crate) fn say(&self, to: SocketAddr, bytes: &[u8]) {
        let sent = self.socket.send_to(bytes, to).unwrap();
        assert_eq!(sent, bytes.len());
    }
}

/// A datagram of the stream.
pub(crate) fn data(body: &[u8], token: u64) -> Vec<u8> {
    trailed(body, token, Kind::Data)
}

pub(crate) fn trailed(body: &[u8], token: u64, kind: Kind) -> Vec<u8> {
    let trailer = Trailer {
        token,
        sequence: Sequence(1),
        kind,
    };
    [body, &trailer.bytes()].concat()
}

fn serve(socket: &UdpSocket, own: IpAddr, state: &Mutex<State>) {
    let mut buffer = [0; 2048];
    let heard = socket.recv_from(&mut buffer);
    let mut out = Outbox::new();
    let mut state = state.lock().unwrap();
    if let Ok((length, from)) = heard {
        let control = Control::parse(&buffer[..length]).expect("requests alone come here");
        let Body::Request(request) = &control.body else {
            panic!("no request: {control:?}");
        };
        state.requests += 1;
        state.last = Some(from);
        if matches!(request.want, Want::Leave { .. }) {
            state.leaves.push(control.header.channel.id);
        }
        if !state.loses() {
            state
                .sender
                .on_control(now(), from, own, &control, &mut out);
        }
    }
    for question in state.sender.take_questions() {
        let (id, nonce) = (question.channel.id, question.nonce);
        state.sender.answer(now(), id, nonce, false, &mut out);
    }
    state.sender.poll(now(), &mut out);
    for (letter, bytes) in out.iter() {
        if !state.loses() {
            // Whoever asked may be gone by now.
            let _ = socket.send_to(bytes, letter.to);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
