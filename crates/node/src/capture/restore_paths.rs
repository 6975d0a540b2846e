//! Going back to some paths of an entry.
//!
//! All of them come to this disk first. Then each takes its place by renames inside the volume: what
//! was there goes aside, what waits comes in. Until the last one has its place, renames the other way
//! make everything as it was.
//!
//! `.restoring-<operation>/` beside `files/` holds, for the n-th path:
//!
//! n        what waits to come in; what was there, for the moment after it came in; then gone
//! n.gone   instead: a mark that nothing is to be there; gone when nothing is
//! n.old    what was there
//! n.at     a symbolic link whose target is the path, in the volume
//!
//! What was there is kept apart afterwards (`replaced.rs`): programs may still write into it.

use std::sync::Arc;

use cove_btrfs::{Dir, FileKind, Metadata, SubvolumePath};
use cove_content::read::{in_volume, project_root};
use cove_content::restore::{copy_tree, is_captured, restore_tree};
use cove_content::tree;
use cove_content::volumes::{Call, Progress, Restore, VolumeError};
use cove_types::{EntryId, EntryKind, ErrorKind, OperationId, TreePath, chain};
use tokio::sync::oneshot;

use crate::capture::built::Built;
use crate::capture::entry::{LocalEntry, entry_root, local_entry};
use crate::capture::look::background;
use crate::capture::replaced::{self, settle};
use crate::capture::restore::refuse_restore;
use crate::capture::snapshot::{draft, freeze, holding_quota};
use crate::capture::{
    Asked, asked, finish_here, not_written, open_live, path_failed, pending_of, pending_row,
    pool_failed,
};
use crate::files::make_owned;
use crate::node::Inner;
use crate::save::chunks_of;
use crate::volume::{Ended, Turn, Volume};
use crate::work::{Pending, Work};

/// How the directories begin in which what is restored waits, before the operation id.
const STAGING: &[u8] = b".restoring-";

/// Where the paths of an entry are on this disk, as long as this is.
pub(crate) enum Source {
    /// In the entry's own snapshot, under their names.
    Local(LocalEntry),
    /// In a subvolume made for it, each under its number.
    Built(Built),
}

impl Source {
    fn open(&self, inner: &Inner) -> Result<Dir, VolumeError> {
        match self {
            Self::Local(local) => inner
                .pool
                .open(&local.place)
                .map_err(pool_failed("failed to open the entry's snapshot")),
            Self::Built(built) => built.open(),
        }
    }

    /// Where the n-th path is.
    fn place(&self, n: usize, path: &TreePath) -> Result<TreePath, VolumeError> {
        match self {
            Self::Local(_) => Ok(path.clone()),
            Self::Built(_) => name(&TreePath::top(), n.to_string()),
        }
    }
}

/// Brings the paths to this disk, from the store when the entry's snapshot is not here. What a tree does
/// not hold is left out when they are copied from there.
pub(crate) fn prepare_paths(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    call: &Call,
    restore: &Restore,
) -> Result<Source, VolumeError> {
    refuse_restore(inner, volume, restore)?;
    if let Some(local) = local_entry(inner, volume, &restore.entry) {
        return Ok(Source::Local(local));
    }
    let (tree, locations) = entry_root(volume, &restore.entry)?;
    let chunks = chunks_of(inner, &locations);
    call.progress.step("restoring");
    let (built, ()) = Built::create(inner, &volume.id)?.filled(|dir| {
        for (n, path) in restore.paths.iter().enumerate() {
            let path = lawful(path)?;
            let then = tree::find_entry(&chunks, &tree, &path)
                .map_err(|error| VolumeError::failed("failed to read the entry", error))?;
            if then.is_some() {
                let place = name(&TreePath::top(), n.to_string())?;
                restore_tree(&chunks, &tree, &path, dir, &place, &call.progress)
                    .map_err(|error| VolumeError::failed("failed to restore a path", error))?;
            }
        }
        Ok(())
    })?;
    Ok(Source::Built(built))
}

