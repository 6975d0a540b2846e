//! Going back to an entry as a whole: a swap of subvolumes.

use std::sync::Arc;

use cove_btrfs::{Access, SubvolumePath};
use cove_content::read::project_root;
use cove_content::volumes::{Call, Restore, VolumeError};
use cove_database::{CopyRow, DiscardedRow, Finished, StoredRow};
use cove_types::{
    Digest, EntryId, EntryKind, ErrorKind, OperationId, TreePath, chain, escape_bytes,
};

use crate::capture::built::{Built, discard};
use crate::capture::entry::{build_entry, entry_root};
use crate::capture::replaced::{look_at_replaced, snapshot_without};
use crate::capture::restore_paths::tidy;
use crate::capture::snapshot::{draft, holding_quota, refuse_full};
use crate::capture::{
    Asked, asked, finish_here, generation_at, not_written, pending_of, pending_row, pool_failed,
    refuse_trashed, sub, unlawful,
};
use crate::in_use::{refuse_mounts, refuse_writers};
use crate::node::{DISCARDED_DAYS, Inner, stored_row};
use crate::recover::ensure_place;
use crate::volume::{Known, Turn, Volume};
use crate::work::{Pending, Work};

/// Builds what is gone back to; may ask the store for all of it.
pub(crate) fn prepare_restore(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    call: &Call,
    restore: &Restore,
) -> Result<Built, VolumeError> {
    // before all of it is fetched; it may change until it is there, and is asked again
    refuse_restore(inner, volume, restore)?;
    refuse_small(volume, &restore.entry)?;
    refuse_swap(inner, volume, restore)?;
    build_entry(inner, volume, &restore.entry, &volume.id, &call.progress)
}

/// Goes back to an entry: swaps a subvolume that holds it in, and keeps what was there.
pub(crate) fn restore(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    call: &Call,
    restore: &Restore,
    built: Built,
    _turn: Turn,
) -> Result<Asked, VolumeError> {
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_restore(inner, volume, restore)?;
    refuse_small(volume, &restore.entry)?;
    refuse_swap(inner, volume, restore)?;
    tidy(inner, volume);
    if let Err(error) = look_at_replaced(inner, volume) {
        // it goes with what is swapped out, and is looked at there
        tracing::warn!(volume = %volume.id, error = chain(&error), "what was replaced is not looked at");
    }
    // before a snapshot is tried, which gives the files another generation
    let before_is = entry_of_now(inner, volume)?;
    refuse_swap_file(inner, volume, &call.operation)?;
    let tree = entry_root(volume, &restore.entry).ok().map(|(tree, _)| tree);
    let incoming = SubvolumePath::Incoming(call.operation);
    built.put(&incoming)?;
    let uuid = inner
        .pool
        .find(&incoming)
        .map_err(pool_failed("failed to look at what was built"))?
        .map(|subvolume| subvolume.uuid)
        .ok_or_else(|| VolumeError::Refused {
            kind: ErrorKind::Unavailable,
            what: format!("what was built at {incoming} is not there any more"),
        })?;
    let mut before = draft(
        inner,
        EntryId::derive(&call.operation, "before"),
        EntryKind::BeforeRestore,
        &restore.author,
        Some(restore.entry.to_string()),
    );
    before.quota_bytes = holding_quota(inner, volume);
    let base_before = volume.state().copy.as_ref().map(|copy| (copy.base, copy.tree));
    let held = [call.operation, sub(&call.operation, 1)];
    let _held = volume.hold(held.into_iter().chain(base_before.map(|(base, _)| base)));
    let work = Work::Restore {
        entry: restore.entry,
        tree,
        before,
        before_is,
        keep: restore.keep,
        uuid,
        base_before,
        done: false,
    };
    let pending = pending_of(call, &volume.id, work);
    let row = pending_row(inner, &pending)?;
    // once more: from the row on the swap is not refused
    let written = refuse_mounted(inner, volume, restore).and_then(|()| {
        let written = inner.wait(inner.database.insert_pending(&row));
        written.map_err(not_written("failed to write down what is to be restored"))
    });
    if let Err(error) = written {
        inner.pool.delete(&incoming).map_err(pool_failed("failed to clear what was built"))?;
        return Err(error);
    }
    finish_here(inner, volume, pending).map(Asked::Pending)
}

