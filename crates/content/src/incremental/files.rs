//! What becomes of files, links and markers that were touched.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Range;

use cove_btrfs::{Content as Reread, FileKind, Metadata};
use cove_types::{Digest, TreePath};

use super::{Change, IncrementalError, full, is_of_service};
use crate::chunk::GRID_BYTES;
use crate::store::{
    Ahead, Found, Read, StoreError, describe, grid_of, read_chunk, read_entry, read_groups,
};
use crate::tree::{self, ChunkList, Content, Entry, GROUP_CHUNKS, Grid, Item, Key, ReadError};

/// So many new files are worth the threads that read them.
const AHEAD_FROM: usize = 16;

/// An inode, not a directory's, that is described again under all its names.
pub(super) struct Plan {
    /// One of its names.
    pub(super) name: TreePath,
    pub(super) metadata: Metadata,
    /// Where it was; `None` when all of it is read.
    pub(super) origin: Option<TreePath>,
    pub(super) reread: Reread,
}

/// A file's content, told by what differs from its origin's.
struct Patch {
    content: Content,
    /// Whether nothing is kept.
    is_whole: bool,
    /// Chunk lists that are no more, by the offsets of their groups.
    cleared: Vec<Range<u64>>,
    /// Chunk lists that are new or other.
    lists: Vec<(u64, ChunkList)>,
}

impl Patch {
    fn whole(content: Content, lists: Vec<(u64, ChunkList)>) -> Self {
        Self { content, is_whole: true, cleared: Vec::new(), lists }
    }
}

impl Change<'_, '_, '_, '_> {
    /// Describes what is planned again; several threads read what is new.
    pub(super) fn files(&mut self) -> Result<(), IncrementalError> {
        let plans = std::mem::take(&mut self.plans);
        let new = plans.values().filter(|plan| plan.is_new());
        let new: Vec<_> = new.map(|plan| (plan.name.clone(), plan.metadata.clone())).collect();
        if new.len() < AHEAD_FROM {
            return plans.iter().try_for_each(|(inode, plan)| self.file(*inode, plan, None));
        }
        let (dir, session) = (self.dir, self.session);
        std::thread::scope(|scope| {
            let mut ahead = Ahead::files(scope, dir, new);
            for (inode, plan) in &plans {
                let mut read = None;
                if plan.is_new() {
                    let next = ahead.next(*session.borrow_mut()).map_err(StoreError::from)?;
                    let Some(Found::Entry(_, _, next)) = next else {
                        return full(format!("{} was not read", plan.name));
                    };
                    read = Some(*next?);
                }
                self.file(*inode, plan, read)?;
            }
            Ok(())
        })
    }

    /// Describes a file, link or marker again, under all its names; `read` is all of it, if it
    /// was read.
    fn file(
        &mut self,
        inode: u64,
        plan: &Plan,
        read: Option<Read>,
    ) -> Result<(), IncrementalError> {
        let names = self.names_of(inode, plan)?;
        let [first, ..] = names.as_slice() else {
            return full(format!("{} has no name", plan.name));
        };
        let old = match &plan.origin {
            None => None,
            Some(origin) => match self.old_entry(origin.as_bytes())? {
                Some(entry) => Some((origin, entry)),
                None => return full(format!("{origin}, of which {first} is made, was not stored")),
            },
        };
        let patch = match &old {
            None => None,
            Some((origin, entry)) => self.patch((origin, entry), first, plan)?,
        };
        let (mut described, patch) = match patch {
            Some(patch) => {
                let content = patch.content.clone();
                let described =
                    describe(self.dir, first, &plan.metadata, content, None, self.session)?;
                (described, patch)
            }
            None => {
                let (described, lists) = match read {
                    Some(Read { described, lists, .. }) => (described, lists),
                    None => read_entry(self.dir, first, &plan.metadata, self.session)?,
                };
                let content = described.entry.content.clone();
                (described, Patch::whole(content, lists))
            }
        };
        described.entry.link = (plan.metadata.links > 1).then(|| first.clone());
        let bytes = described.entry.size().unwrap_or(0);
        self.progress.update(|progress| {
            progress.done_files += 1;
            progress.total_bytes = Some(progress.total_bytes.unwrap_or(0) + bytes);
        });
        let old = old.as_ref().map(|(path, entry)| (*path, entry));
        for name in &names {
            self.name(name, &described.entry, &patch, old)?;
            self.lists(name, &described.lacks);
        }
        Ok(())
    }

    /// The names under which an inode is captured, in the order of keys.
    fn names_of(&self, inode: u64, plan: &Plan) -> Result<Vec<TreePath>, IncrementalError> {
        if plan.metadata.links <= 1 {
            return Ok(vec![plan.name.clone()]);
        }
        let all = (self.names_of_inode)(inode).map_err(IncrementalError::Names)?;
        let mut names: Vec<TreePath> =
            all.iter().filter_map(|name| TreePath::from_bytes(name).ok()).collect();
        if all.len() as u64 != plan.metadata.links || !names.contains(&plan.name) {
            return full(format!("not all names of {} are known", plan.name));
        }
        names.sort_by_cached_key(Key::entry);
        Ok(names)
    }

