//! `flexcast doctor`: what this host lacks, each with its remedy.
//!
//! Promises: looks and tries, changes nothing; names are stable for scripts; the exit
//! code tells a fault from none. Is not a repair.

mod check;
mod endpoint;
mod host;
mod relay;

use std::io::Write;

use check::{Check, Verdict};

use crate::failure::Failure;
use crate::map_options::MapOptions;
use crate::relay::Numbers;

pub(crate) use relay::{try_capture, TRY_CAPTURE};

/// Look for what keeps Flexcast from working on this host, and say what to do.
///
/// Without --relay: what programs under Flexcast, senders and receivers, need of this
/// host, and whether the senders of the map can be reached.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Each line is ok, a warning (it works, but worse than it could) or a fault (it does
not work), the latter two with a remedy.

Examples:
  flexcast doctor --map 239.1.0.0/16=10.0.0.5
  sudo flexcast doctor --relay
  flexcast doctor --json | jq -r '.checks[] | select(.verdict != \"ok\") | .remedy'

Exit codes:
  0  no fault
  1  at least one fault
  2  an option is wrong")]
pub(crate) struct Doctor {
    #[command(flatten)]
    map: MapOptions,

    /// Look at what a relay needs of this host instead
    #[arg(long)]
    relay: bool,

    #[command(flatten)]
    numbers: Numbers,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let checks = match self.map.settings(&[]) {
            // What is wrong with the rules is the answer.
            Err(failure) => vec![Check::fault("map", failure.to_string(), "see the message")],
            Ok(settings) if self.relay => relay::look(&self.numbers.settings(settings.port())),
            Ok(settings) => endpoint::look(&settings),
        };
        let count = |verdict| checks.iter().filter(|c| c.verdict == verdict).count();
        let (faults, warnings) = (count(Verdict::Fault), count(Verdict::Warning));
        let text = if self.json {
            let answer = serde_json::json!({
                "checks": checks, "faults": faults, "warnings": warnings,
            });
            format!("{answer:#}\n")
        } else {
            let lines: String = checks.iter().map(as_text).collect();
            format!("{lines}{}\n", summed_up(faults, warnings))
        };
        std::io::stdout().write_all(text.as_bytes())?;
        match faults {
            0 => Ok(()),
            n => Err(Failure::Faults(n)),
        }
    }
}

fn as_text(check: &Check) -> String {
    let Check { name, found, .. } = check;
    let line = format!("{:<9}{name:<20} {found}\n", check.verdict.name());
    match check.remedy.is_empty() {
        true => line,
        false => format!("{line}{:<30}remedy: {}\n", "", check.remedy),
    }
}

fn summed_up(faults: usize, warnings: usize) -> String {
    let several = |n: usize, one: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    format!(
        "{}, {}",
        several(faults, "fault"),
        several(warnings, "warning")
    )
}
