//! Going back to an entry as a whole: a swap of subvolumes.

use std::sync::Arc;

use cove_btrfs::{Access, SubvolumePath};
use cove_content::volumes::{Call, Restore, VolumeError};
use cove_database::{CopyRow, DiscardedRow, StoredRow};
use cove_types::{EntryId, EntryKind};

use crate::capture::entry::{build_entry, entry_root, wait_entry};
use crate::capture::restore_paths::restore_paths;
use crate::capture::snapshot::draft;
use crate::capture::{
    Asked, asked, finish_here, generation_at, lock, pending_of, pending_row, pool_failed,
    refuse_trashed, sub,
};
use crate::in_use::refuse_writers;
use crate::node::{Inner, stored_row};
use crate::recover::ensure_place;
use crate::save::bring_entry;
use crate::volume::Volume;
use crate::work::{Pending, Work};

/// Goes back to an entry: swaps a subvolume that holds it in, and keeps what was there.
pub(crate) fn restore(
    inner: &Arc<Inner>,
    volume: &Volume,
    call: &Call,
    restore: &Restore,
) -> Result<Asked, VolumeError> {
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_trashed(volume)?;
    wait_entry(volume, inner, &restore.entry)?;
    bring_entry(inner, volume, &restore.entry)?;
    entry_root(volume, &restore.entry)?;
    if !restore.paths.is_empty() {
        return restore_paths(inner, volume, call, restore);
    }
    let incoming = SubvolumePath::Incoming(call.operation);
    build_entry(inner, volume, &restore.entry, &incoming, &volume.id, &call.progress)?;
    let _one = lock(&volume.capture);
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    if let Err(error) = refuse_restore(inner, volume, restore) {
        inner.pool.delete(&incoming).map_err(pool_failed("failed to clear what was built"))?;
        return Err(error);
    }
    let uuid = inner
        .pool
        .find(&incoming)
        .map_err(pool_failed("failed to look at what was built"))?
        .map(|subvolume| subvolume.uuid)
        .unwrap_or_default();
    let id = EntryId::derive(&call.operation, "before");
    let before = draft(
        inner,
        id,
        EntryKind::BeforeRestore,
        &restore.author,
        Some(restore.entry.to_string()),
    );
    let base_before = volume.state().copy.as_ref().map(|copy| (copy.base, copy.tree));
    let held = [call.operation, sub(&call.operation, 1)];
    let _held = volume.hold(held.into_iter().chain(base_before.map(|(base, _)| base)));
    let work = Work::Restore {
        entry: restore.entry,
        before,
        keep: restore.keep,
        uuid,
        base_before,
        done: false,
    };
    let pending = pending_of(call, &volume.id, work);
    let row = pending_row(inner, &pending)?;
    inner.wait(inner.database.insert_pending(&row)).map_err(|error| {
        VolumeError::failed("failed to write down what is to be restored", error)
    })?;
    finish_here(inner, volume, pending).map(Asked::Pending)
}

/// Refuses what could not be saved after the swap, and programs that would go on writing into what is
/// swapped out.
pub(crate) fn refuse_restore(
    inner: &Inner,
    volume: &Volume,
    restore: &Restore,
) -> Result<(), VolumeError> {
    refuse_trashed(volume)?;
    let entries = volume.state().entries().len();
    if entries >= cove_content::entry::ENTRIES_MAX {
        return Err(VolumeError::TooManyEntries);
    }
    if restore.force {
        return Ok(());
    }
    refuse_writers(&inner.pool.absolute(&SubvolumePath::Volume(volume.id.clone())))
}

/// Swaps a restored subvolume in, snapshots what was swapped out and puts it aside; may be repeated from
/// any point.
pub(crate) fn swap(inner: &Inner, volume: &Volume, pending: &Pending) -> Result<(), VolumeError> {
    let Work::Restore { entry, uuid, .. } = &pending.work else { return Ok(()) };
    let _place = volume.place.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let find = |place: &SubvolumePath| {
        inner.pool.find(place).map_err(pool_failed("failed to look at a subvolume"))
    };
    let live = SubvolumePath::Volume(volume.id.clone());
    let incoming = SubvolumePath::Incoming(pending.operation);
    let base = sub(&pending.operation, 1);
    let base_place = SubvolumePath::Stored(volume.id.clone(), base);
    if find(&live)?.is_none_or(|live| live.uuid != *uuid) {
        // not swapped yet: the base of what will be stored next is the restored state itself
        if find(&base_place)?.is_none() {
            inner
                .pool
                .snapshot(&incoming, &base_place, Access::ReadOnly, &volume.id)
                .map_err(pool_failed("failed to take a snapshot"))?;
        }
        ensure_place(inner, volume)?;
        inner
            .pool
            .exchange(&live, &incoming)
            .map_err(pool_failed("failed to swap the files in"))?;
    }
    let stored = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    let trash = SubvolumePath::Trash(pending.operation);
    if find(&stored)?.is_none() {
        let from = if find(&incoming)?.is_some() { &incoming } else { &trash };
        inner
            .pool
            .snapshot(from, &stored, Access::ReadOnly, &volume.id)
            .map_err(pool_failed("failed to take a snapshot of the state before"))?;
    }
    if find(&incoming)?.is_some() {
        inner
            .pool
            .rename(&incoming, &trash)
            .map_err(pool_failed("failed to put the state before aside"))?;
    }
    let put_aside = generation_at(inner, &stored)?;
    let live_generation = generation_at(inner, &base_place)?;
    let (tree, _) = entry_root(volume, entry)?;
    let copy = CopyRow {
        volume: volume.id.clone(),
        base,
        tree,
        seq: volume.state().seq(),
        generation: live_generation,
        unsaved_bytes: Some(0),
        looked_us: inner.now_us(),
    };
    let base_row = StoredRow {
        volume: volume.id.clone(),
        operation: base,
        entry: None,
        root: Some(tree.to_string()),
        captured_us: inner.now_us(),
    };
    let finished = cove_database::Finished {
        copies: vec![copy.clone()],
        stored: vec![base_row, stored_row(inner, pending)],
        discarded: vec![DiscardedRow {
            operation: pending.operation,
            volume: volume.id.clone(),
            generation: put_aside,
            entry: None,
            moved_us: inner.now_us(),
        }],
        ..cove_database::Finished::default()
    };
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| VolumeError::failed("failed to write down a restore", error))?;
    let mut state = volume.state();
    state.copy = Some(copy);
    for row in finished.stored {
        state.stored.insert(row.operation, row);
    }
    Ok(())
}
