//! The rules as they are understood on this host, for `run --check` and `--dry-run`.
//!
//! Promises: each rule as it would be written, and what it makes of its first address by
//! the very look-ups that the library makes. Is not the grammar (`flexcast_rules`).

use std::fmt::Write;
use std::net::SocketAddr;

use flexcast_rules::{collisions, Rule, Settings};

use crate::map_options::is_local;

/// The port of an example, where a rule takes all.
const EXAMPLE: u16 = 5000;

/// Lines about every rule, and about two that mean one channel.
pub(crate) fn rules(settings: &Settings) -> String {
    let mut text = String::new();
    for (n, rule) in settings.map().rules().iter().enumerate() {
        let _ = writeln!(text, "rule {}: {rule}", n + 1);
        text.push_str(&example(settings, n, rule));
    }
    for collision in collisions(settings.map()) {
        let _ = writeln!(text, "warning: {collision}");
    }
    text
}

fn example(settings: &Settings, index: usize, rule: &Rule) -> String {
    let port = match rule.writes_ports() {
        true => rule.ports().first(),
        false => EXAMPLE,
    };
    let address = SocketAddr::new(rule.range().network(), port);
    let map = settings.map();
    match map.match_of(address) {
        Some(found) if found.index == index => {
            let local = |address| is_local(address, settings);
            let words = map.explain(address, &[], &local).words;
            let lines = words.iter().map(|line| format!("    {line}\n"));
            format!("  {address}, for example\n{}", lines.collect::<String>())
        }
        Some(found) => format!(
            "  {address} is taken by rule {} before it\n",
            found.index + 1
        ),
        None => format!("  {address} is not taken: link-local groups need a rule of their own\n"),
    }
}

/// What is not by default, as the program's variables say it.
pub(crate) fn settings(settings: &Settings) -> String {
    let variables = settings.to_variables().into_iter();
    let others = variables.filter(|(name, _)| *name != "FLEXCAST_MAP");
    others
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect()
}
