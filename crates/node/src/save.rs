//! Bringing captured work to the object store.
//!
//! Each piece of work may be begun any number of times: an answer that was lost is found
//! in the head's list of operations, and what an earlier attempt put is named by nothing.

mod commit;
mod delete;
mod edit;
mod error;
mod finish;
mod fork;
mod head_put;
mod lacks;
mod lineage;
mod older;
mod rescue;
mod restore;
mod snapshot;

pub(crate) use error::SaveError;
pub(crate) use finish::{needed_by_others, record_failure, result_row};
pub(crate) use head_put::{find_head, head_row, is_head_lost, put_head, read_head, remember};
pub(crate) use lacks::{bring_lacks, read_lacks};
pub(crate) use older::{bring_entry, bring_older, chunks_of, read_older, unread};
pub(crate) use rescue::{Cause, keep_unknown, put_beside, rescue_draft, rescue_id, rescue_of};

use std::sync::Arc;

use cove_content::document::ProjectDocument;
use cove_content::entry::EntryRecord;
use cove_content::head::{
    BACKGROUND, Commit, Head, HeadState, Nonce, OlderEntries, Op, OpAnswer, OpResult, RequestHash,
    Stamp, TransitionError,
};
use cove_content::retention::roll_off;
use cove_content::root::Root;
use cove_content::volumes::VolumeError;
use cove_types::{Classify, Digest, EntryId, ErrorKind, chain};

use crate::capture::{asks_store, complete, give_up, is_lasting, is_unfinished, undo};
use crate::node::{Inner, document_digest};
use crate::save::commit::commit;
use crate::save::delete::{delete, finish_deleted, may_end, remove_entry};
use crate::save::edit::{change_head, entry_edit};
use crate::save::finish::finish;
use crate::save::fork::fork;
use crate::save::head_put::create_head;
use crate::save::rescue::take_head;
use crate::save::restore::restore;
use crate::volume::{Ended, Known, Volume};
use crate::work::{Pending, Work};

pub(crate) fn stamp(inner: &Inner) -> Stamp {
    Stamp { time: inner.env.now(), nonce: Nonce(inner.env.random()) }
}

/// Saves one piece of work and writes down that it is saved.
pub(crate) fn save(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
) -> Result<Ended, SaveError> {
    let pending = finish_capture(inner, volume, pending)?;
    // where a tombstone may be in its place already, the PUT finds out
    if !may_end(&pending.work) {
        catch_up(inner, volume, &pending)?;
    }
    let saved = attempt(inner, volume, &pending).map_err(|error| kept(&pending, error));
    if saved.is_err() && !volume.is_queued(&pending.operation) {
        // a recovery has ended it
        return Ok(Ended::default());
    }
    if let Err(SaveError::Refused { kind, what }) = &saved
        && let Work::Fork { .. } = pending.work
    {
        let error = VolumeError::Refused { kind: *kind, what: what.clone() };
        let _turn = volume.capture.blocking_lock();
        let (_, undone) = give_up(inner, volume, &pending, &error);
        undone.map_err(|left| SaveError::later("failed to take forks away", &left))?;
    }
    if let Err(SaveError::Later { kind: ErrorKind::Conflict, .. }) = &saved {
        // the head is another than is remembered here: an answer was lost, or another copy saved
        let found = read_head(inner, &volume.id)?;
        // bound apart: taking the head locks the state
        let known = volume.state().known.clone();
        if !volume.is_queued(&pending.operation) {
            return Ok(Ended::default());
        }
        if let Some(known) = known {
            take_head(inner, volume, &known.head, found, Some(&pending.operation))?;
        }
    }
    saved
}

/// Takes the head that an earlier run put for its work, if it ended before it had remembered that. Without
/// it the packs that this head lists would be put again, and all of them be in vain.
///
/// Costs one request after a start that finds work to be saved.
fn catch_up(inner: &Arc<Inner>, volume: &Arc<Volume>, pending: &Pending) -> Result<(), SaveError> {
    let known = {
        let state = volume.state();
        state.known.clone().filter(|_| state.is_resumed)
    };
    if let Some(known) = known {
        let found = read_head(inner, &volume.id)?;
        if found.0.seq != known.head.seq || found.0.nonce != known.head.nonce {
            take_head(inner, volume, &known.head, found, Some(&pending.operation))?;
        }
    }
    volume.state().is_resumed = false;
    Ok(())
}

