//! Writing down, in one transaction, that work has ended.

use std::collections::HashSet;
use std::sync::Arc;

use cove_content::head::{FORMAT, Op, OpResult, Stamp, Tombstone, TombstoneState};
use cove_database::{CopyRow, Finished, ResultRow, StoredRow};
use cove_types::{EntryId, ErrorKind, OperationId};

use crate::capture::{sub, undo};
use crate::node::{Inner, stored_row};
use crate::save::SaveError;
use crate::save::edit::spill_head;
use crate::save::head_put::{head_row, put_or_begin_again, put_tombstone};
use crate::save::{op, stamp};
use crate::volume::{Ended, Known, State, Volume};
use crate::work::{Pending, Work};

/// How much of why work failed stands in the head, in bytes.
const FAILURE_BYTES: usize = 190;

pub(crate) fn result_row(
    inner: &Inner,
    pending: &Pending,
    seq: u32,
    ended: &Ended,
) -> Result<ResultRow, SaveError> {
    let result = serde_json::to_string(ended).map_err(|error| SaveError::Later {
        kind: ErrorKind::Internal,
        what: format!("failed to write down how it ended: {error}"),
    })?;
    Ok(ResultRow {
        operation: pending.operation,
        volume: pending.volume.clone(),
        request: pending.request.to_vec(),
        result,
        seq,
        at_us: inner.now_us(),
    })
}

/// Writes down, in one transaction, that work is saved, and lets go of the snapshot before.
pub(crate) fn finish(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    known: &Known,
    ended: Ended,
    has_snapshot: bool,
) -> Result<Ended, SaveError> {
    let mut finished = Finished {
        operations: match pending.work {
            // the forks' heads are still to come
            Work::Background if is_fork(volume, pending) => Vec::new(),
            _ => vec![pending.operation],
        },
        heads: vec![head_row(inner, known)?],
        ..Finished::default()
    };
    let mut unneeded = Vec::new();
    // a rescue that was stored and brought nothing is a state that an entry, or the present, holds
    // already; of one whose end an earlier run wrote down, that is not known
    let is_rescue = matches!(pending.work, Work::Rescue { .. });
    let brought_nothing = has_snapshot && is_rescue && ended.entry.is_none();
    if brought_nothing {
        unneeded.push(pending.operation);
    }
    if has_snapshot && !brought_nothing {
        let mut row = stored_row(inner, pending);
        let state = volume.state();
        let needed = needed_by_others(&state, Some(pending));
        let is_now = !matches!(
            pending.work,
            Work::Restore { .. } | Work::RestorePaths { .. } | Work::Rescue { .. }
        );
        row.root = Some(known.head.now.tree.to_string());
        if !is_now {
            row.root = row
                .entry
                .and_then(|id| known.find_entry(&id))
                .map(|entry| entry.root.tree.to_string());
        }
        finished.stored.push(row);
        // the files are another state by now: one that a restore put there meanwhile
        let is_swapped = state.copy.as_ref().is_some_and(|copy| needed.contains(&copy.base));
        if is_now && !is_swapped {
            finished.copies.push(CopyRow {
                volume: volume.id.clone(),
                base: pending.operation,
                tree: known.head.now.tree,
                seq: known.head.seq,
                generation: pending.generation,
                unsaved_bytes: Some(0),
                looked_us: inner.now_us(),
            });
            unneeded.extend(state.copy.as_ref().map(|copy| copy.base));
        } else if let (Work::Restore { .. }, Some(copy)) = (&pending.work, &state.copy) {
            // the restored subvolume's own snapshot is the base from now on
            let mut copy = CopyRow { seq: known.head.seq, ..copy.clone() };
            if copy.base == sub(&pending.operation, 1) {
                copy.tree = known.head.now.tree;
            }
            finished.copies.push(copy);
        }
    }
    if !matches!(pending.work, Work::Background) {
        finished.results.push(result_row(inner, pending, known.head.seq, &ended)?);
    }
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| SaveError::later("failed to write down what is saved", &error))?;
    {
        let mut state = volume.state();
        state.known = Some(known.clone());
        state.saved_at = Some(inner.env.now());
        for row in finished.stored {
            state.stored.insert(row.operation, row);
        }
        for copy in finished.copies {
            state.copy = Some(copy);
        }
        let base = state.copy.as_ref().map(|copy| copy.base);
        let needed = needed_by_others(&state, Some(pending));
        let live: Vec<EntryId> =
            known.entries().filter(|entry| entry.is_live()).map(|entry| entry.id).collect();
        // one that may be in a list which cannot be read is neither gone nor in the trash
        let is_gone = |row: &StoredRow| {
            row.entry.is_none_or(|entry| match known.unread() {
                0 => !live.contains(&entry),
                _ => known.find_entry(&entry).is_some_and(|entry| !entry.is_live()),
            })
        };
        // a rescue that is brought up to date is its newest snapshot alone
        let updated = match &pending.work {
            Work::Rescue { entry } if ended.entry.is_some() => Some(entry.id),
            _ => None,
        };
        let is_superseded = |row: &StoredRow| updated.is_some() && row.entry == updated;
        let is_unneeded = |row: &StoredRow| is_gone(row) || is_superseded(row);
        unneeded
            .extend(state.stored.values().filter(|row| is_unneeded(row)).map(|row| row.operation));
        unneeded.retain(|operation| {
            let is_free = match *operation == pending.operation {
                true => brought_nothing,
                false => state.stored.get(operation).is_none_or(is_unneeded),
            };
            is_free && Some(*operation) != base && !needed.contains(operation)
        });
        unneeded.sort_unstable();
        unneeded.dedup();
        for operation in &unneeded {
            state.stored.remove(operation);
        }
    }
    for operation in unneeded {
        inner.drop_stored(&volume.id, &operation);
    }
    Ok(ended)
}

