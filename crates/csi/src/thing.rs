//! What only one call at a time works on.

use std::fmt;
use std::path::PathBuf;

use cove_types::VolumeId;

use crate::status::excerpt_path;

/// What only one call at a time works on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// A volume.
    Volume(VolumeId),
    /// A place where something is mounted, as its path is without links.
    Point(PathBuf),
}

impl From<&VolumeId> for Thing {
    fn from(volume: &VolumeId) -> Self {
        Self::Volume(volume.clone())
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(volume) => write!(f, "volume {volume}"),
            Self::Point(path) => f.write_str(&excerpt_path(path)),
        }
    }
}
