//! Who holds FP: asked of /proc, for the error message alone.
//!
//! Promises: nothing is guessed; a process of another user is named as far as /proc
//! shows it to us. Is not how owners find each other (`names`).

use flexcast_udp::process;

use super::error::Holder;

/// The holder of UDP port `port` in this network namespace.
pub(super) fn of_port(port: u16) -> Holder {
    let tables = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];
    let found = tables.iter().find_map(|table| {
        let mut text = Vec::new();
        process::read_file(table, &mut text).ok()?;
        find(&String::from_utf8_lossy(&text), port)
    });
    match found {
        Some((uid, inode)) => Holder {
            uid: Some(uid),
            ..process_with(inode).map(of_process).unwrap_or_default()
        },
        None => Holder::default(),
    }
}

/// What is known of process `pid`.
pub(super) fn of_process(pid: i32) -> Holder {
    let mut name = Vec::new();
    let read = process::read_file(format!("/proc/{pid}/comm"), &mut name);
    Holder {
        // 0: in a pid namespace that we do not see.
        pid: Some(pid).filter(|pid| *pid > 0),
        uid: None,
        command: read
            .ok()
            .map(|_| String::from_utf8_lossy(&name).trim_end().to_owned()),
    }
}

/// User and inode of a socket bound to `port`, in the text of /proc/net/udp:
/// `sl local rem st queues timer retransmits uid timeout inode ...`
fn find(table: &str, port: u16) -> Option<(u32, u64)> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        if u16::from_str_radix(local, 16).ok()? != port {
            return None;
        }
        Some((fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?))
    })
}

/// The process that has the socket with this inode, if we may look at it.
fn process_with(inode: u64) -> Option<i32> {
    let wanted = format!("socket:[{inode}]").into_bytes();
    let digits = |name: &[u8]| std::str::from_utf8(name).ok()?.parse::<i32>().ok();
    let processes = process::list_entries("/proc").ok()?;
    processes.iter().find_map(|name| {
        let pid = digits(name)?;
        let directory = format!("/proc/{pid}/fd");
        let numbers = process::list_entries(&directory).ok()?;
        let mut links = numbers.iter().filter_map(|number| {
            let number = digits(number)?;
            process::read_link(format!("{directory}/{number}")).ok()
        });
        links.any(|link| link == wanted).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use flexcast_udp::{Family, UdpSocket};

    use super::*;

    #[test]
    fn a_port_of_our_own_is_found_with_its_process() {
        let socket = UdpSocket::new(Family::V6).unwrap();
        socket.bind("[::1]:0".parse().unwrap()).unwrap();
        let holder = of_port(socket.local_addr().unwrap().port());
        assert_eq!(holder.pid, Some(process::pid()));
        assert_eq!(holder.uid, Some(process::uid()));
        assert!(holder.command.is_some_and(|name| !name.is_empty()));
    }

    #[test]
    fn a_line_of_the_kernels_table_is_read_by_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20 123: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 15555 2 0 0\n\
            \x20 124: 00000000:1D1A 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 16666 2 0 0\n";
        assert_eq!(find(table, 7450), Some((1000, 16666)));
        assert_eq!(find(table, 53), Some((101, 15555)));
        assert_eq!(find(table, 7451), None);
    }
}
