//! Why a pool or a path did not do what it was asked.

use std::io;

use cove_types::{Classify, ErrorKind, TreePath};
use rustix::io::Errno;

use crate::FileKind;

/// Who acts on a failure of the kernel's.
pub(crate) fn kind_of(error: &io::Error) -> ErrorKind {
    match Errno::from_io_error(error) {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::FBIG) => {
            ErrorKind::Exhausted
        }
        Some(Errno::TXTBSY | Errno::NOTEMPTY | Errno::BUSY | Errno::OPNOTSUPP | Errno::XDEV) => {
            ErrorKind::Precondition
        }
        Some(
            Errno::ROFS
            | Errno::IO
            | Errno::NOMEM
            | Errno::AGAIN
            | Errno::INTR
            | Errno::NODEV
            | Errno::NXIO
            | Errno::STALE,
        ) => ErrorKind::Unavailable,
        Some(Errno::NOENT) => ErrorKind::NotFound,
        Some(Errno::EXIST) => ErrorKind::AlreadyExists,
        Some(Errno::PERM | Errno::ACCESS) => ErrorKind::Denied,
        Some(Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::INVAL) => {
            ErrorKind::Invalid
        }
        _ => match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
            io::ErrorKind::Other | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        },
    }
}

/// Why a pool did not do what it was asked.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The kernel refused.
    #[error("failed to {verb} {place}")]
    Io { verb: &'static str, place: String, source: io::Error },
    /// The subvolume asked for is not there.
    #[error("subvolume {place} does not exist")]
    NotFound { place: String },
    /// Something is already where a subvolume was to be made.
    #[error("subvolume {place} exists already")]
    Exists { place: String },
    /// What lies there is not a subvolume.
    #[error("{place} is not a subvolume")]
    NotSubvolume { place: String },
    /// The kernel makes no snapshot while a file of it is swapped to.
    #[error("{place} holds an active swap file, so no snapshot can be made of it")]
    SwapFile { place: String },
    /// A read-only subvolume stays in its directory.
    #[error("subvolume {place} is read-only and cannot move to another directory")]
    ReadOnlyMove { place: String },
    /// The machine lacks what this kind of pool needs.
    #[error("{what}")]
    Missing { what: String },
    /// The host has no room for a pool of that size, or for what it would grow by: of what is free there, so
    /// much stays free.
    #[error(
        "{asked_bytes} bytes do not fit: of {free_bytes} bytes free the host keeps {kept_bytes}"
    )]
    HostFull { asked_bytes: u64, free_bytes: u64, kept_bytes: u64 },
}

impl Classify for PoolError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => kind_of(source),
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::NotSubvolume { .. }
            | Self::SwapFile { .. }
            | Self::ReadOnlyMove { .. }
            | Self::Missing { .. } => ErrorKind::Precondition,
            Self::HostFull { .. } => ErrorKind::Exhausted,
        }
    }
}

/// Why something below a directory was not reached or changed.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// The kernel refused.
    #[error("failed to {verb} \"{path}\"")]
    Io { verb: &'static str, path: TreePath, source: io::Error },
    /// It is there and is something else.
    #[error("\"{path}\" is {}, not {}", found.as_str(), wanted.as_str())]
    Kind { path: TreePath, found: FileKind, wanted: FileKind },
    /// It lies in a nested subvolume or on another mount.
    #[error("\"{path}\" is on another file system or in a nested subvolume")]
    OtherDevice { path: TreePath },
    /// A symbolic link on the way leaves the directory.
    #[error("\"{path}\" leaves its directory through a symbolic link")]
    Escapes { path: TreePath },
    /// The top itself cannot be replaced or removed.
    #[error("the top of a directory cannot be replaced or removed")]
    Top,
}

impl PathError {
    /// Whether it says that nothing is there (or that what should be a directory on the
    /// way is none), as opposed to "could not look".
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let absent = |source: &io::Error| {
            matches!(Errno::from_io_error(source), Some(Errno::NOENT | Errno::NOTDIR))
        };
        matches!(self, Self::Io { source, .. } if absent(source))
    }
}

impl Classify for PathError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => kind_of(source),
            Self::Kind { .. } | Self::OtherDevice { .. } | Self::Top => ErrorKind::Invalid,
            Self::Escapes { .. } => ErrorKind::Denied,
        }
    }
}
