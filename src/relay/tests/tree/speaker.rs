//! A sender and receivers on real sockets, driven by one loop of the test: the
//! engine decides, this sends and receives.
//!
//! Promises: every stream datagram is checked byte for byte, and for the source
//! address; receivers do as the kernel's filter (any token while never granted,
//! then that token). Is not fast: one datagram a call.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_engine::{
    Entropy, NodeSettings, Outbox, Requester, RequesterEvent, RequesterSettings, Route, Sender,
    Time,
};
use flexcast_testbed::Host;
use flexcast_udp::process::{boottime_us, poll, random_u64, PollFd};
use flexcast_udp::{send_one, Class, Family, FanOut, ReceiveBatch, Target, UdpSocket};
use flexcast_wire::{
    Body, Channel, ChannelId, Control, Kind, NodeId, Nonce, StreamToken, Trailer, Verdict,
    TRAILER_LEN,
};

use super::{inside, FP};

pub(crate) fn now() -> Time {
    Time(boottime_us())
}

fn random() -> u64 {
    random_u64().expect("random numbers") | 1
}

/// What the application sends as its `n`th datagram.
fn body(n: u32, size: usize) -> Vec<u8> {
    let mut seed = n.wrapping_mul(0x9E37_79B9) | 1;
    let mut byte = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed.to_le_bytes()[0]
    };
    (0..size).map(|_| byte()).collect()
}

/// The sending side.
pub(crate) struct Origin {
    pub(crate) sender: Sender,
    pub(crate) channel: Channel,
    pub(crate) token: StreamToken,
    socket: UdpSocket,
    batch: ReceiveBatch,
    out: Outbox,
    size: usize,
    /// Microseconds between two datagrams, and when the next is due.
    pace: Option<(u64, u64)>,
    /// Copies sent of every datagram, in order of sequence.
    pub(crate) sent: Vec<(u32, usize)>,
    pub(crate) refused: usize,
    /// How late a datagram was sent at most, µs: the machine was busy.
    pub(crate) longest_delay: u64,
}

/// How far behind its pace the sender hurries, µs.
const CATCH_UP: u64 = 10_000;

impl Origin {
    pub(crate) fn new(on: &Host, address: IpAddr, size: usize) -> Origin {
        let socket = inside(on, || {
            let socket = UdpSocket::new(Family::V6).expect("a socket");
            socket.set_v6_only(false).expect("both families");
            socket.set_packet_info(true).expect("packet info");
            socket.set_no_path_mtu_discovery().expect("no DF");
            socket.set_receive_buffer(1 << 20).expect("a buffer");
            let any = SocketAddr::new(Family::V6.any(), FP);
            socket.bind(any).expect("FP is free");
            socket
        });
        let entropy = Entropy::new(random);
        let mut sender = Sender::new(now(), NodeSettings::sender(), entropy);
        // Each family has a channel of its own, should the other's linger.
        let id = ChannelId::new(70 + u64::from(address.is_ipv6())).expect("not 0");
        let channel = Channel::new(address, id);
        let token = sender.open(now(), channel, 5_000);
        Origin {
            sender,
            channel,
            token,
            socket,
            batch: ReceiveBatch::new(64, 2_048),
            out: Outbox::new(),
            size,
            pace: None,
            sent: Vec::new(),
            refused: 0,
            longest_delay: 0,
        }
    }

    /// From now on so many datagrams a second; 0: none.
    pub(crate) fn pace(&mut self, per_second: u64) {
        self.pace = (per_second > 0).then(|| (1_000_000 / per_second, now().0));
    }

    /// Ends the stream.
    pub(crate) fn end(&mut self) {
        self.pace = None;
        self.send(Kind::End);
        self.sender.end(now(), self.channel.id);
    }

    pub(crate) fn send(&mut self, kind: Kind) {
        let (at, id) = (now(), self.channel.id);
        let trailer = self.sender.stamp(at, id, kind).expect("it is open");
        let size = if kind == Kind::End { 0 } else { self.size };
        let (bytes, end) = (body(trailer.sequence.0, size), trailer.bytes());
        let mut copies = 0;
        let fan = self.sender.fan(id).expect("it is open");
        let moving = fan.moving().iter();
        let moving = moving.filter(|(_, window)| window.admits(trailer.sequence));
        for target in fan.steady().iter().chain(moving.map(|(target, _)| target)) {
            let parts: [&[u8]; 2] = [&bytes, &end];
            let from = Some(target.source);
            match send_one(&self.socket, target.to, from, Class::Stream, &parts) {
                Ok(_) => copies += 1,
                Err(_) => self.refused += 1,
            }
        }
        self.sender
            .carried_on(at, id, &[trailer.sequence], &[size + end.len()]);
        if kind == Kind::Data {
            self.sent.push((trailer.sequence.0, copies));
        }
    }