/// Makes some paths exactly as in an entry; what was there is in a snapshot first, and what is written
/// there after that snapshot becomes a rescue.
pub(crate) fn restore_paths(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    call: &Call,
    restore: &Restore,
    source: &Source,
    _turn: Turn,
) -> Result<Asked, VolumeError> {
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_restore(inner, volume, restore)?;
    refuse_paths(inner, volume, restore, source)?;
    let mut before = draft(
        inner,
        EntryId::derive(&call.operation, "before"),
        EntryKind::BeforeRestore,
        &restore.author,
        Some(restore.entry.to_string()),
    );
    before.quota_bytes = holding_quota(inner, volume);
    let wanted = outermost(&restore.paths);
    let paths = wanted.iter().filter_map(|n| restore.paths.get(*n));
    let work = Work::RestorePaths {
        entry: restore.entry,
        paths: paths.map(|path| path.as_bytes().to_vec()).collect(),
        inodes: Vec::new(),
        before,
        keep: restore.keep,
        done: false,
    };
    let mut pending = pending_of(call, &volume.id, work);
    let _held = volume.hold([call.operation]);
    let frozen = freeze(inner, volume, &mut pending)?;
    if let Work::RestorePaths { before, .. } = &mut pending.work {
        before.captured_ms = frozen.taken_ms;
    }
    let staged = stage_paths(inner, volume, &mut pending, source, &wanted, &call.progress);
    let staged = staged.and_then(|()| {
        let row = pending_row(inner, &pending)?;
        inner
            .wait(inner.database.insert_pending(&row))
            .map_err(not_written("failed to write down what is to be restored"))
    });
    if let Err(error) = staged {
        // nothing of the volume has changed, and the same call may come again
        if let Err(left) = clear_staged(inner, volume, &volume.others(&pending.operation)) {
            tracing::warn!(error = chain(&left), "a part of a restore stays behind");
        }
        volume.state().stored.remove(&pending.operation);
        inner.drop_stored(&volume.id, &pending.operation);
        return Err(error);
    }
    let operation = pending.operation;
    let before_saved = finish_here(inner, volume, pending)?;
    frozen.written(volume);
    settle(inner, volume, &operation);
    // who waits does so for the restored state
    match background(inner, volume) {
        Ok(saved) => Ok(Asked::Pending(both(inner, before_saved, saved))),
        Err(error) => {
            // the next look captures it
            tracing::warn!(volume = %volume.id, error = chain(&error), "what was restored waits for a look");
            Ok(Asked::Pending(before_saved))
        }
    }
}

/// The places of those paths in a list that lie in no other of it; of equal ones the first.
///
/// What lies below a path comes and goes with it. Restored by itself it would change what the other
/// has just replaced, as if a program had written there.
fn outermost(paths: &[TreePath]) -> Vec<usize> {
    let is_covered = |n: usize, path: &TreePath| {
        let mut others = paths.iter().enumerate().filter(|(other, _)| *other != n);
        others.any(|(other, above)| path.below(above).is_some() && (path != above || other < n))
    };
    let paths = paths.iter().enumerate();
    paths.filter(|(n, path)| !is_covered(*n, path)).map(|(n, _)| n).collect()
}

/// How the first of two works ends, once the second has ended too; the second's failure when only that
/// one failed.
fn both(
    inner: &Inner,
    first: oneshot::Receiver<Ended>,
    second: oneshot::Receiver<Ended>,
) -> oneshot::Receiver<Ended> {
    let (sender, receiver) = oneshot::channel();
    inner.runtime.spawn(async move {
        let Ok(mut ended) = first.await else { return };
        if ended.failure.is_none() {
            let Ok(second) = second.await else { return };
            ended.failure = second.failure;
        }
        // nobody may wait any more
        let _ = sender.send(ended);
    });
    receiver
}

/// Refuses a path that is in neither state, or below what is no directory now: the caller's mistake, found
/// before anything is done.
fn refuse_paths(
    inner: &Inner,
    volume: &Volume,
    restore: &Restore,
    source: &Source,
) -> Result<(), VolumeError> {
    let then = source.open(inner)?;
    let live = open_live(inner, &volume.id)?;
    for (n, path) in restore.paths.iter().enumerate() {
        let at = lawful(path)?;
        refuse_others_above(&live, &at, path)?;
        let now = live.find(&at).map_err(path_failed("failed to look at the files"))?;
        match now {
            None if !is_there(&then, &source.place(n, &at)?)? => {
                return Err(VolumeError::NoPath { path: path.clone() });
            }
            Some(now) => refuse_others_below(&live, &at, &now)?,
            None => {}
        }
    }
    Ok(())
}

