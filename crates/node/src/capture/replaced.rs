//! What restores of paths have replaced, as long as a program may still write into it.
//!
//! A restore of paths leaves what was there in `.replaced-<operation>/` beside `files/`:
//!
//! n.old    what was there, under the number of its path
//! n.at     a symbolic link whose target is that path, in the volume
//!
//! Programs that have a file or directory of it open go on writing there. Each look compares it with
//! the snapshot that was looked at last, the state before the restore at first; what was written since
//! becomes one rescue entry, which holds the volume with everything back where it was. Once nobody has
//! any of it open, a last look is taken and it goes. No snapshot that is stored holds these directories.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use cove_btrfs::{Access, Changes, Content, Dir, FileKind, PathError, SubvolumePath, Touched};
use cove_content::volumes::VolumeError;
use cove_types::{EntryId, ErrorKind, FileTime, OperationId, TreePath, chain, escape_bytes};

use crate::capture::late_writes::enqueue_rescue;
use crate::capture::restore_paths::name;
use crate::capture::{generation, generation_at, path_failed, pool_failed, sub};
use crate::files::make_owned;
use crate::in_use::is_held;
use crate::node::Inner;
use crate::volume::Volume;

/// How the directories begin, before the operation id.
const REPLACED: &[u8] = b".replaced-";
/// How long after its rename a program may still be between finding a file and having it open.
const OPENING: Duration = Duration::from_millis(20);
/// How much of a file is compared at once.
const PIECE_BYTES: usize = 128 << 10;

/// The last look at what one operation replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Looked {
    /// The snapshot that was looked at.
    snapshot: OperationId,
    /// The volume's generation then.
    generation: u64,
}

/// Where what an operation replaced lies.
pub(crate) fn place(operation: &OperationId) -> Result<TreePath, VolumeError> {
    TreePath::from_bytes(&[REPLACED, operation.to_string().as_bytes()].concat())
        .map_err(|error| VolumeError::failed("failed to name a place for files", error))
}

/// The operations whose replaced directories lie in a volume.
pub(crate) fn list(dir: &Dir) -> Result<Vec<OperationId>, VolumeError> {
    let names = dir.list(&TreePath::top()).map_err(path_failed("failed to look at the files"))?;
    let operation = |name: &[u8]| {
        std::str::from_utf8(name.strip_prefix(REPLACED)?).ok()?.parse::<OperationId>().ok()
    };
    Ok(names.iter().filter_map(|(name, _)| operation(name)).collect())
}

/// Finds, at start, what restores of an earlier run have replaced.
pub(crate) fn find_all(inner: &Inner, volume: &Volume) -> Result<(), VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    let there = inner.pool.find(&live).map_err(pool_failed("failed to look at the volume"))?;
    if there.is_none() {
        return Ok(());
    }
    let dir = inner.pool.open(&live).map_err(pool_failed("failed to open the volume"))?;
    let found = list(&dir)?;
    volume.state().replaced = found.into_iter().map(|operation| (operation, None)).collect();
    Ok(())
}

/// Removes what restores have replaced from a subvolume that takes writes and is nobody's yet.
pub(crate) fn clear(inner: &Inner, of: &SubvolumePath) -> Result<(), VolumeError> {
    let dir = inner.pool.open(of).map_err(pool_failed("failed to open a subvolume"))?;
    for operation in list(&dir)? {
        dir.remove(&place(&operation)?, true).map_err(path_failed("failed to remove a file"))?;
    }
    Ok(())
}

