//! Why a call was not answered as asked.

use std::io;

use cove_types::wire::ProblemDetails;
use cove_types::{Classify, ErrorKind};

/// Why a call failed.
///
/// After [`Lost`](Self::Lost) it may have taken effect; every other variant tells.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Cove refused, with its reason.
    #[error("{}", .0.detail)]
    Problem(Box<ProblemDetails>),
    /// Nobody listens there, so nothing was asked.
    #[error("no Cove is running at {at}")]
    Unreachable { at: String, source: io::Error },
    /// The socket is another user's.
    #[error("{at} may not be opened")]
    Forbidden { at: String, source: io::Error },
    /// The connection ended before the answer.
    #[error("the connection to {at} ended before the answer")]
    Lost { at: String, source: Box<dyn std::error::Error + Send + Sync + 'static> },
    /// Cove ended before the project that a stream was sent for was made.
    #[error("the Cove at {at} was stopped before the project was made")]
    Stopped { at: String },
    /// The answer is not one of this API.
    #[error("the answer to {call} is not one of this API: {what}")]
    Protocol { call: String, what: String },
    /// The address is none that can be called.
    #[error("{what}")]
    Address { what: String },
}

impl ClientError {
    /// What Cove said of the answer whose reading gave this error, wherever in its chain it is.
    #[must_use]
    pub fn find_problem<'e>(
        error: &'e (dyn std::error::Error + 'static),
    ) -> Option<&'e ProblemDetails> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| {
            match error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()? {
                Self::Problem(problem) => Some(&**problem),
                _ => None,
            }
        })
    }

    /// What Cove proposes to do.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => problem.hint.as_deref(),
            _ => None,
        }
    }
}

impl Classify for ClientError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Problem(problem) => problem.kind,
            Self::Unreachable { .. } | Self::Stopped { .. } => ErrorKind::Unavailable,
            Self::Forbidden { .. } => ErrorKind::Denied,
            Self::Lost { .. } => ErrorKind::TimedOut,
            Self::Protocol { .. } => ErrorKind::Internal,
            Self::Address { .. } => ErrorKind::Invalid,
        }
    }
}
