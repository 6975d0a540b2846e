//! Reading ahead: some threads read files while one puts together what they found, in order.
//!
//! One thread says what is to be read and cuts it into portions; several read the files of a
//! portion; whoever asks for [`Ahead::next`] gets what they found in the order in which it was
//! said, so that what is stored is the same as if one thread had done all of it.
//!
//! **Invariant:** what was read and not yet taken has at most [`AHEAD_BYTES_MAX`] bytes, and one
//! portion a thread, at any size of files, of their attributes and of directories.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::thread::Scope;

use cove_btrfs::{Dir, FileKind, Metadata};
use cove_types::{Digest, TreePath};

use super::entry::{ChunkSink, Described, describe, grid_of, next_data, read_entry, read_groups};
use super::{StoreError, lack};
use crate::chunk::GRID_BYTES;
use crate::frame;
use crate::in_order::{Ended, Feed, InOrder};
use crate::session::{Session, SessionError};
use crate::tree::{ChunkList, Content, Grid};

/// How many threads read. On a cold cache they wait for the disk and not for a core.
const READERS: usize = 8;
/// What may have been read and not been taken, in bytes.
const AHEAD_BYTES_MAX: u64 = 48 << 20;
/// A portion is not made longer than this.
const PORTION_BYTES: u64 = 512 << 10;
/// Nor does it have more entries.
const PORTION_ENTRIES: usize = 128;
/// What an entry counts for beside its content.
const ENTRY_BYTES: u64 = 1 << 10;
/// What a long file counts for, which is open until all of it was read: processes may have 1,024 files.
const OPEN_BYTES: u64 = 512 << 10;
/// A longer file is read in parts of one chunk list each.
const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// What is to be looked at, in the order of the walk.
enum Task {
    /// An entry, with the content of a file that is not long.
    Entry(TreePath, Metadata),
    /// A further name of an inode that was met before.
    Again(TreePath, Metadata),
    /// The chunk lists that begin in `bytes` of a long file.
    Lists { file: Arc<File>, path: TreePath, size: u64, grid: Grid, bytes: Range<u64> },
    /// A long file after all of its lists.
    Long(Arc<File>, TreePath, Metadata, Grid),
    /// What the walk itself met.
    Met(Box<Found>),
}

/// What was found.
pub(crate) enum Found {
    /// An entry, or why it was not read.
    Entry(TreePath, Metadata, Result<Box<Read>, StoreError>),
    /// A further name of an inode that was met before.
    Again(TreePath, Metadata),
    /// What of the entry at a path is not captured.
    Lack(TreePath, &'static str),
    /// The walk cannot go on.
    Broken(StoreError),
    /// Some lists of the long file whose entry follows.
    Lists(Result<Box<Lists>, StoreError>),
}

/// What was read of an entry, and is in the session.
pub(crate) struct Read {
    pub(crate) described: Described,
    pub(crate) lists: Vec<(u64, ChunkList)>,
    puts: Puts,
}

/// What was read of a part of a long file.
pub(crate) struct Lists {
    lists: Vec<(u64, ChunkList)>,
    puts: Puts,
}

/// What came of a long file whose entry has not come yet.
#[derive(Default)]
struct LongFile {
    lists: Vec<(u64, ChunkList)>,
    failed: Option<StoreError>,
}

/// Chunks in the order in which they were read.
#[derive(Default)]
struct Puts(RefCell<Vec<Put>>);

enum Put {
    Data(Digest, Vec<u8>),
    Frame(Digest, Vec<u8>),
    Meta(Digest, Vec<u8>),
}

impl Puts {
    /// Puts them all into the session.
    fn into(self, session: &mut Session<'_>) -> Result<(), SessionError> {
        self.0.into_inner().into_iter().try_for_each(|put| match put {
            Put::Data(digest, plain) => session.put_data(digest, &plain),
            Put::Frame(digest, frame) => session.put_frame(digest, frame),
            Put::Meta(digest, plain) => session.put_meta(digest, &plain),
        })
    }
}

/// What was read of attributes, whose length nobody knows before, in bytes.
fn attribute_bytes(found: &Found) -> u64 {
    let Found::Entry(_, _, Ok(read)) = found else { return 0 };
    let puts = read.puts.0.borrow();
    let metas = puts.iter().filter_map(|put| match put {
        Put::Meta(_, plain) => Some(plain.len() as u64),
        Put::Data(..) | Put::Frame(..) => None,
    });
    metas.sum()
}

impl ChunkSink for Puts {
    fn put_data(&self, digest: Digest, plain: &[u8]) -> Result<(), SessionError> {
        // what gets a frame of its own anyway is compressed by whoever reads it
        let put = match plain.len() == GRID_BYTES as usize {
            true => Put::Frame(digest, frame::compress(plain)),
            false => Put::Data(digest, plain.to_vec()),
        };
        self.0.borrow_mut().push(put);
        Ok(())
    }

