//! The files of a volume from the store, as far as they can be read.

use cove_btrfs::{Access, SubvolumePath};
use cove_content::restore::{RestoreError, Unreadable, restore_readable};
use cove_content::session::Session;
use cove_content::volumes::{Progress, VolumeError};
use cove_database::{CopyRow, Finished, StoredRow};
use cove_types::{Classify, Digest, EntryId, ErrorKind, OperationId, chain, wire};

use crate::capture::{furnish, hold_to_quota};
use crate::node::Inner;
use crate::recover::lost::Subject;
use crate::recover::said;
use crate::save::{Cause, chunks_of, put_beside, remember, rescue_id, rescue_of};
use crate::volume::{Known, Volume};

/// What was built.
struct Readable {
    /// The entry whose files these are; `None` for the present state.
    entry: Option<EntryId>,
    tree: Digest,
    unreadable: Vec<Unreadable>,
}

/// Builds the files of now, or of the newest entry that can be read, and writes down that they are here.
///
/// When not all of now can be read, its state becomes an entry first, so that it can come back when what
/// is damaged is repaired. Returns what is missing.
///
/// The row comes before the place: after a kill between the two the volume is known without a copy,
/// and a repeated recovery builds it again.
pub(crate) fn copy_here(
    inner: &Inner,
    volume: &Volume,
    operation: OperationId,
    subject: &Subject,
) -> Result<Vec<wire::Lost>, String> {
    let known = volume.state().known.clone().ok_or("it has no head")?;
    let incoming = SubvolumePath::Incoming(operation);
    let live = SubvolumePath::Volume(volume.id.clone());
    let readable = build(inner, &known, &incoming);
    let is_whole = readable
        .as_ref()
        .is_ok_and(|readable| readable.entry.is_none() && readable.unreadable.is_empty());
    let is_damaged = match &readable {
        Ok(_) => !is_whole,
        Err(Unbuilt::NothingReadable(_)) => true,
        Err(Unbuilt::Failed(_)) => false,
    };
    if is_damaged {
        keep_damaged(inner, volume, &known)?;
    }
    let readable = readable.map_err(|unbuilt| match unbuilt {
        Unbuilt::NothingReadable(why) => format!("{why}, and no entry can be read"),
        Unbuilt::Failed(why) => why,
    })?;
    let stored = SubvolumePath::Stored(volume.id.clone(), operation);
    inner
        .pool
        .snapshot(&incoming, &stored, Access::ReadOnly, &volume.id)
        .map_err(|error| chain(&error))?;
    // the snapshot's own: whatever is written from now on has a higher one
    let found = inner.pool.find(&stored).map_err(|error| chain(&error))?;
    let generation = found.map_or(0, |subvolume| subvolume.generation);
    // files of which some are missing are no state that anybody saved: they are stored in full
    let tree = if readable.unreadable.is_empty() { readable.tree } else { Digest::HOLE };
    let seq = volume.state().seq();
    let finished = Finished {
        copies: vec![CopyRow {
            volume: volume.id.clone(),
            base: operation,
            tree,
            seq,
            generation,
            unsaved_bytes: is_whole.then_some(0),
            looked_us: inner.now_us(),
        }],
        stored: vec![StoredRow {
            volume: volume.id.clone(),
            operation,
            entry: None,
            root: Some(tree.to_string()),
            captured_us: inner.now_us(),
        }],
        ..Finished::default()
    };
    inner.wait(inner.database.finish(&finished)).map_err(|error| chain(&error))?;
    // what was saved is brought back whatever the quota is by now; what is written there comes after it
    let unheld = hold_to_its_quota(inner, volume, subject);
    inner.pool.rename(&incoming, &live).map_err(|error| chain(&error))?;
    let mut state = volume.state();
    state.copy = finished.copies.into_iter().next();
    for row in finished.stored {
        state.stored.insert(row.operation, row);
    }
    drop(state);
    let mut lost = Vec::new();
    if let Some(entry) = readable.entry {
        let why = format!("its tree cannot be read: the files are those of entry {entry}");
        lost.push(subject.lost_part("its present state", why));
    }
    lost.extend(subject.lost_paths(&readable.unreadable));
    lost.extend(unheld);
    Ok(lost)
}

