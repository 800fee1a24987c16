//! `flexcast recv CHANNEL`: a channel's datagrams to standard output or a file.
//!
//! Promises: whole datagrams, each once, in the order in which they came; what was
//! counted is said on standard error at the end. Is not a player: nothing is put in
//! order and nothing lost is made up for.

mod session;
mod words;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use flexcast_rules::ChannelText;
use flexcast_runtime::native::{Counts, Receiver};

use crate::channel;
use crate::failure::Failure;
use crate::link_address::LinkAddress;
use crate::map_options::{MapOptions, Timers};
use crate::output::Output;
use crate::signals;
use crate::sink::Sink;
use crate::terminal;
use crate::to_udp::ToUdp;
use session::{Over, Session};

/// Receive a channel: its datagrams go to standard output or a file.
///
/// May be started before the sender: it waits until the stream begins, and after an
/// end for the next one, until it is interrupted (Ctrl-C) or one of --count,
/// --timeout, --until-end says that it is over. With --to-udp it is a gateway: each
/// datagram goes on by plain UDP, to one program or to a group of the local link.
#[derive(Debug, clap::Args)]
#[command(after_help = channel::HELP, after_long_help = format!("\
{}

Examples:
  flexcast recv 10.0.0.5#5000 > film.ts
  flexcast recv 10.0.0.5#5000 | ffplay -
  flexcast recv --map 239.1.0.0/16=10.0.0.5 239.1.1.4:5000 -o film.ts --until-end
  flexcast recv 10.0.0.5#5000 --to-udp 127.0.0.1:9000        # to a program of this host
  flexcast recv 10.0.0.5#5000 --to-udp 239.1.1.4:5000%eth0   # to a group of the local link
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

    /// Send each datagram on to this address by plain UDP (to a group: on INTERFACE)
    #[arg(
        long,
        value_name = "ADDRESS:PORT[%INTERFACE]",
        conflicts_with = "output"
    )]
    to_udp: Option<LinkAddress>,

    /// How far a group's datagrams of --to-udp go: 1 is the local link
    #[arg(long, value_name = "HOPS", default_value_t = 1, requires = "to_udp",
          value_parser = clap::value_parser!(u8).range(1..))]
    ttl: u8,

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
    timers: Timers,

    #[command(flatten)]
    speech: terminal::Options,

    /// What to receive
    #[arg(value_name = "CHANNEL")]
    channel: ChannelText,
}

impl Recv {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let settings = self.map.settings(&self.timers.variables())?;
        let asked = channel::to_receive(&self.channel, &settings)?;
        let mut terminal = self.speech.start();
        // Before signals are taken over: opening a named pipe may wait for its reader.
        let mut sink = match &self.to_udp {
            Some(to) => Sink::Udp(ToUdp::open(to, self.ttl)?),
            None => Sink::Bytes(Output::open(self.output.as_deref())?),
        };
        if self.output.is_none() && self.to_udp.is_none() && std::io::stdout().is_terminal() {
            terminal = terminal.without_progress();
        }
        let signals = signals::ends().map_err(Failure::Kernel)?;
        sink.heed(signals.fd.as_raw());
        let mut receivers = Vec::new();
        for settings in asked {
            let channel = settings.channel;
            let opened = Receiver::open(settings);
            let receiver = opened.map_err(|errno| Failure::Receive { channel, errno })?;
            terminal.change(&format!("{channel}: asking {}", receiver.asked()));
            receivers.push(receiver);
        }
        let mut session = Session::new(&self, receivers, sink, terminal);
        let over = session.run(&signals);
        let (counts, drops) = session.counts();
        let refused = session.refused();
        let mut terminal = session.leave();
        let mut text = summary(&counts, drops);
        if refused > 0 {
            text.push_str(&format!("; {refused} could not be sent on"));
        }
        terminal.say(&text);
        match over {
            Over::Well => Ok(()),
            Over::Failed(failure) => Err(failure),
        }
    }
}

fn summary(counts: &Counts, queue_drops: u64) -> String {
    let mut text = format!(
        "{} datagrams, {} bytes, {} lost, {} duplicates",
        counts.datagrams, counts.bytes, counts.lost, counts.duplicates
    );
    if counts.foreign > 0 {
        // A forger, or a node gone wrong.
        text.push_str(&format!(
            "; {} dropped as not of the stream",
            counts.foreign
        ));
    }
    if queue_drops > 0 {
        // Said apart: the network is not to blame.
        text.push_str(&format!(
            "; {queue_drops} times the receive queue here was full (a larger \
             net.core.rmem_max helps, or a faster reader)"
        ));
    }
    text
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
            foreign: 0,
        };
        let text = "7600 datagrams, 10001600 bytes, 3 lost, 0 duplicates";
        assert_eq!(summary(&counts, 0), text);
        assert!(summary(&counts, 5).contains("net.core.rmem_max"));
        let forged = Counts {
            foreign: 9,
            ..counts
        };
        assert!(summary(&forged, 0).ends_with("; 9 dropped as not of the stream"));
    }
}
