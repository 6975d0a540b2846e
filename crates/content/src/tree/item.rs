//! The items of the map and what they add up to.

use bytes::Bytes;
use cove_types::{Digest, ParseError, TreePath};

use super::{ChunkList, Entry, Key, KeyParts};

/// One item of the map: a key and a value as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Item {
    /// Its place.
    pub key: Key,
    /// An [`Entry`] or, at the key of a chunk list, a [`ChunkList`].
    pub value: Bytes,
}

/// What an item says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// What is at a path.
    Entry(Entry),
    /// Some of the chunks of the file at a path.
    Chunks(ChunkList),
}

impl Value {
    /// Reads the value of the item that a key of these parts has.
    ///
    /// # Errors
    ///
    /// The bytes are not a value of that key's sort, or a chunk list is not at the beginning
    /// of a group.
    pub fn decode(parts: &KeyParts, bytes: &[u8]) -> Result<Self, ParseError> {
        let Some(offset) = parts.offset else { return Entry::decode(bytes).map(Self::Entry) };
        let list = ChunkList::decode(bytes)?;
        if !offset.is_multiple_of(list.grid().group_bytes())
            || offset.checked_add(list.bytes()).is_none_or(|end| end > super::SIZE_MAX)
        {
            return Err(ParseError(format!(
                "a chunk list begins at {offset}, where no group does"
            )));
        }
        Ok(Self::Chunks(list))
    }
}

impl Item {
    /// Reads key and value.
    ///
    /// # Errors
    ///
    /// Either is not of its form.
    pub fn decode(&self) -> Result<(KeyParts, Value), ParseError> {
        let parts = self.key.parse()?;
        let value = Value::decode(&parts, &self.value)?;
        Ok((parts, value))
    }

    /// What it adds to the counts of its tree.
    ///
    /// # Errors
    ///
    /// Key or value is not of its form.
    pub fn counts(&self) -> Result<Counts, ParseError> {
        let (parts, value) = self.decode()?;
        Ok(Counts::of(&parts, &value))
    }
}

/// What a subtree holds. Each is a function of the single items, so that those of a node
/// are the sum of those of its parts and equal nodes have equal counts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Counts {
    /// How many names: directories, files, symlinks and markers, without the top.
    pub entries: u64,
    /// The sizes of all files, holes included; a hard-linked file counts at its first name.
    pub logical_bytes: u64,
    /// The bytes of all chunks that are no holes; those of a hard-linked file count at each name.
    pub data_bytes: u64,
    /// The number of names in the longest path.
    pub depth: u32,
}

impl Counts {
    /// These and those.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            logical_bytes: self.logical_bytes.saturating_add(other.logical_bytes),
            data_bytes: self.data_bytes.saturating_add(other.data_bytes),
            depth: self.depth.max(other.depth),
        }
    }

    /// What one item holds.
    #[must_use]
    pub fn of(parts: &KeyParts, value: &Value) -> Self {
        match value {
            Value::Entry(entry) => Self::of_entry(&parts.path, entry),
            Value::Chunks(list) => Self { data_bytes: list.data_bytes(), ..Self::default() },
        }
    }

    fn of_entry(path: &TreePath, entry: &Entry) -> Self {
        let size = entry.size().unwrap_or(0);
        let is_first_name = entry.link.as_ref().is_none_or(|link| link == path);
        let has_chunk = matches!(entry.content, super::Content::File { chunk: Some(_), .. });
        Self {
            entries: 1,
            logical_bytes: if is_first_name { size } else { 0 },
            data_bytes: if has_chunk { size } else { 0 },
            depth: path.names().count() as u32,
        }
    }
}

/// A child of an inner node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Child {
    /// The first key in it.
    pub key: Key,
    /// Its name.
    pub digest: Digest,
    /// What is in it.
    pub counts: Counts,
}

/// A whole tree: its topmost node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Root {
    /// The name of the topmost node, so of the tree.
    pub digest: Digest,
    /// How many levels are below it.
    pub level: u8,
    /// What is in the tree.
    pub counts: Counts,
}

impl Root {
    /// The tree of nothing: one leaf without items. Its node must be stored like any other;
    /// its bytes are [`EMPTY_NODE`](super::EMPTY_NODE).
    #[must_use]
    pub fn empty() -> Self {
        Self { digest: Digest::of(super::EMPTY_NODE), level: 0, counts: Counts::default() }
    }
}
