//! Netlink attributes: type, length, value, padded to four bytes, nestable.
//!
//! ```text
//!   0   u16 length, header included      2   u16 type (bit 15: nested)
//!   4   value                            then zeros up to a multiple of 4
//! ```
//! Promises: writing cannot fail for the sizes used here (a message stays below
//! 8 KiB, names below 64 bytes); reading stops at the first malformed one.
//! Numbers are big-endian, as nf_tables wants them (`include/net/netlink.h`).

const HEADER: usize = 4;
const NESTED: u16 = 1 << 15;
const TYPE_MASK: u16 = 0x3FFF;

/// A growing run of attributes.
#[derive(Clone, Default, Debug)]
pub(super) struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(HEADER + value.len()).expect("an attribute below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn u64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A string with its terminating zero.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut with_end = value.as_bytes().to_vec();
        with_end.push(0);
        self.bytes(kind, &with_end)
    }

    pub(super) fn nested(self, kind: u16, inner: &Attributes) -> Self {
        self.bytes(kind | NESTED, &inner.bytes)
    }
}

/// The attributes of a message, in order: type without flags, value.
pub(super) fn read(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & TYPE_MASK;
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The first attribute of this type.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes)
        .find(|&(k, _)| k == kind)
        .map(|(_, value)| value)
}

/// A string without its terminating zero.
pub(super) fn text(value: &[u8]) -> &str {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or("")
}

/// A big-endian number of up to eight bytes.
pub(super) fn number(value: &[u8]) -> u64 {
    value
        .iter()
        .take(8)
        .fold(0, |sum, &b| sum << 8 | u64::from(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let inner = Attributes::new().text(1, "abc").u32(2, 0x0102_0304);
        let outer = Attributes::new().nested(7, &inner).u64(8, 60_000);
        let nested = find(outer.as_bytes(), 7).expect("the nested one");
        assert_eq!(text(find(nested, 1).unwrap()), "abc");
        assert_eq!(number(find(nested, 2).unwrap()), 0x0102_0304);
        assert_eq!(number(find(outer.as_bytes(), 8).unwrap()), 60_000);
        assert_eq!(find(outer.as_bytes(), 9), None);
    }

    #[test]
    fn a_value_is_padded_to_four_bytes() {
        let bytes = Attributes::new().bytes(3, &[0xAA]).bytes(4, &[]);
        let [low, high] = 5u16.to_ne_bytes();
        assert_eq!(bytes.as_bytes()[..2], [low, high]);
        assert_eq!(bytes.as_bytes()[4..8], [0xAA, 0, 0, 0]);
        assert_eq!(bytes.as_bytes().len(), 12);
    }

    #[test]
    fn a_length_that_lies_ends_the_reading() {
        for length in [0u16, 3, 9, u16::MAX] {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0]);
            assert_eq!(read(&bytes).count(), 0, "length {length}");
        }
    }
}
