//! Names of objects.

use std::fmt;
use std::str::FromStr;

use cove_types::{ParseError, escape_bytes};

/// The name of an object: 1 to 512 bytes of `[a-z0-9./_-]`, in components of 1 to
/// 255 bytes that `/` divides, none of them `.` or `..`.
///
/// A key needs no escaping in a URL, a file name or a log. Keys are ordered by
/// their bytes, as S3 lists them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The most bytes of a key.
    ///
    /// S3 takes 1,024; the rest is left for the prefix of the store.
    pub const BYTES_MAX: usize = 512;

    /// The key that `text` is.
    ///
    /// # Errors
    ///
    /// The text is not a key; the message says why.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let shown = || escape_bytes(&text.as_bytes()[..text.len().min(80)]);
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            return Err(ParseError(format!(
                "an object key has 1 to {} bytes, found {}",
                Self::BYTES_MAX,
                text.len()
            )));
        }
        let is_lawful = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'/' | b'_' | b'-');
        if !text.bytes().all(is_lawful) {
            return Err(ParseError(format!(
                "an object key has a-z, 0-9, '.', '/', '_' and '-' only, found \"{}\"",
                shown()
            )));
        }
        let refused = |part: &str| matches!(part, "" | "." | "..") || part.len() > 255;
        if text.split('/').any(refused) {
            return Err(ParseError(format!(
                "the components of an object key have 1 to 255 bytes and are not . or .., found \"{}\"",
                shown()
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

impl FromStr for Key {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_lower_case_and_has_no_empty_or_dotted_component() {
        for lawful in [
            "store",
            "teams/t-1/packs/0a.b_c",
            "a/.b/..c/d..",
            "x/".repeat(255).trim_end_matches('/'),
        ] {
            assert_eq!(Key::parse(lawful).unwrap().as_str(), lawful);
        }
        let (long, wide) = ("a/".repeat(256) + "a", "a".repeat(256));
        for refused in
            ["", "/a", "a/", "a//b", ".", "a/./b", "../a", "A", "a b", "ä", "a\n", &long, &wide]
        {
            Key::parse(refused).unwrap_err();
        }
    }
}
