//! This host as an endpoint: what programs under Flexcast need of it.
//!
//! Promises: each answer is tried or read at this moment, in this process and this
//! network namespace; nothing is changed. Is not a look at other processes.

use std::net::{IpAddr, SocketAddr};

use flexcast_relay::ask_status;
use flexcast_relay::capture::holder_of_udp_port;
use flexcast_rules::{Senders, Settings};
use flexcast_udp::process::{pid, pidfd_getfd, pidfd_open, udp_sockets};
use flexcast_udp::selftest::{kernel_path, Probe};
use flexcast_udp::{Errno, Family, UdpSocket};
use rustix::process::{getrlimit, Resource};

use super::check::Check;
use super::host;
use crate::map_options::is_local;
use crate::preload;

/// The oldest kernel that is supported.
const OLDEST: (u32, u32) = (5, 10);
/// A queue of the default size in the documentation's advice: 1316 bytes cost some 2.3 kB.
const GOOD_QUEUE: u32 = 4 << 20;
/// What a queued datagram of 1316 bytes counts for (its `skb->truesize`).
const QUEUED: u32 = 2304;
/// Descriptors that a program and its background threads may use.
const DESCRIPTORS: u64 = 256;
/// Threads that the library may start in a program.
const THREADS: u64 = 4;
/// A datagram of 1316 bytes with trailer, UDP and IPv6 headers.
const GOOD_MTU: u32 = 1316 + 16 + 8 + 40;

/// All there is to say of an endpoint.
pub(super) fn look(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![kernel(), library()];
    checks.extend([Family::V4, Family::V6].map(receive_path));
    checks.extend([adoption(), diagnosis()]);
    checks.extend(offload());
    checks.extend([
        descriptors(),
        queue(),
        threads(),
        sandbox(),
        port(settings.port()),
    ]);
    checks.extend(senders(settings));
    checks
}

fn kernel() -> Check {
    let release = host::read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let version = (number(), number());
    let found = format!("Linux {release}");
    match version >= OLDEST {
        true => Check::ok("kernel", found),
        false => Check::fault("kernel", found, "run Linux 5.10 or later"),
    }
}

fn library() -> Check {
    let own = std::env::current_exe().unwrap_or_default();
    match preload::find(std::env::var_os("FLEXCAST_PRELOAD").as_deref(), &own) {
        Ok(path) => match host::first_closed(&path) {
            None => Check::ok("library", path.display().to_string()),
            Some(closed) => Check::warning(
                "library",
                format!(
                    "{}: other users cannot read {}, and for them the dynamic linker leaves it out with a mere warning",
                    path.display(),
                    closed.display()
                ),
                "put it where everybody may read (scripts/install.sh), or run programs as its owner",
            ),
        },
        Err(error) => Check::fault("library", error.to_string(), "see the message"),
    }
}

fn receive_path(family: Family) -> Check {
    let name = match family {
        Family::V4 => "receive-path-ipv4",
        Family::V6 => "receive-path-ipv6",
    };
    match kernel_path(family) {
        Probe::Works => Check::ok(name, "the kernel strips, sorts and drops datagrams"),
        Probe::DoesNot(reason) if reason.errno == Some(Errno::EAFNOSUPPORT) => {
            Check::warning(name, "the kernel has no such sockets", "none needed where nobody uses this family")
        }
        Probe::DoesNot(reason) => Check::warning(
            name,
            format!("datagrams take the way through user space, since the kernel's failed at: {reason}"),
            "allow the call that failed (a container's seccomp profile?), or live with about 1.4 times the cost of a receive",
        ),
        Probe::Unknown(reason) => Check::warning(
            name,
            format!("could not be tried: {reason}"),
            "ip link set lo up, and let loopback through the firewall",
        ),
    }
}

/// The background thread fetches a program's sockets by pidfd_getfd(2).
fn adoption() -> Check {
    let tried = UdpSocket::new(Family::V4)
        .and_then(|socket| pidfd_getfd(&pidfd_open(pid())?, socket.as_raw()));
    let yama = match host::read("/proc/sys/kernel/yama/ptrace_scope") {
        Some(scope) => format!("Yama's ptrace_scope is {scope}"),
        None => "without Yama".to_owned(),
    };
    match tried {
        Ok(_) => Check::ok("pidfd_getfd", format!("permitted within a process ({yama})")),
        Err(errno) => Check::warning(
            "pidfd_getfd",
            format!("{errno} ({yama}): a helper thread passes descriptors in its stead"),
            "allow pidfd_open and pidfd_getfd in the container's seccomp profile; Linux 5.6 has them",
        ),
    }
}

/// Whether others hold a socket that was closed is asked of sock_diag(7).
fn diagnosis() -> Check {
    let asked = UdpSocket::new(Family::V4).and_then(|socket| {
        socket.bind(SocketAddr::new(Family::V4.any(), 0))?;
        let cookies = udp_sockets(socket.local_addr()?.port(), Family::V4)?;
        Ok(cookies.contains(&socket.cookie()))
    });
    match asked {
        Ok(true) => Check::ok("sock_diag", "tells whether a closed socket is still held"),
        Ok(false) | Err(_) => Check::warning(
            "sock_diag",
            match asked {
                Err(errno) => format!("cannot be asked ({errno}): leaves are told late"),
                _ => "does not show this process's sockets: leaves are told late".to_owned(),
            },
            "load udp_diag (modprobe udp_diag), or CONFIG_INET_UDP_DIAG",
        ),
    }
}

