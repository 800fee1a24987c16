//! Durations as people write them: `10`, `10s`, `0.5`, `100ms`, `2min`.
//!
//! Promises: whole milliseconds, exact; what is printed reads back alike. Is
//! not the judge of a duration's limits.

use std::fmt;
use std::time::Duration;

/// The longest that is read; beyond a year nobody means it.
const LONGEST_MS: u64 = 366 * 24 * 3600 * 1000;

/// Reads seconds, or a number with `ms`, `s` or `min`; none where it is neither
/// or finer than a millisecond.
pub(crate) fn read(text: &str) -> Option<Duration> {
    let (number, unit_ms) = if let Some(n) = text.strip_suffix("ms") {
        (n, 1)
    } else if let Some(n) = text.strip_suffix("min") {
        (n, 60_000)
    } else {
        (text.strip_suffix('s').unwrap_or(text), 1000)
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let mut ms = digits(whole)?.checked_mul(unit_ms)?;
    let scale = 10_u64.checked_pow(u32::try_from(part.len()).ok()?)?;
    let scaled = digits(part)?.checked_mul(unit_ms)?;
    if scaled % scale != 0 {
        return None;
    }
    ms = ms.checked_add(scaled / scale)?;
    (ms <= LONGEST_MS).then(|| Duration::from_millis(ms))
}

/// A duration as [`read`] reads it: seconds, or milliseconds with `ms`.
pub(crate) struct Written(pub(crate) Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subsec_millis() == 0 {
            self.0.as_secs().fmt(f)
        } else {
            write!(f, "{}ms", self.0.as_millis())
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        for (text, ms) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("0.5", 500),
            ("0.250s", 250),
            ("100ms", 100),
            ("1.5min", 90_000),
            ("0", 0),
        ] {
            assert_eq!(read(text), Some(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "s",
            "ms",
            "-1",
            "+1",
            "1.",
            ".5",
            "1e3",
            "1 s",
            "0.0001",
            "1h",
            "99999999999999999999",
            "31622401s",
            "0.00000000000000000000001",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_printed_duration_reads_back() {
        for ms in [0, 1, 999, 1000, 1001, 60_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(read(&Written(duration).to_string()), Some(duration));
        }
    }
}
