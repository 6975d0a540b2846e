//! Forks: their subvolumes here; their heads follow when the source is saved.

use std::sync::Arc;

use cove_btrfs::{Access, SubvolumePath};
use cove_content::document::ProjectDocument;
use cove_content::volumes::{Call, Moment, Progress, VolumeError};
use cove_database::{CopyRow, StoredRow};
use cove_types::{Digest, VolumeId};

use crate::capture::entry::{build_entry, entry_root, local_entry, wait_entry};
use crate::capture::snapshot::freeze;
use crate::capture::{
    Asked, asked, finish_here, generation_at, lock, pending_of, pending_row, pool_failed,
    refuse_trashed,
};
use crate::node::Inner;
use crate::save::bring_entry;
use crate::volume::Volume;
use crate::work::{Pending, Work};

/// Makes forks: their subvolumes now, their heads when the source is saved.
pub(crate) fn fork(
    inner: &Arc<Inner>,
    volume: &Volume,
    call: &Call,
    moment: &Moment,
    targets: &[(VolumeId, ProjectDocument)],
) -> Result<Asked, VolumeError> {
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_trashed(volume)?;
    let entry = match moment {
        Moment::Now => None,
        Moment::Entry(entry) => {
            wait_entry(volume, inner, entry)?;
            bring_entry(inner, volume, entry)?;
            entry_root(volume, entry)?;
            Some(*entry)
        }
    };
    let _one = lock(&volume.capture);
    // the same call may have come twice
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_trashed(volume)?;
    for (target, _) in targets {
        if inner.find_volume(target).is_some() {
            return Err(VolumeError::Exists { volume: target.clone() });
        }
    }
    let work = Work::Fork { entry, targets: targets.to_vec(), done: false };
    let mut pending = pending_of(call, &volume.id, work);
    let _held = volume.hold([call.operation]);
    if entry.is_none() {
        freeze(inner, volume, &mut pending)?;
    }
    let row = pending_row(inner, &pending)?;
    inner
        .wait(inner.database.insert_pending(&row))
        .map_err(|error| VolumeError::failed("failed to write down what is to be forked", error))?;
    finish_here(inner, volume, pending).map(Asked::Pending)
}

/// Makes the subvolumes of forks; may be repeated.
pub(crate) fn place_forks(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    progress: &Progress,
) -> Result<(), VolumeError> {
    let Work::Fork { entry, targets, .. } = &pending.work else { return Ok(()) };
    let mut source = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    if let Some(entry) = entry {
        source = match local_entry(inner, volume, entry) {
            Some(local) => local,
            None => {
                let built = SubvolumePath::Incoming(pending.operation);
                build_entry(inner, volume, entry, &built, &volume.id, progress)?;
                built
            }
        };
    }
    for (target, document) in targets {
        let stored = SubvolumePath::Stored(target.clone(), pending.operation);
        let live = SubvolumePath::Volume(target.clone());
        let find = |place: &SubvolumePath| {
            inner.pool.find(place).map_err(pool_failed("failed to look at a subvolume"))
        };
        if find(&stored)?.is_none() {
            inner
                .pool
                .snapshot(&source, &stored, Access::ReadOnly, target)
                .map_err(pool_failed("failed to copy the files"))?;
        }
        if find(&live)?.is_none() {
            inner
                .pool
                .snapshot(&stored, &live, Access::ReadWrite, target)
                .map_err(pool_failed("failed to copy the files"))?;
        }
        let fork =
            inner.find_volume(target).unwrap_or_else(|| Arc::new(Volume::new(target.clone())));
        let copy = CopyRow {
            volume: target.clone(),
            base: pending.operation,
            tree: Digest::HOLE,
            seq: 0,
            // the snapshot gave it to the copy, which has a higher one since it was written to
            generation: generation_at(inner, &stored)?,
            unsaved_bytes: None,
            looked_us: inner.now_us(),
        };
        let row = StoredRow {
            volume: target.clone(),
            operation: pending.operation,
            entry: None,
            root: None,
            captured_us: inner.now_us(),
        };
        inner
            .wait(inner.database.put_stored(&row))
            .map_err(|error| VolumeError::failed("failed to write down a fork", error))?;
        {
            let mut state = fork.state();
            state.document = Some(document.clone());
            state.copy = Some(copy);
            state.stored.insert(row.operation, row);
        }
        inner.adopt(&fork);
    }
    if let SubvolumePath::Incoming(_) = source {
        inner.pool.delete(&source).map_err(pool_failed("failed to clear what was built"))?;
    }
    Ok(())
}