fn offload() -> [Check; 2] {
    let remedy = "run Linux 5.10 or later, outside of sandboxes that have a network of their own";
    let check = |name, has: bool, loss: &str| match has {
        true => Check::ok(name, "the kernel has it"),
        false => Check::warning(name, loss, remedy),
    };
    let tried = |way: fn(&UdpSocket) -> bool| UdpSocket::new(Family::V4).is_ok_and(|s| way(&s));
    [
        check(
            "udp-segment",
            tried(UdpSocket::knows_segmentation),
            "missing: a sender or relay with many receivers needs up to 16 times as much processor time",
        ),
        check(
            "udp-gro",
            tried(|socket| socket.set_gro(true).is_ok()),
            "missing: a relay takes datagrams in one by one",
        ),
    ]
}

fn descriptors() -> Check {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let found = format!("{limit} a process");
    match limit >= DESCRIPTORS {
        true => Check::ok("descriptors", found),
        false => Check::warning(
            "descriptors",
            found,
            format!("ulimit -n {DESCRIPTORS} or more"),
        ),
    }
}

/// What an unprivileged program's SO_RCVBUF can become.
fn queue() -> Check {
    let limit: Option<u32> =
        host::read("/proc/sys/net/core/rmem_max").and_then(|text| text.parse().ok());
    match limit {
        Some(limit) if limit >= GOOD_QUEUE => Check::ok(
            "receive-queue",
            format!("a program's may have {limit} bytes (net.core.rmem_max)"),
        ),
        Some(limit) => Check::warning(
            "receive-queue",
            format!(
                "a program's ends at {limit} bytes (net.core.rmem_max): it loses when it is away for more \
                 than some {} datagrams of 1316 bytes",
                2 * limit / QUEUED
            ),
            format!("sysctl -w net.core.rmem_max={GOOD_QUEUE}"),
        ),
        None => Check::ok("receive-queue", "net.core.rmem_max is not told in this network namespace"),
    }
}

/// Background threads must be possible.
fn threads() -> Check {
    let Some((limit, now)) = host::tasks_of_control_group() else {
        return Check::ok("threads", "no limit of the control group is known");
    };
    let found = format!("the control group has {now} of {limit} tasks");
    match now + THREADS <= limit {
        true => Check::ok("threads", found),
        false => Check::fault(
            "threads",
            found,
            "raise the container's pids limit (pids.max, --pids-limit, TasksMax=)",
        ),
    }
}

/// Seccomp hides behind other answers; here it is named.
fn sandbox() -> Check {
    match host::status_line("Seccomp").as_deref() {
        Some("2") => Check::ok(
            "seccomp",
            "a filter is in force: what is said here was tried under it",
        ),
        _ => Check::ok("seccomp", "no filter is in force"),
    }
}

/// Whether this host may send.
fn port(port: u16) -> Check {
    if let Ok(report) = ask_status(port) {
        return Check::warning(
            "port",
            format!("UDP port {port} is the relay's (process {}): programs of this host can receive, not send", report.pid),
            "send from another host, or without a relay on this one",
        );
    }
    match host::udp_port_is_free(port) {
        true => Check::ok(
            "port",
            format!("UDP port {port} is free: this host may send"),
        ),
        false => {
            let holder = holder_of_udp_port(port);
            let found = format!(
                "UDP port {port} is held by {}",
                holder.as_deref().unwrap_or("a program of another user")
            );
            Check::warning(
                "port",
                found,
                "none needed where that is a sender under Flexcast of the same user: they share it; \
                 otherwise stop it, or choose another port for the whole network (--port)",
            )
        }
    }
}

/// The way to each sender of the map that is another host.
fn senders(settings: &Settings) -> Vec<Check> {
    let rules = settings.map().rules();
    if rules.is_empty() {
        return vec![Check::ok(
            "map",
            "no rule given: --map, FLEXCAST_MAP or --config would be checked",
        )];
    }
    let mut asked: Vec<IpAddr> = Vec::new();
    for rule in rules {
        let senders: &[IpAddr] = match rule.senders() {
            Senders::Hosts(hosts) => hosts,
            Senders::Own | Senders::Unnamed => &[],
        };
        asked.extend(if rule.via().is_empty() {
            senders
        } else {
            rule.via()
        });
    }
    asked.sort();
    asked.dedup();
    let mut checks = vec![Check::ok("map", format!("{} rules", rules.len()))];
    checks.extend(asked.into_iter().map(|address| way_to(address, settings)));
    checks
}

fn way_to(address: IpAddr, settings: &Settings) -> Check {
    if is_local(address, settings) {
        return Check::ok("sender", format!("{address} is this host"));
    }
    let family = Family::of(address);
    let tried = UdpSocket::new(family).and_then(|socket| {
        socket.connect(SocketAddr::new(address, settings.port()))?;
        Ok((socket.local_addr()?.ip(), socket.path_mtu()?))
    });
    match tried {
        Ok((from, mtu)) if mtu >= GOOD_MTU => {
            Check::ok("sender", format!("{address}: there is a route (from {from}, MTU {mtu})"))
        }
        Ok((from, mtu)) => Check::warning(
            "sender",
            format!("{address}: the route's MTU is {mtu} (from {from}): datagrams of 1316 bytes come in fragments"),
            format!("send datagrams of at most {} bytes", mtu.saturating_sub(64)),
        ),
        Err(errno) => Check::fault(
            "sender",
            format!("{address}: no way there ({errno})"),
            "give this host a route, or correct the rule's SENDERS or via",
        ),
    }
}
