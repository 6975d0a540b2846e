//! The node at the other end, and what is said of it when it does not answer.

use std::sync::Arc;

use cove_content::volumes::VolumeError;
use cove_types::{ErrorKind, OperationId};
use cove_unix_grpc::{Unanswered, kind};
use tonic::{Code, Status};

use crate::failure::told;
use crate::field::FieldError;

/// What a call may have done when its connection is lost.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Effect {
    /// Nothing that matters: it may be asked again.
    Nothing,
    /// Something, and nobody remembers.
    Unknown,
    /// What the operation id tells.
    Of(OperationId),
}

/// Where a node is.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Arc<str>);

impl Peer {
    pub(crate) fn at(socket: &std::path::Path) -> Self {
        Self(socket.display().to_string().into())
    }

    /// What the node, or the way to it, answered instead of a reply.
    pub(crate) fn error(&self, effect: Effect, status: &Status) -> VolumeError {
        match Unanswered::read(status) {
            Some(Unanswered::Unmade(why)) => {
                let what = format!("no node answers at {}: {why}", self.0);
                return VolumeError::Refused { kind: ErrorKind::Unavailable, what };
            }
            Some(Unanswered::Lost) => return self.lost(effect),
            None => {}
        }
        if let Some(error) = told(status) {
            return error;
        }
        match status.code() {
            // a node says none of these without details
            Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Unavailable => {
                self.lost(effect)
            }
            Code::Unimplemented => {
                let what = format!("the node at {} does not know this call", self.0);
                VolumeError::Refused { kind: ErrorKind::Internal, what }
            }
            code => VolumeError::Refused { kind: kind(code), what: status.message().to_owned() },
        }
    }

    /// The connection was lost, or what came over it ended too early.
    pub(crate) fn lost(&self, effect: Effect) -> VolumeError {
        let lost = |kind| VolumeError::Refused {
            kind,
            what: format!("the connection to the node at {} was lost", self.0),
        };
        match effect {
            Effect::Nothing => lost(ErrorKind::Unavailable),
            Effect::Unknown => lost(ErrorKind::TimedOut),
            Effect::Of(operation) => VolumeError::Unknown { operation },
        }
    }

    /// A reply that is none.
    pub(crate) fn unlawful(&self, error: &FieldError) -> VolumeError {
        let what = match error {
            FieldError::Missing { field } => {
                format!("the reply of the node at {} has no field \"{field}\"", self.0)
            }
            FieldError::Unlawful { field, law } => {
                format!(
                    "the reply of the node at {} has an unlawful field \"{field}\": {law}",
                    self.0
                )
            }
        };
        VolumeError::Refused { kind: ErrorKind::Internal, what }
    }
}
