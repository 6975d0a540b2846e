//! Storing a whole subvolume: its tree out of its files.
//!
//! The walk goes in the order of keys (all children of a directory, then what is
//! below each of them), so the tree is built as it is read and chunks lie in packs
//! in the order in which a restore asks for them. Nothing is held but one directory's
//! listing a level and the chunk lists of hard-linked files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use cove_btrfs::{Attributes, Dir, Encoded, FileKind, Metadata, PathError, read_encoded};
use cove_types::{Classify, Digest, ErrorKind, ParseError, TreePath};
use rustix::fs::SeekFrom;

use crate::chunk::{self, GRID_BYTES, is_zeros};
use crate::frame;
use crate::root::NotCapturedPath;
use crate::session::{Session, SessionError};
use crate::tree::{
    self, Builder, ChunkList, Content, Entry, GROUP_CHUNKS, Grid, Item, Key, NodeSink, SinkError,
    XattrList, Xattrs,
};
use crate::volumes::Progress;

/// Set-uid and set-gid.
pub(crate) const SET_ID_BITS: u32 = 0o6000;

/// What is not captured of a path, as it is listed.
pub(crate) mod lack {
    /// The path is no entry of the tree.
    pub(crate) const DEVICE: &str = "device";
    /// The path is no entry of the tree.
    pub(crate) const NESTED: &str = "nested subvolume";
    /// The path is a directory of which some children are no entries.
    pub(crate) const LONG: &str = "a path over 4,095 bytes or 256 names";
    /// The path is no entry of the tree.
    pub(crate) const UNREADABLE: &str = "a file that the disk does not give";
    /// The path is an entry, without these bits.
    pub(crate) const SET_ID: &str = "setuid or setgid bit";
    /// The path is an entry, without this flag; so of the next two.
    pub(crate) const IMMUTABLE: &str = "immutable flag";
    pub(crate) const APPEND_ONLY: &str = "append-only flag";
    pub(crate) const NO_DUMP: &str = "no-dump flag";
    /// The path is an entry, without attributes of this kind; so of the next.
    pub(crate) const SECURITY: &str = "security.* attribute";
    pub(crate) const TRUSTED: &str = "trusted.* attribute";
    /// The path is an entry, without those of its attributes that did not fit.
    pub(crate) const XATTRS: &str = "extended attributes over 128 KiB, or over 64 KiB of names";

    /// Those of a path that is an entry itself.
    pub(crate) const PARTS: [&str; 7] =
        [SET_ID, IMMUTABLE, APPEND_ONLY, NO_DUMP, SECURITY, TRUSTED, XATTRS];

    /// What a word says; `None` for one that is none of these.
    pub(crate) fn find(what: &str) -> Option<&'static str> {
        [DEVICE, NESTED, LONG, UNREADABLE].into_iter().chain(PARTS).find(|known| *known == what)
    }
}

/// Up to how many files that the disk does not give are left out. More are a disk that fails as a
/// whole, and a state without them would stand for one in which they are deleted.
const UNREADABLE_MAX: usize = 100;

/// The label that SELinux gives to every file by its own rules: no loss, and no news.
const MACHINE_LABEL: &[u8] = b"security.selinux";

/// A tree that a session has put.
#[derive(Debug, Clone)]
pub struct StoredTree {
    /// Its root.
    pub root: tree::Root,
    /// What of the files it does not hold.
    pub not_captured: Vec<NotCapturedPath>,
}

/// Stores everything below `dir`, the top of a read-only snapshot, in `session`.
///
/// Costs a read of all file content that the kernel does not give compressed, and a digest of
/// all of it. May be interrupted anywhere: nothing names what was put.
///
/// # Errors
///
/// [`StoreError`]; an entry that a tree cannot hold is no error but is listed, and so are up to a hundred
/// files of which the disk does not give all bytes (EIO, as by a wrong checksum).
pub fn store_tree(
    dir: &Dir,
    session: &mut Session<'_>,
    progress: &Progress,
) -> Result<StoredTree, StoreError> {
    let session = RefCell::new(session);
    let mut walk = Walk {
        dir,
        session: &session,
        builder: Builder::new(SharedSink(&session)),
        linked: HashMap::new(),
        not_captured: Vec::new(),
        unreadable: 0,
        progress,
    };
    walk.directory(&TreePath::top())?;
    let Walk { builder, not_captured, .. } = walk;
    let root = builder.finish()?;
    if root.counts.entries == 0 {
        session.borrow_mut().put_meta(root.digest, tree::EMPTY_NODE)?;
    }
    Ok(StoredTree { root, not_captured })
}

