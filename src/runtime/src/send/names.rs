//! The abstract name under which the owner of FP is found, and its generations.
//!
//! ```text
//! flexcast-fp/PORT/GENERATION     one listening process each; the highest counts
//! ```
//! Abstract names belong to the network namespace, as the port does. Promises: only
//! names on which somebody listens. Is not proof that the listener is awake, nor
//! that it is a friend (`SO_PEERCRED` says that).

use flexcast_udp::process;
use flexcast_udp::unix::Stream;

/// Generations tried one by one where the kernel's list cannot be read.
const PROBED: u64 = 16;

/// The name of the owner of `port` in `generation`.
pub(super) fn name(port: u16, generation: u64) -> Vec<u8> {
    format!("flexcast-fp/{port}/{generation}").into_bytes()
}

/// The generations on whose names somebody listens, ascending.
pub(super) fn living(port: u16) -> Vec<u64> {
    let mut table = Vec::new();
    match process::read_file("/proc/thread-self/net/unix", &mut table) {
        Ok(_) => parse(&table, port),
        Err(_) => (1..=PROBED)
            .filter(|generation| Stream::connect(&name(port, *generation)).is_ok())
            .collect(),
    }
}

/// Reads /proc/net/unix: `address refs protocol flags type state inode @name`;
/// flag 0x10000 is a listener's.
fn parse(table: &[u8], port: u16) -> Vec<u64> {
    let wanted = format!("@flexcast-fp/{port}/");
    let mut generations: Vec<u64> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let line = std::str::from_utf8(line).ok()?;
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let generation = fields.get(7)?.strip_prefix(&wanted)?;
            if fields[3] != "00010000" {
                return None;
            }
            generation.parse().ok()
        })
        .collect();
    generations.sort_unstable();
    generations
}

#[cfg(test)]
mod tests {
    use flexcast_udp::unix::Listener;

    use super::*;

    #[test]
    fn a_listener_is_found_while_it_lives() {
        // No real FP: the names of other tests and of this host stay apart.
        let port = 1;
        assert_eq!(living(port), []);
        let two = Listener::bind(&name(port, 2)).unwrap();
        let ten = Listener::bind(&name(port, 10)).unwrap();
        let _connected = Stream::connect(&name(port, 10)).unwrap();
        assert_eq!(living(port), [2, 10]);
        drop((two, ten));
        assert_eq!(living(port), []);
    }

    #[test]
    fn connections_and_other_ports_are_not_listed() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0005 01 11 @flexcast-fp/7450/3\n\
            0000000000000000: 00000003 00000000 00000000 0005 03 12 @flexcast-fp/7450/4\n\
            0000000000000000: 00000002 00000000 00010000 0005 01 13 @flexcast-fp/745/5\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 14 /run/flexcast-fp/7450/6\n\
            0000000000000000: 00000002 00000000 00010000 0005 01 15\n";
        assert_eq!(parse(table, 7450), [3]);
    }
}
