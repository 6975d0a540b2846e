//! Finishing the node's half of work whose row is written, or taking it back.

use std::sync::Arc;

use cove_content::volumes::{Progress, VolumeError};
use cove_types::{Classify, ErrorKind, chain};
use tokio::sync::oneshot;

use crate::capture::create::{place_created, undo_create};
use crate::capture::entry::exact_entry;
use crate::capture::fork::{place_forks, undo_forks};
use crate::capture::restore::{refuse_swapped, swap, undo_swap};
use crate::capture::restore_paths::{clear_staged, put_paths, undo_paths};
use crate::capture::{hand_over, pending_row};
use crate::node::Inner;
use crate::save::bring_entry;
use crate::volume::{Ended, Volume};
use crate::work::{Pending, Work};

/// Finishes the node's half of work and hands it over to be saved.
///
/// # Errors
///
/// After [`VolumeError::Unknown`] the work stands and is tried again; after another one nothing of it
/// is left and the same call may come again.
pub(crate) fn finish_here(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: Pending,
) -> Result<oneshot::Receiver<Ended>, VolumeError> {
    let error = match complete(inner, volume, &pending) {
        Ok(completed) => return Ok(hand_over(volume, completed)),
        Err(error) => error,
    };
    let operation = pending.operation;
    let (pending, undone) = give_up(inner, volume, &pending, &error);
    let forgotten = undone.and_then(|()| {
        volume.state().stored.remove(&operation);
        inner.drop_stored(&pending.volume, &operation);
        inner
            .wait(inner.database.delete_pending(&operation))
            .map_err(|error| VolumeError::failed("failed to forget what was not done", error))
    });
    let Err(left) = forgotten else { return Err(error) };
    let (why, left) = (chain(&error), chain(&left));
    tracing::error!(volume = %volume.id, %operation, why, left, "a change is neither done nor undone yet");
    drop(hand_over(volume, pending));
    Err(VolumeError::Unknown { operation })
}

/// Whether some of the node's half of work is still to be done.
pub(crate) fn is_unfinished(pending: &Pending) -> bool {
    match &pending.work {
        Work::Create { .. } => true,
        Work::Restore { done, .. } | Work::RestorePaths { done, .. } | Work::Fork { done, .. } => {
            !done
        }
        _ => false,
    }
}

/// Whether finishing work may ask the store.
pub(crate) fn asks_store(inner: &Inner, volume: &Arc<Volume>, pending: &Pending) -> bool {
    match &pending.work {
        Work::Fork { entry: Some(entry), done: false, .. } => {
            exact_entry(inner, volume, entry).is_none()
        }
        _ => false,
    }
}

/// Finishes the node's half of work, if that is not done yet, and writes down that it is.
pub(crate) fn complete(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
) -> Result<Pending, VolumeError> {
    let mut completed = pending.clone();
    match &pending.work {
        Work::Create { .. } => return place_created(inner, completed),
        Work::Restore { done: false, .. } => swap(inner, volume, pending)?,
        Work::RestorePaths { done: false, .. } => put_paths(inner, volume, pending)?,
        Work::Fork { entry, done: false, .. } => {
            if let Some(entry) = entry {
                bring_entry(inner, volume, entry)?;
            }
            place_forks(inner, volume, pending, &Progress::default())?;
        }
        _ => return Ok(completed),
    }
    match &mut completed.work {
        Work::Restore { done, .. } | Work::RestorePaths { done, .. } | Work::Fork { done, .. } => {
            *done = true;
        }
        _ => {}
    }
    write_down(inner, volume, &completed)?;
    if let Work::RestorePaths { .. } = &completed.work
        && let Err(error) = clear_staged(inner, volume, &volume.others(&completed.operation))
    {
        tracing::warn!(volume = %volume.id, error = chain(&error), "what was replaced stays behind");
        volume.state().is_littered = true;
    }
    Ok(completed)
}

/// Writes work down as it is now, in place of what it was.
fn write_down(inner: &Inner, volume: &Volume, pending: &Pending) -> Result<(), VolumeError> {
    let row = pending_row(inner, pending)?;
    inner
        .wait(inner.database.update_pending(&pending.operation, &row.body))
        .map_err(|error| VolumeError::failed("failed to write down what is done", error))?;
    let mut state = volume.state();
    let queued = state.queue.iter_mut().find(|queued| queued.operation == pending.operation);
    if let Some(queued) = queued {
        *queued = pending.clone();
    }
    Ok(())
}

/// Takes work back that cannot be finished: writes down that it has failed, and makes the volume as it
/// was before it. Whatever interrupts this, it is gone on with.
///
/// Returns the work as it is written down now, and whether the volume is as it was. Work that is done but
/// for being written down is left to be finished.
pub(crate) fn give_up(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
    error: &VolumeError,
) -> (Pending, Result<(), VolumeError>) {
    let failed = Pending { failed: Some((error.kind(), chain(error))), ..pending.clone() };
    let written = match &pending.work {
        Work::Restore { .. } => refuse_swapped(inner, volume, pending),
        _ => Ok(()),
    };
    match written.and_then(|()| write_down(inner, volume, &failed)) {
        Ok(()) => {
            let undone = undo(inner, volume, &failed);
            (failed, undone)
        }
        Err(error) => (pending.clone(), Err(error)),
    }
}

/// Makes the volume as it was before work that has failed; may be repeated.
pub(crate) fn undo(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
) -> Result<(), VolumeError> {
    match &pending.work {
        Work::Create { .. } => undo_create(inner, pending),
        Work::Restore { .. } => undo_swap(inner, volume, pending),
        Work::RestorePaths { .. } => undo_paths(inner, volume, pending),
        Work::Fork { .. } => undo_forks(inner, pending),
        _ => Ok(()),
    }
}

/// Whether the node's half of work fails in the same way whenever it is tried: then the work has failed,
/// and what comes after it is not to wait. What the store refused may be allowed another time.
#[must_use]
pub(crate) fn is_lasting(kind: ErrorKind, asks_store: bool) -> bool {
    match kind {
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Precondition
        | ErrorKind::Corrupt
        | ErrorKind::Internal => true,
        ErrorKind::Denied => !asks_store,
        ErrorKind::Conflict
        | ErrorKind::Exhausted
        | ErrorKind::Unavailable
        | ErrorKind::TimedOut => false,
    }
}

#[cfg(test)]
mod tests;
