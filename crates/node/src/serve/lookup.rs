//! What a call names, found or refused: volumes and their entries.

use std::sync::Arc;

use cove_content::volumes::{EntryView, Moment, VolumeError};
use cove_types::{EntryId, ErrorKind, VolumeId};

use crate::capture;
use crate::claim::Holding;
use crate::node::Node;
use crate::save::{SaveError, bring_older};
use crate::serve::waiting::{blocking, end_of};
use crate::volume::{Known, Volume};

impl Node {
    /// Refuses what would wait for a store that another Cove holds.
    pub(super) fn refuse_foreign(&self) -> Result<(), VolumeError> {
        match self.inner.holding() {
            Holding::HeldByAnother { .. } => Err(VolumeError::HeldByAnother),
            Holding::Held | Holding::Unknown { .. } => Ok(()),
        }
    }

    /// Refuses to say of what is not here that there is no such thing, where it may be in the store: another Cove holds
    /// that, or it is not known yet.
    pub(super) fn refuse_absent(&self) -> Result<(), VolumeError> {
        self.refuse_foreign()?;
        self.refuse_new_home()
    }

    /// The same of a new home whose store has not answered yet: its machine may take the place of a lost one.
    pub(super) fn refuse_new_home(&self) -> Result<(), VolumeError> {
        match self.inner.holding() {
            Holding::Unknown { why } if !self.inner.knows_its_store() => {
                Err(VolumeError::Refused {
                    kind: ErrorKind::Unavailable,
                    what: format!(
                        "the store, in which it may be, has not answered this new home yet: {why}"
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a change that would wait for a store, or for a volume, that another Cove holds.
    pub(super) fn refuse_lost(&self, volume: &Volume) -> Result<(), VolumeError> {
        self.refuse_foreign()?;
        if volume.state().fenced { Err(VolumeError::HeldByAnother) } else { Ok(()) }
    }

    /// Refuses to say anything of a volume whose head could not be read here and has not come from the store again
    /// yet: it is there, and little is known of it.
    pub(super) fn refuse_unread(&self, id: &VolumeId) -> Result<(), VolumeError> {
        if !self.inner.unread().contains(id) {
            return Ok(());
        }
        self.refuse_foreign().and(Err(not_read(id, "")))
    }

    pub(super) fn volume(&self, id: &VolumeId) -> Result<Arc<Volume>, VolumeError> {
        self.refuse_unread(id)?;
        self.inner.get_volume(id).or_else(|error| match error {
            VolumeError::NotHere { .. } => self.refuse_absent().and(Err(error)),
            _ => Err(error),
        })
    }

    /// A volume that has files: one of which only entries are left is not here.
    pub(super) fn live_volume(&self, id: &VolumeId) -> Result<Arc<Volume>, VolumeError> {
        let volume = self.volume(id)?;
        let is_deleted = volume.state().will_be_deleted();
        if is_deleted { Err(VolumeError::NotHere { volume: id.clone() }) } else { Ok(volume) }
    }

    /// What is read at a moment: of a deleted volume its entries alone.
    pub(super) fn volume_at(
        &self,
        id: &VolumeId,
        moment: &Moment,
    ) -> Result<Arc<Volume>, VolumeError> {
        match moment {
            Moment::Now => self.live_volume(id),
            Moment::Entry(_) => self.volume(id),
        }
    }

    /// Makes sure that an entry can be had: it is on this disk, saved or not, or known to be in the store.
    /// Asks the store for those that the head only names.
    pub(super) async fn usable_entry(
        &self,
        volume: &Arc<Volume>,
        entry: &EntryId,
    ) -> Result<(), VolumeError> {
        let (inner, of, wanted) = (Arc::clone(&self.inner), Arc::clone(volume), *entry);
        if blocking(move || Ok(capture::local_entry(&inner, &of, &wanted).is_some())).await? {
            return Ok(());
        }
        let end = volume.state().end_of_entry(entry);
        if let Some(end) = end {
            end_of(&self.inner, end).await?;
        }
        self.known_entry(volume, entry).await?;
        let state = volume.state();
        let missing = VolumeError::NoEntry { entry: *entry };
        state.known.as_ref().map_or(Err(missing), |known| known.get_entry(entry).map(drop))
    }

    /// Asks the store for the older entries when this one is not among those that are here.
    pub(super) async fn known_entry(
        &self,
        volume: &Arc<Volume>,
        entry: &EntryId,
    ) -> Result<(), VolumeError> {
        let is_here = || volume.state().entries().iter().any(|view| view.record.id == *entry);
        if is_here() {
            return Ok(());
        }
        self.all_entries(volume).await?;
        let known = volume.state().known.clone();
        match known {
            Some(known) if !is_here() => known.get_entry(entry).map(drop),
            _ => Ok(()),
        }
    }

    /// Asks the store for the older entries, unless they are here. What cannot be read is left out.
    pub(super) async fn all_entries(&self, volume: &Arc<Volume>) -> Result<(), VolumeError> {
        if volume.state().known.as_ref().is_none_or(Known::is_loaded) {
            return Ok(());
        }
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        self.asking(move || bring_older(&inner, &volume).map_err(SaveError::for_caller)).await
    }
}

/// What is told while it is not known again what a volume is.
pub(super) fn not_read(id: &VolumeId, so: &str) -> VolumeError {
    VolumeError::Refused {
        kind: ErrorKind::Unavailable,
        what: format!(
            "what this machine remembers of volume {id} is damaged and not read from the store again yet{so}"
        ),
    }
}

pub(super) fn find_view(volume: &Volume, id: &EntryId) -> Result<EntryView, VolumeError> {
    let views = volume.state().entries();
    views.into_iter().find(|view| view.record.id == *id).ok_or(VolumeError::NoEntry { entry: *id })
}
