//! ICMP errors about what the relay sent: dead requesters, prohibited requests.
//!
//! Promises: an error only makes the engine ask for a sign of life, since it can be
//! forged; a flood of them costs no more than a share of the loop's time; those that
//! capture took from another node, whose stream passes here, reach that node. Is not
//! path MTU discovery, which the kernel does with the same errors.

use std::net::{IpAddr, SocketAddr};

use flexcast_engine::{Relay, Time};
use flexcast_udp::icmp::{IcmpKind, IcmpSocket};
use flexcast_udp::{Errno, Family};

use crate::onward::{is_ours, Onward};

/// Errors read in one turn of the loop.
const TURN: usize = 64;
/// Channels looked through a second, for all errors together.
const BUDGET: f64 = 2_000_000.0;

/// What was heard.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Heard {
    /// Stream datagrams that met nobody.
    pub(crate) unreachable: u64,
    /// Stream datagrams too large for a link below.
    pub(crate) too_big: u64,
}

/// The sockets that hear them.
#[derive(Debug)]
pub(crate) struct Complaints {
    sockets: Vec<IcmpSocket>,
    heard: Heard,
    budget: f64,
    budget_at: Time,
}

impl Complaints {
    /// Listens, as far as it is permitted.
    pub(crate) fn listen() -> Complaints {
        let mut sockets = Vec::new();
        for family in [Family::V4, Family::V6] {
            match IcmpSocket::new(family) {
                Ok(socket) => sockets.push(socket),
                Err(errno) => log::warn!(
                    "ICMP errors of {family:?} are not heard ({errno}), so a receiver that \
                     crashed gets the stream until its hold is over; remedy: CAP_NET_RAW"
                ),
            }
        }
        Complaints {
            sockets,
            heard: Heard::default(),
            budget: BUDGET,
            budget_at: Time(0),
        }
    }

    /// Has this host's kernel fragment what it sends from here to there.
    pub(crate) fn teach_path_mtu(&self, source: SocketAddr, to: SocketAddr, mtu: u32) {
        for socket in &self.sockets {
            match socket.teach_path_mtu(source, to, mtu) {
                Ok(()) => return,
                // The other family's socket.
                Err(Errno::EAFNOSUPPORT) => {}
                Err(errno) => log::debug!("path MTU to {to}: {errno}"),
            }
        }
    }

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = i32> + '_ {
        self.sockets.iter().map(|socket| socket.fd.as_raw())
    }

    pub(crate) fn counters(&self) -> Heard {
        self.heard
    }

    /// Reads what is queued. Errors about what other nodes sent go on to them.
    /// `refused` is told the destination of a request of ours that a firewall on the
    /// way prohibits.
    pub(crate) fn take(
        &mut self,
        now: Time,
        fp: u16,
        relay: &mut Relay,
        onward: &mut Onward,
        mut refused: impl FnMut(IpAddr),
    ) {
        let gained = now.since(self.budget_at).as_secs_f64() * BUDGET;
        self.budget = (self.budget + gained).min(BUDGET);
        self.budget_at = now;
        let channels = f64::from(u32::try_from(relay.channels()).unwrap_or(u32::MAX));
        for socket in &mut self.sockets {
            for _ in 0..TURN {
                let Ok(Some((error, message))) = socket.receive() else {
                    break;
                };
                let (source, to) = (error.source, error.destination);
                if source.port() != fp {
                    if error.kind == IcmpKind::Prohibited && to.port() == fp {
                        refused(to.ip());
                    }
                    continue;
                }
                if self.budget < 0.0 {
                    continue;
                }
                self.budget -= channels + 1.0;
                if relay.has_entry(to, source.ip()) {
                    match error.kind {
                        // The kernel has taken note.
                        IcmpKind::TooBig(_) => self.heard.too_big += 1,
                        _ => {
                            self.heard.unreachable += 1;
                            relay.on_unreachable(now, to);
                        }
                    }
                } else if !is_ours(source.ip()) && onward.permits(now) {
                    let message = message.to_vec();
                    match socket.pass_on(&message, source.ip()) {
                        Ok(()) => onward.count += 1,
                        Err(errno) => log::debug!("ICMP error for {}: {errno}", source.ip()),
                    }
                }
            }
        }
    }
}
