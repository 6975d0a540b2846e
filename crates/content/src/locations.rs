//! Where the chunks of a volume lie: indexes, and the packs that are younger.
//!
//! One set serves the present state and every entry. It may list more than is
//! needed, never less, and is part of no digest: gathering and merging change
//! the head and nothing else.

use cove_types::{IndexId, PackId};
use serde::{Deserialize, Serialize};

use crate::DecodeError;
use crate::pack::{PACK_BYTES_MAX, TRAILER_BYTES};

/// The most indexes that a head names; each is a cached table more to ask for a digest. Damaged
/// ones, which no other can take in, come on top once they leave fewer than
/// `WHOLE_INDEXES_MIN` to the others.
pub const INDEXES_MAX: usize = 8;

/// How many indexes that are whole a head may name, however many are damaged. With one alone each
/// gathering would write every row of the volume again.
const WHOLE_INDEXES_MIN: usize = 4;

/// The most packs that a head names beside its indexes; with 64 they take 4 KiB of it. Damaged
/// ones, which no index can cover, come on top once they leave fewer than `GATHERED_PACKS_MIN`
/// to the others.
pub const PACKS_MAX: usize = 64;

/// How few packs are gathered, so that many damaged ones do not make each save write an index.
const GATHERED_PACKS_MIN: usize = 16;

/// The most indexes and packs of a head that is read: more than have room in a head that is
/// written, which is the limit when many are damaged.
const INDEXES_READ_MAX: usize = 256;
const PACKS_READ_MAX: usize = 1024;

/// A pack below this is gathered with others when an index is written.
pub const GATHERED_PACK_BYTES: u64 = 4 << 20;

/// An index object. In JSON `[id, bytes, rows, table bytes]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(IndexId, u64, u64, u32)", into = "(IndexId, u64, u64, u32)")]
pub struct IndexRef {
    /// Its name.
    pub id: IndexId,
    /// Its length.
    pub bytes: u64,
    /// How many chunks it places.
    pub rows: u64,
    /// The bytes of its tables, at its end: one range read brings all that is
    /// needed to find the page of a digest.
    pub table_bytes: u32,
}

/// A pack. In JSON `[id, bytes, footer bytes]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(PackId, u64, u32)", into = "(PackId, u64, u32)")]
pub struct PackRef {
    /// Its name.
    pub id: PackId,
    /// Its length.
    pub bytes: u64,
    /// The bytes of its footer, at its end.
    pub footer_bytes: u32,
}

impl PackRef {
    /// The most chunks that its footer can place.
    fn rows_max(&self) -> u64 {
        u64::from(self.footer_bytes.saturating_sub(TRAILER_BYTES)) / 48
    }
}

impl From<(IndexId, u64, u64, u32)> for IndexRef {
    fn from((id, bytes, rows, table_bytes): (IndexId, u64, u64, u32)) -> Self {
        Self { id, bytes, rows, table_bytes }
    }
}

impl From<IndexRef> for (IndexId, u64, u64, u32) {
    fn from(index: IndexRef) -> Self {
        (index.id, index.bytes, index.rows, index.table_bytes)
    }
}

impl From<(PackId, u64, u32)> for PackRef {
    fn from((id, bytes, footer_bytes): (PackId, u64, u32)) -> Self {
        Self { id, bytes, footer_bytes }
    }
}

impl From<PackRef> for (PackId, u64, u32) {
    fn from(pack: PackRef) -> Self {
        (pack.id, pack.bytes, pack.footer_bytes)
    }
}

/// The set of locations of a volume.
///
/// Invariant, kept by [`check`](Self::check) when a head is read or written: no id twice. Gathering
/// keeps it at [`INDEXES_MAX`] indexes and [`PACKS_MAX`] packs, as long as not many are damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locations {
    /// The indexes, in no order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<IndexRef>,
    /// The packs that are in none of the indexes, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PackRef>,
}

impl Locations {
    /// Refuses a set that no head may name.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Damaged`] that says why.
    pub fn check(&self) -> Result<(), DecodeError> {
        let damaged = |reason: &str| Err(DecodeError::damaged("set of locations", reason));
        if self.indexes.len() > INDEXES_READ_MAX {
            return damaged("it has more than 256 indexes");
        }
        if self.packs.len() > PACKS_READ_MAX {
            return damaged("it has more than 1,024 packs");
        }
        let twice = |n: usize, same: &dyn Fn(usize, usize) -> bool| {
            (0..n).any(|a| (0..a).any(|b| same(a, b)))
        };
        if twice(self.packs.len(), &|a, b| self.packs[a].id == self.packs[b].id)
            || twice(self.indexes.len(), &|a, b| self.indexes[a].id == self.indexes[b].id)
        {
            return damaged("it names an object twice");
        }
        if self.packs.iter().any(|pack| {
            pack.bytes > PACK_BYTES_MAX
                || u64::from(pack.footer_bytes) >= pack.bytes
                || pack.footer_bytes < TRAILER_BYTES
        }) {
            return damaged("the length of a pack is unlawful");
        }
        Ok(())
    }

