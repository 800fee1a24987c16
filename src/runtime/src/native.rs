//! A receiver that reads for itself: everything in the caller's thread.
//!
//! ```text
//!   take() ──► datagrams of the last batch ──► notices ──► timers ──► next batch
//!   none of these: wait for as_raw() to be readable, or for next_time()
//! ```
//! One UDP socket on a port of its own, IPv4 or IPv6, asks for one channel. Promises:
//! whole datagrams, none twice, trailers taken off; what is missing is counted by
//! sequence; requests go out as long as the caller comes back; it leaves when
//! dropped. Is not a socket of the application's (`receive`): nothing happens while
//! the caller is elsewhere, and an absence longer than the hold (35 s) ends the stream
//! until it is back.

mod stream;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use flexcast_engine::{Outbox, Requester, RequesterEvent, RequesterSettings, Time};
use flexcast_udp::process::{self, PollFd};
use flexcast_udp::{send_one, Class, Errno, Family, ReceiveBatch, UdpSocket};
use flexcast_wire::{
    Body, Channel, Control, Kind, NodeId, Nonce, Reason, StreamToken, Trailer, Verdict,
};

use crate::now;
pub(crate) use stream::Stream;

pub use stream::Counts;

/// Datagrams, or joined runs of them, taken by one call.
const SLOTS: usize = 32;
/// What one of them may hold.
const LONGEST: usize = 65_535;
/// Two leaves after the first one, and the time of an answer to the last.
const FAREWELL: Duration = Duration::from_millis(250);

/// What is asked for, and how.
#[derive(Clone, Debug)]
pub struct ReceiverSettings {
    /// The channel.
    pub channel: Channel,
    /// Who is asked: S:FP, or VIA:FP.
    pub asked: SocketAddr,
    /// Takes no datagram before a status has told the stream's token. Closes a door to
    /// forged datagrams, at the price of a new sender's first ones.
    pub strict: bool,
    /// Bytes wanted for the socket's queue. Higher: longer absences of the caller lose
    /// nothing; the kernel grants at most net.core.rmem_max to the unprivileged.
    pub receive_buffer: u32,
    /// Timers and credential.
    pub requester: RequesterSettings,
}

impl ReceiverSettings {
    /// The channel asked for at its sender, by the defaults.
    #[must_use]
    pub fn new(channel: Channel, fp: u16) -> ReceiverSettings {
        ReceiverSettings {
            channel,
            asked: SocketAddr::new(channel.sender, fp),
            strict: false,
            receive_buffer: 4 << 20,
            requester: RequesterSettings::default(),
        }
    }
}

/// What a receiver tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A datagram as the sending application gave it.
    Datagram(&'a [u8]),
    /// The verdict of whoever feeds us changed. All but [`Verdict::RefusedFinal`] may
    /// change again by themselves.
    Verdict(Verdict, Reason),
    /// The stream came to its end. A new one may follow: requests go on.
    Ended,
    /// Requests cannot be sent, for this reason; they are tried again.
    Unsent(Errno),
    /// Nothing in the time given.
    TimedOut,
}

/// An event without the datagram's bytes.
enum Step {
    Datagram(usize, Range<usize>),
    Notice(Event<'static>),
}

/// Asks for one channel and reads its stream.
#[derive(Debug)]
pub struct Receiver {
    socket: UdpSocket,
    asked: SocketAddr,
    requester: Requester,
    stream: Stream,
    batch: ReceiveBatch,
    /// The next datagram of the batch: slot, and first byte there.
    at: (usize, usize),
    moment: Time,
    outbox: Outbox,
    notices: VecDeque<Event<'static>>,
    unsent: Option<Errno>,
}

impl Receiver {
    /// Makes the socket and sends the first request.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` where this host has no IPv6, `EMFILE`, `ENOMEM`.
    pub fn open(settings: ReceiverSettings) -> Result<Receiver, Errno> {
        let family = Family::of(settings.asked.ip());
        let socket = bind(family, settings.asked.port())?;
        // Without a larger queue, or offload, it works all the same.
        let _ = socket.set_receive_buffer(settings.receive_buffer);
        let _ = socket.set_gro(true);
        let nonce = loop {
            match process::random_u64()? {
                0 => {}
                nonce => break Nonce(nonce),
            }
        };
        let moment = now();
        let requester = Requester::new(
            moment,
            settings.channel,
            nonce,
            NodeId::NONE,
            settings.asked,
            settings.requester,
        );
        let mut receiver = Receiver {
            socket,
            asked: settings.asked,
            requester,
            stream: Stream::new(settings.strict),
            batch: ReceiveBatch::new(SLOTS, LONGEST),
            // A new batch is not empty: nothing is read before the first fill.
            at: (SLOTS, 0),
            moment,
            outbox: Outbox::new(),
            notices: VecDeque::new(),
            unsent: None,
        };
        receiver.tend();
        Ok(receiver)
    }

