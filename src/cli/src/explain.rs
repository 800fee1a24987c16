//! `flexcast map ADDRESS:PORT`: which rule takes an address, and what becomes
//! of it on this host.
//!
//! Promises: the answer of the same look-ups that the preload library makes.

use std::io::Write;
use std::net::SocketAddr;

use flexcast_rules::{collisions, Explanation};

use crate::failure::Failure;
use crate::map_options::{is_local, MapOptions};

/// Say which rule takes an address, and what becomes of it on this host.
///
/// Rules come from --map, FLEXCAST_MAP and the configuration file, as for run.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  flexcast map --map 239.1.0.0/16=10.0.0.5 239.1.1.4:5000
  flexcast map --config /etc/flexcast.toml --json '[ff3e::8000:1]:5000'")]
pub(crate) struct Explain {
    #[command(flatten)]
    map: MapOptions,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// The address, as a program would use it; IPv6 in brackets
    #[arg(value_name = "ADDRESS:PORT", required = true)]
    addresses: Vec<SocketAddr>,
}

impl Explain {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        let settings = self.map.settings(&[])?;
        for collision in collisions(settings.map()) {
            eprintln!("flexcast: {collision}");
        }
        let local = |address| is_local(address, &settings);
        let explained = self.addresses.iter();
        let explained = explained.map(|&address| settings.map().explain(address, &[], &local));
        let text = if self.json {
            let list: Vec<serde_json::Value> = explained.map(|e| as_json(&e)).collect();
            format!("{:#}\n", serde_json::Value::Array(list))
        } else {
            explained.map(|e| format!("{e}\n")).collect()
        };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}

/// Ids are strings: they exceed what a JSON reader keeps exactly.
fn as_json(explanation: &Explanation) -> serde_json::Value {
    let channels = explanation.channels.iter().map(ToString::to_string);
    serde_json::json!({
        "address": explanation.address.to_string(),
        "rule_number": explanation.rule_number,
        "rule": explanation.rule,
        "id": explanation.id.map(|id| id.to_string()),
        "sends_here": explanation.sends_here,
        "requests": channels.collect::<Vec<String>>(),
        "words": explanation.words,
    })
}
