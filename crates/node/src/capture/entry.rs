//! An entry as files of this node: a copy of its local snapshot, or built from the store.

use std::sync::Arc;

use cove_btrfs::{Dir, SubvolumePath};
use cove_content::locations::Locations;
use cove_content::read::project_root;
use cove_content::restore::{restore_tree, strip};
use cove_content::root::NotCaptured;
use cove_content::volumes::{Progress, VolumeError};
use cove_types::{Digest, EntryId, TreePath, VolumeId};

use crate::capture::built::Built;
use crate::capture::{OWNER, SERVICES, open_live, path_failed, pool_failed};
use crate::node::Inner;
use crate::save::chunks_of;
use crate::volume::{Held, Volume};

/// The snapshot on this node that an entry is; it stays as long as this does.
pub(crate) struct LocalEntry {
    pub place: SubvolumePath,
    /// What its tree does not hold although the snapshot does; nothing while that is not known.
    pub not_captured: NotCaptured,
    _held: Held,
}

/// The snapshot on this node that an entry is, saved or not, if there is one.
pub(crate) fn local_entry(
    inner: &Inner,
    volume: &Arc<Volume>,
    entry: &EntryId,
) -> Option<LocalEntry> {
    let (operation, not_captured, held) = {
        let state = volume.state();
        let record = state.known.as_ref().and_then(|known| known.find_entry(entry));
        // one that is not saved yet has no tree
        let tree = record.map(|record| record.root.tree.to_string());
        let mut rows = state.stored.values();
        let operation = rows.find(|row| row.entry == Some(*entry) && row.root == tree)?.operation;
        let not_captured =
            record.map_or_else(NotCaptured::default, |record| record.root.not_captured.clone());
        drop(state);
        (operation, not_captured, volume.hold([operation]))
    };
    let place = SubvolumePath::Stored(volume.id.clone(), operation);
    // looked for once it is held: it may have been let go of before
    let found = inner.pool.find(&place).ok().flatten();
    found.map(|_| LocalEntry { place, not_captured, _held: held })
}

/// The snapshot that is exactly an entry, as far as is known.
pub(crate) fn exact_entry(
    inner: &Inner,
    volume: &Arc<Volume>,
    entry: &EntryId,
) -> Option<LocalEntry> {
    local_entry(inner, volume, entry).filter(|local| local.not_captured.is_empty())
}

/// The tree of an entry that is saved, and where its chunks lie.
pub(crate) fn entry_root(
    volume: &Volume,
    entry: &EntryId,
) -> Result<(Digest, Locations), VolumeError> {
    let state = volume.state();
    let known = state.known.as_ref().ok_or(VolumeError::NoEntry { entry: *entry })?;
    let record = known.find_entry(entry).ok_or(VolumeError::NoEntry { entry: *entry })?;
    Ok((record.root.tree, known.head.locations.clone()))
}

/// Makes a writable subvolume of group `group` that holds an entry.
pub(crate) fn build_entry(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    entry: &EntryId,
    group: &VolumeId,
    progress: &Progress,
) -> Result<Built, VolumeError> {
    if let Some(local) = local_entry(inner, volume, entry) {
        let built = Built::copy(inner, &local.place, group)?;
        // what a tree does not hold is not to come back from a local snapshot either
        if strip_copy(&built.open()?, &local.not_captured)? {
            inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))?;
            return Ok(built);
        }
    }
    let (tree, locations) = entry_root(volume, entry)?;
    build_tree(inner, &tree, &locations, group, progress)
}

/// Takes from a copy of a snapshot what its tree does not hold; `false` when that cannot be told here.
pub(crate) fn strip_copy(dir: &Dir, not_captured: &NotCaptured) -> Result<bool, VolumeError> {
    strip(dir, not_captured)
        .map_err(|error| VolumeError::failed("failed to take away what is not captured", error))
}

/// Takes from a volume that was copied before it was known what its tree does not hold, while no restore
/// swaps other files in; those of another subvolume than `uuid` stay as they are.
pub(crate) fn strip_volume(
    inner: &Inner,
    id: &VolumeId,
    uuid: Option<[u8; 16]>,
    not_captured: &NotCaptured,
) -> Result<(), VolumeError> {
    if not_captured.is_empty() {
        return Ok(());
    }
    let volume = inner.find_volume(id);
    let _place = volume
        .as_ref()
        .map(|volume| volume.place.read().unwrap_or_else(std::sync::PoisonError::into_inner));
    let there = SubvolumePath::Volume(id.clone());
    let there = inner.pool.find(&there).map_err(pool_failed("failed to look at the volume"))?;
    if uuid.is_some() && there.map(|there| there.uuid) != uuid {
        return Ok(());
    }
    strip_copy(&open_live(inner, id)?, not_captured)?;
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

/// Makes a writable subvolume of group `group` that holds a tree, from the store.
pub(crate) fn build_tree(
    inner: &Arc<Inner>,
    tree: &Digest,
    locations: &Locations,
    group: &VolumeId,
    progress: &Progress,
) -> Result<Built, VolumeError> {
    progress.step("restoring");
    let chunks = chunks_of(inner, locations);
    let top = TreePath::top();
    let (built, ()) = Built::create(inner, group)?.filled(|dir| {
        restore_tree(&chunks, tree, &top, dir, &top, progress)
            .map_err(|error| VolumeError::failed("failed to restore the files", error))?;
        furnish(dir).map_err(path_failed("failed to make a directory"))?;
        inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
    })?;
    Ok(built)
}

/// Makes the directories that every volume has, as far as they are missing.
pub(crate) fn furnish(dir: &Dir) -> Result<(), cove_btrfs::PathError> {
    let services = TreePath::from_bytes(SERVICES).map_err(|_| cove_btrfs::PathError::Top)?;
    for path in [project_root(), services] {
        if dir.find(&path)?.is_none() {
            dir.create_dir(&path, 0o755)?;
            dir.set_owner(&path, OWNER.0, OWNER.1)?;
        }
    }
    Ok(())
}
