//! A simulated network and clock: senders, relays and receivers on a routed tree,
//! with seeded delay, loss, reordering and duplication.
//!
//! Promises: the same seed gives the same run. Requests to S are caught by the
//! first live relay on the way, as a capture rule would; direct ones go to the
//! node addressed. Receivers model the kernel's filter: once a token is known,
//! only that token. Is not a model of links' capacity.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use flexcast_engine::{
    Entropy, NodeSettings, Order, Outbox, Relay, Requester, RequesterEvent, RequesterSettings,
    Route, Sender, Target, Time,
};
use flexcast_wire::{
    Body, Channel, Control, Kind, MessageType, NodeId, Nonce, Sequence, StreamToken, Trailer,
};

pub const FP: u16 = 7450;
pub const MS: u64 = 1_000;
pub const S: u64 = 1_000_000;

/// A seeded generator (SplitMix64).
#[derive(Clone)]
pub struct Seed(pub u64);

impl Seed {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn entropy(&mut self) -> Entropy {
        let mut seed = Seed(self.next());
        Entropy::new(move || seed.next())
    }
}

pub type Host = usize;

pub enum Role {
    Sender(Box<Sender>),
    Relay(Box<Relay>),
    Receiver(Box<Receiver>),
    Router,
}

/// A receiving socket: requester, and what its filter let through.
pub struct Receiver {
    pub requester: Requester,
    pub port: u16,
    pub token: Option<StreamToken>,
    pub got: HashMap<(u64, u32), u32>,
    pub last_data: u64,
    pub longest_gap: u64,
    pub events: Vec<RequesterEvent>,
}

impl Receiver {
    /// Sequences received more than once, of this token.
    pub fn twice(&self) -> usize {
        self.got.values().filter(|&&n| n > 1).count()
    }

    /// Sequences between first and last of the token that never came.
    pub fn lost(&self, token: u64, from: u32, to: u32) -> usize {
        (from..to)
            .filter(|s| !self.got.contains_key(&(token, *s)))
            .count()
    }
}

enum Event {
    Wire {
        at: Host,
        bytes: Vec<u8>,
        from: SocketAddr,
        to: SocketAddr,
    },
    Timer {
        host: Host,
    },
    Stream {
        burst: u32,
        gap: u64,
        until: u64,
    },
}

pub struct Net {
    pub now: u64,
    pub hosts: Vec<Role>,
    pub addresses: Vec<IpAddr>,
    /// The next host towards the sender.
    pub up: Vec<Option<Host>>,
    pub stopped: Vec<bool>,
    pub channel: Channel,
    pub seed: Seed,
    pub control_loss: u64,
    pub delay: u64,
    pub jitter: u64,
    pub duplicate_control: u64,
    /// Percent of stream datagrams that a link into a relay carries twice.
    pub duplicate_data: u64,
    /// Next hops that a host takes in turn for its requests (per-packet balancing).
    pub balanced: HashMap<Host, Vec<Host>>,
    turn: usize,
    /// Addresses that only their neighbours reach (a NAT in front of the rest).
    pub hidden: Vec<Host>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: HashMap<u64, Event>,
    order: u64,
    armed: Vec<u64>,
    /// Stream datagrams and control datagrams over the link (from, to) by hop.
    pub links: BTreeMap<(Host, Host), (u64, u64)>,
    pub sent: Vec<(u64, u32)>,
    relay_ports: HashMap<(Host, u16), Channel>,
    pub control_log: Vec<(u64, Host, MessageType)>,
}

impl Net {
    pub fn new(seed: u64) -> Net {
        let sender: IpAddr = Ipv4Addr::new(10, 0, 0, 1).into();
        let channel = Channel::new(sender, flexcast_wire::ChannelId::new(5000).unwrap());
        let mut net = Net {
            now: 1000 * S,
            hosts: Vec::new(),
            addresses: Vec::new(),
            up: Vec::new(),
            stopped: Vec::new(),
            channel,
            seed: Seed(seed),
            control_loss: 0,
            delay: 5 * MS,
            jitter: 0,
            duplicate_control: 0,
            duplicate_data: 0,
            balanced: HashMap::new(),
            turn: 0,
            hidden: Vec::new(),
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            order: 0,
            armed: Vec::new(),
            links: BTreeMap::new(),
            sent: Vec::new(),
            relay_ports: HashMap::new(),
            control_log: Vec::new(),
        };
        let node = net.new_sender();
        net.add(node, None);
        net
    }

