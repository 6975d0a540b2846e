//! Files that are on this disk and that nothing here knows any more.

use cove_btrfs::{Access, SubvolumePath};
use cove_content::root::{NotCaptured, Root};
use cove_content::session::Session;
use cove_content::store::store_tree;
use cove_content::volumes::Progress;
use cove_database::{CopyRow, DiscardedRow, Finished, StoredRow};
use cove_types::{Digest, EntryId, chain};

use crate::node::Inner;
use crate::recover::said;
use crate::save::{Cause, chunks_of, put_beside, remember, rescue_id, rescue_of};
use crate::volume::{Known, Volume, unknown_root};

/// Looks at the subvolume that is in a volume's place without a record of where it comes from, and
/// saves what it holds, unless that is the head's state or an entry already.
///
/// It stays in its place when it is the head's state, or when the head was this node's own (`was_ours`):
/// what it holds comes after the head then. Otherwise it is put aside, where it is kept like what a
/// restore swaps out. Returns whether the volume has its files now. May be repeated.
pub(crate) fn adopt_local(inner: &Inner, volume: &Volume, was_ours: bool) -> Result<bool, String> {
    let known = volume.state().known.clone().ok_or("it has no head")?;
    let live = SubvolumePath::Volume(volume.id.clone());
    let operation = inner.env.operation_id(known.head.seq);
    let stored = SubvolumePath::Stored(volume.id.clone(), operation);
    let failed = |error: cove_btrfs::PoolError| chain(&error);
    inner.pool.snapshot(&live, &stored, Access::ReadOnly, &volume.id).map_err(failed)?;
    let found = inner.pool.find(&stored).map_err(failed)?;
    let generation = found.map_or(0, |subvolume| subvolume.generation);
    let (tree, entry) = save_found(inner, volume, &known, &stored)?;
    let is_now = tree == known.head.now.tree;
    let stays = is_now || was_ours;
    let at_us = inner.now_us();
    let mut finished = Finished {
        stored: vec![StoredRow {
            volume: volume.id.clone(),
            operation,
            entry,
            root: Some(tree.to_string()),
            captured_us: at_us,
        }],
        ..Finished::default()
    };
    let aside = inner.env.operation_id(volume.state().seq());
    if stays {
        finished.copies.push(CopyRow {
            volume: volume.id.clone(),
            base: operation,
            tree,
            seq: volume.state().seq(),
            generation,
            unsaved_bytes: is_now.then_some(0),
            looked_us: at_us,
        });
    } else {
        finished.discarded.push(DiscardedRow {
            operation: aside,
            volume: volume.id.clone(),
            generation,
            entry,
            moved_us: at_us,
        });
    }
    inner.wait(inner.database.finish(&finished)).map_err(|error| chain(&error))?;
    if !stays {
        inner.pool.rename(&live, &SubvolumePath::Trash(aside)).map_err(failed)?;
    }
    let mut state = volume.state();
    for row in finished.stored {
        state.stored.insert(row.operation, row);
    }
    state.copy = finished.copies.into_iter().next();
    Ok(stays)
}

/// Stores a snapshot of what was found as an entry beside the head's state. Returns its tree and the
/// entry that holds it; `None` when the head's state does.
fn save_found(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    stored: &SubvolumePath,
) -> Result<(Digest, Option<EntryId>), String> {
    let now = &known.head.now;
    let chunks = chunks_of(inner, &known.head.locations);
    let mut session =
        Session::new(&chunks, &inner.env, &volume.id, inner.options.pin, Progress::default());
    let dir = inner.pool.open(stored).map_err(|error| chain(&error))?;
    let made = store_tree(&dir, &mut session, &Progress::default());
    let made = made.map_err(|error| chain(&error))?;
    let tree = made.root.digest;
    if tree == now.tree {
        return Ok((tree, None));
    }
    let same = |entry: &&cove_content::entry::EntryRecord| {
        entry.keeps_its_state() && entry.root.tree == tree
    };
    if let Some(entry) = known.entries().find(same) {
        return Ok((tree, Some(entry.id)));
    }
    let (not_captured, chunk_of_lacks) = NotCaptured::new(made.not_captured);
    if let Some(lacks) = chunk_of_lacks {
        session.put_meta(Digest::of(&lacks), &lacks).map_err(|error| chain(&error))?;
    }
    let root = Root {
        tree,
        level: made.root.level,
        counts: made.root.counts,
        not_captured,
        document: now.document,
        parents: vec![now.digest()],
        ..unknown_root()
    };
    let id = rescue_id(&root, Cause::FoundHere);
    let record = rescue_of(inner, id, Cause::FoundHere, root);
    let known = put_beside(inner, known, record, session, &chunks).map_err(said)?;
    remember(inner, volume, known).map_err(said)?;
    Ok((tree, Some(id)))
}
