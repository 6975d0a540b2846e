//! The changes whose every step and request is made to fail.

/// A change of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Create,
    Snapshot,
    Restore,
    RestorePaths,
    ForkNow,
    ForkEntry,
}

pub(crate) const ACTS: [Act; 6] =
    [Act::Create, Act::Snapshot, Act::Restore, Act::RestorePaths, Act::ForkNow, Act::ForkEntry];
