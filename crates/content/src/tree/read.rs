//! Looking into a tree.

use std::ops::Range;

use bytes::Bytes;
use cove_types::{Digest, ParseError, TreePath};

use super::{Child, Content, Entry, Item, Key, Node, Nodes, Parts, ReadError, Value};

/// How many nodes a cursor asks for ahead of those it reads.
const AHEAD: usize = 16;

/// The value at `key`; `None` when there is none. Reads one node a level.
///
/// # Errors
///
/// [`ReadError`].
pub fn find(
    nodes: &(impl Nodes + ?Sized),
    root: &Digest,
    key: &Key,
) -> Result<Option<Bytes>, ReadError> {
    let mut node = nodes.decoded(root)?;
    loop {
        node = match node.parts() {
            Parts::Items(items) => {
                let found = items.binary_search_by(|item| item.key.cmp(key));
                return Ok(found.ok().map(|index| items[index].value.clone()));
            }
            Parts::Children(children) => {
                let after = children.partition_point(|child| child.key <= *key);
                let Some(child) = after.checked_sub(1).map(|index| &children[index]) else {
                    return Ok(None);
                };
                Node::decoded_child(nodes, child, node.level() - 1)?
            }
        }
    }
}

/// Has the leaves fetched in which `keys`, in ascending order, would lie: all of a level together,
/// so that looking them up one by one asks for none by itself.
///
/// # Errors
///
/// [`ReadError`] of an inner node.
pub fn fetch_leaves(
    nodes: &(impl Nodes + ?Sized),
    root: &Digest,
    keys: &[Key],
) -> Result<(), ReadError> {
    let mut level = vec![(*root, keys)];
    while !level.is_empty() {
        let digests: Vec<Digest> = level.iter().map(|(digest, _)| *digest).collect();
        if digests.len() > 1 {
            nodes.prefetch(&digests);
        }
        let mut below = Vec::new();
        let mut leaves = Vec::new();
        for (digest, keys) in level {
            let node = nodes.decoded(&digest)?;
            let Parts::Children(children) = node.parts() else { continue };
            let ends = children.iter().skip(1).map(|child| Some(&child.key)).chain([None]);
            let mut rest = keys;
            for (child, end) in children.iter().zip(ends) {
                let inside = end.map_or(rest.len(), |end| rest.partition_point(|key| key < end));
                let (inside, after) = rest.split_at(inside);
                rest = after;
                match inside {
                    [] => {}
                    _ if node.level() == 1 => leaves.push(child.digest),
                    inside => below.push((child.digest, inside)),
                }
            }
        }
        if leaves.len() > 1 {
            nodes.prefetch(&leaves);
        }
        level = below;
    }
    Ok(())
}

/// The entry at `path`; `None` when there is none, as at the top.
///
/// # Errors
///
/// [`ReadError`].
pub fn find_entry(
    nodes: &(impl Nodes + ?Sized),
    root: &Digest,
    path: &TreePath,
) -> Result<Option<Entry>, ReadError> {
    if path.is_top() {
        return Ok(None);
    }
    let value = find(nodes, root, &Key::entry(path))?;
    value
        .map(|value| Entry::decode(&value))
        .transpose()
        .map_err(|why| ReadError::Corrupt { digest: *root, why })
}

/// All items of `range`, in order, read as they are asked for.
pub fn range<N: Nodes>(nodes: N, root: &Digest, range: Range<Key>) -> Cursor<N> {
    Cursor {
        nodes,
        root: *root,
        is_open: false,
        start: range.start,
        end: range.end,
        inner: Vec::new(),
        leaf: Vec::new().into_iter(),
    }
}

/// A walk over the items of a range, from [`range`].
///
/// It holds one node a level and ends after an error.
#[derive(Debug)]
pub struct Cursor<N> {
    nodes: N,
    root: Digest,
    is_open: bool,
    start: Key,
    end: Key,
    inner: Vec<Frame>,
    leaf: std::vec::IntoIter<Item>,
}