    /// The next event; [`Event::TimedOut`] where none comes in `limit` (none: waits
    /// for ever).
    pub fn next(&mut self, limit: Option<Duration>) -> Event<'_> {
        let deadline = limit.map_or(Time::NEVER, |limit| now() + limit);
        let step = loop {
            if let Some(step) = self.step() {
                break step;
            }
            let moment = now();
            if deadline <= moment {
                break Step::Notice(Event::TimedOut);
            }
            // A failure here can only be a programming error; it must not spin.
            let mut readable = [PollFd::new(self.as_raw(), PollFd::IN)];
            if process::poll(&mut readable, pause(moment, self.next_time().min(deadline))).is_err()
            {
                process::sleep_us(10_000);
            }
        };
        self.event(step)
    }

    /// The next event, if there is one by now: for loops of the caller's own, which
    /// wait for [`Receiver::as_raw`] to be readable and for [`Receiver::next_time`].
    pub fn take(&mut self) -> Option<Event<'_>> {
        let step = self.step()?;
        Some(self.event(step))
    }

    /// The socket, to wait for. It is this receiver's: to be read and closed by it.
    #[must_use]
    pub fn as_raw(&self) -> i32 {
        self.socket.as_raw()
    }

    /// When [`Receiver::take`] is to be called though nothing has come.
    #[must_use]
    pub fn next_time(&self) -> Time {
        self.requester.next_time().min(self.stream.end_at())
    }

    /// The channel asked for.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.requester.channel()
    }

    /// Who is asked.
    #[must_use]
    pub fn asked(&self) -> SocketAddr {
        self.asked
    }

    /// The last verdict; none where nobody has answered.
    #[must_use]
    pub fn verdict(&self) -> Option<(Verdict, Reason)> {
        self.requester.verdict()
    }

    /// The stream's token, once a status has told it.
    #[must_use]
    pub fn token(&self) -> Option<StreamToken> {
        self.requester.token()
    }

    /// The port of the sending application's own socket; 0 where it is not known.
    #[must_use]
    pub fn app_port(&self) -> u16 {
        self.requester.app_port()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.stream.counts()
    }

    /// Datagrams that the kernel dropped because the socket's queue was full.
    #[must_use]
    pub fn queue_drops(&self) -> u32 {
        self.socket.drops()
    }

    /// Leaves: three times, or until the parent has answered; at most 250 ms. Dropping
    /// a receiver leaves as well.
    pub fn leave(&mut self) {
        if self.requester.is_leaving() {
            return;
        }
        let begun = now();
        self.requester.leave(begun, false);
        // Where nobody ever answered nobody holds us: one leave for what is on the way.
        let patience = match self.requester.verdict() {
            Some(_) => FAREWELL,
            None => Duration::ZERO,
        };
        self.tend();
        let until = begun + patience;
        while self.moment < until && !self.requester.is_gone() {
            let mut readable = [PollFd::new(self.as_raw(), PollFd::IN)];
            let wake = pause(self.moment, self.requester.next_time().min(until));
            if process::poll(&mut readable, wake).is_err() {
                return;
            }
            self.tend();
            if self.fill() {
                self.discard();
            }
        }
    }

    fn event(&self, step: Step) -> Event<'_> {
        match step {
            Step::Datagram(slot, bytes) => Event::Datagram(&self.batch.get(slot).payload[bytes]),
            Step::Notice(event) => event,
        }
    }

    fn step(&mut self) -> Option<Step> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Some(Step::Notice(notice));
            }
            if let Some((slot, bytes)) = self.next_in_batch() {
                return Some(Step::Datagram(slot, bytes));
            }
            if !self.notices.is_empty() {
                continue;
            }
            self.tend();
            if !self.notices.is_empty() || self.fill() {
                continue;
            }
            // All that came before the end has been delivered.
            return match self.stream.has_ended(self.moment) {
                true => Some(Step::Notice(Event::Ended)),
                false => None,
            };
        }
    }

    /// Does what is due by the clock.
    fn tend(&mut self) {
        self.moment = now();
        if self.requester.next_time() <= self.moment {
            let counts = self.stream.counts();
            self.requester.report(counts.datagrams, Some(counts.lost));
            self.requester.poll(self.moment, &mut self.outbox);
            self.speak();
        }
    }

    /// Takes what is queued; whether that is anything.
    fn fill(&mut self) -> bool {
        self.at = (0, 0);
        // A failure is a passing one (memory): what is queued stays there.
        self.batch.receive(&self.socket).unwrap_or(0) > 0
    }

    /// Answers what control says in a batch that nobody will read.
    fn discard(&mut self) {
        while self.next_in_batch().is_some() {}
        self.notices.clear();
    }

    /// The next datagram in the batch that is the stream's; control is answered on
    /// the way. Stops early where that gave something to tell.
    fn next_in_batch(&mut self) -> Option<(usize, Range<usize>)> {
        while self.at.0 < self.batch.len() {
            let (slot, start) = self.at;
            let received = self.batch.get(slot);
            let whole = received.payload.len();
            let size = received.segment.map_or(whole, usize::from);
            let end = start.saturating_add(size).min(whole);
            self.at = if end < whole {
                (slot, end)
            } else {
                (slot + 1, 0)
            };
            let split = match received.truncated {
                false => Trailer::split(&received.payload[start..end]).ok(),
                true => None,
            };
            let Some((body, trailer)) = split else {
                self.stream.count_foreign();
                continue;
            };
            if trailer.kind == Kind::Control {
                if let Ok(control) = Control::parse_body(body, &trailer) {
                    hear(&mut self.requester, self.moment, &control, &mut self.outbox);
                }
                self.speak();
                self.take_note();
                if self.notices.is_empty() {
                    continue;
                }
                return None;
            }
            let from = (received.from.ip(), received.from.port());
            if from != (self.asked.ip(), self.asked.port()) {
                self.stream.count_foreign();
            } else if self.stream.take(self.moment, &trailer, body.len()) {
                return Some((slot, start..start + body.len()));
            }
        }
        None
    }

    /// What the requester has to tell.
    fn take_note(&mut self) {
        while let Some(event) = self.requester.next_event() {
            match event {
                RequesterEvent::Token(token) => self.stream.learn(token),
                RequesterEvent::Verdict(verdict, reason) => {
                    if verdict == Verdict::Ended {
                        self.stream.status_ended(self.moment);
                    }
                    self.notices.push_back(Event::Verdict(verdict, reason));
                }
                RequesterEvent::AppPort(_) => {}
            }
        }
    }

    /// Sends what the requester wrote. What fails is written again by its timers.
    fn speak(&mut self) {
        let mut outcome = None;
        for (letter, bytes) in self.outbox.iter() {
            let sent = send_one(&self.socket, letter.to, None, Class::Control, &[bytes]);
            outcome = Some(sent.err().filter(|errno| !errno.would_block()));
        }
        self.outbox.clear();
        if let Some(now) = outcome {
            if now.is_some() && now != self.unsent {
                self.notices.extend(now.map(Event::Unsent));
            }
            self.unsent = now;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.leave();
    }
}

fn hear(requester: &mut Requester, now: Time, control: &Control<'_>, out: &mut Outbox) {
    match &control.body {
        Body::Challenge(challenge) => {
            requester.on_challenge(now, &control.header, challenge.cookie, out);
        }
        Body::Status(status) => requester.on_status(now, &control.header, status, out),
        Body::Request(_) | Body::Trace(_) | Body::TraceReply(_) => {}
    }
}

/// A socket on any port but FP: requests never come from there.
fn bind(family: Family, fp: u16) -> Result<UdpSocket, Errno> {
    let any = SocketAddr::new(family.any(), 0);
    let socket = UdpSocket::new(family)?;
    socket.bind(any)?;
    if socket.local_addr()?.port() != fp {
        return Ok(socket);
    }
    // The first one still holds FP while the second one is bound.
    let second = UdpSocket::new(family)?;
    second.bind(any)?;
    Ok(second)
}

/// Microseconds from `now` to `until`, for poll; none: for ever.
fn pause(now: Time, until: Time) -> Option<u64> {
    let us = || u64::try_from(until.since(now).as_micros()).unwrap_or(u64::MAX);
    (until != Time::NEVER).then(us)
}
