//! A node that is asked by hand: the requests of one requester, without a network.
//! Is not a simulation (`sim`).
#![allow(dead_code)]

use std::net::{IpAddr, SocketAddr};

use flexcast_engine::{Entropy, NodeSettings, Outbox, Relay, RequesterSettings, Sender, Time};
use flexcast_wire::{
    Body, Channel, Control, CookieStamp, Credential, Header, NodeId, Nonce, Reason, Request,
    Sequence, Status, Verdict, Want,
};

pub(crate) const FP: u16 = 7450;
pub(crate) const START: Time = Time(1_000_000_000);

pub(crate) fn entropy() -> Entropy {
    let mut n = 40;
    Entropy::new(move || {
        n += 2;
        n
    })
}

pub(crate) fn channel(text: &str) -> Channel {
    text.parse().unwrap()
}

pub(crate) fn after(ms: u64) -> Time {
    Time(START.0 + ms * 1_000)
}

pub(crate) fn plain() -> Request {
    Request {
        direct: false,
        want: Want::Stream,
        hold_ms: 60_000,
        heartbeat_ms: 10_000,
        parent: NodeId::NONE,
        attempt: 0,
        hop_budget: 32,
        received: 0,
        lost: None,
        receivers_below: 1,
        path_mtu: 0,
        cookies: [CookieStamp::default(); 2],
        credential: Credential::NONE,
    }
}

/// A node that can be asked.
pub(crate) trait Asked {
    fn take(&mut self, now: Time, from: SocketAddr, asked: IpAddr, bytes: &[u8], out: &mut Outbox);
}

impl Asked for Sender {
    fn take(&mut self, now: Time, from: SocketAddr, asked: IpAddr, bytes: &[u8], out: &mut Outbox) {
        let control = Control::parse(bytes).unwrap();
        self.on_control(now, from, asked, &control, out);
    }
}

impl Asked for Relay {
    fn take(&mut self, now: Time, from: SocketAddr, asked: IpAddr, bytes: &[u8], out: &mut Outbox) {
        let control = Control::parse(bytes).unwrap();
        let mut own = |_| Some("10.0.0.3".parse().unwrap());
        self.on_control(now, from, asked, &mut own, &control, out);
    }
}

pub(crate) fn emit(channel: Channel, nonce: u64, sequence: u32, request: Request) -> Vec<u8> {
    let control = Control {
        header: Header {
            channel,
            nonce: Nonce(nonce),
            node: NodeId::NONE,
            sequence: Sequence(sequence),
            answered: Sequence(0),
        },
        body: Body::Request(request),
    };
    let mut bytes = Vec::new();
    control.emit(&mut bytes);
    bytes
}

/// Asks once without a cookie and once with it; the status that answers.
pub(crate) fn join(
    node: &mut dyn Asked,
    now: Time,
    from: &str,
    channel: Channel,
    nonce: u64,
) -> Status {
    join_as(node, now, from, channel, nonce, plain())
}

pub(crate) fn join_as(
    node: &mut dyn Asked,
    now: Time,
    from: &str,
    channel: Channel,
    nonce: u64,
    mut request: Request,
) -> Status {
    let from: SocketAddr = from.parse().unwrap();
    let mut out = Outbox::new();
    node.take(
        now,
        from,
        channel.sender,
        &emit(channel, nonce, 1, request),
        &mut out,
    );
    let answer = out.iter().next().expect("a challenge").1;
    let challenge = Control::parse(answer).unwrap();
    let Body::Challenge(c) = challenge.body else {
        panic!("{challenge:?}");
    };
    request.cookies[0] = CookieStamp {
        node: challenge.header.node,
        cookie: c.cookie,
    };
    out.clear();
    node.take(
        now,
        from,
        channel.sender,
        &emit(channel, nonce, 2, request),
        &mut out,
    );
    let to_us = out.iter().find(|(letter, _)| letter.to == from);
    match Control::parse(to_us.expect("a status").1).unwrap().body {
        Body::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn sender(settings: NodeSettings) -> Sender {
    Sender::new(START, settings, entropy())
}

pub(crate) fn relay(settings: NodeSettings) -> Relay {
    Relay::new(START, FP, settings, RequesterSettings::default(), entropy())
}

/// What a node that has no room says.
pub(crate) const FULL: (Verdict, Reason) = (Verdict::RefusedPassing, Reason::Full);
