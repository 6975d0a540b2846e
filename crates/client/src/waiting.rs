//! Following work that outlives its call.

use std::fmt;
use std::time::Duration;

use cove_types::OperationId;
use cove_types::wire;

/// How far a call is to be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The result is on this node.
    Captured,
    /// The result is in the object store.
    Saved,
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Captured => "captured",
            Self::Saved => "saved",
        })
    }
}

/// How a call is followed.
pub struct Wait<'a> {
    /// Until when.
    pub until: Until,
    /// How long Cove holds each answer back while nothing ends: the pace of `progress`.
    pub pace: Duration,
    /// Hears how far the work is, once per answer that is not the last.
    pub progress: &'a mut (dyn FnMut(&wire::Operation) + Send),
}

/// What a followed call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished<T> {
    /// Its operation id.
    pub operation: OperationId,
    /// Its reply.
    pub reply: T,
}
