//! N[:SECONDS] and [CHANNEL=]N[:SECONDS]: receivers to wait for.
//!
//! Promises: a message that names the value and what it should be. Is not the
//! waiting (`wait_for`, `send`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use flexcast_rules::ChannelText;

/// How many receivers, and how long they are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wanted {
    /// At least 1.
    pub(crate) receivers: u64,
    /// None: until they are there.
    pub(crate) limit: Option<Duration>,
}

/// As [`Wanted`], for a channel.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct WantedOf {
    pub(crate) channel: ChannelText,
    pub(crate) wanted: Wanted,
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Wanted, String> {
        let (count, limit) = match text.split_once(':') {
            Some((count, limit)) => (count, Some(limit)),
            None => (text, None),
        };
        let receivers = count.parse().ok().filter(|n| *n > 0);
        let receivers = receivers.ok_or_else(|| {
            format!("{count:?} is no number of receivers: write N or N:SECONDS, as 3 or 3:30")
        })?;
        let limit = limit.map(seconds).transpose()?;
        Ok(Wanted { receivers, limit })
    }
}

impl FromStr for WantedOf {
    type Err = String;

    fn from_str(text: &str) -> Result<WantedOf, String> {
        let (channel, wanted) = text.rsplit_once('=').ok_or_else(|| {
            format!("{text:?} is not CHANNEL=N[:SECONDS], as 239.1.1.4:5000=3 or self#7=1:30")
        })?;
        Ok(WantedOf {
            channel: channel.parse().map_err(|error| format!("{error}"))?,
            wanted: wanted.parse()?,
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.receivers)?;
        match self.limit {
            Some(limit) => write!(f, ":{}", limit.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// A number of seconds, decimals allowed.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number = text.parse::<f64>().ok().filter(|_| plain);
    let found = number.and_then(|number| Duration::try_from_secs_f64(number).ok());
    let found = found.filter(|d| !d.is_zero() && *d < Duration::from_secs(1 << 31));
    found.ok_or_else(|| format!("{text:?} is no time: write seconds, as 10 or 0.5, more than 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_limits_are_read_and_written() {
        let wanted = |receivers, ms: Option<u64>| Wanted {
            receivers,
            limit: ms.map(Duration::from_millis),
        };
        for (text, expected) in [
            ("3", wanted(3, None)),
            ("3:30", wanted(3, Some(30_000))),
            ("1:0.5", wanted(1, Some(500))),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        for wrong in [
            "", "0", "-1", "x", "3:", "3:0", "3:-1", "3:1e3", "3:inf", ":5", "3:5:7",
        ] {
            assert!(wrong.parse::<Wanted>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_channel_may_hold_brackets_and_colons() {
        let found: WantedOf = "[ff3e::8000:1]:5000=2:9".parse().unwrap();
        assert_eq!(found.channel.to_string(), "[ff3e::8000:1]:5000");
        assert_eq!(found.wanted.to_string(), "2:9");
        let error = "239.1.1.4:5000".parse::<WantedOf>().unwrap_err();
        assert!(error.contains("CHANNEL=N[:SECONDS]"), "{error}");
        let error = "239.1.1.4=2".parse::<WantedOf>().unwrap_err();
        assert!(error.contains("239.1.1.4"), "{error}");
    }
}
