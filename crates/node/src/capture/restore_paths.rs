//! Going back to some paths of an entry: brought to this disk first, then put in place one by one.

use std::sync::Arc;

use cove_btrfs::{Dir, SubvolumePath};
use cove_content::restore::restore_tree;
use cove_content::volumes::{Call, Progress, Restore, VolumeError};
use cove_types::{EntryId, EntryKind, ErrorKind, OperationId, TreePath};

use crate::capture::entry::entry_root;
use crate::capture::look::background;
use crate::capture::restore::refuse_restore;
use crate::capture::snapshot::{draft, freeze};
use crate::capture::{
    Asked, asked, finish_here, lock, path_failed, pending_of, pending_row, pool_failed,
};
use crate::node::{Inner, chain};
use crate::save::chunks_of;
use crate::volume::Volume;
use crate::work::{Pending, Work};

/// How the directories begin in which what is restored waits, before the operation id.
const STAGING: &[u8] = b".restoring-";

/// Makes some paths exactly as in an entry; what was there is in a snapshot first.
pub(crate) fn restore_paths(
    inner: &Arc<Inner>,
    volume: &Volume,
    call: &Call,
    restore: &Restore,
) -> Result<Asked, VolumeError> {
    let _one = lock(&volume.capture);
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_restore(inner, volume, restore)?;
    let place = SubvolumePath::Volume(volume.id.clone());
    // a path that is in neither state is the caller's mistake, found before anything is done
    let (tree, locations) = entry_root(volume, &restore.entry)?;
    let chunks = chunks_of(inner, &locations);
    let live = inner.pool.open(&place).map_err(pool_failed("failed to open the volume"))?;
    for path in &restore.paths {
        let in_volume = cove_content::read::in_volume(path)
            .map_err(|error| VolumeError::failed("failed to restore a path", error))?;
        let then = cove_content::tree::find_entry(&chunks, &tree, &in_volume)
            .map_err(|error| VolumeError::failed("failed to read the entry", error))?;
        refuse_others_above(&live, &in_volume, path)?;
        let now = live.find(&in_volume).map_err(path_failed("failed to look at the files"))?;
        if then.is_none() && now.is_none() {
            return Err(VolumeError::NoPath { path: path.clone() });
        }
    }
    drop(live);
    let id = EntryId::derive(&call.operation, "before");
    let before = draft(
        inner,
        id,
        EntryKind::BeforeRestore,
        &restore.author,
        Some(restore.entry.to_string()),
    );
    let work = Work::RestorePaths {
        entry: restore.entry,
        paths: restore.paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
        before,
        keep: restore.keep,
        done: false,
    };
    let mut pending = pending_of(call, &volume.id, work);
    let _held = volume.hold([call.operation]);
    let taken = freeze(inner, volume, &mut pending)?;
    if let Work::RestorePaths { before, .. } = &mut pending.work {
        before.captured_ms = taken;
    }
    let staged = stage_paths(inner, volume, &pending, &call.progress).and_then(|()| {
        let row = pending_row(inner, &pending)?;
        inner.wait(inner.database.insert_pending(&row)).map_err(|error| {
            VolumeError::failed("failed to write down what is to be restored", error)
        })
    });
    if let Err(error) = staged {
        // nothing of the volume has changed, and the same call may come again
        if let Err(left) = clear_staged(inner, volume, &[]) {
            tracing::warn!(error = chain(&left), "a part of a restore stays behind");
        }
        volume.state().stored.remove(&pending.operation);
        inner.drop_stored(&volume.id, &pending.operation);
        return Err(error);
    }
    let receiver = finish_here(inner, volume, pending)?;
    background(inner, volume)?;
    Ok(Asked::Pending(receiver))
}

/// Refuses a path below what is no directory now, a symbolic link above all: what is restored goes
/// to the place that its name says.
fn refuse_others_above(
    live: &Dir,
    in_volume: &TreePath,
    shown: &TreePath,
) -> Result<(), VolumeError> {
    let above = std::iter::successors(in_volume.parent(), TreePath::parent);
    let mut above: Vec<TreePath> = above.take_while(|path| !path.is_top()).collect();
    // from the top, so that none is looked for behind a link
    above.reverse();
    for path in above {
        let found = live.find(&path).map_err(path_failed("failed to look at the files"))?;
        let what = match found.map(|metadata| metadata.kind) {
            Some(cove_btrfs::FileKind::Directory) => continue,
            // nor is there anything below it
            None => break,
            Some(cove_btrfs::FileKind::Symlink) => "a symbolic link",
            Some(_) => "no directory",
        };
        return Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!("what was a directory above {shown} is {what} now"),
        });
    }
    Ok(())
}

