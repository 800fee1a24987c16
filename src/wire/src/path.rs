//! The path from S: node ids, nearest to S first. Fixed in size, so reading a
//! status never allocates. Is not a route: only who passed the status on.

use std::fmt;

use crate::field::{Reader, Writer};
use crate::{Malformed, NodeId};

/// The longest path, equal to the first hop budget.
pub const MAX_HOPS: usize = 32;

/// Node ids from S down to the writer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Path {
    len: u8,
    ids: [NodeId; MAX_HOPS],
}

impl Path {
    /// No node yet.
    pub const EMPTY: Path = Path {
        len: 0,
        ids: [NodeId::NONE; MAX_HOPS],
    };

    /// The nodes, nearest to S first.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.ids[..usize::from(self.len)]
    }

    /// Whether `node` stands in it (a loop, where it is our own).
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes().contains(&node)
    }

    /// The path one node longer; none when it is full.
    #[must_use]
    pub fn with(&self, node: NodeId) -> Option<Path> {
        let mut longer = *self;
        *longer.ids.get_mut(usize::from(self.len))? = node;
        longer.len += 1;
        Some(longer)
    }

    pub(crate) fn read(len: u8, from: &mut Reader<'_>) -> Result<Path, Malformed> {
        if usize::from(len) > MAX_HOPS {
            return Err(Malformed::Path);
        }
        let mut path = Path::EMPTY;
        for _ in 0..len {
            let node = NodeId(from.u64()?);
            if !node.is_some() {
                return Err(Malformed::Path);
            }
            path = path.with(node).ok_or(Malformed::Path)?;
        }
        Ok(path)
    }

    pub(crate) fn len_on_wire(&self) -> u8 {
        self.len
    }

    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        for node in self.nodes() {
            to.u64(node.0);
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_path_takes_no_further_node() {
        let mut path = Path::EMPTY;
        for n in 1..=32 {
            path = path.with(NodeId(n)).unwrap();
        }
        assert!(path.contains(NodeId(32)));
        assert!(!path.contains(NodeId(33)));
        assert_eq!(path.with(NodeId(33)), None);
    }
}
