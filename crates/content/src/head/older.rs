//! Entries that a head only names: the older ones, moved out into chunks so that it stays short.

use cove_types::Digest;
use serde::{Deserialize, Serialize};

use super::{ENTRIES_IN_HEAD_MAX, HEAD_BYTES_MAX, Head};
use crate::DecodeError;
use crate::chunk::CHUNK_BYTES_MAX;
use crate::entry::{ENTRIES_MAX, EntryRecord};
use crate::json;
use crate::locations::PACKS_MAX;

/// A head moves entries out that would be longer than this if it named as many packs as it may: so
/// the commit that is being made, and those that only list packs, have room for their places.
const HEAD_BYTES_SPILL: usize = HEAD_BYTES_MAX - (1 << 9);
/// What is moved out then leaves room for some five entries: else each snapshot would write the chunk
/// of the older ones again.
const HEAD_BYTES_SPILLED: usize = HEAD_BYTES_SPILL - (5 << 9);
/// The place of a pack in a head, in bytes of JSON: its id, its length, that of its footer.
const PACK_PLACE_BYTES: usize = 64;

/// How many entries stay in the head at most when some are moved out.
const ENTRIES_IN_HEAD_SPILLED: usize = 8;

/// Where the older entries are: a chunk of canonical JSON, an array, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Older {
    /// The chunk.
    pub digest: Digest,
    /// How many entries it holds.
    pub count: u32,
}

/// What could be had of the entries that a head only names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OlderEntries {
    /// Those of the lists that could be read, the newest first.
    pub entries: Vec<EntryRecord>,
    /// The lists that are lost or damaged, the newest first.
    pub unread: Vec<Older>,
}

impl OlderEntries {
    /// How many entries these are, those that nobody can read included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len() + count_of(&self.unread)
    }
}

/// How many entries lists hold.
pub(super) fn count_of<'a>(lists: impl IntoIterator<Item = &'a Older>) -> usize {
    let count = |list: &Older| usize::try_from(list.count).unwrap_or(usize::MAX);
    lists.into_iter().map(count).fold(0, usize::saturating_add)
}

impl Head {
    /// The lists of entries that the head only names, the newest first.
    pub fn lists(&self) -> impl Iterator<Item = &Older> {
        self.older.iter().chain(&self.unread)
    }

    /// Reads a chunk of older entries, one of those that `list` is.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is not what [`spill`](Self::spill) wrote, or does not hold as many
    /// as the head says.
    pub fn decode_list(list: &Older, chunk: &[u8]) -> Result<Vec<EntryRecord>, DecodeError> {
        let entries = Self::decode_older(chunk)?;
        if entries.len() != count_of([list]) {
            let reason = format!("it has {} entries, the head says {}", entries.len(), list.count);
            return Err(DecodeError::damaged("list of older entries", reason));
        }
        Ok(entries)
    }

    /// Reads a chunk of older entries.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is not what [`spill`](Self::spill) wrote.
    pub fn decode_older(chunk: &[u8]) -> Result<Vec<EntryRecord>, DecodeError> {
        const WHAT: &str = "list of older entries";
        if chunk.len() > usize::try_from(CHUNK_BYTES_MAX).unwrap_or(usize::MAX) {
            return Err(DecodeError::damaged(WHAT, "it has more than 1 MiB"));
        }
        let entries: Vec<EntryRecord> = serde_json::from_slice(chunk)
            .map_err(|error| DecodeError::damaged(WHAT, error.to_string()))?;
        if entries.len() > ENTRIES_MAX {
            return Err(DecodeError::damaged(WHAT, "it has more than 256 entries"));
        }
        entries.iter().try_for_each(EntryRecord::check)?;
        if json::canonical(&entries) != chunk {
            return Err(DecodeError::damaged(WHAT, "it is not canonical JSON"));
        }
        Ok(entries)
    }

