//! One entry: what the disk says of it, and its chunks.

use std::cell::RefCell;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use cove_btrfs::{Attributes, Dir, Encoded, FileKind, Metadata, read_encoded};
use cove_types::{Digest, TreePath};
use rustix::fs::SeekFrom;

use super::{MACHINE_LABEL, SET_ID_BITS, StoreError, is_unreadable, lack};
use crate::chunk::{self, GRID_BYTES, is_zeros};
use crate::frame;
use crate::session::{Session, SessionError};
use crate::tree::{self, ChunkList, Content, Entry, GROUP_CHUNKS, Grid, XattrList, Xattrs};

/// Where the chunks go that are read.
pub(crate) trait ChunkSink {
    /// As [`Session::put_data`].
    fn put_data(&self, digest: Digest, plain: &[u8]) -> Result<(), SessionError>;
    /// As [`Session::put_frame`].
    fn put_frame(&self, digest: Digest, frame: Vec<u8>) -> Result<(), SessionError>;
    /// As [`Session::put_meta`].
    fn put_meta(&self, digest: Digest, plain: Vec<u8>) -> Result<(), SessionError>;
}

impl ChunkSink for RefCell<&mut Session<'_>> {
    fn put_data(&self, digest: Digest, plain: &[u8]) -> Result<(), SessionError> {
        self.borrow_mut().put_data(digest, plain)
    }

    fn put_frame(&self, digest: Digest, frame: Vec<u8>) -> Result<(), SessionError> {
        self.borrow_mut().put_frame(digest, frame)
    }

    fn put_meta(&self, digest: Digest, plain: Vec<u8>) -> Result<(), SessionError> {
        self.borrow_mut().put_meta(digest, &plain)
    }
}

/// What the tree says of an entry, and what of the entry it does not.
pub(crate) struct Described {
    pub(crate) entry: Entry,
    /// Some of [`lack::PARTS`].
    pub(crate) lacks: Vec<&'static str>,
}

/// What the tree says of one entry, whose content goes into `sink`.
pub(crate) fn read_entry(
    dir: &Dir,
    path: &TreePath,
    metadata: &Metadata,
    sink: &dyn ChunkSink,
) -> Result<(Described, Vec<(u64, ChunkList)>), StoreError> {
    let mut lists = Vec::new();
    let mut file = None;
    let content = match metadata.kind {
        FileKind::Directory => Content::Directory,
        FileKind::Symlink => Content::Symlink(dir.read_link(path)?),
        FileKind::Fifo => Content::Fifo,
        FileKind::Socket => Content::Socket,
        FileKind::File => {
            let opened = file.insert(dir.open_file(path)?);
            let (content, found) = read_file(opened, path, metadata.size, sink)?;
            lists = found;
            content
        }
        FileKind::Device => return Err(StoreError::Device { path: path.clone() }),
    };
    let mut described = describe(dir, path, metadata, content, file.as_ref(), sink)?;
    if metadata.links > 1 && metadata.kind != FileKind::Directory {
        described.entry.link = Some(path.clone());
    }
    Ok((described, lists))
}

/// The entry of this content, with all else but `link` as it is at `path` now; `file` is it
/// when it is open already.
pub(crate) fn describe(
    dir: &Dir,
    path: &TreePath,
    metadata: &Metadata,
    content: Content,
    file: Option<&File>,
    sink: &dyn ChunkSink,
) -> Result<Described, StoreError> {
    let mode = u16::try_from(metadata.mode & !SET_ID_BITS & 0o7777)
        .expect("four octal digits fit 16 bits");
    let mut entry = Entry::new(content, mode, metadata.mtime);
    (entry.uid, entry.gid) = (metadata.uid, metadata.gid);
    let parts = [
        (metadata.mode & SET_ID_BITS != 0, lack::SET_ID),
        (metadata.flags.is_immutable, lack::IMMUTABLE),
        (metadata.flags.is_append_only, lack::APPEND_ONLY),
        (metadata.flags.is_no_dump, lack::NO_DUMP),
    ];
    let mut lacks: Vec<&'static str> =
        parts.into_iter().filter_map(|(is_set, what)| is_set.then_some(what)).collect();
    let attributes = match file {
        Some(file) => Attributes::of(file),
        None => dir.attributes(path)?,
    };
    let failed = |source| StoreError::Read { path: path.clone(), source };
    let names = attributes.names().map_err(failed)?.unwrap_or_else(|| {
        lacks.push(lack::XATTRS);
        tree::ACLS.iter().map(|name| name.to_vec()).collect()
    });
    let mut kept = Vec::new();
    let mut bytes = 0;
    for name in names {
        let lacking = match name.as_slice() {
            // No attribute that a tree holds can be set on a link.
            name if tree::is_kept(name) && metadata.kind != FileKind::Symlink => None,
            MACHINE_LABEL => continue,
            name if name.starts_with(b"security.") => Some(lack::SECURITY),
            name if name.starts_with(b"trusted.") => Some(lack::TRUSTED),
            // How btrfs is to compress it, and what else a file system keeps for itself.
            _ => continue,
        };
        if let Some(what) = lacking {
            lacks.push(what);
            continue;
        }
        let Some(value) = attributes.find(&name).map_err(failed)? else { continue };
        let more = XattrList::encoded_bytes(&name, &value);
        if bytes + more > tree::XATTRS_BYTES_MAX {
            lacks.push(lack::XATTRS);
            continue;
        }
        bytes += more;
        kept.push((name, value));
    }
    lacks.sort_unstable();
    lacks.dedup();
    let (xattrs, chunk) = Xattrs::place(XattrList::new(kept)?);
    if let Some(bytes) = chunk {
        sink.put_meta(Digest::of(&bytes), bytes)?;
    }
    entry.xattrs = xattrs;
    Ok(Described { entry, lacks })
}