/// The session as the builder's sink, while the walk puts chunks into it too.
pub(crate) struct SharedSink<'r, 's, 'k>(pub(crate) &'r RefCell<&'s mut Session<'k>>);

impl NodeSink for SharedSink<'_, '_, '_> {
    fn put(&mut self, digest: Digest, bytes: Bytes) -> Result<(), SinkError> {
        self.0.borrow_mut().put(digest, bytes)
    }
}

/// What the tree says of an entry, and what of the entry it does not.
pub(crate) struct Described {
    pub(crate) entry: Entry,
    /// Some of [`lack::PARTS`].
    pub(crate) lacks: Vec<&'static str>,
}

/// A hard-linked file that was met: its first name, and what its further names repeat.
struct Linked {
    described: Described,
    lists: Vec<(u64, ChunkList)>,
}

struct Walk<'w, 'r, 's, 'k> {
    dir: &'w Dir,
    session: &'r RefCell<&'s mut Session<'k>>,
    builder: Builder<SharedSink<'r, 's, 'k>>,
    linked: HashMap<u64, Linked>,
    not_captured: Vec<NotCapturedPath>,
    unreadable: usize,
    progress: &'w Progress,
}

impl Walk<'_, '_, '_, '_> {
    fn lacks(&mut self, path: &TreePath, what: &str) {
        self.not_captured.push(NotCapturedPath { path: path.to_string(), what: what.to_owned() });
    }

    fn directory(&mut self, path: &TreePath) -> Result<(), StoreError> {
        let mut below = Vec::new();
        for (name, metadata) in self.dir.list(path)? {
            let Ok(child) = path.join(&name) else {
                self.lacks(path, lack::LONG);
                continue;
            };
            if self.entry(&child, &metadata)? && metadata.kind == FileKind::Directory {
                below.push(child);
            }
        }
        below.iter().try_for_each(|child| self.directory(child))
    }

    /// Adds one entry; whether it was added.
    fn entry(&mut self, path: &TreePath, metadata: &Metadata) -> Result<bool, StoreError> {
        if metadata.kind == FileKind::Device {
            self.lacks(path, lack::DEVICE);
            return Ok(false);
        }
        if metadata.stands_for_subvolume() {
            self.lacks(path, lack::NESTED);
            return Ok(false);
        }
        if let Some(linked) = self.linked.remove(&metadata.inode) {
            self.push(path, &linked.described, &linked.lists)?;
            self.linked.insert(metadata.inode, linked);
            return Ok(true);
        }
        let (described, lists) = match read_entry(self.dir, path, metadata, self.session) {
            Err(error)
                if metadata.kind == FileKind::File
                    && error.is_unreadable()
                    && self.unreadable < UNREADABLE_MAX =>
            {
                self.unreadable += 1;
                self.lacks(path, lack::UNREADABLE);
                return Ok(false);
            }
            read => read?,
        };
        self.push(path, &described, &lists)?;
        let bytes = described.entry.size().unwrap_or(0);
        self.progress.update(|progress| {
            progress.done_files += 1;
            progress.total_bytes = Some(progress.total_bytes.unwrap_or(0) + bytes);
        });
        if described.entry.link.is_some() {
            self.linked.insert(metadata.inode, Linked { described, lists });
        }
        Ok(true)
    }

    /// Adds an entry, its chunk lists and what it lacks under one name.
    fn push(
        &mut self,
        path: &TreePath,
        described: &Described,
        lists: &[(u64, ChunkList)],
    ) -> Result<(), StoreError> {
        self.builder.push(Item { key: Key::entry(path), value: described.entry.encode()? })?;
        for (offset, list) in lists {
            self.builder.push(Item { key: Key::chunks(path, *offset), value: list.encode() })?;
        }
        described.lacks.iter().for_each(|what| self.lacks(path, what));
        Ok(())
    }
}