    /// This head with all entries in it that can be read: `older` are those of the lists that it
    /// names. It goes on naming the others.
    ///
    /// Whatever looks at all entries (a label, an entry that is not among the newest)
    /// needs such a head; [`spill`](Self::spill) makes it short again. Nothing counts as a
    /// change.
    ///
    /// An entry of a list that was away may meet one that came meanwhile: of two with one id the
    /// newer is kept, and of two live ones with one label the newer keeps the label.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when these are not as many as the head says.
    pub fn join(&self, older: &OlderEntries) -> Result<Self, DecodeError> {
        let count = count_of(self.lists());
        if older.count() != count {
            let reason = format!("it has {} entries, the head says {count}", older.count());
            return Err(DecodeError::damaged("list of older entries", reason));
        }
        let mut joined = self.clone();
        joined.older = None;
        joined.unread.clone_from(&older.unread);
        for entry in &older.entries {
            if joined.find_entry(&entry.id).is_some() {
                continue;
            }
            let mut entry = entry.clone();
            let same = |other: &EntryRecord| other.is_live() && other.label == entry.label;
            if entry.is_live() && entry.label.is_some() && joined.entries.iter().any(same) {
                entry.label = None;
            }
            joined.entries.push(entry);
        }
        Ok(joined)
    }

    /// Takes out again what [`join`](Self::join) put in: when the last entries are just those of the
    /// list that the head `named` before, it names this list as before, and no chunk is to be
    /// written. When a transition changed one of them, all stay for [`spill`](Self::spill).
    ///
    /// Gives the entries that the head only names then. Costs the digest of at most 256 entries.
    #[must_use]
    pub fn name_again(&mut self, named: Option<&Older>) -> OlderEntries {
        let mut older = OlderEntries { entries: Vec::new(), unread: self.unread.clone() };
        if let (None, Some(named)) = (self.older, named)
            && let Some(kept) = self.entries.len().checked_sub(count_of([named]))
            && Digest::of(&json::canonical(&&self.entries[kept..])) == named.digest
        {
            older.entries = self.entries.split_off(kept);
            self.older = Some(*named);
        }
        older
    }

    /// Whether entries are to be moved out before the head is written.
    #[must_use]
    pub fn needs_spill(&self) -> bool {
        self.entries.len() > ENTRIES_IN_HEAD_MAX
            || (!self.entries.is_empty() && self.bytes_with_all_packs() > HEAD_BYTES_SPILL)
    }

    /// Its length if it named as many packs as it may.
    fn bytes_with_all_packs(&self) -> usize {
        let more = PACKS_MAX.saturating_sub(self.locations.packs.len());
        self.record().len() + more * PACK_PLACE_BYTES
    }

    /// Moves the oldest entries out of a head that would be too long, in front of
    /// `older`, those of the lists that it names (empty when it names none). A list that could not
    /// be read is named beside the new one.
    ///
    /// Gives the chunk that is to be stored before the head, and which the head then
    /// names; nothing when all fits. It is asked before the packs of a commit are
    /// finished, because the chunk goes into one of them.
    #[must_use]
    pub fn spill(&mut self, older: OlderEntries) -> Option<Vec<u8>> {
        if !self.needs_spill() {
            return None;
        }
        let mut kept = self.entries.len().min(ENTRIES_IN_HEAD_SPILLED);
        let mut entries = std::mem::take(&mut self.entries);
        entries.extend(older.entries);
        self.unread = older.unread;
        loop {
            let moved = &entries[kept..];
            let chunk = json::canonical(&moved);
            let count = u32::try_from(moved.len()).unwrap_or(u32::MAX);
            self.older = Some(Older { digest: Digest::of(&chunk), count });
            self.entries = entries[..kept].to_vec();
            if kept == 0 || self.bytes_with_all_packs() <= HEAD_BYTES_SPILLED {
                return Some(chunk);
            }
            kept -= 1;
        }
    }
}
