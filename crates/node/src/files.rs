//! Files of a volume, at the present state and at entries, without any compute.

mod edit;
mod extract;
mod flushes;

pub(crate) use edit::{Edit, edit, make_owned, make_service_directory};
pub(crate) use extract::{merge, stage};
pub(crate) use flushes::Flushes;

use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;

use cove_btrfs::{Dir, FileKind, Metadata, PathError, SubvolumePath};
use cove_content::archive::{PackOptions, pack};
use cove_content::chunks::Chunks;
use cove_content::read::{ContentReader, in_volume, project_root, view};
use cove_content::restore::restore_tree;
use cove_content::tree;
use cove_content::volumes::{FileReader, FileView, Moment, Progress, VolumeError};
use cove_types::{Digest, EntryId, ErrorKind, OperationId, TreePath};

use crate::node::Inner;
use crate::save::{bring_entry, chunks_of};
use crate::volume::Volume;

/// Where the files of a moment are read.
pub(crate) enum Place {
    /// In a subvolume of the pool.
    Local(Dir),
    /// In a tree of the store.
    Stored(Arc<Chunks>, Digest),
}

/// Finds where a moment can be read on this disk; `None` when only the store has it.
pub(crate) fn find_here(
    inner: &Inner,
    volume: &Volume,
    moment: &Moment,
) -> Result<Option<Place>, VolumeError> {
    let here = match moment {
        Moment::Now => SubvolumePath::Volume(volume.id.clone()),
        Moment::Entry(entry) => match local_snapshot(volume, entry) {
            Some(operation) => SubvolumePath::Stored(volume.id.clone(), operation),
            None => return Ok(None),
        },
    };
    let found = inner.pool.find(&here);
    // that it could not be looked for does not say that it is elsewhere
    if found.map_err(|error| VolumeError::failed("failed to find the files", error))?.is_none() {
        return Ok(None);
    }
    let opened = inner.pool.open(&here);
    opened
        .map(|dir| Some(Place::Local(dir)))
        .map_err(|error| VolumeError::failed("failed to open the files", error))
}

/// Where a moment is read in the store; may ask it for older entries.
pub(crate) fn find_stored(
    inner: &Inner,
    volume: &Volume,
    moment: &Moment,
) -> Result<Place, VolumeError> {
    stored(inner, volume, moment).map(|(chunks, root)| Place::Stored(chunks, root))
}

/// The snapshot on this node that an entry is, saved or not.
fn local_snapshot(volume: &Volume, entry: &EntryId) -> Option<OperationId> {
    let state = volume.state();
    let record = state.known.as_ref().and_then(|known| known.find_entry(entry));
    let tree = record.map(|record| record.root.tree.to_string());
    let mut rows = state.stored.values();
    rows.find(|row| row.entry == Some(*entry) && row.root == tree).map(|row| row.operation)
}

/// The tree of a moment in the store; of now, as it was last saved.
pub(crate) fn stored(
    inner: &Inner,
    volume: &Volume,
    moment: &Moment,
) -> Result<(Arc<Chunks>, Digest), VolumeError> {
    if let Moment::Entry(entry) = moment {
        bring_entry(inner, volume, entry)?;
    }
    let state = volume.state();
    let known =
        state.known.as_ref().ok_or_else(|| VolumeError::NotHere { volume: volume.id.clone() })?;
    let tree = match moment {
        Moment::Now => known.head.now.tree,
        Moment::Entry(entry) => {
            let record = known.get_entry(entry)?;
            record.root.tree
        }
    };
    Ok((Arc::new(chunks_of(inner, &known.head.locations)), tree))
}

pub(crate) fn lawful(path: &TreePath) -> Result<TreePath, VolumeError> {
    in_volume(path).map_err(|error| VolumeError::failed("failed to use a path", error))
}

pub(crate) fn io(path: &TreePath) -> impl FnOnce(PathError) -> VolumeError {
    let path = path.clone();
    move |error| match &error {
        error if error.is_absent() => VolumeError::NoPath { path },
        _ => VolumeError::failed(format!("failed to use {path}"), error),
    }
}

fn tree_failed(error: tree::ReadError) -> VolumeError {
    VolumeError::failed("failed to read the tree", error)
}

/// The word of a kind, as in JSON.
fn kind_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "directory",
        FileKind::File => "file",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::Device => "device",
    }
}

pub(crate) fn view_of(
    dir: &Dir,
    shown: TreePath,
    path: &TreePath,
    metadata: &Metadata,
) -> FileView {
    let is_link = metadata.kind == FileKind::Symlink;
    let target = is_link.then(|| dir.read_link(path).ok()).flatten();
    FileView {
        path: shown,
        kind: kind_word(metadata.kind),
        bytes: if metadata.kind == FileKind::File { metadata.size } else { 0 },
        mode: metadata.mode,
        modified: metadata.mtime,
        target,
    }
}