/// Refuses a path below what is no directory now, a symbolic link above all: what is restored goes
/// to the place that its name says.
fn refuse_others_above(
    live: &Dir,
    in_volume: &TreePath,
    shown: &TreePath,
) -> Result<(), VolumeError> {
    // from the top, so that none is looked for behind a link
    for path in above(in_volume) {
        let found = live.find(&path).map_err(path_failed("failed to look at the files"))?;
        let what = match found.map(|metadata| metadata.kind) {
            Some(FileKind::Directory) => continue,
            // nor is there anything below it
            None => break,
            Some(FileKind::Symlink) => "a symbolic link",
            Some(_) => "no directory",
        };
        return Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!("what was a directory above {shown} is {what} now"),
        });
    }
    Ok(())
}

/// Refuses a path with another subvolume or a mount at or below it: what is in there is in no entry, and
/// would go with what is replaced. Costs a walk.
fn refuse_others_below(live: &Dir, at: &TreePath, now: &Metadata) -> Result<(), VolumeError> {
    let refused = |path: &TreePath| {
        let shown = path.below(&project_root()).unwrap_or_else(|| path.clone());
        VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!(
                "{shown} is another subvolume or a mount, of which no entry holds anything: move it \
                 away or unmount it first"
            ),
        }
    };
    if now.kind != FileKind::Directory {
        return Ok(());
    }
    if now.device != live.device() {
        return Err(refused(at));
    }
    let mut open = vec![at.clone()];
    while let Some(path) = open.pop() {
        for (name, found) in live.list(&path).map_err(path_failed("failed to look at the files"))? {
            let Ok(child) = path.join(&name) else { continue };
            if found.kind != FileKind::Directory {
                continue;
            }
            if found.device != live.device() || live.is_mount(&child).unwrap_or(false) {
                return Err(refused(&child));
            }
            open.push(child);
        }
    }
    Ok(())
}

/// The directories above a path, from the top, without the top itself.
fn above(path: &TreePath) -> Vec<TreePath> {
    let above = std::iter::successors(path.parent(), TreePath::parent);
    let mut above: Vec<TreePath> = above.take_while(|path| !path.is_top()).collect();
    above.reverse();
    above
}

/// Whether an entry has something at a path.
fn is_there(dir: &Dir, path: &TreePath) -> Result<bool, VolumeError> {
    let found = dir.find(path).map_err(path_failed("failed to look at the entry"))?;
    Ok(found.is_some_and(|found| is_captured(&found)))
}

pub(crate) fn name(dir: &TreePath, text: impl AsRef<[u8]>) -> Result<TreePath, VolumeError> {
    dir.join(text.as_ref())
        .map_err(|error| VolumeError::failed("failed to name a place for files", error))
}

/// The path in the volume of one from the project's root.
fn lawful(path: &TreePath) -> Result<TreePath, VolumeError> {
    in_volume(path).map_err(|error| VolumeError::failed("failed to restore a path", error))
}

fn path_of(bytes: &[u8]) -> Result<TreePath, VolumeError> {
    TreePath::from_bytes(bytes)
        .and_then(|path| in_volume(&path))
        .map_err(|error| VolumeError::failed("failed to restore a path", error))
}

/// Where what a work restores waits until all of it is there. No snapshot sees it: it comes and goes
/// while captures wait, and a start clears it first.
fn staging(pending: &Pending) -> Result<TreePath, VolumeError> {
    staging_of(&pending.operation)
}

/// Where what comes in by `operation` waits.
pub(crate) fn staging_of(operation: &OperationId) -> Result<TreePath, VolumeError> {
    let name = [STAGING, operation.to_string().as_bytes()].concat();
    TreePath::from_bytes(&name)
        .map_err(|error| VolumeError::failed("failed to name a place for files", error))
}

/// The places of the n-th path in the staging directory.
struct Places {
    new: TreePath,
    gone: TreePath,
    old: TreePath,
    at: TreePath,
}

impl Places {
    fn of(staging: &TreePath, n: usize) -> Result<Self, VolumeError> {
        Ok(Self {
            new: name(staging, n.to_string())?,
            gone: name(staging, format!("{n}.gone"))?,
            old: name(staging, format!("{n}.old"))?,
            at: name(staging, format!("{n}.at"))?,
        })
    }
}

