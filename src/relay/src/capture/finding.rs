//! What stands in the way of a relay on this host, each with its remedy.
//!
//! Reads `/proc`, binds one socket on loopback, and changes nothing. For the log of a starting relay,
//! and for a check-up by hand.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

const NET_ADMIN: (u32, &str) = (12, "CAP_NET_ADMIN");
const NET_RAW: (u32, &str) = (13, "CAP_NET_RAW");
/// Bits of the packet mark that Kubernetes gives a meaning.
const KUBERNETES_BITS: u32 = 0xC000;

/// One thing that will not work as it should.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Finding {
    /// Only IPv4 is captured.
    Ipv6Off {
        /// What the kernel said.
        reason: String,
    },
    /// IPv4 packets are not forwarded: no request ever comes this way.
    Ipv4ForwardingOff,
    /// IPv6 packets are not forwarded.
    Ipv6ForwardingOff,
    /// The reverse-path check uses the mark: captured ICMP errors vanish.
    MarkedReversePath {
        /// The interface, or `all`.
        interface: String,
    },
    /// The loopback device is down.
    LoopbackDown,
    /// A capability is not there.
    MissingCapability {
        /// Its name.
        name: &'static str,
    },
    /// The table stays after a crash (before Linux 5.12).
    NoOwnerFlag,
    /// The mark has bits that Kubernetes uses.
    KubernetesMark {
        /// The mask that is set.
        mask: u32,
    },
    /// A policy routing rule of another program matches bits of our mark.
    SharedMark {
        /// The rule, as `ip rule` writes it.
        rule: String,
    },
    /// A table that an earlier relay left behind was replaced.
    ReplacedTable {
        /// Its name.
        table: String,
    },
}

impl Finding {
    /// The name by which programs know it.
    pub fn name(&self) -> &'static str {
        match self {
            Finding::Ipv6Off { .. } => "ipv6-off",
            Finding::Ipv4ForwardingOff => "ipv4-forwarding-off",
            Finding::Ipv6ForwardingOff => "ipv6-forwarding-off",
            Finding::MarkedReversePath { .. } => "marked-reverse-path",
            Finding::LoopbackDown => "loopback-down",
            Finding::MissingCapability { .. } => "missing-capability",
            Finding::NoOwnerFlag => "no-owner-flag",
            Finding::KubernetesMark { .. } => "kubernetes-mark",
            Finding::SharedMark { .. } => "shared-mark",
            Finding::ReplacedTable { .. } => "replaced-table",
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Finding::Ipv6Off { .. } => "sysctl net.ipv6.conf.lo.disable_ipv6=0, if IPv6 is wanted".into(),
            Finding::Ipv4ForwardingOff => "sysctl net.ipv4.ip_forward=1, unless only `via` is used".into(),
            Finding::Ipv6ForwardingOff => {
                "sysctl net.ipv6.conf.all.forwarding=1, unless only `via` is used".into()
            }
            Finding::MarkedReversePath { interface } => {
                format!("sysctl net.ipv4.conf.{interface}.src_valid_mark=0")
            }
            Finding::LoopbackDown => "ip link set lo up".into(),
            Finding::MissingCapability { name } => {
                format!("run as root, or give the program {} (setcap, AmbientCapabilities=)", name.to_lowercase())
            }
            Finding::NoOwnerFlag => {
                "none needed: a killed relay stops capturing after 2 s; Linux 5.12 also removes the table".into()
            }
            Finding::KubernetesMark { .. } => "choose a mark and mask outside of 0xc000".into(),
            Finding::SharedMark { .. } => {
                "give the relay bits of its own (--mark, --mask), the same in its rules and in nothing else".into()
            }
            Finding::ReplacedTable { .. } => "none needed: nothing had renewed it".into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Ipv6Off { reason } => write!(f, "only IPv4 is captured ({reason})"),
            Finding::Ipv4ForwardingOff => f.write_str("this host does not forward IPv4 packets"),
            Finding::Ipv6ForwardingOff => f.write_str("this host does not forward IPv6 packets"),
            Finding::MarkedReversePath { interface } => write!(
                f,
                "src_valid_mark is set on {interface}: captured IPv4 ICMP errors vanish, so neither path \
                 MTU nor dead receivers are learnt"
            ),
            Finding::LoopbackDown => f.write_str("the loopback device is down; captured packets go there"),
            Finding::MissingCapability { name } => write!(f, "{name} is missing"),
            Finding::NoOwnerFlag => f.write_str("the kernel cannot remove the table with the process (before 5.12)"),
            Finding::KubernetesMark { mask } => {
                write!(f, "mark mask {mask:#x} covers bits that Kubernetes uses (0x4000, 0x8000)")
            }
            Finding::SharedMark { rule } => write!(
                f,
                "the policy routing rule `{rule}` of another program looks at bits of the relay's mark"
            ),
            Finding::ReplacedTable { table } => {
                write!(f, "the table inet {table} of an earlier relay was still there and was replaced")
            }
        }
    }
}

/// Looks around in the network namespace of the calling thread. `ipv6`: whether
/// IPv6 matters.
pub fn look_around(mask: u32, ipv6: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let capabilities = effective_capabilities();
    for (bit, name) in [NET_ADMIN, NET_RAW] {
        if capabilities.is_some_and(|set| set >> bit & 1 == 0) {
            findings.push(Finding::MissingCapability { name });
        }
    }
    let sys = Path::new("/proc/sys/net");
    if is(&sys.join("ipv4/ip_forward"), "0") {
        findings.push(Finding::Ipv4ForwardingOff);
    }
    if ipv6 && is(&sys.join("ipv6/conf/all/forwarding"), "0") {
        findings.push(Finding::Ipv6ForwardingOff);
    }
    findings.extend(marked_reverse_path(&sys.join("ipv4/conf")));
    if !loopback_is_up() {
        findings.push(Finding::LoopbackDown);
    }
    if mask & KUBERNETES_BITS != 0 {
        findings.push(Finding::KubernetesMark { mask });
    }
    findings
}

fn is(path: &Path, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

fn effective_capabilities() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// `all` alone when it is set there, since it holds for every interface then.
fn marked_reverse_path(conf: &Path) -> Vec<Finding> {
    let set = |interface: &str| is(&conf.join(interface).join("src_valid_mark"), "1");
    if set("all") {
        return vec![Finding::MarkedReversePath {
            interface: "all".into(),
        }];
    }
    let entries = fs::read_dir(conf).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut interfaces: Vec<_> = names
        .filter(|name| name != "default" && set(name))
        .collect();
    interfaces.sort();
    interfaces
        .into_iter()
        .map(|interface| Finding::MarkedReversePath { interface })
        .collect()
}

/// 127.0.0.1 is an address of this host only while the loopback device is up.
pub(super) fn loopback_is_up() -> bool {
    match UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
    }
}