fn entry(chunks: &Chunks, root: &Digest, shown: &TreePath) -> Result<tree::Entry, VolumeError> {
    tree::find_entry(chunks, root, &lawful(shown)?)
        .map_err(tree_failed)?
        .ok_or_else(|| VolumeError::NoPath { path: shown.clone() })
}

/// One file.
pub(crate) fn file(place: &Place, path: &TreePath) -> Result<FileView, VolumeError> {
    match place {
        Place::Local(dir) => {
            let at = lawful(path)?;
            let metadata = dir.metadata(&at).map_err(io(path))?;
            Ok(view_of(dir, path.clone(), &at, &metadata))
        }
        Place::Stored(chunks, root) => Ok(view(path.clone(), &entry(chunks, root, path)?)),
    }
}

/// The children of a directory, or everything below it.
pub(crate) fn files(
    place: &Place,
    path: &TreePath,
    recursive: bool,
) -> Result<Vec<FileView>, VolumeError> {
    let own = file(place, path)?;
    if own.kind != "directory" {
        return Ok(vec![own]);
    }
    let mut found = Vec::new();
    match place {
        Place::Local(dir) => list_local(dir, path, recursive, &mut found)?,
        Place::Stored(chunks, root) => {
            let at = lawful(path)?;
            if recursive {
                for item in tree::list_subtree(&**chunks, root, &at) {
                    let (full, entry) = item.map_err(tree_failed)?;
                    if let Some(shown) = full.below(&project_root()) {
                        found.push(view(shown, &entry));
                    }
                }
            } else {
                for item in tree::list_directory(&**chunks, root, &at) {
                    let (name, entry) = item.map_err(tree_failed)?;
                    if let Ok(shown) = path.join(&name) {
                        found.push(view(shown, &entry));
                    }
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn list_local(
    dir: &Dir,
    path: &TreePath,
    recursive: bool,
    found: &mut Vec<FileView>,
) -> Result<(), VolumeError> {
    let at = lawful(path)?;
    for (name, metadata) in dir.list(&at).map_err(io(path))? {
        let (Ok(shown), Ok(child)) = (path.join(&name), at.join(&name)) else { continue };
        found.push(view_of(dir, shown.clone(), &child, &metadata));
        if recursive && metadata.kind == FileKind::Directory {
            match list_local(dir, &shown, recursive, found) {
                // it went away meanwhile
                Err(VolumeError::NoPath { .. }) => {}
                other => other?,
            }
        }
    }
    Ok(())
}

/// So much of a file on this disk is read when it is opened.
const AT_ONCE_BYTES_MAX: u64 = 64 << 10;

/// A file that could not be read.
struct Failed(Option<std::io::Error>);

impl Read for Failed {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// A short file of the present state, when reading it waits for no disk.
pub(crate) fn read_at_once(
    inner: &Inner,
    volume: &Volume,
    path: &TreePath,
    range: Option<Range<u64>>,
) -> Option<(FileView, FileReader)> {
    let dir = inner.pool.open_cached(&SubvolumePath::Volume(volume.id.clone()))?;
    let (metadata, bytes) = dir.read_cached(&lawful(path).ok()?, range, AT_ONCE_BYTES_MAX)?;
    let view = FileView {
        path: path.clone(),
        kind: "file",
        bytes: metadata.size,
        mode: metadata.mode,
        modified: metadata.mtime,
        target: None,
    };
    Some((view, FileReader::Whole(Cursor::new(bytes.into()))))
}

/// Opens a file for reading.
pub(crate) fn read(
    place: &Place,
    path: &TreePath,
    range: Option<Range<u64>>,
) -> Result<(FileView, FileReader), VolumeError> {
    let not_a_file = |found| {
        let path = path.clone();
        VolumeError::WrongKind { path, found, wanted: "a file" }
    };
    let part = |bytes: u64| {
        let Range { start, end } = range.clone().unwrap_or(0..bytes);
        let start = start.min(bytes);
        start..end.clamp(start, bytes)
    };
    match place {
        Place::Local(dir) => {
            let at = lawful(path)?;
            // what is said of it is said of the one that is read, whatever has its name meanwhile
            let (mut file, metadata) = match dir.open_file_with_metadata(&at) {
                Err(PathError::Kind { found, .. }) => return Err(not_a_file(kind_word(found))),
                opened => opened.map_err(io(path))?,
            };
            let own = view_of(dir, path.clone(), &at, &metadata);
            let range = part(own.bytes);
            file.seek(SeekFrom::Start(range.start)).map_err(|source| VolumeError::Refused {
                kind: ErrorKind::Unavailable,
                what: format!("failed to read {path}: {source}"),
            })?;
            let length = range.end - range.start;
            if length > AT_ONCE_BYTES_MAX {
                return Ok((own, FileReader::Stream(Box::new(file.take(length)))));
            }
            let mut bytes = Vec::with_capacity(length as usize);
            let read = file.take(length).read_to_end(&mut bytes);
            match read {
                // one that was cut meanwhile, or fails, breaks off as a long one does
                Ok(count) if count as u64 == length => {
                    Ok((own, FileReader::Whole(Cursor::new(bytes.into()))))
                }
                Ok(_) => Ok((own, FileReader::Stream(Box::new(Cursor::new(bytes))))),
                Err(error) => Ok((own, FileReader::Stream(Box::new(Failed(Some(error)))))),
            }
        }
        Place::Stored(chunks, root) => {
            let found = entry(chunks, root, path)?;
            let own = view(path.clone(), &found);
            if own.kind != "file" {
                return Err(not_a_file(own.kind));
            }
            let range = part(own.bytes);
            let reader = ContentReader::new(Arc::clone(chunks), *root, lawful(path)?, found, range);
            Ok((own, FileReader::Stream(Box::new(reader))))
        }
    }
}

/// Writes a path with everything below as tar, and says in a line each what is not as it was.
pub(crate) fn export(
    inner: &Inner,
    volume: &Volume,
    place: &Place,
    path: &TreePath,
    to: &mut dyn Write,
) -> Result<Vec<String>, VolumeError> {
    let name = path.name().unwrap_or(b".").to_vec();
    let options = PackOptions { leave_out: Vec::new(), sockets: true };
    match place {
        Place::Local(dir) => {
            dir.metadata(&lawful(path)?).map_err(io(path))?;
            // What is said of a path names it as its project does.
            let files = dir.open_dir(&lawful(&TreePath::top())?).map_err(io(path))?;
            pack(&files, path, &name, to, &options, &|_, _| {})
                .map_err(|error| VolumeError::failed("failed to write the archive", error))
        }
        Place::Stored(chunks, root) => {
            entry(chunks, root, path)?;
            // built beside and thrown away, so that one writer of archives serves both
            let beside = SubvolumePath::Incoming(inner.env.operation_id(0));
            inner
                .pool
                .create(&beside, &volume.id)
                .map_err(|error| VolumeError::failed("failed to make room", error))?;
            let packed = export_beside(inner, &beside, chunks, root, path, &name, to, &options);
            if let Err(error) = inner.pool.delete(&beside) {
                tracing::warn!(%error, "what was built for an archive stays behind");
            }
            packed
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one step of export, cut out for its clean-up")]
fn export_beside(
    inner: &Inner,
    beside: &SubvolumePath,
    chunks: &Chunks,
    root: &Digest,
    path: &TreePath,
    name: &[u8],
    to: &mut dyn Write,
    options: &PackOptions,
) -> Result<Vec<String>, VolumeError> {
    let dir = inner
        .pool
        .open(beside)
        .map_err(|error| VolumeError::failed("failed to open what was built", error))?;
    let at = TreePath::from_bytes(b"files").unwrap_or_default();
    restore_tree(chunks, root, &lawful(path)?, &dir, &at, &Progress::default())
        .map_err(|error| VolumeError::failed("failed to read the files", error))?;
    pack(&dir, &at, name, to, options, &|_, _| {})
        .map_err(|error| VolumeError::failed("failed to write the archive", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_ends_before_it_begins_or_after_the_file_has_the_bytes_that_are_there() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("files")).unwrap();
        std::fs::write(top.path().join("files/a"), "0123456789").unwrap();
        let local = Place::Local(Dir::from_path(top.path()).unwrap());
        #[expect(clippy::reversed_empty_ranges, reason = "nobody keeps a caller from asking so")]
        let parts = [(2..5, "234"), (8..20, "89"), (5..2, ""), (20..3, ""), (20..30, "")];
        for (part, wanted) in parts {
            let (_, mut reader) =
                read(&local, &TreePath::parse("a").unwrap(), Some(part.clone())).unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, wanted, "{part:?}");
        }
    }

    #[test]
    fn what_is_said_of_a_file_is_said_of_the_bytes_that_are_read() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir(top.path().join("files")).unwrap();
        let place = |name: &str| top.path().join("files").join(name);
        let shown = TreePath::parse("a").unwrap();
        std::fs::write(place("a"), [1; 1]).unwrap();
        let local = Place::Local(Dir::from_path(top.path()).unwrap());
        let rounds = 4_000;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                // each file holds its own length, again and again
                for length in (1..=200_u8).cycle().take(rounds) {
                    std::fs::write(place("new"), vec![length; usize::from(length)]).unwrap();
                    std::fs::rename(place("new"), place("a")).unwrap();
                }
            });
            while !writer.is_finished() {
                let (view, mut reader) = read(&local, &shown, None).unwrap();
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes).unwrap();
                let length = bytes[0];
                assert_eq!(bytes, vec![length; usize::from(length)]);
                assert_eq!(view.bytes, u64::from(length));
            }
        });
    }
}