/// Takes a read-only snapshot of a volume's subvolume without what restores have replaced; gives the
/// generation of its source then. `operation` names the place of the snapshot, and one beside it in
/// which it is made where there is something to leave out.
///
/// Costs one snapshot; where something is to be left out, two and its removal.
pub(crate) fn snapshot_without(
    inner: &Inner,
    volume: &Volume,
    from: &SubvolumePath,
    operation: &OperationId,
) -> Result<u64, VolumeError> {
    let failed = || pool_failed("failed to take a snapshot");
    let stored = SubvolumePath::Stored(volume.id.clone(), *operation);
    let has_replaced = || -> Result<bool, VolumeError> {
        let dir = inner.pool.open(from).map_err(pool_failed("failed to open the volume"))?;
        Ok(!list(&dir)?.is_empty())
    };
    // of the volume's own subvolume that is known
    let is_live = matches!(from, SubvolumePath::Volume(_));
    if (is_live && volume.state().replaced.is_empty()) || !has_replaced()? {
        inner.pool.snapshot(from, &stored, Access::ReadOnly, &volume.id).map_err(failed())?;
        // a snapshot has the generation that it gives its source, and any later change a higher one
        return generation_at(inner, &stored);
    }
    let between = SubvolumePath::Incoming(sub(operation, 3));
    inner.pool.delete(&between).map_err(failed())?;
    inner.pool.snapshot(from, &between, Access::ReadWrite, &volume.id).map_err(failed())?;
    let generation = generation_at(inner, &between)?;
    clear(inner, &between)?;
    inner.pool.snapshot(&between, &stored, Access::ReadOnly, &volume.id).map_err(failed())?;
    inner.pool.delete(&between).map_err(failed())?;
    Ok(generation)
}

/// Whether something of `replaced` was written, given how a later snapshot differs from an earlier one.
/// `is_same` compares an entry that was touched with what it was: a rename touches what it moves and
/// changes nothing.
fn is_written(
    changes: &Changes,
    replaced: &TreePath,
    mut is_same: impl FnMut(&Touched) -> bool,
) -> bool {
    let is_old = |path: &[u8]| old_and_rest(replaced, path).is_some();
    changes.touched.iter().filter(|touched| is_old(&touched.path)).any(|touched| !is_same(touched))
}

/// The number of the replaced path that `path` is or is below, and what follows it, with the slash.
fn old_and_rest<'p>(replaced: &TreePath, path: &'p [u8]) -> Option<(&'p [u8], &'p [u8])> {
    let below = path.strip_prefix(replaced.as_bytes())?.strip_prefix(b"/")?;
    let end = below.iter().position(|byte| *byte == b'/').unwrap_or(below.len());
    Some((below[..end].strip_suffix(b".old")?, &below[end..]))
}

/// Looks at all that restores of paths have replaced in a volume: what was written there becomes a
/// rescue, and what nobody has open any more goes. It is the caller's turn to capture.
///
/// # Errors
///
/// What was not looked at stays and is looked at again.
pub(crate) fn look_at_replaced(inner: &Inner, volume: &Arc<Volume>) -> Result<(), VolumeError> {
    let replaced: Vec<OperationId> = volume.state().replaced.keys().copied().collect();
    // one that cannot be looked at keeps nothing else from it
    replaced.iter().map(|operation| look_at(inner, volume, operation)).fold(Ok(()), Result::and)
}

/// Looks at what a restore has just replaced, so that it goes at once when nobody has it open.
pub(crate) fn settle(inner: &Inner, volume: &Arc<Volume>, operation: &OperationId) {
    inner.wait(tokio::time::sleep(OPENING));
    if let Err(error) = look_at(inner, volume, operation) {
        let (volume, error) = (&volume.id, chain(&error));
        tracing::warn!(%volume, error, "what was replaced stays until the next look");
    }
}

fn look_at(
    inner: &Inner,
    volume: &Arc<Volume>,
    operation: &OperationId,
) -> Result<(), VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    let top = inner.pool.absolute(&live);
    let replaced = place(operation)?;
    // before the look at what was written: nobody finds a way there any more
    let dir = inner.pool.open(&live).map_err(pool_failed("failed to open the volume"))?;
    let is_held = is_held(&dir, &top, &replaced);
    let before = volume.state().replaced.get(operation).copied().flatten();
    let is_untouched = match before {
        Some(before) => generation(inner, &volume.id)? == before.generation,
        None => false,
    };
    // the last look sees what was written and has not reached the disk: a snapshot takes it along
    if !is_untouched || !is_held {
        rescue_written(inner, volume, operation, &replaced, before)?;
    }
    if is_held {
        return Ok(());
    }
    dir.remove(&replaced, true).map_err(|error| match error {
        PathError::OtherDevice { .. } => VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!(
                "what a restore replaced stays in {}: another subvolume or a mount is in it, to be moved \
                 away or unmounted",
                escape_bytes(top.join(OsStr::from_bytes(replaced.as_bytes())).as_os_str().as_bytes()),
            ),
        },
        error => VolumeError::failed("failed to remove what a restore replaced", error),
    })?;
    let looked = volume.state().replaced.remove(operation).flatten();
    match looked {
        Some(looked) => drop_look(inner, volume, operation, &looked.snapshot),
        None => Ok(()),
    }
}

