//! `flexcast relay`: a relay on this host, until a signal drains it.
//!
//! Promises: what stands in the way is told with its remedy, before or while it
//! works; options become the relay's settings and nothing else. Is not the relay.

use flexcast_relay::{Service, Settings};

use crate::failure::Failure;
use crate::logging;

/// Relay streams: catch requests on their way to senders, and serve them here.
///
/// Run it on a router between senders and receivers. It catches requests with an
/// nf_tables table and policy routing of its own, asks upstream once for each
/// channel, and passes the stream on with the sender's source address. Whatever
/// happens to it, requests then pass to the next node: killed, stopped or broken,
/// it is no worse than none.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
It needs CAP_NET_ADMIN and CAP_NET_RAW: run it as root, as a systemd service with
AmbientCapabilities=, or for a try in `unshare -Urnm`.

SIGTERM or SIGINT drains it: capture ends at once, each requester is served until
it has moved to another node (10 s at most), then it ends with 0. A second one
ends it at once.

Examples:
  flexcast relay
  flexcast relay --port 7451 --mark 0x60 --route-table 99 --table-name flexcast-lab
  flexcast status        # who asks, in another terminal

Exit codes:
  0  drained
  1  it could not start, or not go on: the message says why and what to do
  2  an option is wrong")]
pub(crate) struct Relay {
    /// The UDP port that requests go to, the same in a whole network
    #[arg(long, value_name = "PORT", env = "FLEXCAST_PORT", default_value_t = Settings::default().fp,
          value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    #[command(flatten)]
    numbers: Numbers,

    #[command(flatten)]
    log: logging::Options,
}

impl Relay {
    pub(crate) fn execute(self) -> Result<(), Failure> {
        self.log.start(log::LevelFilter::Info);
        raise_descriptor_limit();
        Service::start(self.numbers.settings(self.port))?.run()?;
        Ok(())
    }
}

/// What a relay takes of the host's own numbers and names.
#[derive(Debug, clap::Args)]
pub(crate) struct Numbers {
    /// The packet mark of what is captured; to be changed where other programs on
    /// this host use its bits
    #[arg(long, value_name = "MARK", default_value = "0x50", value_parser = number)]
    mark: u32,

    /// The bits of the packet mark that are ours
    #[arg(long, value_name = "MASK", default_value = "0xf0", value_parser = number)]
    mask: u32,

    /// The routing table that makes captured packets local; used for nothing else
    #[arg(long, value_name = "NUMBER", default_value_t = Settings::default().route_table)]
    route_table: u32,

    /// The name of the nf_tables table (family inet)
    #[arg(long, value_name = "NAME", default_value_t = Settings::default().table_name)]
    table_name: String,
}

impl Numbers {
    /// The settings of a relay with this port of requests.
    pub(crate) fn settings(self, fp: u16) -> Settings {
        Settings {
            fp,
            mark: self.mark,
            mask: self.mask,
            route_table: self.route_table,
            table_name: self.table_name,
            ..Settings::default()
        }
    }
}

/// A relay has a socket for each channel: as many as the hard limit permits.
fn raise_descriptor_limit() {
    use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::debug!("the limit of descriptors stays as it is: {error}");
    }
}

/// A number as `ip rule` and `nft` write it: 80 or 0x50.
fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a number of 32 bits, decimal or 0x…".to_owned())
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_read_as_ip_and_nft_write_them() {
        assert_eq!(number("0x50"), Ok(0x50));
        assert_eq!(number("80"), Ok(80));
        for wrong in ["", "0x", "0x1ffffffff", "-1", "5O"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
