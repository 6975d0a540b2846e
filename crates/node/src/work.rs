//! What a volume still owes the object store.
//!
//! Each change of a volume has two halves. The first happens on this node, takes
//! milliseconds and ends with a [`Work`] in the node's database: from then on it
//! is *captured* and survives a crash. The second brings the work to the store in
//! the order in which it was captured, repeats until the store has definitely
//! answered, and ends with the head's change, the answer and the work's removal in
//! one transaction: then it is *saved*.

use cove_content::document::ProjectDocument;
use cove_content::entry::EntryRecord;
use cove_content::spec::{SpecChange, VolumeSpec};
use cove_content::volumes::{EntryEdit, NewVolume};
use cove_types::{Digest, EntryId, ErrorKind, Label, OperationId, VolumeId};
use serde::{Deserialize, Serialize};

/// One captured change, as it stands in the node's database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pending {
    /// The operation.
    pub operation: OperationId,
    /// The generation of the snapshot, which is that of the live subvolume until something changes;
    /// 0 where none was taken.
    #[serde(default)]
    pub generation: u64,
    /// The volume whose head it changes.
    pub volume: VolumeId,
    /// Who asked.
    pub principal: String,
    /// The request's hash.
    pub request: [u8; 8],
    /// Why it cannot be done, once that is certain: what it did is undone, and its failure is to be
    /// written into the head.
    #[serde(default)]
    pub failed: Option<(ErrorKind, String)>,
    /// What is to be done.
    pub work: Work,
}

/// What is to be done in the store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Create the head, then store `stored/<volume>.<operation>`.
    Create {
        /// What the project wrote.
        document: ProjectDocument,
        /// What is asked of the volume.
        #[serde(default)]
        spec: VolumeSpec,
        /// What the import could not take as it was, for the answer.
        remarks: Vec<String>,
    },
    /// Store `stored/<volume>.<operation>`; nobody waits for it.
    Background,
    /// The same, and name it.
    Snapshot {
        /// The entry, its root left empty until it is known.
        entry: EntryDraft,
        /// How many counted entries stay.
        keep: u32,
    },
    /// Change an entry.
    EditEntry {
        /// Which.
        entry: EntryId,
        /// How.
        edit: Edit,
    },
    /// Replace the project document.
    Describe {
        /// What the project wrote.
        document: ProjectDocument,
    },
    /// Change what is asked of the volume.
    Specify {
        /// How.
        change: SpecChange,
        /// What the project is from then on, when that changes with it.
        #[serde(default)]
        document: Option<ProjectDocument>,
    },
    /// Put a tombstone, or a head with the entries that are kept alone; the files are gone already.
    Delete,
    /// Take an entry out of the head.
    RemoveEntry {
        /// Which.
        entry: EntryId,
    },
    /// Move to the trash or back.
    SetTrashed {
        /// Whether to the trash.
        trashed: bool,
    },
    /// Store what was swapped out (`stored/<volume>.<operation>`) and set the head to the entry.
    Restore {
        /// What was gone back to.
        entry: EntryId,
        /// Its tree; of an entry that was not saved then, it is known when this is saved.
        #[serde(default)]
        tree: Option<Digest>,
        /// The entry for the state before.
        before: EntryDraft,
        /// The entry that the state before is already, as far as was known when it was swapped out.
        #[serde(default)]
        before_is: Option<EntryId>,
        /// How many counted entries stay.
        keep: u32,
        /// The new subvolume's uuid: whether the swap has happened.
        uuid: [u8; 16],
        /// The snapshot of which what was swapped out is a successor, and its tree.
        base_before: Option<(OperationId, Digest)>,
        /// Whether the swap is done and written down.
        #[serde(default)]
        done: bool,
    },
    /// Go back to parts of an entry: `stored/<volume>.<operation>` is the state before.
    RestorePaths {
        /// What was gone back to.
        entry: EntryId,
        /// The paths from the project's root.
        paths: Vec<Vec<u8>>,
        /// The inode that waits to come in for each path, `None` where nothing is to be there.
        #[serde(default)]
        inodes: Vec<Option<u64>>,
        /// Whether they are in their places: after that they are the user's again.
        #[serde(default)]
        done: bool,
        /// The entry for the state before.
        before: EntryDraft,
        /// How many counted entries stay.
        keep: u32,
    },
    /// Store `stored/<volume>.<operation>` (for a fork of now) and create the heads of the targets.
    Fork {
        /// The entry forked from; `None` for the present state.
        entry: Option<EntryId>,
        /// Whether the copies hold no more than the entry's tree. Of what was not saved then, that is
        /// not known before.
        #[serde(default)]
        is_exact: bool,
        /// What is created.
        targets: Vec<NewVolume>,
        /// Whether their subvolumes are there.
        #[serde(default)]
        done: bool,
    },
    /// Name what was written into a subvolume that a restore had swapped out.
    Rescue {
        /// The entry; replaced when it is there already.
        entry: EntryDraft,
    },
}

impl Work {
    /// What the project is from then on, when it changes that.
    #[must_use]
    pub fn document(&self) -> Option<&ProjectDocument> {
        match self {
            Self::Describe { document } => Some(document),
            Self::Specify { document, .. } => document.as_ref(),
            _ => None,
        }
    }

    /// Whether it changes no more of its volume than the head: the files are as captured as they were before it. A
    /// fork of now has a snapshot of its own, and of what is deleted there are no files.
    #[must_use]
    pub fn is_of_head_alone(&self) -> bool {
        match self {
            Self::EditEntry { .. }
            | Self::Describe { .. }
            | Self::Specify { .. }
            | Self::RemoveEntry { .. }
            | Self::SetTrashed { .. } => true,
            Self::Fork { entry, .. } => entry.is_some(),
            Self::Create { .. }
            | Self::Background
            | Self::Snapshot { .. }
            | Self::Delete
            | Self::Restore { .. }
            | Self::RestorePaths { .. }
            | Self::Rescue { .. } => false,
        }
    }

    /// The word for it in the head and the log.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Background => "background",
            Self::Snapshot { .. } => "snapshot",
            Self::EditEntry { .. } => "edit_entry",
            Self::Describe { .. } => "describe",
            Self::Specify { .. } => "specify",
            Self::Delete => "delete",
            Self::RemoveEntry { .. } => "remove_entry",
            Self::SetTrashed { .. } => "set_trashed",
            Self::Restore { .. } => "restore",
            Self::RestorePaths { .. } => "restore_paths",
            Self::Fork { .. } => "fork",
            Self::Rescue { .. } => "rescue",
        }
    }
}

/// [`EntryEdit`] as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Sets the pin.
    Pin(bool),
    /// Sets or takes the label.
    Label(Option<Label>),
    /// Moves it to the trash.
    Trash,
    /// Brings it back.
    Undelete {
        /// How many counted entries stay.
        keep: u32,
    },
}

impl From<EntryEdit> for Edit {
    fn from(edit: EntryEdit) -> Self {
        match edit {
            EntryEdit::Pin(pin) => Self::Pin(pin),
            EntryEdit::Label(label) => Self::Label(label),
            EntryEdit::Trash => Self::Trash,
            EntryEdit::Undelete { keep } => Self::Undelete { keep },
        }
    }
}

/// An entry before its content is known.
pub type EntryDraft = EntryRecord;