/// Where what a work restores waits beside `files/` until all of it is there. No snapshot sees it:
/// it comes and goes while captures wait, and a start clears it first.
fn staging(operation: &OperationId) -> Result<TreePath, VolumeError> {
    let name = [STAGING, operation.to_string().as_bytes()].concat();
    TreePath::from_bytes(&name)
        .map_err(|error| VolumeError::failed("failed to name a place for files", error))
}

/// Where the n-th path of a work waits, and the mark that it is to be gone instead.
fn staged(staging: &TreePath, n: usize) -> Result<(TreePath, TreePath), VolumeError> {
    let name = |text: String| {
        staging
            .join(text.as_bytes())
            .map_err(|error| VolumeError::failed("failed to name a place for files", error))
    };
    Ok((name(n.to_string())?, name(format!("{n}.gone"))?))
}

/// Brings all that a work restores to this disk, and changes nothing of the files yet.
fn stage_paths(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
    progress: &Progress,
) -> Result<(), VolumeError> {
    let Work::RestorePaths { entry, paths, .. } = &pending.work else { return Ok(()) };
    let (tree, locations) = entry_root(volume, entry)?;
    let chunks = chunks_of(inner, &locations);
    let live = inner
        .pool
        .open(&SubvolumePath::Volume(volume.id.clone()))
        .map_err(pool_failed("failed to open the volume"))?;
    let staging = staging(&pending.operation)?;
    live.create_dir(&staging, 0o700).map_err(path_failed("failed to make a directory"))?;
    progress.step("restoring");
    for (n, bytes) in paths.iter().enumerate() {
        let path = path_of(bytes)?;
        let (place, gone) = staged(&staging, n)?;
        let then = cove_content::tree::find_entry(&chunks, &tree, &path)
            .map_err(|error| VolumeError::failed("failed to read the entry", error))?;
        if then.is_none() {
            live.create_file(&gone, 0o600).map_err(path_failed("failed to make a file"))?;
            continue;
        }
        restore_tree(&chunks, &tree, &path, &live, &place, progress)
            .map_err(|error| VolumeError::failed("failed to restore a path", error))?;
    }
    drop(live);
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

fn path_of(bytes: &[u8]) -> Result<TreePath, VolumeError> {
    TreePath::from_bytes(bytes)
        .and_then(|path| cove_content::read::in_volume(&path))
        .map_err(|error| VolumeError::failed("failed to restore a path", error))
}

/// Removes what was staged for work that is not in `queue`: it was never written down, or is done.
pub(crate) fn clear_staged(
    inner: &Inner,
    volume: &Volume,
    queue: &[Pending],
) -> Result<(), VolumeError> {
    let place = SubvolumePath::Volume(volume.id.clone());
    let there = inner.pool.find(&place).map_err(pool_failed("failed to look at the volume"))?;
    if there.is_none() {
        return Ok(());
    }
    let live = inner.pool.open(&place).map_err(pool_failed("failed to open the volume"))?;
    let top = TreePath::top();
    for (name, _) in live.list(&top).map_err(path_failed("failed to look at the files"))? {
        let Some(operation) = name.strip_prefix(STAGING) else { continue };
        let is_needed =
            queue.iter().any(|other| other.operation.to_string().as_bytes() == operation);
        if let Ok(path) = top.join(&name)
            && !is_needed
        {
            live.remove(&path, true).map_err(path_failed("failed to remove a file"))?;
        }
    }
    Ok(())
}

/// Puts the staged paths of a work in place, each once: what a person changed there since is not
/// replaced again when this is repeated.
pub(crate) fn put_paths(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
) -> Result<(), VolumeError> {
    let Work::RestorePaths { paths, .. } = &pending.work else { return Ok(()) };
    let _place = volume.place.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let live = inner
        .pool
        .open(&SubvolumePath::Volume(volume.id.clone()))
        .map_err(pool_failed("failed to open the volume"))?;
    let staging = staging(&pending.operation)?;
    let waits = |place: &TreePath| {
        let found = live.find(place).map_err(path_failed("failed to look at the files"))?;
        Ok::<_, VolumeError>(found.is_some())
    };
    if !waits(&staging)? {
        return Ok(());
    }
    let remove = |path: &TreePath| {
        live.remove(path, true).map(drop).map_err(path_failed("failed to remove a file"))
    };
    for (n, bytes) in paths.iter().enumerate() {
        let path = path_of(bytes)?;
        let (place, gone) = staged(&staging, n)?;
        if waits(&gone)? {
            remove(&path)?;
            remove(&gone)?;
        } else if waits(&place)? {
            remove(&path)?;
            if let Some(parent) = path.parent() {
                crate::files::make_owned(&live, &parent)
                    .map_err(path_failed("failed to make a directory"))?;
            }
            live.rename(&place, &path).map_err(path_failed("failed to put a file in place"))?;
        }
    }
    remove(&staging)?;
    drop(live);
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}
