//! The configuration file (TOML), with the same settings as the variables:
//!
//! ```toml
//! map = ["239.1.0.0/16=10.0.0.5", "10.0.0.5:5000"]
//! self = ["198.51.100.7"]
//! port = 7450
//! refresh = "10s"
//! heartbeat = "1s"
//! hold = "35s"
//! log = "warn,/var/log/flexcast.log"
//! path = "kernel"
//! ```
//!
//! Promises: unknown keys are refused with the nearest known one, every fault
//! with its line. Opens no file.

use toml::de::{DeTable, DeValue};
use toml::Spanned;

use crate::fault::RuleError;
use crate::map::Map;
use crate::nearest::nearest;
use crate::parse::Resolve;
use crate::settings::{
    read_heartbeat, read_hold, read_log, read_own, read_path, read_port, read_refresh, Meant,
    Settings, SettingsError,
};

const KEYS: [&str; 8] = [
    "map",
    "self",
    "port",
    "refresh",
    "heartbeat",
    "hold",
    "log",
    "path",
];

/// What is wrong in the file, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct ConfigError {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: ConfigFault,
}

/// What is wrong with an entry of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigFault {
    /// No TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// A key that nobody reads.
    #[error(
        "{key:?} is no setting: expected map, self, port, refresh, heartbeat, hold, log \
         or path{}",
        Meant(nearest)
    )]
    UnknownKey {
        /// As found.
        key: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A value of another type than the setting takes.
    #[error("{key} is a {found}: expected {expected}")]
    Type {
        /// The setting.
        key: String,
        /// TOML's word for what was found.
        found: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A rule that is none.
    #[error("in map, rule {number}: {error}")]
    Rule {
        /// Its place in the list, from 1.
        number: usize,
        /// Its fault; the position counts from the start of that rule.
        error: RuleError,
    },
    /// A value out of range.
    #[error("{0}")]
    Value(Box<SettingsError>),
}

/// The settings in `text`; what it does not set stays unset.
pub(crate) fn read(text: &str, resolve: &mut Resolve<'_>) -> Result<Settings, ConfigError> {
    let line_of = |at: usize| 1 + text.bytes().take(at).filter(|&b| b == b'\n').count();
    let table = DeTable::parse(text).map_err(|error| ConfigError {
        line: line_of(error.span().map_or(0, |span| span.start)),
        fault: ConfigFault::Syntax(error.message().to_owned()),
    })?;
    let mut settings = Settings::default();
    for (key, value) in table.get_ref() {
        let name = key.get_ref().as_ref();
        if !KEYS.contains(&name) {
            return Err(ConfigError {
                line: line_of(key.span().start),
                fault: ConfigFault::UnknownKey {
                    key: name.to_owned(),
                    nearest: nearest(name, KEYS).map(str::to_owned),
                },
            });
        }
        take(&mut settings, name, value, resolve).map_err(|(at, fault)| ConfigError {
            line: line_of(at),
            fault,
        })?;
    }
    Ok(settings)
}

type At<T> = Result<T, (usize, ConfigFault)>;

fn take(
    settings: &mut Settings,
    key: &str,
    value: &Spanned<DeValue<'_>>,
    resolve: &mut Resolve<'_>,
) -> At<()> {
    let at = value.span().start;
    let refuse = |error| (at, ConfigFault::Value(Box::new(error)));
    match key {
        "map" => settings.map = read_map(key, value, resolve)?,
        "self" => {
            let mut own = Vec::new();
            for (text, at) in strings(key, value)? {
                let read = read_own(key, text);
                own.extend(read.map_err(|e| (at, ConfigFault::Value(Box::new(e))))?);
            }
            settings.own = Some(own);
        }
        "port" => settings.port = Some(read_port(key, &scalar(key, value)?).map_err(refuse)?),
        "refresh" => {
            settings.refresh = Some(read_refresh(key, &scalar(key, value)?).map_err(refuse)?);
        }
        "heartbeat" => {
            settings.heartbeat = Some(read_heartbeat(key, &scalar(key, value)?).map_err(refuse)?);
        }
        "hold" => settings.hold = Some(read_hold(key, &scalar(key, value)?).map_err(refuse)?),
        "log" => settings.log = Some(read_log(key, &scalar(key, value)?).map_err(refuse)?),
        _ => settings.path = Some(read_path(key, &scalar(key, value)?).map_err(refuse)?),
    }
    Ok(())
}

fn read_map(key: &str, value: &Spanned<DeValue<'_>>, resolve: &mut Resolve<'_>) -> At<Map> {
    let mut map = Map::default();
    for (n, (text, at)) in strings(key, value)?.into_iter().enumerate() {
        let rules = Map::parse_resolving(text, resolve).map_err(|error| {
            let number = n + 1;
            (at, ConfigFault::Rule { number, error })
        })?;
        map.append(rules);
    }
    Ok(map)
}

/// The strings of a list, each with its position in the file.
fn strings<'v>(key: &str, value: &'v Spanned<DeValue<'_>>) -> At<Vec<(&'v str, usize)>> {
    let wrong = |value: &Spanned<DeValue<'_>>| {
        let fault = ConfigFault::Type {
            key: key.to_owned(),
            found: value.get_ref().type_str(),
            expected: "a list of strings",
        };
        (value.span().start, fault)
    };
    let list = value.get_ref().as_array().ok_or_else(|| wrong(value))?;
    list.iter()
        .map(|item| {
            let text = item.get_ref().as_str().ok_or_else(|| wrong(item))?;
            Ok((text, item.span().start))
        })
        .collect()
}

/// A string, or a number as it is written.
fn scalar(key: &str, value: &Spanned<DeValue<'_>>) -> At<String> {
    match value.get_ref() {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        other => Err((
            value.span().start,
            ConfigFault::Type {
                key: key.to_owned(),
                found: other.type_str(),
                expected: "a string or a decimal number",
            },
        )),
    }
}