    fn put_frame(&self, digest: Digest, frame: Vec<u8>) -> Result<(), SessionError> {
        self.0.borrow_mut().push(Put::Frame(digest, frame));
        Ok(())
    }

    fn put_meta(&self, digest: Digest, plain: Vec<u8>) -> Result<(), SessionError> {
        self.0.borrow_mut().push(Put::Meta(digest, plain));
        Ok(())
    }
}

/// What is read ahead of its taker. When it goes, the threads end.
pub(crate) struct Ahead {
    portions: InOrder<Vec<Found>>,
    found: std::vec::IntoIter<Found>,
    long: LongFile,
}

impl Ahead {
    /// Begins to read all that is below `dir`, in the order of keys, by threads of `scope`.
    pub(crate) fn walk<'scope>(scope: &'scope Scope<'scope, '_>, dir: &'scope Dir) -> Self {
        Self::begin(scope, dir, |mut reading| {
            if reading.directory(&TreePath::top()).is_ok() {
                let _ = reading.send();
            }
        })
    }

    /// Begins to read these files of `dir` and no others, in this order.
    pub(crate) fn files<'scope>(
        scope: &'scope Scope<'scope, '_>,
        dir: &'scope Dir,
        files: Vec<(TreePath, Metadata)>,
    ) -> Self {
        Self::begin(scope, dir, |mut reading| {
            let mut files = files.into_iter();
            if files.try_for_each(|(path, metadata)| reading.entry(path, metadata)).is_ok() {
                let _ = reading.send();
            }
        })
    }

    fn begin<'scope>(
        scope: &'scope Scope<'scope, '_>,
        dir: &'scope Dir,
        say: impl FnOnce(Reading<'scope>) + Send + 'scope,
    ) -> Self {
        let begin = move |feed| {
            say(Reading { dir, feed, portion: Vec::new(), bytes: 0, linked: HashSet::new() });
        };
        let read_all =
            move |tasks: Vec<Task>| tasks.into_iter().map(|task| read(dir, task)).collect();
        let portions = InOrder::begin(scope, READERS, AHEAD_BYTES_MAX, begin, read_all, |found| {
            found.iter().map(attribute_bytes).sum()
        });
        Self { portions, found: Vec::new().into_iter(), long: LongFile::default() }
    }

    /// What was found next, whose chunks are in the session; `None` at the end. Waits for it.
    ///
    /// # Errors
    ///
    /// The session did not take a chunk.
    pub(crate) fn next(
        &mut self,
        session: &mut Session<'_>,
    ) -> Result<Option<Found>, SessionError> {
        loop {
            match self.found.next() {
                Some(Found::Lists(Ok(read))) => {
                    read.puts.into(session)?;
                    self.long.lists.extend(read.lists);
                }
                Some(Found::Lists(Err(error))) => {
                    self.long.failed = self.long.failed.take().or(Some(error));
                }
                Some(Found::Entry(path, metadata, read)) => {
                    let long = std::mem::take(&mut self.long);
                    let mut read = long.failed.map_or(read, Err);
                    if let Ok(read) = &mut read {
                        read.lists.splice(0..0, long.lists);
                        std::mem::take(&mut read.puts).into(session)?;
                    }
                    return Ok(Some(Found::Entry(path, metadata, read)));
                }
                Some(found) => return Ok(Some(found)),
                None => match self.portions.next() {
                    Some(found) => self.found = found.into_iter(),
                    None => return Ok(None),
                },
            }
        }
    }
}

