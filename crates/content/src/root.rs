//! Roots: what a state is, in one digest.

use cove_types::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::DecodeError;
use crate::decode::check_features;
use crate::json::{canonical, is_zero};
use crate::tree;
pub use crate::tree::Counts;

/// The most paths that a root lists itself.
pub const NOT_CAPTURED_LISTED_MAX: usize = 20;

/// The most bytes that this list takes as JSON: a root is in a head as often as
/// the head has entries.
pub const NOT_CAPTURED_LIST_BYTES_MAX: usize = 512;

/// The features that this version knows: none.
const KNOWN_FEATURES: u64 = 0;

/// A state of a workspace: its tree, its project's document and where it came from.
///
/// Its canonical bytes are its canonical JSON ([`canonical`]), unknown fields
/// included; its name is their BLAKE3. Where the chunks lie is no part of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// The topmost node of the tree.
    pub tree: Digest,
    /// How many levels of nodes are below it.
    #[serde(default, skip_serializing_if = "is_leaf")]
    pub level: u8,
    /// What the tree holds.
    pub counts: Counts,
    /// What it does not hold.
    #[serde(default, skip_serializing_if = "NotCaptured::is_empty")]
    pub not_captured: NotCaptured,
    /// The chunk of the project's document.
    pub document: Digest,
    /// The roots that it descends from: none for a new volume, two after a merge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Digest>,
    /// Features that a reader has to know.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub must: u64,
    /// Features that a reader may ignore.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub may: u64,
    /// Fields that a newer version wrote; they are kept and named by the digest.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What a tree cannot hold and does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCaptured {
    /// How many paths in all.
    pub count: u64,
    /// The first of them; see [`NotCaptured::new`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<NotCapturedPath>,
    /// The chunk that lists all, when `list` does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Digest>,
}

/// One path that a tree does not hold, or holds without a part. In JSON `[path, what]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "(String, String)", into = "(String, String)")]
pub struct NotCapturedPath {
    /// The path, escaped.
    pub path: String,
    /// What is missing: `nested subvolume`, `device`, `setuid bit`, …
    pub what: String,
}

impl From<(String, String)> for NotCapturedPath {
    fn from((path, what): (String, String)) -> Self {
        Self { path, what }
    }
}

impl From<NotCapturedPath> for (String, String) {
    fn from(path: NotCapturedPath) -> Self {
        (path.path, path.what)
    }
}

impl NotCaptured {
    /// Whether everything was captured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The record of `paths`, and the content of the chunk that lists all of them
    /// when the record itself cannot.
    ///
    /// The paths are sorted first, so that one state gives one record. The list of all has, in
    /// order, those that fit into 1 MiB; the count is always exact.
    #[must_use]
    pub fn new(mut paths: Vec<NotCapturedPath>) -> (Self, Option<Vec<u8>>) {
        paths.sort_unstable();
        paths.dedup();
        let count = paths.len() as u64;
        // one that is too long leaves room for those after it
        let fitting = |bytes_max: usize, count_max: usize| -> Vec<NotCapturedPath> {
            let mut bytes = 1;
            let fits = |path: &&NotCapturedPath| {
                let with = bytes + canonical(path).len() + 1;
                let fits = with <= bytes_max;
                bytes = if fits { with } else { bytes };
                fits
            };
            paths.iter().filter(fits).take(count_max).cloned().collect()
        };
        let list = fitting(NOT_CAPTURED_LIST_BYTES_MAX, NOT_CAPTURED_LISTED_MAX);
        if list.len() == paths.len() {
            return (Self { count, list: paths, all: None }, None);
        }
        let chunk_max = usize::try_from(crate::chunk::CHUNK_BYTES_MAX).unwrap_or(usize::MAX);
        let chunk = canonical(&fitting(chunk_max, usize::MAX));
        (Self { count, list, all: Some(Digest::of(&chunk)) }, Some(chunk))
    }

    /// Reads the chunk that lists all.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is no list of paths.
    pub fn decode_all(chunk: &[u8]) -> Result<Vec<NotCapturedPath>, DecodeError> {
        serde_json::from_slice(chunk).map_err(|error| {
            DecodeError::damaged("list of what is not captured", error.to_string())
        })
    }
}

fn is_leaf(level: &u8) -> bool {
    *level == 0
}

impl Root {
    /// The state of `tree` with the project's document, that descends from `parents`.
    #[must_use]
    pub fn new(
        tree: &tree::Root,
        not_captured: NotCaptured,
        document: Digest,
        parents: Vec<Digest>,
    ) -> Self {
        Self {
            tree: tree.digest,
            level: tree.level,
            counts: tree.counts,
            not_captured,
            document,
            parents,
            must: 0,
            may: 0,
            unknown: Map::new(),
        }
    }

    /// The tree, as `tree` takes it.
    #[must_use]
    pub fn tree_root(&self) -> tree::Root {
        tree::Root { digest: self.tree, level: self.level, counts: self.counts }
    }

    /// The bytes that its digest is taken over.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        canonical(self)
    }

    /// Its name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.canonical_bytes())
    }

    /// Refuses a root that this version must not touch, or that is unlawful.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] that says why.
    pub fn check(&self) -> Result<(), DecodeError> {
        check_features("root", self.must, KNOWN_FEATURES)?;
        let listed = &self.not_captured.list;
        let lawful = self.parents.len() <= 2
            && listed.len() <= NOT_CAPTURED_LISTED_MAX
            && canonical(listed).len() <= NOT_CAPTURED_LIST_BYTES_MAX
            && listed.len() as u64 <= self.not_captured.count;
        match lawful {
            true => Ok(()),
            false => Err(DecodeError::damaged("root", "a list is longer than is lawful")),
        }
    }
}

#[cfg(test)]
mod tests;
