//! The program `flexcast`: unmodified programs, one stream to many receivers.
//!
//! Promises: messages name the value and the remedy; exit codes as in
//! `failure`. Is not the work itself: each subcommand hands it to a library.
#![forbid(unsafe_code)]
// A command's answer goes to standard output, its complaints to standard error.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod channel;
mod doctor;
mod executable;
mod explain;
mod failure;
mod feed;
mod from_udp;
mod link_address;
mod logging;
mod man;
mod map_options;
mod output;
mod preload;
mod rate;
mod recv;
mod relay;
mod run;
mod send;
mod signals;
mod sink;
mod source;
mod status;
mod terminal;
mod to_udp;
mod understood;
mod wait_for;
mod wanted;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::Failure;

/// Carry one stream to many receivers over plain unicast networks.
///
/// Programs that know nothing of it push to, or join, multicast groups as ever;
/// a map of rules says which addresses are carried and who sends them.
#[derive(Debug, Parser)]
#[command(
    name = "flexcast",
    version,
    after_long_help = "\
Examples:
  # 10.0.0.5 is the sender of all groups 239.1.x.x; the same map on every host
  flexcast run --map 239.1.0.0/16=10.0.0.5 -- ffmpeg -re -i in.ts -c copy -f mpegts udp://239.1.1.4:5000
  flexcast run --map 239.1.0.0/16=10.0.0.5 -- ffplay udp://239.1.1.4:5000

  # on a router between them
  flexcast relay

  # without any program of one's own
  flexcast send self#5000 film.ts --rate 4M --wait 1      # on 10.0.0.5
  flexcast recv 10.0.0.5#5000 > film.ts

  # for programs that cannot be run so: to and from plain UDP on the local link
  flexcast send self#5000 --from-udp 127.0.0.1:9000
  flexcast recv 10.0.0.5#5000 --to-udp 239.1.1.4:5000

  # what becomes of an address on this host, and what keeps it from working
  flexcast map --map 239.1.0.0/16=10.0.0.5 239.1.1.4:5000
  flexcast doctor --map 239.1.0.0/16=10.0.0.5

Exit codes:
  0    success
  1    what was asked for failed
  2    it was asked for wrongly: an option, a rule, a variable
  126  the program to run cannot be run under Flexcast
  127  the program to run was not found
  128 + N  signal N interrupted `send` before all was sent
  `run` otherwise ends as the program that it runs."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Send(send::Send),
    Recv(recv::Recv),
    Relay(relay::Relay),
    Status(status::Status),
    Map(explain::Explain),
    Doctor(doctor::Doctor),
    Completions(Completions),
}

/// Print completions for a shell.
///
/// Example: flexcast completions bash > /etc/bash_completion.d/flexcast
#[derive(Debug, clap::Args)]
struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    // Wrong usage ends here, with code 2; --help and --version with 0.
    let first = words.next().unwrap_or_default();
    let done = if first == wait_for::HOLD {
        wait_for::Hold::parse_from(words).execute()
    } else if first == man::MAN {
        man::ManPages::parse_from(words).execute(&Arguments::command())
    } else if first == doctor::TRY_CAPTURE {
        doctor::try_capture()
    } else {
        obey(Arguments::parse().command)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("flexcast: {failure}");
            failure.code()
        }
    }
}

fn obey(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(run) => run.execute(),
        Command::Send(send) => send.execute(),
        Command::Recv(recv) => recv.execute(),
        Command::Relay(relay) => relay.execute(),
        Command::Status(status) => status.execute(),
        Command::Map(map) => map.execute(),
        Command::Doctor(doctor) => doctor.execute(),
        Command::Completions(completions) => completions.execute(),
    }
}

impl Completions {
    fn execute(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "flexcast", &mut text);
        std::io::Write::write_all(&mut std::io::stdout(), &text)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
