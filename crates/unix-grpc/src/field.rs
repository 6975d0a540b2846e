//! The fields of a message, one by one, and what is wrong with one.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;

/// Why a message is refused.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The field is not there, or empty where it may not be.
    #[error("field \"{field}\" is missing")]
    Missing { field: String },
    /// The field breaks its law.
    #[error("field \"{field}\": {law}")]
    Unlawful { field: String, law: String },
}

impl FieldError {
    /// The field is not there.
    #[must_use]
    pub fn missing(field: &str) -> Self {
        Self::Missing { field: field.to_owned() }
    }

    /// The field breaks this law.
    pub fn unlawful(field: &str, law: impl Display) -> Self {
        Self::Unlawful { field: field.to_owned(), law: law.to_string() }
    }

    /// The same of a message that is itself the field `outer`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Missing { field } => Self::Missing { field: format!("{outer}.{field}") },
            Self::Unlawful { field, law } => {
                Self::Unlawful { field: format!("{outer}.{field}"), law }
            }
        }
    }
}

/// A text that has to be there.
pub fn required<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, FieldError> {
    optional(field, text)?.ok_or_else(|| FieldError::missing(field))
}

/// A text that is empty when there is none.
pub fn optional<T: FromStr<Err: Display>>(
    field: &str,
    text: &str,
) -> Result<Option<T>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|law| FieldError::unlawful(field, law))
}

/// A text of whatever kind that has to be there.
pub fn text(field: &str, text: String) -> Result<String, FieldError> {
    if text.is_empty() { Err(FieldError::missing(field)) } else { Ok(text) }
}

/// A message that has to be there.
pub fn message<M, T: TryFrom<M, Error = FieldError>>(
    field: &str,
    message: Option<M>,
) -> Result<T, FieldError> {
    optional_message(field, message)?.ok_or_else(|| FieldError::missing(field))
}

/// A message that may be absent.
pub fn optional_message<M, T: TryFrom<M, Error = FieldError>>(
    field: &str,
    message: Option<M>,
) -> Result<Option<T>, FieldError> {
    message.map(T::try_from).transpose().map_err(|error| error.within(field))
}

/// An instant that has to be there.
pub fn instant(
    field: &str,
    instant: Option<prost_types::Timestamp>,
) -> Result<Timestamp, FieldError> {
    optional_instant(field, instant)?.ok_or_else(|| FieldError::missing(field))
}

/// An instant that may be absent.
pub fn optional_instant(
    field: &str,
    instant: Option<prost_types::Timestamp>,
) -> Result<Option<Timestamp>, FieldError> {
    let Some(prost_types::Timestamp { seconds, nanos }) = instant else { return Ok(None) };
    let lawful = (0..1_000_000_000).contains(&nanos);
    let parsed = lawful.then(|| Timestamp::new(seconds, nanos).ok()).flatten();
    let unlawful = || FieldError::unlawful(field, "an instant is of the years 1 to 9999");
    parsed.map(Some).ok_or_else(unlawful)
}

/// An instant as the wire has it: the nanoseconds count forward, before 1970 too.
#[must_use]
pub fn wire_instant(instant: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (instant.as_second(), instant.subsec_nanosecond());
    let borrow = nanos < 0;
    prost_types::Timestamp {
        seconds: seconds - i64::from(borrow),
        nanos: if borrow { nanos + 1_000_000_000 } else { nanos },
    }
}

/// An absolute directory; empty when there is none.
pub fn optional_path(field: &str, text: &str) -> Result<Option<PathBuf>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(text);
    let unlawful = || FieldError::unlawful(field, "a directory is absolute");
    if path.is_absolute() { Ok(Some(path)) } else { Err(unlawful()) }
}

/// An absolute directory that has to be there.
pub fn path(field: &str, text: &str) -> Result<PathBuf, FieldError> {
    optional_path(field, text)?.ok_or_else(|| FieldError::missing(field))
}

/// A path as the wire has it: text, so one that is not UTF-8 cannot be told.
pub fn wire_path(field: &str, path: &Path) -> Result<String, FieldError> {
    let unlawful = || FieldError::unlawful(field, "the directory is not UTF-8");
    path.to_str().map(ToOwned::to_owned).ok_or_else(unlawful)
}
