//! Why a capture could not be set up or changed, each with its remedy.

use std::io;

use flexcast_udp::Errno;

use super::netlink::Answer;

/// A part of the capture, as errors and findings name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Part {
    /// The nf_tables table, all of it.
    Table,
    /// The set that holds capture alive for two seconds at a time.
    AliveSet,
    /// The set of captured message types.
    MessageSet,
    /// The sets of those let through.
    LetThroughSets,
    /// The chain at the prerouting hook, or the one that it jumps to.
    Chain,
    /// The rule that recognises requests.
    RequestRule,
    /// The rules that let chosen pairs and senders through.
    LetThroughRules,
    /// The rule that hands requests to the relay's socket.
    CaptureRule,
    /// The rules that catch ICMP errors about streams.
    IcmpRules,
    /// The rules that keep requests and streams out of connection tracking.
    UntrackRules,
    /// The IPv4 policy routing rules (`ip rule`).
    Ipv4Rules,
    /// The IPv6 policy routing rules (`ip -6 rule`).
    Ipv6Rules,
    /// The IPv4 route that makes captured packets local.
    Ipv4Route,
    /// The IPv6 route that makes captured packets local.
    Ipv6Route,
}

impl Part {
    /// The kernel modules that it needs beyond nf_tables itself.
    fn modules(self) -> Option<&'static str> {
        match self {
            Part::RequestRule => Some("nft_fib_inet, nft_fib_ipv4, nft_fib_ipv6"),
            Part::UntrackRules => Some("nft_ct"),
            Part::CaptureRule => Some("nft_tproxy, nf_tproxy_ipv4, nf_tproxy_ipv6"),
            Part::AliveSet | Part::MessageSet | Part::LetThroughSets => Some("nf_tables_set"),
            Part::Ipv4Rules => Some("CONFIG_IP_MULTIPLE_TABLES"),
            Part::Ipv6Rules => Some("CONFIG_IPV6_MULTIPLE_TABLES"),
            _ => None,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Table => "the nf_tables table",
            Part::AliveSet => "the set `alive`",
            Part::MessageSet => "the set `messages`",
            Part::LetThroughSets => "the sets of those let through",
            Part::Chain => "the nf_tables chain",
            Part::RequestRule => "the rule that recognises requests",
            Part::LetThroughRules => "the rules that let through",
            Part::CaptureRule => "the rule that captures requests (tproxy)",
            Part::IcmpRules => "the rules for ICMP errors",
            Part::UntrackRules => "the rules against connection tracking",
            Part::Ipv4Rules => "the IPv4 policy routing rules (ip rule)",
            Part::Ipv6Rules => "the IPv6 policy routing rules (ip -6 rule)",
            Part::Ipv4Route => "the IPv4 capture route",
            Part::Ipv6Route => "the IPv6 capture route",
        })
    }
}

