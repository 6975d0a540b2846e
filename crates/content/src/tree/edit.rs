//! Changing a tree, reading and writing only what the change touches.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use bytes::Bytes;
use cove_types::{Digest, ParseError, TreePath};

use super::build::finish_edited;
use super::{
    Builder, Child, Entry, Item, Key, Node, NodeSink, Nodes, Parts, Root, SinkError, WriteError,
    file_items,
};

/// The value that a key has from now on; `None` for none.
pub type Edit = (Key, Option<Bytes>);

/// Changes to a tree. A later one overrides an earlier one of the same key.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    points: BTreeMap<Key, Option<Bytes>>,
    deleted: Vec<Range<Key>>,
}

impl Edits {
    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.deleted.is_empty()
    }

    /// Puts one item.
    pub fn put(&mut self, item: Item) {
        self.points.insert(item.key, Some(item.value));
    }

    /// Deletes one item, if it is there.
    pub fn delete(&mut self, key: Key) {
        self.points.insert(key, None);
    }

    /// Deletes all items of a range, at a cost of its borders and not of its length.
    pub fn delete_range(&mut self, range: Range<Key>) {
        if range.start >= range.end {
            return;
        }
        let inside: Vec<Key> =
            self.points.range(range.clone()).map(|(key, _)| key.clone()).collect();
        for key in inside {
            self.points.remove(&key);
        }
        self.deleted.push(range);
    }

    /// Puts the entry at `path` and leaves its chunk lists as they are.
    ///
    /// # Errors
    ///
    /// The entry is refused by [`Entry::encode`].
    pub fn put_entry(&mut self, path: &TreePath, entry: &Entry) -> Result<(), ParseError> {
        self.put(Item { key: Key::entry(path), value: entry.encode()? });
        Ok(())
    }

    /// Puts the file at `path` with all its chunks, in place of what was there. See
    /// [`file_items`].
    ///
    /// # Errors
    ///
    /// There are not as many digests as chunks, or the entry is refused.
    pub fn put_file(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        digests: &[Digest],
    ) -> Result<(), ParseError> {
        let items = file_items(path, entry, digests)?;
        self.delete_range(Key::file_range(path));
        items.into_iter().for_each(|item| self.put(item));
        Ok(())
    }

    /// Deletes what is at `path` and all below it.
    pub fn delete_all(&mut self, path: &TreePath) {
        self.delete_range(Key::file_range(path));
        self.delete_range(Key::subtree_range(path));
    }

    /// Makes the changes. See [`edit`].
    ///
    /// # Errors
    ///
    /// [`WriteError`].
    pub fn apply(
        self,
        nodes: &(impl Nodes + ?Sized),
        root: Option<&Digest>,
        sink: impl NodeSink,
    ) -> Result<Root, WriteError> {
        let points: Vec<Edit> = self.points.into_iter().collect();
        edit(nodes, root, &points, &self.deleted, sink)
    }
}

/// Makes the tree that has all items of `root` (`None` for the empty tree) except those in
/// `deleted`, changed by `edits`, which are in ascending order of their keys and win over
/// `deleted`. The ranges may come in any order and overlap.
///
/// The result is the tree that a [`Builder`] makes of the same items. A node is read when
/// an edit falls into it, when a deleted range ends in it, or when it lies before the first border
/// after those that is a border of both trees; one that is deleted as a whole is not read. Nodes
/// that the old tree has already where they were read are not given to the sink.
///
/// # Errors
///
/// [`WriteError`]. The old tree is as it was; the sink may have some nodes that nothing names.
pub fn edit(
    nodes: &(impl Nodes + ?Sized),
    root: Option<&Digest>,
    edits: &[Edit],
    deleted: &[Range<Key>],
    sink: impl NodeSink,
) -> Result<Root, WriteError> {
    if let Some(pair) = edits.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        return Err(WriteError::Order { key: pair[1].0.clone() });
    }
    let builder = Builder::new(Unread { sink, read: HashSet::new() });
    let mut rewrite = Rewrite { nodes, edits, deleted: joined(deleted), builder };
    let end = Key::all().end;
    if let Some(root) = root {
        let node = nodes.decoded(root)?;
        if edits.is_empty() && deleted.is_empty() {
            return Ok(Root { digest: *root, level: node.level(), counts: node.counts() });
        }
        rewrite.builder.sink_mut().read.insert(*root);
        rewrite.node(&node, &end)?;
    }
    rewrite.push_edits(&end, true)?;
    finish_edited(rewrite.builder, nodes)
}

