//! Building files out of a tree.
//!
//! Keys come in an order in which parents precede what is in them. Names and
//! content are made as they come, by one thread, while others fetch and check what follows
//! (`ahead`); metadata of directories comes last, the deepest first.

mod ahead;
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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cove_btrfs::{Dir, PathError, dress, write_encoded};
use cove_types::{Classify, Digest, ErrorKind, ParseError, TreePath};

use self::ahead::{Piece, Ready, Step, Steps};
use crate::DecodeError;
use crate::chunks::{Checked, ChunkError, Chunks};
use crate::in_order::Ended;
use crate::tree::{self, Content, Entry, Key, Value, XattrList, Xattrs};
use crate::volumes::Progress;

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
    let mut building = Building::new(dir, (from, to), progress);
    let ranges = [Key::file_range(from), Key::subtree_range(from)];
    let ranges = if from.is_top() { &ranges[1..] } else { &ranges[..] };
    building.build(chunks, |steps| {
        for range in ranges {
            for item in tree::range(chunks, root, range.clone()) {
                match item {
                    Ok(item) => steps.say(Step::Item(item))?,
                    Err(error) => return steps.say(Step::Broken(error.into())),
                }
            }
        }
        Ok(())
    })?;
    building.finish(chunks)
}

/// Attributes over 1 KiB are read of so many directories together, at most 128 KiB of each.
const DIRECTORIES_AT_ONCE: usize = 128;

/// The regular file whose chunk lists are coming.
struct Open {
    path: TreePath,
    file: File,
    entry: Entry,
    xattrs: XattrList,
    /// Where what was written ends.
    end: u64,
}

struct Building<'a> {
    dir: &'a Dir,
    from: &'a TreePath,
    to: &'a TreePath,
    open: Option<Open>,
    /// The directory in which the last file was made.
    parent: Option<(TreePath, Dir)>,
    /// Whether the disk takes frames as they are, as far as that is known.
    takes_frames: Arc<AtomicBool>,
    /// Where the first name of a hard-linked file that was met is now.
    firsts: HashMap<TreePath, TreePath>,
    /// Where the directories are now, the path of each in the tree, and its metadata.
    directories: Vec<(TreePath, TreePath, Entry)>,
    /// What could not be read and is left out; `None` when nothing may be.
    unreadable: Option<Vec<Unreadable>>,
    progress: &'a Progress,
}

impl<'a> Building<'a> {
    fn new(dir: &'a Dir, (from, to): (&'a TreePath, &'a TreePath), progress: &'a Progress) -> Self {
        Self {
            dir,
            from,
            to,
            open: None,
            parent: None,
            takes_frames: Arc::new(AtomicBool::new(dir.is_on_btrfs())),
            firsts: HashMap::new(),
            directories: Vec::new(),
            unreadable: None,
            progress,
        }
    }

    /// Makes all that `walk` says.
    fn build(
        &mut self,
        chunks: &Chunks,
        walk: impl FnOnce(&mut Steps) -> Result<(), Ended> + Send,
    ) -> Result<(), RestoreError> {
        let takes_frames = Arc::clone(&self.takes_frames);
        std::thread::scope(|scope| {
            let salvages = self.unreadable.is_some();
            let mut ahead = ahead::begin(scope, chunks, &takes_frames, salvages, walk);
            while let Some(portion) = ahead.next() {
                portion.into_iter().try_for_each(|ready| self.ready(ready))?;
            }
            Ok(())
        })
    }

    fn ready(&mut self, ready: Ready) -> Result<(), RestoreError> {
        match ready {
            Ready::Broken(error) => Err(error),
            Ready::Gap(gap) => self.pass(&gap),
            Ready::Formless(item, error) => self.leave_out_item(&item, error),
            Ready::Item(parts, Value::Entry(entry), pieces) => {
                self.end_file()?;
                self.entry(parts.path, entry, pieces).or_else(|error| self.leave_out(error))
            }
            Ready::Item(parts, Value::Chunks(list), pieces) => self
                .list(&parts.path, parts.offset.unwrap_or(0), &list, pieces)
                .or_else(|error| self.leave_out(error)),
        }
    }

    fn entry(
        &mut self,
        path: TreePath,
        entry: Entry,
        pieces: Vec<Piece>,
    ) -> Result<(), RestoreError> {
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
        let mut pieces = pieces.into_iter();
        let mut next = || pieces.next().ok_or_else(|| RestoreError::Order { path: path.clone() });
        match &entry.content {
            Content::Directory => {
                // the target itself may be there, empty
                if self.dir.find(&target)?.is_none() {
                    self.dir.create_dir(&target, 0o700)?;
                }
                self.directories.push((target, path, entry));
                return Ok(());
            }
            Content::Symlink(link) => self.dir.symlink(&target, link)?,
            Content::Fifo => self.dir.mkfifo(&target, 0o600)?,
            Content::Socket => self.dir.mksocket(&target, 0o600)?,
            Content::File { chunk, .. } => {
                let file = self.create(&target)?;
                let mut end = 0;
                if chunk.is_some() {
                    end = self.write(&path, &file, 0, next()?)?;
                }
                let xattrs = xattrs_of(&path, &entry, next)?;
                self.open = Some(Open { path, file, entry, xattrs, end });
                return Ok(());
            }
        }
        let xattrs = xattrs_of(&path, &entry, next)?;
        self.dress(&target, &entry, &xattrs)
    }

