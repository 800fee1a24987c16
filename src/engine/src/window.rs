//! The duplicate window: which of the last 65 536 sequences were seen.
//!
//! A bitmap of 8 KiB per channel, made with its first datagram. Promises: what
//! was seen is said to be a duplicate as long as it is in the window; what is
//! older than the window is refused. Is not a reorder buffer.

use flexcast_wire::Sequence;

const SIZE: u32 = 65_536;
const WORDS: usize = 1024;

/// What the window says of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fresh {
    /// Not seen before.
    New,
    /// Seen before.
    Duplicate,
    /// Older than the window.
    TooOld,
}

/// The sequences seen under one stream token.
#[derive(Clone, Debug, Default)]
pub struct DuplicateWindow {
    bits: Option<Box<[u64; WORDS]>>,
    highest: Sequence,
    seen: u64,
    first: Sequence,
}

impl DuplicateWindow {
    /// Nothing seen.
    #[must_use]
    pub fn new() -> DuplicateWindow {
        DuplicateWindow::default()
    }

    /// Takes note of a sequence and says whether it is new.
    pub fn note(&mut self, sequence: Sequence) -> Fresh {
        let Some(bits) = &mut self.bits else {
            let mut bits = Box::new([0; WORDS]);
            set(&mut bits, sequence);
            self.bits = Some(bits);
            self.highest = sequence;
            self.first = sequence;
            self.seen = 1;
            return Fresh::New;
        };
        let ahead = sequence.ahead_of(self.highest);
        if ahead > 0 {
            let ahead = ahead.unsigned_abs();
            if ahead >= SIZE {
                bits.fill(0);
            } else {
                for n in 1..=ahead {
                    clear(bits, self.highest.plus(n));
                }
            }
            self.highest = sequence;
        } else if ahead.unsigned_abs() >= SIZE {
            return Fresh::TooOld;
        } else if is_set(bits, sequence) {
            return Fresh::Duplicate;
        }
        set(bits, sequence);
        if self.first.newer_than(sequence) {
            self.first = sequence;
        }
        self.seen += 1;
        Fresh::New
    }

    /// The highest sequence seen.
    #[must_use]
    pub fn highest(&self) -> Option<Sequence> {
        self.bits.as_ref().map(|_| self.highest)
    }

    /// Different sequences seen.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.seen
    }

    /// Sequences between the first and the highest that were not seen (for
    /// streams of fewer than 2^31 datagrams; longer ones wrap).
    #[must_use]
    pub fn lost(&self) -> u64 {
        if self.bits.is_none() {
            return 0;
        }
        let span = u64::from(self.highest.0.wrapping_sub(self.first.0)) + 1;
        span.saturating_sub(self.seen)
    }
}

fn place(sequence: Sequence) -> (usize, u64) {
    let at = sequence.0 % SIZE;
    (usize::try_from(at / 64).unwrap_or(0), 1 << (at % 64))
}

fn set(bits: &mut [u64; WORDS], sequence: Sequence) {
    let (word, bit) = place(sequence);
    bits[word] |= bit;
}

fn clear(bits: &mut [u64; WORDS], sequence: Sequence) {
    let (word, bit) = place(sequence);
    bits[word] &= !bit;
}

fn is_set(bits: &[u64; WORDS], sequence: Sequence) -> bool {
    let (word, bit) = place(sequence);
    bits[word] & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_second_copy_is_a_duplicate_across_the_wrap() {
        let mut window = DuplicateWindow::new();
        for n in [u32::MAX - 1, 1, u32::MAX, 0] {
            assert_eq!(window.note(Sequence(n)), Fresh::New);
            assert_eq!(window.note(Sequence(n)), Fresh::Duplicate);
        }
        assert_eq!(window.highest(), Some(Sequence(1)));
        assert_eq!((window.received(), window.lost()), (4, 0));
    }

    #[test]
    fn what_is_exactly_as_old_as_the_window_is_refused() {
        let mut window = DuplicateWindow::new();
        window.note(Sequence(100_000));
        assert_eq!(window.note(Sequence(100_000 - 65_536)), Fresh::TooOld);
        assert_eq!(window.note(Sequence(100_000 - 65_535)), Fresh::New);
    }

    proptest::proptest! {
        #[test]
        fn the_window_agrees_with_a_set(steps in proptest::collection::vec(-3000i32..3000, 1..400)) {
            let mut window = DuplicateWindow::new();
            let mut set = HashSet::new();
            let mut at = Sequence(5);
            for step in steps {
                at = Sequence(at.0.wrapping_add_signed(step));
                if window.highest().is_some_and(|h| h.ahead_of(at) >= 65_536) {
                    continue;
                }
                let expected = if set.insert(at) { Fresh::New } else { Fresh::Duplicate };
                proptest::prop_assert_eq!(window.note(at), expected);
            }
        }
    }
}
