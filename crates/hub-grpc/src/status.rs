//! Errors as the wire has them, and back.

use cove_hub::HubError;
use cove_types::{Classify, ErrorKind, chain};
use cove_unix_grpc::{MESSAGE_BYTES_MAX, Unanswered, code, cut, kind};
use tonic::{Code, Status};

use crate::field::FieldError;

/// What a caller is told of an error of `rpc`; what is internal goes to the log instead.
pub(crate) fn status(rpc: &'static str, error: &HubError) -> Status {
    let text = chain(&error);
    let told = |code, text| Status::new(code, cut(text, MESSAGE_BYTES_MAX));
    if let HubError::QuotaOutOfRange { .. } = error {
        return told(Code::OutOfRange, text);
    }
    match error.kind() {
        ErrorKind::Internal => internal(rpc, &text),
        ErrorKind::Corrupt => {
            tracing::error!(rpc, error = text, "a call found damage");
            told(Code::DataLoss, text)
        }
        kind => {
            tracing::debug!(rpc, error = text, ?kind, "a call was refused");
            told(code(kind), text)
        }
    }
}

/// Logs what happened and says as little as possible.
pub(crate) fn internal(rpc: &'static str, error: &str) -> Status {
    tracing::error!(rpc, error, "a call failed");
    Status::internal("internal error")
}

/// What a call may have done when its connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing that matters: it may be asked again.
    Nothing,
    /// What its operation id tells.
    OfOperation,
}

impl Effect {
    /// The kind of an error, of which one leaves open what happened.
    fn kind(self, kind: ErrorKind) -> ErrorKind {
        match (self, kind) {
            (Self::Nothing, ErrorKind::TimedOut) => ErrorKind::Unavailable,
            (_, kind) => kind,
        }
    }
}

/// What the Hub, or the way to it, answered instead of a reply.
///
/// A status without a source came over the wire. One with a source was made here: the connection could not be
/// made, and nothing was sent, or it broke off.
pub(crate) fn hub_error(at: &str, effect: Effect, status: &Status) -> HubError {
    if let Some(unanswered) = Unanswered::read(status) {
        return match unanswered {
            Unanswered::Unmade(why) => HubError::Remote {
                kind: ErrorKind::Unavailable,
                message: format!("no hub answers at {at}: {why}"),
            },
            Unanswered::Lost => HubError::Remote {
                kind: effect.kind(ErrorKind::TimedOut),
                message: format!("the connection to the hub at {at} was lost"),
            },
        };
    }
    let message = status.message().to_owned();
    if status.code() == Code::OutOfRange {
        return HubError::QuotaOutOfRange { what: message };
    }
    HubError::Remote { kind: effect.kind(kind(status.code())), message }
}

/// A reply that is none.
pub(crate) fn unlawful_reply(error: &FieldError) -> HubError {
    let message = match error {
        FieldError::Missing { field } => format!("the reply of the hub has no field \"{field}\""),
        FieldError::Unlawful { field, law } => {
            format!("the reply of the hub has an unlawful field \"{field}\": {law}")
        }
    };
    HubError::Remote { kind: ErrorKind::Internal, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_broke_off_leaves_open_what_happened() {
        let lost = Status::from_error(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        assert_eq!(hub_error("s", Effect::OfOperation, &lost).kind(), ErrorKind::TimedOut);
        assert_eq!(hub_error("s", Effect::Nothing, &lost).kind(), ErrorKind::Unavailable);
        let given_up = Status::cancelled("by whoever is in between");
        assert_eq!(hub_error("s", Effect::OfOperation, &given_up).kind(), ErrorKind::TimedOut);
        assert_eq!(hub_error("s", Effect::Nothing, &given_up).kind(), ErrorKind::Unavailable);
        let unmade = tonic::ConnectError("refused".into());
        let unmade = hub_error("s", Effect::OfOperation, &Status::from_error(Box::new(unmade)));
        assert_eq!(unmade.kind(), ErrorKind::Unavailable);
        assert_eq!(unmade.to_string(), "no hub answers at s: refused");
    }
}
