//! Sequence numbers: 32 bits that wrap, compared as RFC 1982 says.
//!
//! Is not an ordering in Rust's sense (`Ord` would lie after 2^31).

/// A datagram's or a control message's sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Sequence(pub u32);

impl Sequence {
    /// The number `n` further on.
    #[must_use]
    pub fn plus(self, n: u32) -> Sequence {
        Sequence(self.0.wrapping_add(n))
    }

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Sequence {
        self.plus(1)
    }

    /// How far `self` is ahead of `other`; negative when behind. Exactly 2^31
    /// apart (undefined in RFC 1982) counts as behind.
    #[must_use]
    #[allow(clippy::cast_possible_wrap)] // two's complement is the point
    pub fn ahead_of(self, other: Sequence) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Strictly newer than `other`.
    #[must_use]
    pub fn newer_than(self, other: Sequence) -> bool {
        self.ahead_of(other) > 0
    }

    /// At `other` or past it.
    #[must_use]
    pub fn reaches(self, other: Sequence) -> bool {
        self.ahead_of(other) >= 0
    }

    /// The newer of two.
    #[must_use]
    pub fn later(self, other: Sequence) -> Sequence {
        if self.newer_than(other) {
            self
        } else {
            other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_holds_across_the_wrap() {
        assert!(Sequence(3).newer_than(Sequence(u32::MAX - 2)));
        assert!(!Sequence(u32::MAX).newer_than(Sequence(0)));
        assert_eq!(Sequence(u32::MAX).later(Sequence(1)), Sequence(1));
        assert_eq!(Sequence(u32::MAX).next(), Sequence(0));
    }

    #[test]
    fn a_number_reaches_itself_but_is_not_newer() {
        assert!(Sequence(9).reaches(Sequence(9)));
        assert!(!Sequence(9).newer_than(Sequence(9)));
    }
}
