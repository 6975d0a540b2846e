//! The project's document: what a workspace is apart from its files.

use cove_types::{Digest, EntryId, ProjectId, Slug};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::DecodeError;
use crate::chunk::CHUNK_BYTES_MAX;
use crate::json::canonical;

/// The longest name of a project, in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// Name, config and graph of a project, as a chunk of canonical JSON that each
/// root names: one snapshot alone is a whole project.
///
/// Config and graph are kept as they are; their laws are those of the domain above.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProjectDocument {
    /// Its identifier, for ever.
    pub id: ProjectId,
    /// What people call it.
    pub name: String,
    /// Its name in addresses.
    pub slug: Slug,
    /// Runtime, idle policy, retention, hooks and the like.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// Containers, connections and browser previews.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub graph: Map<String, Value>,
    /// What it was forked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Fields that a newer version wrote; they are kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What a project was forked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedFrom {
    /// The source.
    pub project: ProjectId,
    /// The entry of it; none when it was the state of the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryId>,
    /// The tree that the fork began with.
    pub tree: Digest,
}

impl ProjectDocument {
    /// The chunk's content.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        canonical(self)
    }

    /// Reads the chunk, whose digest the caller has checked.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is no document, or longer than a chunk may be.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "project document";
        let damaged = |reason: String| DecodeError::damaged(WHAT, reason);
        if bytes.len() > usize::try_from(CHUNK_BYTES_MAX).unwrap_or(usize::MAX) {
            return Err(damaged(format!("it has {} bytes, more than 1 MiB", bytes.len())));
        }
        let document: Self =
            serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if document.name.is_empty() || document.name.len() > NAME_BYTES_MAX {
            return Err(damaged("its name has no or more than 200 bytes".into()));
        }
        if document.encode() != bytes {
            return Err(damaged("it is not canonical JSON".into()));
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests;
