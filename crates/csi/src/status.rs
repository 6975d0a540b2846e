//! Why a call is refused, and the code that says so.

use std::io;
use std::path::Path;

use cove_hub::HubError;
use cove_hub::in_flight::Busy;
use cove_types::{Classify, chain};
use cove_unix_grpc::{MESSAGE_BYTES_MAX, code, cut};
use tonic::{Code, Response, Status};

/// What callers are told of an error that only the log explains.
const INTERNAL: &str = "internal error: the log of the driver says more";

/// How much of a caller's text is shown, in bytes. A refusal is sent as a header, and one of some kilobytes breaks
/// the connection.
const SHOWN_BYTES_MAX: usize = 128;

/// How much of a path is shown, in bytes: that of a volume in a pod's directory has some 130.
const PATH_BYTES_MAX: usize = 160;

/// A caller's text on one line, as far as a person reads it.
pub(crate) fn excerpt(text: &str) -> String {
    beginning(text, SHOWN_BYTES_MAX)
}

/// A path on one line, as far as a person reads it.
pub(crate) fn excerpt_path(path: &Path) -> String {
    beginning(&path.to_string_lossy(), PATH_BYTES_MAX)
}

fn beginning(text: &str, bytes_max: usize) -> String {
    let start = &text[..text.floor_char_boundary(bytes_max)];
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{}{more}", start.escape_debug())
}

/// Why a call did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("field \"{field}\" is missing")]
    Missing { field: &'static str },
    /// A field breaks its law.
    #[error("field \"{field}\": {why}")]
    Invalid { field: &'static str, why: String },
    /// There is no such thing, whether its id is well formed or not.
    #[error("{what} does not exist")]
    Unknown { what: String },
    /// The thing is there otherwise than it is asked for.
    #[error("{what}")]
    Exists { what: String },
    #[error("{what}")]
    OutOfRange { what: String },
    /// The caller changes the state first.
    #[error("{what}")]
    Precondition { what: String },
    /// There is no room here; another node may have some.
    #[error("{what}")]
    Exhausted { what: String },
    #[error("another call on {what} is under way")]
    Busy { what: String },
    #[error("field \"starting_token\": the token is none of this list")]
    BadToken,
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("failed to {verb} {path}")]
    Io { verb: &'static str, path: String, source: io::Error },
}

impl From<Busy> for CallError {
    fn from(Busy(what): Busy) -> Self {
        Self::Busy { what }
    }
}

impl CallError {
    /// There is no volume of that id.
    pub(crate) fn no_volume(id: &str) -> Self {
        Self::Unknown { what: format!("volume \"{}\"", excerpt(id)) }
    }

    /// There is no snapshot of that id.
    pub(crate) fn no_snapshot(id: &str) -> Self {
        Self::Unknown { what: format!("snapshot \"{}\"", excerpt(id)) }
    }

    /// The task that did the work has panicked.
    pub(crate) fn broken(error: tokio::task::JoinError) -> Self {
        Self::Io { verb: "end", path: "a call".to_owned(), source: io::Error::other(error) }
    }

    /// Whether what was asked for is not there.
    pub(crate) fn is_absence(&self) -> bool {
        self.code() == Code::NotFound
    }

    /// The code that callers decide by.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Missing { .. } | Self::Invalid { .. } => Code::InvalidArgument,
            Self::Unknown { .. } => Code::NotFound,
            Self::Exists { .. } => Code::AlreadyExists,
            Self::OutOfRange { .. } | Self::Hub(HubError::QuotaOutOfRange { .. }) => {
                Code::OutOfRange
            }
            Self::Precondition { .. } => Code::FailedPrecondition,
            Self::Exhausted { .. } => Code::ResourceExhausted,
            Self::Busy { .. } | Self::BadToken => Code::Aborted,
            Self::Hub(error) => code(error.kind()),
            Self::Io { .. } => Code::Internal,
        }
    }

    /// What the log has: the error with its causes, on one line, as far as a status has room.
    pub(crate) fn text(&self) -> String {
        cut(chain(self), MESSAGE_BYTES_MAX)
    }

    /// What callers are told: the same, unless only the log explains it.
    pub(crate) fn told(&self) -> String {
        match self.code() {
            Code::Internal => INTERNAL.to_owned(),
            _ => self.text(),
        }
    }
}

/// An error stops travelling here, so that here it is logged. Details stay empty, as the interface wants it.
impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let (code, text) = (error.code(), error.text());
        match code {
            Code::Internal => tracing::error!(error = text, "a call failed"),
            Code::DataLoss => tracing::error!(error = text, "a call found damage"),
            _ => tracing::debug!(?code, error = text, "refused a call"),
        }
        Self::new(code, error.told())
    }
}

/// What a call gave, as it is sent.
pub(crate) fn answer<T>(result: Result<T, CallError>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(Status::from)
}

/// A number of bytes as the interface counts them; what is too large for it is the largest.
pub(crate) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use cove_types::ErrorKind;

    use super::*;

    #[test]
    fn an_error_of_the_hub_has_the_code_of_its_kind_and_a_quota_one_of_its_own() {
        for kind in [ErrorKind::Conflict, ErrorKind::Corrupt, ErrorKind::TimedOut] {
            let error = HubError::Remote { kind, message: "why".into() };
            assert_eq!(CallError::from(error).code(), code(kind), "{kind:?}");
        }
        let quota = HubError::QuotaOutOfRange { what: "too small".into() };
        assert_eq!(CallError::from(quota).code(), Code::OutOfRange);
    }

    #[test]
    fn the_text_of_an_internal_error_stays_in_the_log() {
        let error = HubError::Remote { kind: ErrorKind::Internal, message: "secret".into() };
        let status = Status::from(CallError::from(error));
        assert_eq!(status.message(), INTERNAL);
        let kept = Status::from(CallError::no_volume("a\nb"));
        assert_eq!(kept.message(), "volume \"a\\nb\" does not exist");
        assert!(kept.details().is_empty());
    }

    #[test]
    fn of_a_callers_text_the_beginning_is_excerpt() {
        assert_eq!(excerpt("a\n\u{1b}é\"\u{202e}"), "a\\n\\u{1b}é\\\"\\u{202e}");
        assert_eq!(excerpt(&"é".repeat(64)), "é".repeat(64));
        assert_eq!(excerpt(&format!("x{}", "é".repeat(64))), format!("x{}…", "é".repeat(63)));
        let long = CallError::no_volume(&"\n".repeat(20_000));
        assert_eq!(long.to_string(), format!("volume \"{}…\" does not exist", "\\n".repeat(128)));
        let what = "é".repeat(20_000);
        assert_eq!(
            Status::from(CallError::Exists { what }).message(),
            format!("{}…", "é".repeat(512))
        );
    }
}
