//! Identifiers of 128 bits: operations, sessions, packs and indexes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ParseError;

/// Reads exactly `N` bytes of lower-case hexadecimal digits.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Defines an identifier of 128 bits, written as 32 lower-case hexadecimal digits.
macro_rules! id128 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let refused =
                    || ParseError(concat!($what, " is 32 lower-case hexadecimal digits").into());
                parse_hex::<16>(text).map(Self).ok_or_else(refused)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id128! {
    /// One attempt of a caller to change something, under which it may ask again.
    ///
    /// The first 4 bytes (big-endian) are the `seq` of the head that the caller
    /// had last seen, 0 for a create; the other 12 are random. The same id has
    /// one effect, however often it is sent.
    OperationId, "an operation id"
}

id128! {
    /// One run of storing: its packs carry it.
    SessionId, "a session id"
}

id128! {
    /// A pack. The first 8 bytes are those of its writer's standing pin, the
    /// other 8 are random; a name is never used twice.
    PackId, "a pack id"
}

id128! {
    /// An index object, named at random.
    IndexId, "an index id"
}

impl OperationId {
    /// An operation id of a caller that had last seen `seq`.
    #[must_use]
    pub fn new(seq: u32, random: [u8; 12]) -> Self {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&seq.to_be_bytes());
        bytes[4..].copy_from_slice(&random);
        Self(bytes)
    }

    /// The id of a step that a call takes before its own effect; the same for the same name.
    #[must_use]
    pub fn step(&self, name: &str) -> Self {
        let digest = crate::Digest::of(&[&self.0, name.as_bytes()].concat());
        let mut bytes = self.0;
        bytes[4..].copy_from_slice(&digest.0[..12]);
        Self(bytes)
    }

    /// The same id of a caller that had last seen `seq`.
    #[must_use]
    pub fn with_seq(&self, seq: u32) -> Self {
        let mut bytes = self.0;
        bytes[..4].copy_from_slice(&seq.to_be_bytes());
        Self(bytes)
    }

    /// The other id under which the same may have been done: where a call may be done anew once it is forgotten, a
    /// caller that has seen no head is taken for one that has seen all (`seq` 0 and the greatest). None for others.
    #[must_use]
    pub fn twin(&self) -> Option<Self> {
        match self.seq() {
            0 => Some(self.with_seq(u32::MAX)),
            u32::MAX => Some(self.with_seq(0)),
            _ => None,
        }
    }

    /// The `seq` of the head that the caller had last seen; 0 for a create.
    #[must_use]
    pub fn seq(&self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}
