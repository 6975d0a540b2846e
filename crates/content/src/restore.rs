//! Building files out of a tree.
//!
//! Keys come in an order in which parents precede what is in them. Names and
//! content are made as they come, by one thread, while the chunks of what follows
//! are being fetched; metadata of directories comes last, the deepest first.

mod attributes;
mod copy;
mod readable;
mod strip;

pub use copy::{copy_tree, is_captured};
pub use readable::{Unreadable, restore_readable};
pub use strip::strip;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use cove_btrfs::{Dir, PathError};
use cove_types::{Classify, Digest, ErrorKind, ParseError, TreePath};

use crate::chunks::{ChunkError, Chunks};
use crate::tree::{self, Content, Entry, Item, Key, Value, XattrList, Xattrs};
use crate::volumes::Progress;

/// How many items are looked at ahead, so that their chunks are fetched together.
const AHEAD_ITEMS: usize = 512;
/// How many bytes of chunks are asked for ahead.
const AHEAD_BYTES: u64 = 16 << 20;

/// Builds everything that `root` holds below `from` at the place `to` in `dir`, where
/// nothing is yet but perhaps `to` itself as an empty directory.
///
/// Every byte is checked against its digest before it is written. Not durable until the
/// caller flushes. After an error a part is there, for the caller to throw away.
///
/// # Errors
///
/// [`RestoreError`], which names the path.
pub fn restore_tree(
    chunks: &Chunks,
    root: &Digest,
    from: &TreePath,
    dir: &Dir,
    to: &TreePath,
    progress: &Progress,
) -> Result<(), RestoreError> {
    let mut building = Building::new((chunks, dir), (from, to), progress);
    if !from.is_top() {
        for item in tree::range(chunks, root, Key::file_range(from)) {
            building.items(vec![item?])?;
        }
    }
    let mut ahead = Vec::new();
    for item in tree::range(chunks, root, Key::subtree_range(from)) {
        ahead.push(item?);
        if ahead.len() >= AHEAD_ITEMS {
            building.items(std::mem::take(&mut ahead))?;
        }
    }
    building.items(ahead)?;
    building.finish()
}

/// The regular file whose chunk lists are coming.
struct Open {
    path: TreePath,
    target: TreePath,
    file: File,
    entry: Entry,
}

struct Building<'a> {
    chunks: &'a Chunks,
    dir: &'a Dir,
    from: &'a TreePath,
    to: &'a TreePath,
    open: Option<Open>,
    /// Where the first name of a hard-linked file that was met is now.
    firsts: HashMap<TreePath, TreePath>,
    directories: Vec<(TreePath, Entry)>,
    /// What could not be read and is left out; `None` when nothing may be.
    unreadable: Option<Vec<Unreadable>>,
    progress: &'a Progress,
}

impl<'a> Building<'a> {
    fn new(
        (chunks, dir): (&'a Chunks, &'a Dir),
        (from, to): (&'a TreePath, &'a TreePath),
        progress: &'a Progress,
    ) -> Self {
        Self {
            chunks,
            dir,
            from,
            to,
            open: None,
            firsts: HashMap::new(),
            directories: Vec::new(),
            unreadable: None,
            progress,
        }
    }

