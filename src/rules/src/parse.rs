//! Text to rules.
//!
//! Promises: any text gives rules or one error, never a panic; positions are
//! bytes from the start of the whole text. Is not a resolver of names: it asks
//! the one it is given.

use std::net::IpAddr;
use std::time::Duration;

use flexcast_wire::{canonical, ChannelId};

use crate::duration;
use crate::fault::{Fault, RuleError};
use crate::nearest::nearest;
use crate::range::{Bracketed, Family, Ports, Range};
use crate::rule::{EmptyPolicy, Role, Rule, Senders};

/// Turns a host name into an address of the family (any, where none is given),
/// or says why it cannot.
pub type Resolve<'r> = dyn FnMut(&str, Option<Family>) -> Result<IpAddr, Fault> + 'r;

const OPTIONS: [&str; 5] = ["via", "empty", "role", "port", "strict"];
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// The resolver of the bare library: it refuses, and says who resolves.
pub(crate) fn no_names(_: &str, _: Option<Family>) -> Result<IpAddr, Fault> {
    Err(Fault::HostName)
}

/// All rules of `text`, separated by white space.
pub(crate) fn rules(text: &str, resolve: &mut Resolve<'_>) -> Result<Vec<Rule>, RuleError> {
    text.split_whitespace()
        .map(|word| {
            // `word` is a part of `text`, so the difference is its position.
            let at = word.as_ptr() as usize - text.as_ptr() as usize;
            rule(Piece { text: word, at }, resolve)
        })
        .collect()
}

/// A part of the text that knows where it stands.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Piece<'t> {
    fn split(self, separator: char) -> (Piece<'t>, Option<Piece<'t>>) {
        match self.text.find(separator) {
            Some(i) => (self.upto(i), Some(self.from(i + separator.len_utf8()))),
            None => (self, None),
        }
    }

    fn upto(self, end: usize) -> Piece<'t> {
        Piece {
            text: &self.text[..end],
            at: self.at,
        }
    }

    fn from(self, start: usize) -> Piece<'t> {
        Piece {
            text: &self.text[start..],
            at: self.at + start,
        }
    }

    fn parts(self, separator: char) -> impl Iterator<Item = Piece<'t>> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let (part, after) = rest?.split(separator);
            rest = after;
            Some(part)
        })
    }

    fn wrong(self, fault: Fault) -> RuleError {
        self.wrong_near(fault, None)
    }

    fn wrong_near(self, fault: Fault, nearest: Option<String>) -> RuleError {
        RuleError {
            position: self.at,
            value: self.text.to_owned(),
            fault,
            nearest,
        }
    }

    fn wrong_among<'w>(self, fault: Fault, words: impl IntoIterator<Item = &'w str>) -> RuleError {
        let near = nearest(self.text, words).map(str::to_owned);
        self.wrong_near(fault, near)
    }
}

fn rule(word: Piece<'_>, resolve: &mut Resolve<'_>) -> Result<Rule, RuleError> {
    let (head, options) = word.split(',');
    let (head, id) = head.split('#');
    let (range, senders) = head.split('=');
    let (range, ports) = range_and_ports(range, resolve)?;
    let mut rule = Rule {
        range,
        ports: ports.map(read_ports).transpose()?,
        senders: match senders {
            Some(piece) => read_senders(piece, range.family(), resolve)?,
            None => Senders::Unnamed,
        },
        id: id.map(read_id).transpose()?,
        via: Vec::new(),
        empty: EmptyPolicy::Drop,
        role: None,
        keeps_port: false,
        strict: false,
    };
    let mut seen = Vec::new();
    for option in options.into_iter().flat_map(|o| o.parts(',')) {
        read_option(option, &mut rule, &mut seen, resolve)?;
    }
    Ok(rule)
}

