//! The relay at work: one event loop over the listening socket, the requesting
//! sockets, signals, the status socket and the engine's timers.
//!
//! Promises: never waits to batch and never blocks on a send; renews the dead man's
//! switch from this very loop; drains on SIGTERM and SIGINT. One that stood still
//! for 2 s empties its sockets and asks anew. Is not the protocol (`engine`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_engine::{Entropy, Order, Outbox, Relay, Route, Target, Time};
use flexcast_udp::batch::ReceiveBatch;
use flexcast_udp::process::{self, Epoll, Events, Interest, SignalFd, SIGINT, SIGTERM};
use flexcast_udp::{Errno, Family, UdpSocket};
use flexcast_wire::{Channel, Control, Kind, Sequence, Trailer, CONTROL_WORD, MESSAGE_OFFSET};

use crate::capture::{Capture, CaptureError};
use crate::downstream::Downstream;
use crate::status::{Door, StatusReport};
use crate::upstream::{Upstream, FIRST_TOKEN};
use crate::Settings;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const DOOR: u64 = 2;

/// How often capture is renewed, and how long a stand-still counts as one.
const RENEWAL: Duration = Duration::from_millis(500);
const STOOD_STILL: Duration = Duration::from_secs(2);
const CHECK: Duration = Duration::from_secs(2);

/// Why a relay could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The port of requests is taken.
    #[error("UDP port {port} is in use by another program of this host (see `ss -lunp 'sport = :{port}'`): stop it, or choose another port for the whole network with --port")]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// Another relay runs here.
    #[error("a relay runs on port {0} in this network namespace already (see `flexcast status`)")]
    AnotherRelay(u16),
    /// A capability is missing.
    #[error("missing {0}: run as root, or give the program the capabilities with `setcap cap_net_admin,cap_net_raw+ep`")]
    Capability(&'static str),
    /// Capture could not be set up.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// A system call failed.
    #[error("{what}: {errno}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The error.
        errno: Errno,
    },
}

fn failed(what: &'static str) -> impl FnOnce(Errno) -> ServiceError {
    move |errno| ServiceError::System { what, errno }
}

/// A running relay.
pub struct Service {
    settings: Settings,
    relay: Relay,
    capture: Option<Capture>,
    downstream: Downstream,
    upstream: Upstream,
    epoll: Epoll,
    signals: SignalFd,
    door: Door,
    outbox: Outbox,
    stream_batch: ReceiveBatch,
    ends: Vec<(Time, Channel, Vec<u8>)>,
    next_renewal: Time,
    next_check: Time,
    last_turn: Time,
    captured_before: u64,
    received_before: u64,
}

impl Service {
    /// Binds, captures, and is ready to [`Service::run`].
    ///
    /// # Errors
    /// [`ServiceError`], each naming what is missing and the remedy.
    pub fn start(settings: Settings) -> Result<Service, ServiceError> {
        let held = process::capabilities();
        if !held.net_admin {
            return Err(ServiceError::Capability("CAP_NET_ADMIN"));
        }
        let now = Time(process::boottime_us());
        process::random_u64().map_err(failed("getrandom"))?;
        let door = Door::open(settings.fp).map_err(|errno| match errno {
            Errno::EADDRINUSE => ServiceError::AnotherRelay(settings.fp),
            errno => failed("status socket")(errno),
        })?;
        let downstream = Downstream::bind(settings.fp, settings.receive_buffer).map_err(
            |errno| match errno {
                Errno::EADDRINUSE => ServiceError::PortInUse { port: settings.fp },
                Errno::EPERM => ServiceError::Capability("CAP_NET_RAW"),
                errno => failed("listening socket")(errno),
            },
        )?;
        let signals = SignalFd::new(&[SIGTERM, SIGINT]).map_err(failed("signalfd"))?;
        let epoll = Epoll::new().map_err(failed("epoll"))?;
        let watch = |raw, token| {
            epoll
                .add(raw, token, Interest::READ)
                .map_err(failed("epoll"))
        };
        watch(downstream.socket.as_raw(), LISTENER)?;
        watch(signals.fd.as_raw(), SIGNALS)?;
        watch(door.listener.fd.as_raw(), DOOR)?;
        let (capture, findings) = Capture::install(capture_settings(&settings))?;
        for finding in findings {
            log::warn!("{finding}");
        }
        let entropy = Entropy::new(|| process::random_u64().unwrap_or_default());
        let relay = Relay::new(
            now,
            settings.fp,
            settings.node.clone(),
            settings.asking.clone(),
            entropy,
        );
        log::info!(
            "relay {} is capturing requests to port {}",
            relay.node(),
            settings.fp
        );
        Ok(Service {
            settings,
            relay,
            capture: Some(capture),
            downstream,
            upstream: Upstream::default(),
            epoll,
            signals,
            door,
            outbox: Outbox::new(),
            stream_batch: ReceiveBatch::new(32, 65_536),
            ends: Vec::new(),
            next_renewal: now,
            next_check: now + CHECK,
            last_turn: now,
            captured_before: 0,
            received_before: 0,
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
            let wait = self.next_time().since(now);
            let wait = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
            match self.epoll.wait(&mut events, Some(wait)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed("epoll_wait")(errno)),
            }
            let now = Time(process::boottime_us());
            if now.since(self.last_turn) >= STOOD_STILL {
                self.woke(now);
            }
            self.last_turn = now;
            for event in events.iter() {
                match event.token {
                    LISTENER => self.take_requests(now),
                    SIGNALS => self.take_signals(now),
                    DOOR => self.answer_door(now),
                    token if token >= FIRST_TOKEN => self.take_upstream(now, token),
                    _ => {}
                }
            }
            self.relay.poll(now, &mut self.outbox);
            self.obey();
            self.send_control();
            self.repeat_ends(now);
            self.keep_capture(now);
            if self.relay.is_drained(now) {
                log::info!("drained");
                return Ok(());
            }
        }
    }

