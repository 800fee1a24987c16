//! What a program that calls is told through its own kernel socket: the end of the
//! stream, and a final refusal.
//!
//! ```text
//!   end       C ──empty data, our own token──► D (filter takes the trailer off): 0 bytes
//!   refusal   D ──► nobody ──ICMP──► D: ECONNREFUSED      (`udp::refuse`)
//! ```
//! Promises: whoever waits, in whatever call, is woken; D's filter admits our word by a
//! token that never leaves this process, and receive calls show it as the peer's. Where
//! loopback is down nothing can be told, and the log says so. Is not when (`call`).

use std::net::SocketAddr;

use flexcast_engine::Time;
use flexcast_udp::filter::Source;
use flexcast_udp::{refuse, send_one, Class, Errno, Family, UdpSocket};
use flexcast_wire::{Kind, Sequence, Trailer, TRAILER_LEN};

use super::Receiver;
use crate::receive::asked::Asked;
use crate::receive::call::Call;
use crate::receive::forwarding::within_host;
use crate::receive::reach::Reach;
use crate::receive::sources::Shown;
use crate::receive::tools::Tools;

impl Receiver {
    /// When something is next to be told.
    pub(super) fn next_word(&self) -> Time {
        let calls = self.asked.iter().filter_map(|a| a.call.as_ref());
        let times = calls.map(|call| call.end_at.min(call.refusal_at));
        times.min().unwrap_or(Time::NEVER)
    }

    /// Tells what is due.
    pub(super) fn tell_callers(&mut self, now: Time, tools: &mut Tools) {
        if self.next_word() > now {
            return;
        }
        for at in 0..self.asked.len() {
            let wanted = self.asked[at].is_wanted();
            let (to, token) = (self.asked[at].asking.at, self.asked[at].asker.token());
            let Some(call) = &mut self.asked[at].call else {
                continue;
            };
            let (ends, refused) = (call.end_at <= now, call.refusal_at <= now);
            if refused {
                call.refusal_at = Time::NEVER;
            }
            if refused && wanted {
                if let Err(errno) = self.tell_refusal(to, tools) {
                    log::debug!("a refusal is told as an end: {errno}");
                    self.tell_end(to);
                }
            }
            if ends && wanted && self.is_last(at) {
                self.tell_end(to);
            }
            if let (true, Some(call)) = (ends, &mut self.asked[at].call) {
                call.told(token);
            }
        }
        self.refilter(now, tools);
    }

    /// Of several senders of one address the last one's end is the end.
    fn is_last(&self, at: usize) -> bool {
        let peer = |a: &Asked| a.call.as_ref().map(|call| call.peer);
        let mut others = self.asked.iter().enumerate();
        others.all(|(n, a)| {
            let over = a.call.as_ref().is_none_or(Call::is_over);
            n == at || !a.is_wanted() || peer(a) != peer(&self.asked[at]) || over
        })
    }

    fn tell_end(&self, asked: SocketAddr) {
        let to = self.own_place(asked);
        let trailer = Trailer {
            token: self.local_token,
            sequence: Sequence(0),
            kind: Kind::Data,
        };
        // Without a filter nobody takes a trailer off.
        let length = if self.plan.filtered { TRAILER_LEN } else { 0 };
        let word = &trailer.bytes()[..length];
        if let Err(errno) = send_one(&self.socket, to, None, Class::Stream, &[word]) {
            log::warn!("the end of a stream cannot be told: {errno}; is loopback down?");
        }
    }

    fn tell_refusal(&self, asked: SocketAddr, tools: &mut Tools) -> Result<(), Errno> {
        let Reach::Found(d) = tools.reacher.reach(&self.shared) else {
            return Err(Errno::EBADF);
        };
        refuse(&UdpSocket::from_fd(d)?, self.own_place(asked).ip())
    }

    /// Where loopback reaches D, in the family of who is asked: the host may have no
    /// other.
    fn own_place(&self, asked: SocketAddr) -> SocketAddr {
        within_host(&self.shared.bound, Family::of(asked.ip()))
    }

    /// Where our own words to D come from.
    fn word_from(&self, asked: &Asked) -> SocketAddr {
        let port = match self.socket.local_addr().map_or(0, |local| local.port()) {
            // Of C, which is about to be bound beside D.
            0 => self.shared.bound.local.port(),
            port => port,
        };
        SocketAddr::new(self.own_place(asked.asking.at).ip(), port)
    }

    fn callers(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> + '_ {
        let wanted = self.asked.iter().filter(|a| a.is_wanted());
        wanted.filter_map(|a| Some((self.word_from(a), a.call.as_ref()?.peer)))
    }

    /// What D's filter admits so.
    pub(super) fn own_words(&self) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for (from, _) in self.callers() {
            let source = Source {
                address: from.ip(),
                port: from.port(),
                token: Some(self.local_token),
            };
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        sources
    }

    /// As whose they are shown.
    pub(super) fn show_own_words(&self, shown: &mut Vec<Shown>) {
        for (from, as_from) in self.callers() {
            if shown.iter().all(|s| s.from != from) {
                shown.push(Shown { from, as_from });
            }
        }
    }
}