    /// Sends so many datagrams as one super-packet to each requester.
    pub(crate) fn send_burst(&mut self, count: usize) {
        let (at, id) = (now(), self.channel.id);
        let mut sequences = Vec::new();
        let mut datagrams = Vec::new();
        for _ in 0..count {
            let trailer = self.sender.stamp(at, id, Kind::Data).expect("it is open");
            let mut bytes = body(trailer.sequence.0, self.size);
            bytes.extend_from_slice(&trailer.bytes());
            sequences.push(trailer.sequence);
            datagrams.push(bytes);
        }
        let slices: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();
        let fan = self.sender.fan(id).expect("it is open").steady();
        let target = |t: &flexcast_engine::Target| Target {
            to: t.to,
            source: Some(t.source),
        };
        let targets: Vec<Target> = fan.iter().map(target).collect();
        let mut fan_out = FanOut::new();
        fan_out.send(&self.socket, &slices, &targets, &mut |_, errno| {
            panic!("refused: {errno}");
        });
        let sizes = vec![self.size + TRAILER_LEN; count];
        self.sender.carried_on(at, id, &sequences, &sizes);
        self.sent
            .extend(sequences.iter().map(|s| (s.0, targets.len())));
    }

    pub(crate) fn turn(&mut self) {
        while self.batch.receive(&self.socket).expect("a socket") > 0 {
            for received in self.batch.iter() {
                let (Ok(control), Some(asked)) = (Control::parse(received.payload), received.to)
                else {
                    continue;
                };
                self.sender
                    .on_control(now(), received.from, asked, &control, &mut self.out);
            }
        }
        self.sender.poll(now(), &mut self.out);
        for (letter, bytes) in self.out.iter() {
            let Route::Node(source) = letter.route else {
                continue;
            };
            let _ = send_one(
                &self.socket,
                letter.to,
                Some(source),
                Class::Control,
                &[bytes],
            );
        }
        self.out.clear();
        while let Some((gap, next)) = self.pace.filter(|(_, next)| *next <= now().0) {
            let at = now().0;
            self.longest_delay = self.longest_delay.max(at - next);
            // What a busy machine held up is not sent in one burst.
            self.pace = Some((gap, (next + gap).max(at.saturating_sub(CATCH_UP))));
            self.send(Kind::Data);
        }
    }

    fn next_time(&self) -> Time {
        let next = self.pace.map_or(Time::NEVER, |(_, next)| Time(next));
        next.min(self.sender.next_time())
    }
}

/// A receiving socket.
pub(crate) struct Receiver {
    pub(crate) requester: Requester,
    socket: UdpSocket,
    batch: ReceiveBatch,
    out: Outbox,
    token: Option<StreamToken>,
    size: usize,
    /// Sequences, and how often each came.
    pub(crate) got: HashMap<u32, u32>,
    /// What should not have come.
    pub(crate) wrong: Vec<String>,
    pub(crate) last: u64,
    /// The longest pause between two datagrams, µs.
    pub(crate) longest_gap: u64,
    pub(crate) ended: bool,
}

impl Receiver {
    pub(crate) fn new(on: &Host, channel: Channel, size: usize) -> Receiver {
        Receiver::asking(on, channel, size, RequesterSettings::default())
    }

