//! `flexcast send CHANNEL`: standard input or a file to everybody who asks.
//!
//! Promises: paced by the clock where a rate is given, else as fast as it comes; the
//! stream ends properly, also when interrupted, so that receivers know. Is not a
//! reliable transfer: what is lost on the way is lost, and counted by receivers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flexcast_rules::ChannelText;
use flexcast_runtime::send::{Sending, SendingChannel};
use flexcast_udp::process::{poll, PollFd, SignalFd};
use flexcast_udp::Errno;
use flexcast_wire::ChannelId;

use crate::channel;
use crate::failure::Failure;
use crate::feed::Feed;
use crate::from_udp::FromUdp;
use crate::link_address::LinkAddress;
use crate::map_options::MapOptions;
use crate::rate::{Pace, Rate};
use crate::signals;
use crate::source::Source;
use crate::terminal::{self, bit_rate, spaced, Terminal};
use crate::wanted::Wanted;

/// Between two looks of the progress line.
const TICK: Duration = Duration::from_millis(500);
/// How long the end takes to be told: datagrams by 50 ms, statuses by 200 ms.
const FAREWELL: Duration = Duration::from_millis(300);
/// Datagrams handed over at once.
const RUN: usize = 64;

/// Send standard input, or a file, to everybody who asks for the channel.
///
/// Each receiver's datagrams leave this host once for all of them where a relay
/// stands on the way. Receivers may come and go at any time; what is sent while
/// nobody is there is dropped, as multicast would (see --wait). With --from-udp it is a
/// gateway: what plain programs send to that address goes out as it came.
#[derive(Debug, clap::Args)]
#[command(after_help = channel::HELP, after_long_help = format!("\
{}

Examples:
  flexcast send self#5000 film.ts --rate 4M --wait 1
  ffmpeg -re -i in.ts -c copy -f mpegts - | flexcast send self#5000
  flexcast send --map 239.1.0.0/16=10.0.0.5 239.1.1.4:5000 film.ts --rate 2000pps --wait 3:30
  flexcast send self#5000 --from-udp 127.0.0.1:9000        # what is sent there by UDP
  flexcast send self#5000 --from-udp 239.1.1.4:5000%eth0   # a group of the local link

The sender is this host: requests come to UDP port 7450 (--port), which a firewall
must let in. Receivers ask for its address: flexcast recv 10.0.0.5#5000.

Exit codes:
  0        all was sent
  1        it could not be read or sent: the message says why
  2        an option or CHANNEL is wrong
  129-143  128 + the signal that interrupted it; the stream was ended properly
           (with --from-udp, which has no other end: 0)", channel::HELP))]
pub(crate) struct Send {
    #[command(flatten)]
    map: MapOptions,

    /// Send so fast: bits a second (4M, 800k) or datagrams a second (2000pps)
    /// [default: as fast as it is read]
    #[arg(short, long, value_name = "RATE", conflicts_with = "from_udp")]
    rate: Option<Rate>,

    /// Bytes of a datagram; 1316 (7 × 188) suits MPEG-TS and common links
    #[arg(short, long, value_name = "BYTES", default_value_t = 1316,
          value_parser = clap::value_parser!(u16).range(1..=65_511), conflicts_with = "from_udp")]
    size: u16,

    /// Send each datagram that comes to this address by plain UDP, until interrupted; a
    /// group is joined on the local link (on INTERFACE)
    #[arg(long, value_name = "ADDRESS:PORT[%INTERFACE]", conflicts_with = "file")]
    from_udp: Option<LinkAddress>,

    /// Wait until N receivers are there; after SECONDS begin anyway
    /// (without SECONDS: wait as long as it takes)
    #[arg(short, long, value_name = "N[:SECONDS]")]
    wait: Option<Wanted>,

    #[command(flatten)]
    speech: terminal::Options,

    /// What to send: a channel of this host
    #[arg(value_name = "CHANNEL")]
    channel: ChannelText,

    /// The file; - or none: standard input
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Send {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let settings = self.map.settings(&[])?;
        let channel = channel::to_send(&self.channel, &settings)?;
        let terminal = self.speech.start();
        // Before signals are taken over: opening a named pipe may wait for its writer.
        let feed = match &self.from_udp {
            Some(from) => Feed::Udp(FromUdp::open(from)?),
            None => Feed::Pieces(Source::open(self.file.as_deref(), usize::from(self.size))?),
        };
        let signals = signals::ends().map_err(Failure::Kernel)?;
        let sending = Sending::start(channel::send_settings(&settings))?;
        let begun = Instant::now();
        let mut session = Session {
            text: self.channel,
            id: channel.id,
            sending,
            signals,
            terminal,
            feed,
            sent: 0,
            bytes: 0,
            begun,
            looked: (begun, 0),
        };
        let mut outcome = Ok(());
        if let Some(wanted) = &self.wait {
            outcome = session.await_receivers(wanted);
        }
        if outcome.is_ok() {
            let stream = session.sending.open(channel, 0)?;
            session.begun = Instant::now();
            session.looked.0 = session.begun;
            outcome = session.stream(&stream, Pace::new(self.rate));
            session.end(&stream);
        }
        session.sending.finish();
        match outcome {
            // A gateway ends in no other way.
            Err(Failure::Interrupted(_)) if self.from_udp.is_some() => Ok(()),
            outcome => outcome,
        }
    }
}