/// The entry that holds the present state already, which reached the disk before this call.
///
/// It is told, so it is decided now: an entry whose id somebody was given would not come if another was
/// found when the state is saved, perhaps much later. What is written in between is seen then, and makes
/// an entry of its own. Costs a commit of the pool.
fn entry_of_now(inner: &Inner, volume: &Volume) -> Result<Option<EntryId>, VolumeError> {
    // what was written and is in memory alone gives no generation yet
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))?;
    let live = SubvolumePath::Volume(volume.id.clone());
    let there = inner.pool.find(&live).map_err(pool_failed("failed to look at the volume"))?;
    let Some(generation) = there.map(|live| live.generation) else { return Ok(None) };
    let state = volume.state();
    let copied = state.copy.as_ref().filter(|copy| copy.generation == generation);
    for pending in state.queue.iter().rev() {
        match &pending.work {
            // one that a program may delete at any time holds nothing for a user
            Work::Snapshot { entry, .. } if entry.kind == EntryKind::Csi => {}
            Work::Snapshot { entry, .. } => {
                return Ok((pending.generation == generation).then_some(entry.id));
            }
            Work::Restore { entry, tree: Some(_), .. } => {
                let is_here = copied.is_some_and(|copy| copy.base == sub(&pending.operation, 1));
                return Ok(is_here.then_some(*entry));
            }
            Work::Create { .. }
            | Work::Background
            | Work::Restore { tree: None, .. }
            | Work::RestorePaths { .. } => return Ok(None),
            Work::EditEntry { .. }
            | Work::Describe { .. }
            | Work::Specify { .. }
            | Work::SetTrashed { .. }
            | Work::Delete
            | Work::RemoveEntry { .. }
            | Work::Fork { .. }
            | Work::Rescue { .. } => {}
        }
    }
    let Some(copy) = copied else { return Ok(None) };
    let mut entries = state.known.iter().flat_map(Known::entries);
    Ok(entries
        .find(|entry| entry.keeps_its_state() && entry.root.tree == copy.tree)
        .map(|entry| entry.id))
}

/// Refuses what could not be saved after the swap, and programs that would go on writing into what is
/// swapped out.
pub(crate) fn refuse_restore(
    inner: &Inner,
    volume: &Volume,
    restore: &Restore,
) -> Result<(), VolumeError> {
    restore.check().map_err(unlawful)?;
    refuse_trashed(volume)?;
    refuse_full(volume, EntryKind::BeforeRestore, restore.keep)?;
    if restore.force {
        return Ok(());
    }
    refuse_writers(&inner.pool.absolute(&SubvolumePath::Volume(volume.id.clone())))
}

/// Refuses what the volume's quota does not hold. On this disk it would be charged for nothing; it is wherever the
/// volume is brought back from the store.
fn refuse_small(volume: &Volume, entry: &EntryId) -> Result<(), VolumeError> {
    let (views, spec) = {
        let state = volume.state();
        (state.entries(), state.spec())
    };
    let found = views.iter().find(|view| view.record.id == *entry);
    let needs = found.and_then(|view| view.record.needs_bytes(view.known));
    match spec.quota_bytes.zip(needs).filter(|(quota, needs)| quota < needs) {
        None => Ok(()),
        Some((quota, needs)) => Err(VolumeError::Refused {
            kind: ErrorKind::Exhausted,
            what: format!(
                "its quota of {quota} bytes does not hold the {needs} bytes of the entry"
            ),
        }),
    }
}

/// Refuses what would not come with a swap of the whole, unless it is forced: what is mounted of the live subvolume
/// stays on what is swapped out, and subvolumes that are nested in it go with that.
fn refuse_swap(inner: &Inner, volume: &Volume, restore: &Restore) -> Result<(), VolumeError> {
    refuse_mounted(inner, volume, restore)?;
    if restore.force { Ok(()) } else { refuse_nested(inner, volume) }
}

/// Refuses while something of the volume is mounted by itself, unless the restore is forced.
fn refuse_mounted(inner: &Inner, volume: &Volume, restore: &Restore) -> Result<(), VolumeError> {
    if restore.force {
        return Ok(());
    }
    let (but, or) = (", which would stay on the state before", ", or restore with --force");
    refuse_mounts(&*inner.pool, &volume.id, but, or)
}

