//! Who acts on an error, and how.

use serde::{Deserialize, Serialize};

/// What kind of failure an error is: who acts on it and whether a repetition can help.
///
/// Everything above an error decides by this and by nothing else; each transport
/// maps it to its own codes in one `match` without `_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The caller changes the request.
    Invalid,
    /// The caller names another thing.
    NotFound,
    /// The caller picks another name.
    AlreadyExists,
    /// The caller reads again and repeats at once, a few times.
    Conflict,
    /// The caller changes the state first.
    Precondition,
    /// The operator makes room; repeat slowly.
    Exhausted,
    /// Nobody acts: wait and repeat with backoff.
    Unavailable,
    /// The operator repairs; nothing repeats.
    Corrupt,
    /// The caller gets rights.
    Denied,
    /// The caller asks again with the same operation id.
    TimedOut,
    /// We read the log.
    Internal,
}

/// Answers which [`ErrorKind`] an error is.
pub trait Classify {
    /// The kind by which everything above this error decides.
    fn kind(&self) -> ErrorKind;
}
