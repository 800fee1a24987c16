//! `flexcast status`: what the relay of this host does, as a table or as JSON.
//!
//! Promises: units on every figure; the JSON's names are stable and are the
//! report's own. Needs no privilege. Is not a counter of past relays.

use std::fmt::Write as _;
use std::io::Write as _;

use flexcast_relay::{ask_status, ChannelLine, RequesterLine, StatusReport};

use crate::failure::Failure;

/// Show what the relay of this host does: channels, requesters, counters.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  flexcast status
  flexcast status --json | jq '.channels[] | {channel, datagrams, lost}'

In the table: LOST are datagrams missed from upstream by sequence, TWICE those that
came twice and were passed on once; a requester's LOST is what it reports itself.

Exit codes:
  0  shown
  1  no relay runs on that port in this network namespace, or it does not answer
  2  an option is wrong")]
pub(crate) struct Status {
    /// Print JSON: bytes, seconds and counts as plain numbers
    #[arg(long)]
    json: bool,

    /// The UDP port that the relay's requests go to
    #[arg(long, value_name = "PORT", env = "FLEXCAST_PORT", default_value_t = flexcast_relay::Settings::default().fp,
          value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
}

impl Status {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let report = ask_status(self.port)?;
        let text = if self.json {
            let json = serde_json::to_string_pretty(&report);
            json.map_err(std::io::Error::from)? + "\n"
        } else {
            table(&report)
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}

fn table(report: &StatusReport) -> String {
    let mut text = String::new();
    let state = match (report.draining, report.capturing) {
        (true, _) => "draining".to_owned(),
        (false, true) => "capturing".to_owned(),
        (false, false) => format!("NOT capturing: {}", report.not_capturing),
    };
    let _ = writeln!(
        text,
        "relay {} on UDP port {}, process {}: {state}",
        report.node, report.port, report.pid
    );
    let offload = match report.segmentation_offload {
        true => "with segmentation offload",
        false => "without segmentation offload",
    };
    let _ = writeln!(
        text,
        "{} copies sent {offload}, {} refused, {} dropped; {} requests taken, {} challenged",
        spaced(report.copies_sent),
        spaced(report.copies_refused),
        spaced(report.copies_dropped),
        spaced(report.requests_validated),
        spaced(report.challenges_sent),
    );
    let channels = report.channels.len();
    let _ = writeln!(
        text,
        "{channels} channels, {} requesters",
        report.requesters
    );
    if channels > 0 {
        let mut rows = vec![HEAD.map(str::to_owned)];
        for channel in &report.channels {
            rows.push(channel_row(channel));
            rows.extend(channel.requesters.iter().map(requester_row));
        }
        text.push('\n');
        text.push_str(&aligned(&rows));
    }
    text
}

const HEAD: [&str; 8] = [
    "CHANNEL / REQUESTER",
    "STATE",
    "DATAGRAMS",
    "BYTES",
    "LOST",
    "TWICE",
    "RECEIVERS",
    "AGE",
];

fn channel_row(channel: &ChannelLine) -> [String; 8] {
    let state = match channel.reason.as_str() {
        "" => channel.verdict.clone(),
        reason => format!("{} ({reason})", channel.verdict),
    };
    [
        channel.channel.clone(),
        state,
        spaced(channel.datagrams),
        bytes(channel.bytes),
        spaced(channel.lost),
        spaced(channel.duplicates),
        spaced(channel.receivers_below),
        span(channel.age),
    ]
}

fn requester_row(requester: &RequesterLine) -> [String; 8] {
    [
        format!("  {}", requester.address),
        if requester.standby { "standby" } else { "fed" }.to_owned(),
        spaced(requester.datagrams),
        bytes(requester.bytes),
        requester.lost.map_or("-".to_owned(), spaced),
        "-".to_owned(),
        spaced(u64::from(requester.receivers_below)),
        span(requester.age),
    ]
}

/// Columns as wide as their longest cell; numbers end flush.
fn aligned(rows: &[[String; 8]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..8).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let _ = match column {
                0 | 1 => write!(line, "{cell:width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// 1234567 as 1 234 567.
fn spaced(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Bytes in a unit of three digits, decimal.
fn bytes(number: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut whole, mut tenth, mut unit) = (number, 0, 0);
    while whole >= 1000 && unit + 1 < units.len() {
        (whole, tenth) = (whole / 1000, whole % 1000 / 100);
        unit += 1;
    }
    if unit == 0 || whole >= 100 {
        return format!("{whole} {}", units[unit]);
    }
    format!("{whole}.{tenth} {}", units[unit])
}

/// Seconds in the two largest units.
fn span(seconds: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64(seconds).map_or(0, |d| d.as_secs());
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {} min", whole / 3_600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units_that_people_read() {
        assert_eq!(spaced(0), "0");
        assert_eq!(spaced(1_234_567), "1 234 567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_316), "1.3 kB");
        assert_eq!(bytes(123_456_789), "123 MB");
        assert_eq!(span(59.9), "59 s");
        assert_eq!(span(3_725.0), "1 h 2 min");
        assert_eq!(span(90_000.0), "1 d 1 h");
    }

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 8]| cells.map(str::to_owned);
        let rows = [
            row(HEAD),
            row([
                "10.0.0.1#7",
                "granted",
                "1 000",
                "1.3 MB",
                "0",
                "0",
                "6",
                "9 s",
            ]),
        ];
        let text = aligned(&rows);
        let ends: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(ends[0], ends[1], "{text}");
        let column = text.lines().next().and_then(|l| l.find("STATE"));
        assert_eq!(text.lines().nth(1).and_then(|l| l.find("granted")), column);
    }
}
