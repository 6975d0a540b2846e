//! What was written into a subvolume after a restore had swapped it out.

use std::sync::Arc;

use cove_btrfs::{Access, SubvolumePath};
use cove_content::entry::{EntryRecord, LATE_WRITES};
use cove_content::volumes::VolumeError;
use cove_types::{EntryId, EntryKind, OperationId};

use crate::capture::snapshot::draft;
use crate::capture::{enqueue, generation_at, pool_failed};
use crate::node::{Inner, stored_row};
use crate::volume::Volume;
use crate::work::{Pending, Work};

/// For people who read the timeline.
const MESSAGE: &str = "written after a restore, by a program that had files open";

/// What was written, through a descriptor that outlived a restore, into the subvolume that was swapped
/// out becomes a rescue entry. It is the caller's turn to capture.
pub(crate) fn rescue_late_writes(inner: &Inner, volume: &Arc<Volume>) -> Result<(), VolumeError> {
    let discarded = inner
        .wait(inner.database.discarded())
        .map_err(|error| VolumeError::failed("failed to look for late writes", error))?;
    for mut row in discarded.into_iter().filter(|row| row.volume == volume.id) {
        let place = SubvolumePath::Trash(row.operation);
        let found =
            inner.pool.find(&place).map_err(pool_failed("failed to look for late writes"))?;
        let Some(found) = found else { continue };
        if found.generation == row.generation {
            continue;
        }
        let id = EntryId::derive(&row.operation, "rescue");
        let stored = enqueue_rescue(inner, volume, id, |rescue| {
            let stored = SubvolumePath::Stored(volume.id.clone(), *rescue);
            inner
                .pool
                .snapshot(&place, &stored, Access::ReadOnly, &volume.id)
                .map_err(pool_failed("failed to take a snapshot of late writes"))
        })?;
        row.generation = generation_at(inner, &stored)?;
        row.entry = Some(id);
        inner
            .wait(inner.database.put_discarded(&row))
            .map_err(|error| VolumeError::failed("failed to write down late writes", error))?;
    }
    Ok(())
}

/// Captures what was written late as the entry `id`, new or brought up to date; `take` makes its
/// snapshot, whose place is the answer.
pub(crate) fn enqueue_rescue(
    inner: &Inner,
    volume: &Arc<Volume>,
    id: EntryId,
    take: impl FnOnce(&OperationId) -> Result<(), VolumeError>,
) -> Result<SubvolumePath, VolumeError> {
    let record = EntryRecord {
        message: Some(MESSAGE.to_owned()),
        ..draft(inner, id, EntryKind::Rescue, "cove", Some(LATE_WRITES.to_owned()))
    };
    let pending = Pending {
        operation: inner.env.operation_id(volume.state().seq()),
        generation: 0,
        volume: volume.id.clone(),
        principal: "cove".into(),
        request: [0; 8],
        failed: None,
        work: Work::Rescue { entry: record },
    };
    let _held = volume.hold([pending.operation]);
    take(&pending.operation)?;
    let stored = stored_row(inner, &pending);
    inner
        .wait(inner.database.put_stored(&stored))
        .map_err(|error| VolumeError::failed("failed to write down a snapshot", error))?;
    volume.state().stored.insert(stored.operation, stored);
    let place = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    enqueue(inner, volume, pending)?;
    Ok(place)
}