/// A part of a tree that could not be read.
#[derive(Debug)]
pub struct Gap {
    /// The keys of what is in it; all of them when the topmost node is it.
    pub keys: Range<Key>,
    /// Why.
    pub error: ReadError,
}

/// An inner node of which some children are still to be read.
#[derive(Debug)]
struct Frame {
    /// The level of its children.
    level: u8,
    children: Vec<Child>,
    next: usize,
    /// How many children were asked for.
    asked: usize,
    /// Where its keys end.
    end: Key,
}

impl<N: Nodes> Cursor<N> {
    /// Goes on at the first item from `key` on; never back. Nodes in between are not read.
    pub fn seek(&mut self, key: Key) {
        if key > self.start {
            self.start = key;
        }
    }

    fn open(&mut self, node: Node, end: Key) {
        let level = node.level();
        match node.into_parts() {
            Parts::Items(items) => self.leaf = items.into_iter(),
            Parts::Children(children) => {
                let level = level - 1;
                self.inner.push(Frame { level, children, next: 0, asked: 0, end });
            }
        }
    }

    /// The next item, or the part that cannot be read in front of it; after a part the walk goes on
    /// behind it.
    pub fn next_or_gap(&mut self) -> Option<Result<Item, Gap>> {
        match self.try_next() {
            Ok(Some(item)) if item.key < self.end => Some(Ok(item)),
            Ok(_) => None,
            Err(gap) => Some(Err(gap)),
        }
    }

    /// The next item from `start` on, whether before the end or not.
    fn try_next(&mut self) -> Result<Option<Item>, Gap> {
        if !self.is_open {
            self.is_open = true;
            let root = Node::read(&self.nodes, &self.root)
                .map_err(|error| Gap { keys: Key::all(), error })?;
            self.open(root, Key::all().end);
        }
        loop {
            let start = &self.start;
            if let Some(item) = self.leaf.find(|item| item.key >= *start) {
                return Ok(Some(item));
            }
            let Some(frame) = self.inner.last_mut() else { return Ok(None) };
            let passed = frame.children[frame.next..]
                .iter()
                .skip(1)
                .take_while(|child| child.key <= *start)
                .count();
            frame.next += passed;
            let Some(child) = frame.children.get(frame.next).filter(|_| frame.end > *start) else {
                self.inner.pop();
                continue;
            };
            if child.key >= self.end {
                return Ok(None);
            }
            if frame.asked <= frame.next {
                let ahead: Vec<Digest> = frame.children[frame.next..]
                    .iter()
                    .take(AHEAD)
                    .take_while(|child| child.key < self.end)
                    .map(|child| child.digest)
                    .collect();
                frame.asked = frame.next + AHEAD;
                if ahead.len() > 1 {
                    self.nodes.prefetch(&ahead);
                }
            }
            let node = Node::read_child(&self.nodes, child, frame.level);
            let from = &child.key;
            frame.next += 1;
            let end = frame.children.get(frame.next).map_or(&frame.end, |child| &child.key).clone();
            let node = node.map_err(|error| Gap { keys: from.clone()..end.clone(), error })?;
            self.open(node, end);
        }
    }
}

impl<N: Nodes> Iterator for Cursor<N> {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.try_next() {
            Ok(Some(item)) if item.key < self.end => return Some(Ok(item)),
            Ok(_) => None,
            Err(gap) => Some(Err(gap.error)),
        };
        self.inner.clear();
        self.leaf = Vec::new().into_iter();
        next
    }
}

/// The names in the directory `path` and their entries, sorted by name.
///
/// Reads the nodes of its range only, and none that hold nothing but chunk lists. A
/// directory without names and one that is not there both give none; [`find_entry`] tells
/// them apart.
pub fn list_directory<N: Nodes>(nodes: N, root: &Digest, path: &TreePath) -> Listing<N> {
    Listing(Entries { cursor: range(nodes, root, Key::children_range(path)) })
}