/// RANGE, and the text of PORTS.
fn range_and_ports<'t>(
    piece: Piece<'t>,
    resolve: &mut Resolve<'_>,
) -> Result<(Range, Option<Piece<'t>>), RuleError> {
    let (address, after) = if piece.text.starts_with('[') {
        let close = piece
            .text
            .find(']')
            .ok_or(piece.wrong(Fault::BracketOpen))?;
        let inner = piece.upto(close).from(1);
        let address = inner.text.parse::<std::net::Ipv6Addr>();
        let address = address.map_err(|_| inner.wrong(Fault::Address))?;
        (IpAddr::V6(address), piece.from(close + 1))
    } else {
        bare_address(piece, resolve)?
    };
    let (prefix, ports) = after.split(':');
    let written = piece.upto(prefix.at + prefix.text.len() - piece.at);
    let range = match prefix.text.strip_prefix('/') {
        Some(_) => read_prefix(address, prefix.from(1))?,
        None if prefix.text.is_empty() => Range::of_address(address),
        None => return Err(prefix.wrong(Fault::Excess)),
    };
    if range.is_address() && range.network().is_unspecified() {
        return Err(written.wrong(Fault::Unspecified));
    }
    if range.covers_nothing() {
        return Err(written.wrong(Fault::CoversNothing));
    }
    Ok((range, ports))
}

/// An IPv4 address or a host name up to `/` or `:`, and the rest.
fn bare_address<'t>(
    piece: Piece<'t>,
    resolve: &mut Resolve<'_>,
) -> Result<(IpAddr, Piece<'t>), RuleError> {
    let end = piece.text.find(['/', ':']).unwrap_or(piece.text.len());
    let (address, after) = (piece.upto(end), piece.from(end));
    if let Ok(v4) = address.text.parse::<std::net::Ipv4Addr>() {
        return Ok((IpAddr::V4(v4), after));
    }
    let (whole, length) = piece.split('/');
    if let Ok(v6) = whole.text.parse::<std::net::Ipv6Addr>() {
        let length = length.map_or(String::new(), |l| format!("/{}", l.text));
        let near = format!("{}{length}", Bracketed(v6.into()));
        return Err(piece.wrong_near(Fault::Brackets, Some(near)));
    }
    named(address, None, resolve, &[]).map(|address| (address, after))
}

fn read_prefix(address: IpAddr, length: Piece<'_>) -> Result<Range, RuleError> {
    let bits = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let wrong = || length.wrong(Fault::PrefixLength(bits));
    let mut written = plain_number::<u8>(length.text).ok_or_else(wrong)?;
    if canonical(address) != address {
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
        written = written.checked_sub(96).ok_or_else(wrong)?;
    }
    Range::of_prefix(address, written).ok_or_else(wrong)
}

fn read_ports(piece: Piece<'_>) -> Result<Ports, RuleError> {
    let (first, last) = piece.split('-');
    let port = |piece: Piece<'_>| match plain_number::<u16>(piece.text) {
        Some(port) if port != 0 => Ok(port),
        _ => Err(piece.wrong(Fault::Port)),
    };
    let first = port(first)?;
    let last = last.map_or(Ok(first), port)?;
    Ports::new(first, last)
        .ok_or_else(|| piece.wrong_near(Fault::PortOrder, Some(format!("{last}-{first}"))))
}

fn read_senders(
    piece: Piece<'_>,
    family: Family,
    resolve: &mut Resolve<'_>,
) -> Result<Senders, RuleError> {
    if piece.text == "self" {
        return Ok(Senders::Own);
    }
    if let Some(own) = piece.parts('+').find(|p| p.text == "self") {
        return Err(own.wrong(Fault::SelfAmongOthers));
    }
    read_hosts(piece, family, resolve, &["self"]).map(Senders::Hosts)
}

