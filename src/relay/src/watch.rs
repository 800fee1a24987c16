//! The watch over capture: renewed, looked at, taken away when it is not whole.
//!
//! ```text
//!   captures ── a part is gone, or nothing of what it counts arrives ──► away
//!   away ── after 5 s, 10 s … 5 min: put back ──► captures
//!   either ── drain ──► over
//! ```
//! Promises: while anything is missing requests pass, and the log says what. Is not
//! the dead man's switch, which works when this does not (`capture`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use flexcast_engine::Time;

use crate::capture::{Capture, CaptureState};

const RENEWAL: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A firewall is not changed as often as a route.
const FIREWALL_PAUSE: Duration = Duration::from_secs(60);
/// Captured requests that did not arrive before somebody is to blame.
const UNHEARD: u64 = 4;
/// How long a sender is let through (as the set's timeout), and how many are kept.
const SENDER_PASSES: Duration = Duration::from_secs(60);
const SENDERS: usize = 4_096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Captures,
    Away { until: Time },
    Over,
}

/// What came in through capture, as the service saw it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Arrivals {
    /// Requests addressed to others.
    pub(crate) requests: u64,
    /// Datagrams that the full receive buffer lost.
    pub(crate) dropped: u64,
}

/// Capture, under observation.
pub(crate) struct Watch {
    capture: Capture,
    state: State,
    why: String,
    pause: Duration,
    next_renewal: Time,
    next_look: Time,
    /// Since when it captures, to forget old troubles.
    since: Time,
    before: (u64, Arrivals),
    /// What did not arrive lately is nobody's fault.
    excused: bool,
    senders: HashMap<IpAddr, Time>,
}

impl Watch {
    pub(crate) fn new(now: Time, capture: Capture) -> Watch {
        Watch {
            capture,
            state: State::Captures,
            why: String::new(),
            pause: FIRST_PAUSE,
            next_renewal: now,
            next_look: now + LOOK,
            since: now,
            before: (0, Arrivals::default()),
            excused: false,
            senders: HashMap::new(),
        }
    }

    /// Whether requests are captured.
    pub(crate) fn captures(&self) -> bool {
        self.state == State::Captures
    }

    /// Why not; empty while they are.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }

    /// When [`Watch::keep`] next has something to do.
    pub(crate) fn next_time(&self) -> Time {
        match self.state {
            State::Captures => self.next_renewal,
            State::Away { until } => until,
            State::Over => Time::NEVER,
        }
    }

    /// The service has thrown captured requests away.
    pub(crate) fn excuse(&mut self) {
        self.excused = true;
    }

    /// Takes capture away for good.
    pub(crate) fn end(&mut self) {
        self.state = State::Over;
        "draining".clone_into(&mut self.why);
        if let Err(error) = self.capture.suspend() {
            log::warn!("{error}");
        }
    }

    /// Renews capture and looks at it, as far as it is time.
    pub(crate) fn keep(&mut self, now: Time, arrivals: impl FnOnce() -> Arrivals) {
        if now < self.next_time() {
            return;
        }
        match self.state {
            State::Over => {}
            State::Away { .. } => self.put_back(now, arrivals()),
            State::Captures => {
                self.next_renewal = now + RENEWAL;
                if let Err(error) = self.capture.renew() {
                    self.take_away(now, error.to_string(), FIRST_PAUSE);
                } else if now >= self.next_look {
                    self.next_look = now + LOOK;
                    self.look(now, arrivals());
                }
            }
        }
    }

    fn look(&mut self, now: Time, arrivals: Arrivals) {
        let state = match self.capture.check() {
            Ok(state) => state,
            Err(error) => {
                log::debug!("capture could not be looked at: {error}");
                return;
            }
        };
        if !state.missing.is_empty() {
            let parts: Vec<String> = state.missing.iter().map(ToString::to_string).collect();
            let why = format!("gone, as another program removed it: {}", parts.join(", "));
            self.take_away(now, why, FIRST_PAUSE);
        } else if self.is_unheard(&state, arrivals) {
            let why = "the capture rule counts requests that never arrive: a firewall of this \
                       host drops them (allow UDP to the port of requests in its INPUT chain)";
            self.take_away(now, why.to_owned(), FIREWALL_PAUSE);
        } else if now.since(self.since) >= LONGEST_PAUSE {
            self.pause = FIRST_PAUSE;
        }
    }

    /// Whether most of what was captured since the last look did not come. Few
    /// that are missing are kept in mind until the next look.
    fn is_unheard(&mut self, state: &CaptureState, arrivals: Arrivals) -> bool {
        let (captured_before, before) = self.before;
        let captured = state.counters.captured.saturating_sub(captured_before);
        let came = arrivals.requests.saturating_sub(before.requests)
            + arrivals.dropped.saturating_sub(before.dropped);
        let missing = captured.saturating_sub(came);
        if std::mem::take(&mut self.excused) {
            self.before = (state.counters.captured, arrivals);
            return false;
        }
        let unheard = missing >= UNHEARD && missing >= captured.div_ceil(2);
        if unheard || missing * 2 < captured.max(1) {
            self.before = (state.counters.captured, arrivals);
        }
        unheard
    }

    fn take_away(&mut self, now: Time, why: String, pause: Duration) {
        self.pause = self.pause.max(pause);
        log::error!(
            "nothing is captured, requests pass to the next node: {why}; capture is tried again \
             in {} s",
            self.pause.as_secs()
        );
        self.why = why;
        self.state = State::Away {
            until: now + self.pause,
        };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        // A table that is gone captures nothing anyway.
        if let Err(error) = self.capture.suspend() {
            log::debug!("{error}");
        }
    }

    fn put_back(&mut self, now: Time, arrivals: Arrivals) {
        let back = self.capture.restore();
        match back.and_then(|()| self.capture.resume()) {
            Ok(()) => {
                log::info!("capturing again");
                self.state = State::Captures;
                self.why.clear();
                self.since = now;
                self.next_renewal = now + RENEWAL;
                self.next_look = now + LOOK;
                // The table may have been made anew: its counters begin at 0.
                let captured = self.capture.counters().map_or(0, |c| c.captured);
                self.before = (captured, arrivals);
            }
            Err(error) => self.take_away(now, error.to_string(), FIRST_PAUSE),
        }
    }

    /// Requests of this pair pass for 60 s.
    pub(crate) fn let_through(&mut self, requester: SocketAddr, sender: IpAddr) {
        match self.capture.let_through(requester, sender) {
            Ok(()) => log::info!(
                "requests of {requester} to {sender} pass for 60 s: our answers do not reach it"
            ),
            Err(error) => log::debug!("{requester} to {sender} is not let through: {error}"),
        }
    }

    /// All requests to this sender pass for 60 s.
    pub(crate) fn let_sender_through(&mut self, now: Time, sender: IpAddr, why: &str) {
        if self.senders.get(&sender).is_some_and(|until| *until > now) {
            return;
        }
        if self.senders.len() >= SENDERS {
            self.senders.retain(|_, until| *until > now);
        }
        if self.senders.len() >= SENDERS {
            return;
        }
        self.senders.insert(sender, now + SENDER_PASSES);
        match self.capture.let_through_sender(sender) {
            Ok(()) => log::warn!("requests to {sender} pass for 60 s: ours fail ({why})"),
            Err(error) => log::debug!("{sender} is not let through: {error}"),
        }
    }
}
