//! What differs in a snapshot from its ancestor.

use std::io;
use std::ops::Range;

use cove_types::{Classify, ErrorKind};

use crate::{Dir, PoolError, Subvolume, SubvolumePath};

/// What differs in a snapshot from its ancestor. All paths are raw bytes relative to the
/// subvolume's top, which itself is the empty path.
///
/// To turn a listing of the old state into one of the new state: of each old path, look
/// for the longest of its prefixes (whole names; itself included) that is in `gone`. None:
/// it stays where it is. In `moved` too: that prefix is replaced by the new one. Otherwise
/// it is dropped. All old paths speak of the old state and all new ones of the new state,
/// so the order does not matter. Then each of `touched` is read again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Old paths whose subtrees were removed or moved away, in order.
    pub gone: Vec<Vec<u8>>,
    /// Old and new paths of subtrees that moved, in order of the old ones.
    pub moved: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is to be read again, in order of the paths.
    pub touched: Vec<Touched>,
    /// How many bytes of file content that is, at most.
    pub plain_bytes: u64,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.moved.is_empty() && self.touched.is_empty()
    }
}

/// An entry whose metadata is to be read again, and perhaps its content. A file with
/// several names is there under each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Where it is now.
    pub path: Vec<u8>,
    /// Where the same inode was in the old state; `None` when it is new.
    pub origin: Option<Vec<u8>>,
    /// What of its content is to be read again.
    pub content: Content,
}

/// What of a file's content is to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing; always so for what is not a regular file and is not new.
    Same,
    /// These bytes, in order and apart from each other; they may reach beyond the end of
    /// the file. What lies outside is as at `origin`, up to the new size.
    Ranges(Vec<Range<u64>>),
    /// All of it.
    Whole,
}

/// Why the changes between two snapshots are not known.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// The kernel's answer would be silently wrong.
    #[error("{parent} is not an ancestor of {child}")]
    NotAncestor { parent: String, child: String },
    /// The kernel cannot describe the change (a path is too long, for example).
    #[error("the kernel cannot tell what changed from {parent} to {child}")]
    NotSendable { parent: String, child: String, source: io::Error },
    /// What the kernel wrote is not what we know of its format.
    #[error("the stream of changes of {child} is not as expected: {why}")]
    Stream { child: String, why: String },
    /// The pool did not do its part.
    #[error("failed to look up what changed")]
    Pool(#[from] PoolError),
}

impl Classify for ChangesError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAncestor { .. } | Self::NotSendable { .. } => ErrorKind::Precondition,
            Self::Stream { .. } => ErrorKind::Internal,
            Self::Pool(source) => source.kind(),
        }
    }
}

/// The two snapshots that are compared.
pub(crate) struct Sides<'s> {
    pub(crate) parent: &'s SubvolumePath,
    pub(crate) child: &'s SubvolumePath,
    pub(crate) parent_dir: &'s Dir,
    pub(crate) child_dir: &'s Dir,
}

/// Refuses a pair for which the kernel's answer would be silently wrong.
///
/// `parent` is an ancestor when both are snapshots of one live subvolume, `child` is a
/// snapshot of `parent`, or of a live one that is (after a local restore): then an inode
/// number and generation mean the same inode in both. Between forks they do not.
/// `descends(live, ancestor)` says whether the subvolume `live` is a snapshot of `ancestor`.
pub(crate) fn refuse_unrelated(
    (parent, older): (&SubvolumePath, &Subvolume),
    (child, newer): (&SubvolumePath, &Subvolume),
    descends: &dyn Fn([u8; 16], [u8; 16]) -> Result<bool, PoolError>,
) -> Result<(), ChangesError> {
    let is_related = match newer.parent_uuid {
        None => false,
        Some(live) => {
            older.parent_uuid == Some(live)
                || live == older.uuid
                || descends(live, older.uuid)?
        }
    };
    if is_related && older.read_only && newer.read_only {
        return Ok(());
    }
    Err(ChangesError::NotAncestor { parent: parent.to_string(), child: child.to_string() })
}

/// Reads what `send` writes and makes changes of it.
pub(crate) fn read(
    _sides: &Sides<'_>,
    _send: &dyn Fn(&std::os::fd::OwnedFd) -> io::Result<()>,
    _names: &dyn Fn(u64) -> Result<Vec<Vec<u8>>, PoolError>,
) -> Result<Changes, ChangesError> {
    todo!()
}
