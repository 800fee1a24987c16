//! The worker on a moved clock.

use super::*;
use crate::receive::identity::Bound;
use crate::receive::ReceiveSettings;
use flexcast_engine::RequesterSettings;
use flexcast_udp::process::Events;
use flexcast_udp::{recv_one, send_one, Class, UdpSocket};
use flexcast_wire::{
    Body, ChannelId, Control, Header, NodeId, Nonce, Path, Reason, Status, StreamToken, Verdict,
};
use std::net::SocketAddr;

fn bound() -> UdpSocket {
    let socket = UdpSocket::new(Family::V4).unwrap();
    socket
        .bind(SocketAddr::new(Family::V4.loopback(), 0))
        .unwrap();
    socket
}

/// The requests that have come: the last one's header and source, and how many.
fn requests(node: &UdpSocket) -> (Option<(Header, SocketAddr)>, usize) {
    let (mut last, mut count) = (None, 0);
    while let Ok(received) = recv_one(node, &mut [0; 2048]) {
        let control = Control::parse(received.payload).unwrap();
        last = Some((control.header, received.from));
        count += 1;
    }
    (last, count)
}

/// A grant whose heartbeats may stay away for long.
fn grant(node: &UdpSocket, (header, to): (Header, SocketAddr)) {
    let status = Status {
        verdict: Verdict::Granted,
        standby: false,
        sign_of_life_wanted: false,
        ask: false,
        handover: None,
        app_port: 5,
        hold_ms: 60_000,
        heartbeat_ms: 60_000,
        token: Some(StreamToken(9)),
        cookie: [0; 16],
        datagrams: 0,
        bytes: 0,
        highest: None,
        reason: Reason::None,
        own_address: None,
        path: Path::EMPTY,
    };
    let answered = header.sequence;
    let control = Control {
        header: Header {
            node: NodeId(3),
            answered,
            ..header
        },
        body: Body::Status(status),
    };
    let mut bytes = Vec::new();
    control.emit(&mut bytes);
    send_one(node, to, None, Class::Control, &[&bytes]).unwrap();
}

#[test]
fn a_thread_that_stood_still_asks_anew_at_once() {
    let (node, d) = (bound(), bound());
    let at = node.local_addr().unwrap();
    let epoll = Rc::new(Epoll::new().unwrap());
    let mut worker = Worker::new(epoll.clone()).unwrap();
    let raw = d.as_raw();
    let shared = Arc::new(Shared::new(1, Bound::of(raw).unwrap(), raw));
    let plan = Plan {
        path: PathInUse::Kernel,
        filtered: true,
        nonce: Nonce(7),
        inherited: false,
        untrailed: Untrailed::Drop,
        settings: ReceiveSettings {
            fp: at.port(),
            path: crate::receive::Path::Kernel,
            requester: RequesterSettings::default(),
        },
    };
    let start = now();
    assert_eq!(worker.begin(start, shared, plan), Ok(Begun::Done));
    let channel = Channel::new(at.ip(), ChannelId::new(1).unwrap());
    let asking = Asking { at, strict: false };
    worker.command(start, Command::Join(1, channel, asking, None, Reply::new()));
    worker.due(start);
    let (first, count) = requests(&node);
    assert_eq!(count, 1);
    grant(&node, first.unwrap());
    let mut events = Events::new(4);
    assert_eq!(epoll.wait(&mut events, Some(1_000_000)), Ok(1));
    for event in events.iter() {
        worker.ready(start, event);
    }
    // Granted: the next request is 8 to 12 s away; gaps below 2 s are nothing.
    let almost = STANDSTILL.saturating_sub(Duration::from_micros(1));
    worker.due(start + almost);
    worker.due(start + almost * 2);
    assert_eq!(requests(&node).1, 0);
    worker.due(start + almost * 2 + STANDSTILL);
    assert_eq!(requests(&node).1, 1);
}
