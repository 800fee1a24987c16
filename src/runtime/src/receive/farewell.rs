//! The leaves of a socket that is gone: three of each channel, or until *left*.
//!
//! A leave needs only (channel, nonce) of an entry, so it may come from another port:
//! the socket's own is free again when its close returns, and no answer comes there.
//! Promises: over after 400 ms. Is not the decision that it is gone (`worker`).

use std::net::SocketAddr;

use flexcast_engine::{Requester, Time};
use flexcast_udp::{Errno, UdpSocket};
use flexcast_wire::{Body, Control};

use super::identity::Bound;
use super::tools::Tools;

/// Requesters on their way out.
#[derive(Debug)]
pub(super) struct Farewell {
    socket: UdpSocket,
    requesters: Vec<Requester>,
}

impl Farewell {
    /// A socket with a port of its own that goes the ways that D's datagrams went.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub(super) fn socket(bound: &Bound) -> Result<UdpSocket, Errno> {
        let socket = UdpSocket::new(bound.family)?;
        socket.set_v6_only(bound.v6_only)?;
        if !bound.device.is_empty() {
            socket.bind_to_device(&bound.device)?;
        }
        let mut at: SocketAddr = bound.local;
        at.set_port(0);
        socket.bind(at)?;
        Ok(socket)
    }

    pub(super) fn new(socket: UdpSocket, requesters: Vec<Requester>) -> Farewell {
        Farewell { socket, requesters }
    }

    pub(super) fn raw(&self) -> i32 {
        self.socket.as_raw()
    }

    pub(super) fn is_over(&self) -> bool {
        self.requesters.is_empty()
    }

    /// Takes answers.
    pub(super) fn hear(&mut self, now: Time, tools: &mut Tools) {
        while tools.control.receive(&self.socket).is_ok_and(|n| n > 0) {
            for received in tools.control.iter() {
                let Ok(control) = Control::parse(received.payload) else {
                    continue;
                };
                let Body::Status(status) = &control.body else {
                    continue;
                };
                for requester in &mut self.requesters {
                    requester.on_status(now, &control.header, status, &mut tools.outbox);
                }
            }
        }
        self.requesters.retain(|r| !r.is_gone());
        tools.send_letters(&self.socket);
    }

    pub(super) fn next_time(&self) -> Time {
        let times = self.requesters.iter().map(Requester::next_time);
        times.min().unwrap_or(Time::NEVER)
    }

    pub(super) fn poll(&mut self, now: Time, tools: &mut Tools) {
        for requester in &mut self.requesters {
            requester.poll(now, &mut tools.outbox);
        }
        self.requesters.retain(|r| !r.is_gone());
        tools.send_letters(&self.socket);
    }
}
