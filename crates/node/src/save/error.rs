//! Why work was not saved.

use cove_content::head::TransitionError;
use cove_content::volumes::VolumeError;
use cove_types::{Classify, ErrorKind, chain};

/// Why work was not saved.
#[derive(Debug)]
pub(crate) enum SaveError {
    /// It cannot take effect, and no request of it can any more.
    Refused { kind: ErrorKind, what: String },
    /// Not now: it is tried again.
    Later { kind: ErrorKind, what: String },
    /// The volume has another owner.
    Fenced { what: String },
}

impl SaveError {
    /// Tried again, for a cause of its own kind.
    pub fn later(what: &str, error: &(impl std::error::Error + Classify)) -> Self {
        Self::Later { kind: error.kind(), what: format!("{what}: {}", chain(error)) }
    }

    /// As whoever asks for something is told.
    pub fn for_caller(self) -> VolumeError {
        match self {
            Self::Refused { kind, what } | Self::Later { kind, what } => {
                VolumeError::Refused { kind, what }
            }
            Self::Fenced { what } => VolumeError::Refused { kind: ErrorKind::Precondition, what },
        }
    }
}

impl From<TransitionError> for SaveError {
    fn from(error: TransitionError) -> Self {
        match error {
            TransitionError::OlderNotJoined { .. } | TransitionError::NotADescendant { .. } => {
                Self::Later { kind: error.kind(), what: error.to_string() }
            }
            _ => Self::Refused { kind: error.kind(), what: error.to_string() },
        }
    }
}