    fn next_time(&self) -> Time {
        let ends = self.ends.iter().map(|e| e.0).min();
        self.relay
            .next_time()
            .min(self.next_renewal)
            .min(ends.unwrap_or(Time::NEVER))
    }

    /// The loop stood still: what lies in the sockets is stale, and so is what is
    /// known of upstream.
    fn woke(&mut self, now: Time) {
        log::warn!(
            "the relay stood still for {:?}: asking anew",
            now.since(self.last_turn)
        );
        while self
            .downstream
            .batch
            .receive(&self.downstream.socket)
            .is_ok_and(|n| n > 0)
        {}
        for token in self.upstream.tokens() {
            if let Some((_, socket)) = self.upstream.by_token(token) {
                while self.stream_batch.receive(socket).is_ok_and(|n| n > 0) {}
            }
        }
        self.relay.woke(now);
    }

    /// Requests that were captured or came to an address of ours.
    fn take_requests(&mut self, now: Time) {
        for _ in 0..8 {
            let Ok(n) = self.downstream.batch.receive(&self.downstream.socket) else {
                break;
            };
            for at in 0..n {
                let received = self.downstream.batch.get(at);
                let Some(asked) = received.to else { continue };
                match Control::parse(received.payload) {
                    Ok(control) => {
                        let mut own = |from| own_address_towards(from);
                        self.relay.on_control(
                            now,
                            received.from,
                            asked,
                            &mut own,
                            &control,
                            &mut self.outbox,
                        );
                    }
                    Err(why) => self.relay.counters_mut().malformed[why.index()] += 1,
                }
            }
            self.obey();
            self.send_control();
            if n < 64 {
                break;
            }
        }
    }

    /// Answers and the stream of one channel.
    fn take_upstream(&mut self, now: Time, token: u64) {
        for _ in 0..8 {
            let Some((channel, socket)) = self.upstream.by_token(token) else {
                return;
            };
            match self.stream_batch.receive(socket) {
                Ok(0) | Err(_) => return,
                Ok(_) => self.take_stream(now, channel),
            }
        }
    }

    /// One batch from upstream, in the order in which it came: data is passed on
    /// together, as far as no control datagram stands between.
    fn take_stream(&mut self, now: Time, channel: Channel) {
        let batch = std::mem::replace(&mut self.stream_batch, ReceiveBatch::new(0, 0));
        let mut run = Run::default();
        for received in batch.iter() {
            if received.truncated || received.from.port() != self.settings.fp {
                continue;
            }
            for datagram in received.segments() {
                let trailer = match Trailer::split(datagram) {
                    Ok((_, trailer)) => trailer,
                    Err(why) => {
                        self.relay.counters_mut().malformed[why.index()] += 1;
                        continue;
                    }
                };
                if trailer.kind == Kind::Control {
                    self.forward(now, &channel, &mut run);
                    self.take_answer(now, channel, datagram);
                } else if self.relay.on_stream(&channel, &trailer) {
                    if trailer.kind == Kind::End {
                        self.ends.push((
                            now + Duration::from_millis(10),
                            channel,
                            datagram.to_vec(),
                        ));
                        self.ends.push((
                            now + Duration::from_millis(50),
                            channel,
                            datagram.to_vec(),
                        ));
                    }
                    run.datagrams.push(datagram);
                    run.sequences.push(trailer.sequence);
                    run.sizes.push(datagram.len());
                }
            }
        }
        self.forward(now, &channel, &mut run);
        self.stream_batch = batch;
    }

    fn take_answer(&mut self, now: Time, channel: Channel, datagram: &[u8]) {
        match Control::parse(datagram) {
            Ok(control) => {
                self.relay
                    .on_answer(now, channel, &control, &mut self.outbox);
                self.relay.poll(now, &mut self.outbox);
                self.obey();
                self.send_control();
            }
            Err(why) => self.relay.counters_mut().malformed[why.index()] += 1,
        }
    }

