//! Options at the end of control messages: type, length, value. Unknown ones
//! are skipped, so that later minor additions need no new version.
//!
//! ```text
//!  | type 1 | length 1 | value 0-255 |
//!  type 1: credential, 0 to 64 bytes, in requests and traces
//! ```

use std::fmt;

use crate::field::Writer;
use crate::Malformed;

/// The longest credential, in bytes.
pub const MAX_CREDENTIAL: usize = 64;

const CREDENTIAL: u8 = 1;

/// What a requester shows to be let in: up to 64 bytes, meaning up to the sender.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    len: u8,
    bytes: [u8; MAX_CREDENTIAL],
}

impl Credential {
    /// No credential.
    pub const NONE: Credential = Credential {
        len: 0,
        bytes: [0; MAX_CREDENTIAL],
    };

    /// These bytes; none where there are more than 64.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Credential> {
        let mut credential = Credential::NONE;
        credential
            .bytes
            .get_mut(..bytes.len())?
            .copy_from_slice(bytes);
        credential.len = u8::try_from(bytes.len()).ok()?;
        Some(credential)
    }

    /// The bytes; empty for none.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Credential {
    /// The length alone: credentials do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({} bytes)", self.len)
    }
}

/// Reads all options; what we know of them is the credential.
pub(crate) fn read(mut bytes: &[u8]) -> Result<Credential, Malformed> {
    let mut credential = Credential::NONE;
    while let Some((&[kind, len], rest)) = bytes.split_first_chunk::<2>() {
        let (value, rest) = rest
            .split_at_checked(usize::from(len))
            .ok_or(Malformed::Option)?;
        if kind == CREDENTIAL {
            credential = Credential::new(value).ok_or(Malformed::Credential)?;
        }
        bytes = rest;
    }
    if bytes.is_empty() {
        Ok(credential)
    } else {
        Err(Malformed::Option)
    }
}

/// Writes the credential, if there is one.
pub(crate) fn write(credential: &Credential, to: &mut Writer<'_>) {
    if credential.len > 0 {
        to.u8(CREDENTIAL)
            .u8(credential.len)
            .bytes(credential.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_options_are_skipped() {
        let credential = read(&[9, 2, 0, 0, 1, 3, b'k', b'e', b'y', 200, 0]).unwrap();
        assert_eq!(credential.as_bytes(), b"key");
    }

    #[test]
    fn broken_options_have_their_reason() {
        assert_eq!(read(&[9]), Err(Malformed::Option));
        assert_eq!(read(&[9, 1]), Err(Malformed::Option));
        let mut long = vec![1, 65];
        long.extend([0; 65]);
        assert_eq!(read(&long), Err(Malformed::Credential));
        long[1] = 64;
        long.pop();
        assert!(read(&long).is_ok());
    }

    #[test]
    fn a_credential_of_65_bytes_is_none() {
        assert!(Credential::new(&[1; 65]).is_none());
        assert!(Credential::new(&[1; 64]).is_some());
    }
}