/// The snapshots that other work needs, in the queue or on its way there.
pub(crate) fn needed_by_others(state: &State, pending: Option<&Pending>) -> HashSet<OperationId> {
    let is_other = |other: &&Pending| pending.is_none_or(|own| other.operation != own.operation);
    let queued = state.queue.iter().filter(is_other);
    let mut needed: HashSet<OperationId> = queued
        .flat_map(|other| {
            let base = match &other.work {
                Work::Restore { base_before, .. } => base_before.map(|(base, _)| base),
                _ => None,
            };
            [Some(other.operation), Some(sub(&other.operation, 1)), base]
        })
        .flatten()
        .collect();
    needed.extend(state.held.keys());
    needed
}

fn is_fork(volume: &Volume, pending: &Pending) -> bool {
    volume.state().queue.iter().any(|other| {
        other.operation == pending.operation && matches!(other.work, Work::Fork { .. })
    })
}

/// As much of a message as stands in the head.
fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(FAILURE_BYTES)]
}

/// Writes into the head, and then down, that work has failed for good.
pub(crate) fn record_failure(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
    ended: &Ended,
) -> Result<(), SaveError> {
    let Some((kind, what)) = &ended.failure else { return Ok(()) };
    let known = volume.state().known.clone();
    let Some(known) = known else {
        if matches!(pending.work, Work::Create { .. }) {
            return record_failed_create(inner, volume, pending, ended);
        }
        return inner
            .wait(inner.database.delete_pending(&pending.operation))
            .map_err(|error| SaveError::later("failed to write down a failure", &error));
    };
    let message = cut(what).to_owned();
    let failed =
        Op { result: OpResult::Failed { kind: *kind, message }, ..op(pending, Vec::new()) };
    let (next, older) = known.next(|head| head.record_op(failed.clone(), stamp(inner)))?;
    let (next, older) = spill_head(inner, volume, &known, next, older)?;
    let operation = &pending.operation;
    match put_or_begin_again(inner, volume, &known, next, older, operation)? {
        Some(known) => {
            finish(inner, volume, pending, &known, ended.clone(), false)?;
            if pending.work.document().is_some() {
                volume.state().stays(operation);
            }
            Ok(())
        }
        None => Err(SaveError::Later {
            kind: ErrorKind::Conflict,
            what: "the head has changed, and a failure is to be written into the new one".into(),
        }),
    }
}

/// Puts a tombstone where the head of the volume would be, so that no request of its create takes effect
/// any more, and writes down that the create has failed: the same call gets this answer again.
fn record_failed_create(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
    ended: &Ended,
) -> Result<(), SaveError> {
    let Stamp { time, nonce } = stamp(inner);
    let tombstone = Tombstone {
        format: FORMAT,
        volume: volume.id.clone(),
        epoch: 0,
        seq: 0,
        state: TombstoneState::Deleted,
        lived: false,
        op: Some(pending.operation),
        nonce,
        time,
    };
    put_tombstone(inner, &tombstone)?;
    undo(inner, volume, pending)
        .map_err(|error| SaveError::later("failed to take a new volume away", &error))?;
    let finished = Finished {
        operations: vec![pending.operation],
        results: vec![result_row(inner, pending, 0, ended)?],
        ..Finished::default()
    };
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| SaveError::later("failed to write down a failure", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_letters() {
        assert_eq!(cut("x: \u{e9}"), "x: \u{e9}");
        for start in ["", "x", "xy"] {
            let long = format!("{start}{}", "\u{65e5}".repeat(100));
            let kept = cut(&long);
            assert!(
                long.starts_with(kept) && (FAILURE_BYTES - 2..=FAILURE_BYTES).contains(&kept.len())
            );
        }
    }
}