fn read(dir: &Dir, task: Task) -> Found {
    let puts = Puts::default();
    match task {
        Task::Met(found) => *found,
        Task::Again(path, metadata) => Found::Again(path, metadata),
        Task::Entry(path, metadata) => {
            let read = read_entry(dir, &path, &metadata, &puts);
            let read = read.map(|(described, lists)| Box::new(Read { described, lists, puts }));
            Found::Entry(path, metadata, read)
        }
        Task::Lists { file, path, size, grid, bytes } => {
            let lists = read_groups(&file, &path, (size, grid), bytes, &puts);
            Found::Lists(lists.map(|lists| Box::new(Lists { lists, puts })))
        }
        Task::Long(file, path, metadata, grid) => {
            let content = Content::File { size: metadata.size, grid, chunk: None };
            let described = describe(dir, &path, &metadata, content, Some(&file), &puts);
            let read = described.map(|mut described| {
                if metadata.links > 1 {
                    described.entry.link = Some(path.clone());
                }
                Box::new(Read { described, lists: Vec::new(), puts })
            });
            Found::Entry(path, metadata, read)
        }
    }
}

/// What is said to be read, on its way to the readers.
struct Reading<'w> {
    dir: &'w Dir,
    feed: Feed<Vec<Task>, Vec<Found>>,
    portion: Vec<Task>,
    bytes: u64,
    /// Inodes of several names that were met.
    linked: HashSet<u64>,
}

impl Reading<'_> {
    /// Hands over what has come together.
    fn send(&mut self) -> Result<(), Ended> {
        let (portion, bytes) = (std::mem::take(&mut self.portion), std::mem::take(&mut self.bytes));
        if portion.is_empty() { Ok(()) } else { self.feed.send(portion, bytes) }
    }

    fn add(&mut self, task: Task, bytes: u64) -> Result<(), Ended> {
        let is_full = self.portion.len() >= PORTION_ENTRIES;
        if is_full || self.bytes + bytes > PORTION_BYTES {
            self.send()?;
        }
        self.portion.push(task);
        self.bytes += bytes + ENTRY_BYTES;
        Ok(())
    }

    fn met(&mut self, found: Found) -> Result<(), Ended> {
        self.add(Task::Met(Box::new(found)), 0)
    }

    fn directory(&mut self, path: &TreePath) -> Result<(), Ended> {
        let children = match self.dir.list(path) {
            Ok(children) => children,
            Err(error) => {
                self.met(Found::Broken(error.into()))?;
                self.send()?;
                return Err(Ended);
            }
        };
        let mut below = Vec::new();
        for (name, metadata) in children {
            let Ok(child) = path.join(&name) else {
                self.met(Found::Lack(path.clone(), lack::LONG))?;
                continue;
            };
            let is_directory = metadata.kind == FileKind::Directory;
            if metadata.kind == FileKind::Device {
                self.met(Found::Lack(child, lack::DEVICE))?;
            } else if metadata.stands_for_subvolume() {
                self.met(Found::Lack(child, lack::NESTED))?;
            } else {
                if is_directory {
                    below.push(child.clone());
                }
                self.entry(child, metadata)?;
            }
        }
        below.iter().try_for_each(|child| self.directory(child))
    }

    fn entry(&mut self, path: TreePath, metadata: Metadata) -> Result<(), Ended> {
        let has_names = metadata.links > 1 && metadata.kind != FileKind::Directory;
        if has_names && !self.linked.insert(metadata.inode) {
            return self.add(Task::Again(path, metadata), 0);
        }
        if metadata.kind != FileKind::File {
            return self.add(Task::Entry(path, metadata), 0);
        }
        let size = metadata.size;
        if size <= WHOLE_BYTES_MAX {
            return self.add(Task::Entry(path, metadata), size);
        }
        match self.long(&path, &metadata) {
            Ok(sent) => sent,
            Err(error) => self.met(Found::Entry(path, metadata, Err(error))),
        }
    }

    /// The lists of a long file, each a portion, and its entry after them; holes are stepped over.
    fn long(
        &mut self,
        path: &TreePath,
        metadata: &Metadata,
    ) -> Result<Result<(), Ended>, StoreError> {
        let size = metadata.size;
        let file = Arc::new(self.dir.open_file(path)?);
        let grid = grid_of(&file, path, size)?;
        let mut offset = 0;
        let failed = |source| StoreError::Read { path: path.clone(), source };
        while let Some(data) = next_data(&file, offset, size).map_err(failed)? {
            let from = data - data % grid.group_bytes();
            offset = from.saturating_add(grid.group_bytes()).min(size);
            let (file, path, bytes) = (Arc::clone(&file), path.clone(), from..offset);
            let weight = bytes.end - bytes.start;
            let task = Task::Lists { file, path, size, grid, bytes };
            if self.add(task, weight).is_err() {
                return Ok(Err(Ended));
            }
        }
        Ok(self.add(Task::Long(file, path.clone(), metadata.clone(), grid), OPEN_BYTES))
    }
}
