//! Building a tree from sorted items.

use cove_types::{Classify, Digest, ErrorKind, ParseError};

use super::node::encode_node;
use super::{Child, Counts, Item, Key, Node, NodeSink, Nodes, Parts, ReadError, Root, SinkError};

/// The fewest bytes of parts in a node, except in the last of a level.
pub const BORDER_BYTES_MIN: u64 = 12 << 10;
/// How many bytes of parts follow after the fewest, on average.
pub const BORDER_BYTES_SPREAD: u64 = 12 << 10;
/// The bytes of parts after which a node ends whatever its last key is.
pub const BORDER_BYTES_MAX: u64 = 64 << 10;
/// What a part of an inner node weighs beside its key.
///
/// About what it has; a constant, because its real length depends on its counts, which
/// change with any file below, and a border must not.
pub const CHILD_BYTES: u64 = 48;

/// Whether a node of `level` ends after a part with this key and weight, being `bytes`
/// long with it.
///
/// Pure: it depends on nothing but the parts since the last border, and on none of their
/// values but through their length.
#[must_use]
pub(super) fn is_border(level: u8, key: &Key, weight: u64, bytes: u64) -> bool {
    if bytes < BORDER_BYTES_MIN {
        return false;
    }
    if bytes >= BORDER_BYTES_MAX {
        return true;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[level]);
    hasher.update(key.as_bytes());
    let mut first = [0; 4];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..4]);
    u64::from(u32::from_le_bytes(first)) * BORDER_BYTES_SPREAD < weight << 32
}

/// Why a tree was not written.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// An item or an edit does not come after the one before it.
    #[error("key \"{key}\" does not come after the one before it")]
    Order { key: Key },
    /// An item is not of its form.
    #[error("the item at \"{key}\" is refused")]
    Item { key: Key, source: ParseError },
    /// The tree that is edited could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The sink did not keep a node.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl Classify for WriteError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Order { .. } => ErrorKind::Internal,
            Self::Item { .. } => ErrorKind::Invalid,
            Self::Read(source) => source.kind(),
            Self::Sink(source) => source.kind(),
        }
    }
}

/// A node that is being filled.
#[derive(Debug)]
struct Level {
    parts: Parts,
    bytes: u64,
    counts: Counts,
}

impl Level {
    fn new(level: usize) -> Self {
        let parts = if level == 0 { Parts::Items(Vec::new()) } else { Parts::Children(Vec::new()) };
        Self { parts, bytes: 0, counts: Counts::default() }
    }

    fn is_empty(&self) -> bool {
        match &self.parts {
            Parts::Items(items) => items.is_empty(),
            Parts::Children(children) => children.is_empty(),
        }
    }
}

/// Builds a tree from items that come in ascending order of their keys.
///
/// It holds one unfinished node a level, about 64 KiB each, whatever the tree's size.
#[derive(Debug)]
pub struct Builder<S> {
    sink: S,
    levels: Vec<Level>,
    /// The last key of the leaf that was ended last.
    last: Option<Key>,
    /// The last node that was added as a whole.
    whole: Option<Digest>,
}

impl<S: NodeSink> Builder<S> {
    /// Begins a tree whose nodes go to `sink`.
    pub fn new(sink: S) -> Self {
        Self { sink, levels: vec![Level::new(0)], last: None, whole: None }
    }

    /// Adds the next item.
    ///
    /// # Errors
    ///
    /// It does not come after the one before, is not of its form, or the sink fails; in the
    /// last case the builder is of no further use.
    pub fn push(&mut self, item: Item) -> Result<(), WriteError> {
        match item.counts() {
            Ok(counts) => self.push_counted(item, counts),
            Err(source) => Err(WriteError::Item { key: item.key, source }),
        }
    }

    /// Adds the next item, of which it is known that it is of its form and has these counts.
    pub(super) fn push_counted(&mut self, item: Item, counts: Counts) -> Result<(), WriteError> {
        if self.last().is_some_and(|last| *last >= item.key) {
            return Err(WriteError::Order { key: item.key });
        }
        let weight = (item.key.as_bytes().len() + item.value.len()) as u64;
        let level = &mut self.levels[0];
        level.bytes += weight;
        level.counts = level.counts.plus(counts);
        let is_border = is_border(0, &item.key, weight, level.bytes);
        if is_border {
            self.last = Some(item.key.clone());
        }
        if let Parts::Items(items) = &mut level.parts {
            items.push(item);
        }
        if is_border { self.end_node(0) } else { Ok(()) }
    }