    pub(crate) fn asking(
        on: &Host,
        channel: Channel,
        size: usize,
        settings: RequesterSettings,
    ) -> Receiver {
        let family = Family::of(channel.sender);
        let socket = inside(on, || {
            let socket = UdpSocket::new(family).expect("a socket");
            socket.set_receive_buffer(1 << 20).expect("a buffer");
            let any = SocketAddr::new(family.any(), 0);
            socket.bind(any).expect("a free port");
            socket
        });
        let requester = Requester::new(
            now(),
            channel,
            Nonce(random()),
            NodeId::NONE,
            SocketAddr::new(channel.sender, FP),
            settings,
        );
        Receiver {
            requester,
            socket,
            batch: ReceiveBatch::new(64, 2_048),
            out: Outbox::new(),
            token: None,
            size,
            got: HashMap::new(),
            wrong: Vec::new(),
            last: 0,
            longest_gap: 0,
            ended: false,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().expect("bound").port()
    }

    /// Datagrams that came more than once.
    pub(crate) fn twice(&self) -> usize {
        self.got.values().filter(|n| **n > 1).count()
    }

    /// Of those sent from its first to its last, how many did not come.
    pub(crate) fn lost(&self, sent: &[(u32, usize)]) -> usize {
        let came = |sequence: &u32| self.got.contains_key(sequence);
        let first = sent.iter().position(|(sequence, _)| came(sequence));
        let last = sent.iter().rposition(|(sequence, _)| came(sequence));
        let (Some(first), Some(last)) = (first, last) else {
            return 0;
        };
        let between = sent[first..=last].iter();
        between.filter(|(sequence, _)| !came(sequence)).count()
    }

    pub(crate) fn turn(&mut self) {
        while self.batch.receive(&self.socket).expect("a socket") > 0 {
            let batch = std::mem::replace(&mut self.batch, ReceiveBatch::new(1, 1));
            for received in batch.iter() {
                self.take(received.payload, received.from);
            }
            self.batch = batch;
        }
        let received = u64::try_from(self.got.len()).expect("few");
        self.requester.report(received, Some(0));
        self.requester.poll(now(), &mut self.out);
        while let Some(event) = self.requester.next_event() {
            match event {
                RequesterEvent::Token(token) => self.token = token,
                RequesterEvent::Verdict(Verdict::Ended, _) => self.ended = true,
                _ => {}
            }
        }
        for (letter, bytes) in self.out.iter() {
            let _ = send_one(&self.socket, letter.to, None, Class::Control, &[bytes]);
        }
        self.out.clear();
    }

    fn take(&mut self, datagram: &[u8], from: SocketAddr) {
        self.wrong.truncate(3);
        let Ok((payload, trailer)) = Trailer::split(datagram) else {
            self.wrong.push(format!("{} strange bytes", datagram.len()));
            return;
        };
        if trailer.kind == Kind::Control {
            let Ok(control) = Control::parse(datagram) else {
                self.wrong.push("malformed control".to_owned());
                return;
            };
            let (header, out) = (&control.header, &mut self.out);
            match &control.body {
                Body::Challenge(c) => self.requester.on_challenge(now(), header, c.cookie, out),
                Body::Status(s) => self.requester.on_status(now(), header, s, out),
                _ => self.wrong.push("a message for nodes".to_owned()),
            }
            while let Some(event) = self.requester.next_event() {
                match event {
                    RequesterEvent::Token(token) => self.token = token,
                    RequesterEvent::Verdict(Verdict::Ended, _) => self.ended = true,
                    _ => {}
                }
            }
            return;
        }
        if self.token.is_some_and(|token| token.0 != trailer.token) {
            return;
        }
        let asked = SocketAddr::new(self.requester.channel().sender, FP);
        if from != asked {
            self.wrong.push(format!("stream from {from}"));
        }
        if trailer.kind == Kind::End {
            return;
        }
        if payload != body(trailer.sequence.0, self.size) {
            self.wrong
                .push(format!("{} has other bytes", trailer.sequence.0));
        }
        *self.got.entry(trailer.sequence.0).or_default() += 1;
        let at = now().0;
        if self.last > 0 {
            self.longest_gap = self.longest_gap.max(at - self.last);
        }
        self.last = at;
    }
}

/// The sender and all receivers, with their one loop.
pub(crate) struct Stage {
    pub(crate) origin: Origin,
    pub(crate) receivers: Vec<Receiver>,
}

impl Stage {
    /// Runs until it is so.
    ///
    /// # Panics
    /// When it is not so after `limit`.
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut so: impl FnMut(&mut Stage) -> bool,
    ) -> Duration {
        let began = now();
        while !so(self) {
            assert!(now().since(began) < limit, "{what}: not within {limit:?}");
            self.turn();
        }
        now().since(began)
    }

    /// Runs for this long.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = now() + span;
        while now() < end {
            self.turn();
        }
    }

    /// Lets what is under way arrive, then counts anew.
    pub(crate) fn count_anew(&mut self, per_second: u64) {
        self.origin.pace(0);
        self.run(Duration::from_millis(100));
        self.begin_count();
        self.origin.pace(per_second);
    }

    /// Forgets what came until now.
    pub(crate) fn begin_count(&mut self) {
        self.origin.sent.clear();
        self.origin.longest_delay = 0;
        for receiver in &mut self.receivers {
            receiver.got.clear();
            receiver.longest_gap = 0;
            receiver.last = 0;
        }
    }

    /// Whether all receivers got a datagram in the last 50 ms.
    pub(crate) fn all_are_fed(&self) -> bool {
        let soon = now() - Duration::from_millis(50);
        self.receivers.iter().all(|r| Time(r.last) > soon)
    }

    pub(crate) fn turn(&mut self) {
        self.origin.turn();
        for receiver in &mut self.receivers {
            receiver.turn();
        }
        let requesters = self.receivers.iter();
        let next = requesters
            .filter(|r| !r.requester.is_gone())
            .map(|r| r.requester.next_time())
            .fold(self.origin.next_time(), Time::min);
        let wait = next.since(now()).min(Duration::from_millis(5));
        let mut fds = vec![PollFd::new(self.origin.socket.as_raw(), PollFd::IN)];
        fds.extend(
            self.receivers
                .iter()
                .map(|r| PollFd::new(r.socket.as_raw(), PollFd::IN)),
        );
        let wait = u64::try_from(wait.as_micros()).expect("5 ms at most");
        poll(&mut fds, Some(wait)).expect("polled");
    }
}
