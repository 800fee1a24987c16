//! `flexcast recv CHANNEL`: a channel's datagrams to standard output or a file.
//!
//! Promises: whole datagrams, each once, in the order in which they came; what was
//! counted is said on standard error at the end. Is not a player: nothing is put in
//! order and nothing lost is made up for.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flexcast_engine::Time;
use flexcast_rules::ChannelText;
use flexcast_runtime::native::{Counts, Event, Receiver};
use flexcast_runtime::now;
use flexcast_udp::process::{poll, PollFd, SignalFd};
use flexcast_wire::{Reason, Verdict};

use crate::channel;
use crate::failure::Failure;
use crate::map_options::MapOptions;
use crate::output::{Output, Stop};
use crate::signals;
use crate::terminal::{self, bit_rate, spaced, Terminal};

/// Between two looks of the progress line.
const TICK: Duration = Duration::from_millis(500);
/// When it is said that nobody answers.
const UNANSWERED: Duration = Duration::from_secs(3);
/// Events of one channel before the next one's turn.
const TURN: usize = 512;

/// Receive a channel: its datagrams go to standard output or a file.
///
/// May be started before the sender: it waits until the stream begins, and after an
/// end for the next one, until it is interrupted (Ctrl-C) or one of --count,
/// --timeout, --until-end says that it is over.
#[derive(Debug, clap::Args)]
#[command(after_help = channel::HELP, after_long_help = format!("\
{}

Examples:
  flexcast recv 10.0.0.5#5000 > film.ts
  flexcast recv 10.0.0.5#5000 | ffplay -
  flexcast recv --map 239.1.0.0/16=10.0.0.5 239.1.1.4:5000 -o film.ts --until-end
  flexcast recv 10.0.0.5#5000 --count 1 --timeout 5 > /dev/null    # is it on air?

At the end, on standard error:
  flexcast: 7600 datagrams, 10001600 bytes, 3 lost, 0 duplicates
Lost are sequences between the first and the last datagram that never came;
duplicates were dropped.

Exit codes:
  0  interrupted, or ended as --count or --until-end asked; or nobody reads the output
  1  nothing came for --timeout; the channel was refused for good; the output failed
  2  an option or CHANNEL is wrong", channel::HELP))]
pub(crate) struct Recv {
    #[command(flatten)]
    map: MapOptions,

    /// Write to this file, emptied first, rather than to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// End after so many datagrams
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End, with code 1, when no datagram has come for so long, also at the start
    #[arg(short, long, value_name = "SECONDS", value_parser = crate::wanted::seconds)]
    timeout: Option<Duration>,

    /// End at the stream's end (of a group with several senders: at the last one's)
    #[arg(short = 'e', long)]
    until_end: bool,

    #[command(flatten)]
    speech: terminal::Options,

    /// What to receive
    #[arg(value_name = "CHANNEL")]
    channel: ChannelText,
}

/// One channel that is asked for.
struct Feed {
    receiver: Receiver,
    ended: bool,
    refused: Option<Reason>,
}

/// Why it is over, before all is said.
enum Over {
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

impl Recv {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let settings = self.map.settings(&[])?;
        let asked = channel::to_receive(&self.channel, &settings)?;
        let mut terminal = self.speech.start();
        // Before signals are taken over: opening a named pipe may wait for its reader.
        let mut output = Output::open(self.output.as_deref())?;
        if self.output.is_none() && std::io::stdout().is_terminal() {
            terminal = terminal.without_progress();
        }
        let signals = signals::ends().map_err(Failure::Kernel)?;
        output.heed(signals.fd.as_raw());
        let mut feeds = Vec::new();
        for settings in asked {
            let channel = settings.channel;
            let opened = Receiver::open(settings);
            let receiver = opened.map_err(|errno| Failure::Receive { channel, errno })?;
            terminal.change(&format!("{channel}: asking {}", receiver.asked()));
            feeds.push(Feed {
                receiver,
                ended: false,
                refused: None,
            });
        }
        let begun = Instant::now();
        let mut session = Session {
            limits: &self,
            feeds,
            output,
            terminal,
            written: 0,
            begun,
            last: begun,
            silence_told: false,
            looked: (begun, 0),
        };
        let over = session.run(&signals);
        let (counts, drops) = session.counts();
        // They leave before anything is said.
        session.feeds.clear();
        session.terminal.say(&summary(&counts, drops));
        match over {
            Over::Well => Ok(()),
            Over::Failed(failure) => Err(failure),
        }
    }
}

/// The command at work.
struct Session<'a> {
    limits: &'a Recv,
    feeds: Vec<Feed>,
    output: Output,
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

impl Session<'_> {
    fn run(&mut self, signals: &SignalFd) -> Over {
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
                return match (self.output.finish(signal), over) {
                    (Err(Stop::Failed(failure)), Over::Well) => Over::Failed(failure),
                    (_, over) => over,
                };
            }
            if !busy {
                if let Err(stop) = self.output.write() {
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
                        self.output.push(datagram)?;
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
            self.output.watch(),
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
    fn counts(&self) -> (Counts, u64) {
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
}

fn summary(counts: &Counts, queue_drops: u64) -> String {
    let mut text = format!(
        "{} datagrams, {} bytes, {} lost, {} duplicates",
        counts.datagrams, counts.bytes, counts.lost, counts.duplicates
    );
    if queue_drops > 0 {
        // Said apart: the network is not to blame.
        text.push_str(&format!(
            "; {queue_drops} times the receive queue here was full (a larger \
             net.core.rmem_max helps, or a faster reader)"
        ));
    }
    text
}

/// A verdict as people say it.
fn in_words(verdict: Verdict, reason: Reason) -> String {
    let because = because(reason);
    match verdict {
        Verdict::Granted | Verdict::Draining => "granted".to_owned(),
        Verdict::Pending => "pending: the sender has not begun yet".to_owned(),
        Verdict::Left => "left".to_owned(),
        Verdict::Ended => "the sender has ended the stream".to_owned(),
        Verdict::RefusedFinal => format!("refused: {because}"),
        Verdict::RefusedPassing => format!("refused for now: {because}; trying again"),
    }
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::None => "no reason given",
        Reason::Policy => "its policy does not allow this host",
        Reason::Credential => "the credential does not fit",
        Reason::Full => "a table there is full",
        Reason::Loop => "relays stand in a ring",
        Reason::TooDeep => "too many relays one below the other",
        Reason::Overload => "too much is asked of it at once",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_can_be_read_by_a_script() {
        let counts = Counts {
            datagrams: 7600,
            bytes: 10_001_600,
            lost: 3,
            duplicates: 0,
            foreign: 9,
        };
        let text = "7600 datagrams, 10001600 bytes, 3 lost, 0 duplicates";
        assert_eq!(summary(&counts, 0), text);
        assert!(summary(&counts, 5).contains("net.core.rmem_max"));
    }
}
