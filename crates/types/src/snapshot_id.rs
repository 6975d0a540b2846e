//! Which entry of which volume.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{EntryId, ParseError, VolumeId, escape_bytes};

/// An entry of any volume, written `<volume>@<entry>`: at most 76 bytes, as a path component and as an id of the
/// Container Storage Interface without escaping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId {
    /// The volume, which may be deleted.
    pub volume: VolumeId,
    /// The entry of it.
    pub entry: EntryId,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.volume, self.entry)
    }
}

impl FromStr for SnapshotId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts = text.split_once('@');
        let parsed = parts.and_then(|(volume, entry)| {
            Some(Self { volume: volume.parse().ok()?, entry: entry.parse().ok()? })
        });
        parsed.ok_or_else(|| {
            let start = &text.as_bytes()[..text.len().min(80)];
            ParseError(format!(
                "a snapshot id is <volume>@<entry>, found \"{}\"",
                escape_bytes(start)
            ))
        })
    }
}

impl Serialize for SnapshotId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id: SnapshotId = "vol-a@abcdefghij23".parse().unwrap();
        assert_eq!((id.volume.as_str(), id.entry.as_str()), ("vol-a", "abcdefghij23"));
        assert_eq!(id.to_string(), "vol-a@abcdefghij23");
        for refused in ["", "vol-a", "@abcdefghij23", "vol-a@", "vol-a@abc", "a@b@abcdefghij23"] {
            assert!(refused.parse::<SnapshotId>().is_err(), "{refused}");
        }
    }
}
