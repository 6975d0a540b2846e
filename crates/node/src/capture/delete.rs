//! Deleting a volume: its half on this node, which is its files.

use cove_btrfs::SubvolumePath;
use cove_content::volumes::{Call, VolumeError};
use cove_types::{Classify, EntryId, OperationId, chain};

use crate::capture::restore::refuse_swap_file;
use crate::capture::{Asked, asked, enqueue, is_swap_file, pending_of, pool_failed};
use crate::in_use::{may_swap_to_files, refuse_mounts, refuse_mounts_of};
use crate::node::Inner;
use crate::save::unread;
use crate::volume::{State, Turn, Volume};
use crate::work::Work;

/// Deletes a volume whose older entries are here. From the row on nobody reaches its files; what is left of them
/// after a crash goes at the next start.
pub(crate) fn delete(
    inner: &Inner,
    volume: &Volume,
    call: &Call,
    _turn: Turn,
) -> Result<Asked, VolumeError> {
    if volume.state().will_be_deleted() {
        return Ok(end_of_queued(&mut volume.state(), |work| matches!(work, Work::Delete)));
    }
    match asked(inner, volume, call)? {
        Asked::New => {}
        asked => return Ok(asked),
    }
    let count = unread(volume);
    if count > 0 {
        // one of them may be kept alone
        return Err(VolumeError::EntriesUnread { count });
    }
    refuse_mounts(&*inner.pool, &volume.id, "", "")?;
    refuse_mounts_before(inner, volume)?;
    refuse_swapping(inner, volume, &call.operation)?;
    // nobody is in the middle of a change of files that would be left
    let _place = volume.place.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let end = enqueue(inner, volume, pending_of(call, &volume.id, Work::Delete))?;
    if let Err(error) = take_files(inner, volume) {
        tracing::warn!(volume = %volume.id, error = chain(&error), "the files of a deleted volume stay for now");
    }
    Ok(Asked::Pending(end))
}

/// Refuses while a state that a restore has swapped out is mounted: it goes with the volume.
fn refuse_mounts_before(inner: &Inner, volume: &Volume) -> Result<(), VolumeError> {
    let discarded = inner
        .wait(inner.database.discarded())
        .map_err(|error| VolumeError::failed("failed to look for states before restores", error))?;
    for row in discarded.into_iter().filter(|row| row.volume == volume.id) {
        let place = SubvolumePath::Trash(row.operation);
        refuse_mounts_of(&*inner.pool, &volume.id, &place, " with a state before a restore", "")?;
    }
    Ok(())
}

/// Refuses while a swap file in the volume is active: the kernel would not take its files. Costs a snapshot where this
/// machine swaps to files.
fn refuse_swapping(
    inner: &Inner,
    volume: &Volume,
    operation: &OperationId,
) -> Result<(), VolumeError> {
    if !may_swap_to_files() {
        return Ok(());
    }
    match refuse_swap_file(inner, volume, operation) {
        Err(error) if is_swap_file(&error) => Err(VolumeError::Refused {
            kind: error.kind(),
            what: format!(
                "volume {} is in use: a swap file in it is active; `swapoff` it first",
                volume.id
            ),
        }),
        // what else keeps a snapshot from being taken, such as a pool that is full, keeps no files from going
        _ => Ok(()),
    }
}

/// Captures that an entry is taken out, also of a volume that is deleted. One that is gone by the time of its turn, or
/// will be, is as good.
pub(crate) fn remove_entry(
    inner: &Inner,
    volume: &Volume,
    call: &Call,
    entry: EntryId,
    _turn: Turn,
) -> Result<Asked, VolumeError> {
    match asked(inner, volume, call)? {
        Asked::New => {}
        asked => return Ok(asked),
    }
    if let Some(asked) = end_of_removal(volume, &entry) {
        return Ok(asked);
    }
    let work = Work::RemoveEntry { entry };
    enqueue(inner, volume, pending_of(call, &volume.id, work)).map(Asked::Pending)
}

/// How the removal of an entry stands; `None` when it is there. Both are looked at as of one moment, since a removal
/// that fails puts its entry back.
pub(crate) fn end_of_removal(volume: &Volume, entry: &EntryId) -> Option<Asked> {
    let mut state = volume.state();
    if state.entries().iter().any(|view| view.record.id == *entry) {
        return None;
    }
    let is_it = |work: &Work| matches!(work, Work::RemoveEntry { entry: of } if of == entry);
    Some(end_of_queued(&mut state, is_it))
}

/// How work stands that another call has asked for: on its way, or ended where it is no longer queued.
fn end_of_queued(state: &mut State, is_it: impl Fn(&Work) -> bool) -> Asked {
    let queued = state.queue.iter().find(|pending| is_it(&pending.work));
    match queued.map(|pending| pending.operation) {
        Some(operation) => Asked::Pending(state.end_of(&operation)),
        None => Asked::Ended(Box::default()),
    }
}

/// Takes the files of a deleted volume away; may be repeated.
pub(crate) fn take_files(inner: &Inner, volume: &Volume) -> Result<(), VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    inner.pool.delete(&live).map(drop).map_err(pool_failed("failed to delete the files"))
}