/// Why capturing is not possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A setting that cannot work.
    #[error("{name} = {value}: {problem}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
    /// EPERM.
    #[error(
        "not permitted to change {part}{kernel}: capturing needs CAP_NET_ADMIN in the user \
         namespace that owns this network namespace; run as root, or give the program \
         cap_net_admin,cap_net_raw (setcap, AmbientCapabilities=)"
    )]
    NotPermitted {
        /// What was to be changed.
        part: Part,
        /// The kernel's own words, in parentheses, or nothing.
        kernel: String,
    },
    /// The kernel has no nf_tables.
    #[error(
        "the kernel has no nf_tables ({source}): load the module (modprobe nf_tables) or use a \
         kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET"
    )]
    NoNfTables {
        /// What the kernel said.
        source: io::Error,
    },
    /// A part needs a module that is not there.
    #[error(
        "the kernel cannot make {part} ({source}{kernel}): it lacks {modules}; load or enable it"
    )]
    ModuleMissing {
        /// What was to be made.
        part: Part,
        /// What it needs.
        modules: &'static str,
        /// What the kernel said.
        source: io::Error,
        /// The kernel's own words, in parentheses, or nothing.
        kernel: String,
    },
    /// Another program has a table of this name.
    #[error(
        "the nf_tables table inet {table} exists already and belongs to {owner}: stop it, or \
         choose another table name"
    )]
    TableTaken {
        /// The table's name.
        table: String,
        /// Who owns it: process id and name where they can be found.
        owner: String,
    },
    /// The loopback device is down.
    #[error(
        "the loopback device is down, and captured packets are routed to it: ip link set lo up"
    )]
    LoopbackDown,
    /// The routing table has a default route that is not ours.
    #[error(
        "routing table {table} has another default route already: choose a table that is used \
         for nothing else"
    )]
    RouteTableTaken {
        /// The table's number.
        table: u32,
    },
    /// Something that was there has gone.
    #[error(
        "{part} is gone: another program removed it; restore the capture or restart the relay"
    )]
    Gone {
        /// What is gone.
        part: Part,
    },
    /// As many are let through as the set holds (4 096).
    #[error("the sets of those let through are full; entries last 60 s")]
    LetThroughFull,
    /// An IPv4 requester of an IPv6 sender, or the reverse.
    #[error("requester {requester} and sender {sender} are of different families")]
    Families {
        /// Who asked.
        requester: std::net::IpAddr,
        /// Who was asked.
        sender: std::net::IpAddr,
    },
    /// Two programs change the tables at once.
    #[error("{part} is being changed by another program ({source}): try again")]
    Busy {
        /// What was to be changed.
        part: Part,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anything else that the kernel refused.
    #[error("the kernel refused {part}: {source}{kernel}")]
    Refused {
        /// What was to be changed.
        part: Part,
        /// What the kernel said.
        source: io::Error,
        /// The kernel's own words, in parentheses, or nothing.
        kernel: String,
    },
}

impl CaptureError {
    /// The kernel's answer about this part, read as an error.
    pub(super) fn refused(part: Part, answer: &Answer) -> Self {
        let kernel = match answer.text.as_str() {
            "" => String::new(),
            text => format!(" ({text})"),
        };
        let source = io::Error::from(answer.errno);
        match (answer.errno, part.modules()) {
            (Errno::EPERM | Errno::EACCES, _) => CaptureError::NotPermitted { part, kernel },
            (Errno::ENETDOWN, _) => CaptureError::LoopbackDown,
            (Errno::EBUSY | Errno::EAGAIN | Errno::EINTR, _) => CaptureError::Busy { part, source },
            (Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT, Some(modules)) => {
                CaptureError::ModuleMissing {
                    part,
                    modules,
                    source,
                    kernel,
                }
            }
            (Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT, None)
                if part == Part::Table =>
            {
                CaptureError::NoNfTables { source }
            }
            _ => CaptureError::Refused {
                part,
                source,
                kernel,
            },
        }
    }

    /// The socket itself failed.
    pub(super) fn socket(part: Part, source: io::Error) -> Self {
        let errno = Errno(source.raw_os_error().unwrap_or(0));
        Self::refused(
            part,
            &Answer {
                sequence: 0,
                errno,
                text: String::new(),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(part: Part, errno: Errno) -> String {
        let answer = Answer {
            sequence: 1,
            errno,
            text: "the kernel's words".to_owned(),
        };
        CaptureError::refused(part, &answer).to_string()
    }

    #[test]
    fn each_refusal_names_its_part_and_remedy() {
        for (part, errno, words) in [
            (
                Part::Table,
                Errno::EPERM,
                ["the nf_tables table", "CAP_NET_ADMIN"],
            ),
            (Part::Table, Errno::EOPNOTSUPP, ["no nf_tables", "modprobe"]),
            (Part::CaptureRule, Errno::ENOENT, ["tproxy", "nft_tproxy"]),
            (
                Part::RequestRule,
                Errno::EOPNOTSUPP,
                ["recognises requests", "nft_fib_inet"],
            ),
            (Part::Chain, Errno::EBUSY, ["chain", "try again"]),
            (
                Part::Ipv4Route,
                Errno::ENETDOWN,
                ["loopback", "ip link set lo up"],
            ),
            (
                Part::Ipv4Rules,
                Errno::EOPNOTSUPP,
                ["ip rule", "CONFIG_IP_MULTIPLE_TABLES"],
            ),
            (
                Part::IcmpRules,
                Errno::EINVAL,
                ["ICMP", "the kernel's words"],
            ),
        ] {
            let message = message(part, errno);
            for word in words {
                assert!(message.contains(word), "{part:?} {errno}: {message}");
            }
        }
    }
}
