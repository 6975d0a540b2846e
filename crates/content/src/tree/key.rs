//! Where an item stands in the map.

use std::fmt;
use std::ops::Range;

use cove_types::{NAME_BYTES_MAX, PATH_BYTES_MAX, ParseError, TreePath, escape_bytes};

/// The longest key of an item, in bytes: a top-level name's path has two bytes more, a
/// chunk list nine more.
pub const KEY_BYTES_MAX: usize = PATH_BYTES_MAX + 2 + 9;

/// The place of an item in the map, or a bound between places.
///
/// ```text
/// entry       parent's names joined by 00, 00 00, name
/// chunk list  entry key, 00, offset in the file (8 bytes, big-endian)
/// ```
///
/// Names have no NUL, so keys in byte order have all children of a directory, each
/// directly followed by its chunk lists, in one range; and everything below a directory
/// in one range after that. A bound, as the ranges below have them, need not
/// [`parse`](Self::parse).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Vec<u8>);

/// What a key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyParts {
    /// The entry it is, or whose chunks it lists.
    pub path: TreePath,
    /// The first byte of the file that the chunk list is about; `None` for an entry.
    pub offset: Option<u64>,
}

impl Key {
    /// The key or bound of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, by which keys are ordered.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key of the entry at `path`. The top has no entry: its key is in no tree.
    #[must_use]
    pub fn entry(path: &TreePath) -> Self {
        let parent = path.parent().unwrap_or_default();
        let mut key = Self::children(&parent);
        key.0.extend_from_slice(path.name().unwrap_or_default());
        key
    }

    /// The key of the chunk list of the file at `path` that begins at `offset`.
    #[must_use]
    pub fn chunks(path: &TreePath, offset: u64) -> Self {
        let mut key = Self::entry(path);
        key.0.push(0);
        key.0.extend_from_slice(&offset.to_be_bytes());
        key
    }

    /// The keys of all that is directly in the directory `path`: entries and chunk lists.
    #[must_use]
    pub fn children_range(path: &TreePath) -> Range<Self> {
        let start = Self::children(path);
        let mut end = Self::joined(path);
        end.0.extend_from_slice(&[0, 1]);
        start..end
    }

    /// The keys of all that is below the directory `path`, at any depth. Below the top is
    /// everything.
    #[must_use]
    pub fn subtree_range(path: &TreePath) -> Range<Self> {
        if path.is_top() {
            return Self::all();
        }
        let mut start = Self::joined(path);
        let mut end = start.clone();
        start.0.push(0);
        end.0.push(1);
        start..end
    }

    /// The keys of the entry at `path` and of its chunk lists.
    #[must_use]
    pub fn file_range(path: &TreePath) -> Range<Self> {
        let start = Self::entry(path);
        let mut end = start.clone();
        end.0.push(1);
        start..end
    }

    /// All keys. No name, so no key, begins with 256 bytes of 0xff.
    #[must_use]
    pub fn all() -> Range<Self> {
        Self::default()..Self(vec![0xff; NAME_BYTES_MAX + 1])
    }

    /// Reads what the key says.
    ///
    /// # Errors
    ///
    /// It is not the key of an item, in the one form that an item's key has.
    pub fn parse(&self) -> Result<KeyParts, ParseError> {
        let refused = |why: &str| {
            let shown = escape_bytes(&self.0[..self.0.len().min(120)]);
            ParseError(format!("key \"{shown}\" {why}"))
        };
        let middle = self
            .0
            .windows(2)
            .position(|pair| pair == [0, 0])
            .ok_or_else(|| refused("has no end of a parent"))?;
        let (parent, rest) = (&self.0[..middle], &self.0[middle + 2..]);
        let (name, offset) = match rest.iter().position(|b| *b == 0) {
            None => (rest, None),
            Some(end) => {
                let offset: [u8; 8] = rest[end + 1..]
                    .try_into()
                    .map_err(|_| refused("does not end in an offset of 8 bytes"))?;
                (&rest[..end], Some(u64::from_be_bytes(offset)))
            }
        };
        if parent.contains(&b'/') || name.contains(&b'/') {
            return Err(refused("has a name with a slash"));
        }
        let mut bytes: Vec<u8> = parent.iter().map(|b| if *b == 0 { b'/' } else { *b }).collect();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if bytes.is_empty() {
            return Err(refused("has an empty name"));
        }
        Ok(KeyParts { path: TreePath::from_bytes(&bytes)?, offset })
    }

    /// The names of `path` joined by 00.
    fn joined(path: &TreePath) -> Self {
        Self(path.as_bytes().iter().map(|b| if *b == b'/' { 0 } else { *b }).collect())
    }

    /// What the keys of all children of `path` begin with.
    fn children(path: &TreePath) -> Self {
        let mut key = Self::joined(path);
        key.0.extend_from_slice(&[0, 0]);
        key
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_bytes(&self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

#[cfg(test)]
mod tests;
