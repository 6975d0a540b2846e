//! The name of a project in addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ParseError, escape_bytes};

/// A project's name in addresses and on the command line:
/// `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?` without `--`, so that
/// `<entry>--<port>--<slug>` is one DNS label of at most 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

impl Slug {
    /// The longest slug, in bytes.
    pub const BYTES_MAX: usize = 40;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<self>-<n>`, or `None` when that is too long to be a slug.
    #[must_use]
    pub fn numbered(&self, n: u32) -> Option<Self> {
        format!("{}-{n}", self.0).parse().ok()
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Slug {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let lawful = (1..=Self::BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !text.starts_with('-')
            && !text.ends_with('-')
            && !text.contains("--");
        if !lawful {
            return Err(ParseError(format!(
                "a project's name has 1 to 40 of a-z, 0-9 and single inner -, found \"{}\"",
                escape_bytes(&text.as_bytes()[..text.len().min(80)])
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for Slug {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Slug {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
