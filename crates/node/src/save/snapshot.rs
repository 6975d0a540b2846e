//! Storing one snapshot: from what changed since the last commit, or in full.

use cove_btrfs::SubvolumePath;
use cove_content::chunks::Chunks;
use cove_content::incremental::IncrementalError;
use cove_content::root::{Counts, NotCaptured, NotCapturedPath, Root};
use cove_content::session::Session;
use cove_content::store::store_tree;
use cove_content::volumes::Progress;
use cove_types::{Classify, Digest, ErrorKind, chain};

use crate::node::{Inner, document_digest};
use crate::save::lacks::note_lacks;
use crate::save::{Cause, SaveError, document_in_turn};
use crate::volume::{Known, Trouble, Volume};
use crate::work::{Pending, Work};

/// A project without any file has two directories: what differs from them is all that there is, and
/// telling it costs more than reading it.
const EMPTY_ENTRIES: u64 = 2;

/// So many changed inodes are stored in full: told by what changed, each takes some 4 KB of memory.
const CHANGED_MAX: u64 = 40_000;
/// Of fewer than this it is not asked what a full store would cost.
const CHANGED_MANY: u64 = 10_000;
/// What an inode costs that is told by what changed, in microseconds, measured on two processors; and
/// what an entry and the bytes cost that a full store reads.
const CHANGED_US: u64 = 150;
const ENTRY_US: u64 = 30;
const BYTES_A_US: u64 = 600;

/// Whether a state with `changed` inodes is stored in full, given what the one before had.
fn is_stored_in_full(changed: u64, before: Counts) -> bool {
    let entries = before.entries.saturating_mul(ENTRY_US);
    let whole = entries.saturating_add(before.data_bytes / BYTES_A_US);
    changed >= CHANGED_MAX
        || (changed >= CHANGED_MANY && whole < changed.saturating_mul(CHANGED_US))
}

/// One attempt to save one piece of work: from which head it begins.
pub(crate) struct Turn<'a> {
    pub inner: &'a Inner,
    pub volume: &'a Volume,
    pub pending: &'a Pending,
    pub known: &'a Known,
}

/// What storing a snapshot gave.
pub(crate) struct StoredRoot {
    pub root: Root,
    pub chunk_of_lacks: Option<Vec<u8>>,
}

/// Stores `stored/<volume>.<operation>` in a session, from what changed where that is known and the store
/// can be believed.
pub(crate) fn store_snapshot(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    pending: &Pending,
    session: &mut Session<'_>,
    chunks: &Chunks,
    is_believed: bool,
) -> Result<StoredRoot, SaveError> {
    let place = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    let document = document_in_turn(volume, known);
    let digest = document.as_ref().map_or(known.head.now.document, document_digest);
    let dir = match inner.pool.open(&place) {
        Ok(dir) => dir,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(lost(inner, volume, pending));
        }
        Err(error) => return Err(SaveError::later("failed to open a snapshot", &error)),
    };
    let turn = Turn { inner, volume, pending, known };
    let stored =
        match if is_believed { changed(&turn, &place, &dir, session, chunks)? } else { None } {
            Some(stored) => stored,
            None => store_tree(&dir, session, &Progress::default())
                .map_err(|error| SaveError::later("failed to store the files", &error))?,
        };
    let (not_captured, chunk_of_lacks) = NotCaptured::new(stored.not_captured);
    if let Some(chunk) = &chunk_of_lacks {
        note_lacks(volume, &not_captured, chunk);
    }
    let mut root = Root {
        tree: stored.root.digest,
        level: stored.root.level,
        counts: stored.root.counts,
        not_captured,
        document: digest,
        ..crate::volume::unknown_root()
    };
    let now = &known.head.now;
    if root.tree == now.tree
        && root.document == now.document
        && root.not_captured == now.not_captured
    {
        root = now.clone();
    } else {
        root.parents = vec![now.digest()];
    }
    Ok(StoredRoot { root, chunk_of_lacks })
}

/// Work whose snapshot is gone can never be saved; what comes after it can.
fn lost(inner: &Inner, volume: &Volume, pending: &Pending) -> SaveError {
    let kind = ErrorKind::Corrupt;
    let what = format!("the snapshot of a {} is gone from this node", pending.work.kind());
    tracing::error!(volume = %volume.id, operation = %pending.operation, what);
    let since = inner.env.now();
    let mut state = volume.state();
    // said once, however often it is tried
    if !state.lost.iter().any(|known| known.what == what) {
        state.lost.push(Trouble { what: what.clone(), kind, since });
    }
    SaveError::Refused { kind, what }
}

