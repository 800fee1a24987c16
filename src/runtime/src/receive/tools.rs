//! What the receivers of one thread share: buffers, and the way to D.
//!
//! Promises: nothing is allocated for a datagram. Is not a socket.

use flexcast_engine::Outbox;
use flexcast_udp::{Class, ReceiveBatch, SendBatch, UdpSocket};

use super::reach::Reacher;

/// Slots and bytes for control: a status with a path of 32 nodes is below 500.
const CONTROL: (usize, usize) = (32, 2_048);
/// Slots and bytes for the stream.
const STREAM: (usize, usize) = (32, 65_536);

/// What the receivers of one thread share: buffers, and the way to D.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) reacher: Reacher,
    pub(super) outbox: Outbox,
    letters: SendBatch,
    /// For control sockets.
    pub(super) control: ReceiveBatch,
    /// For sockets that take the stream, 2 MiB; made when first needed.
    stream: Option<ReceiveBatch>,
}

impl Tools {
    pub(super) fn new(reacher: Reacher) -> Tools {
        Tools {
            reacher,
            outbox: Outbox::new(),
            letters: SendBatch::new(),
            control: ReceiveBatch::new(CONTROL.0, CONTROL.1),
            stream: None,
        }
    }

    /// The batch for sockets that take the stream, and the outbox.
    pub(super) fn for_stream(&mut self) -> (&mut ReceiveBatch, &mut Outbox) {
        let make = || ReceiveBatch::new(STREAM.0, STREAM.1);
        (self.stream.get_or_insert_with(make), &mut self.outbox)
    }

    /// Sends what is in the outbox. A request that does not get out is repeated by
    /// its requester's timer.
    pub(super) fn send_letters(&mut self, from: &UdpSocket) {
        if self.outbox.is_empty() {
            return;
        }
        for (letter, bytes) in self.outbox.iter() {
            self.letters.push(letter.to, None, Class::Control, bytes);
        }
        self.letters
            .flush(from, &mut |_, errno| log::debug!("a request: {errno}"));
        self.letters.clear();
        self.outbox.clear();
    }
}
