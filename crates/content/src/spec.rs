//! What was asked of a volume as such, apart from its files and from its project.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use cove_types::{EntryId, ParseError, VolumeId, VolumeName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::head::RequestHash;
use crate::json::canonical;
use crate::retention::KEEP_MAX;

/// The most labels, and the most parameters, that a volume has.
pub const LABELS_MAX: usize = 64;

/// The longest key and the longest value of a label or a parameter, in bytes.
pub const LABEL_BYTES_MAX: usize = 63;

/// The most that labels and parameters have together, in bytes of their keys and values.
pub const LABELS_BYTES_MAX: usize = 1 << 10;

/// The longest spec, in bytes of its JSON without fields that a newer version wrote: with it a head that has the
/// most of all else is not too long.
pub const SPEC_BYTES_MAX: usize = 2 << 10;

/// The quotas that a volume can have, in bytes: below 1 MiB there is no room for its directories, and of what is
/// near 2⁶⁴ the file system takes it to limit nothing.
pub const QUOTA_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 60;

/// Looks whether a volume can have a quota of so many bytes.
///
/// # Errors
///
/// It is none of [`QUOTA_BYTES`].
pub fn check_quota_bytes(bytes: u64) -> Result<(), ParseError> {
    match QUOTA_BYTES.contains(&bytes) {
        true => Ok(()),
        false => Err(ParseError(format!("a quota is 1 MiB to 1 EiB, found {bytes} bytes"))),
    }
}

/// The parameter that says after how many seconds what has changed is stored: [`STORING_INTERVAL_SECONDS`].
pub const STORING_INTERVAL: &str = "storingInterval";

/// The storing intervals that a volume can have.
pub const STORING_INTERVAL_SECONDS: RangeInclusive<u32> = 1..=86_400;

/// The parameter that says how many counted entries of the timeline stay: 1 to [`KEEP_MAX`].
pub const RETENTION: &str = "retention";

/// What the name of a service is, whose data lies in a directory of its own.
pub const SERVICE_LAW: &str =
    "a service's name has 1 to 40 of a-z, 0-9 and -, and begins with a letter or digit";

/// Whether a text is the name of a service: [`SERVICE_LAW`].
#[must_use]
pub fn is_service(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// What a volume was asked to be. Part of its head; no root and no entry names it (ADR 0018).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// What it is called; none when it was made as a project's workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<VolumeName>,
    /// The most bytes that may be written to it, one of [`QUOTA_BYTES`]; none when nothing limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// What whoever made it wants to find again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How it is kept, as far as that can change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// What it began as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SpecSource>,
    /// What tells a repetition of the call that made it from another call of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<RequestHash>,
    /// No project's workspace yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stands_alone: bool,
    /// Fields that a newer version wrote; they are kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What a volume began as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpecSource {
    /// Another volume, as it was at the moment.
    Volume(VolumeId),
    /// An entry of one.
    Snapshot(VolumeId, EntryId),
}

/// What changes of a [`VolumeSpec`]; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecChange {
    /// The quota, or none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "twice")]
    pub quota_bytes: Option<Option<u64>>,
    /// All labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// These parameters; the others stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// It becomes a project's workspace, or is none's again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_alone: Option<bool>,
}

/// `null` as a value of its own, beside absence.
mod twice {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(
        value: &Option<Option<u64>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.flatten().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<u64>>, D::Error> {
        Option::deserialize(deserializer).map(Some)
    }
}

impl VolumeSpec {
    /// Whether nothing was asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The spec with a change.
    #[must_use]
    pub fn changed(&self, change: &SpecChange) -> Self {
        let mut next = self.clone();
        if let Some(quota_bytes) = change.quota_bytes {
            next.quota_bytes = quota_bytes;
        }
        if let Some(labels) = &change.labels {
            next.labels.clone_from(labels);
        }
        next.parameters.extend(change.parameters.clone());
        if let Some(stands_alone) = change.stands_alone {
            next.stands_alone = stands_alone;
        }
        next
    }

    /// After how long what has changed is stored, where that was asked for.
    #[must_use]
    pub fn storing_interval(&self) -> Option<Duration> {
        self.number(STORING_INTERVAL, &STORING_INTERVAL_SECONDS)
            .map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// How many counted entries stay, where that was asked for.
    #[must_use]
    pub fn retention(&self) -> Option<u32> {
        self.number(RETENTION, &(1..=KEEP_MAX))
    }

    /// The value of a parameter; none where it is none of its law, as a newer version may have written it.
    fn number(&self, key: &str, law: &RangeInclusive<u32>) -> Option<u32> {
        self.parameters.get(key)?.parse().ok().filter(|number| law.contains(number))
    }

    /// Looks at its laws.
    ///
    /// # Errors
    ///
    /// The law that it breaks, in words for whoever asked for it.
    pub fn check(&self) -> Result<(), ParseError> {
        let unlawful = |reason: String| Err(ParseError(reason));
        self.quota_bytes.map_or(Ok(()), check_quota_bytes)?;
        let mut bytes = 0;
        for (what, map) in [("labels", &self.labels), ("parameters", &self.parameters)] {
            if map.len() > LABELS_MAX {
                return unlawful(format!("a volume has at most {LABELS_MAX} {what}"));
            }
            for (key, value) in map {
                if key.is_empty() || key.len().max(value.len()) > LABEL_BYTES_MAX {
                    return unlawful(format!(
                        "keys of {what} have 1 to {LABEL_BYTES_MAX} bytes, their values at most as many"
                    ));
                }
                if [key, value].iter().any(|text| text.chars().any(char::is_control)) {
                    return unlawful(format!("{what} have no control characters"));
                }
                bytes += key.len() + value.len();
            }
        }
        if bytes > LABELS_BYTES_MAX {
            return unlawful(format!(
                "labels and parameters have {bytes} bytes together, more than {LABELS_BYTES_MAX}"
            ));
        }
        let known = Self { unknown: Map::new(), ..self.clone() };
        let bytes = known.encode().len();
        if bytes > SPEC_BYTES_MAX {
            return unlawful(format!(
                "name, labels and parameters have {bytes} bytes as JSON, more than {SPEC_BYTES_MAX}"
            ));
        }
        Ok(())
    }

    /// Its canonical JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        canonical(self)
    }
}

#[cfg(test)]
mod tests;