    /// The key of the item that was added last, by itself.
    fn last(&self) -> Option<&Key> {
        match &self.levels[0].parts {
            Parts::Items(items) => items.last().map(|item| &item.key).or(self.last.as_ref()),
            Parts::Children(_) => None,
        }
    }

    /// Ends the tree; its root is the last node that the sink was given, if it was given any.
    ///
    /// # Errors
    ///
    /// The sink fails.
    pub fn finish(mut self) -> Result<Root, WriteError> {
        self.end()
    }

    pub(super) fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// Whether the next part of a node of `level` + 1 may be a whole node of `level`: no
    /// node is under way up to there.
    pub(super) fn is_at_border(&self, level: u8) -> bool {
        self.levels.iter().take(usize::from(level) + 1).all(Level::is_empty)
    }

    /// Adds all items of a node of `level` that is stored already, which ends at a border or
    /// is followed by nothing. The builder [is at a border](Self::is_at_border) of `level`.
    pub(super) fn push_node(&mut self, level: u8, child: Child) -> Result<(), WriteError> {
        self.whole = Some(child.digest);
        self.push_child(usize::from(level) + 1, child)
    }

    /// Writes what is under way, from the leaf up, until one node is left.
    fn end(&mut self) -> Result<Root, WriteError> {
        for level in 0.. {
            if level + 1 < self.levels.len() {
                self.end_node(level)?;
                continue;
            }
            match &self.levels[level].parts {
                Parts::Items(items) if items.is_empty() => {
                    self.sink.put(Root::empty().digest, super::EMPTY_NODE.into())?;
                    return Ok(Root::empty());
                }
                Parts::Children(children) if children.len() == 1 => {
                    let Child { digest, counts, .. } = children[0];
                    return Ok(Root { digest, level: level as u8 - 1, counts });
                }
                _ => self.end_node(level)?,
            }
        }
        unreachable!("each level has fewer nodes than the one below")
    }

    fn push_child(&mut self, level: usize, child: Child) -> Result<(), WriteError> {
        while self.levels.len() <= level {
            self.levels.push(Level::new(self.levels.len()));
        }
        let weight = child.key.as_bytes().len() as u64 + CHILD_BYTES;
        let this = &mut self.levels[level];
        this.counts = this.counts.plus(child.counts);
        this.bytes += weight;
        let is_border = is_border(level as u8, &child.key, weight, this.bytes);
        if let Parts::Children(children) = &mut this.parts {
            children.push(child);
        }
        if is_border { self.end_node(level) } else { Ok(()) }
    }

    /// Writes the node under way at `level`, if there is one, and adds it to the level above.
    fn end_node(&mut self, level: usize) -> Result<(), WriteError> {
        if self.levels[level].is_empty() {
            return Ok(());
        }
        let ended = std::mem::replace(&mut self.levels[level], Level::new(level));
        let Level { parts, counts, .. } = ended;
        let key = match &parts {
            Parts::Items(items) => items.first().map(|item| item.key.clone()),
            Parts::Children(children) => children.first().map(|child| child.key.clone()),
        };
        let key = key.expect("a node under way has a part");
        let bytes = encode_node(level as u8, &parts);
        let digest = Digest::of(&bytes);
        self.sink.put(digest, bytes)?;
        self.push_child(level + 1, Child { key, digest, counts })
    }
}

/// Ends a tree to which whole nodes of the tree in `nodes` were added.
///
/// The last node of a level may have an only child. When it is all that is left, the tree
/// is that child.
pub(super) fn finish_edited<S: NodeSink>(
    mut builder: Builder<S>,
    nodes: &(impl Nodes + ?Sized),
) -> Result<Root, WriteError> {
    let mut root = builder.end()?;
    let mut is_whole = builder.whole == Some(root.digest);
    while is_whole && root.level > 0 {
        let node = Node::read(nodes, &root.digest)?;
        match node.parts() {
            Parts::Children(children) if children.len() == 1 => {
                let Child { digest, counts, .. } = children[0];
                root = Root { digest, level: root.level - 1, counts };
            }
            _ => is_whole = false,
        }
    }
    Ok(root)
}
