//! Snapshots as the entries of a timeline.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::operation::OperationId;
use crate::{ParseError, escape_bytes, id::base32};

/// A timeline entry: 12 digits of lower-case base32 (60 bits), derived from the
/// operation id, so that an entry that is there already is that operation's success.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId([u8; 12]);

impl EntryId {
    /// The number of digits.
    pub const DIGITS: usize = 12;

    /// The entry that `operation` makes for `purpose` (one operation may make two,
    /// such as the state before a restore).
    #[must_use]
    pub fn derive(operation: &OperationId, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("cove 2026 entry id");
        hasher.update(&operation.0);
        hasher.update(purpose.as_bytes());
        let text = base32(hasher.finalize().as_bytes(), Self::DIGITS);
        let mut digits = [0; Self::DIGITS];
        digits.copy_from_slice(text.as_bytes());
        Self(digits)
    }

    /// The 12 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an entry id holds base32 digits only")
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryId({self})")
    }
}

impl FromStr for EntryId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let digits: Option<[u8; Self::DIGITS]> = text.as_bytes().try_into().ok();
        match digits {
            Some(digits) if digits.iter().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')) => {
                Ok(Self(digits))
            }
            _ => Err(ParseError("an entry id is 12 of a-z and 2-7".into())),
        }
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EntryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Why an entry was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Somebody asked for it.
    Manual,
    /// The project was hibernated.
    Hibernation,
    /// The project was published.
    Publish,
    /// The state that a restore replaced.
    BeforeRestore,
    /// The state that a merge replaced.
    BeforeMerge,
    /// What was written where no head would have held it.
    Rescue,
    /// The graph was edited.
    Graph,
    /// A lockfile or dependency manifest changed.
    Dependencies,
    /// Many files changed.
    Files,
    /// An agent's work ended.
    Agent,
    /// An app was installed.
    Install,
    /// Made through the container storage interface; not counted by retention.
    Csi,
}

impl EntryKind {
    /// Whether somebody asked for it or it marks a major event; what `~n` counts.
    #[must_use]
    pub fn is_asked_for(self) -> bool {
        matches!(self, Self::Manual | Self::Hibernation | Self::Publish)
    }

    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Hibernation => "hibernation",
            Self::Publish => "publish",
            Self::BeforeRestore => "before-restore",
            Self::BeforeMerge => "before-merge",
            Self::Rescue => "rescue",
            Self::Graph => "graph",
            Self::Dependencies => "dependencies",
            Self::Files => "files",
            Self::Agent => "agent",
            Self::Install => "install",
            Self::Csi => "csi",
        }
    }
}

/// How far the files of an entry are of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// One instant, as after a power cut.
    Instant,
    /// The supervised processes were frozen meanwhile.
    Frozen,
    /// Files were written while they were read.
    NotOneInstant,
}

/// Where an entry or a state is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// In the object store, acknowledged.
    Saved,
    /// On this node only.
    OnThisNode,
}

/// Whether an entry is in the timeline or in the trash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// In the timeline.
    Live,
    /// Rolled off or removed; comes back by `undelete`.
    Trashed,
}

/// A name that a person gives an entry: 1 to 64 of `[A-Za-z0-9._-]`, not `now`;
/// unique among the live entries of a project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Label {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let lawful = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !lawful {
            return Err(ParseError(format!(
                "a label has 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', found \"{}\"",
                escape_bytes(&text.as_bytes()[..text.len().min(80)])
            )));
        }
        if text == "now" {
            return Err(ParseError("\"now\" names the present state and cannot be a label".into()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A moment of a project, as a person writes it after `@`.
///
/// A text can be an id, a prefix and a label at once; which entry it means is
/// decided against the timeline, where an ambiguous one is refused with its candidates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum At {
    /// The present state.
    Now,
    /// `~n`: the n-th newest entry that somebody asked for, from 1.
    Newest(u32),
    /// An entry id, a unique prefix of one (3 characters or more), or a label.
    Named(String),
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now => f.write_str("now"),
            Self::Newest(n) => write!(f, "~{n}"),
            Self::Named(text) => f.write_str(text),
        }
    }
}

impl FromStr for At {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "now" {
            return Ok(Self::Now);
        }
        if let Some(number) = text.strip_prefix('~') {
            let number = number.parse::<u32>().ok().filter(|n| *n >= 1);
            return number
                .map(Self::Newest)
                .ok_or_else(|| ParseError("after ~ comes a number from 1".into()));
        }
        let lawful = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !lawful {
            return Err(ParseError(format!(
                "after @ comes now, an entry id, a label or ~n, found \"{}\"",
                escape_bytes(&text.as_bytes()[..text.len().min(80)])
            )));
        }
        Ok(Self::Named(text.to_owned()))
    }
}
