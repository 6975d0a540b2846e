//! Removing what belongs to nothing.

use std::collections::HashSet;
use std::sync::Arc;

use cove_btrfs::SubvolumePath;
use cove_database::StoredRow;
use cove_types::{OperationId, VolumeId};

use crate::capture;
use crate::node::{Inner, StartError, chain};
use crate::volume::Volume;
use crate::work::Work;

/// How long a subvolume that a restore swapped out is kept.
pub(crate) const DISCARDED_FOR_S: i64 = 7 * 24 * 3600;

/// Removes what no row knows: what was being built, snapshots of attempts that never became work,
/// and what a restore swapped out long ago.
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
                known.extend(targets.iter().map(|(target, _)| (target.clone(), pending.operation)));
            }
        }
        known.extend(state.copy.iter().map(|copy| (volume.id.clone(), copy.base)));
    }
    let discarded = inner.wait(inner.database.discarded())?;
    let old_us = inner.now_us() - DISCARDED_FOR_S * 1_000_000;
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
            SubvolumePath::Trash(operation) => {
                let row = discarded.iter().find(|row| row.operation == *operation);
                let generation = inner.pool.find(&place)?.map(|found| found.generation);
                // what was written late and is in no rescue entry yet is kept until it is
                row.is_none_or(|row| row.moved_us > old_us || generation != Some(row.generation))
            }
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
