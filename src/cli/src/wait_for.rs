//! `run --wait-for`: receivers are there before the program is.
//!
//! ```text
//!   flexcast run ──► flexcast hold ──► flexcast hold --detached     owns FP, keeps
//!      │  ▲          (ends at once)      │                          receivers pending
//!      │  └───── there 2 … begin 3 ──────┘
//!      ▼
//!   exec: the program, under this process's id; the detached one stays until it ends
//! ```
//! Promises: this process becomes the program, so that signals, job control, standard
//! input and the exit status are its own and it has no child that it did not start;
//! the receivers that were waited for are handed to it when it first sends. Is not a
//! supervisor.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flexcast_rules::Settings;
use flexcast_runtime::send::Sending;
use flexcast_udp::process::{pid, pidfd_open, poll, PollFd};
use flexcast_udp::Fd;
use flexcast_wire::ChannelId;

use crate::channel;
use crate::failure::Failure;
use crate::terminal::Terminal;
use crate::wanted::{Wanted, WantedOf};

/// The first argument of [`Hold`]. No subcommand: people have no use for it.
pub(crate) const HOLD: &str = "hold";
/// Between two looks at who is there.
const SLICE: Duration = Duration::from_millis(50);

/// The channels that are waited for, found in the map.
#[derive(Debug)]
pub(crate) struct WaitFor {
    wanted: Vec<(ChannelId, WantedOf)>,
    port: u16,
}

impl WaitFor {
    /// Finds the channels; fails where one is not this host's.
    pub(crate) fn new(wanted: &[WantedOf], settings: &Settings) -> Result<WaitFor, Failure> {
        let found = wanted.iter().map(|wanted| {
            let channel = channel::to_send(&wanted.channel, settings)?;
            Ok((channel.id, wanted.clone()))
        });
        Ok(WaitFor {
            wanted: found.collect::<Result<_, Failure>>()?,
            port: settings.port(),
        })
    }

    /// Waits until the receivers are there or their time is over. They are kept until
    /// this process, or what it becomes, ends.
    pub(crate) fn wait(&self, terminal: &mut Terminal) -> Result<(), Failure> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let mut first = self.hold().map_err(|e| Failure::Hold(e.to_string()))?;
        // Open until this process is the program: the detached one looks at that.
        let _alive = first.stdin.take();
        let lines = BufReader::new(first.stdout.take().ok_or_else(gone)?);
        // It has handed on to the detached one, which is nobody's child here.
        let _ = first.wait();
        for line in lines.lines() {
            let line = line.map_err(|e| Failure::Hold(e.to_string()))?;
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let there: Vec<u64> = rest.split(' ').filter_map(|n| n.parse().ok()).collect();
            match word {
                "there" => self.tell(&there, terminal),
                "begin" => {
                    terminal.clear();
                    self.warn(&there, terminal);
                    return Ok(());
                }
                _ => return Err(Failure::Hold(rest.to_owned())),
            }
        }
        Err(gone())
    }

    fn hold(&self) -> std::io::Result<Child> {
        let mut command = own_program();
        command.args(["--program", &pid().to_string()]);
        command.args(["--port", &self.port.to_string()]);
        let wanted = self.wanted.iter();
        command.args(wanted.map(|(id, wanted)| format!("{id}={}", wanted.wanted)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    }

    fn tell(&self, there: &[u64], terminal: &mut Terminal) {
        let each = self.wanted.iter().zip(there);
        let each: Vec<String> = match self.wanted.len() {
            1 => each.map(|((_, w), n)| of(*n, w.wanted)).collect(),
            _ => each
                .map(|((_, w), n)| format!("{} of {}", of(*n, w.wanted), w.channel))
                .collect(),
        };
        let text = format!("waiting for receivers: {}", each.join(", "));
        if terminal.shows_progress() {
            terminal.progress(&text);
        } else {
            terminal.change(&text);
        }
    }

    fn warn(&self, there: &[u64], terminal: &mut Terminal) {
        for ((_, wanted), there) in self.wanted.iter().zip(there) {
            if *there < wanted.wanted.receivers {
                terminal.say(&format!(
                    "warning: {} receivers of {} are there: starting anyway",
                    of(*there, wanted.wanted),
                    wanted.channel
                ));
            }
        }
    }
}

fn of(there: u64, wanted: Wanted) -> String {
    format!("{there} of {}", wanted.receivers)
}

fn gone() -> Failure {
    Failure::Hold("the process that waits for them has ended".to_owned())
}

/// This very program, also where its file was replaced meanwhile.
fn own_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("flexcast").arg(HOLD);
    // It is not what the library is for.
    command.env_remove("LD_PRELOAD");
    command
}

