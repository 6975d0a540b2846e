//! Removing what belongs to nothing.

use std::collections::HashSet;
use std::sync::Arc;

use cove_btrfs::SubvolumePath;
use cove_content::head::HeadState;
use cove_database::StoredRow;
use cove_types::{OperationId, VolumeId, chain};

use crate::capture;
use crate::node::{Inner, StartError};
use crate::volume::Volume;
use crate::work::Work;

/// How many days a subvolume that a restore swapped out is kept.
pub(crate) const DISCARDED_DAYS: i64 = 7;

/// How long the answer of a call is known under its id, besides what the head tells.
const RESULTS_FOR_S: i64 = 30 * 24 * 3600;

/// Removes what was kept for a time that is over: subvolumes that restores swapped out, those of deleted volumes
/// whenever that was, and answers of calls. May be repeated.
///
/// # Errors
///
/// What was not looked at is removed another time.
pub(crate) fn sweep_old(inner: &Inner) -> Result<(), StartError> {
    let now_us = inner.now_us();
    let old_us = now_us - DISCARDED_DAYS * 24 * 3600 * 1_000_000;
    for row in inner.wait(inner.database.discarded())? {
        // what was written late and is in no rescue entry yet is kept until it is, in a volume that can have one; the
        // row of what is being put aside comes first
        let found = inner.pool.find(&SubvolumePath::Trash(row.operation))?;
        let is_kept =
            row.moved_us > old_us || found.is_some_and(|found| found.generation != row.generation);
        if !is_kept || is_of_deleted(inner, &row.volume)? {
            drop_discarded(inner, &row.operation)?;
        }
    }
    inner.wait(inner.database.delete_results(now_us - RESULTS_FOR_S * 1_000_000))?;
    Ok(())
}

/// Whether a volume is deleted, and its files are gone.
fn is_of_deleted(inner: &Inner, id: &VolumeId) -> Result<bool, StartError> {
    if let Some(volume) = inner.find_volume(id) {
        let state = volume.state();
        let head = state.known.as_ref().map(|known| known.head.state);
        return Ok(head == Some(HeadState::Deleted) && state.copy.is_none());
    }
    // one that is being recovered, or whose head cannot be read, has a row before it is listed
    Ok(inner.wait(inner.database.find_head(id))?.is_none())
}

/// Removes what a restore swapped out, and its row.
fn drop_discarded(inner: &Inner, operation: &OperationId) -> Result<(), StartError> {
    if inner.pool.delete(&SubvolumePath::Trash(*operation))? {
        inner.pool.flush()?;
    }
    Ok(inner.wait(inner.database.delete_discarded(operation))?)
}

/// Removes what restores swapped out of a volume that is deleted for ever, however young it is and whatever was written
/// there late. What cannot be removed now is at a later sweep.
pub(crate) fn drop_discarded_of(inner: &Inner, volume: &VolumeId) {
    let dropped =
        inner.wait(inner.database.discarded()).map_err(StartError::from).and_then(|rows| {
            let of_volume = rows.iter().filter(|row| row.volume == *volume);
            of_volume.map(|row| drop_discarded(inner, &row.operation)).fold(Ok(()), Result::and)
        });
    if let Err(error) = dropped {
        tracing::warn!(%volume, error = chain(&error), "what a restore swapped out stays for now");
    }
}

/// Removes what no row knows: what was being built, snapshots of attempts that never became work; and
/// what is old.
pub(crate) fn sweep(
    inner: &Inner,
    volumes: &[Arc<Volume>],
    unreadable: &HashSet<OperationId>,
) -> Result<(), StartError> {
    let mut known: HashSet<(VolumeId, OperationId)> = HashSet::new();
    let mut building: HashSet<OperationId> = HashSet::new();
    drop_attempts(inner, volumes)?;
    for volume in volumes {
        let state = volume.state();
        known.extend(state.stored.keys().map(|operation| (volume.id.clone(), *operation)));
        for pending in &state.queue {
            known.insert((volume.id.clone(), pending.operation));
            known.insert((volume.id.clone(), capture::sub(&pending.operation, 1)));
            building.insert(pending.operation);
            if let Work::Fork { targets, .. } = &pending.work {
                known.extend(targets.iter().map(|new| (new.volume.clone(), pending.operation)));
            }
        }
        known.extend(state.copy.iter().map(|copy| (volume.id.clone(), copy.base)));
    }
    sweep_old(inner)?;
    for place in inner.pool.list()? {
        let keep = match &place {
            SubvolumePath::Volume(_) => true,
            // what a newer Cove wrote about it is for that one to finish
            SubvolumePath::Stored(_, operation) | SubvolumePath::Incoming(operation)
                if unreadable.contains(operation) =>
            {
                true
            }
            SubvolumePath::Stored(volume, operation) => {
                // of a volume that no row knows nothing is thrown away: it may be all that there is
                !volumes.iter().any(|known| known.id == *volume)
                    || known.contains(&(volume.clone(), *operation))
            }
            SubvolumePath::Incoming(operation) => building.contains(operation),
            // it goes with its row
            SubvolumePath::Trash(_) => true,
        };
        if !keep && let Err(error) = inner.pool.delete(&place) {
            tracing::warn!(%place, error = chain(&error), "what belongs to nothing stays behind");
        }
    }
    Ok(())
}

/// Forgets snapshots that were taken for work which was never written down.
fn drop_attempts(inner: &Inner, volumes: &[Arc<Volume>]) -> Result<(), StartError> {
    let mut needed: HashSet<OperationId> = HashSet::new();
    for volume in volumes {
        let state = volume.state();
        needed.extend(state.copy.iter().map(|copy| copy.base));
        for pending in &state.queue {
            needed.insert(pending.operation);
            if let Work::Restore { base_before: Some((base, _)), .. } = &pending.work {
                needed.insert(*base);
            }
        }
    }
    for volume in volumes {
        let rows: Vec<StoredRow> = volume.state().stored.values().cloned().collect();
        let attempts = rows.into_iter().filter(|row| {
            // what is saved has a root
            row.root.is_none() && !needed.contains(&row.operation)
        });
        for row in attempts {
            inner.wait(inner.database.delete_stored(&row.volume, &row.operation))?;
            volume.state().stored.remove(&row.operation);
        }
    }
    Ok(())
}
