//! The log of a long-running command, on standard error.
//!
//! ```text
//! 2026-03-09T12:00:00.123Z warn  message      in a terminal, a file, a pipe
//! <4>message                                  where the system journal reads along
//! ```
//! Promises: a line a record, in one write; journald's own time and level where it
//! reads (`JOURNAL_STREAM`, sd-daemon(3)). Is not per-packet logging: those are counters.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// How much is logged.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What is logged to standard error: off, error, warn, info, debug, trace
    /// [default: info]
    #[arg(long, value_name = "LEVEL", conflicts_with = "verbose")]
    log_level: Option<LevelFilter>,

    /// Log more: debug; twice: trace
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Options {
    /// Starts logging; `usual` where no option says otherwise.
    pub(crate) fn start(&self, usual: LevelFilter) {
        let level = match (self.log_level, self.verbose) {
            (Some(level), _) => level,
            (None, 0) => usual,
            (None, 1) => LevelFilter::Debug,
            (None, _) => LevelFilter::Trace,
        };
        start_at(level);
    }
}

/// Starts logging.
pub(crate) fn start_at(level: LevelFilter) {
    let journal = journal_reads();
    // One command a process: nobody else has set a logger.
    if log::set_boxed_logger(Box::new(StandardError { journal })).is_ok() {
        log::set_max_level(level);
    }
}

struct StandardError {
    journal: bool,
}

impl Log for StandardError {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = if self.journal {
            format!("<{}>{}\n", priority(record.level()), record.args())
        } else {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let level = record.level().as_str().to_lowercase();
            let time = timestamp(now.unwrap_or_default());
            format!("{time} {level:5} {}\n", record.args())
        };
        // There is nobody left to tell.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// syslog(3)'s numbers.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Whether standard error is the stream that `JOURNAL_STREAM` (device:inode) names.
fn journal_reads() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(std::io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// UTC as RFC 3339, with milliseconds.
fn timestamp(since_1970: std::time::Duration) -> String {
    let seconds = since_1970.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let millis = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since 1970: years are counted from March, in eras
/// of 400, so that the leap day is a year's last.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_those_that_date_prints() {
        // date -u -d @N +%FT%T
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_767_225_600, "2026-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds)), text);
        }
        assert!(timestamp(Duration::from_millis(1_042)).ends_with(":01.042Z"));
    }
}
