//! Changing files of the present state.

use std::io::Read;

use cove_btrfs::{Dir, FileKind, PathError, SubvolumePath};
use cove_content::volumes::{Edited, FileView, VolumeError};
use cove_types::{ErrorKind, TreePath};

use crate::capture::OWNER;
use crate::files::{io, lawful, view_of};
use crate::node::Inner;
use crate::volume::Volume;

/// A change of files that takes no turn.
pub(crate) enum Edit {
    Put(TreePath, Box<dyn Read + Send>),
    MakeDirectory(TreePath),
    Remove { path: TreePath, recursive: bool },
    Move { from: TreePath, to: TreePath },
}

/// Changes files of the present state; durable when it returns.
pub(crate) fn edit(inner: &Inner, volume: &Volume, edit: Edit) -> Result<Edited, VolumeError> {
    let _place = volume.place.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let live = SubvolumePath::Volume(volume.id.clone());
    let dir = inner
        .pool
        .open(&live)
        .map_err(|error| VolumeError::failed("failed to open the files", error))?;
    let one = |view: FileView| Edited { files: vec![view], remarks: Vec::new() };
    match edit {
        Edit::Put(path, mut content) => put(&dir, &path, &mut *content).map(one),
        Edit::MakeDirectory(path) => make_directory(&dir, &path).map(one),
        Edit::Remove { path, recursive } => remove(&dir, &path, recursive).map(one),
        Edit::Move { from, to } => move_to(&dir, &from, to).map(one),
    }
}

pub(super) fn seen(dir: &Dir, path: &TreePath) -> Result<FileView, VolumeError> {
    let at = lawful(path)?;
    let metadata = dir.metadata(&at).map_err(io(path))?;
    Ok(view_of(dir, path.clone(), &at, &metadata))
}

/// Whether a directory is there.
fn is_directory(dir: &Dir, shown: &TreePath, at: &TreePath) -> Result<bool, VolumeError> {
    let found = dir.find(at).map_err(io(shown))?;
    Ok(found.is_some_and(|found| found.kind == FileKind::Directory))
}

fn put(dir: &Dir, path: &TreePath, content: &mut dyn Read) -> Result<FileView, VolumeError> {
    refuse_top(path)?;
    let at = lawful(path)?;
    if is_directory(dir, path, &at)? {
        let path = path.clone();
        return Err(VolumeError::WrongKind { path, found: "a directory", wanted: "a file" });
    }
    dir.write_file(&at, None, content).map_err(io(path))?;
    seen(dir, path)
}

fn make_directory(dir: &Dir, path: &TreePath) -> Result<FileView, VolumeError> {
    let at = lawful(path)?;
    let found = dir.find(&at).map_err(io(path))?;
    if found.is_some_and(|found| found.kind != FileKind::Directory) {
        return Err(VolumeError::PathExists { path: path.clone() });
    }
    make_directories(dir, path)?;
    seen(dir, path)
}

fn remove(dir: &Dir, path: &TreePath, recursive: bool) -> Result<FileView, VolumeError> {
    refuse_top(path)?;
    let at = lawful(path)?;
    let removed = seen(dir, path)?;
    let is_directory = removed.kind == "directory";
    if !recursive && is_directory && !dir.list(&at).map_err(io(path))?.is_empty() {
        return Err(VolumeError::NotEmpty { path: path.clone() });
    }
    dir.remove(&at, recursive || is_directory).map_err(io(path))?;
    Ok(removed)
}

/// Moves a path, into the target when that is a directory, as mv does.
fn move_to(dir: &Dir, from: &TreePath, to: TreePath) -> Result<FileView, VolumeError> {
    refuse_top(from)?;
    refuse_top(&to)?;
    seen(dir, from)?;
    let (source, mut target, mut shown) = (lawful(from)?, lawful(&to)?, to);
    if is_directory(dir, &shown, &target)? {
        let name = from.name().unwrap_or_default();
        let unlawful = |error| VolumeError::failed(format!("failed to move {from}"), error);
        target = target.join(name).map_err(unlawful)?;
        shown = shown.join(name).map_err(unlawful)?;
        if is_directory(dir, &shown, &target)? {
            return Err(VolumeError::PathExists { path: shown });
        }
    }
    if target.below(&source).is_some() {
        return Err(VolumeError::Refused {
            kind: ErrorKind::Invalid,
            what: format!("{from} cannot be moved into itself"),
        });
    }
    dir.rename(&source, &target).map_err(io(&shown))?;
    seen(dir, &shown)
}

fn refuse_top(path: &TreePath) -> Result<(), VolumeError> {
    match path.is_top() {
        false => Ok(()),
        true => Err(VolumeError::Refused {
            kind: ErrorKind::Invalid,
            what: "the root of a project cannot be replaced, moved or removed".into(),
        }),
    }
}

/// Makes a directory and those above it, owned by the workspace's user; durable.
pub(super) fn make_directories(dir: &Dir, path: &TreePath) -> Result<(), VolumeError> {
    let at = lawful(path)?;
    make_owned(dir, &at).map_err(io(path))?;
    dir.sync(&at).map_err(io(path))
}

/// Makes a directory of a volume and those above it, as far as they are missing.
pub(crate) fn make_owned(dir: &Dir, path: &TreePath) -> Result<(), PathError> {
    if path.is_top() || dir.find(path)?.is_some() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_owned(dir, &parent)?;
    }
    dir.create_dir(path, 0o755)?;
    dir.set_owner(path, OWNER.0, OWNER.1)
}
