//! Writing a tree as a tar stream.

use std::io::{self, Write};

use cove_btrfs::{Dir, PathError};
use cove_types::{Classify, ErrorKind, TreePath};

/// What is not packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Directories to leave out with everything below, as device and inode: Cove's own
    /// home or store.
    pub leave_out: Vec<(u64, u64)>,
    /// Whether sockets are kept, as a marker that only our own reader knows.
    pub sockets: bool,
}

/// Why a tree was not packed to its end.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The names in the archive cannot begin so.
    #[error("\"{name}\" cannot be the first name in an archive")]
    Name { name: String },
    /// The tree did not let itself be read.
    #[error("failed to pack \"{path}\"")]
    Source { path: TreePath, source: PathError },
    /// Whoever takes the stream went away.
    #[error("failed to write the archive")]
    Stream { source: io::Error },
}

impl Classify for PackError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } => ErrorKind::Invalid,
            Self::Source { source, .. } => source.kind(),
            Self::Stream { .. } => ErrorKind::Unavailable,
        }
    }
}

pub fn pack(
    dir: &Dir,
    at: &TreePath,
    name: &[u8],
    to: &mut dyn Write,
    options: &PackOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<Vec<String>, PackError> {
    todo!()
}