    fn items(&mut self, items: Vec<Item>) -> Result<(), RestoreError> {
        let mut decoded = Vec::with_capacity(items.len());
        for item in items {
            match item.decode() {
                Ok(item) => decoded.push(item),
                Err(error) => self.leave_out_item(&item, error)?,
            }
        }
        let mut rest = decoded.into_iter().peekable();
        while rest.peek().is_some() {
            let mut batch = Vec::new();
            let mut wanted = Vec::new();
            let mut bytes = 0;
            while let Some((parts, value)) = rest.next_if(|_| bytes < AHEAD_BYTES) {
                match &value {
                    Value::Entry(entry) => {
                        if let Content::File { chunk: Some(digest), size, .. } = &entry.content {
                            wanted.push(*digest);
                            bytes += size;
                        }
                        if let Xattrs::Chunk(digest) = &entry.xattrs {
                            wanted.push(*digest);
                        }
                    }
                    Value::Chunks(list) => {
                        wanted.extend(list.digests().iter().filter(|digest| !digest.is_hole()));
                        bytes += list.data_bytes();
                    }
                }
                batch.push((parts, value));
            }
            self.chunks.fetch(&wanted);
            for (parts, value) in batch {
                let made = match value {
                    Value::Entry(entry) => {
                        self.end_file()?;
                        self.entry(parts.path, entry)
                    }
                    Value::Chunks(list) => self.list(&parts.path, parts.offset.unwrap_or(0), &list),
                };
                made.or_else(|error| self.leave_out(error))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: TreePath, entry: Entry) -> Result<(), RestoreError> {
        let below =
            path.below(self.from).ok_or_else(|| RestoreError::Order { path: path.clone() })?;
        let target = self.to.join_path(&below)?;
        self.make_parents(&target)?;
        self.progress.update(|progress| progress.done_files += 1);
        if let Some(first) = &entry.link {
            if let Some(existing) = self.firsts.get(first) {
                self.dir.hard_link(existing, &target)?;
                return Ok(());
            }
            self.firsts.insert(first.clone(), target.clone());
        }
        match &entry.content {
            Content::Directory => {
                // the target itself may be there, empty
                if self.dir.find(&target)?.is_none() {
                    self.dir.create_dir(&target, 0o700)?;
                }
                self.directories.push((target, entry));
                return Ok(());
            }
            Content::Symlink(link) => self.dir.symlink(&target, link)?,
            Content::Fifo => self.dir.mkfifo(&target, 0o600)?,
            Content::Socket => self.dir.mksocket(&target, 0o600)?,
            Content::File { chunk, .. } => {
                let file = self.dir.create_file(&target, 0o600)?;
                if let Some(digest) = chunk {
                    self.write(&path, &file, 0, digest)?;
                }
                self.open = Some(Open { path, target, file, entry });
                return Ok(());
            }
        }
        self.dress(&target, &entry)
    }

    fn list(
        &mut self,
        path: &TreePath,
        offset: u64,
        list: &tree::ChunkList,
    ) -> Result<(), RestoreError> {
        let Some(open) = self.open.take() else {
            // a further name of a hard-linked file, whose content its first name brought
            return Ok(());
        };
        if open.path != *path {
            return Err(RestoreError::Order { path: path.clone() });
        }
        for (at, _, digest) in list.chunks().filter(|(_, _, digest)| !digest.is_hole()) {
            self.write(path, &open.file, offset + at, &digest)?;
        }
        self.open = Some(open);
        Ok(())
    }

    fn write(
        &self,
        path: &TreePath,
        file: &File,
        offset: u64,
        digest: &Digest,
    ) -> Result<(), RestoreError> {
        let bytes = self.chunks.chunk(digest).map_err(|source| RestoreError::Chunk {
            path: path.clone(),
            source: Box::new(source),
        })?;
        file.write_all_at(&bytes, offset)
            .map_err(|source| RestoreError::Write { path: path.clone(), source })?;
        self.progress.update(|progress| progress.done_bytes += bytes.len() as u64);
        Ok(())
    }

    /// Ends the file under way: its exact length, then its metadata.
    fn close(&mut self) -> Result<(), RestoreError> {
        let Some(Open { path, target, file, entry }) = self.open.take() else { return Ok(()) };
        let size = entry.size().unwrap_or(0);
        file.set_len(size).map_err(|source| RestoreError::Write { path, source })?;
        drop(file);
        self.dress(&target, &entry)
    }

    /// Owner, then mode, attributes and, last, the time.
    fn dress(&self, target: &TreePath, entry: &Entry) -> Result<(), RestoreError> {
        self.dir.set_owner(target, entry.uid, entry.gid)?;
        if !matches!(entry.content, Content::Symlink(_)) {
            self.dir.set_mode(target, u32::from(entry.mode))?;
            let stored;
            let list = match &entry.xattrs {
                Xattrs::Inline(list) => list,
                Xattrs::Chunk(digest) => {
                    let bytes = self.chunks.chunk(digest).map_err(|source| {
                        RestoreError::Chunk { path: target.clone(), source: Box::new(source) }
                    })?;
                    stored = XattrList::decode(&bytes)?;
                    &stored
                }
            };
            for (name, value) in list.iter() {
                self.dir.set_xattr(target, name, value)?;
            }
        }
        self.dir.set_times(target, entry.mtime)?;
        Ok(())
    }

    /// Ends the file under way, or leaves it out.
    fn end_file(&mut self) -> Result<(), RestoreError> {
        self.close().or_else(|error| self.leave_out(error))
    }

    fn finish(&mut self) -> Result<(), RestoreError> {
        self.end_file()?;
        for (target, entry) in std::mem::take(&mut self.directories).into_iter().rev() {
            self.dress(&target, &entry).or_else(|error| self.leave_out(error))?;
        }
        Ok(())
    }
}

/// Why files were not built.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum RestoreError {
    /// The tree could not be read.
    #[error("failed to read the tree")]
    Tree(#[from] tree::ReadError),
    /// An item of the tree is not of its form.
    #[error("the tree is damaged")]
    Form(#[from] ParseError),
    /// A chunk list without its file.
    #[error("the tree is damaged at {path}")]
    Order { path: TreePath },
    /// The content of a file could not be read or is damaged.
    #[error("failed to read the content of {path}")]
    Chunk { path: TreePath, source: Box<ChunkError> },
    /// The disk did not take it.
    #[error("failed to write {path}")]
    Write { path: TreePath, source: std::io::Error },
    /// The disk did not take a name or its metadata.
    #[error("failed to make a file")]
    Make(#[from] PathError),
}

impl Classify for RestoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Tree(source) => source.kind(),
            Self::Form(_) | Self::Order { .. } => ErrorKind::Corrupt,
            Self::Chunk { source, .. } => source.kind(),
            Self::Write { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    ErrorKind::Exhausted
                }
                _ => ErrorKind::Unavailable,
            },
            Self::Make(source) => source.kind(),
        }
    }
}
