//! Identifiers that are text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ParseError;
use crate::operation::OperationId;

/// Defines an identifier: text of 1 to 63 bytes over `[a-z0-9-]` that begins
/// with a letter or digit, so that it is a path component, a component of an object's key
/// and a Kubernetes label value without escaping.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let lawful = (1..=63).contains(&text.len())
                    && !text.starts_with('-')
                    && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
                if !lawful {
                    return Err(ParseError(format!(
                        concat!($what, " has 1 to 63 of a-z, 0-9 and -, found \"{}\""),
                        crate::escape_bytes(&text.as_bytes()[..text.len().min(80)])
                    )));
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
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

id! {
    /// A volume: one workspace's bytes, their identity and history.
    ///
    /// The volume keeps its identifier when it moves between nodes and when it
    /// is restored from the object store.
    VolumeId, "a volume id"
}

id! {
    /// A project: what its workspace, containers and config belong to.
    ProjectId, "a project id"
}

id! {
    /// A node: one machine with a pool.
    NodeId, "a node id"
}

id! {
    /// A team: whose objects lie together under `teams/<team>/`.
    TeamId, "a team id"
}

id! {
    /// The holder of a store: the one Cove that may write there.
    StoreHolderId, "a store holder id"
}

/// The digits of base32 in lower case (RFC 4648 §6).
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The first `digits` base32 digits of `bytes`; 5 bits each.
pub(crate) fn base32(bytes: &[u8], digits: usize) -> String {
    let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    (0..digits)
        .map(|digit| (0..5).fold(0u8, |value, n| value << 1 | bit(digit * 5 + n)))
        .map(|value| char::from(BASE32[usize::from(value)]))
        .collect()
}

/// 120 bits that follow from who asked and the operation id, as 24 base32 digits.
fn derived(context: &str, principal: &str, operation: &OperationId, ordinal: u32) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&operation.0);
    hasher.update(&ordinal.to_be_bytes());
    hasher.update(principal.as_bytes());
    base32(hasher.finalize().as_bytes(), 24)
}

impl VolumeId {
    /// The volume that `operation` of `principal` creates as its `ordinal`-th (from 0).
    ///
    /// A repetition of the operation finds what the first attempt made.
    #[must_use]
    pub fn derive(principal: &str, operation: &OperationId, ordinal: u32) -> Self {
        Self(format!("vol-{}", derived("cove 2026 volume id", principal, operation, ordinal)))
    }

    /// The volume that is made from what the packs of `lost` record of it at `epoch` and `seq`.
    ///
    /// Whoever makes it again finds what the first attempt made, and
    /// [`rebuilt_from`](Self::rebuilt_from) tells by the names alone that it was made.
    #[must_use]
    pub fn rebuilt(lost: &Self, epoch: u64, seq: u32) -> Self {
        Self(format!("{}{epoch:x}-{seq:x}", lost.prefix_of_rebuilt()))
    }

    /// The epoch and seq of `lost` from which this volume was made; `None` when it was not made
    /// from that volume.
    #[must_use]
    pub fn rebuilt_from(&self, lost: &Self) -> Option<(u64, u32)> {
        let rest = self.0.strip_prefix(&lost.prefix_of_rebuilt())?;
        let (epoch, seq) = rest.split_once('-')?;
        let (epoch, seq) =
            (u64::from_str_radix(epoch, 16).ok()?, u32::from_str_radix(seq, 16).ok()?);
        (*self == Self::rebuilt(lost, epoch, seq)).then_some((epoch, seq))
    }

    fn prefix_of_rebuilt(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("cove 2026 rebuilt volume id");
        hasher.update(self.0.as_bytes());
        format!("vol-{}-", base32(hasher.finalize().as_bytes(), 24))
    }
}

impl ProjectId {
    /// The project that `operation` of `principal` creates as its `ordinal`-th (from 0).
    #[must_use]
    pub fn derive(principal: &str, operation: &OperationId, ordinal: u32) -> Self {
        Self(format!("prj-{}", derived("cove 2026 project id", principal, operation, ordinal)))
    }

    /// The project of a volume that was made from the packs of a lost one.
    #[must_use]
    pub fn of_rebuilt(volume: &VolumeId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("cove 2026 rebuilt project id");
        hasher.update(volume.0.as_bytes());
        Self(format!("prj-{}", base32(hasher.finalize().as_bytes(), 24)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuilt_volume_tells_by_its_name_what_it_was_made_from() {
        let lost: VolumeId = "vol-lost".parse().unwrap();
        let other: VolumeId = "vol-other".parse().unwrap();
        for (epoch, seq) in [(1, 1), (3, 0x1f), (u64::MAX, u32::MAX)] {
            let rebuilt = VolumeId::rebuilt(&lost, epoch, seq);
            assert_eq!(rebuilt.as_str().parse(), Ok(rebuilt.clone()), "it is lawful");
            assert_eq!(rebuilt.rebuilt_from(&lost), Some((epoch, seq)));
            assert_eq!(rebuilt.rebuilt_from(&other), None);
            let padded = rebuilt.as_str().replacen('-', "-0", 3);
            let padded: VolumeId = padded.parse().unwrap();
            assert_eq!(padded.rebuilt_from(&lost), None, "one state has one name");
        }
        assert_eq!(lost.rebuilt_from(&lost), None);
    }
}