    /// Makes an empty file; those of one directory come one after another.
    fn create(&mut self, target: &TreePath) -> Result<File, RestoreError> {
        let parent = target.parent().unwrap_or_default();
        let dir = match self.parent.take().filter(|(open, _)| *open == parent) {
            Some((_, dir)) => dir,
            None => self.dir.open_dir(&parent)?,
        };
        let file = dir.create_child_file(target, 0o600);
        self.parent = Some((parent, dir));
        Ok(file?)
    }

    fn list(
        &mut self,
        path: &TreePath,
        offset: u64,
        list: &tree::ChunkList,
        pieces: Vec<Piece>,
    ) -> Result<(), RestoreError> {
        let Some(mut open) = self.open.take() else {
            // a further name of a hard-linked file, whose content its first name brought
            return Ok(());
        };
        if open.path != *path {
            return Err(RestoreError::Order { path: path.clone() });
        }
        let places = list.chunks().filter(|(_, _, digest)| !digest.is_hole());
        for ((at, _, _), piece) in places.zip(pieces) {
            open.end = self.write(path, &open.file, offset + at, piece)?;
        }
        self.open = Some(open);
        Ok(())
    }

    /// Writes a chunk at `offset`; gives where it ends.
    fn write(
        &self,
        path: &TreePath,
        file: &File,
        offset: u64,
        piece: Piece,
    ) -> Result<u64, RestoreError> {
        let lost = |source| RestoreError::Chunk { path: path.clone(), source: Box::new(source) };
        let failed = |source| RestoreError::Write { path: path.clone(), source };
        let checked = piece.map_err(lost)?;
        if let Checked::Frame { frame, bytes } = &checked
            && self.takes_frames.load(Ordering::Relaxed)
        {
            let taken = write_encoded(file, offset, frame, *bytes as usize).is_ok();
            if taken {
                return Ok(self.wrote(offset, u64::from(*bytes)));
            }
            self.takes_frames.store(false, Ordering::Relaxed);
        }
        let plain = checked.plain()?;
        file.write_all_at(&plain, offset).map_err(failed)?;
        Ok(self.wrote(offset, plain.len() as u64))
    }

    /// Counts what was written at `offset`; gives where it ends.
    fn wrote(&self, offset: u64, bytes: u64) -> u64 {
        self.progress.update(|progress| progress.done_bytes += bytes);
        offset + bytes
    }

    /// Ends the file under way: its exact length, then its metadata.
    fn close(&mut self) -> Result<(), RestoreError> {
        let Some(Open { path, file, entry, xattrs, end }) = self.open.take() else {
            return Ok(());
        };
        let failed = |source| RestoreError::Write { path: path.clone(), source };
        let size = entry.size().unwrap_or(0);
        if end != size {
            file.set_len(size).map_err(failed)?;
        }
        let (owner, mode) = ((entry.uid, entry.gid), u32::from(entry.mode));
        dress(&file, owner, mode, xattrs.iter(), entry.mtime).map_err(failed)
    }

    /// Owner, then mode, attributes and, last, the time.
    fn dress(
        &self,
        target: &TreePath,
        entry: &Entry,
        xattrs: &XattrList,
    ) -> Result<(), RestoreError> {
        self.dir.set_owner(target, entry.uid, entry.gid)?;
        if !matches!(entry.content, Content::Symlink(_)) {
            self.dir.set_mode(target, u32::from(entry.mode))?;
            for (name, value) in xattrs.iter() {
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

    /// Ends the last file, and gives the directories their metadata, the deepest first.
    fn finish(&mut self, chunks: &Chunks) -> Result<(), RestoreError> {
        self.end_file()?;
        let mut directories = std::mem::take(&mut self.directories);
        directories.reverse();
        for some in directories.chunks(DIRECTORIES_AT_ONCE) {
            let wanted: Vec<Digest> =
                some.iter().filter_map(|(_, _, entry)| entry.xattrs.chunk()).collect();
            let mut pieces = chunks.checked(&wanted).into_iter();
            for (target, path, entry) in some {
                let next =
                    || pieces.next().ok_or_else(|| RestoreError::Order { path: path.clone() });
                // one whose attributes are lost stays, without them
                let xattrs = match xattrs_of(path, entry, next) {
                    Ok(xattrs) => xattrs,
                    Err(error) => self.leave_out(error).map(|()| XattrList::default())?,
                };
                self.dress(target, entry, &xattrs)?;
            }
        }
        Ok(())
    }
}

/// The extended attributes of an entry; `next` gives the chunk in which they may be.
fn xattrs_of(
    path: &TreePath,
    entry: &Entry,
    next: impl FnOnce() -> Result<Piece, RestoreError>,
) -> Result<XattrList, RestoreError> {
    match &entry.xattrs {
        Xattrs::Inline(list) => Ok(list.clone()),
        Xattrs::Chunk(_) => {
            let lost =
                |source| RestoreError::Chunk { path: path.clone(), source: Box::new(source) };
            let bytes = next()?.map_err(lost)?.plain()?;
            Ok(XattrList::decode(&bytes)?)
        }
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
    /// What was checked could not be decompressed again.
    #[error("failed to decompress what was checked")]
    Frame(#[from] DecodeError),
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
            Self::Frame(_) => ErrorKind::Internal,
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
