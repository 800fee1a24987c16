//! What `send` sends: pieces of a file, or datagrams of plain UDP.

use crate::failure::Failure;
use crate::from_udp::FromUdp;
use crate::source::Source;

/// One of them, with the same questions to each.
#[derive(Debug)]
pub(crate) enum Feed {
    Pieces(Source),
    Udp(FromUdp),
}

impl Feed {
    /// To be waited for before [`Feed::fill`].
    pub(crate) fn as_raw(&self) -> i32 {
        match self {
            Feed::Pieces(source) => source.as_raw(),
            Feed::Udp(udp) => udp.as_raw(),
        }
    }

    /// Bytes of a whole datagram, where they are alike; else 1, for whom it paces.
    pub(crate) fn size(&self) -> usize {
        match self {
            Feed::Pieces(source) => source.size(),
            Feed::Udp(_) => 1,
        }
    }

    /// Whether a datagram can be taken.
    pub(crate) fn has_datagram(&self) -> bool {
        match self {
            Feed::Pieces(source) => source.has_datagram(),
            Feed::Udp(udp) => udp.has_datagram(),
        }
    }

    /// Whether everything was taken and nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Feed::Pieces(source) => source.is_over(),
            Feed::Udp(_) => false,
        }
    }

    /// Reads once.
    pub(crate) fn fill(&mut self) -> Result<(), Failure> {
        match self {
            Feed::Pieces(source) => source.fill(),
            Feed::Udp(udp) => udp.fill(),
        }
    }

    /// Up to `most` datagrams that are there; gone by the next call.
    pub(crate) fn take(&mut self, most: usize) -> Vec<&[u8]> {
        match self {
            Feed::Pieces(source) => source.take(most),
            Feed::Udp(udp) => udp.take(most),
        }
    }
}
