//! Where `recv` puts what it receives: a file or standard output, or plain UDP.

use flexcast_udp::process::PollFd;

use crate::output::{Output, Stop};
use crate::to_udp::ToUdp;

/// One of them, with the same questions to each.
#[derive(Debug)]
pub(crate) enum Sink {
    Bytes(Output),
    Udp(ToUdp),
}

impl Sink {
    /// Gives up waiting for the reader when this descriptor becomes readable.
    pub(crate) fn heed(&mut self, signals: i32) {
        if let Sink::Bytes(output) = self {
            output.heed(signals);
        }
    }

    /// To be polled: for room where something is left to write, and for errors.
    pub(crate) fn watch(&self) -> PollFd {
        match self {
            Sink::Bytes(output) => output.watch(),
            Sink::Udp(_) => PollFd::new(-1, 0),
        }
    }

    /// Takes a datagram.
    pub(crate) fn push(&mut self, datagram: &[u8]) -> Result<(), Stop> {
        match self {
            Sink::Bytes(output) => output.push(datagram),
            Sink::Udp(udp) => {
                udp.push(datagram);
                Ok(())
            }
        }
    }

    /// Writes what the reader takes without waiting.
    pub(crate) fn write(&mut self) -> Result<(), Stop> {
        match self {
            Sink::Bytes(output) => output.write(),
            Sink::Udp(_) => Ok(()),
        }
    }

    /// Writes all that is left; `interrupted`: with patience for a second.
    pub(crate) fn finish(&mut self, interrupted: bool) -> Result<(), Stop> {
        match self {
            Sink::Bytes(output) => output.finish(interrupted),
            Sink::Udp(_) => Ok(()),
        }
    }

    /// Datagrams that did not get out.
    pub(crate) fn refused(&self) -> u64 {
        match self {
            Sink::Bytes(_) => 0,
            Sink::Udp(udp) => udp.refused,
        }
    }
}
