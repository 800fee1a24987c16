//! A node for the native receiver's tests: the engine's sender on one socket, driven
//! by a thread, its datagrams stamped and sent by the test. Is not `runtime::send`.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flexcast_engine::{Entropy, NodeSettings, Outbox, Sender};
use flexcast_runtime::now;
use flexcast_udp::fan_out::{FanOut, Target};
use flexcast_udp::{recv_one, send_one, Class, Family, UdpSocket};
use flexcast_wire::{Channel, Control, Kind, Trailer};

struct Inner {
    socket: UdpSocket,
    sender: Sender,
    outbox: Outbox,
}

/// A node on a loopback address, gone when dropped.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub(crate) fn at(address: IpAddr) -> Node {
        let socket = UdpSocket::new(Family::of(address)).unwrap();
        socket.bind(SocketAddr::new(address, 0)).unwrap();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ now().0;
        let entropy = Entropy::new(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 29
        });
        let address = socket.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner {
            socket,
            sender: Sender::new(now(), NodeSettings::sender(), entropy),
            outbox: Outbox::new(),
        }));
        let over = Arc::new(AtomicBool::new(false));
        let (theirs, stop) = (inner.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                theirs.lock().unwrap().serve(address.ip());
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        Node {
            address,
            inner,
            over,
            thread: Some(thread),
        }
    }

    /// Opens the channel: whoever is pending is granted.
    pub(crate) fn open(&self, channel: Channel) {
        let mut inner = self.inner.lock().unwrap();
        inner.sender.open(now(), channel, 0);
        inner.serve(self.address.ip());
    }

    /// The trailer of the next datagram.
    pub(crate) fn stamp(&self, channel: Channel, kind: Kind) -> Trailer {
        let mut inner = self.inner.lock().unwrap();
        inner.sender.stamp(now(), channel.id, kind).unwrap()
    }

    /// Sends one datagram to the audience.
    pub(crate) fn send(&self, channel: Channel, body: &[u8], trailer: &Trailer) {
        let inner = self.inner.lock().unwrap();
        for target in inner.sender.fan(channel.id).unwrap().steady() {
            let parts = [body, &trailer.bytes()];
            send_one(&inner.socket, target.to, None, Class::Stream, &parts).unwrap();
        }
    }

    /// Stamps and sends, as an application's push does.
    pub(crate) fn push(&self, channel: Channel, body: &[u8]) {
        let trailer = self.stamp(channel, Kind::Data);
        self.send(channel, body, &trailer);
    }

    /// Stamps and sends many by one segmented send.
    pub(crate) fn push_run(&self, channel: Channel, bodies: &[Vec<u8>]) {
        let whole = |body: &Vec<u8>| {
            let trailer = self.stamp(channel, Kind::Data);
            [&body[..], &trailer.bytes()].concat()
        };
        let whole: Vec<Vec<u8>> = bodies.iter().map(whole).collect();
        let datagrams: Vec<&[u8]> = whole.iter().map(Vec::as_slice).collect();
        let inner = self.inner.lock().unwrap();
        let steady = inner.sender.fan(channel.id).unwrap().steady();
        let to = |t: &flexcast_engine::Target| Target {
            to: t.to,
            source: None,
        };
        let targets: Vec<Target> = steady.iter().map(to).collect();
        let mut trouble = |_, errno| panic!("{errno}");
        let flushed = FanOut::new().send(&inner.socket, &datagrams, &targets, &mut trouble);
        assert_eq!(flushed.sent, bodies.len() * targets.len());
    }

    /// Ends the stream, datagram and status.
    pub(crate) fn end(&self, channel: Channel) {
        let trailer = self.stamp(channel, Kind::End);
        self.send(channel, &[], &trailer);
        self.end_by_status_alone(channel);
    }

    pub(crate) fn end_by_status_alone(&self, channel: Channel) {
        let mut inner = self.inner.lock().unwrap();
        inner.sender.end(now(), channel.id);
    }

    /// Waits until the channel has so many receivers.
    pub(crate) fn await_receivers(&self, channel: Channel, wanted: u64) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let there = self.inner.lock().unwrap().sender.receivers(channel.id);
            if there == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{there} receivers, not {wanted}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Inner {
    fn serve(&mut self, own: IpAddr) {
        let mut buffer = [0; 2048];
        while let Ok(received) = recv_one(&self.socket, &mut buffer) {
            if let Ok(control) = Control::parse(received.payload) {
                let (sender, out) = (&mut self.sender, &mut self.outbox);
                sender.on_control(now(), received.from, own, &control, out);
            }
        }
        self.sender.poll(now(), &mut self.outbox);
        for (letter, bytes) in self.outbox.iter() {
            // A receiver may be gone by now.
            let _ = send_one(&self.socket, letter.to, None, Class::Control, &[bytes]);
        }
        self.outbox.clear();
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
