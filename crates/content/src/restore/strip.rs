//! Taking from a copy of a snapshot what its tree does not hold, so that it is what a restore from the
//! store would make.

use std::fs::File;
use std::os::fd::AsRawFd;

use cove_btrfs::{Dir, FileKind, Metadata};
use cove_types::TreePath;
use rustix::fs::IFlags;

use super::RestoreError;
use super::attributes::{kept, needs_removal};
use super::copy::is_captured;
use crate::root::NotCaptured;
use crate::store::{SET_ID_BITS, is_unreadable, lack};

/// Takes everything from the writable copy at `dir` that the tree of its state, which lacks
/// `not_captured`, does not hold. Costs a walk when that does not list every path itself.
///
/// Looks at each path before it changes it: what is of another kind by now, because somebody has
/// used the copy, stays as it is. May be repeated. Not durable until the caller flushes.
///
/// Returns whether nothing more is there than in the tree; `false` when the kernel does not list
/// an entry's attributes, because their names are over 64 KiB.
///
/// # Errors
///
/// [`RestoreError`], which names the path.
pub fn strip(dir: &Dir, not_captured: &NotCaptured) -> Result<bool, RestoreError> {
    let mut is_exact = true;
    if not_captured.list.len() as u64 != not_captured.count {
        walk(dir, &TreePath::top(), &mut is_exact)?;
        return Ok(is_exact);
    }
    for listed in &not_captured.list {
        let path = TreePath::parse(&listed.path)?;
        let Some(metadata) = dir.find(&path)? else { continue };
        if listed.what == lack::UNREADABLE {
            match reads(dir, &path, &metadata)? {
                // somebody has put another one there since, or the disk gives it again
                true => is_exact = false,
                false => remove(dir, &path)?,
            }
            continue;
        }
        if is_captured(&metadata) {
            is_exact &= strip_entry(dir, &path, &metadata)?;
        } else {
            remove(dir, &path)?;
        }
    }
    Ok(is_exact)
}

fn walk(dir: &Dir, path: &TreePath, is_exact: &mut bool) -> Result<(), RestoreError> {
    for (name, metadata) in dir.list(path)? {
        // those that are too long go with the directory's own parts
        let Ok(child) = path.join(&name) else { continue };
        if !is_captured(&metadata) {
            remove(dir, &child)?;
            continue;
        }
        *is_exact &= strip_entry(dir, &child, &metadata)?;
        if metadata.kind == FileKind::Directory {
            walk(dir, &child, is_exact)?;
        }
    }
    Ok(())
}

/// Whether the disk gives all of a file. What is no file was put in its place.
fn reads(dir: &Dir, path: &TreePath, metadata: &Metadata) -> Result<bool, RestoreError> {
    if metadata.kind != FileKind::File {
        return Ok(true);
    }
    let mut file = dir.open_file(path)?;
    match std::io::copy(&mut file, &mut std::io::sink()) {
        Ok(_) => Ok(true),
        Err(error) if is_unreadable(&error) => Ok(false),
        Err(source) => Err(RestoreError::Write { path: path.clone(), source }),
    }
}

/// Removes an entry that is in no tree; its directory keeps its time.
fn remove(dir: &Dir, path: &TreePath) -> Result<(), RestoreError> {
    let above = path.parent().unwrap_or_default();
    let time = dir.metadata(&above)?.mtime;
    dir.remove(path, false)?;
    dir.set_times(&above, time)?;
    Ok(())
}

/// Takes the parts of an entry that its tree does not hold; `false` when they cannot be told.
fn strip_entry(dir: &Dir, path: &TreePath, metadata: &Metadata) -> Result<bool, RestoreError> {
    if metadata.kind == FileKind::Directory {
        remove_too_long(dir, path, metadata)?;
    }
    let flags = metadata.flags;
    if flags.is_immutable || flags.is_append_only || flags.is_no_dump {
        clear_flags(dir, path, metadata)?;
    }
    let attributes = dir.attributes(path)?;
    let failed = |source| RestoreError::Write { path: path.clone(), source };
    let Some(names) = attributes.names().map_err(failed)? else { return Ok(false) };
    let kept = kept(&attributes, metadata.kind).map_err(failed)?;
    drop(attributes);
    for name in names.iter().filter(|name| needs_removal(name, &kept)) {
        dir.remove_xattr(path, name)?;
    }
    if metadata.mode & SET_ID_BITS != 0 && metadata.kind != FileKind::Symlink {
        dir.set_mode(path, metadata.mode & !SET_ID_BITS)?;
    }
    Ok(true)
}

/// Removes the entries of a directory whose paths are too long for a tree.
fn remove_too_long(dir: &Dir, path: &TreePath, metadata: &Metadata) -> Result<(), RestoreError> {
    let mut own = None;
    for (name, _) in dir.list(path)? {
        if path.join(&name).is_ok() {
            continue;
        }
        let own = match &mut own {
            Some(own) => own,
            none => none.insert(dir.open_dir(path)?),
        };
        own.remove(&TreePath::from_bytes(&name)?, true)?;
    }
    if own.is_some() {
        dir.set_times(path, metadata.mtime)?;
    }
    Ok(())
}

fn clear_flags(dir: &Dir, path: &TreePath, metadata: &Metadata) -> Result<(), RestoreError> {
    let failed = |source: std::io::Error| RestoreError::Write { path: path.clone(), source };
    let file = match metadata.kind {
        FileKind::File => dir.open_file(path)?,
        FileKind::Directory => {
            let own = dir.open_dir(path)?;
            let by_descriptor = format!("/proc/self/fd/{}", own.descriptor().as_raw_fd());
            File::open(by_descriptor).map_err(failed)?
        }
        _ => return Ok(()),
    };
    let flags = rustix::fs::ioctl_getflags(&file).map_err(|error| failed(error.into()))?;
    let cleared = flags.difference(IFlags::IMMUTABLE | IFlags::APPEND | IFlags::NODUMP);
    rustix::fs::ioctl_setflags(&file, cleared).map_err(|error| failed(error.into()))
}
