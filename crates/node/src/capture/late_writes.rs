//! What was written into a subvolume after a restore had swapped it out.

use std::cell::Cell;
use std::sync::Arc;

use cove_btrfs::SubvolumePath;
use cove_content::entry::{EntryRecord, LATE_WRITES};
use cove_content::volumes::VolumeError;
use cove_database::DiscardedRow;
use cove_types::{EntryId, EntryKind, OperationId};

use crate::capture::replaced::{self, put_back, snapshot_without};
use crate::capture::snapshot::draft;
use crate::capture::{enqueue, pool_failed};
use crate::node::{Inner, stored_row};
use crate::volume::Volume;
use crate::work::{Pending, Work};

/// For people who read the timeline.
const MESSAGE: &str = "written after a restore, by a program that had files open";

/// What was written, through a descriptor that outlived a restore, into the subvolume that was swapped
/// out becomes a rescue entry. It is the caller's turn to capture.
///
/// # Errors
///
/// The first that was met; what it kept from being looked at is looked at again, and nothing else waits
/// for it.
pub(crate) fn rescue_late_writes(inner: &Inner, volume: &Arc<Volume>) -> Result<(), VolumeError> {
    let discarded = inner
        .wait(inner.database.discarded())
        .map_err(|error| VolumeError::failed("failed to look for late writes", error))?;
    discarded
        .into_iter()
        .filter(|row| row.volume == volume.id)
        .map(|row| rescue_written(inner, volume, row))
        .fold(Ok(()), Result::and)
}

/// Looks at what one restore has swapped out.
fn rescue_written(
    inner: &Inner,
    volume: &Arc<Volume>,
    mut row: DiscardedRow,
) -> Result<(), VolumeError> {
    let place = SubvolumePath::Trash(row.operation);
    let found = inner.pool.find(&place).map_err(pool_failed("failed to look for late writes"))?;
    let Some(found) = found else { return Ok(()) };
    if found.generation == row.generation {
        return Ok(());
    }
    let id = EntryId::derive(&row.operation, "rescue");
    let generation = Cell::new(row.generation);
    enqueue_rescue(inner, volume, id, |rescue| {
        generation.set(snapshot_without(inner, volume, &place, rescue)?);
        Ok(())
    })?;
    // what restores of paths had replaced before went along, and is as of before those
    let dir = inner.pool.open(&place).map_err(pool_failed("failed to look for late writes"))?;
    for operation in replaced::list(&dir)? {
        let at = replaced::place(&operation)?;
        enqueue_rescue(inner, volume, EntryId::derive(&operation, "rescue"), |rescue| {
            put_back(inner, volume, &place, &at, rescue)
        })?;
    }
    row.generation = generation.get();
    row.entry = Some(id);
    inner
        .wait(inner.database.put_discarded(&row))
        .map_err(|error| VolumeError::failed("failed to write down late writes", error))
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