    /// Puts an entry and its chunk lists under one of its names.
    fn name(
        &mut self,
        name: &TreePath,
        entry: &Entry,
        patch: &Patch,
        old: Option<(&TreePath, &Entry)>,
    ) -> Result<(), IncrementalError> {
        let is_there = match (self.holder(name)?, old) {
            (None, _) => false,
            (Some((at, there)), Some((origin, before)))
                if at == *origin || (there.link.is_some() && there.link == before.link) =>
            {
                true
            }
            // All of it is read, and what was there is the same inode's by its kind alone.
            (Some((_, there)), None) if there.content.number() == entry.content.number() => true,
            (Some(_), _) => return full(format!("{name} is not the file that was stored")),
        };
        if patch.is_whole || !is_there {
            self.edits.delete_range(Key::file_range(name));
        }
        if let Some((origin, _)) = old.filter(|_| !patch.is_whole && !is_there) {
            let lists = Key::chunks(origin, 0)..Key::file_range(origin).end;
            for item in tree::range(&self.nodes, &self.root, lists) {
                let item = item?;
                let parts = item.key.parse()?;
                if let Some(offset) = parts.offset {
                    let key = Key::chunks(name, offset);
                    self.edits.put(Item { key, value: item.value });
                }
            }
        }
        for cleared in &patch.cleared {
            let end = match cleared.end {
                u64::MAX => Key::file_range(name).end,
                end => Key::chunks(name, end),
            };
            self.edits.delete_range(Key::chunks(name, cleared.start)..end);
        }
        for (offset, list) in &patch.lists {
            self.edits.put(Item { key: Key::chunks(name, *offset), value: list.encode() });
        }
        self.put(name, entry)
    }

    /// How the content at `path` differs from that of its origin; `None` when all of it is to be
    /// read.
    fn patch(
        &self,
        (origin, old): (&TreePath, &Entry),
        path: &TreePath,
        plan: &Plan,
    ) -> Result<Option<Patch>, IncrementalError> {
        let Content::File { size: old_size, grid: old_grid, .. } = old.content else {
            let kind = match &old.content {
                Content::Directory => FileKind::Directory,
                Content::Symlink(_) => FileKind::Symlink,
                Content::Fifo => FileKind::Fifo,
                _ => FileKind::Socket,
            };
            return match kind == plan.metadata.kind {
                true => Ok(None),
                false => full(format!("{path} is of another kind than {origin} was")),
            };
        };
        if plan.metadata.kind != FileKind::File {
            return full(format!("{path} is no file, as {origin} was"));
        }
        let size = plan.metadata.size;
        let ranges = match &plan.reread {
            Reread::Same => [].as_slice(),
            Reread::Ranges(ranges) => ranges,
            Reread::Whole => return Ok(None),
        };
        // Of a hard-linked file the first name decides on the grid, now as then.
        let first = old.link.as_ref().unwrap_or(origin);
        if ranges.is_empty() && size == old_size && is_of_service(path) == is_of_service(first) {
            let content = old.content.clone();
            return Ok(Some(Patch {
                content,
                is_whole: false,
                cleared: Vec::new(),
                lists: Vec::new(),
            }));
        }
        let file = self.dir.open_file(path)?;
        let grid = grid_of(&file, path, size)?;
        if grid != old_grid {
            return Ok(None);
        }
        let dirty = dirty_chunks(grid, ranges, old_size, size);
        let patching = Patching { change: self, file: &file, path, origin, old, size, grid };
        patching.patch(&dirty, old_size).map(Some)
    }
}

impl Plan {
    /// Whether it is a file of one name of which all is read.
    fn is_new(&self) -> bool {
        let is_file = self.metadata.kind == FileKind::File;
        is_file && self.metadata.links <= 1 && self.origin.is_none()
    }

    /// Adds what is said of the same inode under another name.
    pub(super) fn join(&mut self, other: Self) {
        match (&mut self.reread, other.reread) {
            (Reread::Whole, _) | (_, Reread::Same) => {}
            (Reread::Ranges(ranges), Reread::Ranges(more)) => ranges.extend(more),
            (mine, Reread::Whole) => {
                *mine = Reread::Whole;
                self.origin = None;
            }
            (mine, other) => *mine = other,
        }
    }
}

