//! `recv` at work: from receivers to the output, until it is over.
//!
//! Promises: no channel starves another; signals, time limits and a gone reader are
//! heeded however busy it is. Is not the options (`recv`), nor the protocol.

use std::time::{Duration, Instant};

use flexcast_engine::Time;
use flexcast_runtime::native::{Counts, Event, Receiver};
use flexcast_runtime::now;
use flexcast_udp::process::{poll, PollFd, SignalFd};
use flexcast_wire::{Reason, Verdict};

use super::words::{because, in_words};
use super::Recv;
use crate::failure::Failure;
use crate::output::Stop;
use crate::sink::Sink;
use crate::terminal::{bit_rate, spaced, Terminal};

/// Between two looks of the progress line.
const TICK: Duration = Duration::from_millis(500);
/// When it is said that nobody answers.
const UNANSWERED: Duration = Duration::from_secs(3);
/// Events of one channel before the next one's turn.
const TURN: usize = 512;

/// One channel that is asked for.
struct Feed {
    receiver: Receiver,
    ended: bool,
    refused: Option<Reason>,
}

/// Why it is over, before all is said.
pub(super) enum Over {
    /// As was asked.
    Well,
    Failed(Failure),
}

impl From<Stop> for Over {
    fn from(stop: Stop) -> Over {
        match stop {
            Stop::NobodyReads | Stop::Signal => Over::Well,
            Stop::Failed(failure) => Over::Failed(failure),
        }
    }
}

/// The command at work.
pub(super) struct Session<'a> {
    limits: &'a Recv,
    feeds: Vec<Feed>,
    sink: Sink,
    terminal: Terminal,
    /// Datagrams written.
    written: u64,
    begun: Instant,
    /// When the last datagram came.
    last: Instant,
    silence_told: bool,
    /// The progress line's last look: when, and bytes by then.
    looked: (Instant, u64),
}

