//! Files of any entry, read straight from its tree, without restoring anything.

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cove_types::{Classify, Digest, TreePath, wire};

use crate::chunks::Chunks;
use crate::tree::{self, ChangeKind, Content, Entry, PathChange, Piece, ReadError, State};
use crate::volumes::FileView;

/// How many bytes of a file are looked up in the tree at a time.
const WINDOW_BYTES: u64 = 8 << 20;

/// The directory of a volume that is the project's root.
#[must_use]
pub fn project_root() -> TreePath {
    TreePath::from_bytes(b"files").expect("a short lawful name")
}

/// A path of a project as a path of its volume.
///
/// # Errors
///
/// It is too long with the volume's own directory before it.
pub fn in_volume(path: &TreePath) -> Result<TreePath, cove_types::ParseError> {
    project_root().join_path(path)
}

/// What a tree says of one path of the project, as listed.
#[must_use]
pub fn view(path: TreePath, entry: &Entry) -> FileView {
    FileView {
        path,
        kind: entry.content.as_str(),
        bytes: entry.size().unwrap_or(0),
        mode: u32::from(entry.mode),
        modified: entry.mtime,
        target: match &entry.content {
            Content::Symlink(target) => Some(target.clone()),
            _ => None,
        },
    }
}

/// Reads `bytes` of a file of a tree, fetching a few MiB ahead.
pub struct ContentReader {
    chunks: Arc<Chunks>,
    root: Digest,
    path: TreePath,
    entry: Entry,
    rest: Range<u64>,
    pieces: VecDeque<Piece>,
    current: Bytes,
    zeros: u64,
}

impl ContentReader {
    /// A reader of `bytes` (clipped at the file's end) of the file `entry` at `path` of the volume.
    #[must_use]
    pub fn new(
        chunks: Arc<Chunks>,
        root: Digest,
        path: TreePath,
        entry: Entry,
        bytes: Range<u64>,
    ) -> Self {
        let size = entry.size().unwrap_or(0);
        let rest = bytes.start.min(size)..bytes.end.min(size);
        Self {
            chunks,
            root,
            path,
            entry,
            rest,
            pieces: VecDeque::new(),
            current: Bytes::new(),
            zeros: 0,
        }
    }

    /// Brings the next bytes or zeros; `false` at the end.
    fn advance(&mut self) -> Result<bool, std::io::Error> {
        while self.pieces.is_empty() {
            if self.rest.is_empty() {
                return Ok(false);
            }
            let end = self.rest.end.min(self.rest.start + WINDOW_BYTES);
            let window = self.rest.start..end;
            let pieces =
                tree::chunks_of(&*self.chunks, &self.root, &self.path, &self.entry, window.clone())
                    .map_err(into_io)?;
            let digests: Vec<Digest> = pieces.iter().filter_map(|piece| piece.digest).collect();
            self.chunks.fetch(&digests);
            self.pieces = pieces.into();
            if self.pieces.is_empty() {
                return Err(std::io::Error::other(
                    "the tree has no content for a part of the file",
                ));
            }
        }
        let Some(piece) = self.pieces.pop_front() else { return Ok(false) };
        // a piece is a whole chunk, which may begin before and end after what is wanted
        let end = (piece.offset + piece.bytes).min(self.rest.end);
        if end <= self.rest.start {
            return Ok(true);
        }
        let from = self.rest.start - piece.offset.min(self.rest.start);
        let length = end - self.rest.start;
        match piece.digest {
            Some(digest) => {
                let chunk = self.chunks.chunk(&digest).map_err(into_io)?;
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let to = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
                if to > chunk.len() {
                    return Err(std::io::Error::other("a chunk is shorter than the tree says"));
                }
                self.current = chunk.slice(from..to);
            }
            None => self.zeros = length,
        }
        self.rest.start = end;
        Ok(true)
    }
}

/// An error of this crate inside an `io::Error`, whence [`kind_of_io`] takes it back.
fn into_io<E: std::error::Error + Send + Sync + 'static>(error: E) -> std::io::Error {
    std::io::Error::other(error)
}

impl Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.current.is_empty() {
                let count = buffer.len().min(self.current.len());
                buffer[..count].copy_from_slice(&self.current.split_to(count));
                return Ok(count);
            }
            if self.zeros > 0 {
                let zeros = usize::try_from(self.zeros).unwrap_or(usize::MAX);
                let count = buffer.len().min(zeros);
                buffer[..count].fill(0);
                self.zeros -= count as u64;
                return Ok(count);
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

/// The changes of a project's files between two trees, in the order of paths.
///
/// # Errors
///
/// A tree could not be read.
pub fn diff(
    before: (&Chunks, &Digest),
    after: (&Chunks, &Digest),
) -> Result<Vec<wire::Change>, ReadError> {
    let changes = tree::changes(before.0, before.1, after.0, after.1)?;
    Ok(changes.into_iter().filter_map(change).collect())
}

/// One change as people see it; `None` outside the project's files.
fn change(change: PathChange) -> Option<wire::Change> {
    let root = project_root();
    let path = change.path.below(&root)?;
    let from = match &change.kind {
        ChangeKind::Renamed { from } => from.below(&root).map(|from| from.to_string()),
        _ => None,
    };
    let kind = match change.kind {
        ChangeKind::Added => wire::ChangeKind::Added,
        ChangeKind::Removed => wire::ChangeKind::Removed,
        ChangeKind::Modified => wire::ChangeKind::Modified,
        ChangeKind::Renamed { .. } => wire::ChangeKind::Renamed,
        ChangeKind::Metadata => wire::ChangeKind::Metadata,
    };
    let size = |state: Option<State>| state.and_then(|state| state.size);
    let mode = |state: Option<State>| state.map(|state| state.mode);
    let octal = |mode: Option<u16>| mode.map(|mode| format!("{mode:04o}"));
    let (mode_before, mode_after) = (mode(change.before), mode(change.after));
    let mode_changed = mode_before.is_some() && mode_after.is_some() && mode_before != mode_after;
    Some(wire::Change {
        path: if path.is_top() { ".".into() } else { path.to_string() },
        change: kind,
        from,
        bytes_before: size(change.before),
        bytes_after: size(change.after),
        mode_before: octal(mode_before).filter(|_| mode_changed),
        mode_after: octal(mode_after).filter(|_| mode_changed),
    })
}

/// An error of a reader in another process, which has its kind there.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct ForeignReadError {
    /// The kind.
    pub kind: cove_types::ErrorKind,
    /// Its text.
    pub text: String,
    /// What it came from.
    pub source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

impl Classify for ForeignReadError {
    fn kind(&self) -> cove_types::ErrorKind {
        self.kind
    }
}

/// The kind of an error that came through `io::Error` from a reader of this module, here or in another process.
#[must_use]
pub fn kind_of_io(error: &std::io::Error) -> cove_types::ErrorKind {
    let inner = error.get_ref();
    inner
        .and_then(|inner| inner.downcast_ref::<crate::chunks::ChunkError>().map(Classify::kind))
        .or_else(|| inner.and_then(|inner| inner.downcast_ref::<ReadError>().map(Classify::kind)))
        .or_else(|| {
            inner.and_then(|inner| inner.downcast_ref::<ForeignReadError>().map(Classify::kind))
        })
        .unwrap_or(match is_damage(error) {
            true => cove_types::ErrorKind::Corrupt,
            false => cove_types::ErrorKind::Unavailable,
        })
}

/// Whether a disk does not give back what it holds: btrfs answers so where a checksum does not fit.
pub(crate) fn is_damage(error: &std::io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::IO)
}
