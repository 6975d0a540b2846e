//! Entries: named snapshots as records of the head.

use cove_types::{Consistency, EntryId, EntryKind, EntryState, Label, ParseError, escape_bytes};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::DecodeError;
use crate::root::Root;

/// The most entries of a volume, those in the trash included; these give way to others.
pub const ENTRIES_MAX: usize = 256;

/// How long an entry stays in the trash while there is room for it.
pub const TRASH_TIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 1000;

/// The longest author, cause and name of a VolumeSnapshot, in bytes.
pub const TEXT_BYTES_MAX: usize = 200;

/// The cause of a rescue of what a program wrote into files that a restore had replaced.
pub const LATE_WRITES: &str = "late writes";

/// A snapshot: a root with who, when and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// Derived from the operation that made it.
    pub id: EntryId,
    /// Why it was made.
    pub kind: EntryKind,
    /// Who made it.
    pub author: String,
    /// What it was made by, when its kind leaves that open: the entry that was
    /// restored, the branch that was merged, the run of an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What its author said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// Whether retention leaves it alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// The moment that it holds.
    pub time: Timestamp,
    /// Milliseconds until it was on the node.
    pub captured_ms: u64,
    /// Milliseconds until it was in the object store; absent in the head that first
    /// carries it, because that head's PUT is still part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_ms: Option<u64>,
    /// How far its files are of one moment.
    pub consistency: Consistency,
    /// Whether it is in the timeline or in the trash.
    pub state: EntryState,
    /// When it was put in the trash, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trashed_at: Option<Timestamp>,
    /// The Kubernetes VolumeSnapshot that it is: `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_snapshot: Option<String>,
    /// The quota of the volume at that moment, in bytes, which held the files then; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// The state.
    pub root: Root,
    /// Fields that a newer version wrote.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl EntryRecord {
    /// Whether its state counts as kept: it is in the timeline, and goes through the trash before it is gone. One
    /// of kind `csi` is gone at once when a program deletes it.
    #[must_use]
    pub fn keeps_its_state(&self) -> bool {
        self.is_live() && self.kind != EntryKind::Csi
    }

    /// Whether it is in the timeline.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state == EntryState::Live
    }

    /// The least quota that holds its files for sure, in bytes, whatever its volume's is by now: what they take, added
    /// up, or less, where a smaller quota held them, since the file system packs them. `is_known` says whether its root
    /// is; none while nothing is known.
    #[must_use]
    pub fn needs_bytes(&self, is_known: bool) -> Option<u64> {
        let bytes = is_known.then_some(self.root.counts.data_bytes);
        bytes.into_iter().chain(self.quota_bytes).min()
    }

    /// Refuses a record that no head may hold.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] that says why.
    pub fn check(&self) -> Result<(), DecodeError> {
        self.root.check()?;
        check_texts(&self.author, self.cause.as_deref(), self.message.as_deref())
            .and_then(|()| {
                check_text("volume_snapshot", self.volume_snapshot.as_deref(), TEXT_BYTES_MAX)
            })
            .map_err(|ParseError(law)| DecodeError::damaged("entry", format!("its {law}")))
    }
}

/// How many more entries a volume with `entries` (all of them) can take in one change that
/// puts those named in `trash` in the trash: what is there gives way.
///
/// A caller that has to know before it begins adds to `entries` what is still to be saved.
pub fn room<'a>(entries: impl IntoIterator<Item = &'a EntryRecord>, trash: &[EntryId]) -> usize {
    let stays = |entry: &&EntryRecord| entry.is_live() && !trash.contains(&entry.id);
    ENTRIES_MAX.saturating_sub(entries.into_iter().filter(stays).count())
}

/// Refuses texts that no entry may hold: each is bounded, and would act on no terminal.
///
/// # Errors
///
/// The law that is broken, which begins with the name of the field.
pub(crate) fn check_texts(
    author: &str,
    cause: Option<&str>,
    message: Option<&str>,
) -> Result<(), ParseError> {
    check_text("author", Some(author), TEXT_BYTES_MAX)?;
    check_text("cause", cause, TEXT_BYTES_MAX)?;
    check_text("message", message, MESSAGE_BYTES_MAX)
}

/// Refuses text that is too long or would act on a terminal. A line break or tab
/// may be in it.
fn check_text(field: &str, text: Option<&str>, bytes_max: usize) -> Result<(), ParseError> {
    let Some(text) = text else { return Ok(()) };
    if text.len() > bytes_max {
        let bytes = text.len();
        return Err(ParseError(format!("{field} has {bytes} bytes, more than {bytes_max}")));
    }
    if let Some(control) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        let shown = escape_bytes(control.to_string().as_bytes());
        return Err(ParseError(format!("{field} holds \"{shown}\"")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
