//! This host as a relay's: privilege, capture, routing, forwarding, links.
//!
//! Promises: capture is tried whole, in a network namespace of its own that ends with
//! the attempt; of this host's own network nothing is changed. Is not the watch of a
//! running relay (`flexcast status`), which alone sees a firewall drop requests.

use std::process::{Command, Stdio};

use flexcast_relay::capture::{holder_of_udp_port, look_around, rivals, Capture, Finding};
use flexcast_relay::{ask_status, Settings};
use flexcast_udp::process::{capabilities, interfaces, own_network, Interface};

use super::check::Check;
use super::host;
use crate::failure::Failure;

/// The first argument of the process that tries capture. No subcommand: people have no
/// use for it.
pub(crate) const TRY_CAPTURE: &str = "try-capture";
/// A datagram of 1316 bytes with trailer, UDP and IPv6 headers.
const GOOD_MTU: u32 = 1316 + 16 + 8 + 40;
/// A socket a channel, and some more.
const DESCRIPTORS: u64 = 4096;

/// All there is to say of a relay's host.
pub(super) fn look(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![privilege(), capture(), port(settings.fp)];
    checks.extend(surroundings(settings));
    checks.extend([policy_rules(settings), reverse_path(), descriptors()]);
    checks.extend(links());
    checks
}

fn privilege() -> Check {
    let own = capabilities();
    match own.net_admin && own.net_raw {
        true => Check::ok("capabilities", "CAP_NET_ADMIN and CAP_NET_RAW are there"),
        false => Check::fault(
            "capabilities",
            "CAP_NET_ADMIN or CAP_NET_RAW is missing",
            "run as root, or give the program both: setcap cap_net_admin,cap_net_raw+ep FILE \
             (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW)",
        ),
    }
}

/// nf_tables, its owner flag, tproxy and policy routing, by a real capture.
fn capture() -> Check {
    let own = std::env::current_exe().unwrap_or_default();
    let mut command = Command::new(own);
    command.arg(TRY_CAPTURE).stdin(Stdio::null());
    let tried = command.output();
    let said = tried.map(|output| {
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.code(), text)
    });
    match said {
        Ok((Some(0), text)) if text.is_empty() => Check::ok(
            "capture",
            "nf_tables with an owned table, tproxy and policy routing work (tried in a network of its own)",
        ),
        Ok((Some(0), text)) => Check::warning("capture", text, Finding::NoOwnerFlag.remedy()),
        Ok((Some(1), text)) => Check::fault("capture", text, "see the message"),
        Ok((_, text)) => Check::warning(
            "capture",
            format!("could not be tried: {text}"),
            "run the doctor as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
        ),
        Err(error) => Check::warning("capture", format!("could not be tried: {error}"), "run the doctor as root"),
    }
}

/// The attempt, in a process of its own: exit code 0 it works (words: not all of it), 1 it
/// does not, 2 it could not be tried.
pub(crate) fn try_capture() -> Result<(), Failure> {
    let code = match own_network() {
        Err(errno) => {
            print!("a network namespace of its own: {errno}");
            2
        }
        Ok(()) => match Capture::install(Settings::default().capture()) {
            Err(error) => {
                print!("{error}");
                1
            }
            Ok((capture, findings)) => {
                let owner = |finding: &&Finding| **finding == Finding::NoOwnerFlag;
                if let Some(finding) = findings.iter().find(owner) {
                    print!("{finding}");
                }
                let removed = capture.remove();
                if let Err(error) = &removed {
                    print!("{error}");
                }
                i32::from(removed.is_err())
            }
        },
    };
    std::process::exit(code)
}

fn port(port: u16) -> Check {
    if let Ok(report) = ask_status(port) {
        let state = match report.capturing {
            true => "capturing".to_owned(),
            false => format!("NOT capturing: {}", report.not_capturing),
        };
        let found = format!("a relay runs here: process {}, {state}", report.pid);
        return match report.capturing || report.draining {
            true => Check::ok("port", found),
            false => Check::fault(
                "port",
                found,
                "mend what the relay names; it looks again by itself",
            ),
        };
    }
    match host::udp_port_is_free(port) {
        true => Check::ok("port", format!("UDP port {port} is free")),
        false => Check::fault(
            "port",
            format!(
                "UDP port {port} is held by {}",
                holder_of_udp_port(port)
                    .as_deref()
                    .unwrap_or("a program of another user")
            ),
            "stop it (a sender under Flexcast on this host needs no relay here), or choose \
             another port for the whole network (--port)",
        ),
    }
}

