//! A receiver process: one engine requester and one socket for each that is asked
//! for, without the library's receiving half.

use std::collections::HashSet;
use std::io::stdin;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flexcast_engine::{Outbox, Requester, RequesterEvent, RequesterSettings, Time};
use flexcast_udp::{process, recv_one, send_one, Class, Errno, Family, UdpSocket};
use flexcast_wire::{
    Body, Channel, Control, Kind, NodeId, Nonce, Sequence, Trailer, FLEXCAST_PORT,
};

use super::handover::{Moved, Outcome};
use super::say;

struct Client {
    socket: UdpSocket,
    requester: Requester,
    verdict: String,
    token: u64,
    tokens: HashSet<u64>,
    nodes: HashSet<NodeId>,
    received: u64,
    bytes: u64,
    last: Option<Sequence>,
    missed: u64,
    twice: u64,
    ends: u64,
    first_number: Option<u64>,
    last_data: Option<Instant>,
    longest_pause: Duration,
    asleep: bool,
    app_port: u16,
    wrong_source: u64,
    control: u64,
}

fn now() -> Time {
    Time(process::boottime_us())
}

impl Client {
    fn new(channel: Channel, from: Option<SocketAddr>) -> Client {
        let socket = UdpSocket::new(Family::of(channel.sender)).unwrap();
        let any = SocketAddr::new(socket.family().any(), 0);
        socket.bind(from.unwrap_or(any)).unwrap();
        socket.set_receive_buffer(4 << 20).unwrap();
        let at = SocketAddr::new(channel.sender, FLEXCAST_PORT);
        let nonce = Nonce(process::random_u64().unwrap() | 1);
        let settings = RequesterSettings::default();
        Client {
            socket,
            requester: Requester::new(now(), channel, nonce, NodeId::NONE, at, settings),
            verdict: "none".to_owned(),
            token: 0,
            tokens: HashSet::new(),
            nodes: HashSet::new(),
            received: 0,
            bytes: 0,
            last: None,
            missed: 0,
            twice: 0,
            ends: 0,
            first_number: None,
            last_data: None,
            longest_pause: Duration::ZERO,
            asleep: false,
            app_port: 0,
            wrong_source: 0,
            control: 0,
        }
    }

    fn step(&mut self, buffer: &mut [u8]) {
        if self.asleep {
            return;
        }
        let mut out = Outbox::new();
        loop {
            match recv_one(&self.socket, buffer) {
                Ok(received) => {
                    let from = received.from;
                    let payload = received.payload.to_vec();
                    self.take(from, &payload, &mut out);
                }
                Err(Errno::EAGAIN) => break,
                Err(_) => {}
            }
        }
        self.requester.poll(now(), &mut out);
        for (letter, bytes) in out.iter() {
            let _ = send_one(&self.socket, letter.to, None, Class::Control, &[bytes]);
        }
        while let Some(event) = self.requester.next_event() {
            match event {
                RequesterEvent::Verdict(verdict, _) => self.verdict = format!("{verdict:?}"),
                RequesterEvent::Token(token) => self.token = token.map_or(0, |token| token.0),
                RequesterEvent::AppPort(port) => self.app_port = port,
            }
        }
    }

    fn take(&mut self, from: SocketAddr, payload: &[u8], out: &mut Outbox) {
        if from != self.requester.asked() {
            self.wrong_source += 1;
        }
        let Ok((body, trailer)) = Trailer::split(payload) else {
            return;
        };
        if trailer.kind == Kind::Control {
            self.control += 1;
            let Ok(control) = Control::parse(payload) else {
                return;
            };
            self.nodes.insert(control.header.node);
            match control.body {
                Body::Challenge(challenge) => {
                    let cookie = challenge.cookie;
                    self.requester
                        .on_challenge(now(), &control.header, cookie, out);
                }
                Body::Status(status) => {
                    self.requester
                        .on_status(now(), &control.header, &status, out);
                }
                _ => {}
            }
            return;
        }
        if self.tokens.insert(trailer.token) {
            self.last = None;
        }
        match self.last.map(|last| trailer.sequence.ahead_of(last)) {
            _ if trailer.kind == Kind::End => self.ends += 1,
            None | Some(1) => {}
            Some(ahead) if ahead > 1 => self.missed += u64::try_from(ahead).unwrap() - 1,
            Some(_) => self.twice += 1,
        }
        if trailer.kind == Kind::Data {
            self.last = Some(trailer.sequence);
            self.received += 1;
            self.bytes += body.len() as u64;
            if let Some(first) = body.first_chunk::<8>() {
                self.first_number.get_or_insert(u64::from_be_bytes(*first));
            }
            let now = Instant::now();
            if let Some(before) = self.last_data.replace(now) {
                self.longest_pause = self.longest_pause.max(now - before);
            }
        }
    }

    fn show(&self) -> String {
        format!(
            "verdict={} received={} bytes={} missed={} twice={} ends={} tokens={} nodes={} \
             first={} pause={} port={} strange={} control={}",
            self.verdict,
            self.received,
            self.bytes,
            self.missed,
            self.twice,
            self.ends,
            self.tokens.len(),
            self.nodes.len(),
            self.first_number.unwrap_or(u64::MAX),
            self.longest_pause.as_millis(),
            self.app_port,
            self.wrong_source,
            self.control,
        )
    }
}

pub(crate) fn run() {
    let clients: Arc<Mutex<Vec<Client>>> = Arc::default();
    let theirs = clients.clone();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        loop {
            for client in theirs.lock().unwrap().iter_mut() {
                client.step(&mut buffer);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    for line in stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let mut clients = clients.lock().unwrap();
        match words[0] {
            // ask CHANNEL COUNT [FROM]
            "ask" => {
                let channel: Channel = words[1].parse().unwrap();
                let count: usize = words[2].parse().unwrap();
                let from = words.get(3).map(|from| from.parse().unwrap());
                clients.extend((0..count).map(|_| Client::new(channel, from)));
                say("ok");
            }
            "stats" => {
                say(&clients.len().to_string());
                clients.iter().for_each(|client| say(&client.show()));
            }
            // Forgets the longest pause.
            "mark" => {
                for client in clients.iter_mut() {
                    client.longest_pause = Duration::ZERO;
                }
                say("ok");
            }
            "leave" => {
                let gone = now();
                for client in clients.iter_mut() {
                    client.requester.leave(gone, true);
                }
                say("ok");
            }
            // turn CHANNEL COUNT: so many requesters, moved there and away again.
            "turn" => {
                let channel: Channel = words[1].parse().unwrap();
                let count: usize = words[2].parse().unwrap();
                let turns =
                    (0..count).map(|_| std::thread::spawn(move || Moved::new(channel).turn()));
                let turns: Vec<JoinHandle<Outcome>> = turns.collect();
                let outcomes = turns.into_iter().map(|turn| turn.join().unwrap().count);
                say(&outcomes.min().unwrap().to_string());
            }
            // Closes the sockets without a word.
            "vanish" => {
                clients.clear();
                say("ok");
            }
            other => panic!("{other}?"),
        }
    }
}
