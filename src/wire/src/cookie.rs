//! Cookies as they travel: 16 opaque bytes, stamped with the node that made them.
//!
//! Is not how they are made or checked (crate `engine`, `cookie`).

use crate::field::{Reader, Writer};
use crate::{Malformed, NodeId};

/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 16;

/// What a node makes a requester echo before it gives it anything.
pub type Cookie = [u8; COOKIE_LEN];

/// A cookie and the node that it came from; node 0 and zeros stand for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CookieStamp {
    /// Who made it.
    pub node: NodeId,
    /// What it made.
    pub cookie: Cookie,
}

impl CookieStamp {
    /// Bytes on the wire.
    pub(crate) const LEN: usize = 8 + COOKIE_LEN;

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<CookieStamp, Malformed> {
        Ok(CookieStamp {
            node: NodeId(from.u64()?),
            cookie: from.array()?,
        })
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        to.u64(self.node.0).bytes(&self.cookie);
    }
}
