//! Nodes as bytes, and where they come from and go to.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use cove_types::{Classify, Digest, ErrorKind, ParseError};

use super::key::KEY_BYTES_MAX;
use super::varint::{Reader, put_piece, put_varint};
use super::{Child, Counts, Item, Key};

/// The first bytes of each node, the last of them the version of the format.
pub const NODE_MAGIC: [u8; 4] = *b"CVT\x01";
/// The longest node, in bytes. The borders keep nodes under about 100 KiB; whatever is
/// longer is damaged or made to exhaust memory.
pub const NODE_BYTES_MAX: usize = 1 << 20;
/// The highest level. Inner nodes have three children or more, so this is over 10^7 leaves
/// in the worst case and far more in any other.
pub const LEVEL_MAX: u8 = 16;
/// The bytes of the only node of an empty tree.
pub const EMPTY_NODE: &[u8] = b"CVT\x01\0\0";

/// Where nodes come from.
pub trait Nodes {
    /// The bytes of a node. Whoever reads them checks them against the digest, so a source
    /// need not.
    ///
    /// # Errors
    ///
    /// The node is not there, or the source does not answer.
    fn node(&self, digest: &Digest) -> Result<Bytes, ReadError>;

    /// Says that these nodes will be asked for soon, in this order. A hint: a source may
    /// begin to fetch them and must not wait for them.
    fn prefetch(&self, _digests: &[Digest]) {}

    /// A node as [`Node::read`] gives it. A source that is asked for the same nodes again and
    /// again may keep them so.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    fn decoded(&self, digest: &Digest) -> Result<Arc<Node>, ReadError> {
        Node::read(self, digest).map(Arc::new)
    }
}

impl<N: Nodes + ?Sized> Nodes for &N {
    fn node(&self, digest: &Digest) -> Result<Bytes, ReadError> {
        (**self).node(digest)
    }

    fn decoded(&self, digest: &Digest) -> Result<Arc<Node>, ReadError> {
        (**self).decoded(digest)
    }

    fn prefetch(&self, digests: &[Digest]) {
        (**self).prefetch(digests);
    }
}

impl<N: Nodes + ?Sized> Nodes for Arc<N> {
    fn node(&self, digest: &Digest) -> Result<Bytes, ReadError> {
        (**self).node(digest)
    }

    fn decoded(&self, digest: &Digest) -> Result<Arc<Node>, ReadError> {
        (**self).decoded(digest)
    }

    fn prefetch(&self, digests: &[Digest]) {
        (**self).prefetch(digests);
    }
}

/// Where nodes go to.
pub trait NodeSink {
    /// Takes a node; children come before their parents, and a node may come more than once.
    ///
    /// # Errors
    ///
    /// It could not be kept. The tree under way is then abandoned.
    fn put(&mut self, digest: Digest, bytes: Bytes) -> Result<(), SinkError>;
}

impl<S: NodeSink + ?Sized> NodeSink for &mut S {
    fn put(&mut self, digest: Digest, bytes: Bytes) -> Result<(), SinkError> {
        (**self).put(digest, bytes)
    }
}

/// Nodes in memory, as a source and a sink.
#[derive(Debug, Clone, Default)]
pub struct MemoryNodes {
    nodes: std::collections::HashMap<Digest, Bytes>,
}

impl MemoryNodes {
    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All nodes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &Bytes)> {
        self.nodes.iter()
    }
}

impl Nodes for MemoryNodes {
    fn node(&self, digest: &Digest) -> Result<Bytes, ReadError> {
        self.nodes.get(digest).cloned().ok_or(ReadError::Missing { digest: *digest })
    }
}

impl NodeSink for MemoryNodes {
    fn put(&mut self, digest: Digest, bytes: Bytes) -> Result<(), SinkError> {
        self.nodes.insert(digest, bytes);
        Ok(())
    }
}

/// Why a node was not read.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The source does not have a node that a tree names: content is lost.
    #[error("tree node {digest} is missing")]
    Missing { digest: Digest },
    /// The bytes are not those of the digest, or not of the form.
    #[error("tree node {digest} is damaged: {why}")]
    Corrupt { digest: Digest, why: ParseError },
    /// The source did not answer.
    #[error("failed to read tree node {digest}")]
    Source { digest: Digest, kind: ErrorKind, source: Box<dyn Error + Send + Sync> },
}

impl Classify for ReadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Missing { .. } | Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Source { kind, .. } => *kind,
        }
    }
}

