//! One volume in memory, with its entries.

use cove_content::document::ProjectDocument;
use cove_content::entry::{ENTRIES_MAX, EntryRecord};
use cove_content::retention::roll_off;
use cove_content::spec::VolumeSpec;
use cove_content::volumes::{NewEntry, VolumeError};
use cove_types::{Consistency, EntryId, EntryState};

use super::tree::Tree;

/// One volume.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    pub(super) document: ProjectDocument,
    pub(super) spec: VolumeSpec,
    pub(super) tree: Tree,
    pub(super) entries: Vec<(EntryRecord, Tree)>,
    pub(super) seq: u32,
    pub(super) trashed_at: Option<jiff::Timestamp>,
    pub(super) saved_at: Option<jiff::Timestamp>,
    /// How many of the oldest entries nobody can read.
    pub(super) unread: usize,
}

impl Volume {
    pub(super) fn new(document: ProjectDocument, spec: VolumeSpec, tree: Tree) -> Self {
        let (entries, trashed_at, saved_at) = (Vec::new(), None, None);
        Self { document, spec, tree, entries, seq: 1, trashed_at, saved_at, unread: 0 }
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &EntryRecord> {
        self.entries.iter().map(|(record, _)| record).filter(|record| record.is_live())
    }

    pub(super) fn held(&self, entry: EntryId) -> Result<&Tree, VolumeError> {
        let found = self.entries.iter().find(|(record, _)| record.id == entry);
        found.map(|(_, tree)| tree).ok_or(VolumeError::NoEntry { entry })
    }

    pub(super) fn record(&mut self, entry: EntryId) -> Result<&mut EntryRecord, VolumeError> {
        let found = self.entries.iter_mut().find(|(record, _)| record.id == entry);
        found.map(|(record, _)| record).ok_or(VolumeError::NoEntry { entry })
    }

    /// Adds an entry of the present state and gives what rolled off.
    pub(super) fn add(
        &mut self,
        id: EntryId,
        entry: NewEntry,
        at: jiff::Timestamp,
    ) -> Result<Vec<EntryId>, VolumeError> {
        self.free_label(entry.label.as_ref(), id)?;
        let record = EntryRecord {
            id,
            kind: entry.kind,
            author: entry.author,
            cause: None,
            message: entry.message,
            label: entry.label,
            pinned: false,
            time: at,
            captured_ms: 4,
            saved_ms: None,
            consistency: Consistency::Instant,
            state: EntryState::Live,
            trashed_at: None,
            volume_snapshot: None,
            quota_bytes: None,
            root: self.tree.root(),
            unknown: serde_json::Map::new(),
        };
        let live: Vec<EntryRecord> = self.live().cloned().collect();
        let gone = roll_off(&live, entry.keep, &record, &[]);
        for id in &gone {
            let record = self.record(*id)?;
            record.state = EntryState::Trashed;
            record.trashed_at = Some(at);
        }
        // What rolled off makes room, so nothing was changed when there is none.
        self.make_room()?;
        self.entries.push((record, self.tree.clone()));
        self.seq += 1;
        self.saved_at = None;
        Ok(gone)
    }

    /// Forgets the entry that is longest in the trash when there is no room for another.
    fn make_room(&mut self) -> Result<(), VolumeError> {
        if self.entries.len() < ENTRIES_MAX {
            return Ok(());
        }
        let trashed = self.entries.iter().enumerate().filter(|(_, (record, _))| !record.is_live());
        let oldest = trashed.min_by_key(|(_, (record, _))| record.trashed_at).map(|(at, _)| at);
        self.entries.remove(oldest.ok_or(VolumeError::TooManyEntries)?);
        Ok(())
    }

    pub(super) fn free_label(
        &self,
        label: Option<&cove_types::Label>,
        id: EntryId,
    ) -> Result<(), VolumeError> {
        let Some(label) = label else { return Ok(()) };
        let holder = self.live().find(|record| record.label.as_ref() == Some(label));
        match holder.filter(|record| record.id != id) {
            Some(record) => Err(VolumeError::LabelTaken { label: label.clone(), entry: record.id }),
            None => Ok(()),
        }
    }
}
