//! `flexcast run … -- program`: an unmodified program under the library.
//!
//! Promises: everything is checked before the program starts (rules, names,
//! library, program), the receivers waited for; then this process becomes the program, so signals and
//! exit status are its own. Is not the library.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use flexcast_rules::{collisions, Settings};

use crate::executable;
use crate::failure::Failure;
use crate::map_options::{MapOptions, Timers};
use crate::preload;
use crate::terminal::Terminal;
use crate::understood;
use crate::wait_for::WaitFor;
use crate::wanted::WantedOf;

/// Run an unmodified program whose mapped addresses Flexcast carries.
///
/// What no rule matches behaves as without Flexcast. One map serves all hosts:
/// with 239.1.0.0/16=10.0.0.5 the host 10.0.0.5 sends and all others receive.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  flexcast run --map 239.1.0.0/16=10.0.0.5 -- ffplay udp://239.1.1.4:5000
  flexcast run --map 239.1.1.4:5000=self,empty=wait:3:30 -- socat -u OPEN:f UDP4-DATAGRAM:239.1.1.4:5000
  flexcast run --map 239.1.0.0/16=10.0.0.5 --wait-for 239.1.1.4:5000=3:60 -- \
    ffmpeg -re -i in.ts -c copy -f mpegts udp://239.1.1.4:5000
  flexcast run --config /etc/flexcast.toml -vv -- multicat -u @239.1.1.1:5000 o.ts
  flexcast run --config /etc/flexcast.toml --check

Programs that make system calls past the C library (static ones, Go) and those
that gain privileges (setuid, file capabilities) are refused with the reason.

This process becomes the program, also after --wait-for: signals, job control,
standard input and exit status are the program's own.

Exit codes:
  1    the receivers that --wait-for names cannot be waited for, or the library is
       missing: the message says why
  2    an option, a rule or a variable is wrong
  126  the program cannot be run under Flexcast
  127  it was not found
  otherwise the program's own (a shell shows 128 + the signal that ended it)")]
pub(crate) struct Run {
    #[command(flatten)]
    map: MapOptions,

    /// Start the program when N receivers of CHANNEL are there, or after SECONDS
    /// (without SECONDS: as long as it takes); repeatable
    ///
    /// CHANNEL is what the program will send to, GROUP:PORT or ADDRESS:PORT, or
    /// SENDER#ID or self#ID. The receivers are kept waiting and get the program's
    /// first datagram. For programs that pace themselves by the clock (ffmpeg -re).
    #[arg(short, long, value_name = "CHANNEL=N[:SECONDS]")]
    wait_for: Vec<WantedOf>,

    #[command(flatten)]
    timers: Timers,

    /// Where a receiving socket's trailers are taken off: kernel or user
    /// [default: kernel, where a probe succeeds]
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// The library [default: beside this program, or in ../lib]
    #[arg(
        long,
        value_name = "FILE",
        env = "FLEXCAST_PRELOAD",
        hide_env_values = true
    )]
    preload: Option<OsString>,

    /// Log to standard error: warnings; twice: information; up to four times
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "log")]
    verbose: u8,

    /// Log LEVEL (error, warn, info, debug, trace) and above, to FILE or standard error
    #[arg(long, value_name = "LEVEL[,FILE]")]
    log: Option<String>,

    /// Only read the rules and settings: print them as they are understood here
    #[arg(long)]
    check: bool,

    /// Check everything, say what would be run and how, and start nothing
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,

    /// The program and its arguments
    #[arg(
        value_name = "PROGRAM",
        required_unless_present = "check",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    program: Vec<OsString>,
}

impl Run {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let settings = self.map.settings(&self.variables())?;
        if settings.map().is_empty() {
            return Err(Failure::NoRule);
        }
        if self.check {
            let text = understood::rules(&settings) + &understood::settings(&settings);
            return Ok(std::io::stdout().write_all(text.as_bytes())?);
        }
        for collision in collisions(settings.map()) {
            eprintln!("flexcast: warning: {collision}");
        }
        let wait_for = WaitFor::new(&self.wait_for, &settings)?;
        let Some((program, arguments)) = self.program.split_first() else {
            return Err(Failure::NoRule);
        };
        let path = executable::check(program)?;
        let own = std::env::current_exe().unwrap_or_default();
        let library = preload::find(self.preload.as_deref(), &own)?;
        if self.dry_run {
            return self.tell(&settings, &path, &library);
        }

        let mut command = Command::new(&path);
        command.arg0(program).args(arguments);
        // The file's settings are among the variables by now, names resolved.
        command.env_remove("FLEXCAST_CONFIG");
        command.envs(settings.to_variables());
        let existing = std::env::var_os("LD_PRELOAD");
        command.env("LD_PRELOAD", preload::prepended(&library, existing));
        wait_for.wait(&mut Terminal::new(false, self.verbose > 0))?;
        // Returns only if the kernel refuses.
        let error = command.exec();
        Err(Failure::Exec { path, error })
    }

    /// What would be run, and how.
    fn tell(&self, settings: &Settings, path: &Path, library: &Path) -> Result<(), Failure> {
        let words = self
            .program
            .iter()
            .skip(1)
            .map(|word| word.to_string_lossy());
        let words: String = words.map(|word| format!(" {word}")).collect();
        let waits = self.wait_for.iter().map(|wanted| {
            let WantedOf { channel, wanted } = wanted;
            format!("after waiting for receivers, {channel}={wanted}\n")
        });
        let text = format!(
            "would run {}{words}\n{}with {} and\n{}{}",
            path.display(),
            waits.collect::<String>(),
            library.display(),
            understood::rules(settings),
            understood::settings(settings),
        );
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }

    /// The variables that these options stand for.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let level = match self.verbose {
            0 => None,
            1 => Some("warn"),
            2 => Some("info"),
            3 => Some("debug"),
            _ => Some("trace"),
        };
        let log = self.log.clone().or(level.map(str::to_owned));
        let mut variables = self.timers.variables();
        variables.extend(log.map(|log| ("FLEXCAST_LOG", log)));
        variables.extend(self.path.clone().map(|path| ("FLEXCAST_PATH", path)));
        variables
    }
}
