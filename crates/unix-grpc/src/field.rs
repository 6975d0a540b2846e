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

/// The first second of year 1, where instants of the wire begin (`google/protobuf/timestamp.proto`).
const FIRST_SECOND: i64 = -62_135_596_800;

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
    let lawful = seconds >= FIRST_SECOND && (0..1_000_000_000).contains(&nanos);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_of_the_years_1_to_9999() {
        let read = |seconds, nanos| {
            optional_instant("at", Some(prost_types::Timestamp { seconds, nanos }))
        };
        assert_eq!(optional_instant("at", None), Ok(None));
        for (seconds, nanos, expected) in [
            (FIRST_SECOND, 0, "0001-01-01T00:00:00Z"),
            (-1, 750_000_000, "1969-12-31T23:59:59.75Z"),
            (253_402_207_199, 999_999_999, "9999-12-30T21:59:59.999999999Z"),
        ] {
            let found = read(seconds, nanos).unwrap().unwrap();
            assert_eq!(found.to_string(), expected);
            assert_eq!(wire_instant(found), prost_types::Timestamp { seconds, nanos });
        }
        for (seconds, nanos) in [
            (FIRST_SECOND - 1, 999_999_999),
            (i64::MIN, 0),
            (i64::MAX, 0),
            (0, -1),
            (0, 1_000_000_000),
        ] {
            let refused = read(seconds, nanos).unwrap_err().to_string();
            assert_eq!(refused, "field \"at\": an instant is of the years 1 to 9999");
        }
    }
}
