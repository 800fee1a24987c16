//! What can be set on a relay. Is not where settings come from (flags, later a
//! file).

use flexcast_engine::{NodeSettings, RequesterSettings};
use flexcast_wire::{MessageType, CONTROL_WORD, FLEXCAST_PORT, MESSAGE_OFFSET};

use crate::capture;

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

impl Settings {
    /// What capture makes of them.
    #[must_use]
    pub fn capture(&self) -> capture::Settings {
        let offset = u32::try_from(MESSAGE_OFFSET).unwrap_or(4);
        // What a relay answers; anything else would vanish here.
        let messages = vec![MessageType::Request as u8];
        let mut capture = capture::Settings::new(self.fp, CONTROL_WORD, offset, messages);
        capture.mark = self.mark;
        capture.mask = self.mask;
        capture.table_name.clone_from(&self.table_name);
        capture.route_table = self.route_table;
        capture
    }
}
