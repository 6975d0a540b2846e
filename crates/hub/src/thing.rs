//! What only one call at a time may change.

use std::fmt;

use cove_types::{VolumeId, VolumeName};

use crate::error::shown;

/// What only one call at a time may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Thing {
    /// The name of a volume that is to be made.
    Name(VolumeName),
    /// A volume.
    Volume(VolumeId),
    /// The name of snapshots that are to be made.
    SnapshotName(VolumeName),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "a volume called \"{}\"", shown(name)),
            Self::Volume(volume) => write!(f, "volume {volume}"),
            Self::SnapshotName(name) => write!(f, "a snapshot called \"{}\"", shown(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_snapshot_of_that_name_are_two_things() {
        let name: VolumeName = "x\ny".parse().unwrap();
        assert_ne!(Thing::Name(name.clone()), Thing::SnapshotName(name.clone()));
        assert_eq!(Thing::Name(name).to_string(), "a volume called \"x\\x0ay\"");
    }
}
