//! Who has an nf_tables table: the process behind a netlink port.
//!
//! The kernel tells the port alone; `/proc/net/netlink` has its socket's inode,
//! and some process's descriptors lead to that inode. Best effort: other users'
//! processes cannot be looked into without privilege.

use std::fs;

const NETLINK_NETFILTER: &str = "12";

/// In words, for a message: process id and name, or else the netlink port.
pub(super) fn describe(port: u32) -> String {
    let process = socket_inode(port).and_then(process_with_socket);
    match process {
        Some((pid, name)) => format!("process {pid} ({name})"),
        None => format!("the process with netlink port {port}"),
    }
}

/// Columns: address, protocol, port, …, inode.
fn socket_inode(port: u32) -> Option<String> {
    let table = fs::read_to_string("/proc/net/netlink").ok()?;
    let port = port.to_string();
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let ours =
            columns.next() == Some(NETLINK_NETFILTER) && columns.next() == Some(port.as_str());
        ours.then(|| columns.last().map(str::to_owned))?
    })
}

fn process_with_socket(inode: String) -> Option<(String, String)> {
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
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}
