//! Storing a whole subvolume: its tree out of its files.
//!
//! The walk goes in the order of keys (all children of a directory, then what is
//! below each of them), so the tree is built as it is read and chunks lie in packs
//! in the order in which a restore asks for them. Several threads read ahead of it
//! (`ahead`). Nothing is held but one directory's listing a level, what was read ahead, and
//! the chunk lists of hard-linked files and of the long file that is being read.

mod ahead;
mod entry;

use std::cell::RefCell;
use std::collections::HashMap;

use bytes::Bytes;
use cove_btrfs::{Dir, FileKind, Metadata, PathError};
use cove_types::{Classify, Digest, ErrorKind, ParseError, TreePath};

use crate::root::NotCapturedPath;
use crate::session::{Session, SessionError};
use crate::tree::{self, Builder, ChunkList, Item, Key, NodeSink, SinkError};
use crate::volumes::Progress;

pub(crate) use self::ahead::{Ahead, Found, Read};
pub(crate) use self::entry::{Described, describe, grid_of, read_chunk, read_entry, read_groups};

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
        builder: Builder::new(SharedSink(&session)),
        linked: HashMap::new(),
        not_captured: Vec::new(),
        unreadable: 0,
        progress,
    };
    std::thread::scope(|scope| {
        let mut ahead = Ahead::walk(scope, dir);
        loop {
            let found = ahead.next(*session.borrow_mut())?;
            match found {
                Some(found) => walk.found(found)?,
                None => return Ok::<_, StoreError>(()),
            }
        }
    })?;
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

/// A hard-linked file that was met: its first name, and what its further names repeat.
struct Linked {
    described: Described,
    lists: Vec<(u64, ChunkList)>,
}

struct Walk<'w, 'r, 's, 'k> {
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

    /// Takes what was found next in the order of keys.
    fn found(&mut self, found: Found) -> Result<(), StoreError> {
        match found {
            Found::Lack(path, what) => self.lacks(&path, what),
            Found::Broken(error) => return Err(error),
            Found::Again(path, metadata) => match self.linked.remove(&metadata.inode) {
                Some(linked) => {
                    self.push(&path, &linked.described, &linked.lists)?;
                    self.linked.insert(metadata.inode, linked);
                }
                // under its first name it was not given either
                None => self.lacks(&path, lack::UNREADABLE),
            },
            Found::Lists(_) => unreachable!("they come with the entry"),
            Found::Entry(path, metadata, read) => match read {
                Err(error)
                    if metadata.kind == FileKind::File
                        && error.is_unreadable()
                        && self.unreadable < UNREADABLE_MAX =>
                {
                    self.unreadable += 1;
                    self.lacks(&path, lack::UNREADABLE);
                }
                read => self.entry(&path, &metadata, *read?)?,
            },
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &TreePath,
        metadata: &Metadata,
        Read { described, lists, .. }: Read,
    ) -> Result<(), StoreError> {
        self.push(path, &described, &lists)?;
        let bytes = described.entry.size().unwrap_or(0);
        self.progress.update(|progress| {
            progress.done_files += 1;
            progress.total_bytes = Some(progress.total_bytes.unwrap_or(0) + bytes);
        });
        if described.entry.link.is_some() {
            self.linked.insert(metadata.inode, Linked { described, lists });
        }
        Ok(())
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
