//! Which channels a live process of this host serves to whoever calls: by names that
//! any process finds, whoever owns FP and whichever user it is.
//!
//! ```text
//! flexcast-served/PORT/ID     one abstract socket each, held while the process listens
//! flexcast-served/PORT/any    for every id, or delivers what it accepted
//! ```
//! Promises: a name is there before listen has returned to its program, and gone with
//! its process. Is not the registry: a channel that is only pushed has no name, and
//! whoever calls asks for its stream by a request like everybody.

use std::collections::{BTreeMap, BTreeSet};

use flexcast_udp::process;
use flexcast_udp::unix::UnixDatagram;
use flexcast_wire::ChannelId;

use super::control::Controller;

/// The names that this process holds; none for an id: all ids.
pub(super) type Served = BTreeMap<Option<ChannelId>, UnixDatagram>;

fn name(port: u16, id: Option<ChannelId>) -> String {
    match id {
        Some(id) => format!("flexcast-served/{port}/{id}"),
        None => format!("flexcast-served/{port}/any"),
    }
}

/// Whether a live process of this host listens for channel `id`, or delivers it to
/// those who called. `fp`: the port of requests.
#[must_use]
pub fn is_served(fp: u16, id: ChannelId) -> bool {
    let mut table = Vec::new();
    let read = process::read_file("/proc/thread-self/net/unix", &mut table);
    read.is_ok() && (lists(&table, &name(fp, Some(id))) || lists(&table, &name(fp, None)))
}

/// Whether /proc/net/unix has the abstract name.
fn lists(table: &[u8], name: &str) -> bool {
    let wanted = format!("@{name}");
    let mut lines = table.split(|byte| *byte == b'\n');
    lines.any(|line| {
        let line = std::str::from_utf8(line).unwrap_or("");
        line.split_ascii_whitespace().nth(7) == Some(wanted.as_str())
    })
}

impl Controller {
    /// Holds a name for each id that a socket of ours listens for or delivers, and no
    /// other.
    pub(super) fn announce(&mut self) {
        let wanted: BTreeSet<Option<ChannelId>> = self.node.lock().listens.served();
        self.served.retain(|id, _| wanted.contains(id));
        for id in wanted {
            if self.served.contains_key(&id) {
                continue;
            }
            match UnixDatagram::bind(name(self.node.fp, id).as_bytes()) {
                Ok(held) => drop(self.served.insert(id, held)),
                // Another process has it: who calls finds that one's name.
                Err(errno) => log::debug!("{}: {errno}", name(self.node.fp, id)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_while_it_is_held_and_stands_for_its_id_alone() {
        // No real FP: the names of other tests and of this host stay apart.
        let (port, id) = (3, ChannelId::new(5000).unwrap());
        let other = ChannelId::new(500).unwrap();
        assert!(!is_served(port, id));
        let held = UnixDatagram::bind(name(port, Some(id)).as_bytes()).unwrap();
        assert!(is_served(port, id) && !is_served(port, other) && !is_served(port + 1, id));
        drop(held);
        assert!(!is_served(port, id));
        let _any = UnixDatagram::bind(name(port, None).as_bytes()).unwrap();
        assert!(is_served(port, id) && is_served(port, other));
    }
}