/// Copies all that a work restores into the volume, beside the files, which stay as they are. `wanted`
/// are the numbers that its paths have in the source.
fn stage_paths(
    inner: &Inner,
    volume: &Volume,
    pending: &mut Pending,
    source: &Source,
    wanted: &[usize],
    progress: &Progress,
) -> Result<(), VolumeError> {
    let staging = staging(pending)?;
    let Work::RestorePaths { paths, inodes, .. } = &mut pending.work else { return Ok(()) };
    let then = source.open(inner)?;
    let live = open_live(inner, &volume.id)?;
    live.create_dir(&staging, 0o700).map_err(path_failed("failed to make a directory"))?;
    progress.step("restoring");
    for (n, (bytes, number)) in paths.iter().zip(wanted).enumerate() {
        let path = path_of(bytes)?;
        let from = source.place(*number, &path)?;
        let places = Places::of(&staging, n)?;
        live.symlink(&places.at, path.as_bytes()).map_err(path_failed("failed to make a file"))?;
        if is_there(&then, &from)? {
            copy_tree(&then, &from, &live, &places.new, progress)
                .map_err(|error| VolumeError::failed("failed to restore a path", error))?;
            inodes.push(find(&live, &places.new)?.map(|new| new.inode));
        } else {
            live.create_file(&places.gone, 0o600).map_err(path_failed("failed to make a file"))?;
            inodes.push(None);
        }
    }
    drop(live);
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

/// Removes what was staged for work that is not in `queue` or is done: nothing needs it. What it has
/// replaced is kept apart, until nobody writes there any more.
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
    let live = open_live(inner, &volume.id)?;
    let top = TreePath::top();
    let mut needed = Vec::new();
    for pending in queue {
        if matches!(pending.work, Work::RestorePaths { done: false, .. }) {
            needed.push(staging(pending)?);
        }
    }
    for (name, _) in live.list(&top).map_err(path_failed("failed to look at the files"))? {
        if let Ok(path) = top.join(&name)
            && name.starts_with(STAGING)
            && !needed.contains(&path)
        {
            retire(volume, &live, &path)?;
        }
    }
    Ok(())
}

/// Puts a staging directory that is not needed any more among what restores have replaced, or removes it
/// when it has replaced nothing.
fn retire(volume: &Volume, live: &Dir, staging: &TreePath) -> Result<(), VolumeError> {
    let names = live.list(staging).map_err(path_failed("failed to look at the files"))?;
    let operation = staging.as_bytes().strip_prefix(STAGING);
    let operation = operation.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    if let Some(operation) = operation
        && names.iter().any(|(name, _)| name.ends_with(b".old"))
    {
        // a look may come at once
        volume.state().replaced.insert(operation, None);
        return rename(live, staging, &replaced::place(&operation)?);
    }
    live.remove(staging, true).map(drop).map_err(path_failed("failed to remove a file"))
}

/// Notes that something of a volume's staging directories could not be removed.
pub(crate) fn litter(volume: &Volume) {
    volume.state().is_littered = true;
}

/// Tries again to remove what an earlier restore of paths could not: it is in no state of the volume. It
/// keeps nothing from being captured; a start tries once more.
pub(crate) fn tidy(inner: &Inner, volume: &Volume) {
    let queue: Vec<Pending> = {
        let mut state = volume.state();
        if !std::mem::take(&mut state.is_littered) {
            return;
        }
        state.queue.iter().cloned().collect()
    };
    if let Err(error) = clear_staged(inner, volume, &queue) {
        tracing::warn!(volume = %volume.id, error = chain(&error), "what was replaced stays behind");
    }
}