/// What becomes of work that the head refuses: the files are those of the entry already where a restore has
/// swapped them in, and the state before is in nothing else, so that it waits rather than being given up.
///
/// A head that cannot be written (`Internal`) is no reason to take back what is used or deleted by now: that waits, too.
/// A rescue waits beside the queue. Of all else the files stay as they are, and a later save brings them.
fn kept(pending: &Pending, error: SaveError) -> SaveError {
    let is_swapped = matches!(
        pending.work,
        Work::Restore { done: true, .. } | Work::RestorePaths { done: true, .. }
    );
    match error {
        // of a snapshot that is gone there is nothing to wait for
        SaveError::Refused { kind, what } if is_swapped && kind != ErrorKind::Corrupt => {
            SaveError::Later { kind, what }
        }
        SaveError::Refused { kind: kind @ ErrorKind::Internal, what } => match &pending.work {
            Work::Create { .. } | Work::Fork { .. } | Work::Delete | Work::RemoveEntry { .. } => {
                SaveError::Later { kind, what }
            }
            Work::Rescue { .. } => SaveError::Refused { kind: ErrorKind::Exhausted, what },
            Work::Background
            | Work::Snapshot { .. }
            | Work::EditEntry { .. }
            | Work::Describe { .. }
            | Work::Specify { .. }
            | Work::SetTrashed { .. }
            | Work::Restore { .. }
            | Work::RestorePaths { .. } => SaveError::Refused { kind, what },
        },
        error => error,
    }
}

/// Finishes what a crash or a fault left of the node's half of work. What cannot be finished is undone and
/// refused, so that nothing waits for it.
fn finish_capture(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
) -> Result<Pending, SaveError> {
    if pending.failed.is_none() && !is_unfinished(pending) {
        return Ok(pending.clone());
    }
    let later = |error: &VolumeError| SaveError::later("failed to finish what was begun", error);
    let _turn = volume.capture.blocking_lock();
    let Some((kind, what)) = pending.failed.clone() else {
        let error = match complete(inner, volume, pending) {
            Ok(completed) => return Ok(completed),
            Err(error) => error,
        };
        if !is_lasting(error.kind(), asks_store(inner, volume, pending)) {
            return Err(later(&error));
        }
        let (_, undone) = give_up(inner, volume, pending, &error);
        undone.map_err(|left| later(&left))?;
        return Err(SaveError::Refused { kind: error.kind(), what: chain(&error) });
    };
    undo(inner, volume, pending).map_err(|left| later(&left))?;
    Err(SaveError::Refused { kind, what })
}

fn attempt(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
) -> Result<Ended, SaveError> {
    bring_older(inner, volume)?;
    let answer = volume.state().known.as_ref().map(|known| {
        (known.head.find_op(&pending.operation, &RequestHash(pending.request)), known.clone())
    });
    if let Some((OpAnswer::First(_), known)) = &answer
        && known.head.state == HeadState::Deleted
        && may_end(&pending.work)
    {
        return finish_deleted(inner, volume, pending, Some(known.clone()));
    }
    if let Some((OpAnswer::First(result), known)) = answer
        && !matches!(pending.work, Work::Background | Work::Create { .. } | Work::Fork { .. })
    {
        return finish(inner, volume, pending, &known, Ended::from(result), false);
    }
    match &pending.work {
        Work::Create { document, spec, remarks } => {
            if volume.state().known.is_none() {
                create_head(inner, volume, pending, document, spec)?;
            }
            let ended = Ended { remarks: remarks.clone(), ..Ended::default() };
            commit(inner, volume, pending, ended, never, |head, root, _, stamp, op| {
                head.commit(plain(head, root), op, stamp)
            })
        }
        Work::Background => {
            commit(inner, volume, pending, Ended::default(), is_now, |head, root, _, stamp, op| {
                head.commit(plain(head, root), op, stamp)
            })
        }
        Work::Snapshot { entry, keep } | Work::RestorePaths { before: entry, keep, .. } => {
            let ended = Ended { entry: Some(entry.id), ..Ended::default() };
            commit(inner, volume, pending, ended, never, |head, root, made, stamp, op| {
                let record = EntryRecord { root: root.clone(), ..entry.clone() };
                made.rolled_off = rolled_off(head, &record, *keep);
                let commit = Commit {
                    add: vec![record],
                    trash: made.rolled_off.clone(),
                    ..plain(head, root)
                };
                head.commit(commit, op, stamp)
            })
        }
        Work::EditEntry { entry, edit } => {
            let ended = Ended { entry: Some(*entry), ..Ended::default() };
            change_head(inner, volume, pending, ended, |known, stamp, op| {
                let edit = entry_edit(known, entry, edit)?;
                known.next(|head| head.edit_entry(entry, edit.clone(), Some(op.clone()), stamp))
            })
        }
        Work::Describe { document } => {
            let ended =
                change_head(inner, volume, pending, Ended::default(), |known, stamp, op| {
                    described(known, document, stamp, &op)
                })?;
            volume.state().document = Some(document.clone());
            Ok(ended)
        }
        Work::Specify { change, document } => {
            change_head(inner, volume, pending, Ended::default(), |known, stamp, op| {
                let spec = known.head.spec.changed(change);
                let Some(document) = document else {
                    return known.next(|head| head.specify(spec.clone(), Some(op.clone()), stamp));
                };
                let (mut next, older) = described(known, document, stamp, &op)?;
                next.spec = spec;
                Ok((next, older))
            })
        }
        Work::Delete => delete(inner, volume, pending),
        Work::RemoveEntry { entry } => remove_entry(inner, volume, pending, entry),
        Work::SetTrashed { trashed } => {
            change_head(inner, volume, pending, Ended::default(), |known, stamp, op| {
                known.next(|head| head.set_trashed(*trashed, Some(op.clone()), stamp))
            })
        }
        Work::Restore { entry, before, keep, .. } => {
            restore(inner, volume, pending, entry, before, *keep)
        }
        Work::Fork { entry, targets, is_exact, .. } => {
            fork(inner, volume, pending, entry.as_ref(), targets, *is_exact)
        }
        Work::Rescue { entry } => {
            let ended = Ended { entry: Some(entry.id), ..Ended::default() };
            // files of another state than the head's take its place at their next commit
            let here = volume.state().copy.as_ref().map(|copy| copy.tree);
            let is_kept = |head: &Head, root: &Root| keeps(head, &entry.id, here, root);
            // a state beside the present one, which is left alone
            commit(inner, volume, pending, ended, is_kept, |head, root, _, stamp, op| {
                let record = EntryRecord { root, ..entry.clone() };
                if head.find_entry(&record.id).is_some() {
                    let locations = head.locations.clone();
                    head.replace_entry_root(&record.id, record.root.clone(), locations, op, stamp)
                } else {
                    head.add_entry(record, &[], op, stamp)
                }
            })
        }
    }
}

