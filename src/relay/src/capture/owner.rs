//! Who has an nf_tables table or a UDP port: the process behind a socket.
//!
//! The kernel tells ports alone; `/proc/net` has the sockets' inodes, and some
//! process's descriptors lead to an inode. Best effort: other users' processes
//! cannot be looked into without privilege.

use std::fs;

const NETLINK_NETFILTER: &str = "12";

/// The owner of a table by its netlink port, in words for a message.
pub(super) fn describe(port: u32) -> String {
    let process = netlink_inode(port).and_then(|inode| process_with_socket(&inode));
    process.unwrap_or_else(|| format!("the process with netlink port {port}"))
}

/// The process that has a UDP port of this network namespace, in words; none
/// where it cannot be known.
#[must_use]
pub fn holder_of_udp_port(port: u16) -> Option<String> {
    ["udp6", "udp"].iter().find_map(|table| {
        let table = fs::read_to_string(format!("/proc/net/{table}")).ok()?;
        let mut inodes = udp_inodes(&table, port);
        let holder = inodes.find_map(|inode| process_with_socket(&inode));
        drop(inodes);
        holder
    })
}

/// Columns: address, protocol, port, …, inode.
fn netlink_inode(port: u32) -> Option<String> {
    let table = fs::read_to_string("/proc/net/netlink").ok()?;
    let port = port.to_string();
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let ours =
            columns.next() == Some(NETLINK_NETFILTER) && columns.next() == Some(port.as_str());
        ours.then(|| columns.last().map(str::to_owned))?
    })
}

/// Columns: slot, local address:port (hexadecimal), …; the tenth is the inode.
fn udp_inodes(table: &str, port: u16) -> impl Iterator<Item = String> + '_ {
    let end = format!(":{port:04X}");
    table.lines().filter_map(move |line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let ours = columns.get(1)?.ends_with(&end);
        ours.then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
    })
}

fn process_with_socket(inode: &str) -> Option<String> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    for pid in pids.filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            continue;
        };
        let mut targets = descriptors
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok());
        if targets.any(|target| target.to_str() == Some(link.as_str())) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            return Some(format!("process {pid} ({})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_this_process_and_of_a_free_one_nobody() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let port = socket.local_addr().expect("bound").port();
        let holder = holder_of_udp_port(port).expect("known");
        let own = format!("process {} (", std::process::id());
        assert!(holder.starts_with(&own), "{holder}");
        drop(socket);
        assert_eq!(holder_of_udp_port(port), None);
    }
}
