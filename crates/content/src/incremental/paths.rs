//! Where the old paths are in the new tree.

use std::collections::{BTreeMap, BTreeSet};

use cove_btrfs::Changes;
use cove_types::{DEPTH_MAX, PATH_BYTES_MAX, TreePath};

use super::{IncrementalError, full};

/// The prefixes of a path that are whole names, longest first: itself, its parent, and so on,
/// without the top.
pub(super) fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path).filter(|path| !path.is_empty()), |path| {
        path.iter().rposition(|b| *b == b'/').map(|end| &path[..end])
    })
}

/// The longest prefix of a path that a tree can hold, when not all of it is.
///
/// What is beyond the limits is left out at once: to try each prefix of each path takes the cube of
/// the depth, which no limit bounds for what lies on a disk.
pub(super) fn cut(path: &[u8]) -> TreePath {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    let within = ends.take(DEPTH_MAX).take_while(|end| *end <= PATH_BYTES_MAX).last();
    let names = path.split(|byte| *byte == b'/').count();
    let is_within = names <= DEPTH_MAX && path.len() <= PATH_BYTES_MAX;
    let path = if is_within { path } else { &path[..within.unwrap_or(0)] };
    prefixes(path).find_map(|prefix| TreePath::from_bytes(prefix).ok()).unwrap_or_default()
}

/// Where old paths are now.
pub(super) struct Paths {
    pub(super) gone: BTreeSet<Vec<u8>>,
    pub(super) moved: BTreeMap<Vec<u8>, Vec<u8>>,
    moved_back: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Paths {
    pub(super) fn of(changes: &Changes) -> Result<Self, IncrementalError> {
        let gone: BTreeSet<Vec<u8>> = changes.gone.iter().cloned().collect();
        let moved: BTreeMap<Vec<u8>, Vec<u8>> = changes.moved.iter().cloned().collect();
        let moved_back: BTreeMap<Vec<u8>, Vec<u8>> =
            moved.iter().map(|(old, new)| (new.clone(), old.clone())).collect();
        let is_whole = moved.len() == changes.moved.len()
            && moved_back.len() == changes.moved.len()
            && moved.keys().all(|old| gone.contains(old))
            && !gone.contains(&[][..])
            && !moved_back.contains_key(&[][..]);
        match is_whole {
            true => Ok(Self { gone, moved, moved_back }),
            false => full("the list of what moved contradicts itself"),
        }
    }

    /// Where what was at `old` is now; `None` when it is nowhere.
    pub(super) fn now(&self, old: &[u8]) -> Option<Vec<u8>> {
        match prefixes(old).find(|prefix| self.gone.contains(*prefix)) {
            None => Some(old.to_vec()),
            Some(prefix) => {
                let new = self.moved.get(prefix)?;
                Some([new.as_slice(), &old[prefix.len()..]].concat())
            }
        }
    }

    /// Where what is at `new` would have been, whether the old tree had it or not.
    pub(super) fn before(&self, new: &[u8]) -> Option<Vec<u8>> {
        prefixes(new)
            .filter_map(|prefix| {
                let old = self.moved_back.get(prefix)?;
                Some([old.as_slice(), &new[prefix.len()..]].concat())
            })
            .chain([new.to_vec()])
            .find(|old| self.now(old).as_deref() == Some(new))
    }
}