/// Hosts joined by `+`; `words` are what else could have been meant.
fn read_hosts(
    piece: Piece<'_>,
    family: Family,
    resolve: &mut Resolve<'_>,
    words: &[&str],
) -> Result<Vec<IpAddr>, RuleError> {
    let mut hosts = Vec::new();
    for part in piece.parts('+') {
        let host = read_host(part, family, resolve, words)?;
        if hosts.contains(&host) {
            return Err(part.wrong(Fault::HostTwice));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

fn read_host(
    piece: Piece<'_>,
    family: Family,
    resolve: &mut Resolve<'_>,
    words: &[&str],
) -> Result<IpAddr, RuleError> {
    let inner = piece
        .text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'));
    let host = match (inner, piece.text.parse::<IpAddr>()) {
        (_, Ok(address)) => address,
        (Some(inner), _) => match inner.parse::<std::net::Ipv6Addr>() {
            Ok(address) => IpAddr::V6(address),
            Err(_) => return Err(piece.wrong(Fault::Address)),
        },
        (None, Err(_)) => named(piece, Some(family), resolve, words)?,
    };
    let host = canonical(host);
    let broadcast = matches!(host, IpAddr::V4(a) if a.is_broadcast());
    if host.is_unspecified() || host.is_multicast() || broadcast {
        return Err(piece.wrong(Fault::Host));
    }
    if Family::of(host) != family {
        return Err(piece.wrong(Fault::HostFamily(family)));
    }
    Ok(host)
}

/// The address of a host name.
fn named(
    piece: Piece<'_>,
    family: Option<Family>,
    resolve: &mut Resolve<'_>,
    words: &[&str],
) -> Result<IpAddr, RuleError> {
    if !is_host_name(piece.text) {
        return Err(piece.wrong_among(Fault::Address, words.iter().copied()));
    }
    resolve(piece.text, family).map_err(|fault| piece.wrong_among(fault, words.iter().copied()))
}

/// Letters, digits, `-`, `_`, `.`, and a letter somewhere (RFC 1123 section
/// 2.1, with the underscore that networks use anyway).
fn is_host_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= 253
        && text.bytes().all(plain)
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && !text.starts_with(['-', '.'])
}

fn read_id(piece: Piece<'_>) -> Result<ChannelId, RuleError> {
    plain_number::<u64>(piece.text)
        .and_then(ChannelId::new)
        .ok_or_else(|| piece.wrong(Fault::Id))
}

fn read_option<'t>(
    piece: Piece<'t>,
    rule: &mut Rule,
    seen: &mut Vec<&'t str>,
    resolve: &mut Resolve<'_>,
) -> Result<(), RuleError> {
    let (name, value) = piece.split('=');
    if !OPTIONS.contains(&name.text) {
        return Err(name.wrong_among(Fault::Option, OPTIONS));
    }
    if seen.contains(&name.text) {
        return Err(name.wrong(Fault::OptionTwice));
    }
    seen.push(name.text);
    let need = |what| {
        let filled = value.filter(|v| !v.text.is_empty());
        filled.ok_or_else(|| piece.wrong(Fault::OptionValueMissing(what)))
    };
    match name.text {
        "via" => {
            let hosts = need("via=HOST{+HOST}")?;
            rule.via = read_hosts(hosts, rule.range.family(), resolve, &[])?;
        }
        "empty" => rule.empty = read_empty(need("empty=drop|error|wait[:N[:SECONDS]]")?)?,
        "role" => {
            rule.role = Some(read_role(
                need("role=push|join|call|listen|hello|wait|off")?,
                rule.range,
            )?);
        }
        "port" => match need("port=keep")? {
            keep if keep.text == "keep" => rule.keeps_port = true,
            other => return Err(other.wrong_among(Fault::PortOption, ["keep"])),
        },
        _ if value.is_some() => return Err(piece.wrong(Fault::OptionValueExcess)),
        _ => rule.strict = true,
    }
    Ok(())
}

fn read_empty(piece: Piece<'_>) -> Result<EmptyPolicy, RuleError> {
    let (word, numbers) = piece.split(':');
    match (word.text, numbers) {
        ("drop", None) => Ok(EmptyPolicy::Drop),
        ("error", None) => Ok(EmptyPolicy::Error),
        ("wait", None) => Ok(EmptyPolicy::WAIT),
        ("wait", Some(numbers)) => {
            let (count, seconds) = numbers.split(':');
            let receivers = plain_number::<u32>(count.text).filter(|&n| n > 0);
            let receivers = receivers.ok_or_else(|| count.wrong(Fault::Receivers))?;
            let limit = seconds.map_or(Ok(Duration::from_secs(10)), |piece| {
                duration::read(piece.text)
                    .filter(|&limit| limit <= LONGEST_WAIT)
                    .ok_or_else(|| piece.wrong(Fault::Seconds))
            })?;
            Ok(EmptyPolicy::Wait { receivers, limit })
        }
        ("drop" | "error", Some(_)) => Err(piece.wrong(Fault::Empty)),
        _ => Err(word.wrong_among(Fault::Empty, ["drop", "error", "wait"])),
    }
}

fn read_role(piece: Piece<'_>, range: Range) -> Result<Role, RuleError> {
    let role = Role::ALL.into_iter().find(|r| r.name() == piece.text);
    let names = Role::ALL.map(Role::name);
    let role = role.ok_or_else(|| piece.wrong_among(Fault::Role, names))?;
    if role.fits(&range) {
        Ok(role)
    } else {
        Err(piece.wrong(Fault::RoleNeverFits(range)))
    }
}

/// Digits alone: `+5`, which Rust would read, joins hosts here.
pub(crate) fn plain_number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