/// The head with another document, which is the one that its state names.
fn described(
    known: &Known,
    document: &ProjectDocument,
    stamp: Stamp,
    op: &Op,
) -> Result<(Head, OlderEntries), TransitionError> {
    let root = Root {
        document: document_digest(document),
        parents: vec![known.head.now.digest()],
        ..known.head.now.clone()
    };
    let (mut next, older) =
        known.next(|head| head.commit(plain(head, root.clone()), Some(op.clone()), stamp))?;
    next.document = Some(document.clone());
    Ok((next, older))
}

/// What the project is as of work in its turn: what waits behind that may change it, and may fail.
fn document_in_turn(volume: &Volume, known: &Known) -> Option<ProjectDocument> {
    known.head.document.clone().or_else(|| volume.state().document.clone())
}

/// Whether a state is the head's present one.
pub(crate) fn is_now(head: &Head, root: &Root) -> bool {
    *root == head.now
}

/// Nothing that is asked for is there before it is put.
pub(crate) fn never(_: &Head, _: &Root) -> bool {
    false
}

/// Whether a state stays without the entry `own`: another that is live holds it (what is in the trash goes with
/// it); it is the present one and `here`, what the files descend from, as well; or `own` has it, even in the
/// trash, because then somebody has put this very state there.
fn keeps(head: &Head, own: &EntryId, here: Option<Digest>, root: &Root) -> bool {
    let mut kept = head.entries.iter().filter(|entry| entry.keeps_its_state() || entry.id == *own);
    let is_now = root.tree == head.now.tree && here == Some(head.now.tree);
    is_now || kept.any(|entry| entry.root.tree == root.tree)
}

/// A commit of `root` that brings no entry; its locations come later.
pub(crate) fn plain(head: &Head, root: Root) -> Commit {
    Commit {
        root,
        locations: head.locations.clone(),
        root_frame: head.root_frame,
        add: Vec::new(),
        trash: Vec::new(),
    }
}

pub(crate) fn rolled_off(head: &Head, new: &EntryRecord, keep: u32) -> Vec<EntryId> {
    let live: Vec<EntryRecord> =
        head.entries.iter().filter(|entry| entry.is_live()).cloned().collect();
    roll_off(&live, keep, new, &[])
}

pub(crate) fn op(pending: &Pending, entries: Vec<EntryId>) -> Op {
    Op {
        id: pending.operation,
        request: RequestHash(pending.request),
        kind: match pending.work {
            Work::Background => BACKGROUND.to_owned(),
            _ => pending.work.kind().to_owned(),
        },
        result: OpResult::Done { entries, tree: None },
    }
}

pub(crate) fn known_of(volume: &Volume) -> Result<Known, SaveError> {
    // a fork is used before its head is there
    volume.state().known.clone().ok_or_else(|| SaveError::Later {
        kind: ErrorKind::Unavailable,
        what: format!("volume {} has no head yet", volume.id),
    })
}

#[cfg(test)]
mod tests;
