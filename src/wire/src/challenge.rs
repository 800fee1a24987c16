//! Challenge: "echo this cookie, and I will believe your address".
//!
//! ```text
//!  48    cookie, 16 bytes
//! ```
//! Never longer than a request (80 bytes against at least 160): an unvalidated
//! address gets no more out than came in.

use crate::field::{Reader, Writer};
use crate::{option, Cookie, Malformed};

/// The cookie to echo; the node that wants it stands in the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// What to echo.
    pub cookie: Cookie,
}

impl Challenge {
    pub(crate) fn read(mut from: Reader<'_>) -> Result<Challenge, Malformed> {
        let cookie = from.array()?;
        option::read(from.rest())?;
        Ok(Challenge { cookie })
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        to.bytes(&self.cookie);
    }
}
