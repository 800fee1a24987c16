//! What a receiving socket has counted.
//! Is not what its sender counted: see [`crate::Requester`].

use flexcast_wire::NodeId;

/// The stream of a receiving socket, over all incarnations of its channel.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Datagrams delivered.
    pub received: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Datagrams missing by sequence: lost on the way, or here (`dropped`).
    pub lost: u64,
    /// Datagrams that came again and were left out.
    pub duplicates: u64,
    /// Datagrams that were not of the stream.
    pub foreign: u64,
    /// Datagrams that the socket's queue had no room for (SO_RCVBUF).
    pub dropped: u64,
    /// The nodes from S down to the one that feeds us; empty where none does.
    pub path: Vec<NodeId>,
}
