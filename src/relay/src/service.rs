//! The relay at work: one event loop over the listening socket, the requesting
//! sockets, ICMP errors, signals, the status socket and the engine's timers.
//!
//! Promises: never waits to batch and never blocks on a send; renews the dead man's
//! switch from this very loop; drains on SIGTERM and SIGINT, and ends at once on a
//! second one. One that stood still for 2 s empties its sockets and asks anew.
//! Is not the protocol (`engine`), nor the forwarding path (`forward`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_engine::{Entropy, Order, Outbox, Relay, Route, Time};
use flexcast_udp::process::{self, Epoll, Events, Interest, SignalFd, SIGINT, SIGTERM};
use flexcast_udp::{local_address_towards, Errno};
use flexcast_wire::{Body, Channel, Control};

use crate::capture::Capture;
use crate::complaints::Complaints;
use crate::downstream::Downstream;
use crate::error::ServiceError;
use crate::forward::{Forwarder, Node};
use crate::narrow::{Narrow, LEAST_MTU};
use crate::onward::Onward;
use crate::status::{Door, StatusReport};
use crate::strangers::Strangers;
use crate::upstream::{Upstream, FIRST_TOKEN};
use crate::watch::{Arrivals, Watch};
use crate::Settings;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const DOOR: u64 = 2;
const DOOR_WAITING: u64 = 3;
const COMPLAINTS: u64 = 4;

/// How long a stand-still counts as one.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// Between two lines about loops.
const LOOP_LINES: Duration = Duration::from_secs(60);
/// Batches taken from one socket before others get their turn.
const TURNS: usize = 8;

/// A running relay.
pub struct Service {
    settings: Settings,
    node: RelayNode,
    /// Taken out while a batch of its is being passed on.
    forwarder: Option<Forwarder>,
    watch: Watch,
    signals: SignalFd,
    door: Door,
    complaints: Complaints,
    strangers: Strangers,
    onward: Onward,
    narrow: Narrow,
    arrived: u64,
    loops: u64,
    next_loop_line: Time,
    last_turn: Time,
    hurried: bool,
}

/// The engine with its sockets: what answers and forwards.
struct RelayNode {
    relay: Relay,
    downstream: Downstream,
    upstream: Upstream,
    epoll: Epoll,
    outbox: Outbox,
    receive_buffer: u32,
    /// Senders that our requests do not reach, and why.
    unreachable: Vec<(IpAddr, Errno)>,
}

impl Service {
    /// Binds, captures, and is ready to [`Service::run`].
    ///
    /// # Errors
    /// [`ServiceError`], each naming what is missing and the remedy.
    pub fn start(settings: Settings) -> Result<Service, ServiceError> {
        if !process::capabilities().net_admin {
            return Err(ServiceError::Capability("CAP_NET_ADMIN"));
        }
        let now = Time(process::boottime_us());
        process::random_u64().map_err(ServiceError::of("getrandom"))?;
        let door = Door::open(settings.fp)?;
        let downstream = Downstream::bind(settings.fp, settings.receive_buffer)
            .map_err(|errno| ServiceError::binding(settings.fp, errno))?;
        let signals = SignalFd::new(&[SIGTERM, SIGINT]).map_err(ServiceError::of("signalfd"))?;
        let complaints = Complaints::listen();
        let epoll = Epoll::new().map_err(ServiceError::of("epoll"))?;
        let mut watched = vec![
            (downstream.socket.as_raw(), LISTENER),
            (signals.fd.as_raw(), SIGNALS),
            (door.listener.fd.as_raw(), DOOR),
        ];
        watched.extend(complaints.descriptors().map(|raw| (raw, COMPLAINTS)));
        for (raw, token) in watched {
            let added = epoll.add(raw, token, Interest::READ);
            added.map_err(ServiceError::of("epoll"))?;
        }
        let (capture, findings) = Capture::install(settings.capture())?;
        for finding in findings {
            log::warn!("{finding}; remedy: {}", finding.remedy());
        }
        let relay = Relay::new(
            now,
            settings.fp,
            settings.node.clone(),
            settings.asking.clone(),
            Entropy::new(|| process::random_u64().unwrap_or_default()),
        );
        let (node, fp) = (relay.node(), settings.fp);
        log::info!("relay {node} is capturing requests to UDP port {fp}");
        Ok(Service {
            node: RelayNode {
                relay,
                downstream,
                upstream: Upstream::default(),
                epoll,
                outbox: Outbox::new(),
                receive_buffer: settings.receive_buffer,
                unreachable: Vec::new(),
            },
            forwarder: Some(Forwarder::new()),
            watch: Watch::new(now, capture),
            signals,
            door,
            complaints,
            strangers: Strangers::default(),
            onward: Onward::new(now),
            narrow: Narrow::default(),
            arrived: 0,
            loops: 0,
            next_loop_line: now,
            last_turn: now,
            hurried: false,
            settings,
        })
    }