/// Why a sink did not keep a node.
#[derive(Debug, thiserror::Error)]
#[error("failed to keep tree node {digest}")]
pub struct SinkError {
    /// The node.
    pub digest: Digest,
    /// The kind of `source`.
    pub kind: ErrorKind,
    /// What the sink says.
    pub source: Box<dyn Error + Send + Sync>,
}

impl Classify for SinkError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// The parts of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// Of a leaf, level 0.
    Items(Vec<Item>),
    /// Of an inner node.
    Children(Vec<Child>),
}

/// A node, read.
///
/// ```text
///  0  magic   4 bytes  "CVT" 01
///  4  level   u8       0 for a leaf, else one more than its children's
///  5  count   varint   of parts; 0 only in the leaf of an empty tree
///     parts, in ascending order of their keys
///
/// key         shared   varint  how many bytes it shares with the key before, as many as it can
///             length   varint  of the rest
///             rest     bytes
/// leaf part   key, then length (varint) and bytes of the value
/// inner part  key, the first one in the child; then
///             digest   32 bytes
///             entries, logical_bytes, data_bytes, depth   varint each: the child's counts
/// ```
///
/// Nothing follows the last part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    level: u8,
    parts: Parts,
    /// What each item of a leaf adds to `counts`.
    item_counts: Vec<Counts>,
    counts: Counts,
}

impl Node {
    /// Reads a node and checks its digest and its form, each key and value included.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; for bytes that are not a node, `Corrupt`.
    pub fn read(nodes: &(impl Nodes + ?Sized), digest: &Digest) -> Result<Self, ReadError> {
        Self::checked(digest, &nodes.node(digest)?)
    }

    /// The node of this digest out of its bytes, checked as by [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// `Corrupt`: they are not that node.
    pub fn checked(digest: &Digest, bytes: &Bytes) -> Result<Self, ReadError> {
        let corrupt = |why| ReadError::Corrupt { digest: *digest, why };
        if Digest::of(bytes) != *digest {
            return Err(corrupt(ParseError("its bytes have another digest".into())));
        }
        Self::decode(bytes).map_err(corrupt)
    }

    /// Reads the node that `child` of a node of level `level` + 1 names, and checks that it
    /// is what its parent says.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn read_child(
        nodes: &(impl Nodes + ?Sized),
        child: &Child,
        level: u8,
    ) -> Result<Self, ReadError> {
        let node = Self::read(nodes, &child.digest)?;
        node.check_child(child, level)?;
        Ok(node)
    }

    /// As [`read_child`](Self::read_child), as the source [keeps it](Nodes::decoded).
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn decoded_child(
        nodes: &(impl Nodes + ?Sized),
        child: &Child,
        level: u8,
    ) -> Result<Arc<Self>, ReadError> {
        let node = nodes.decoded(&child.digest)?;
        node.check_child(child, level)?;
        Ok(node)
    }

    fn check_child(&self, child: &Child, level: u8) -> Result<(), ReadError> {
        let corrupt = |why: &str| {
            Err(ReadError::Corrupt { digest: child.digest, why: ParseError(why.into()) })
        };
        if self.level != level {
            return corrupt("its level is not the one below its parent's");
        }
        if self.first_key() != Some(&child.key) {
            return corrupt("its first key is not the one that its parent names");
        }
        if self.counts != child.counts {
            return corrupt("its counts are not those that its parent names");
        }
        Ok(())
    }

    /// Reads a node's bytes.
    ///
    /// # Errors
    ///
    /// They break the form above in any way.
    pub fn decode(bytes: &Bytes) -> Result<Self, ParseError> {
        if bytes.len() > NODE_BYTES_MAX {
            return Err(ParseError(format!(
                "a node has up to {NODE_BYTES_MAX} bytes, found {}",
                bytes.len()
            )));
        }
        let mut reader = Reader::new(bytes);
        if reader.array()? != NODE_MAGIC {
            return Err(ParseError("it does not begin as a node of version 1 does".into()));
        }
        let level = reader.byte()?;
        if level > LEVEL_MAX {
            return Err(ParseError(format!("a level is 0 to {LEVEL_MAX}, found {level}")));
        }
        let count = reader.varint()?;
        if count > reader.len() as u64 {
            return Err(ParseError(format!("{count} parts do not fit into what follows")));
        }
        if count == 0 && level > 0 {
            return Err(ParseError("an inner node has no children".into()));
        }
        let mut counts = Counts::default();
        let mut item_counts = Vec::new();
        let parts = if level == 0 {
            let mut items: Vec<Item> = Vec::with_capacity(count as usize);
            for _ in 0..count {
                let key = decode_key(&mut reader, items.last().map(|item| &item.key))?;
                let value = bytes.slice_ref(reader.piece()?);
                let item = Item { key, value };
                let adds = item.counts()?;
                item_counts.push(adds);
                counts = counts.plus(adds);
                items.push(item);
            }
            Parts::Items(items)
        } else {
            let mut children: Vec<Child> = Vec::with_capacity(count as usize);
            for _ in 0..count {
                let key = decode_key(&mut reader, children.last().map(|child| &child.key))?;
                key.parse()?;
                let child = Child {
                    key,
                    digest: Digest(reader.array()?),
                    counts: Counts {
                        entries: reader.varint()?,
                        logical_bytes: reader.varint()?,
                        data_bytes: reader.varint()?,
                        depth: u32::try_from(reader.varint()?)
                            .map_err(|_| ParseError("a depth is over 32 bits".into()))?,
                    },
                };
                counts = counts.plus(child.counts);
                children.push(child);
            }
            Parts::Children(children)
        };
        if !reader.is_empty() {
            return Err(ParseError(format!("{} bytes follow the last part", reader.len())));
        }
        Ok(Self { level, parts, item_counts, counts })
    }

    /// 0 for a leaf.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// What it is made of.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What it is made of.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        self.parts
    }

    /// The items of a leaf, each with what it adds to the counts.
    pub(super) fn counted_items(&self) -> impl Iterator<Item = (&Item, Counts)> {
        let items = match &self.parts {
            Parts::Items(items) => items.as_slice(),
            Parts::Children(_) => &[],
        };
        items.iter().zip(self.item_counts.iter().copied())
    }

    /// What is in it and below.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn first_key(&self) -> Option<&Key> {
        match &self.parts {
            Parts::Items(items) => items.first().map(|item| &item.key),
            Parts::Children(children) => children.first().map(|child| &child.key),
        }
    }
}

