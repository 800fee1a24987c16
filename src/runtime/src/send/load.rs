//! The datagrams of one batch, side by side, each with room for its trailer.
//!
//! ```text
//!   bytes   body 0 | room | body 1 | room | …        ranges   one a datagram, room included
//! ```
//! Promises: at most [`BATCH`] datagrams; nothing is allocated once it has grown.
//! Is not the order in which loads leave (`queue`), nor what is in a trailer (`wire`).

use std::ops::Range;

use flexcast_wire::TRAILER_LEN;

/// Datagrams sent as one batch: what one super-packet holds at most.
pub(super) const BATCH: usize = 44;
/// A buffer above this is given back after use, and no further datagram is put into one
/// that would become longer.
const KEPT: usize = 256 * 1024;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Load {
    bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Load {
    /// Whether these datagrams may come too, where it may have at most `most`. An empty
    /// load takes any one.
    pub(super) fn has_room(&self, datagrams: &[&[&[u8]]], most: usize) -> bool {
        let each = |parts: &&[&[u8]]| length(parts) + TRAILER_LEN;
        let bytes: usize = datagrams.iter().map(each).sum();
        self.len() + datagrams.len() <= most.min(BATCH)
            && (self.bytes.len() + bytes <= KEPT || self.len() + datagrams.len() == 1)
    }

    /// Puts one more in, given in parts.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.extend_from_slice(&[0; TRAILER_LEN]);
        self.ranges.push(start..self.bytes.len());
    }

    /// Puts one in that has its trailer, given in parts.
    pub(super) fn push_whole(&mut self, parts: &[&[u8]]) {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.ranges.push(start..self.bytes.len());
    }

    /// Takes out what is not to be kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        let bytes = &self.bytes;
        self.ranges.retain(|range| keep(&bytes[range.clone()]));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ranges.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Writes the trailer of each datagram, which `trailer` is asked for in order; stops
    /// where there is none, and says so.
    pub(super) fn stamp(
        &mut self,
        mut trailer: impl FnMut(usize) -> Option<[u8; TRAILER_LEN]>,
    ) -> bool {
        for range in &self.ranges {
            let Some(bytes) = trailer(range.len()) else {
                return false;
            };
            self.bytes[range.end - TRAILER_LEN..range.end].copy_from_slice(&bytes);
        }
        true
    }

    /// The datagrams as they leave.
    pub(super) fn whole(&self) -> impl Iterator<Item = &[u8]> {
        self.ranges.iter().map(|range| &self.bytes[range.clone()])
    }

    /// The datagrams as they were put in.
    pub(super) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.whole()
            .map(|bytes| &bytes[..bytes.len() - TRAILER_LEN])
    }
}

/// Of a datagram given in parts.
pub(super) fn length(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_come_back_and_trailers_stand_behind_them() {
        let mut load = Load::default();
        load.push(&[b"ab", b"c"]);
        load.push(&[]);
        let bodies: Vec<&[u8]> = load.bodies().collect();
        assert_eq!(bodies, [&b"abc"[..], b""]);
        let mut n = 0;
        let mut lengths = Vec::new();
        assert!(load.stamp(|length| {
            n += 1;
            lengths.push(length);
            Some([n; TRAILER_LEN])
        }));
        assert_eq!(lengths, [3 + TRAILER_LEN, TRAILER_LEN]);
        let whole: Vec<&[u8]> = load.whole().collect();
        assert_eq!(whole[0], [&b"abc"[..], &[1; TRAILER_LEN]].concat());
        assert_eq!(whole[1], [2; TRAILER_LEN]);
        assert!(!load.stamp(|_| None));
    }

    #[test]
    fn whole_ones_go_as_they_came_and_those_taken_out_do_not() {
        let mut load = Load::default();
        load.push_whole(&[b"a", b"b"]);
        load.push_whole(&[b"out"]);
        load.push_whole(&[b"c"]);
        load.retain(|whole| whole != b"out");
        let whole: Vec<&[u8]> = load.whole().collect();
        assert_eq!(whole, [&b"ab"[..], b"c"]);
        assert_eq!(load.len(), 2);
    }

    #[test]
    fn it_is_full_at_a_super_packet_and_at_what_a_buffer_keeps() {
        let mut load = Load::default();
        let room = |load: &Load, body: &[u8], most| load.has_room(&[&[body]], most);
        for n in 0..BATCH {
            assert!(room(&load, b".", usize::MAX) && !room(&load, b".", n));
            load.push(&[b"."]);
        }
        assert!(!room(&load, b".", usize::MAX));
        load.clear();
        let long = vec![0; KEPT];
        assert!(room(&load, &long, 1), "an empty one takes whatever comes");
        load.push(&[&long[..KEPT / 2]]);
        let left = KEPT / 2 - 2 * TRAILER_LEN;
        assert!(room(&load, &long[..left], BATCH));
        assert!(!room(&load, &long[..left + 1], BATCH));
        load.push(&[&long]);
        load.clear();
        assert!(load.bytes.capacity() <= KEPT, "given back");
    }
}