    /// Works until a signal asks for an end and everybody found another parent.
    ///
    /// # Errors
    /// When the kernel refuses what it granted before.
    pub fn run(&mut self) -> Result<(), ServiceError> {
        let mut events = Events::new(64);
        loop {
            let now = Time(process::boottime_us());
            let due = self.next_time();
            let wait = due.since(now).as_micros();
            // Whole milliseconds: finer waits cost a system call more.
            let wait = u64::try_from(wait.div_ceil(1_000)).unwrap_or(u64::MAX);
            let waited = self
                .node
                .epoll
                .wait(&mut events, Some(wait.saturating_mul(1_000)));
            waited.map_err(ServiceError::of("epoll_wait"))?;
            let now = Time(process::boottime_us());
            // Late, whether it was stopped in the wait or in the last turn.
            let late = now.since(due.max(self.last_turn));
            if late >= STOOD_STILL {
                self.woke(now, late);
            }
            self.last_turn = now;
            for event in events.iter() {
                match event.token {
                    LISTENER => self.take_requests(now),
                    SIGNALS => self.take_signals(now),
                    DOOR => self.answer_door(now),
                    DOOR_WAITING => self.door.go_on(),
                    COMPLAINTS => self.take_complaints(now),
                    token if token >= FIRST_TOKEN => self.take_upstream(now, token),
                    _ => {}
                }
            }
            self.tend(now);
            if self.hurried || self.node.relay.is_drained(now) {
                log::info!("drained");
                return Ok(());
            }
        }
    }

    /// What is due by the clock.
    fn tend(&mut self, now: Time) {
        self.node.relay.poll(now, &mut self.node.outbox);
        self.node.settle();
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.repeat_ends(now, &self.node.relay, &mut self.node.downstream);
        }
        for (sender, errno) in std::mem::take(&mut self.node.unreachable) {
            self.watch.let_sender_through(now, sender, errno.name());
        }
        let loops = self.node.relay.counters().refused_loop;
        if loops > self.loops && now >= self.next_loop_line {
            log::warn!(
                "requests go round in a circle or are too deep ({loops} so far): look at the \
                 routes to the senders that `flexcast status` shows as refused"
            );
            (self.loops, self.next_loop_line) = (loops, now + LOOP_LINES);
        }
        let (arrived, socket) = (self.arrived, &self.node.downstream.socket);
        self.watch.keep(now, || Arrivals {
            requests: arrived,
            dropped: u64::from(socket.drops()),
        });
    }

    fn next_time(&self) -> Time {
        let ends = self.forwarder.as_ref().map(Forwarder::next_time);
        self.node
            .relay
            .next_time()
            .min(self.watch.next_time())
            .min(ends.unwrap_or(Time::NEVER))
    }

    /// The loop stood still: what lies in the sockets is stale, and so is what is
    /// known of upstream.
    fn woke(&mut self, now: Time, late: Duration) {
        let still = late.as_secs_f64();
        log::warn!("the relay stood still for {still:.1} s: asking anew");
        self.watch.excuse();
        let RelayNode {
            downstream,
            upstream,
            relay,
            ..
        } = &mut self.node;
        while downstream.receive() > 0 {}
        if let Some(forwarder) = &mut self.forwarder {
            for socket in upstream.sockets() {
                while forwarder.batch.receive(socket).is_ok_and(|n| n > 0) {}
            }
        }
        relay.woke(now);
    }

    /// Requests that were captured or came to an address of ours.
    fn take_requests(&mut self, now: Time) {
        for _ in 0..TURNS {
            let taken = self.node.downstream.receive();
            for at in 0..taken {
                self.take_request(now, at);
            }
            self.node.settle();
            if taken < self.node.downstream.slots() {
                break;
            }
        }
    }

    fn take_request(&mut self, now: Time, at: usize) {
        let RelayNode {
            relay,
            downstream,
            outbox,
            ..
        } = &mut self.node;
        let received = downstream.received(at);
        let (from, Some(asked)) = (received.from, received.to) else {
            return;
        };
        let control = match Control::parse(received.payload) {
            Ok(control) => control,
            Err(why) => {
                relay.counters_mut().malformed[why.index()] += 1;
                return;
            }
        };
        let sender = control.header.channel.sender;
        let captured = matches!(&control.body, Body::Request(r) if !r.direct) && asked == sender;
        self.arrived += u64::from(captured);
        if captured && relay.is_for_another(&control) {
            let to = SocketAddr::new(asked, self.settings.fp);
            self.onward
                .leave(now, &control.header, from, to, received.payload);
            return;
        }
        let before = (relay.counters().validated, unanswered(relay));
        let mut own = local_address_towards;
        relay.on_control(now, from, asked, &mut own, &control, outbox);
        let after = (relay.counters().validated, unanswered(relay));
        if after.0 > before.0 {
            self.strangers.forget(from, sender);
            let received = match &control.body {
                Body::Request(r) if from.is_ipv6() && r.lost.is_some() => Some(r.received),
                _ => None,
            };
            let sent = relay.sent_to(&control.header.channel, from);
            let report = received.zip(sent);
            if report.is_some_and(|(n, sent)| self.narrow.suspects(now, from, n, sent)) {
                log::info!("{from} receives nothing: fragments of {LEAST_MTU} bytes for it");
                let source = SocketAddr::new(sender, self.settings.fp);
                self.complaints.teach_path_mtu(source, from, LEAST_MTU);
            }
        } else if captured
            && after.1 > before.1
            && self.strangers.count(now, from, sender)
            && !relay.has_entry(from, sender)
        {
            self.watch.let_through(from, sender);
        }
    }

    /// Answers and the stream of one channel.
    fn take_upstream(&mut self, now: Time, token: u64) {
        let Some(mut forwarder) = self.forwarder.take() else {
            return;
        };
        for _ in 0..TURNS {
            let Some((channel, socket)) = self.node.upstream.by_token(token) else {
                break;
            };
            match forwarder.batch.receive(socket) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            forwarder.pass_batch_on(now, channel, self.settings.fp, &mut self.node);
        }
        self.forwarder = Some(forwarder);
    }

    /// ICMP errors about what we sent.
    fn take_complaints(&mut self, now: Time) {
        let Service {
            complaints,
            node,
            watch,
            settings,
            onward,
            ..
        } = self;
        complaints.take(now, settings.fp, &mut node.relay, onward, |sender| {
            if node.upstream.asks(sender) {
                watch.let_sender_through(now, sender, "ICMP: prohibited");
            }
        });
    }

    fn take_signals(&mut self, now: Time) {
        while let Some(signal) = self.signals.read() {
            let name = if signal == SIGINT {
                "SIGINT"
            } else {
                "SIGTERM"
            };
            if self.node.relay.is_draining() {
                log::warn!("{name} again: ending at once");
                self.hurried = true;
                return;
            }
            log::info!("{name}: draining, at most 10 s");
            self.watch.end();
            self.node.relay.drain(now);
        }
    }

    fn answer_door(&mut self, now: Time) {
        let Service {
            door,
            node,
            watch,
            settings,
            complaints,
            onward,
            ..
        } = self;
        door.answer(now, &node.epoll, DOOR_WAITING, || {
            StatusReport::new(
                &node.relay.report(now),
                settings.fp,
                watch,
                &node.downstream,
                complaints.counters(),
                onward.count,
            )
        });
    }
}