/// The bytes of a node of these parts, which are in order. Inner nodes have a level from 1.
pub(super) fn encode_node(level: u8, parts: &Parts) -> Bytes {
    let mut bytes = Vec::with_capacity(32 << 10);
    bytes.extend_from_slice(&NODE_MAGIC);
    bytes.push(level);
    let mut last: &[u8] = &[];
    match parts {
        Parts::Items(items) => {
            put_varint(&mut bytes, items.len() as u64);
            for item in items {
                put_key(&mut bytes, last, item.key.as_bytes());
                put_piece(&mut bytes, &item.value);
                last = item.key.as_bytes();
            }
        }
        Parts::Children(children) => {
            put_varint(&mut bytes, children.len() as u64);
            for child in children {
                put_key(&mut bytes, last, child.key.as_bytes());
                bytes.extend_from_slice(&child.digest.0);
                let Counts { entries, logical_bytes, data_bytes, depth } = child.counts;
                for number in [entries, logical_bytes, data_bytes, depth.into()] {
                    put_varint(&mut bytes, number);
                }
                last = child.key.as_bytes();
            }
        }
    }
    bytes.into()
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn put_key(bytes: &mut Vec<u8>, last: &[u8], key: &[u8]) {
    let shared = shared_prefix(last, key);
    put_varint(bytes, shared as u64);
    put_piece(bytes, &key[shared..]);
}

fn decode_key(reader: &mut Reader<'_>, last: Option<&Key>) -> Result<Key, ParseError> {
    let shared = usize::try_from(reader.varint()?).unwrap_or(usize::MAX);
    let rest = reader.piece()?;
    let is_first = last.is_none();
    let last = last.map_or(&[][..], Key::as_bytes);
    if shared > last.len() {
        return Err(ParseError("a key shares more than there is".into()));
    }
    if shared + rest.len() > KEY_BYTES_MAX {
        return Err(ParseError(format!("a key is over {KEY_BYTES_MAX} bytes")));
    }
    // With a longest shared prefix, order is decided by the next byte of the two.
    let ascends = match (last.get(shared), rest.first()) {
        _ if is_first => true,
        (None, Some(_)) => true,
        (Some(before), Some(after)) if before == after => {
            return Err(ParseError("a key does not share all that it can".into()));
        }
        (Some(before), Some(after)) => before < after,
        (_, None) => false,
    };
    if !ascends {
        return Err(ParseError("keys are not in ascending order".into()));
    }
    let mut key = Vec::with_capacity(shared + rest.len());
    key.extend_from_slice(&last[..shared]);
    key.extend_from_slice(rest);
    Ok(Key::from_bytes(key))
}

#[cfg(test)]
mod tests;