    pub fn new_sender(&mut self) -> Role {
        let entropy = self.seed.entropy();
        Role::Sender(Box::new(Sender::new(
            Time(self.now),
            NodeSettings::sender(),
            entropy,
        )))
    }

    pub fn new_relay(&mut self) -> Role {
        let entropy = self.seed.entropy();
        let settings = NodeSettings::relay();
        let asking = RequesterSettings::default();
        Role::Relay(Box::new(Relay::new(
            Time(self.now),
            FP,
            settings,
            asking,
            entropy,
        )))
    }

    pub fn new_receiver(&mut self, port: u16) -> Role {
        let requester = Requester::new(
            Time(self.now),
            self.channel,
            Nonce(self.seed.next() | 1),
            NodeId::NONE,
            SocketAddr::new(self.channel.sender, FP),
            RequesterSettings::default(),
        );
        Role::Receiver(Box::new(Receiver {
            requester,
            port,
            token: None,
            got: HashMap::new(),
            last_data: 0,
            longest_gap: 0,
            events: Vec::new(),
        }))
    }

    pub fn add(&mut self, role: Role, up: Option<Host>) -> Host {
        let n = self.hosts.len();
        let low = u8::try_from(n % 250 + 1).unwrap();
        let high = u8::try_from(n / 250).unwrap();
        self.hosts.push(role);
        self.addresses.push(Ipv4Addr::new(10, 0, high, low).into());
        self.up.push(up);
        self.stopped.push(false);
        self.armed.push(u64::MAX);
        self.rearm(n);
        n
    }

    pub fn add_relay(&mut self, up: Host) -> Host {
        let relay = self.new_relay();
        self.add(relay, Some(up))
    }

    pub fn add_receiver(&mut self, up: Host) -> Host {
        let receiver = self.new_receiver(40_000);
        self.add(receiver, Some(up))
    }

    /// Puts another role at a host (a relay that starts or vanishes).
    pub fn replace(&mut self, host: Host, role: Role) {
        self.hosts[host] = role;
        self.armed[host] = u64::MAX;
        self.relay_ports.retain(|(h, _), _| *h != host);
        self.rearm(host);
    }

    pub fn receiver(&self, host: Host) -> &Receiver {
        match &self.hosts[host] {
            Role::Receiver(r) => r,
            _ => panic!("host {host} is no receiver"),
        }
    }

    pub fn relay(&mut self, host: Host) -> &mut Relay {
        match &mut self.hosts[host] {
            Role::Relay(r) => r,
            _ => panic!("host {host} is no relay"),
        }
    }

    pub fn sender(&mut self) -> &mut Sender {
        match &mut self.hosts[0] {
            Role::Sender(s) => s,
            _ => panic!("host 0 is no sender"),
        }
    }

    pub fn open(&mut self) -> StreamToken {
        let (now, channel) = (Time(self.now), self.channel);
        let token = self.sender().open(now, channel, 5000);
        // Whoever waits hears of it before the first datagram, as in the runtime.
        let mut out = Outbox::new();
        self.sender().poll(now, &mut out);
        self.deliver(0, &out);
        self.rearm(0);
        token
    }

    pub fn leave(&mut self, host: Host) {
        let now = Time(self.now);
        if let Role::Receiver(r) = &mut self.hosts[host] {
            r.requester.leave(now, false);
        }
        self.rearm(host);
    }

    /// Has a receiver ask within 200 ms, as one does whose number below changed.
    pub fn ask_anew(&mut self, host: Host) {
        if let Role::Receiver(r) = &mut self.hosts[host] {
            r.requester.set_below(2, 32);
        }
        self.rearm(host);
    }

    /// Stops a host's process (SIGSTOP): nothing is captured, nothing answered.
    pub fn stop(&mut self, host: Host) {
        self.stopped[host] = true;
    }

