//! Where subvolumes lie in a pool and what the kernel tells of them.

use std::fmt;
use std::str::FromStr;

use cove_types::{OperationId, ParseError, VolumeId};

/// A place for a subvolume in a pool. No other crate spells such a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubvolumePath {
    /// `volumes/<id>`: the writable subvolume that a workspace mounts.
    Volume(VolumeId),
    /// `stored/<volume>.<operation>`: a read-only snapshot, stored or about to be.
    Stored(VolumeId, OperationId),
    /// `incoming/<operation>`: built beside, not yet anybody's.
    Incoming(OperationId),
    /// `trash/<operation>`: swapped out or given up; swept later.
    Trash(OperationId),
}

impl SubvolumePath {
    /// The directories of a pool that hold subvolumes.
    pub(crate) const DIRECTORIES: [&'static str; 4] = ["volumes", "stored", "incoming", "trash"];

    /// The directory of the pool in which this place is.
    pub(crate) fn directory(&self) -> &'static str {
        match self {
            Self::Volume(_) => "volumes",
            Self::Stored(..) => "stored",
            Self::Incoming(_) => "incoming",
            Self::Trash(_) => "trash",
        }
    }

    /// The name in that directory.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Volume(volume) => volume.to_string(),
            Self::Stored(volume, operation) => format!("{volume}.{operation}"),
            Self::Incoming(operation) | Self::Trash(operation) => operation.to_string(),
        }
    }
}

impl fmt::Display for SubvolumePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.directory(), self.name())
    }
}

impl FromStr for SubvolumePath {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refused = || {
            let shown = cove_types::escape_bytes(&text.as_bytes()[..text.len().min(120)]);
            ParseError(format!("\"{shown}\" is not the place of a subvolume in a pool"))
        };
        let (directory, name) = text.split_once('/').ok_or_else(refused)?;
        match directory {
            "volumes" => Ok(Self::Volume(name.parse()?)),
            "stored" => {
                let (volume, operation) = name.split_once('.').ok_or_else(refused)?;
                Ok(Self::Stored(volume.parse()?, operation.parse()?))
            }
            "incoming" => Ok(Self::Incoming(name.parse()?)),
            "trash" => Ok(Self::Trash(name.parse()?)),
            _ => Err(refused()),
        }
    }
}

/// What the kernel tells of a subvolume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subvolume {
    /// The number of its tree, never used twice in a file system.
    pub id: u64,
    /// Its own identity.
    pub uuid: [u8; 16],
    /// The subvolume that it was snapshotted from.
    pub parent_uuid: Option<[u8; 16]>,
    /// The transaction that last changed it, as of the last commit: a dirty page
    /// raises it only once it is written ([`Pool::flush`](crate::Pool::flush) first).
    pub generation: u64,
    /// The transaction that made it.
    pub created_generation: u64,
    /// Whether it refuses writes.
    pub read_only: bool,
}

/// Whether a snapshot takes writes. It is so from its creation on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Refuses writes, and may be the parent or the child of changes.
    ReadOnly,
    /// Takes writes.
    ReadWrite,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_its_text() {
        let volume: VolumeId = "vol-a".parse().unwrap();
        let operation = OperationId([7; 16]);
        for place in [
            SubvolumePath::Volume(volume.clone()),
            SubvolumePath::Stored(volume, operation),
            SubvolumePath::Incoming(operation),
            SubvolumePath::Trash(operation),
        ] {
            assert_eq!(place.to_string().parse::<SubvolumePath>().unwrap(), place);
        }
    }

    #[test]
    fn a_text_that_names_no_place_is_refused() {
        for text in ["", "volumes", "volumes/", "volumes/a/b", "stored/a", "trash/..", "x/a"] {
            assert!(text.parse::<SubvolumePath>().is_err(), "{text}");
        }
    }
}
