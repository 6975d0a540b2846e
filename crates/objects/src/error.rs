//! What reads and writes fail with.

use std::error::Error;

use cove_types::{Classify, ErrorKind};

/// Why an object was not read.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store itself said that there is no such object, and nothing else did.
    #[error("object {key} does not exist")]
    NotFound { key: String },
    /// No definite answer came; whether the object exists is not known.
    #[error("failed to read object {key}")]
    Unknown { key: String, source: Box<dyn Error + Send + Sync> },
    /// The store does not let us read it.
    #[error("the store does not allow reading object {key}")]
    Denied { key: String, source: Box<dyn Error + Send + Sync> },
    /// The object is there and is shorter than what was asked for.
    #[error("object {key} ends at byte {size}, before the end {end} of what was asked for")]
    Cut { key: String, size: u64, end: u64 },
    /// The object is there and is longer than any that may be there.
    #[error("object {key} has {size} bytes, more than the {bytes_max} that are possible")]
    TooLong { key: String, size: u64, bytes_max: u64 },
}

impl Classify for ReadError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Unknown { .. } => ErrorKind::Unavailable,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Cut { .. } | Self::TooLong { .. } => ErrorKind::Corrupt,
        }
    }
}

/// Why it is not known that a write took effect, or is known that it did not.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// No definite answer came. The write may have taken effect, or may still do so.
    #[error("the store did not say whether object {key} was written")]
    Unknown { key: String, source: Box<dyn Error + Send + Sync> },
    /// The store does not let us write it; nothing was written.
    #[error("the store does not allow writing object {key}")]
    Denied { key: String, source: Box<dyn Error + Send + Sync> },
    /// There is no room for it; nothing was written.
    #[error("the store has no room for object {key}")]
    Exhausted { key: String, source: Box<dyn Error + Send + Sync> },
    /// A name that is used once is used already, and not by this write: nothing was written.
    #[error("object {key} is there already, under a name that is used once")]
    NameIsUsed { key: String },
}

impl Classify for WriteError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } => ErrorKind::Unavailable,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Exhausted { .. } => ErrorKind::Exhausted,
            Self::NameIsUsed { .. } => ErrorKind::AlreadyExists,
        }
    }
}

/// Why a store could not be opened.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings contradict themselves or name no store.
    #[error("the settings of object store {store} are not usable")]
    Settings { store: String, source: Box<dyn Error + Send + Sync> },
    /// The directory cannot be made, locked or written.
    #[error("failed to open the object directory {directory}")]
    Directory { directory: String, source: std::io::Error },
    /// A store was here, and now there is none: its disk is not mounted, most likely.
    #[error("object directory {directory} is empty or away, and a store was there")]
    Gone { directory: String },
}

impl Classify for OpenError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Settings { .. } => ErrorKind::Invalid,
            Self::Gone { .. } => ErrorKind::Unavailable,
            Self::Directory { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    ErrorKind::Exhausted
                }
                std::io::ErrorKind::NotADirectory => ErrorKind::Invalid,
                _ => ErrorKind::Unavailable,
            },
        }
    }
}