    /// Passes a run of datagrams on to the channel's audience.
    fn forward(&mut self, now: Time, channel: &Channel, run: &mut Run<'_>) {
        if run.datagrams.is_empty() {
            return;
        }
        if let Some(fan) = self.relay.fan(channel) {
            self.downstream.pass_on(&run.datagrams, fan.steady());
            for (target, window) in fan.moving() {
                run.part.clear();
                let admitted = run.datagrams.iter().zip(&run.sequences);
                let admitted = admitted.filter(|(_, &s)| window.admits(s));
                run.part.extend(admitted.map(|(d, _)| *d));
                let target: [Target; 1] = [*target];
                self.downstream.pass_on(&run.part, &target);
            }
        }
        self.relay
            .carried_on(now, channel, &run.sequences, &run.sizes);
        run.datagrams.clear();
        run.sequences.clear();
        run.sizes.clear();
    }

    /// The end of a stream is said three times.
    fn repeat_ends(&mut self, now: Time) {
        let mut at = 0;
        while at < self.ends.len() {
            if self.ends[at].0 > now {
                at += 1;
                continue;
            }
            let (_, channel, datagram) = self.ends.swap_remove(at);
            if let Some(fan) = self.relay.fan(&channel) {
                self.downstream.pass_on(&[&datagram], fan.steady());
            }
        }
    }

    /// Sends what the engine wrote.
    fn send_control(&mut self) {
        let mut outbox = std::mem::take(&mut self.outbox);
        for (letter, bytes) in outbox.iter() {
            match letter.route {
                Route::Node(source) => self.downstream.say(source, letter.to, bytes),
                Route::Upstream(channel) => {
                    if let Err(errno) = self.upstream.ask(&channel, letter.to, bytes) {
                        log::debug!("request for {channel} to {}: {errno}", letter.to);
                    }
                }
            }
        }
        outbox.clear();
        self.outbox = outbox;
        self.downstream.flush();
    }

    /// Opens and closes requesting sockets as the engine orders.
    fn obey(&mut self) {
        while let Some(order) = self.relay.next_order() {
            match order {
                Order::Open(channel) => {
                    let buffer = self.settings.receive_buffer;
                    if let Err(errno) = self.upstream.open(channel, &self.epoll, buffer) {
                        log::error!("no socket to ask for {channel}: {errno}");
                    }
                }
                Order::Close(channel) => self.upstream.close(&channel),
            }
        }
    }

    fn take_signals(&mut self, now: Time) {
        while let Some(signal) = self.signals.read() {
            log::info!("signal {signal}: draining, at most 10 s");
            if let Some(capture) = &mut self.capture {
                if let Err(e) = capture.suspend() {
                    log::warn!("{e}");
                }
            }
            self.relay.drain(now);
        }
    }

    fn answer_door(&mut self, now: Time) {
        let capturing = self.capture.is_some();
        self.door.answer(|| {
            StatusReport::new(
                &self.relay.report(now),
                self.settings.fp,
                capturing,
                self.downstream.segments(),
                self.downstream.sent,
            )
        });
    }

    /// Renews the dead man's switch, and looks whether capture is whole.
    fn keep_capture(&mut self, now: Time) {
        if now < self.next_renewal {
            return;
        }
        self.next_renewal = now + RENEWAL;
        let Some(capture) = &mut self.capture else {
            return;
        };
        let mut gone = capture.renew().err().map(|e| e.to_string());
        if gone.is_none() && now >= self.next_check {
            self.next_check = now + CHECK;
            match capture.check() {
                Ok(state) if state.missing.is_empty() => {
                    let captured = state.counters.captured;
                    let received = self.relay.counters_mut().received;
                    let arrived = received > self.received_before;
                    if captured > self.captured_before + 16 && !arrived {
                        gone = Some(
                            "the rule counts requests that never arrive: the firewall's INPUT \
                             policy drops them (allow UDP to the port of requests)"
                                .to_owned(),
                        );
                    }
                    self.captured_before = captured;
                    self.received_before = received;
                }
                Ok(state) => gone = Some(format!("missing: {:?}", state.missing)),
                Err(e) => gone = Some(e.to_string()),
            }
        }
        if let Some(why) = gone {
            log::error!("capture is taken away, requests pass to the next node: {why}");
            self.capture = None;
        }
    }
}

/// A run of stream datagrams of one channel.
#[derive(Default)]
struct Run<'a> {
    datagrams: Vec<&'a [u8]>,
    sequences: Vec<Sequence>,
    sizes: Vec<usize>,
    part: Vec<&'a [u8]>,
}

fn capture_settings(settings: &Settings) -> crate::capture::Settings {
    const REQUEST: u8 = 1;
    const TRACE: u8 = 5;
    let offset = u32::try_from(MESSAGE_OFFSET).unwrap_or(4);
    let messages = vec![REQUEST, TRACE];
    let mut capture = crate::capture::Settings::new(settings.fp, CONTROL_WORD, offset, messages);
    capture.mark = settings.mark;
    capture.mask = settings.mask;
    capture.table_name.clone_from(&settings.table_name);
    capture.route_table = settings.route_table;
    capture
}

/// The address of ours that `from` reaches us by: what the routing table would use
/// to speak to it.
fn own_address_towards(from: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::new(Family::of(from)).ok()?;
    socket.connect(SocketAddr::new(from, 9)).ok()?;
    socket.local_addr().ok().map(|a| a.ip())
}