/// Makes a rescue of what was written since the last look, and this the last look.
fn rescue_written(
    inner: &Inner,
    volume: &Arc<Volume>,
    operation: &OperationId,
    replaced: &TreePath,
    before: Option<Looked>,
) -> Result<(), VolumeError> {
    let stored = |operation: OperationId| SubvolumePath::Stored(volume.id.clone(), operation);
    // two places in turn
    let [one, other] = [sub(operation, 4), sub(operation, 5)];
    let this = if before.is_some_and(|before| before.snapshot == one) { other } else { one };
    let earlier = before.map_or(*operation, |before| before.snapshot);
    let _held = volume.hold([this, earlier]);
    let live = SubvolumePath::Volume(volume.id.clone());
    let failed = || pool_failed("failed to take a snapshot of what was replaced");
    inner.pool.delete(&stored(this)).map_err(failed())?;
    inner.pool.snapshot(&live, &stored(this), Access::ReadOnly, &volume.id).map_err(failed())?;
    let looked = Looked { snapshot: this, generation: generation_at(inner, &stored(this))? };
    let is_first = earlier == *operation;
    if has_written(inner, &stored(earlier), &stored(this), replaced, is_first)? {
        let id = EntryId::derive(operation, "rescue");
        enqueue_rescue(inner, volume, id, |rescue| {
            put_back(inner, volume, &stored(this), replaced, rescue)
        })?;
    }
    volume.state().replaced.insert(*operation, Some(looked));
    match before {
        Some(before) => drop_look(inner, volume, operation, &before.snapshot),
        None => Ok(()),
    }
}

/// Deletes the snapshot of a look; the state before the restore belongs to its entry.
fn drop_look(
    inner: &Inner,
    volume: &Volume,
    operation: &OperationId,
    looked: &OperationId,
) -> Result<(), VolumeError> {
    if looked != operation {
        let place = SubvolumePath::Stored(volume.id.clone(), *looked);
        inner.pool.delete(&place).map_err(pool_failed("failed to drop a snapshot"))?;
    }
    Ok(())
}

/// Whether what was replaced differs from what it was in an earlier snapshot, where it was in its place
/// (`is_first`) or replaced already. Costs the content of the files that were touched.
fn has_written(
    inner: &Inner,
    earlier: &SubvolumePath,
    later: &SubvolumePath,
    replaced: &TreePath,
    is_first: bool,
) -> Result<bool, VolumeError> {
    let there = inner.pool.find(earlier).map_err(pool_failed("failed to find a snapshot"))?;
    if there.is_none() {
        // it is not known what was there before: rather one rescue too many
        return Ok(true);
    }
    let changes = inner
        .pool
        .changes(earlier, later)
        .map_err(|error| VolumeError::failed("failed to see what was written", error))?;
    let open = |place| inner.pool.open(place).map_err(pool_failed("failed to open a snapshot"));
    let (before, after) = (open(earlier)?, open(later)?);
    let origin = |touched: &Touched| -> Option<TreePath> {
        let origin = match (&touched.origin, old_and_rest(replaced, &touched.path)?) {
            (Some(origin), _) => origin.clone(),
            (None, (number, rest)) if is_first => {
                let at = name(replaced, [number, b".at"].concat()).ok()?;
                [&after.read_link(&at).ok()?, rest].concat()
            }
            (None, _) => touched.path.clone(),
        };
        TreePath::from_bytes(&origin).ok()
    };
    Ok(is_written(&changes, replaced, |touched| {
        // what cannot be looked at may have been written
        let same = || {
            let (old, new) = (origin(touched)?, TreePath::from_bytes(&touched.path).ok()?);
            let same = looks(&before, &old)? == looks(&after, &new)?
                && (touched.content == Content::Same
                    || has_same_bytes(&before, &old, &after, &new)?);
            Some(same)
        };
        same().unwrap_or(false)
    }))
}

