//! The options that say what is carried: `--map`, `--config`, `--self`, `--port`.
//!
//! Promises: an option wins over its variable, a variable over the file; host
//! names in rules become addresses here, since the library inside a program
//! resolves none.

use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

use flexcast_rules::{Family, Fault, Map, Settings, SettingsError};

use crate::failure::Failure;

/// What is carried, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct MapOptions {
    /// A rule (or several, separated by spaces); repeatable, first match wins
    ///
    /// RANGE[:PORTS][=SENDERS][#ID][,OPTION…], for example
    /// 239.1.0.0/16=10.0.0.5 (this host is the sender of these groups where
    /// 10.0.0.5 is its address, a receiver elsewhere), 239.1.1.4:5000=self,
    /// 10.0.0.5:5000, [ff3e::8000:0]/96=[2001:db8::5]. Options: via=HOST,
    /// empty=drop|error|wait[:N[:SECONDS]],
    /// role=push|join|call|listen|hello|wait|off, port=keep, strict.
    /// Hosts may be names.
    #[arg(long = "map", short = 'm', value_name = "RULE")]
    rules: Vec<String>,

    /// A file with rules and settings (TOML); wins over FLEXCAST_CONFIG
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// An address that is this host's although no interface has it (a public
    /// or service address); repeatable
    #[arg(long = "self", value_name = "ADDRESS")]
    own: Vec<IpAddr>,

    /// The port that requests go to, the same in a whole network [default: 7450]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// How a receiver asks.
#[derive(Debug, clap::Args)]
pub(crate) struct Timers {
    /// How often a receiver repeats its request, such as 10s [default: 10s]
    #[arg(long, value_name = "TIME")]
    refresh: Option<String>,

    /// How often nodes say that they live, 100ms to 10s [default: 1s]
    #[arg(long, value_name = "TIME")]
    heartbeat: Option<String>,

    /// How long an entry lives without a request, up to 60s [default: 35s]
    #[arg(long, value_name = "TIME")]
    hold: Option<String>,
}

impl Timers {
    /// The variables that they stand for, which say what is wrong with a value.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        [
            ("FLEXCAST_REFRESH", &self.refresh),
            ("FLEXCAST_HEARTBEAT", &self.heartbeat),
            ("FLEXCAST_HOLD", &self.hold),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
    }
}

impl MapOptions {
    /// The settings that options, environment and file give together.
    ///
    /// `extra` are variables that further options stand for.
    pub(crate) fn settings(&self, extra: &[(&str, String)]) -> Result<Settings, Failure> {
        let mut map = Map::default();
        for text in &self.rules {
            let rules = Map::parse_resolving(text, &mut resolve).map_err(|error| {
                let text = text.clone();
                Failure::Rule { text, error }
            })?;
            map.append(rules);
        }
        let mut variables = Vec::new();
        for (name, value) in std::env::vars_os() {
            // What is not UTF-8 is replaced, and refused where it matters.
            let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
            if name == "FLEXCAST_MAP" {
                let given = Map::parse_resolving(&value, &mut resolve);
                map.append(given.map_err(Failure::MapVariable)?);
            } else if name.starts_with("FLEXCAST_") {
                variables.push((name.into_owned(), value.into_owned()));
            }
        }
        // Later ones replace earlier ones.
        variables.extend(self.as_variables());
        variables.extend(extra.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
        let settings = Settings::from_variables(variables);
        let settings = settings
            .map_err(|error| as_option(error, extra))?
            .after(map);
        match settings.config().map(PathBuf::from) {
            Some(path) => {
                let text = std::fs::read_to_string(&path);
                let text = text.map_err(|error| Failure::Read { path, error })?;
                Ok(settings.with_config_resolving(&text, &mut resolve)?)
            }
            None => Ok(settings),
        }
    }

    fn as_variables(&self) -> impl Iterator<Item = (String, String)> {
        let own: Vec<String> = self.own.iter().map(ToString::to_string).collect();
        let config = self.config.as_ref().map(|c| c.display().to_string());
        [
            ("FLEXCAST_CONFIG", config),
            ("FLEXCAST_SELF", (!own.is_empty()).then(|| own.join("+"))),
            ("FLEXCAST_PORT", self.port.map(|port| port.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    }
}

/// Names the option where a value came from one.
fn as_option(error: SettingsError, extra: &[(&str, String)]) -> SettingsError {
    match error {
        SettingsError::Value {
            name,
            value,
            expected,
            nearest,
        } if extra.iter().any(|(n, v)| *n == name && *v == value) => SettingsError::Value {
            name: name.replace("FLEXCAST_", "--").to_lowercase(),
            value,
            expected,
            nearest,
        },
        other => other,
    }
}

/// Whether `address` is this host's: one that a socket can be bound to, or one
/// of `FLEXCAST_SELF`.
pub(crate) fn is_local(address: IpAddr, settings: &Settings) -> bool {
    settings.own_addresses().contains(&address) || UdpSocket::bind((address, 0)).is_ok()
}

/// The first address of a host name, of the family that is needed.
fn resolve(name: &str, family: Option<Family>) -> Result<IpAddr, Fault> {
    let found = (name, 0).to_socket_addrs();
    let found = found.map_err(|error| Fault::Unresolved(error.to_string()))?;
    let mut addresses = found.map(|address| address.ip());
    let fits = |a: &IpAddr| family.is_none_or(|family| Family::of(*a) == family);
    addresses.find(fits).ok_or_else(|| {
        let family = family.map_or(String::new(), |family| format!("{family} "));
        Fault::Unresolved(format!("it has no {family}address"))
    })
}
