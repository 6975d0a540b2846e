//! Who acts on an error, and how.

use std::fmt::Write;

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

/// An error with its causes, on one line, `: ` between them. It may be of any length and hold any byte.
///
/// An error that shows its cause's text as its own (`#[error(transparent)]`) has that cause's causes, so that
/// no text comes twice.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.try_for_each(|cause| write!(text, ": {cause}")).expect("a text takes any other");
    text
}

/// Answers which [`ErrorKind`] an error is.
pub trait Classify {
    /// The kind by which everything above this error decides.
    fn kind(&self) -> ErrorKind;
}
