//! RATE on the command line, and a clock that keeps it.
//!
//! Promises: bits a second or datagrams a second, exactly on average, without drift;
//! what was missed is caught up for 4 ms at most, so that no burst is longer than
//! that. Is not congestion control.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// The longest burst, in time.
const BURST: Duration = Duration::from_millis(4);

/// How fast.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Rate {
    /// Payload bits a second.
    Bits(f64),
    /// Datagrams a second.
    Datagrams(f64),
}

/// A text that is no rate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is no rate: write bits a second (4M, 2.5Mbit/s, 800k) \
     or datagrams a second (2000pps), more than 0"
)]
pub(crate) struct RateSyntax(String);

impl FromStr for Rate {
    type Err = RateSyntax;

    fn from_str(text: &str) -> Result<Rate, RateSyntax> {
        let bad = || RateSyntax(text.to_owned());
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let number: f64 = number.parse().map_err(|_| bad())?;
        let (factor, unit) = match unit.chars().next() {
            Some('k' | 'K') => (1e3, &unit[1..]),
            Some('M') => (1e6, &unit[1..]),
            Some('G') => (1e9, &unit[1..]),
            _ => (1.0, unit),
        };
        let rate = number * factor;
        if !(rate > 0.0 && rate <= 1e12) {
            return Err(bad());
        }
        match unit {
            "" | "bit/s" | "bps" | "bit" => Ok(Rate::Bits(rate)),
            "pps" | "datagrams/s" => Ok(Rate::Datagrams(rate)),
            _ => Err(bad()),
        }
    }
}

/// Says when the next datagram may go.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<Rate>,
    due: Option<Instant>,
}

impl Pace {
    /// By the clock; without a rate: as fast as they come.
    pub(crate) fn new(rate: Option<Rate>) -> Pace {
        Pace { rate, due: None }
    }

    /// How long to wait before the next datagram; zero: it may go.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        let due = self.due.filter(|_| self.rate.is_some());
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// How many datagrams of `size` bytes may go at once, where one may.
    pub(crate) fn allowance(&self, now: Instant, size: usize) -> usize {
        let (Some(rate), Some(due)) = (self.rate, self.due) else {
            return if self.rate.is_some() { 1 } else { usize::MAX };
        };
        let credit = now.saturating_duration_since(due).min(BURST);
        let each = cost(rate, 1, size);
        let more = credit.as_nanos() / each.as_nanos().max(1);
        usize::try_from(more)
            .unwrap_or(usize::MAX)
            .saturating_add(1)
    }

    /// So many datagrams, of so many bytes together, went out.
    pub(crate) fn spend(&mut self, now: Instant, datagrams: usize, bytes: usize) {
        if let Some(rate) = self.rate {
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let from = self.due.map_or(now, |due| due.max(earliest));
            self.due = Some(from + cost(rate, datagrams, bytes));
        }
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn cost(rate: Rate, datagrams: usize, bytes: usize) -> Duration {
    let seconds = match rate {
        Rate::Bits(bits) => bytes as f64 * 8.0 / bits,
        Rate::Datagrams(each) => datagrams as f64 / each,
    };
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_with_their_units() {
        for (text, rate) in [
            ("4M", Rate::Bits(4e6)),
            ("2.5Mbit/s", Rate::Bits(2.5e6)),
            ("800k", Rate::Bits(8e5)),
            ("1Gbps", Rate::Bits(1e9)),
            ("9600", Rate::Bits(9600.0)),
            ("2000pps", Rate::Datagrams(2000.0)),
            ("2kpps", Rate::Datagrams(2000.0)),
            ("0.5pps", Rate::Datagrams(0.5)),
        ] {
            assert_eq!(text.parse(), Ok(rate), "{text}");
        }
        for wrong in [
            "", "M", "-4M", "0", "4 M", "4MB", "4m", "1e9", "nan", "9999999G",
        ] {
            let error = wrong.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }

    #[test]
    fn the_pace_is_kept_on_average_and_bursts_are_short() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(Rate::Datagrams(1000.0)));
        let (mut now, mut sent) = (start, 0);
        // Woken 300 µs late each time.
        while sent < 1000 {
            now += pace.wait(now) + Duration::from_micros(300);
            let n = pace.allowance(now, 100);
            pace.spend(now, n, n * 100);
            sent += n;
        }
        let took = (now - start).as_millis();
        assert!((990..=1002).contains(&took), "{took} ms");
        // Away for a second: what was missed is not caught up.
        now += Duration::from_secs(1);
        let n = pace.allowance(now, 100);
        assert_eq!(n, 5, "one that is due, and 4 ms of credit");
        pace.spend(now, n, n * 100);
        assert_eq!(pace.wait(now), Duration::from_millis(1));
    }

    #[test]
    fn bits_count_payload() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(Rate::Bits(8e6)));
        assert_eq!(pace.wait(now), Duration::ZERO);
        assert_eq!(pace.allowance(now, 1000), 1);
        pace.spend(now, 1, 1000);
        assert_eq!(pace.wait(now), Duration::from_millis(1));
        let unpaced = Pace::new(None);
        assert_eq!(unpaced.allowance(now, 1000), usize::MAX);
        assert_eq!(unpaced.wait(now), Duration::ZERO);
    }
}