    /// Lets it run on; a relay notices that its loop stood still.
    pub fn wake(&mut self, host: Host) {
        self.stopped[host] = false;
        let now = Time(self.now);
        if let Role::Relay(relay) = &mut self.hosts[host] {
            relay.woke(now);
        }
        self.rearm(host);
    }

    /// The hosts whose audience holds this receiver, and whether on standby.
    pub fn entries_of(&self, receiver: Host) -> Vec<(Host, bool)> {
        let (now, address) = (Time(self.now), self.addresses[receiver]);
        let mut found = Vec::new();
        for (host, role) in self.hosts.iter().enumerate() {
            let channels = match role {
                Role::Sender(s) => s.summaries(now),
                Role::Relay(r) => r.report(now).channels,
                _ => continue,
            };
            let entries = channels.into_iter().flat_map(|c| c.requesters);
            let his = entries.filter(|r| r.address.ip() == address);
            found.extend(his.map(|r| (host, r.standby)));
        }
        found
    }

    pub fn stream(&mut self, burst: u32, gap: u64, lasting: u64) {
        let until = self.now + lasting;
        self.push(self.now, Event::Stream { burst, gap, until });
    }

    fn push(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order)));
        self.events.insert(self.order, event);
    }

    pub fn rearm(&mut self, host: Host) {
        let at = match &self.hosts[host] {
            Role::Sender(s) => s.next_time(),
            Role::Relay(r) => r.next_time(),
            Role::Receiver(r) if r.requester.is_gone() => Time::NEVER,
            Role::Receiver(r) => r.requester.next_time(),
            Role::Router => Time::NEVER,
        };
        if at != Time::NEVER && at.0 < self.armed[host] {
            self.armed[host] = at.0.max(self.now);
            self.push(self.armed[host], Event::Timer { host });
        }
    }

    pub fn run(&mut self, for_us: u64) {
        let end = self.now + for_us;
        while let Some(&Reverse((at, key))) = self.queue.peek() {
            if at > end {
                break;
            }
            self.queue.pop();
            self.now = at.max(self.now);
            match self.events.remove(&key) {
                Some(Event::Timer { host }) => self.timer(host, at),
                Some(Event::Wire {
                    at,
                    bytes,
                    from,
                    to,
                }) => self.wire(at, bytes, from, to),
                Some(Event::Stream { burst, gap, until }) => self.burst(burst, gap, until),
                None => {}
            }
        }
        self.now = end;
    }

    fn timer(&mut self, host: Host, at: u64) {
        if self.armed[host] != at {
            return;
        }
        self.armed[host] = u64::MAX;
        if self.stopped[host] {
            return;
        }
        let mut out = Outbox::new();
        let now = Time(self.now);
        match &mut self.hosts[host] {
            Role::Sender(s) => s.poll(now, &mut out),
            Role::Relay(r) => r.poll(now, &mut out),
            Role::Receiver(r) => r.requester.poll(now, &mut out),
            Role::Router => {}
        }
        self.deliver(host, &out);
        self.after(host);
    }

    /// Sockets, events and timers after a host did something.
    pub fn after(&mut self, host: Host) {
        if let Role::Relay(relay) = &mut self.hosts[host] {
            while let Some(order) = relay.next_order() {
                match order {
                    Order::Open(channel) => {
                        self.relay_ports.insert((host, 50_000), channel);
                    }
                    Order::Close(_) => {
                        self.relay_ports.remove(&(host, 50_000));
                    }
                }
            }
        }
        if let Role::Receiver(r) = &mut self.hosts[host] {
            while let Some(event) = r.requester.next_event() {
                if let RequesterEvent::Token(token) = event {
                    r.token = token;
                }
                r.events.push(event);
            }
        }
        self.rearm(host);
    }

    fn deliver(&mut self, host: Host, out: &Outbox) {
        let letters: Vec<_> = out.iter().map(|(l, b)| (l.clone(), b.to_vec())).collect();
        for (letter, bytes) in letters {
            let from = match (&letter.route, &self.hosts[host]) {
                (Route::Node(source), _) => SocketAddr::new(*source, FP),
                (_, Role::Receiver(r)) => SocketAddr::new(self.addresses[host], r.port),
                _ => SocketAddr::new(self.addresses[host], 50_000),
            };
            if let Ok(control) = Control::parse(&bytes) {
                self.control_log
                    .push((self.now, host, control.message_type()));
            }
            let mut first = self.next_hop(host, letter.to.ip());
            if let Some(hops) = self.balanced.get(&host) {
                if letter.to.ip() == self.channel.sender {
                    first = Some(hops[self.turn % hops.len()]);
                    self.turn += 1;
                }
            }
            let copies = 1 + u64::from(self.seed.below(100) < self.duplicate_control);
            for _ in 0..copies {
                self.hop(host, first, bytes.clone(), from, letter.to);
            }
        }
    }

    fn ancestors(&self, mut host: Host) -> Vec<Host> {
        let mut path = vec![host];
        while let Some(up) = self.up[host] {
            if path.contains(&up) {
                break;
            }
            path.push(up);
            host = up;
        }
        path
    }

    /// The neighbour of `host` towards `to`.
    fn next_hop(&self, host: Host, to: IpAddr) -> Option<Host> {
        let target = self.addresses.iter().position(|a| *a == to)?;
        if target == host {
            return Some(host);
        }
        let path = self.ancestors(target);
        match path.iter().position(|&h| h == host) {
            Some(at) if at > 0 => Some(path[at - 1]),
            _ => self.up[host],
        }
    }

    fn hop(
        &mut self,
        at: Host,
        next: Option<Host>,
        bytes: Vec<u8>,
        from: SocketAddr,
        to: SocketAddr,
    ) {
        let Some(next) = next else { return };
        let control = Trailer::split(&bytes).is_ok_and(|(_, t)| t.kind == Kind::Control);
        let counts = self.links.entry((at, next)).or_default();
        if control {
            counts.1 += 1;
            if self.seed.below(100) < self.control_loss {
                return;
            }
        } else {
            counts.0 += 1;
        }
        let to_relay =
            self.addresses[next] == to.ip() && matches!(self.hosts[next], Role::Relay(_));
        let twice = !control && to_relay && self.seed.below(100) < self.duplicate_data;
        for _ in 0..1 + u32::from(twice) {
            let jitter = self.seed.below(self.jitter + 1);
            let due = self.now + self.delay + jitter;
            let bytes = bytes.clone();
            self.push(
                due,
                Event::Wire {
                    at: next,
                    bytes,
                    from,
                    to,
                },
            );
        }
    }

    fn wire(&mut self, at: Host, bytes: Vec<u8>, from: SocketAddr, to: SocketAddr) {
        let here = self.addresses[at] == to.ip();
        let request =
            Control::parse(&bytes).is_ok_and(|c| c.message_type() == MessageType::Request);
        let captures = matches!(self.hosts[at], Role::Relay(_))
            && request
            && !self.stopped[at]
            && from.port() != FP;
        let draining =
            matches!(&self.hosts[at], Role::Relay(r) if r.report(Time(self.now)).draining);
        let hidden = self.hidden.iter().any(|&h| self.addresses[h] == to.ip());
        if hidden
            && Control::parse(&bytes).is_ok_and(|c| c.message_type() == MessageType::DirectRequest)
        {
            return;
        }
        if !here && (draining || !captures) {
            let next = self.next_hop(at, to.ip());
            self.hop(at, next, bytes, from, to);
            return;
        }
        if self.stopped[at] {
            return;
        }
        self.take(at, &bytes, from, to);
    }

    fn take(&mut self, at: Host, bytes: &[u8], from: SocketAddr, to: SocketAddr) {
        let now = Time(self.now);
        let mut out = Outbox::new();
        let Ok((_, trailer)) = Trailer::split(bytes) else {
            return;
        };
        if trailer.kind != Kind::Control {
            return self.data(at, bytes, &trailer, to);
        }
        let Ok(control) = Control::parse(bytes) else {
            return;
        };
        let own = self.addresses[at];
        match &mut self.hosts[at] {
            Role::Sender(s) => s.on_control(now, from, to.ip(), &control, &mut out),
            Role::Relay(r) => {
                if let Some(channel) = self.relay_ports.get(&(at, to.port())) {
                    r.on_answer(now, *channel, &control, &mut out);
                    // What it means for those below is said before what follows.
                    r.poll(now, &mut out);
                } else {
                    r.on_control(now, from, to.ip(), &mut |_| Some(own), &control, &mut out);
                }
            }
            Role::Receiver(r) => match &control.body {
                _ if to.port() != r.port => {}
                Body::Challenge(c) => {
                    r.requester
                        .on_challenge(now, &control.header, c.cookie, &mut out)
                }
                Body::Status(s) => r.requester.on_status(now, &control.header, s, &mut out),
                _ => {}
            },
            Role::Router => {}
        }
        self.deliver(at, &out);
        self.after(at);
    }

    fn data(&mut self, at: Host, bytes: &[u8], trailer: &Trailer, to: SocketAddr) {
        let now = self.now;
        match &mut self.hosts[at] {
            Role::Receiver(r) => {
                let passes = r.port == to.port() && r.token.is_none_or(|t| t.0 == trailer.token);
                if passes && !r.requester.is_gone() {
                    *r.got
                        .entry((trailer.token, trailer.sequence.0))
                        .or_default() += 1;
                    if r.last_data > 0 {
                        r.longest_gap = r.longest_gap.max(now - r.last_data);
                    }
                    r.last_data = now;
                }
            }
            Role::Relay(relay) => {
                let Some(channel) = self.relay_ports.get(&(at, to.port())).copied() else {
                    return;
                };
                if relay.on_stream(&channel, trailer) {
                    let targets = fan(relay.fan(&channel), trailer.sequence);
                    relay.carried_on(Time(now), &channel, &[trailer.sequence], &[bytes.len()]);
                    self.send_copies(at, bytes, &targets);
                    self.rearm(at);
                }
            }
            _ => {}
        }
    }

    fn send_copies(&mut self, at: Host, bytes: &[u8], targets: &[Target]) {
        for target in targets {
            let from = SocketAddr::new(target.source, FP);
            let next = self.next_hop(at, target.to.ip());
            self.hop(at, next, bytes.to_vec(), from, target.to);
        }
    }

    fn burst(&mut self, burst: u32, gap: u64, until: u64) {
        for _ in 0..burst {
            self.send_one();
        }
        if self.now + gap < until {
            self.push(self.now + gap, Event::Stream { burst, gap, until });
        }
    }

    pub fn send_one(&mut self) {
        let (now, id) = (Time(self.now), self.channel.id);
        let Role::Sender(sender) = &mut self.hosts[0] else {
            return;
        };
        let Some(trailer) = sender.stamp(now, id, Kind::Data) else {
            return;
        };
        let mut bytes = b"payload ".to_vec();
        bytes.extend_from_slice(&trailer.bytes());
        let targets = fan(sender.fan(id), trailer.sequence);
        sender.carried_on(now, id, &[trailer.sequence], &[bytes.len()]);
        self.sent.push((trailer.token, trailer.sequence.0));
        self.send_copies(0, &bytes, &targets);
        self.rearm(0);
    }
}

fn fan(fan: Option<&flexcast_engine::Fan>, sequence: Sequence) -> Vec<Target> {
    let Some(fan) = fan else { return Vec::new() };
    let moving = fan.moving().iter().filter(|(_, w)| w.admits(sequence));
    fan.steady()
        .iter()
        .copied()
        .chain(moving.map(|(t, _)| *t))
        .collect()
}

/// A sender, a relay, two relays under it, four under those, receivers below.
pub fn deep_tree(seed: u64, receivers: usize) -> (Net, Vec<Host>, Vec<Host>) {
    let mut net = Net::new(seed);
    let top = net.add_relay(0);
    let middle: Vec<Host> = (0..2).map(|_| net.add_relay(top)).collect();
    let bottom: Vec<Host> = (0..4).map(|n| net.add_relay(middle[n / 2])).collect();
    let leaves = (0..receivers)
        .map(|n| net.add_receiver(bottom[n % 4]))
        .collect();
    let mut relays = vec![top];
    relays.extend(middle);
    relays.extend(bottom);
    (net, relays, leaves)
}
