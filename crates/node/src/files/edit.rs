//! Changing files of the present state.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use cove_btrfs::{Dir, FileKind, PathError, PoolError, SubvolumePath};
use cove_content::spec::{SERVICE_LAW, is_service};
use cove_content::volumes::{Edited, FileView, VolumeError};
use cove_types::{ErrorKind, TreePath, chain};

use crate::capture::{OWNER, SERVICES, furnish, open_live, path_failed, pool_failed};
use crate::files::{io, lawful, view_of};
use crate::node::Inner;
use crate::volume::Volume;

/// A change of files that takes no turn.
pub(crate) enum Edit {
    Put(TreePath, Box<dyn Read + Send>),
    /// The same, with content that was received into a file without a name.
    Place(TreePath, File),
    MakeDirectory(TreePath),
    Remove {
        path: TreePath,
        recursive: bool,
    },
    Move {
        from: TreePath,
        to: TreePath,
    },
}

/// Changes files of the present state; durable when it returns.
///
/// Content is received before anything waits for this: a caller may send it as slowly as it likes.
pub(crate) fn edit(inner: &Inner, volume: &Volume, edit: Edit) -> Result<Edited, VolumeError> {
    let edit = match edit {
        Edit::Put(path, content) => receive(inner, volume, path, content)?,
        other => other,
    };
    let _place = volume.place.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let live = SubvolumePath::Volume(volume.id.clone());
    let dir = inner
        .pool
        .open(&live)
        .map_err(|error| VolumeError::failed("failed to open the files", error))?;
    let one = |view: FileView| Edited { files: vec![view], remarks: Vec::new() };
    match edit {
        Edit::Put(path, mut content) => {
            put(inner, &dir, &path, &mut Body::Stream(&mut *content)).map(one)
        }
        Edit::Place(path, file) => put(inner, &dir, &path, &mut Body::File(file)).map(one),
        Edit::MakeDirectory(path) => make_directory(&dir, &path).map(one),
        Edit::Remove { path, recursive } => remove(&dir, &path, recursive).map(one),
        Edit::Move { from, to } => move_to(&dir, &from, to).map(one),
    }
}

/// Makes the directory of one service's data; durable when it returns.
pub(crate) fn make_service_directory(
    inner: &Inner,
    volume: &Volume,
    service: &str,
) -> Result<PathBuf, VolumeError> {
    let path = TreePath::from_bytes(SERVICES).and_then(|at| at.join(service.as_bytes()));
    let Some(path) = path.ok().filter(|_| is_service(service)) else {
        let what = SERVICE_LAW.to_owned();
        return Err(VolumeError::Refused { kind: ErrorKind::Invalid, what });
    };
    let _place = volume.place.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    let dir = open_live(inner, &volume.id)?;
    furnish(&dir).map_err(path_failed("failed to make the directory of services"))?;
    if !is_directory(&dir, &path, &path)? {
        dir.create_dir(&path, 0o755).map_err(io(&path))?;
        dir.set_owner(&path, OWNER.0, OWNER.1).map_err(io(&path))?;
        inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))?;
    }
    let top = inner.pool.absolute(&SubvolumePath::Volume(volume.id.clone()));
    Ok(top.join(OsStr::from_bytes(path.as_bytes())))
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

/// What a file is to hold.
enum Body<'b> {
    Stream(&'b mut dyn Read),
    File(File),
}

/// Receives content into a file without a name, where the pool has such files.
fn receive(
    inner: &Inner,
    volume: &Volume,
    path: TreePath,
    mut content: Box<dyn Read + Send>,
) -> Result<Edit, VolumeError> {
    let live = SubvolumePath::Volume(volume.id.clone());
    let dir = inner
        .pool
        .open(&live)
        .map_err(|error| VolumeError::failed("failed to open the files", error))?;
    // before anything is received for nothing
    refuse_directory(&dir, &path)?;
    let Some(mut file) = dir.nameless_file().map_err(io(&path))? else {
        return Ok(Edit::Put(path, content));
    };
    std::io::copy(&mut content, &mut file)
        .map_err(|source| io(&path)(PathError::Io { verb: "write", path: path.clone(), source }))?;
    Ok(Edit::Place(path, file))
}

fn refuse_directory(dir: &Dir, path: &TreePath) -> Result<(), VolumeError> {
    refuse_top(path)?;
    if is_directory(dir, path, &lawful(path)?)? {
        let path = path.clone();
        return Err(VolumeError::WrongKind { path, found: "a directory", wanted: "a file" });
    }
    Ok(())
}

fn put(
    inner: &Inner,
    dir: &Dir,
    path: &TreePath,
    content: &mut Body<'_>,
) -> Result<FileView, VolumeError> {
    let flush = |file: BorrowedFd<'_>| {
        let own = || Ok(rustix::fs::fsync(file)?);
        let all = || {
            inner.pool.flush().map_err(|error| match error {
                PoolError::Io { source, .. } => source,
                other => std::io::Error::other(chain(&other)),
            })
        };
        inner.flushes.flush(|| inner.env.since_boot(), own, all)
    };
    refuse_directory(dir, path)?;
    let at = lawful(path)?;
    match content {
        Body::Stream(stream) => dir.write_file(&at, None, stream),
        Body::File(file) if is_of(file, dir) => dir.place_file(&at, None, file, &flush),
        // a restore has swapped other files in meanwhile
        Body::File(file) => file
            .rewind()
            .map_err(|source| PathError::Io { verb: "write", path: at.clone(), source })
            .and_then(|()| dir.write_file(&at, None, file)),
    }
    .map_err(io(path))?;
    seen(dir, path)
}

/// Whether a file is of a directory's subvolume.
fn is_of(file: &File, dir: &Dir) -> bool {
    file.metadata().is_ok_and(|found| found.dev() == dir.device())
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

/// Moves a path, into the target when that is a directory, as mv does. A directory replaces nothing.
fn move_to(dir: &Dir, from: &TreePath, to: TreePath) -> Result<FileView, VolumeError> {
    refuse_top(from)?;
    let moved = seen(dir, from)?;
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
    // the kernel would say that the target is not there
    if moved.kind == "directory" && dir.find(&target).map_err(io(&shown))?.is_some() {
        let found = seen(dir, &shown)?.kind;
        return Err(VolumeError::WrongKind { path: shown, found, wanted: "a directory" });
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