impl RelayNode {
    /// Opens and closes sockets as ordered, and sends what the engine wrote.
    fn settle(&mut self) {
        while let Some(order) = self.relay.next_order() {
            match order {
                Order::Open(channel) => {
                    let opened = self
                        .upstream
                        .open(channel, &self.epoll, self.receive_buffer);
                    if let Err(errno) = opened {
                        log::error!("no socket to ask for {channel}: {errno}");
                    }
                }
                Order::Close(channel) => self.upstream.close(&channel),
            }
        }
        if self.outbox.is_empty() {
            return;
        }
        for (letter, bytes) in self.outbox.iter() {
            match letter.route {
                Route::Node(source) => self.downstream.say(source, letter.to, bytes),
                Route::Upstream(channel) => {
                    let asked = self.upstream.ask(&channel, letter.to, bytes);
                    if let Err(errno) = asked {
                        let to_sender = letter.to.ip() == channel.sender;
                        if to_sender && means_no_way(errno) {
                            self.unreachable.push((channel.sender, errno));
                        }
                    }
                }
            }
        }
        self.outbox.clear();
        self.downstream.flush();
    }
}

impl Node for RelayNode {
    fn parts(&mut self) -> (&mut Relay, &mut Downstream) {
        (&mut self.relay, &mut self.downstream)
    }

    fn answer(&mut self, now: Time, channel: Channel, datagram: &[u8]) {
        match Control::parse(datagram) {
            Ok(control) => {
                self.relay
                    .on_answer(now, channel, &control, &mut self.outbox);
                self.relay.poll(now, &mut self.outbox);
                self.settle();
            }
            Err(why) => self.relay.counters_mut().malformed[why.index()] += 1,
        }
    }
}

/// Requests that were met with a challenge or with silence.
fn unanswered(relay: &Relay) -> u64 {
    relay.counters().challenged + relay.counters().silenced
}

/// No route, or a rule of this host forbids it. A full queue is neither.
fn means_no_way(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EPERM | Errno::EACCES | Errno::EINVAL
    )
}