/// The command at work.
struct Session {
    text: ChannelText,
    id: ChannelId,
    sending: Arc<Sending>,
    signals: SignalFd,
    terminal: Terminal,
    feed: Feed,
    sent: u64,
    bytes: u64,
    begun: Instant,
    /// The progress line's last look: when, and bytes by then.
    looked: (Instant, u64),
}

impl Session {
    fn await_receivers(&mut self, wanted: &Wanted) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let there = self.sending.receivers(self.id);
            if there >= wanted.receivers {
                return Ok(());
            }
            let left = wanted
                .limit
                .map(|limit| limit.saturating_sub(begun.elapsed()));
            if left == Some(Duration::ZERO) {
                let (channel, all) = (self.text, wanted.receivers);
                self.terminal.say(&format!(
                    "warning: {there} of {all} receivers of {channel} are there: beginning anyway"
                ));
                return Ok(());
            }
            self.terminal.progress(&format!(
                "waiting for receivers: {there} of {}",
                wanted.receivers
            ));
            let slice = Duration::from_millis(100);
            let slice = left.map_or(slice, |left| left.min(slice));
            // Who is there is asked again above.
            let _ = self.sending.wait_for(self.id, wanted.receivers, slice);
            self.heed_signals()?;
        }
    }

    fn stream(&mut self, stream: &SendingChannel, mut pace: Pace) -> Result<(), Failure> {
        while !self.feed.is_over() {
            self.heed_signals()?;
            if !self.feed.has_datagram() {
                self.await_feed()?;
                self.feed.fill()?;
                continue;
            }
            let now = Instant::now();
            let early = pace.wait(now);
            if !early.is_zero() {
                self.rest(early);
                continue;
            }
            let most = pace.allowance(now, self.feed.size()).min(RUN);
            let datagrams = self.feed.take(most);
            let bytes = datagrams.iter().map(|d| d.len()).sum();
            pace.spend(now, datagrams.len(), bytes);
            push(stream, &datagrams)?;
            self.sent += datagrams.len() as u64;
            self.bytes += bytes as u64;
            self.show(stream);
        }
        Ok(())
    }

    fn show(&mut self, stream: &SendingChannel) {
        let span = self.looked.0.elapsed();
        if self.terminal.shows_progress() && span >= TICK {
            let rate = bit_rate(self.bytes - self.looked.1, span);
            self.looked = (Instant::now(), self.bytes);
            self.terminal.progress(&format!(
                "{} datagrams, {rate}, {}",
                spaced(self.sent),
                counted(stream.receivers())
            ));
        }
    }

    /// Until there is something to read, or a signal.
    fn await_feed(&self) -> Result<(), Failure> {
        let mut ready = [
            PollFd::new(self.feed.as_raw(), PollFd::IN),
            PollFd::new(self.signals.fd.as_raw(), PollFd::IN),
        ];
        poll(&mut ready, None).map_err(Failure::Kernel)?;
        self.heed_signals()
    }

    /// For a time, or until a signal.
    fn rest(&self, time: Duration) {
        let us = u64::try_from(time.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        let mut ready = [PollFd::new(self.signals.fd.as_raw(), PollFd::IN)];
        // Cannot fail but for want of memory, which passes.
        let _ = poll(&mut ready, Some(us));
    }

    fn heed_signals(&self) -> Result<(), Failure> {
        match self.signals.read() {
            Some(signal) => Err(Failure::Interrupted(signal)),
            None => Ok(()),
        }
    }

    /// Ends the stream and stays until everybody was told.
    fn end(&mut self, stream: &SendingChannel) {
        let receivers = stream.receivers();
        let rate = bit_rate(self.bytes, self.begun.elapsed());
        stream.end();
        if receivers > 0 {
            std::thread::sleep(FAREWELL);
        }
        let mut text = format!(
            "{} datagrams, {} bytes sent at {rate}, {} at the end",
            self.sent,
            self.bytes,
            counted(receivers)
        );
        let counters = stream.counters();
        let (too_long, unread) = match &self.feed {
            Feed::Udp(udp) => (udp.too_long, u64::from(udp.dropped())),
            Feed::Pieces(_) => (0, 0),
        };
        for (count, what) in [
            (too_long, "left out: longer than 65491 bytes"),
            (
                unread,
                "dropped before they were read: the receive queue was full",
            ),
            (counters.unheard, "datagrams while nobody was there"),
            (counters.dropped, "copies dropped: the send buffer was full"),
            (counters.failed, "copies refused: no route, or a firewall"),
        ] {
            if count > 0 {
                text.push_str(&format!("; {count} {what}"));
            }
        }
        self.terminal.say(&text);
    }
}

fn push(stream: &SendingChannel, datagrams: &[&[u8]]) -> Result<(), Failure> {
    let parts: Vec<[&[u8]; 1]> = datagrams.iter().map(|datagram| [*datagram]).collect();
    let whole: Vec<&[&[u8]]> = parts.iter().map(<[&[u8]; 1]>::as_slice).collect();
    match stream.send(&whole, true) {
        Ok(_) => Ok(()),
        Err(Errno::EMSGSIZE) => Err(Failure::TooLarge(datagrams.first().map_or(0, |d| d.len()))),
        Err(errno) => Err(Failure::Kernel(errno)),
    }
}

fn counted(receivers: u64) -> String {
    match receivers {
        1 => "1 receiver".to_owned(),
        n => format!("{n} receivers"),
    }
}
