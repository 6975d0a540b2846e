//! Making a tree of a tar stream.

use std::io::{self, Read};

use cove_btrfs::{Dir, PathError};
use cove_types::{Classify, ErrorKind, TreePath};

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries, with extended headers counted as such.
    pub entries: u64,
    /// Bytes of all files together, holes included.
    pub bytes: u64,
    /// Names in a path, from the archive's top.
    pub depth: usize,
}

/// How a tree is made of an archive.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// Who owns all of it; whoever extracts, when absent. The archive's owners never count.
    pub owner: Option<(u32, u32)>,
    /// How much it may hold.
    pub limits: Limits,
    /// Refuses an archive one of whose top names is there already. Else it merges as `docker cp`
    /// does.
    pub new_names_only: bool,
}

/// What came out of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// The first names in the archive, below the path extracted at, in the order met.
    pub files: Vec<TreePath>,
    /// How many entries were made.
    pub entries: u64,
    /// Bytes of all files together, holes included.
    pub bytes: u64,
    /// What was not taken as it is.
    pub remarks: Vec<String>,
}

/// Why an archive was not extracted to its end.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The archive is broken, hostile or over a limit; names are escaped.
    #[error("the archive is refused at \"{entry}\": {why}")]
    Refused { entry: String, why: String },
    /// A directory would replace something else, or something else a directory.
    #[error("\"{path}\" is {found} and cannot be replaced by {wanted}")]
    Conflict { path: TreePath, found: &'static str, wanted: &'static str },
    /// A top name is there already and was to be new.
    #[error("\"{path}\" exists already")]
    Exists { path: TreePath },
    /// The stream could not be read further.
    #[error("failed to read the archive")]
    Stream { source: io::Error },
    /// The tree could not be written.
    #[error("failed to extract \"{path}\"")]
    Target { path: TreePath, source: PathError },
}

impl Classify for ExtractError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::Invalid,
            Self::Conflict { .. } => ErrorKind::Precondition,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Stream { .. } => ErrorKind::Unavailable,
            Self::Target { source, .. } => source.kind(),
        }
    }
}

pub fn extract(
    tar: &mut dyn Read,
    dir: &Dir,
    at: &TreePath,
    options: &ExtractOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<Extracted, ExtractError> {
    todo!()
}