/// The grid of a file of `size` bytes at `path`.
pub(crate) fn grid_of(file: &File, path: &TreePath, size: u64) -> Result<Grid, StoreError> {
    let mut first = [0; 16];
    let wanted = usize::try_from(size.min(16)).expect("16 at most");
    file.read_exact_at(&mut first[..wanted], 0)
        .map_err(|source| StoreError::Read { path: path.clone(), source })?;
    Ok(chunk::grid_for(path, size, &first[..wanted]))
}

/// Puts a file's chunks.
fn read_file(
    file: &File,
    path: &TreePath,
    size: u64,
    sink: &dyn ChunkSink,
) -> Result<(Content, Vec<(u64, ChunkList)>), StoreError> {
    let grid = grid_of(file, path, size)?;
    if size == 0 {
        return Ok((Content::File { size, grid, chunk: None }, Vec::new()));
    }
    if size <= grid.bytes() {
        let mut buffer = vec![0; GRID_BYTES as usize];
        let digest = read_chunk(file, 0, size, &mut buffer, sink).map_err(|e| e.at(path))?;
        let chunk = Some(digest).filter(|digest| !digest.is_hole());
        return Ok((Content::File { size, grid, chunk }, Vec::new()));
    }
    let lists = read_groups(file, path, (size, grid), 0..size, sink)?;
    Ok((Content::File { size, grid, chunk: None }, lists))
}

/// Puts the chunks of all groups that begin in `bytes`, where a group begins, of a file of this
/// size and grid; holes are stepped over, however large.
pub(crate) fn read_groups(
    file: &File,
    path: &TreePath,
    (size, grid): (u64, Grid),
    bytes: Range<u64>,
    sink: &dyn ChunkSink,
) -> Result<Vec<(u64, ChunkList)>, StoreError> {
    let failed = |source| StoreError::Read { path: path.clone(), source };
    let mut buffer = vec![0; GRID_BYTES as usize];
    let mut lists = Vec::new();
    let mut offset = bytes.start;
    while let Some(data) = next_data(file, offset, bytes.end.min(size)).map_err(failed)? {
        let group = data - data % grid.group_bytes();
        let mut digests = Vec::with_capacity(GROUP_CHUNKS);
        let end = group.saturating_add(grid.group_bytes()).min(size);
        let mut at = group;
        while at < end {
            let bytes = grid.bytes().min(size - at);
            let digest = read_chunk(file, at, bytes, &mut buffer, sink).map_err(|e| e.at(path))?;
            digests.push(digest);
            at += bytes;
        }
        if let Some(list) = ChunkList::of_group(grid, size, group, digests)? {
            lists.push((group, list));
        }
        offset = end;
    }
    Ok(lists)
}

/// The first byte from `offset` on that is not in a hole; `None` when there is none before `size`.
pub(super) fn next_data(
    file: &File,
    offset: u64,
    size: u64,
) -> Result<Option<u64>, std::io::Error> {
    if offset >= size {
        return Ok(None);
    }
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(Some(data).filter(|data| *data < size)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // a file system that knows no holes
        Err(rustix::io::Errno::INVAL) => Ok(Some(offset)),
        Err(error) => Err(error.into()),
    }
}

/// Puts the chunk of `bytes` at `offset`; [`Digest::HOLE`] when it is all zeros.
pub(crate) fn read_chunk(
    file: &File,
    offset: u64,
    bytes: u64,
    buffer: &mut [u8],
    sink: &dyn ChunkSink,
) -> Result<Digest, ChunkFailure> {
    let want = usize::try_from(bytes).expect("a chunk has at most 128 KiB");
    if want == GRID_BYTES as usize {
        match read_encoded(file, offset, want, buffer) {
            Ok(Encoded::Hole { .. }) => return Ok(Digest::HOLE),
            Ok(Encoded::Zstd { frame }) => match frame::decompress(&frame, GRID_BYTES) {
                Ok(plain) if is_zeros(&plain) => return Ok(Digest::HOLE),
                Ok(plain) if plain.len() == want => {
                    let digest = Digest::of(&plain);
                    sink.put_frame(digest, frame)?;
                    return Ok(digest);
                }
                // no frame, or not of this chunk: what the kernel itself makes of it counts
                Ok(_) | Err(_) => file.read_exact_at(&mut buffer[..want], offset)?,
            },
            Ok(Encoded::Plain { len }) if len == want => {}
            Ok(Encoded::Plain { .. }) => file.read_exact_at(&mut buffer[..want], offset)?,
            Err(error) if is_unreadable(&error) => {
                file.read_exact_at(&mut buffer[..want], offset)?;
            }
            Err(error) => return Err(error.into()),
        }
    } else {
        file.read_exact_at(&mut buffer[..want], offset)?;
    }
    let plain = &buffer[..want];
    if is_zeros(plain) {
        return Ok(Digest::HOLE);
    }
    let digest = Digest::of(plain);
    sink.put_data(digest, plain)?;
    Ok(digest)
}

/// Why one chunk was not put, before it is known of which file.
pub(crate) enum ChunkFailure {
    Read(std::io::Error),
    Session(SessionError),
}

impl ChunkFailure {
    pub(crate) fn at(self, path: &TreePath) -> StoreError {
        match self {
            Self::Read(source) => StoreError::Read { path: path.clone(), source },
            Self::Session(source) => StoreError::Session(source),
        }
    }
}

impl From<std::io::Error> for ChunkFailure {
    fn from(source: std::io::Error) -> Self {
        Self::Read(source)
    }
}

impl From<SessionError> for ChunkFailure {
    fn from(source: SessionError) -> Self {
        Self::Session(source)
    }
}