/// What the tree says of one entry, whose content goes into the session.
pub(crate) fn read_entry(
    dir: &Dir,
    path: &TreePath,
    metadata: &Metadata,
    session: &RefCell<&mut Session<'_>>,
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
            let (content, found) = read_file(opened, path, metadata.size, session)?;
            lists = found;
            content
        }
        FileKind::Device => return Err(StoreError::Device { path: path.clone() }),
    };
    let mut described = describe(dir, path, metadata, content, file.as_ref(), session)?;
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
    session: &RefCell<&mut Session<'_>>,
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
        session.borrow_mut().put_meta(Digest::of(&bytes), &bytes)?;
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
    session: &RefCell<&mut Session<'_>>,
) -> Result<(Content, Vec<(u64, ChunkList)>), StoreError> {
    let grid = grid_of(file, path, size)?;
    if size == 0 {
        return Ok((Content::File { size, grid, chunk: None }, Vec::new()));
    }
    if size <= grid.bytes() {
        let mut buffer = vec![0; GRID_BYTES as usize];
        let digest = read_chunk(file, 0, size, &mut buffer, session).map_err(|e| e.at(path))?;
        let chunk = Some(digest).filter(|digest| !digest.is_hole());
        return Ok((Content::File { size, grid, chunk }, Vec::new()));
    }
    let lists = read_groups(file, path, (size, grid), 0..size, session)?;
    Ok((Content::File { size, grid, chunk: None }, lists))
}

/// Puts the chunks of all groups that begin in `bytes`, where a group begins, of a file of this
/// size and grid; holes are stepped over, however large.
pub(crate) fn read_groups(
    file: &File,
    path: &TreePath,
    (size, grid): (u64, Grid),
    bytes: Range<u64>,
    session: &RefCell<&mut Session<'_>>,
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
            let digest =
                read_chunk(file, at, bytes, &mut buffer, session).map_err(|e| e.at(path))?;
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
fn next_data(file: &File, offset: u64, size: u64) -> Result<Option<u64>, std::io::Error> {
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
    session: &RefCell<&mut Session<'_>>,
) -> Result<Digest, ChunkFailure> {
    let want = usize::try_from(bytes).expect("a chunk has at most 128 KiB");
    if want == GRID_BYTES as usize {
        match read_encoded(file, offset, want, buffer) {
            Ok(Encoded::Hole { .. }) => return Ok(Digest::HOLE),
            Ok(Encoded::Zstd { frame }) => match frame::decompress(&frame, GRID_BYTES) {
                Ok(plain) if is_zeros(&plain) => return Ok(Digest::HOLE),
                Ok(plain) if plain.len() == want => {
                    let digest = Digest::of(&plain);
                    session.borrow_mut().put_frame(digest, &frame)?;
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
    session.borrow_mut().put_data(digest, plain)?;
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

/// Why a subvolume was not stored.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum StoreError {
    /// The disk did not give a file.
    #[error("failed to read {path}")]
    Read { path: TreePath, source: std::io::Error },
    /// A directory or its entries could not be read.
    #[error("failed to look through the files")]
    Look(#[from] PathError),
    /// A caller asked for what no tree holds.
    #[error("{path} is a device")]
    Device { path: TreePath },
    /// The kernel gave something that a tree cannot say.
    #[error("failed to describe an entry")]
    Form(#[from] ParseError),
    /// The tree could not be written.
    #[error("failed to write the tree")]
    Tree(#[from] tree::WriteError),
    /// The store did not do its part.
    #[error("failed to store")]
    Session(#[from] SessionError),
}

impl StoreError {
    /// Whether the disk does not have what a file says that it has: asking again changes nothing.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Read { source, .. } if is_unreadable(source))
    }
}

/// Whether an error of a read is of the data itself: EIO, as btrfs answers where a checksum is wrong,
/// EUCLEAN or EBADMSG.
pub(crate) fn is_unreadable(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let of_data = [Errno::IO, Errno::UCLEAN, Errno::BADMSG];
    Errno::from_io_error(error).is_some_and(|errno| of_data.contains(&errno))
}

impl Classify for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } => ErrorKind::Unavailable,
            Self::Look(source) => source.kind(),
            Self::Device { .. } | Self::Form(_) => ErrorKind::Internal,
            Self::Tree(source) => source.kind(),
            Self::Session(source) => source.kind(),
        }
    }
}

#[cfg(test)]
mod tests;
