//! Everything that `FLEXCAST_*` variables and the configuration file can set.
//!
//! Promises: an unknown variable, or a value out of range, is an error that
//! names it and what was expected; a variable wins over the file. Reads no
//! environment and no file: the caller hands over what it read.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flexcast_wire::{canonical, FLEXCAST_PORT};

use crate::config::ConfigError;
use crate::duration::{self, Written};
use crate::fault::RuleError;
use crate::map::Map;
use crate::nearest::nearest;
use crate::parse::plain_number;

/// The variables that settings are read from.
const VARIABLES: [&str; 9] = [
    "FLEXCAST_MAP",
    "FLEXCAST_CONFIG",
    "FLEXCAST_SELF",
    "FLEXCAST_PORT",
    "FLEXCAST_REFRESH",
    "FLEXCAST_HEARTBEAT",
    "FLEXCAST_HOLD",
    "FLEXCAST_LOG",
    "FLEXCAST_PATH",
];

/// Variables of ours that others read: the program `flexcast` and scripts.
const ELSEWHERE: [&str; 2] = ["FLEXCAST_BIN", "FLEXCAST_PRELOAD"];

/// Settings, each with its default where it was not given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    pub(crate) map: Map,
    pub(crate) config: Option<PathBuf>,
    pub(crate) own: Option<Vec<IpAddr>>,
    pub(crate) port: Option<u16>,
    pub(crate) refresh: Option<Duration>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) hold: Option<Duration>,
    pub(crate) log: Option<Log>,
    pub(crate) path: Option<ReceivePath>,
}

/// `FLEXCAST_LOG=LEVEL[,FILE]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// What is worth a line.
    pub level: LogLevel,
    /// Where to; standard error where none is given.
    pub file: Option<PathBuf>,
}

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// We stop.
    Error,
    /// Someone should look.
    Warn,
    /// What happens once in a while.
    Info,
    /// What happens often.
    Debug,
    /// Everything but packets.
    Trace,
}

/// `FLEXCAST_PATH`: where a receiving socket's trailers are taken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReceivePath {
    /// In the kernel, by socket filters.
    Kernel,
    /// In the hooked receive calls.
    User,
}

/// A variable, or an entry of the file, that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// `FLEXCAST_` something that nobody reads.
    #[error("{name} is no variable of Flexcast's{}", Meant(nearest))]
    UnknownVariable {
        /// As found.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A rule in `FLEXCAST_MAP` that is none.
    #[error("FLEXCAST_MAP: {0}")]
    Rule(RuleError),
    /// A value that is not what the setting takes.
    #[error("{name}={value:?}: expected {expected}{}", Meant(nearest))]
    Value {
        /// The variable, or the key of the file.
        name: String,
        /// As found.
        value: String,
        /// What it takes.
        expected: &'static str,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// An entry would run out between two refreshes.
    #[error(
        "hold {} is too short for refresh {}: expected more than 1.2 times as much, \
         so lower FLEXCAST_REFRESH or raise FLEXCAST_HOLD",
        Written(*hold), Written(*refresh)
    )]
    HoldTooShort {
        /// As given, or the default.
        hold: Duration,
        /// As given, or the default.
        refresh: Duration,
    },
    /// The file that `FLEXCAST_CONFIG` names.
    #[error("configuration, {0}")]
    Config(ConfigError),
}