    /// Adds what `other` names and this does not.
    pub fn add(&mut self, other: &Self) {
        for index in &other.indexes {
            if self.indexes.iter().all(|mine| mine.id != index.id) {
                self.indexes.push(*index);
            }
        }
        for pack in &other.packs {
            if self.packs.iter().all(|mine| mine.id != pack.id) {
                self.packs.push(*pack);
            }
        }
    }

    /// Puts `written`, the index that came of `plan`, in the place of all that it covers.
    #[must_use]
    pub fn gathered(&self, plan: &GatherPlan, written: IndexRef) -> Self {
        let covered = |pack: &PackRef| {
            plan.rewrite.iter().chain(&plan.index).any(|of_plan| of_plan.id == pack.id)
        };
        let mut indexes: Vec<_> = self
            .indexes
            .iter()
            .filter(|index| plan.merge.iter().all(|of_plan| of_plan.id != index.id))
            .copied()
            .collect();
        indexes.push(written);
        let packs = self.packs.iter().filter(|pack| !covered(pack)).copied().collect();
        Self { indexes, packs }
    }
}

/// What is to be written so that a head stays small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatherPlan {
    /// Small packs, whose frames are copied into as few packs as hold them; nothing
    /// is compressed anew.
    pub rewrite: Vec<PackRef>,
    /// Packs that stay as they are.
    pub index: Vec<PackRef>,
    /// Indexes that the new one takes in.
    pub merge: Vec<IndexRef>,
}

/// What cannot be gathered, because it is lost or damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damaged {
    /// Packs whose footers are not known.
    pub packs: Vec<PackId>,
    /// Indexes that cannot be taken in.
    pub indexes: Vec<IndexId>,
}

/// What to gather: nothing below [`PACKS_MAX`] packs; then all of them go under one
/// new index, the small ones (when there are two or more) rewritten together first. What is
/// `damaged` stays where it is; when it leaves few others, these are gathered once there are
/// `GATHERED_PACKS_MIN`.
///
/// Indexes are merged like a log-structured tree: the new one takes in, from the
/// smallest on, each that is at most twice as long as what it holds by then, and
/// as many more as leave [`INDEXES_MAX`], or `WHOLE_INDEXES_MIN` beside the damaged ones. So each row is written about log₃ times
/// as the volume grows.
///
/// A set with more packs than a head may name (a long session's) is planned alike.
#[must_use]
pub fn plan_gather(locations: &Locations, damaged: &Damaged) -> Option<GatherPlan> {
    if locations.packs.len() < PACKS_MAX {
        return None;
    }
    let whole = locations.packs.iter().filter(|pack| !damaged.packs.contains(&pack.id)).copied();
    let (mut rewrite, mut index): (Vec<PackRef>, Vec<PackRef>) =
        whole.partition(|pack| pack.bytes < GATHERED_PACK_BYTES);
    let is_damaged = |pack: &PackRef| damaged.packs.contains(&pack.id);
    let has_damaged = locations.packs.iter().any(is_damaged);
    if has_damaged && rewrite.len() + index.len() < GATHERED_PACKS_MIN {
        return None;
    }
    if rewrite.len() == 1 {
        index.append(&mut rewrite);
    }
    let mut rows: u64 = rewrite.iter().chain(&index).map(PackRef::rows_max).sum();
    let mut by_rows: Vec<IndexRef> = locations
        .indexes
        .iter()
        .filter(|index| !damaged.indexes.contains(&index.id))
        .copied()
        .collect();
    by_rows.sort_by_key(|index| (index.rows, index.id));
    let beside = locations.indexes.len() - by_rows.len();
    let whole_max = INDEXES_MAX.saturating_sub(beside).max(WHOLE_INDEXES_MIN);
    let merged = by_rows
        .iter()
        .enumerate()
        .take_while(|(n, index)| {
            let taken_in =
                index.rows <= rows.saturating_mul(2) || by_rows.len() - n + 1 > whole_max;
            rows = rows.saturating_add(index.rows);
            taken_in
        })
        .count();
    by_rows.truncate(merged);
    Some(GatherPlan { rewrite, index, merge: by_rows })
}

#[cfg(test)]
mod tests;
