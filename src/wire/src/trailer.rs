//! The trailer: the last 16 bytes of every datagram of ours.
//!
//! ```text
//!  0               8           12     13          16
//!  | token / nonce | sequence  | kind | F1 EC A5  |      big-endian
//! ```
//! token: the stream token; in control datagrams the requester's nonce, both
//! ways. Promises: what is not ours is refused for one reason. Is not the
//! control message in front of it ([`crate::Control`]).

use crate::{Malformed, Sequence};

/// The three bytes that end every datagram of ours, and begin every control one.
pub const MAGIC: u32 = 0x00F1_ECA5;

/// Bytes that the trailer adds to a datagram.
pub const TRAILER_LEN: usize = 16;

/// The largest body over IPv4: 65 535 − 20 − 8 − 16 bytes.
pub const MAX_BODY_V4: usize = 65_491;

/// The largest body over IPv6: 65 535 − 8 − 16 bytes.
pub const MAX_BODY_V6: usize = 65_511;

/// 64 random bits that a requester chooses once per requesting socket; never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Nonce(pub u64);

/// 64 random bits that the sender chooses once per incarnation of a channel;
/// never 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamToken(pub u64);

/// What a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// The application's datagram.
    Data = 1,
    /// A control message.
    Control = 2,
    /// End of stream.
    End = 3,
}

impl Kind {
    /// The trailer's last word, kind and magic, as a socket filter compares it.
    #[must_use]
    pub const fn word(self) -> u32 {
        (self as u32) << 24 | MAGIC
    }
}

/// The trailer, read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// Stream token, or nonce in control datagrams.
    pub token: u64,
    /// Sequence of the stream datagram; 0 in control.
    pub sequence: Sequence,
    /// What the datagram is.
    pub kind: Kind,
}

impl Trailer {
    /// Splits a datagram into body and trailer.
    ///
    /// # Errors
    /// [`Malformed::NoTrailer`], [`Malformed::TrailerMagic`], [`Malformed::Kind`],
    /// [`Malformed::Token`], [`Malformed::EndWithBody`].
    pub fn split(datagram: &[u8]) -> Result<(&[u8], Trailer), Malformed> {
        let (body, bytes) = datagram
            .split_last_chunk::<TRAILER_LEN>()
            .ok_or(Malformed::NoTrailer)?;
        let trailer = Trailer::read(bytes)?;
        if trailer.kind == Kind::End && !body.is_empty() {
            return Err(Malformed::EndWithBody);
        }
        Ok((body, trailer))
    }

    /// Reads the 16 bytes.
    fn read(bytes: &[u8; TRAILER_LEN]) -> Result<Trailer, Malformed> {
        let whole = u128::from_be_bytes(*bytes);
        let low = |shift: u32| u64::try_from(whole >> shift & 0xFFFF_FFFF).unwrap_or(0);
        if low(0) & 0x00FF_FFFF != u64::from(MAGIC) {
            return Err(Malformed::TrailerMagic);
        }
        let kind = match bytes[12] {
            1 => Kind::Data,
            2 => Kind::Control,
            3 => Kind::End,
            _ => return Err(Malformed::Kind),
        };
        let token = low(96) << 32 | low(64);
        if token == 0 {
            return Err(Malformed::Token);
        }
        let sequence = Sequence(u32::try_from(low(32)).unwrap_or(0));
        Ok(Trailer {
            token,
            sequence,
            kind,
        })
    }

    /// The 16 bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; TRAILER_LEN] {
        let mut out = [0; TRAILER_LEN];
        out[..8].copy_from_slice(&self.token.to_be_bytes());
        out[8..12].copy_from_slice(&self.sequence.0.to_be_bytes());
        out[12..].copy_from_slice(&self.kind.word().to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: [u8; 16] = [
        0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0, 0, 0x10, 0x01, 1, 0xF1, 0xEC, 0xA5,
    ];

    #[test]
    fn the_trailer_has_golden_bytes() {
        let trailer = Trailer {
            token: 0x0123_4567_89AB_CDEF,
            sequence: Sequence(0x1001),
            kind: Kind::Data,
        };
        assert_eq!(trailer.bytes(), GOLDEN);
        assert_eq!(Trailer::split(&GOLDEN), Ok((&[][..], trailer)));
    }

    #[test]
    fn each_flaw_has_its_reason() {
        let with = |at: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            Trailer::split(&bytes).map(|_| ())
        };
        assert_eq!(Trailer::split(&GOLDEN[1..]), Err(Malformed::NoTrailer));
        assert_eq!(with(15, 0), Err(Malformed::TrailerMagic));
        assert_eq!(with(12, 0), Err(Malformed::Kind));
        assert_eq!(with(12, 4), Err(Malformed::Kind));
        assert_eq!(with(12, 3), Ok(()));
        let mut end = [7; 17];
        end[1..].copy_from_slice(&GOLDEN);
        end[13] = 3;
        assert_eq!(Trailer::split(&end), Err(Malformed::EndWithBody));
        let mut zero = GOLDEN;
        zero[..8].fill(0);
        assert_eq!(Trailer::split(&zero), Err(Malformed::Token));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(token in 1u64.., seq: u32, kind in 1u8..4, body: Vec<u8>) {
            let kind = [Kind::Data, Kind::Control, Kind::End][usize::from(kind) - 1];
            let trailer = Trailer { token, sequence: Sequence(seq), kind };
            let body = if kind == Kind::End { Vec::new() } else { body };
            let mut bytes = body.clone();
            bytes.extend_from_slice(&trailer.bytes());
            prop_assert_eq!(Trailer::split(&bytes), Ok((&body[..], trailer)));
        }

        #[test]
        fn what_is_read_is_written_back(bytes: [u8; 16]) {
            if let Ok((_, trailer)) = Trailer::split(&bytes) {
                prop_assert_eq!(trailer.bytes(), bytes);
            }
        }
    }
}