impl Settings {
    /// Reads variables, of which those not called `FLEXCAST_…` are passed over.
    /// Where [`Settings::config`] then names a file, the caller reads it and
    /// calls [`Settings::with_config`].
    ///
    /// # Errors
    /// The first variable that is unknown or cannot be used.
    pub fn from_variables<N, V>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Settings, SettingsError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut settings = Settings::default();
        for (name, value) in variables {
            let (name, value) = (name.as_ref(), value.as_ref());
            if name.starts_with("FLEXCAST_") {
                settings.take_variable(name, value)?;
            }
        }
        // With a file to come, the other half may be in there.
        if settings.config.is_none() {
            settings.check()?;
        }
        Ok(settings)
    }

    /// Fills in from the text of the configuration file what no variable gave;
    /// its rules come after those of `FLEXCAST_MAP`.
    ///
    /// # Errors
    /// The first entry that is unknown or cannot be used, with its line.
    pub fn with_config(self, text: &str) -> Result<Settings, SettingsError> {
        self.with_config_resolving(text, &mut crate::parse::no_names)
    }

    /// As [`Settings::with_config`]; host names in rules are turned into
    /// addresses by `resolve`.
    ///
    /// # Errors
    /// The first entry that is unknown or cannot be used, with its line.
    pub fn with_config_resolving(
        mut self,
        text: &str,
        resolve: &mut crate::Resolve<'_>,
    ) -> Result<Settings, SettingsError> {
        let file = crate::config::read(text, resolve).map_err(SettingsError::Config)?;
        self.map.append(file.map);
        self.own = self.own.or(file.own);
        self.port = self.port.or(file.port);
        self.refresh = self.refresh.or(file.refresh);
        self.heartbeat = self.heartbeat.or(file.heartbeat);
        self.hold = self.hold.or(file.hold);
        self.log = self.log.or(file.log);
        self.path = self.path.or(file.path);
        self.check()?;
        Ok(self)
    }

    /// The rules of `earlier` before those that are here.
    #[must_use]
    pub fn after(mut self, mut earlier: Map) -> Settings {
        earlier.append(self.map);
        self.map = earlier;
        self
    }

    /// Everything that was given, as variables that read back as these settings
    /// (of a configuration file, what it said). A variable of ours that is not
    /// among them should be absent.
    #[must_use]
    pub fn to_variables(&self) -> Vec<(&'static str, String)> {
        let written = |d: Duration| Written(d).to_string();
        let own = self.own.as_ref().map(|own| {
            let own: Vec<String> = own.iter().map(ToString::to_string).collect();
            own.join("+")
        });
        [
            ("FLEXCAST_MAP", Some(self.map.to_string())),
            ("FLEXCAST_SELF", own),
            ("FLEXCAST_PORT", self.port.map(|port| port.to_string())),
            ("FLEXCAST_REFRESH", self.refresh.map(written)),
            ("FLEXCAST_HEARTBEAT", self.heartbeat.map(written)),
            ("FLEXCAST_HOLD", self.hold.map(written)),
            ("FLEXCAST_LOG", self.log.as_ref().map(ToString::to_string)),
            (
                "FLEXCAST_PATH",
                self.path.map(|path| path.name().to_owned()),
            ),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// The rules.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The file that `FLEXCAST_CONFIG` names.
    #[must_use]
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// `FLEXCAST_SELF`: addresses that count as this host's although no
    /// interface has them (public or service addresses).
    #[must_use]
    pub fn own_addresses(&self) -> &[IpAddr] {
        self.own.as_deref().unwrap_or_default()
    }

    /// FP: the port that requests go to, the same in a whole network.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(FLEXCAST_PORT)
    }

    /// Between refreshes of an entry: 100 ms to 60 s. Higher: fewer requests,
    /// but a route change is noticed later.
    #[must_use]
    pub fn refresh(&self) -> Duration {
        self.refresh.unwrap_or(Duration::from_secs(10))
    }

    /// Between statuses: 100 ms to 10 s. Higher: a dead parent is noticed
    /// later; lower: more control traffic.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat.unwrap_or(Duration::from_secs(1))
    }

    /// How long an entry lasts without a refresh: 1 s to 60 s. Higher: a
    /// crashed receiver's stream runs on longer; lower: lost refreshes cost
    /// the stream.
    #[must_use]
    pub fn hold(&self) -> Duration {
        self.hold.unwrap_or(Duration::from_secs(35))
    }

    /// What to log; nothing where none is given.
    #[must_use]
    pub fn log(&self) -> Option<&Log> {
        self.log.as_ref().filter(|log| log.level != LogLevel::Off)
    }

    /// The receive path forced; none: the kernel's where it works.
    #[must_use]
    pub fn path(&self) -> Option<ReceivePath> {
        self.path
    }

    fn take_variable(&mut self, name: &str, value: &str) -> Result<(), SettingsError> {
        match name.strip_prefix("FLEXCAST_").unwrap_or(name) {
            "MAP" => self.map = Map::parse(value).map_err(SettingsError::Rule)?,
            "CONFIG" if value.is_empty() => return Err(refused(name, value, "a file's path")),
            "CONFIG" => self.config = Some(value.into()),
            "SELF" => self.own = Some(read_own(name, value)?),
            "PORT" => self.port = Some(read_port(name, value)?),
            "REFRESH" => self.refresh = Some(read_refresh(name, value)?),
            "HEARTBEAT" => self.heartbeat = Some(read_heartbeat(name, value)?),
            "HOLD" => self.hold = Some(read_hold(name, value)?),
            "LOG" => self.log = Some(read_log(name, value)?),
            "PATH" => self.path = Some(read_path(name, value)?),
            _ if ELSEWHERE.contains(&name) => {}
            _ => {
                let known = VARIABLES.into_iter().chain(ELSEWHERE);
                return Err(SettingsError::UnknownVariable {
                    name: name.to_owned(),
                    nearest: nearest_variable(name, known),
                });
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), SettingsError> {
        let (hold, refresh) = (self.hold(), self.refresh());
        if hold * 5 <= refresh * 6 {
            return Err(SettingsError::HoldTooShort { hold, refresh });
        }
        Ok(())
    }
}

/// Measured without the prefix that all share, or any two would be near.
fn nearest_variable<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let bare = |n: &'k str| n.strip_prefix("FLEXCAST_").unwrap_or(n);
    let wrong = name.strip_prefix("FLEXCAST_").unwrap_or(name);
    nearest(wrong, known.map(bare)).map(|near| format!("FLEXCAST_{near}"))
}