fn surroundings(settings: &Settings) -> Vec<Check> {
    let ipv6 = std::path::Path::new("/proc/sys/net/ipv6").exists();
    let findings = look_around(settings.mask, ipv6).into_iter();
    // Named above.
    let findings = findings.filter(|f| !matches!(f, Finding::MissingCapability { .. }));
    let mut checks: Vec<Check> = findings.map(|finding| judged(&finding)).collect();
    let named = |name: &str| checks.iter().any(|check| check.name == name);
    let mut fine = Vec::new();
    if !named("ipv4-forwarding-off") && !named("ipv6-forwarding-off") {
        fine.push(Check::ok(
            "forwarding",
            "on, for every family that is there",
        ));
    }
    if !named("marked-reverse-path") {
        fine.push(Check::ok("src-valid-mark", "off on every interface"));
    }
    checks.extend(fine);
    checks
}

fn judged(finding: &Finding) -> Check {
    let (name, found, remedy) = (finding.name(), finding.to_string(), finding.remedy());
    match finding {
        Finding::Ipv4ForwardingOff | Finding::LoopbackDown | Finding::MissingCapability { .. } => {
            Check::fault(name, found, remedy)
        }
        _ => Check::warning(name, found, remedy),
    }
}

fn policy_rules(settings: &Settings) -> Check {
    let (mark, mask) = (settings.mark, settings.mask);
    match rivals(&settings.capture()) {
        Err(error) => Check::warning("policy-rules", error.to_string(), "see the message"),
        Ok(found) => match found.first() {
            Some(first) => Check::warning("policy-rules", first.to_string(), first.remedy()),
            None => Check::ok(
                "policy-rules",
                format!("no other rule looks at the bits of mark {mark:#x}/{mask:#x}"),
            ),
        },
    }
}

/// Strict reverse-path filters drop a stream that comes by another interface than the
/// route to its sender goes (Documentation/networking/ip-sysctl.rst, rp_filter).
fn reverse_path() -> Check {
    let value = |interface: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
        host::read(path)?.parse::<u8>().ok()
    };
    let all = value("all").unwrap_or(0);
    let names = interfaces().unwrap_or_default().into_iter().map(|i| i.name);
    // The larger of the two holds.
    let strict = |name: &String| value(name).unwrap_or(0).max(all) == 1 && name != "lo";
    let strict: Vec<String> = names.filter(strict).collect();
    match strict.is_empty() {
        true => Check::ok("rp-filter", "strict on no interface"),
        false => Check::warning(
            "rp-filter",
            format!(
                "strict on {}: streams of senders whose route goes by another interface are dropped",
                strict.join(", ")
            ),
            "none needed where routes are symmetric; otherwise sysctl -w net.ipv4.conf.INTERFACE.rp_filter=2 (and all)",
        ),
    }
}

fn descriptors() -> Check {
    // The relay raises its own soft limit to the hard one.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = limit.unwrap_or(u64::MAX);
    let found = format!("{limit} at most, one a channel");
    match limit >= DESCRIPTORS {
        true => Check::ok("descriptors", found),
        false => Check::warning(
            "descriptors",
            found,
            "raise the hard limit (LimitNOFILE=, ulimit -Hn)",
        ),
    }
}

fn links() -> Vec<Check> {
    let all = match interfaces() {
        Ok(all) => all,
        Err(errno) => return vec![Check::warning("links", errno.to_string(), "mount /proc")],
    };
    let up = all.into_iter().filter(|i| i.up && i.name != "lo");
    let checks: Vec<Check> = up.map(|interface| link(&interface)).collect();
    match checks.is_empty() {
        true => vec![Check::fault(
            "links",
            "no interface but loopback is up",
            "ip link set NAME up",
        )],
        false => checks,
    }
}

fn link(interface: &Interface) -> Check {
    let Interface {
        name,
        mtu,
        computes_checksums,
        ..
    } = interface;
    if *mtu < GOOD_MTU {
        return Check::warning(
            "links",
            format!("{name}: MTU {mtu}: datagrams of 1316 bytes are sent in fragments"),
            format!(
                "send datagrams of at most {} bytes, or raise the MTU",
                mtu.saturating_sub(64)
            ),
        );
    }
    match computes_checksums {
        Some(false) => Check::warning(
            "links",
            format!("{name}: MTU {mtu}; checksums are not offloaded, so that segmentation offload is refused"),
            format!("ethtool -K {name} tx on"),
        ),
        _ => Check::ok("links", format!("{name}: MTU {mtu}")),
    }
}