/// Puts the staged paths of a work in place, each once: what a person changed there since is not
/// replaced again when this is repeated. What was there stays in the staging directory.
pub(crate) fn put_paths(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
) -> Result<(), VolumeError> {
    let Work::RestorePaths { paths, inodes, .. } = &pending.work else { return Ok(()) };
    let _place = volume.place.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some((live, staging)) = open_staged(inner, volume, pending)? else {
        return Err(VolumeError::Refused {
            kind: ErrorKind::NotFound,
            what: "what was to be restored is not on this disk any more".into(),
        });
    };
    for (n, bytes) in paths.iter().enumerate() {
        let inode = inodes.get(n).copied().flatten();
        put_path(&live, &path_of(bytes)?, &Places::of(&staging, n)?, inode)?;
    }
    drop(live);
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

/// The files, and the directory among them that holds what a work has staged or replaced, if it is there.
fn open_staged(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
) -> Result<Option<(Dir, TreePath)>, VolumeError> {
    let (live, staging) = (open_live(inner, &volume.id)?, staging(pending)?);
    Ok(has(&live, &staging)?.then_some((live, staging)))
}

fn find(live: &Dir, path: &TreePath) -> Result<Option<Metadata>, VolumeError> {
    live.find(path).map_err(path_failed("failed to look at the files"))
}

fn has(live: &Dir, path: &TreePath) -> Result<bool, VolumeError> {
    Ok(find(live, path)?.is_some())
}

fn rename(live: &Dir, from: &TreePath, to: &TreePath) -> Result<(), VolumeError> {
    live.rename(from, to).map_err(path_failed("failed to put a file in place"))
}

/// Brings `from` to `to` in one step, which leaves what was there at `from`; whether something was.
fn bring(live: &Dir, from: &TreePath, to: &TreePath) -> Result<bool, VolumeError> {
    live.rename_or_exchange(from, to).map_err(path_failed("failed to put a file in place"))
}

/// Puts one path in place; `inode` is what was staged for it. Nobody who opens the path meanwhile finds
/// nothing there, so that all that is written goes into what was there or into what is there now.
fn put_path(
    live: &Dir,
    path: &TreePath,
    places: &Places,
    inode: Option<u64>,
) -> Result<(), VolumeError> {
    match find(live, &places.new)? {
        // it has come, and this was interrupted before what was there had its place
        Some(there) if inode.is_some_and(|staged| staged != there.inode) => {
            rename(live, &places.new, &places.old)
        }
        Some(_) => {
            refuse_others_above(live, path, path)?;
            if let Some(parent) = path.parent() {
                make_owned(live, &parent).map_err(path_failed("failed to make a directory"))?;
            }
            match bring(live, &places.new, path)? {
                true => rename(live, &places.new, &places.old),
                false => Ok(()),
            }
        }
        None if has(live, &places.gone)? => {
            refuse_others_above(live, path, path)?;
            if has(live, path)? && !has(live, &places.old)? {
                rename(live, path, &places.old)?;
            }
            let removed = live.remove(&places.gone, false);
            removed.map(drop).map_err(path_failed("failed to remove a file"))
        }
        None => Ok(()),
    }
}

/// Makes one path as it was before the work.
fn undo_path(
    live: &Dir,
    path: &TreePath,
    places: &Places,
    inode: Option<u64>,
) -> Result<(), VolumeError> {
    match find(live, &places.new)? {
        Some(there) if inode.is_some_and(|staged| staged != there.inode) => {
            bring(live, &places.new, path).map(drop)
        }
        _ if has(live, &places.old)? => bring(live, &places.old, path).map(drop),
        // it came to a place where nothing was
        None if inode.is_some() && find(live, path)?.map(|there| there.inode) == inode => {
            rename(live, path, &places.new)
        }
        _ => Ok(()),
    }
}

/// Makes the paths of a work that cannot be done as they were before it; may be repeated.
pub(crate) fn undo_paths(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
) -> Result<(), VolumeError> {
    let Work::RestorePaths { paths, inodes, .. } = &pending.work else { return Ok(()) };
    let _place = volume.place.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some((live, staging)) = open_staged(inner, volume, pending)? else { return Ok(()) };
    for (n, bytes) in paths.iter().enumerate().rev() {
        let (path, places) = (path_of(bytes)?, Places::of(&staging, n)?);
        undo_path(&live, &path, &places, inodes.get(n).copied().flatten())?;
        mend_above(inner, volume, pending, &live, &path);
    }
    live.remove(&staging, true).map_err(path_failed("failed to remove a file"))?;
    drop(live);
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

/// Removes the empty directories above a path that were not there before the work, and gives the one
/// that was its time again.
fn mend_above(inner: &Inner, volume: &Volume, pending: &Pending, live: &Dir, path: &TreePath) {
    let Ok(before) = inner.pool.open(&SubvolumePath::Stored(volume.id.clone(), pending.operation))
    else {
        return;
    };
    for parent in above(path).into_iter().rev() {
        match before.find(&parent) {
            // one that is not empty is not ours alone
            Ok(None) if live.remove(&parent, false).is_ok() => {}
            Ok(Some(was)) => {
                let _ = live.set_times(&parent, was.mtime);
                return;
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_another_is_restored_with_it() {
        for (paths, wanted) in [
            ("a b", &[0, 1][..]),
            ("a/b a", &[1]),
            ("a a/b ab a/b/c", &[0, 2]),
            ("a a a", &[0]),
            ("a/b /", &[1]),
        ] {
            let paths: Vec<_> =
                paths.split(' ').map(|path| TreePath::parse(path).unwrap()).collect();
            assert_eq!(outermost(&paths), wanted, "{paths:?}");
        }
    }
}