/// What is known of an entry besides its content.
type Looks = (FileKind, u32, u32, u32, FileTime, u64, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn looks(dir: &Dir, path: &TreePath) -> Option<Looks> {
    let found = dir.find(path).ok()??;
    let mut xattrs = Vec::new();
    for name in dir.list_xattrs(path).ok()? {
        let value = dir.find_xattr(path, &name).ok()?;
        xattrs.push((name, value));
    }
    // the size of a directory says nothing
    let size = if found.kind == FileKind::File { found.size } else { 0 };
    Some((found.kind, found.mode, found.uid, found.gid, found.mtime, size, xattrs))
}

/// Whether two files of one size, or two links, have the same content.
fn has_same_bytes(before: &Dir, old: &TreePath, after: &Dir, new: &TreePath) -> Option<bool> {
    match after.find(new).ok()??.kind {
        FileKind::File => {}
        FileKind::Symlink => {
            return Some(before.read_link(old).ok()? == after.read_link(new).ok()?);
        }
        _ => return Some(true),
    }
    let mut sides = [before.open_file(old).ok()?, after.open_file(new).ok()?];
    let mut pieces = [vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]];
    loop {
        let mut lengths = [0, 0];
        for ((file, piece), length) in sides.iter_mut().zip(&mut pieces).zip(&mut lengths) {
            *length = read_up_to(file, piece)?;
        }
        if lengths[0] != lengths[1] || pieces[0][..lengths[0]] != pieces[1][..lengths[1]] {
            return Some(false);
        }
        if lengths[0] < PIECE_BYTES {
            return Some(true);
        }
    }
}

/// Fills `piece` as far as the file goes; how far that was.
fn read_up_to(file: &mut File, piece: &mut [u8]) -> Option<usize> {
    let mut length = 0;
    while length < piece.len() {
        match file.read(&mut piece[length..]).ok()? {
            0 => break,
            more => length += more,
        }
    }
    Some(length)
}

/// Makes a snapshot of the volume in which what was replaced is back in its place.
pub(crate) fn put_back(
    inner: &Inner,
    volume: &Volume,
    from: &SubvolumePath,
    replaced: &TreePath,
    rescue: &OperationId,
) -> Result<(), VolumeError> {
    let failed = || pool_failed("failed to put what was replaced back");
    let between = SubvolumePath::Incoming(sub(rescue, 3));
    inner.pool.delete(&between).map_err(failed())?;
    inner.pool.snapshot(from, &between, Access::ReadWrite, &volume.id).map_err(failed())?;
    let dir = inner.pool.open(&between).map_err(failed())?;
    let moved = || path_failed("failed to put what was replaced back");
    for (old, _) in dir.list(replaced).map_err(moved())? {
        let Some(number) = old.strip_suffix(b".old") else { continue };
        let at = name(replaced, [number, b".at"].concat())?;
        let path = dir.read_link(&at).map_err(moved())?;
        let path = TreePath::from_bytes(&path)
            .map_err(|error| VolumeError::failed("failed to put what was replaced back", error))?;
        // what has taken its place, or that of a directory above, is in the present state
        for at in std::iter::successors(path.parent(), TreePath::parent) {
            let found = dir.find(&at).map_err(moved())?;
            if found.is_some_and(|found| found.kind != FileKind::Directory) {
                dir.remove(&at, false).map_err(moved())?;
            }
        }
        dir.remove(&path, true).map_err(moved())?;
        if let Some(parent) = path.parent() {
            make_owned(&dir, &parent).map_err(moved())?;
        }
        dir.rename(&name(replaced, &old)?, &path).map_err(moved())?;
    }
    drop(dir);
    clear(inner, &between)?;
    let stored = SubvolumePath::Stored(volume.id.clone(), *rescue);
    inner.pool.snapshot(&between, &stored, Access::ReadOnly, &volume.id).map_err(failed())?;
    inner.pool.delete(&between).map(drop).map_err(failed())
}

#[cfg(test)]
mod tests;