/// Ranges in ascending order, none empty, none touching another.
fn joined(ranges: &[Range<Key>]) -> Vec<Range<Key>> {
    let mut sorted: Vec<Range<Key>> =
        ranges.iter().filter(|range| range.start < range.end).cloned().collect();
    sorted.sort_by(|a, b| a.start.cmp(&b.start));
    let mut joined: Vec<Range<Key>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => {
                if last.end < range.end {
                    last.end = range.end;
                }
            }
            _ => joined.push(range),
        }
    }
    joined
}

/// A sink without the nodes that were read, which are there already.
#[derive(Debug)]
struct Unread<S> {
    sink: S,
    read: HashSet<Digest>,
}

impl<S: NodeSink> NodeSink for Unread<S> {
    fn put(&mut self, digest: Digest, bytes: Bytes) -> Result<(), SinkError> {
        if self.read.contains(&digest) { Ok(()) } else { self.sink.put(digest, bytes) }
    }
}

/// An old tree being read from left to right into a new one.
struct Rewrite<'a, N: ?Sized, S> {
    nodes: &'a N,
    /// Those that are still to be made.
    edits: &'a [Edit],
    deleted: Vec<Range<Key>>,
    builder: Builder<Unread<S>>,
}

/// What happens to the keys from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touch {
    /// Nothing.
    None,
    /// All are deleted; edits may put some.
    Deleted,
    /// Something.
    Some,
}

impl<N: Nodes + ?Sized, S: NodeSink> Rewrite<'_, N, S> {
    /// What the edits do to the keys from `start` to `end`. Whatever comes before `start`
    /// and is not made yet must be made there.
    fn touch(&self, start: &Key, end: &Key) -> Touch {
        let first = self.deleted.partition_point(|range| range.end <= *start);
        match self.deleted.get(first) {
            Some(range) if range.start <= *start && *end <= range.end => Touch::Deleted,
            Some(range) if range.start < *end => Touch::Some,
            _ if self.edits.first().is_some_and(|(key, _)| key < end) => Touch::Some,
            _ => Touch::None,
        }
    }

    fn is_deleted(&self, key: &Key) -> bool {
        let first = self.deleted.partition_point(|range| range.end <= *key);
        self.deleted.get(first).is_some_and(|range| range.start <= *key)
    }

    /// Adds what becomes of a node whose keys are before `end`.
    fn child(&mut self, level: u8, child: &Child, end: &Key) -> Result<(), WriteError> {
        match self.touch(&child.key, end) {
            // Untouched and last means that nothing follows, so a node that ends without a
            // border is still the last one.
            Touch::None if self.builder.is_at_border(level) => {
                self.builder.push_node(level, child.clone())
            }
            Touch::Deleted => self.push_edits(end, false),
            Touch::None | Touch::Some => {
                let node = Node::decoded_child(self.nodes, child, level)?;
                self.builder.sink_mut().read.insert(child.digest);
                self.node(&node, end)
            }
        }
    }

    /// Adds what becomes of the parts of a node whose keys are before `end`.
    fn node(&mut self, node: &Node, end: &Key) -> Result<(), WriteError> {
        match node.parts() {
            Parts::Items(_) => {
                for (item, counts) in node.counted_items() {
                    self.push_edits(&item.key, false)?;
                    let is_edited = self.edits.first().is_some_and(|(key, _)| *key == item.key);
                    if !is_edited && !self.is_deleted(&item.key) {
                        self.builder.push_counted(item.clone(), counts)?;
                    }
                }
                self.push_edits(end, false)
            }
            Parts::Children(children) => {
                let next = children.iter().skip(1).map(|child| &child.key);
                let ends: Vec<&Key> = next.chain([end]).collect();
                self.prefetch(children, &ends);
                for (child, end) in children.iter().zip(ends) {
                    self.child(node.level() - 1, child, end)?;
                }
                Ok(())
            }
        }
    }

    /// Asks for the children into which an edit falls.
    fn prefetch(&self, children: &[Child], ends: &[&Key]) {
        let touched: Vec<Digest> = children
            .iter()
            .zip(ends)
            .filter(|(child, end)| {
                let from = self.edits.partition_point(|(key, _)| *key < child.key);
                self.edits.get(from).is_some_and(|(key, _)| key < **end)
            })
            .map(|(child, _)| child.digest)
            .collect();
        if touched.len() > 1 {
            self.nodes.prefetch(&touched);
        }
    }

    /// Makes the edits before `end`, or all that are left.
    fn push_edits(&mut self, end: &Key, all: bool) -> Result<(), WriteError> {
        while let Some(((key, value), rest)) = self.edits.split_first()
            && (all || key < end)
        {
            self.edits = rest;
            if let Some(value) = value {
                self.builder.push(Item { key: key.clone(), value: value.clone() })?;
            }
        }
        Ok(())
    }
}
