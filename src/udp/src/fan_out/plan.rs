//! The order of a fan-out: which datagrams go to whom next.
//!
//! Runs of datagrams one after the other; within a run, target after target; a
//! target that takes no super-packet gets the run's datagrams one by one.
//! Promises: pure arithmetic; every copy is planned exactly once, whatever was
//! interrupted where. Is not: sending.

/// The kernel's own limit is 64 (128 since 6.9); beyond 44 nothing is gained, and
/// 44 × 1472 bytes are just under [`MAX_BYTES`].
const MAX_SEGMENTS: usize = 44;
/// A super-packet must fit one IP packet's length field, headers included.
const MAX_BYTES: usize = 65_000;

/// A place in a fan-out, from which it can go on.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Position {
    /// First datagram of the current run.
    start: usize,
    /// Datagrams in the run; 0 where it is not formed yet.
    count: usize,
    target: usize,
    /// Datagrams of the run that this target has had one by one.
    within: usize,
    /// This target takes the run one by one.
    plain: bool,
}

impl Position {
    /// This target takes this run one by one.
    pub(super) fn plainly(self) -> Self {
        Self {
            plain: true,
            ..self
        }
    }
}

/// One message: `count` datagrams from `start` on to one target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Item {
    pub(super) start: usize,
    pub(super) count: usize,
    pub(super) target: usize,
    pub(super) after: Position,
}

/// What is to be done in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work<'a> {
    pub(super) datagrams: &'a [&'a [u8]],
    pub(super) targets: usize,
}

impl Work<'_> {
    pub(super) fn is_done(&self, at: &Position) -> bool {
        at.start >= self.datagrams.len() || self.targets == 0
    }

    /// Copies from `at` on.
    pub(super) fn left(&self, at: &Position) -> usize {
        let all = (self.datagrams.len() - at.start) * self.targets;
        all - at.target * at.count - at.within
    }

    /// `at` with its run formed.
    pub(super) fn formed(&self, at: Position, joining: bool) -> Position {
        if at.count > 0 {
            return at;
        }
        let count = if joining {
            run(&self.datagrams[at.start..])
        } else {
            1
        };
        Position { count, ..at }
    }

    /// The message at `at`, which must not be done.
    pub(super) fn item(&self, at: Position, joining: bool) -> Item {
        let at = self.formed(at, joining);
        if joining && !at.plain && at.within == 0 {
            let after = self.next_target(at);
            return Item {
                start: at.start,
                count: at.count,
                target: at.target,
                after,
            };
        }
        let within = at.within + 1;
        let after = if within < at.count {
            Position {
                within,
                plain: true,
                ..at
            }
        } else {
            self.next_target(at)
        };
        Item {
            start: at.start + at.within,
            count: 1,
            target: at.target,
            after,
        }
    }

    fn next_target(&self, at: Position) -> Position {
        if at.target + 1 < self.targets {
            return Position {
                target: at.target + 1,
                within: 0,
                plain: false,
                ..at
            };
        }
        Position {
            start: at.start + at.count,
            ..Position::default()
        }
    }
}

/// How many datagrams from the first on can share a super-packet: all of one size,
/// the last may be shorter, none empty.
fn run(datagrams: &[&[u8]]) -> usize {
    let size = datagrams.first().map_or(0, |first| first.len());
    if size == 0 {
        return 1;
    }
    let most = MAX_SEGMENTS.min(MAX_BYTES / size).max(1);
    let equal = datagrams
        .iter()
        .take(most)
        .take_while(|d| d.len() == size)
        .count();
    match datagrams.get(equal) {
        Some(shorter) if equal < most && !shorter.is_empty() && shorter.len() < size => equal + 1,
        _ => equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join_equal_sizes_and_one_shorter_at_the_end() {
        let bytes = [0; 65_507];
        let of = |sizes: &[usize]| -> usize {
            let datagrams: Vec<&[u8]> = sizes.iter().map(|size| &bytes[..*size]).collect();
            run(&datagrams)
        };
        assert_eq!(of(&[100, 100, 40, 100]), 3);
        assert_eq!(of(&[100, 100, 101]), 2);
        assert_eq!(of(&[100, 0]), 1);
        assert_eq!(of(&[0, 0]), 1);
        assert_eq!(of(&[65_507, 65_507]), 1);
        assert_eq!(of(&[1316; 60]), 44);
        assert_eq!(of(&[8000; 60]), 8);
        let mut full = vec![100; 44];
        full.push(50);
        assert_eq!(of(&full), 44);
    }

    #[test]
    fn every_copy_is_planned_once_wherever_a_target_turns_plain() {
        let bytes = [0; 100];
        let sizes = [100, 100, 100, 40, 7, 0, 7, 7];
        let datagrams: Vec<&[u8]> = sizes.iter().map(|size| &bytes[..*size]).collect();
        let work = Work {
            datagrams: &datagrams,
            targets: 3,
        };
        for turn_plain in 0..12 {
            for stop_joining in 0..12 {
                let mut seen = vec![0; datagrams.len() * 3];
                let mut at = Position::default();
                let mut steps = 0;
                let mut left = work.left(&at);
                while !work.is_done(&at) {
                    let joining = steps < stop_joining;
                    if steps == turn_plain {
                        at = work.formed(at, joining).plainly();
                    }
                    let item = work.item(at, joining);
                    assert!(joining || item.count == 1);
                    for datagram in item.start..item.start + item.count {
                        seen[datagram * 3 + item.target] += 1;
                    }
                    at = item.after;
                    assert_eq!(work.left(&at), left - item.count);
                    left -= item.count;
                    steps += 1;
                }
                assert!(
                    seen.iter().all(|times| *times == 1),
                    "{turn_plain} {stop_joining}"
                );
            }
        }
    }
}