/// The state in the head that has `tree`, if what changed since then may be applied to it.
///
/// That is the present one alone, so that a copy of another state is compared as a whole. Snapshots that
/// were found on this disk are of the files that were found with them, which may be an entry.
fn state_of<'a>(known: &'a Known, work: &Work, tree: Digest) -> Option<&'a Root> {
    let captured_here = Some(Cause::CapturedHere.as_str());
    let is_found =
        matches!(work, Work::Rescue { entry } if entry.cause.as_deref() == captured_here);
    let entries = known.entries().map(|entry| &entry.root).filter(|_| is_found);
    std::iter::once(&known.head.now).chain(entries).find(|root| root.tree == tree)
}

/// The tree by what changed since the last commit's snapshot; `None` when that cannot be told.
fn changed(
    Turn { inner, volume, pending, known }: &Turn<'_>,
    place: &SubvolumePath,
    dir: &cove_btrfs::Dir,
    session: &mut Session<'_>,
    chunks: &Chunks,
) -> Result<Option<cove_content::store::StoredTree>, SaveError> {
    let (base, tree) = match &pending.work {
        // what was swapped out descends from the base before, not from the restored state
        Work::Restore { base_before: Some(base), .. } => *base,
        Work::Restore { base_before: None, .. } => return Ok(None),
        _ => {
            let state = volume.state();
            let Some(copy) = state.copy.as_ref() else { return Ok(None) };
            (copy.base, copy.tree)
        }
    };
    let Some(old) = state_of(known, &pending.work, tree) else { return Ok(None) };
    if old.counts.entries <= EMPTY_ENTRIES {
        return Ok(None);
    }
    let base = SubvolumePath::Stored(volume.id.clone(), base);
    match inner.pool.count_changed(&base, place, CHANGED_MAX) {
        Ok(changed) if is_stored_in_full(changed, old.counts) => return Ok(None),
        Ok(_) => {}
        Err(error) => {
            tracing::info!(volume = %volume.id, error = chain(&error), "storing in full");
            return Ok(None);
        }
    }
    let changes = match inner.pool.changes(&base, place) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::info!(volume = %volume.id, error = chain(&error), "storing in full");
            return Ok(None);
        }
    };
    if !matches!(pending.work, Work::Restore { .. } | Work::Rescue { .. }) {
        volume.state().measured = Some((pending.operation, changes.plain_bytes));
    }
    let lacks: Vec<NotCapturedPath> = match old.not_captured.all {
        Some(digest) => {
            let listed = chunks.chunk(&digest).ok();
            match listed.and_then(|listed| NotCaptured::decode_all(&listed).ok()) {
                Some(lacks) => lacks,
                None => return Ok(None),
            }
        }
        None => old.not_captured.list.clone(),
    };
    if lacks.len() as u64 != old.not_captured.count {
        // the list was too long to be kept whole
        return Ok(None);
    }
    let names = |inode| inner.pool.names_of_inode(place, inode);
    let stored = cove_content::incremental::store_changes(
        &changes,
        dir,
        &names,
        chunks,
        cove_content::incremental::OldTree { root: &old.tree, not_captured: &lacks },
        session,
        &Progress::default(),
    );
    match stored {
        Ok(stored) => Ok(Some(stored)),
        Err(error @ IncrementalError::NeedsFullStore { .. }) => {
            tracing::info!(volume = %volume.id, error = chain(&error), "storing in full");
            Ok(None)
        }
        // what the session has put is not certain: it is not used any further
        Err(error) => {
            if error.kind() == ErrorKind::Corrupt {
                let why = chain(&error);
                tracing::error!(volume = %volume.id, why, "the store is damaged: all is put anew");
                volume.state().mend = true;
            }
            Err(SaveError::later("failed to store what changed", &error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_is_taken_when_it_is_cheaper_or_the_memory_would_not_hold_the_changes() {
        let of = |entries, data_bytes| Counts { entries, data_bytes, ..Counts::default() };
        assert!(!is_stored_in_full(9_999, of(10, 10)));
        assert!(is_stored_in_full(10_000, of(20_000, 100 << 20)));
        // one long file among them costs more to read again
        assert!(!is_stored_in_full(10_000, of(20_000, 5 << 30)));
        assert!(!is_stored_in_full(10_000, of(141_000, 2 << 30)));
        assert!(is_stored_in_full(40_000, of(u64::MAX, u64::MAX)));
    }
}
