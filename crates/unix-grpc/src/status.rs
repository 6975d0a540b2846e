//! Errors as the wire has them, and back.

use cove_types::ErrorKind;
use tonic::{Code, Status};

use crate::field::FieldError;

/// The code of a kind.
#[must_use]
pub fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::Precondition => Code::FailedPrecondition,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::TimedOut => Code::DeadlineExceeded,
        ErrorKind::Internal => Code::Internal,
    }
}

/// The kind of a code.
///
/// Codes that our servers do not send come from what is between: after those that leave open whether the call took
/// effect, the same operation id finds out.
#[must_use]
pub fn kind(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::Invalid,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::Aborted => ErrorKind::Conflict,
        Code::FailedPrecondition => ErrorKind::Precondition,
        Code::ResourceExhausted => ErrorKind::Exhausted,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::Corrupt,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Denied,
        Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => ErrorKind::TimedOut,
        Code::Internal | Code::Unimplemented | Code::Ok => ErrorKind::Internal,
    }
}

/// The most bytes of a status's message. It is sent as a header, in which each byte may have three, and one of some
/// kilobytes breaks the connection.
pub const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// A text of at most so many bytes, and a mark where there was more.
#[must_use]
pub fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
    text
}

/// A refusal at the door.
#[must_use]
pub fn refused(error: &FieldError) -> Status {
    Status::invalid_argument(cut(error.to_string(), MESSAGE_BYTES_MAX))
}

/// Why the other side did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// There is no connection, for this reason; nothing was sent.
    Unmade(String),
    /// The connection was lost, or somebody in between gave up.
    Lost,
}

impl Unanswered {
    /// Reads a status that the other side did not send; `None` when it did.
    ///
    /// A status without a source came over the wire. One with a source was made here.
    #[must_use]
    pub fn read(status: &Status) -> Option<Self> {
        let first: &(dyn std::error::Error + 'static) = std::error::Error::source(status)?;
        let mut chain = std::iter::successors(Some(first), |error| error.source());
        let unmade = chain.find_map(|error| error.downcast_ref::<tonic::ConnectError>());
        Some(unmade.map_or(Self::Lost, |error| Self::Unmade(error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ErrorKind; 11] = [
        ErrorKind::Invalid,
        ErrorKind::NotFound,
        ErrorKind::AlreadyExists,
        ErrorKind::Conflict,
        ErrorKind::Precondition,
        ErrorKind::Exhausted,
        ErrorKind::Unavailable,
        ErrorKind::Corrupt,
        ErrorKind::Denied,
        ErrorKind::TimedOut,
        ErrorKind::Internal,
    ];

    #[test]
    fn a_kind_comes_back_from_its_code() {
        for each in KINDS {
            assert_eq!(kind(code(each)), each);
        }
    }

    #[test]
    fn a_text_is_cut_between_two_letters() {
        assert_eq!(cut("ая".into(), 4), "ая");
        assert_eq!(cut("ая".into(), 3), "а…");
        assert_eq!(cut("ая".into(), 0), "…");
        let long = FieldError::unlawful("path", "я".repeat(1350));
        let message = refused(&long).message().to_owned();
        assert!(message.len() <= MESSAGE_BYTES_MAX + '…'.len_utf8(), "{message}");
    }

    #[test]
    fn a_connection_that_broke_off_is_told_from_one_that_was_never_made() {
        let lost = Status::from_error(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        assert_eq!(Unanswered::read(&lost), Some(Unanswered::Lost));
        let unmade = Status::from_error(Box::new(tonic::ConnectError("refused".into())));
        assert_eq!(Unanswered::read(&unmade), Some(Unanswered::Unmade("refused".into())));
        assert_eq!(Unanswered::read(&Status::unavailable("later")), None);
    }
}