impl<'a> Session<'a> {
    pub(super) fn new(
        limits: &'a Recv,
        receivers: Vec<Receiver>,
        sink: Sink,
        terminal: Terminal,
    ) -> Session<'a> {
        let begun = Instant::now();
        let feeds = receivers.into_iter().map(|receiver| Feed {
            receiver,
            ended: false,
            refused: None,
        });
        Session {
            limits,
            feeds: feeds.collect(),
            sink,
            terminal,
            written: 0,
            begun,
            last: begun,
            silence_told: false,
            looked: (begun, 0),
        }
    }

    /// Until it is over; all that came is written by then.
    pub(super) fn run(&mut self, signals: &SignalFd) -> Over {
        loop {
            let busy = match self.read() {
                Ok(busy) => busy,
                Err(stop) => return stop.into(),
            };
            let signal = signals.read().is_some();
            let over = match signal {
                true => Some(Over::Well),
                false => self.is_over(),
            };
            if let Some(over) = over {
                return match (self.sink.finish(signal), over) {
                    (Err(Stop::Failed(failure)), Over::Well) => Over::Failed(failure),
                    (_, over) => over,
                };
            }
            if !busy {
                if let Err(stop) = self.sink.write() {
                    return stop.into();
                }
            }
            self.show();
            if !busy && !self.wait(signals) {
                return Over::Well;
            }
        }
    }

    /// Takes what has come; whether that was anything.
    fn read(&mut self) -> Result<bool, Stop> {
        let most = self.limits.count.unwrap_or(u64::MAX);
        let mut busy = false;
        for feed in &mut self.feeds {
            let channel = feed.receiver.channel();
            for _ in 0..TURN {
                if self.written >= most {
                    return Ok(true);
                }
                let Some(event) = feed.receiver.take() else {
                    break;
                };
                busy = true;
                match event {
                    Event::Datagram(datagram) => {
                        self.sink.push(datagram)?;
                        self.written += 1;
                        self.last = Instant::now();
                        feed.ended = false;
                    }
                    Event::Ended => {
                        feed.ended = true;
                        self.terminal.change(&format!("{channel}: end of stream"));
                    }
                    Event::Verdict(verdict, reason) => {
                        let refused = verdict == Verdict::RefusedFinal;
                        feed.refused = refused.then_some(reason);
                        let told = format!("{channel}: {}", in_words(verdict, reason));
                        // A refusal is told at the end, as the failure that it is.
                        self.terminal.change(&told);
                    }
                    Event::Unsent(errno) => {
                        let told = format!("{channel}: cannot ask: {errno}; trying again");
                        self.terminal.say(&told);
                    }
                    Event::TimedOut => {}
                }
            }
        }
        Ok(busy)
    }

    fn is_over(&self) -> Option<Over> {
        if self.limits.count == Some(self.written)
            || (self.limits.until_end && self.feeds.iter().all(|feed| feed.ended))
        {
            return Some(Over::Well);
        }
        let refused = self.feeds.iter().map(|feed| feed.refused);
        if let Some(reasons) = refused.collect::<Option<Vec<Reason>>>() {
            return Some(Over::Failed(Failure::Refused {
                channel: self.limits.channel,
                reason: because(reasons.first().copied().unwrap_or_default()),
            }));
        }
        let limit = self.limits.timeout.filter(|t| self.last.elapsed() >= *t)?;
        Some(Over::Failed(Failure::NothingCame {
            channel: self.limits.channel,
            seconds: limit.as_secs_f64(),
            state: self.state(),
        }))
    }

    /// How the first channel stands that is not granted, or the first one.
    fn state(&self) -> String {
        let waiting =
            |feed: &&Feed| !matches!(feed.receiver.verdict(), Some((Verdict::Granted, _)));
        let feed = self.feeds.iter().find(waiting).or(self.feeds.first());
        match feed.map(|feed| (feed.receiver.asked(), feed.receiver.verdict())) {
            Some((asked, None)) => format!(
                "nobody answers at {asked}: is the sender or a relay running there, \
                 and UDP port {} open both ways?",
                asked.port()
            ),
            Some((_, Some((verdict, reason)))) => in_words(verdict, reason),
            None => String::new(),
        }
    }

    /// What people see while they watch.
    fn show(&mut self) {
        let unanswered = self.feeds.iter().all(|f| f.receiver.verdict().is_none());
        if !self.silence_told && unanswered && self.begun.elapsed() >= UNANSWERED {
            self.silence_told = true;
            let state = self.state();
            self.terminal.change(&format!("{state} Still asking"));
        }
        let span = self.looked.0.elapsed();
        if self.terminal.shows_progress() && span >= TICK {
            let (counts, _) = self.counts();
            let rate = bit_rate(counts.bytes.saturating_sub(self.looked.1), span);
            self.looked = (Instant::now(), counts.bytes);
            self.terminal.progress(&format!(
                "{} datagrams, {rate}, {} lost",
                spaced(counts.datagrams),
                spaced(counts.lost)
            ));
        }
    }

    /// Waits for something to do; false where nobody reads the output any more.
    fn wait(&self, signals: &SignalFd) -> bool {
        let present = now();
        let mut until = self
            .feeds
            .iter()
            .map(|feed| feed.receiver.next_time())
            .min();
        let mut at_most = |span: Duration| until = until.map(|until| until.min(present + span));
        if let Some(limit) = self.limits.timeout {
            at_most(limit.saturating_sub(self.last.elapsed()));
        }
        if self.terminal.shows_progress() {
            at_most(TICK.saturating_sub(self.looked.0.elapsed()));
        }
        if !self.silence_told {
            at_most(UNANSWERED.saturating_sub(self.begun.elapsed()).max(TICK));
        }
        let span = until.unwrap_or(Time::NEVER).since(present);
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let mut ready = vec![
            self.sink.watch(),
            PollFd::new(signals.fd.as_raw(), PollFd::IN),
        ];
        let sockets = self.feeds.iter().map(|feed| feed.receiver.as_raw());
        ready.extend(sockets.map(|raw| PollFd::new(raw, PollFd::IN)));
        // Cannot fail but for want of memory, which passes.
        let _ = poll(&mut ready, Some(us));
        let trouble = ready[0].is_writable() && ready[0].revents & PollFd::OUT == 0;
        !trouble
    }

    /// Of all channels together; and what the kernel dropped for want of room.
    pub(super) fn counts(&self) -> (Counts, u64) {
        let mut all = Counts::default();
        let mut drops = 0;
        for feed in &self.feeds {
            let counts = feed.receiver.counts();
            all.datagrams += counts.datagrams;
            all.bytes += counts.bytes;
            all.lost += counts.lost;
            all.duplicates += counts.duplicates;
            drops += u64::from(feed.receiver.queue_drops());
        }
        (all, drops)
    }

    /// Datagrams that a gateway could not send on.
    pub(super) fn refused(&self) -> u64 {
        self.sink.refused()
    }

    /// Leaves all channels; what is still to be said is said there.
    pub(super) fn leave(self) -> Terminal {
        drop(self.feeds);
        self.terminal
    }
}