/// Refuses while another subvolume is nested in the files: what is in there is in no entry, and would go with what is
/// swapped out. Costs a search of the pool's tree of subvolumes.
fn refuse_nested(inner: &Inner, volume: &Volume) -> Result<(), VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    let failed = || pool_failed("failed to look for other subvolumes in the files");
    if inner.pool.find(&live).map_err(failed())?.is_none() {
        return Ok(());
    }
    let nested = inner.pool.nested(&live).map_err(failed())?;
    let Some(first) = nested.first() else { return Ok(()) };
    let shown = TreePath::from_bytes(first)
        .ok()
        .and_then(|path| Some(path.below(&project_root())?.to_string()))
        .unwrap_or_else(|| escape_bytes(first));
    Err(VolumeError::Refused {
        kind: ErrorKind::Precondition,
        what: format!(
            "{shown} is another subvolume, of which no entry holds anything: move it away first; with \
             --force it goes with the state before and is deleted after {DISCARDED_DAYS} days"
        ),
    })
}

/// Refuses while a swap file in the volume is active: of what is swapped out no snapshot could be made.
/// Costs a snapshot.
pub(crate) fn refuse_swap_file(
    inner: &Inner,
    volume: &Volume,
    operation: &OperationId,
) -> Result<(), VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    let tried = SubvolumePath::Incoming(sub(operation, 6));
    let there = inner.pool.find(&live).map_err(pool_failed("failed to look at the volume"))?;
    if there.is_none() {
        return Ok(());
    }
    // what an attempt has left
    inner.pool.delete(&tried).map_err(pool_failed("failed to drop a snapshot"))?;
    inner
        .pool
        .snapshot(&live, &tried, Access::ReadOnly, &volume.id)
        .map_err(pool_failed("failed to take a snapshot"))?;
    inner.pool.delete(&tried).map(drop).map_err(pool_failed("failed to drop a snapshot"))
}

/// Swaps a restored subvolume in, snapshots what was swapped out and puts it aside; may be repeated from
/// any point.
pub(crate) fn swap(inner: &Inner, volume: &Volume, pending: &Pending) -> Result<(), VolumeError> {
    let Work::Restore { entry, tree, uuid, .. } = &pending.work else { return Ok(()) };
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
        snapshot_without(inner, volume, from, &pending.operation)?;
    }
    if find(&incoming)?.is_some() {
        inner
            .pool
            .rename(&incoming, &trash)
            .map_err(pool_failed("failed to put the state before aside"))?;
    }
    let put_aside = generation_at(inner, &stored)?;
    {
        // what had changed is in the state before
        let mut state = volume.state();
        let edits = state.changes.begin();
        state.changes.looked(edits, false);
    }
    let live_generation = generation_at(inner, &base_place)?;
    // of an entry that is not saved yet it is known when this is saved, after it
    let known = || entry_root(volume, entry).ok().map(|(tree, _)| tree);
    let tree = tree.or_else(known).unwrap_or(Digest::HOLE);
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
    let finished = Finished {
        copies: vec![copy.clone()],
        stored: vec![base_row, stored_row(inner, pending)],
        discarded: vec![DiscardedRow {
            operation: pending.operation,
            volume: volume.id.clone(),
            generation: put_aside,
            entry: None,
            moved_us: inner.now_us(),
        }],
        ..Finished::default()
    };
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| VolumeError::failed("failed to write down a restore", error))?;
    let mut state = volume.state();
    // what is written there from now on is looked for in what was swapped out
    state.replaced.clear();
    state.copy = Some(copy);
    for row in finished.stored {
        state.stored.insert(row.operation, row);
    }
    Ok(())
}

/// Refuses to undo a swap that has happened: it is only to be written down.
pub(crate) fn refuse_swapped(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
) -> Result<(), VolumeError> {
    let Work::Restore { uuid, .. } = &pending.work else { return Ok(()) };
    let live = inner
        .pool
        .find(&SubvolumePath::Volume(volume.id.clone()))
        .map_err(pool_failed("failed to look at the volume"))?;
    if live.is_some_and(|live| live.uuid == *uuid) {
        return Err(VolumeError::Refused {
            kind: ErrorKind::Conflict,
            what: "the files are those of the entry already".into(),
        });
    }
    Ok(())
}

/// Takes away what was built for a swap that cannot happen; may be repeated.
pub(crate) fn undo_swap(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
) -> Result<(), VolumeError> {
    refuse_swapped(inner, volume, pending)?;
    let kind = pending.failed.as_ref().map_or(ErrorKind::Internal, |(kind, _)| *kind);
    let base = SubvolumePath::Stored(volume.id.clone(), sub(&pending.operation, 1));
    // they share what they hold: it is free when the second is
    for place in [&base, &SubvolumePath::Incoming(pending.operation)] {
        discard(&*inner.pool, place, kind)
            .map_err(pool_failed("failed to clear what was built"))?;
    }
    Ok(())
}
