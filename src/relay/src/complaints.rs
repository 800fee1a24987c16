//! ICMP errors about what the relay sent: dead requesters, prohibited requests.
//!
//! Promises: an error only makes the engine ask for a sign of life, since it can be
//! forged; a flood of them costs no more than a share of the loop's time. Is not
//! path MTU discovery, which the kernel does with the same errors.

use std::net::IpAddr;

use flexcast_engine::{Relay, Time};
use flexcast_udp::icmp::{IcmpKind, IcmpSocket};
use flexcast_udp::Family;

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

    pub(crate) fn descriptors(&self) -> impl Iterator<Item = i32> + '_ {
        self.sockets.iter().map(|socket| socket.fd.as_raw())
    }

    pub(crate) fn counters(&self) -> Heard {
        self.heard
    }

    /// Reads what is queued. `refused` is told the destination of a request of ours
    /// that a firewall on the way prohibits.
    pub(crate) fn take(
        &mut self,
        now: Time,
        fp: u16,
        relay: &mut Relay,
        mut refused: impl FnMut(IpAddr),
    ) {
        let gained = now.since(self.budget_at).as_secs_f64() * BUDGET;
        self.budget = (self.budget + gained).min(BUDGET);
        self.budget_at = now;
        for socket in &self.sockets {
            for _ in 0..TURN {
                let Ok(Some(error)) = socket.receive() else {
                    break;
                };
                let to = error.destination;
                match error.kind {
                    IcmpKind::TooBig(_) => {
                        self.heard.too_big += u64::from(error.source.port() == fp)
                    }
                    _ if error.source.port() == fp => {
                        self.heard.unreachable += 1;
                        if self.budget >= 0.0 {
                            self.budget -=
                                f64::from(u32::try_from(relay.channels()).unwrap_or(0)) + 1.0;
                            relay.on_unreachable(now, to);
                        }
                    }
                    IcmpKind::Prohibited if to.port() == fp => refused(to.ip()),
                    _ => {}
                }
            }
        }
    }
}