/// The chunks of a file of `size` bytes that may not be those of its origin, as numbers, in order
/// and apart.
pub(super) fn dirty_chunks(
    grid: Grid,
    ranges: &[Range<u64>],
    old_size: u64,
    size: u64,
) -> Vec<Range<u64>> {
    let chunks = grid.chunks(size);
    let mut dirty: Vec<Range<u64>> = ranges
        .iter()
        .map(|range| range.start..range.end.min(size))
        .filter(|range| range.start < range.end)
        .map(|range| range.start / grid.bytes()..range.end.div_ceil(grid.bytes()))
        .collect();
    if size > old_size {
        dirty.push(old_size / grid.bytes()..chunks);
    }
    if size < old_size && !size.is_multiple_of(grid.bytes()) {
        dirty.push(chunks - 1..chunks);
    }
    dirty.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(dirty.len());
    for range in dirty {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Tells of numbers that come in ascending order whether they are in one of `ranges`, which are in
/// order and apart: all of them cost one walk over the ranges.
pub(super) fn within(ranges: &[Range<u64>]) -> impl FnMut(u64) -> bool {
    let mut left = ranges;
    move |number| {
        while let [first, rest @ ..] = left
            && first.end <= number
        {
            left = rest;
        }
        left.first().is_some_and(|range| range.contains(&number))
    }
}

/// A file of which some chunks are read again.
struct Patching<'p, 'c, 'r, 's, 'k> {
    change: &'p Change<'c, 'r, 's, 'k>,
    file: &'p File,
    path: &'p TreePath,
    origin: &'p TreePath,
    old: &'p Entry,
    size: u64,
    grid: Grid,
}

impl Patching<'_, '_, '_, '_, '_> {
    fn patch(&self, dirty: &[Range<u64>], old_size: u64) -> Result<Patch, IncrementalError> {
        let (size, grid) = (self.size, self.grid);
        if size <= grid.bytes() {
            let digest = match (size, dirty) {
                (0, _) => Digest::HOLE,
                (_, []) => self.old_group(0)?.first().copied().unwrap_or(Digest::HOLE),
                _ => self.chunk(0, &mut vec![0; GRID_BYTES as usize])?,
            };
            let chunk = Some(digest).filter(|digest| !digest.is_hole());
            return Ok(Patch::whole(Content::File { size, grid, chunk }, Vec::new()));
        }
        let per = GROUP_CHUNKS as u64;
        let groups = size.div_ceil(grid.group_bytes());
        // Groups that are read as a whole, and those of which some digests are kept.
        let mut whole: Vec<Range<u64>> = Vec::new();
        let mut partly = BTreeSet::new();
        for range in dirty {
            let (first, last) = (range.start / per, (range.end - 1) / per);
            let is_all = |group: u64| {
                let end = ((group + 1) * per).min(grid.chunks(size));
                range.start <= group * per && end <= range.end
            };
            let from = if is_all(first) { first } else { first + 1 };
            let to = if is_all(last) { last + 1 } else { last };
            partly.extend([first, last].into_iter().filter(|group| !is_all(*group)));
            if from < to {
                whole.push(from..to);
            }
        }
        // It may have more or fewer chunks than before and none that is read again.
        let last = groups - 1;
        if size != old_size && !whole.iter().any(|range| range.contains(&last)) {
            partly.insert(last);
        }
        let offset = |group: u64| group.saturating_mul(grid.group_bytes());
        let mut cleared: Vec<Range<u64>> =
            whole.iter().map(|range| offset(range.start)..offset(range.end)).collect();
        if size < old_size {
            cleared.push(offset(groups)..u64::MAX);
        }
        let mut lists = Vec::new();
        let mut buffer = vec![0; GRID_BYTES as usize];
        let mut is_dirty = within(dirty);
        for group in partly {
            cleared.push(offset(group)..offset(group + 1));
            let first = group * per;
            let count = per.min(grid.chunks(size) - first);
            let mut digests = self.old_group(group)?;
            digests.resize(usize::try_from(count).unwrap_or(GROUP_CHUNKS), Digest::HOLE);
            for (number, digest) in (first..).zip(&mut digests) {
                if is_dirty(number) {
                    *digest = self.chunk(number, &mut buffer)?;
                }
            }
            if let Some(list) = ChunkList::of_group(grid, size, offset(group), digests)? {
                lists.push((offset(group), list));
            }
        }
        for range in &cleared[..whole.len()] {
            let bytes = range.start..range.end.min(size);
            let session = self.change.session;
            lists.extend(read_groups(self.file, self.path, (size, grid), bytes, session)?);
        }
        Ok(Patch {
            content: Content::File { size, grid, chunk: None },
            is_whole: false,
            cleared,
            lists,
        })
    }

    fn chunk(&self, number: u64, buffer: &mut [u8]) -> Result<Digest, IncrementalError> {
        let offset = number * self.grid.bytes();
        let bytes = self.grid.bytes().min(self.size - offset);
        let digest = read_chunk(self.file, offset, bytes, buffer, self.change.session)
            .map_err(|failure| failure.at(self.path))?;
        Ok(digest)
    }

    /// The digests of the origin's chunks in a group; none when all of it was a hole.
    fn old_group(&self, group: u64) -> Result<Vec<Digest>, IncrementalError> {
        let Content::File { chunk, .. } = self.old.content else { return Ok(Vec::new()) };
        if !self.old.has_chunk_lists() {
            return Ok(chunk.into_iter().filter(|_| group == 0).collect());
        }
        let key = Key::chunks(self.origin, group * self.grid.group_bytes());
        let change = self.change;
        match tree::find(&change.nodes, &change.root, &key)? {
            None => Ok(Vec::new()),
            Some(value) => {
                let corrupt = |why| ReadError::Corrupt { digest: change.root, why };
                Ok(ChunkList::decode(&value).map_err(corrupt)?.digests().to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests;