/// All paths below the directory `path` and their entries, in key order, which has the
/// children of a directory, sorted, before what is below the first of them. Skips chunk lists.
pub fn list_subtree<N: Nodes>(nodes: N, root: &Digest, path: &TreePath) -> Entries<N> {
    Entries { cursor: range(nodes, root, Key::subtree_range(path)) }
}

/// A walk over the entries of a range, from [`list_subtree`].
#[derive(Debug)]
pub struct Entries<N> {
    cursor: Cursor<N>,
}

impl<N: Nodes> Iterator for Entries<N> {
    type Item = Result<(TreePath, Entry), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let item = match self.cursor.next()? {
                Ok(item) => item,
                Err(error) => return Some(Err(error)),
            };
            match item.decode() {
                Ok((parts, Value::Entry(entry))) => {
                    if entry.has_chunk_lists() {
                        self.cursor.seek(Key::file_range(&parts.path).end);
                    }
                    return Some(Ok((parts.path, entry)));
                }
                Ok((_, Value::Chunks(_))) => {}
                Err(why) => {
                    return Some(Err(ReadError::Corrupt { digest: self.cursor.root, why }));
                }
            }
        }
    }
}

/// A walk over a directory, from [`list_directory`].
#[derive(Debug)]
pub struct Listing<N>(Entries<N>);

impl<N: Nodes> Iterator for Listing<N> {
    type Item = Result<(Vec<u8>, Entry), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.0.next()?;
        Some(next.map(|(path, entry)| (path.name().unwrap_or_default().to_vec(), entry)))
    }
}

/// A piece of a file: a chunk, or a hole of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Piece {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length.
    pub bytes: u64,
    /// The chunk; `None` for a hole.
    pub digest: Option<Digest>,
}

/// The pieces of the file at `path`, whose entry is `entry`, that have a byte of `bytes`,
/// in order and without gaps. Chunks are whole, so the first may begin before `bytes` and
/// the last end after it; what is beyond the file's end has none. Other kinds have none.
///
/// Costs the nodes of these bytes' chunk lists, whatever the length of the file.
///
/// # Errors
///
/// [`ReadError`].
pub fn chunks_of(
    nodes: &(impl Nodes + ?Sized),
    root: &Digest,
    path: &TreePath,
    entry: &Entry,
    bytes: Range<u64>,
) -> Result<Vec<Piece>, ReadError> {
    let Content::File { size, grid, chunk } = entry.content else { return Ok(Vec::new()) };
    let end = bytes.end.min(size);
    if bytes.start >= end {
        return Ok(Vec::new());
    }
    if !entry.has_chunk_lists() {
        return Ok(vec![Piece { offset: 0, bytes: size, digest: chunk }]);
    }
    let start = bytes.start - bytes.start % grid.bytes();
    let end = end.next_multiple_of(grid.bytes()).min(size);
    let first = start - start % grid.group_bytes();
    let lists = Key::chunks(path, first)..Key::chunks(path, end);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = start;
    for item in range(nodes, root, lists) {
        let corrupt = |why| ReadError::Corrupt { digest: *root, why };
        let (parts, value) = item?.decode().map_err(corrupt)?;
        let (Some(offset), Value::Chunks(list)) = (parts.offset, value) else { continue };
        let group = grid.group_bytes().min(size.saturating_sub(offset));
        if list.grid() != grid || list.bytes() != group {
            return Err(corrupt(ParseError(format!(
                "the chunk list of {path} at {offset} is not one of a file of {size} bytes"
            ))));
        }
        for (within, length, digest) in list.chunks() {
            let offset = offset + within;
            if offset < at || offset >= end || digest.is_hole() {
                continue;
            }
            if offset > at {
                pieces.push(Piece { offset: at, bytes: offset - at, digest: None });
            }
            pieces.push(Piece { offset, bytes: length, digest: Some(digest) });
            at = offset + length;
        }
    }
    if at < end {
        pieces.push(Piece { offset: at, bytes: end - at, digest: None });
    }
    Ok(pieces)
}
