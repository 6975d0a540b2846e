//! Heads from which entries, or all, are taken for ever.

use std::sync::Arc;

use cove_content::head::{Head, HeadObject, HeadState, OlderEntries};
use cove_database::Finished;
use cove_types::{EntryId, ErrorKind, OperationId};

use crate::capture::take_files;
use crate::node::{Inner, drop_discarded_of};
use crate::save::SaveError;
use crate::save::edit::spill_head;
use crate::save::finish::{finish, needed_by_others, result_row};
use crate::save::head_put::{PUT_ATTEMPTS, head_row, put_or_begin_again, put_tombstone_of};
use crate::save::{known_of, op, stamp};
use crate::volume::{Ended, Known, Volume, is_kept_alone};
use crate::work::{Pending, Work};

/// Puts what is left of a volume when it is deleted.
pub(crate) fn delete(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
) -> Result<Ended, SaveError> {
    {
        // the call that deletes it may be at it
        let _turn = volume.capture.blocking_lock();
        if !volume.is_queued(&pending.operation) {
            // a recovery had the turn: the files are those of another owner by now
            return Ok(Ended::default());
        }
        take_files(inner, volume)
            .map_err(|error| SaveError::later("failed to delete the files", &error))?;
    }
    take_out(inner, volume, pending, |known| {
        let kept: Vec<EntryId> =
            known.entries().filter(|entry| is_kept_alone(entry)).map(|entry| entry.id).collect();
        let op = op(pending, Vec::new());
        known.next_of(|head| head.delete(&kept, Some(op.clone()), stamp(inner)), head_in)
    })
}

/// Takes an entry out. One that is gone already is as good.
pub(crate) fn remove_entry(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
    entry: &EntryId,
) -> Result<Ended, SaveError> {
    let known = known_of(volume)?;
    if known.is_whole() && known.find_entry(entry).is_none() {
        return finish(inner, volume, pending, &known, Ended::default(), false);
    }
    take_out(inner, volume, pending, |known| {
        let op = op(pending, Vec::new());
        known.next_of(|head| head.remove_entry(entry, Some(op.clone()), stamp(inner)), head_in)
    })
}

fn head_in(object: &mut HeadObject) -> Option<&mut Head> {
    match object {
        HeadObject::Head(head) => Some(head),
        HeadObject::Tombstone(_) => None,
    }
}

fn take_out(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
    next: impl Fn(&Known) -> Result<(HeadObject, OlderEntries), cove_content::head::TransitionError>,
) -> Result<Ended, SaveError> {
    let operation = &pending.operation;
    for _ in 0..PUT_ATTEMPTS {
        let known = known_of(volume)?;
        // after the head: a recovery takes this out of the queue before it makes another owner's head this node's
        if !volume.is_queued(operation) {
            return Ok(Ended::default());
        }
        let unread = known.unread();
        if unread > 0 {
            return Err(SaveError::Later {
                kind: ErrorKind::Corrupt,
                what: format!("{unread} of the older entries cannot be read"),
            });
        }
        let (head, older) = match next(&known)? {
            (HeadObject::Head(head), older) => (*head, older),
            (HeadObject::Tombstone(tombstone), _) => {
                put_tombstone_of(inner, &known, &tombstone, operation)?;
                return finish_deleted(inner, volume, pending, None);
            }
        };
        let (head, older) = spill_head(inner, volume, &known, head, older)?;
        let Some(known) = put_or_begin_again(inner, volume, &known, head, older, operation)? else {
            continue;
        };
        return match known.head.state {
            HeadState::Deleted => finish_deleted(inner, volume, pending, Some(known)),
            HeadState::Live | HeadState::Trashed => {
                finish(inner, volume, pending, &known, Ended::default(), false)
            }
        };
    }
    Err(SaveError::Later {
        kind: ErrorKind::Conflict,
        what: "the head changes all the time".into(),
    })
}

/// Lets go of all that is not left of a deleted volume (the snapshots but those of the entries that are left, and what
/// restores had swapped out), and
/// writes down, in one transaction, what is left; with nothing left the volume is forgotten. A crash in between leaves
/// the work to be finished again: nothing that no row knows stays on the disk.
pub(crate) fn finish_deleted(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
    left: Option<Known>,
) -> Result<Ended, SaveError> {
    let ended = Ended::default();
    let seq = left.as_ref().map_or(0, |known| known.head.seq);
    // what waited for room in the timeline goes with the timeline
    let aside: Vec<OperationId> =
        volume.state().aside.iter().map(|(work, _)| work.operation).collect();
    let unneeded: Vec<OperationId> = {
        let mut state = volume.state();
        let needed = needed_by_others(&state, Some(pending));
        let is_left =
            |entry: &EntryId| left.as_ref().is_some_and(|known| known.find_entry(entry).is_some());
        let rows = state.stored.values();
        let unneeded = rows.filter(|row| {
            !needed.contains(&row.operation) && !row.entry.as_ref().is_some_and(is_left)
        });
        let unneeded: Vec<_> = unneeded.map(|row| row.operation).collect();
        state.stored.retain(|operation, _| !unneeded.contains(operation));
        unneeded
    };
    for operation in unneeded.iter().chain(&aside) {
        inner.drop_stored(&volume.id, operation);
    }
    drop_discarded_of(inner, &volume.id);
    // until then a power cut brings back what was deleted, which no row would know
    inner
        .pool
        .flush()
        .map_err(|error| SaveError::later("failed to write to disk what is deleted", &error))?;
    let finished = Finished {
        operations: std::iter::once(pending.operation).chain(aside).collect(),
        heads: left.iter().map(|known| head_row(inner, known)).collect::<Result<_, _>>()?,
        heads_gone: if left.is_some() { Vec::new() } else { vec![volume.id.clone()] },
        copies_gone: vec![volume.id.clone()],
        results: vec![result_row(inner, pending, seq, &ended)?],
        ..Finished::default()
    };
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| SaveError::later("failed to write down what is deleted", &error))?;
    let is_gone = {
        let mut state = volume.state();
        (state.copy, state.saved_at) = (None, Some(inner.env.now()));
        state.aside.clear();
        state.known = left;
        state.known.is_none()
    };
    if is_gone {
        inner.forget(&volume.id);
    }
    Ok(ended)
}

/// Whether work is one of those after which there may be no head.
pub(crate) fn may_end(work: &Work) -> bool {
    matches!(work, Work::Delete | Work::RemoveEntry { .. })
}
