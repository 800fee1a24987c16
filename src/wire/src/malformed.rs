//! Why a datagram was refused: one reason each, to be counted by.
//!
//! Is not an error to report to anybody: malformed datagrams are dropped in
//! silence ("Errors" in the protocol).

/// The one reason for which bytes are no message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Malformed {
    /// Shorter than the 16-byte trailer.
    #[error("shorter than a trailer")]
    NoTrailer,
    /// The trailer does not end in our magic.
    #[error("no Flexcast magic in the trailer")]
    TrailerMagic,
    /// The trailer's kind is none of data, control, end.
    #[error("unknown kind of datagram")]
    Kind,
    /// A data or end datagram where control was expected.
    #[error("not a control datagram")]
    NotControl,
    /// An end-of-stream datagram with a body.
    #[error("end of stream with a body")]
    EndWithBody,
    /// Control shorter than its message's fixed part.
    #[error("control message cut short")]
    Short,
    /// Control that does not begin with our magic.
    #[error("no Flexcast magic at the start")]
    Magic,
    /// A version that this crate does not speak.
    #[error("unknown version")]
    Version,
    /// An unknown message type.
    #[error("unknown message type")]
    Message,
    /// Channel id 0, which is only ever bound, never asked for.
    #[error("channel id 0")]
    Wildcard,
    /// S is unspecified, multicast or broadcast.
    #[error("sender address is no host's")]
    Sender,
    /// A verdict outside the list.
    #[error("unknown verdict")]
    Verdict,
    /// Flags that exclude each other.
    #[error("contradicting flags")]
    Flags,
    /// A path longer than the hop budget, or with node id 0 in it.
    #[error("path too long or broken")]
    Path,
    /// More trace records than hops, or a cut one.
    #[error("trace records broken")]
    Records,
    /// An option that runs over the end of the message.
    #[error("option runs over the end")]
    Option,
    /// A credential longer than 64 bytes.
    #[error("credential too long")]
    Credential,
    /// A stream token or nonce of 0.
    #[error("token or nonce 0")]
    Token,
}

impl Malformed {
    /// Every reason, for tables of counters.
    pub const ALL: [Malformed; 18] = [
        Malformed::NoTrailer,
        Malformed::TrailerMagic,
        Malformed::Kind,
        Malformed::NotControl,
        Malformed::EndWithBody,
        Malformed::Short,
        Malformed::Magic,
        Malformed::Version,
        Malformed::Message,
        Malformed::Wildcard,
        Malformed::Sender,
        Malformed::Verdict,
        Malformed::Flags,
        Malformed::Path,
        Malformed::Records,
        Malformed::Option,
        Malformed::Credential,
        Malformed::Token,
    ];

    /// Position in [`Malformed::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_index() {
        for (i, reason) in Malformed::ALL.iter().enumerate() {
            assert_eq!(reason.index(), i);
        }
    }
}
