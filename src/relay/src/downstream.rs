//! The relay's listening socket: captured requests in, statuses and the stream out.
//!
//! One IPv6 socket (IPv4 alone where there is no IPv6), transparent, bound to FP on
//! any address: it catches both families, learns the original destination from
//! PKTINFO, and sends as S. Is not what captures (`capture`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use flexcast_engine::Target;
use flexcast_udp::batch::{Class, ReceiveBatch, SendBatch};
use flexcast_udp::fan_out::{self, FanOut};
use flexcast_udp::{Errno, Family, UdpSocket};

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
    pub(crate) batch: ReceiveBatch,
    control: SendBatch,
    fan_out: FanOut,
    targets: Vec<fan_out::Target>,
    pub(crate) sent: Sent,
    /// Sends refused for a reason other than a full socket, by requester.
    pub(crate) trouble: HashMap<SocketAddr, u64>,
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
            batch: ReceiveBatch::new(64, 2048),
            control: SendBatch::new(),
            fan_out: FanOut::new(),
            targets: Vec::new(),
            sent: Sent::default(),
            trouble: HashMap::new(),
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
        let (trouble, targets) = (&mut self.trouble, &self.targets);
        let flushed = self
            .fan_out
            .send(&self.socket, datagrams, targets, &mut |at, _| {
                if trouble.len() < 4096 || trouble.contains_key(&targets[at].to) {
                    *trouble.entry(targets[at].to).or_default() += 1;
                }
            });
        self.sent.copies += flushed.sent as u64;
        self.sent.refused += flushed.failed as u64;
        self.sent.dropped += flushed.dropped as u64;
    }

    /// Whether super-packets are used.
    pub(crate) fn segments(&self) -> bool {
        self.fan_out.segments()
    }
}