/// Keeps receivers for a program that is to be started.
#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true)]
pub(crate) struct Hold {
    /// The process that becomes the program; this one ends with it
    #[arg(long, value_name = "PID")]
    program: i32,

    /// FP
    #[arg(long, value_name = "PORT")]
    port: u16,

    /// Nobody's child
    #[arg(long)]
    detached: bool,

    /// ID=N[:SECONDS]
    #[arg(value_name = "ID=N[:SECONDS]", required = true, value_parser = held)]
    wanted: Vec<(ChannelId, Wanted)>,
}

fn held(text: &str) -> Result<(ChannelId, Wanted), String> {
    let (id, wanted) = text.split_once('=').ok_or("not ID=N")?;
    let id = id.parse().ok().and_then(ChannelId::new);
    Ok((id.ok_or("no id")?, wanted.parse()?))
}

impl Hold {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let done = match self.detached {
            true => self.keep(),
            false => detach(),
        };
        done.map_err(|error| Failure::Hold(error.to_string()))
    }

    fn keep(&self) -> std::io::Result<()> {
        // The terminal's signals are the program's, and no folder is kept busy.
        let _ = rustix::process::setsid();
        std::env::set_current_dir("/")?;
        let program = pidfd_open(self.program)?;
        // Whoever started us holds our standard input open until it is the program:
        // where that is closed by now, the number may be somebody else's.
        let mut input = [PollFd::new(0, PollFd::IN)];
        poll(&mut input, Some(0))?;
        if input[0].is_readable() {
            return Ok(());
        }
        let settings = channel::send_settings_at(self.port);
        let sending = match Sending::start(settings) {
            Ok(sending) => sending,
            Err(error) => return say(&format!("failed {error}")),
        };
        if self.gather(&sending, &program)? {
            let nothing = std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")?;
            rustix::stdio::dup2_stdin(&nothing)?;
            rustix::stdio::dup2_stdout(&nothing)?;
            while !has_ended(&program, None)? {}
        }
        sending.finish();
        Ok(())
    }

    /// Says who is there until it is enough; false where the program is gone before.
    fn gather(&self, sending: &Sending, program: &Fd) -> std::io::Result<bool> {
        let begun = Instant::now();
        let mut told = None;
        loop {
            let there = self.wanted.iter().map(|(id, _)| sending.receivers(*id));
            let there: Vec<u64> = there.collect();
            let mut missing = self
                .wanted
                .iter()
                .zip(&there)
                .filter(|((_, wanted), there)| {
                    let late = wanted.limit.is_some_and(|limit| begun.elapsed() >= limit);
                    **there < wanted.receivers && !late
                });
            let missing = missing.next();
            let text: Vec<String> = there.iter().map(u64::to_string).collect();
            let text = text.join(" ");
            let Some(((id, wanted), _)) = missing else {
                say(&format!("begin {text}"))?;
                return Ok(true);
            };
            if told.as_ref() != Some(&text) {
                say(&format!("there {text}"))?;
                told = Some(text);
            }
            if has_ended(program, Some(0))? {
                return Ok(false);
            }
            // Who is there is asked again above.
            let _ = sending.wait_for(*id, wanted.receivers, SLICE);
        }
    }
}

/// Starts the one that stays, and ends: it becomes nobody's child here.
fn detach() -> std::io::Result<()> {
    let mut command = own_program();
    command.args(std::env::args_os().skip(2)).arg("--detached");
    command.stderr(Stdio::null()).spawn().map(drop)
}

fn say(line: &str) -> std::io::Result<()> {
    let line = line.replace('\n', " ") + "\n";
    std::io::stdout().write_all(line.as_bytes())
}

/// Whether the process behind a pidfd has ended, at the latest after `us`.
fn has_ended(program: &Fd, us: Option<u64>) -> std::io::Result<bool> {
    let mut ended = [PollFd::new(program.as_raw(), PollFd::IN)];
    poll(&mut ended, us)?;
    Ok(ended[0].is_readable())
}
