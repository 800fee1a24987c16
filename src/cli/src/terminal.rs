//! What a command says while it works, on standard error.
//!
//! Promises: a line that is rewritten in place only where people watch (a terminal),
//! changes there or where they were asked for (-v), warnings always; nothing on
//! standard output. Is not a log.

use std::io::{IsTerminal, Write};

use log::LevelFilter;

/// How much is said.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    /// Say nothing but errors
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,

    /// Say what changes, also where standard error is no terminal; twice, three
    /// times: log information, debugging to standard error
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Standard error, as a command speaks to it.
#[derive(Debug)]
pub(crate) struct Terminal {
    quiet: bool,
    shows_progress: bool,
    tells_changes: bool,
    /// Characters of the line that stands there unfinished.
    width: usize,
}

impl Options {
    /// Starts logging, as much as asked for.
    pub(crate) fn start(self) -> Terminal {
        let level = match self.verbose {
            _ if self.quiet => LevelFilter::Error,
            0 | 1 => LevelFilter::Warn,
            2 => LevelFilter::Info,
            _ => LevelFilter::Debug,
        };
        crate::logging::start_at(level);
        Terminal::new(self.quiet, self.verbose > 0)
    }
}

impl Terminal {
    pub(crate) fn new(quiet: bool, verbose: bool) -> Terminal {
        let watched = std::io::stderr().is_terminal() && !quiet;
        Terminal {
            quiet,
            shows_progress: watched,
            tells_changes: watched || verbose,
            width: 0,
        }
    }

    /// Shows no progress: what is on the terminal is the command's own output.
    pub(crate) fn without_progress(mut self) -> Terminal {
        self.shows_progress = false;
        self
    }

    /// Whether [`Terminal::progress`] shows anything.
    pub(crate) fn shows_progress(&self) -> bool {
        self.shows_progress
    }

    /// Rewrites the line that shows how far things are.
    pub(crate) fn progress(&mut self, text: &str) {
        if self.shows_progress {
            let width = text.chars().count();
            let blanks = self.width.saturating_sub(width);
            self.write(&format!("\r{text}{:blanks$}", ""));
            self.width = width;
        }
    }

    /// Something has changed.
    pub(crate) fn change(&mut self, text: &str) {
        if self.tells_changes {
            self.line(text);
        }
    }

    /// What is said in any case, but with --quiet.
    pub(crate) fn say(&mut self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Takes the unfinished line away.
    pub(crate) fn clear(&mut self) {
        if self.width > 0 {
            let blanks = self.width;
            self.write(&format!("\r{:blanks$}\r", ""));
            self.width = 0;
        }
    }

    fn line(&mut self, text: &str) {
        self.clear();
        self.write(&format!("flexcast: {text}\n"));
    }

    fn write(&self, text: &str) {
        // There is nobody left to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.clear();
    }
}

/// 1234567 as 1 234 567.
pub(crate) fn spaced(number: u64) -> String {
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

/// Bits a second, of bytes in a time, in a unit that people read.
pub(crate) fn bit_rate(bytes: u64, span: std::time::Duration) -> String {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
    let kbit = bytes.saturating_mul(8) / ms;
    match kbit {
        0..10_000 => format!("{kbit} kbit/s"),
        _ => format!("{}.{} Mbit/s", kbit / 1_000, kbit % 1_000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn figures_read_well() {
        assert_eq!(spaced(7), "7");
        assert_eq!(spaced(1_234_567), "1 234 567");
        let second = Duration::from_secs(1);
        assert_eq!(bit_rate(0, second), "0 kbit/s");
        assert_eq!(bit_rate(125_000, second), "1000 kbit/s");
        assert_eq!(bit_rate(125_000_000, second * 4), "250.0 Mbit/s");
        assert_eq!(bit_rate(1, Duration::ZERO), "8 kbit/s");
    }
}
