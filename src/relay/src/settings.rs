//! What can be set on a relay. Is not where settings come from (flags, later a
//! file).

use flexcast_engine::{NodeSettings, RequesterSettings};
use flexcast_wire::FLEXCAST_PORT;

/// A relay's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The fixed port of requests; the same in a whole network.
    pub fp: u16,
    /// The firewall mark of captured requests, under [`Settings::mask`]. Must not
    /// collide with marks of other software.
    pub mark: u32,
    /// Which bits of the mark are ours.
    pub mask: u32,
    /// The routing table that delivers captured requests here.
    pub route_table: u32,
    /// The name of the nf_tables table.
    pub table_name: String,
    /// Bytes of receive buffer of each socket. Higher: longer bursts survive;
    /// lower: less memory.
    pub receive_buffer: u32,
    /// Limits of the node.
    pub node: NodeSettings,
    /// How it asks upstream.
    pub asking: RequesterSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            fp: FLEXCAST_PORT,
            mark: 0x50,
            mask: 0xf0,
            route_table: 7450,
            table_name: "flexcast".to_owned(),
            receive_buffer: 8 << 20,
            node: NodeSettings::relay(),
            asking: RequesterSettings::default(),
        }
    }
}