/// Holds a volume to the quota that is asked of it; tells what is missing when it is not.
pub(crate) fn hold_to_its_quota(
    inner: &Inner,
    volume: &Volume,
    subject: &Subject,
) -> Option<wire::Lost> {
    let spec = volume.state().spec();
    let held = hold_to_quota(inner, &volume.id, &spec);
    held.err().map(|error| subject.lost_part("its quota", chain(&error)))
}

/// Why there are no files.
enum Unbuilt {
    /// The topmost nodes of now and of all entries are lost.
    NothingReadable(String),
    /// The store does not answer, or the pool did not take them: another time.
    Failed(String),
}

/// Builds what can be read of now, else of the newest entry of which something can.
fn build(inner: &Inner, known: &Known, incoming: &SubvolumePath) -> Result<Readable, Unbuilt> {
    let live = known.entries().filter(|entry| entry.is_live());
    let states = std::iter::once((None, known.head.now.tree))
        .chain(live.map(|entry| (Some(entry.id), entry.root.tree)));
    let mut first = None;
    let mut tried: Vec<Digest> = Vec::new();
    for (entry, tree) in states {
        if tried.contains(&tree) {
            continue;
        }
        tried.push(tree);
        match build_tree(inner, known, &tree, incoming) {
            Ok(unreadable) => return Ok(Readable { entry, tree, unreadable }),
            Err(Unbuilt::NothingReadable(why)) => first = first.or(Some(why)),
            Err(failed) => return Err(failed),
        }
    }
    Err(Unbuilt::NothingReadable(first.unwrap_or_default()))
}

fn build_tree(
    inner: &Inner,
    known: &Known,
    tree: &Digest,
    incoming: &SubvolumePath,
) -> Result<Vec<Unreadable>, Unbuilt> {
    let failed = |error: &dyn std::error::Error| Unbuilt::Failed(chain(error));
    inner.pool.delete(incoming).map_err(|error| failed(&error))?;
    inner.pool.create(incoming, &known.head.volume).map_err(|error| failed(&error))?;
    let dir = inner.pool.open(incoming).map_err(|error| failed(&error))?;
    let chunks = chunks_of(inner, &known.head.locations);
    let built = restore_readable(&chunks, tree, &dir, &Progress::default());
    let built = built.map_err(|error| match &error {
        RestoreError::Tree(_) if error.kind() == ErrorKind::Corrupt => {
            Unbuilt::NothingReadable(chain(&error))
        }
        _ => failed(&error),
    });
    let built = built.and_then(|unreadable| {
        furnish(&dir).map_err(|error| failed(&error))?;
        Ok(unreadable)
    });
    drop(dir);
    let flushed = built.and_then(|unreadable| {
        inner.pool.flush().map_err(|error| failed(&error))?;
        Ok(unreadable)
    });
    if flushed.is_err()
        && let Err(left) = inner.pool.delete(incoming)
    {
        tracing::warn!(error = chain(&left), "a part of a recovery stays behind");
    }
    flushed
}

/// Makes an empty place for the files of a volume that has none here, so that a restore finds something
/// to swap with.
pub(crate) fn ensure_place(inner: &Inner, volume: &Volume) -> Result<(), VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    let failed = |error| VolumeError::failed("failed to make a place for the files", error);
    if inner.pool.find(&live).map_err(failed)?.is_some() {
        return Ok(());
    }
    inner.pool.create(&live, &volume.id).map_err(failed)?;
    let dir = inner.pool.open(&live).map_err(failed)?;
    furnish(&dir)
        .map_err(|error| VolumeError::failed("failed to make a place for the files", error))
}

/// Makes the present state an entry although it cannot be read in full.
fn keep_damaged(inner: &Inner, volume: &Volume, known: &Known) -> Result<(), String> {
    let now = &known.head.now;
    let record = rescue_of(inner, rescue_id(now, Cause::Damage), Cause::Damage, now.clone());
    let chunks = chunks_of(inner, &known.head.locations);
    let session =
        Session::new(&chunks, &inner.env, &volume.id, inner.options.pin, Progress::default());
    let known = put_beside(inner, known, record, session, &chunks).map_err(said)?;
    remember(inner, volume, known).map_err(said)
}
