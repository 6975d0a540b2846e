//! The present states of several volumes at one instant.
//!
//! The kernel freezes one subvolume at a time, and what a program wrote to two of them between would be in the
//! later one alone (ADR 0019). So the programs that write stand still; and because one may have been missed, it is looked
//! afterwards whether anything was written since: the instant is then that look, and else all begins again.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use cove_btrfs::SubvolumePath;
use cove_content::volumes::{Call, NewEntry, VolumeError};
use cove_database::Finished;
use cove_types::{Consistency, ErrorKind};

use crate::capture::snapshot::{Frozen, drafted, freeze};
use crate::capture::{Asked, asked, generation, hand_over, not_written, pending_row, pool_failed};
use crate::in_use::writers;
use crate::node::Inner;
use crate::standstill::Standstill;
use crate::volume::{Turn, Volume};
use crate::work::{Pending, Work};

/// How often it is tried.
const TRIES: u32 = 5;

/// Captures volumes, each once, as entries of one instant; the turns of all of them are the caller's. Calls of which
/// some are known and others are not are refused (`OtherRequest`): those that are known hold entries already.
pub(crate) fn snapshot_together(
    inner: &Inner,
    volumes: &[(Arc<Volume>, Call)],
    entry: &NewEntry,
    _turns: Vec<Turn>,
) -> Result<Vec<Asked>, VolumeError> {
    let mut before = Vec::new();
    for (volume, call) in volumes {
        match asked(inner, volume, call)? {
            Asked::New => {}
            asked => before.push(asked),
        }
    }
    if !before.is_empty() {
        return if before.len() == volumes.len() {
            Ok(before)
        } else {
            Err(VolumeError::OtherRequest)
        };
    }
    let drafts = volumes.iter().map(|(volume, call)| drafted(inner, volume, call, entry));
    let mut all = drafts.collect::<Result<Vec<_>, _>>()?;
    let _held: Vec<_> =
        volumes.iter().map(|(volume, call)| volume.hold([call.operation])).collect();
    let frozen = freeze_all(inner, volumes, &mut all);
    let written = frozen.and_then(|frozen| write_all(inner, &all).map(|()| frozen));
    let frozen = match written {
        Ok(frozen) => frozen,
        Err(error) => {
            // nothing is written down of them, and nobody else would let go of them before the next start
            for (volume, call) in volumes {
                volume.state().stored.remove(&call.operation);
                inner.drop_stored(&volume.id, &call.operation);
            }
            return Err(error);
        }
    };
    volumes.iter().zip(frozen).for_each(|((volume, _), frozen)| frozen.written(volume));
    let each = volumes.iter().zip(all);
    Ok(each.map(|((volume, _), pending)| Asked::Pending(hand_over(volume, pending))).collect())
}

/// Writes all of the work down, or nothing.
fn write_all(inner: &Inner, all: &[Pending]) -> Result<(), VolumeError> {
    let rows = all.iter().map(|pending| pending_row(inner, pending)).collect::<Result<_, _>>()?;
    let finished = Finished { pending: rows, ..Finished::default() };
    inner
        .wait(inner.database.finish(&finished))
        .map_err(not_written("failed to write down what is to be saved"))
}

/// Takes a snapshot of each volume until none of them has changed by the time that the last is taken.
fn freeze_all(
    inner: &Inner,
    volumes: &[(Arc<Volume>, Call)],
    all: &mut [Pending],
) -> Result<Vec<Frozen>, VolumeError> {
    // what this node itself writes waits
    let _places: Vec<_> = volumes
        .iter()
        .map(|(volume, _)| volume.place.write().unwrap_or_else(PoisonError::into_inner))
        .collect();
    let tops: Vec<_> = volumes
        .iter()
        .map(|(volume, _)| inner.pool.absolute(&SubvolumePath::Volume(volume.id.clone())))
        .collect();
    let flush = || inner.pool.flush().map_err(pool_failed("failed to write the files to disk"));
    for _ in 0..TRIES {
        // the less is left to be written, the shorter they stand still
        flush()?;
        let pids: BTreeSet<u32> = tops.iter().flat_map(|top| writers(top)).collect();
        let still = Standstill::of(pids.into_iter().collect());
        let mut all_frozen = Vec::new();
        for ((volume, _), pending) in volumes.iter().zip(&mut *all) {
            let frozen = freeze(inner, volume, pending)?;
            let now = inner.env.now();
            if let Work::Snapshot { entry, .. } = &mut pending.work {
                (entry.captured_ms, entry.time) = (frozen.taken_ms, now);
                entry.consistency = Consistency::Frozen;
            }
            all_frozen.push(frozen);
        }
        flush()?;
        drop(still);
        let mut is_one_instant = true;
        for pending in &*all {
            let is_same = generation(inner, &pending.volume)? == pending.generation;
            if !is_same {
                tracing::info!(volume = %pending.volume, "it was written to between snapshots of one instant");
            }
            is_one_instant &= is_same;
        }
        if is_one_instant {
            return Ok(all_frozen);
        }
    }
    Err(VolumeError::Refused {
        kind: ErrorKind::Conflict,
        what: "a program that cannot be held writes to these volumes all the time".to_owned(),
    })
}
