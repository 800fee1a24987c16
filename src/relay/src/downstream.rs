//! The relay's listening socket: captured requests in, statuses and the stream out.
//!
//! One IPv6 socket (IPv4 alone where there is no IPv6), transparent, bound to FP on
//! any address: it catches both families, learns the original destination from
//! PKTINFO, and sends as S. Is not what captures (`capture`).

use std::net::{IpAddr, SocketAddr};

use flexcast_engine::Target;
use flexcast_udp::batch::{Class, ReceiveBatch, Received, SendBatch};
use flexcast_udp::fan_out::{self, FanOut};
use flexcast_udp::{Errno, Family, UdpSocket};

/// Datagrams taken by one call, and the longest: requests are a few hundred bytes,
/// traces some more.
const SLOTS: usize = 64;
const LONGEST: usize = 2_048;

/// What was sent and what was not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    /// Copies that the kernel took.
    pub(crate) copies: u64,
    /// Copies refused by the kernel, for one requester each.
    pub(crate) refused: u64,
    /// Copies dropped because the socket was full.
    pub(crate) dropped: u64,
}

/// The socket on FP.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) socket: UdpSocket,
    batch: ReceiveBatch,
    control: SendBatch,
    fan_out: FanOut,
    targets: Vec<fan_out::Target>,
    pub(crate) sent: Sent,
}

impl Downstream {
    /// Binds FP on any address.
    pub(crate) fn bind(fp: u16, receive_buffer: u32) -> Result<Downstream, Errno> {
        let socket = match UdpSocket::new(Family::V6).and_then(|s| Self::prepare(s, fp)) {
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
                UdpSocket::new(Family::V4).and_then(|s| Self::prepare(s, fp))
            }
            other => other,
        }?;
        let _ = socket.set_receive_buffer(receive_buffer);
        let _ = socket.set_send_buffer(receive_buffer);
        Ok(Downstream {
            socket,
            batch: ReceiveBatch::new(SLOTS, LONGEST),
            control: SendBatch::new(),
            fan_out: FanOut::new(),
            targets: Vec::new(),
            sent: Sent::default(),
        })
    }

    fn prepare(socket: UdpSocket, fp: u16) -> Result<UdpSocket, Errno> {
        if socket.family() == Family::V6 {
            socket.set_v6_only(false)?;
        }
        socket.set_transparent(true)?;
        socket.set_packet_info(true)?;
        socket.set_no_path_mtu_discovery()?;
        socket.bind(SocketAddr::new(socket.family().any(), fp))?;
        Ok(socket)
    }

    /// Takes what is queued; how many.
    pub(crate) fn receive(&mut self) -> usize {
        self.batch.receive(&self.socket).unwrap_or(0)
    }

    /// A datagram of those that the last call has brought.
    pub(crate) fn received(&self, at: usize) -> Received<'_> {
        self.batch.get(at)
    }

    /// The most datagrams that one call brings.
    pub(crate) fn slots(&self) -> usize {
        SLOTS
    }

    /// Queues a control datagram from `source`:FP.
    pub(crate) fn say(&mut self, source: IpAddr, to: SocketAddr, bytes: &[u8]) {
        self.control.push(to, Some(source), Class::Control, bytes);
    }

    /// Sends the queued control datagrams; what the kernel refuses is repeated by
    /// the protocol's own timers.
    pub(crate) fn flush(&mut self) {
        if self.control.is_empty() {
            return;
        }
        let mut refused = 0;
        let flushed = self.control.flush(&self.socket, &mut |_, _| refused += 1);
        if flushed.blocked_at.is_some() {
            self.sent.dropped += self.control.len() as u64;
            self.control.clear();
        }
        self.sent.refused += refused;
    }

    /// Sends these datagrams to all of these requesters, in as few packets as the
    /// kernel allows. Never waits.
    pub(crate) fn pass_on(&mut self, datagrams: &[&[u8]], targets: &[Target]) {
        if datagrams.is_empty() || targets.is_empty() {
            return;
        }
        self.targets.clear();
        self.targets.extend(targets.iter().map(|t| fan_out::Target {
            to: t.to,
            source: Some(t.source),
        }));
        // Each refusal is one requester's own and is counted below.
        let flushed = self
            .fan_out
            .send(&self.socket, datagrams, &self.targets, &mut |_, _| {});
        self.sent.copies += flushed.sent as u64;
        self.sent.refused += flushed.failed as u64;
        self.sent.dropped += flushed.dropped as u64;
    }

    /// Whether super-packets are used.
    pub(crate) fn segments(&self) -> bool {
        self.fan_out.segments()
    }
}
