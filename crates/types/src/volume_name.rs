//! What a volume is called by whoever made it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ParseError, escape_bytes};

/// The name that a volume or a snapshot was asked for under: 1 to 128 bytes of UTF-8, without control
/// characters but tab, line feed and carriage return. It is a key to find it by and never a path.
///
/// Source: `CreateVolumeRequest.name` of the Container Storage Interface 1.12, "Size Limits" for the bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeName(String);

impl VolumeName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VolumeName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.is_empty() || text.len() > Self::BYTES_MAX {
            let bytes = text.len();
            return Err(ParseError(format!("a name has 1 to 128 bytes, found {bytes}")));
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
            return Err(ParseError(format!(
                "a name has no control characters, found \"{}\"",
                escape_bytes(text.as_bytes())
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for VolumeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for VolumeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_text_of_128_bytes_at_most() {
        let longest = "é".repeat(64);
        for lawful in ["x", "pvc 1/../2", "a\tb\nc\r", longest.as_str(), "名"] {
            assert_eq!(lawful.parse::<VolumeName>().unwrap().as_str(), lawful);
        }
        let long = "é".repeat(64) + "x";
        for refused in ["", long.as_str(), "a\0", "\u{7f}", "\u{85}", "\u{1b}[2J"] {
            assert!(refused.parse::<VolumeName>().is_err(), "{refused:?}");
        }
    }
}