pub(crate) fn read_own(name: &str, value: &str) -> Result<Vec<IpAddr>, SettingsError> {
    let expected = "addresses of this host, joined by + or commas";
    value
        .split(['+', ',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| {
            let inner = part.strip_prefix('[').and_then(|p| p.strip_suffix(']'));
            match inner.unwrap_or(part).parse::<IpAddr>().map(canonical) {
                Ok(a) if !a.is_unspecified() && !a.is_multicast() => Ok(a),
                _ => Err(refused(name, part, expected)),
            }
        })
        .collect()
}

pub(crate) fn read_port(name: &str, value: &str) -> Result<u16, SettingsError> {
    plain_number(value)
        .filter(|&port| port != 0)
        .ok_or_else(|| refused(name, value, "a UDP port, 1 to 65535"))
}

pub(crate) fn read_refresh(name: &str, value: &str) -> Result<Duration, SettingsError> {
    read_between(name, value, 100, 60_000, "100ms to 60s")
}

pub(crate) fn read_heartbeat(name: &str, value: &str) -> Result<Duration, SettingsError> {
    read_between(name, value, 100, 10_000, "100ms to 10s")
}

pub(crate) fn read_hold(name: &str, value: &str) -> Result<Duration, SettingsError> {
    read_between(name, value, 1000, 60_000, "1s to 60s")
}

pub(crate) fn read_log(name: &str, value: &str) -> Result<Log, SettingsError> {
    let (level, file) = match value.split_once(',') {
        Some((level, file)) => (level, Some(file)),
        None => (value, None),
    };
    if file == Some("") {
        return Err(refused(name, value, "a file's path after the comma"));
    }
    let found = LogLevel::ALL.into_iter().find(|l| l.name() == level);
    let level = found.ok_or_else(|| {
        let expected = "off, error, warn, info, debug or trace, then ,FILE if wanted";
        refused_near(name, level, expected, LogLevel::ALL.map(LogLevel::name))
    })?;
    let file = file.map(PathBuf::from);
    Ok(Log { level, file })
}

pub(crate) fn read_path(name: &str, value: &str) -> Result<ReceivePath, SettingsError> {
    match value {
        "kernel" => Ok(ReceivePath::Kernel),
        "user" => Ok(ReceivePath::User),
        _ => Err(refused_near(
            name,
            value,
            "kernel or user",
            ["kernel", "user"],
        )),
    }
}

fn read_between(
    name: &str,
    value: &str,
    least_ms: u64,
    most_ms: u64,
    expected: &'static str,
) -> Result<Duration, SettingsError> {
    let range = Duration::from_millis(least_ms)..=Duration::from_millis(most_ms);
    duration::read(value)
        .filter(|duration| range.contains(duration))
        .ok_or_else(|| refused(name, value, expected))
}

fn refused(name: &str, value: &str, expected: &'static str) -> SettingsError {
    refused_near(name, value, expected, [])
}

fn refused_near<'w>(
    name: &str,
    value: &str,
    expected: &'static str,
    words: impl IntoIterator<Item = &'w str>,
) -> SettingsError {
    SettingsError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        expected,
        nearest: nearest(value, words).map(str::to_owned),
    }
}

impl LogLevel {
    /// Every level, the most silent first.
    pub const ALL: [LogLevel; 6] = [
        LogLevel::Off,
        LogLevel::Error,
        LogLevel::Warn,
        LogLevel::Info,
        LogLevel::Debug,
        LogLevel::Trace,
    ];

    /// The level's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Off => "off",
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl ReceivePath {
    /// The path's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ReceivePath::Kernel => "kernel",
            ReceivePath::User => "user",
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.level.name())?;
        match &self.file {
            Some(file) => write!(f, ",{}", file.display()),
            None => Ok(()),
        }
    }
}

/// " (did you mean …?)", or nothing.
pub(crate) struct Meant<'a>(pub(crate) &'a Option<String>);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(nearest) => write!(f, " (did you mean {nearest}?)"),
            None => Ok(()),
        }
    }
}
