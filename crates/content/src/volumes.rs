//! The one door through which everything above reaches volumes.
//!
//! A node implements [`Volumes`] for the volumes that it holds, in process.
//! Projects, names and people are unknown here: a volume carries a
//! [`ProjectDocument`] that it keeps and returns unread.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io::{Cursor, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use cove_types::wire;
use cove_types::{
    Classify, Durability, EntryId, EntryKind, ErrorKind, FileTime, Label, OperationId, ParseError,
    Slug, TreePath, VolumeId, VolumeName,
};
use serde::{Deserialize, Serialize};

use crate::document::ProjectDocument;
use crate::entry::{EntryRecord, check_texts};
use crate::head::check_described;
use crate::spec::{SpecChange, VolumeSpec};

/// The most volumes that one fork makes.
pub const FORKS_MAX: u32 = 100;

/// The most volumes of which entries of one instant are made.
pub const TOGETHER_MAX: usize = 64;

/// Who asks for what, under which id it may ask again.
#[derive(Debug, Clone)]
pub struct Call {
    /// The operation id.
    pub operation: OperationId,
    /// Who asks.
    pub principal: String,
    /// The first 8 bytes of the BLAKE3 of the canonical request: the same id with another
    /// request is refused.
    pub request: [u8; 8],
    /// Where to say how far it is.
    pub progress: Progress,
}

/// How far an operation is; written by who works, read by who shows it. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<wire::Progress>>);

impl Progress {
    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut wire::Progress)) {
        if let Ok(mut progress) = self.0.lock() {
            change(&mut progress);
        }
    }

    /// Names the step and begins its counts anew.
    pub fn step(&self, step: &str) {
        self.update(|progress| {
            *progress = wire::Progress { step: step.to_owned(), ..wire::Progress::default() };
        });
    }

    /// How far it is now.
    #[must_use]
    pub fn look(&self) -> wire::Progress {
        self.0.lock().map(|progress| progress.clone()).unwrap_or_default()
    }
}

/// What is on this node already and on its way to the object store.
///
/// Dropping it, or the future inside, stops nothing.
pub struct Captured<T> {
    /// The result, as far as it is known on this node.
    pub value: T,
    /// Ends when it is saved, with the final result, or when that has definitely failed.
    pub saved: Saving<T>,
}

/// The end of saving.
pub type Saving<T> = Pin<Box<dyn Future<Output = Result<T, VolumeError>> + Send>>;

/// A state of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// What is on disk at this moment.
    Now,
    /// What an entry holds.
    Entry(EntryId),
}

/// What a new volume begins with.
pub enum Source {
    /// Nothing.
    Empty,
    /// A tar stream, extracted as `files/`. Refused or broken, it leaves no volume.
    Archive(Box<dyn Read + Send>),
}

/// A volume that is to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewVolume {
    /// Its id, which must be derived from the call.
    pub volume: VolumeId,
    /// What its project is, or would be.
    pub document: ProjectDocument,
    /// What is asked of it.
    #[serde(default, skip_serializing_if = "VolumeSpec::is_empty")]
    pub spec: VolumeSpec,
}

impl NewVolume {
    /// Refuses what no head can hold.
    ///
    /// # Errors
    ///
    /// The law that is broken, in words for whoever asked for it.
    pub fn check(&self) -> Result<(), ParseError> {
        self.spec.check()?;
        check_described(&self.document, &self.spec)
    }
}

/// A snapshot that somebody asks for.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Why.
    pub kind: EntryKind,
    /// Who, at most 200 bytes. This text, the message and the cause have no control characters but line breaks and
    /// tabs.
    pub author: String,
    /// At most 1,000 bytes.
    pub message: Option<String>,
    /// Its name; refused when another live entry has it.
    pub label: Option<Label>,
    /// What it was made by; of snapshots of one instant, the id that they have together. At most 200 bytes.
    pub cause: Option<String>,
    /// How many counted entries stay, 1 to 200, unless the volume's own parameter says otherwise, here and wherever
    /// else entries come.
    pub keep: u32,
}

impl NewEntry {
    /// Refuses texts that no head can hold.
    ///
    /// # Errors
    ///
    /// The law that is broken, which begins with the name of the field.
    pub fn check(&self) -> Result<(), ParseError> {
        check_texts(&self.author, self.cause.as_deref(), self.message.as_deref())
    }
}

/// An entry as this node knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct EntryView {
    /// The record; its root is absent until the content is known.
    pub record: EntryRecord,
    /// Whether the record has a root (false while it is only captured).
    pub known: bool,
    /// Where it is safe.
    pub durability: Durability,
}

impl EntryView {
    /// Whether it is live, of kind `csi`, and has this message.
    #[must_use]
    pub fn is_asked_for(&self, message: &str) -> bool {
        let record = &self.record;
        record.kind == EntryKind::Csi
            && record.is_live()
            && record.message.as_deref() == Some(message)
    }
}

/// What a snapshot made.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The entry.
    pub entry: EntryView,
    /// What retention moved to the trash for it.
    pub rolled_off: Vec<EntryView>,
}

/// A change of an entry that is no change of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryEdit {
    /// Sets whether retention leaves it alone.
    Pin(bool),
    /// Gives or takes its name.
    Label(Option<Label>),
    /// Moves it to the trash.
    Trash,
    /// Brings it back from the trash; pinned, when it would be over the number `keep`.
    Undelete {
        /// How many counted entries stay.
        keep: u32,
    },
}

/// What a restore does.
#[derive(Debug, Clone)]
pub struct Restore {
    /// What to go back to.
    pub entry: EntryId,
    /// Only these paths (from the project's root), exactly; the whole workspace when empty.
    pub paths: Vec<TreePath>,
    /// Goes on although programs have files open for writing, or, of the whole, have them mounted.
    pub force: bool,
    /// Who restores, as [`NewEntry::author`].
    pub author: String,
    /// How many counted entries stay.
    pub keep: u32,
}

impl Restore {
    /// Refuses texts that no head can hold.
    ///
    /// # Errors
    ///
    /// As [`NewEntry::check`].
    pub fn check(&self) -> Result<(), ParseError> {
        check_texts(&self.author, None, None)
    }
}

/// What a restore made.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// The entry that holds the state before: a new one, or one that held it already; absent when it is
    /// not known here.
    pub before: Option<EntryView>,
}

/// A volume as this node knows it. Costs no request and no walk.
#[derive(Debug, Clone)]
pub struct VolumeStatus {
    /// The volume.
    pub volume: VolumeId,
    /// What its project wrote last.
    pub document: ProjectDocument,
    /// What is asked of it.
    pub spec: VolumeSpec,
    /// Counts owners; 0 while it has no head yet.
    pub epoch: u64,
    /// The head's sequence number.
    pub seq: u32,
    /// The directory of the project's files, when a copy is here.
    pub path: Option<PathBuf>,
    /// Whether it is deleted, and has entries of kind `csi` that are kept alone.
    pub is_deleted: bool,
    /// Whether it lies in the trash, and since when.
    pub trashed_at: Option<jiff::Timestamp>,
    /// When its state was last saved.
    pub saved_at: Option<jiff::Timestamp>,
    /// Whether the head is the present state, as of the last look.
    pub durability: Durability,
    /// Plain bytes changed since the last commit, as of the last look.
    pub unsaved_bytes: Option<u64>,
    /// Sizes.
    pub bytes: wire::Bytes,
    /// How many live entries it has.
    pub entries: u32,
    /// How many more, live or in the trash, nobody can read: the list of them is lost or damaged.
    pub unread_entries: u32,
    /// What its tree does not hold.
    pub not_captured: Vec<wire::NotCaptured>,
    /// How many paths that are in all.
    pub not_captured_count: u64,
    /// What is wrong.
    pub problems: Vec<wire::Problem>,
    /// `reachable`, `unreachable`, `held_by_another` or `unknown`.
    pub store: String,
}

/// Which volumes are looked for: those that meet any of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeFilter {
    /// Those of these ids.
    pub ids: BTreeSet<VolumeId>,
    /// Those that were asked for under one of these names, or whose project's slug is one.
    pub names: BTreeSet<String>,
}

impl VolumeFilter {
    /// Whether it takes in a volume that was asked for under this name, and whose project's slug is this.
    #[must_use]
    pub fn includes(&self, volume: &VolumeId, name: Option<&VolumeName>, slug: &Slug) -> bool {
        self.ids.contains(volume)
            || name.is_some_and(|name| self.names.contains(name.as_str()))
            || self.names.contains(slug.as_str())
    }
}

/// Room on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Free for new files, in bytes; of a pool in a file, with what that can still grow by.
    pub available_bytes: u64,
    /// In all, in bytes.
    pub total_bytes: u64,
}

/// A file, as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// From the project's root.
    pub path: TreePath,
    /// `file`, `directory`, `symlink`, `fifo`, `socket` or `device`.
    pub kind: &'static str,
    /// Its size.
    pub bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// When it was modified.
    pub modified: FileTime,
    /// Where a symlink points.
    pub target: Option<Vec<u8>>,
}

/// A change of files at the present state; durable on the node when it returns.
pub enum FileEdit {
    /// Replaces a file by a stream, with the old file's mode, else 0644.
    Put(TreePath, Box<dyn Read + Send>),
    /// Makes a directory and those above it.
    MakeDirectory(TreePath),
    /// Removes a path; a directory that is not empty only when `recursive`.
    Remove {
        /// What.
        path: TreePath,
        /// With everything below.
        recursive: bool,
    },
    /// Moves a path; an existing file at the target is replaced, a directory is not.
    Move {
        /// From here.
        from: TreePath,
        /// To here.
        to: TreePath,
    },
    /// Extracts a tar stream below a directory, merging directories.
    Extract(TreePath, Box<dyn Read + Send>),
}

/// What a file edit did.
#[derive(Debug, Clone, Default)]
pub struct Edited {
    /// What is there now, or what was removed.
    pub files: Vec<FileView>,
    /// What was not taken as it is.
    pub remarks: Vec<String>,
}

/// What `verify` found in one volume.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// What is wrong.
    pub problems: Vec<wire::VerifyProblem>,
    /// What was looked at.
    pub checked: wire::Checked,
}

/// How deep `verify` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyLevel {
    /// Heads, entries and roots parse and agree.
    Agree,
    /// Every digest is in the locations with the right size.
    Located,
    /// The `part`-th of `of` parts of the packs is read and checked.
    Read {
        /// Which part, from 1.
        part: u32,
        /// Of how many.
        of: u32,
    },
}

/// What taking over a store gave.
pub struct Recovered {
    /// The volumes that are here now.
    pub volumes: Vec<VolumeStatus>,
    /// What is not.
    pub lost: Vec<wire::Lost>,
    /// The look for volumes whose heads are lost.
    pub rest: LookingForLost,
}

impl fmt::Debug for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volumes, lost, rest: _ } = self;
        f.debug_struct("Recovered").field("volumes", volumes).field("lost", lost).finish()
    }
}

/// The look for volumes whose heads are lost, which may take long. Nobody looks before this is awaited; what
/// came back is here and can be used meanwhile, and stays when this is dropped.
pub type LookingForLost = Pin<Box<dyn Future<Output = Result<FoundLost, VolumeError>> + Send>>;

/// What a look for volumes whose heads are lost gave.
#[derive(Debug, Clone, Default)]
pub struct FoundLost {
    /// The volumes that are here now and were not before.
    pub volumes: Vec<VolumeStatus>,
    /// What is not.
    pub lost: Vec<wire::Lost>,
    /// Which of these volumes had lost their heads.
    pub rebuilt: Vec<Rebuilt>,
}

/// A volume whose head was lost: made from what the packs of another record, or its own head put again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// The other one, which is left as it is; the volume itself where its head was put again.
    pub lost: VolumeId,
    /// The volume.
    pub volume: VolumeId,
    /// When the record was written that it was made from.
    pub recorded_at: jiff::Timestamp,
}

/// Bytes of a file, in order.
pub enum FileReader {
    /// All of them: of a short file, or a short part, they are read with it.
    Whole(Cursor<Bytes>),
    /// To be read.
    Stream(Box<dyn Read + Send>),
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Whole(bytes) => bytes.read(buffer),
            Self::Stream(stream) => stream.read(buffer),
        }
    }
}

/// The volumes of this node.
///
/// Each call on one volume waits for the ones before it; calls on different
/// volumes do not wait for each other. A call with a [`Call`] takes effect at most
/// once for its operation id, whatever fails, and a repetition gives the first result.
#[async_trait]
pub trait Volumes: Send + Sync + 'static {
    /// Makes a volume. Its quota holds for what `source` brings, too.
    async fn create(
        &self,
        call: Call,
        new: NewVolume,
        source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError>;

    /// Makes new volumes that begin at one moment of `source`; all or none. The source goes on
    /// being written meanwhile. `document.forked_from.tree` is filled in here. At most [`FORKS_MAX`].
    async fn fork(
        &self,
        call: Call,
        source: VolumeId,
        moment: Moment,
        targets: Vec<NewVolume>,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError>;

    /// Makes an entry of the present state.
    async fn snapshot(
        &self,
        call: Call,
        volume: VolumeId,
        entry: NewEntry,
    ) -> Result<Captured<Snapshot>, VolumeError>;

    /// Goes back to an entry and keeps the state before as another. Unless it is forced, one of the whole is refused
    /// while the volume's files are mounted in the node's mount namespace, and each while they are open for writing.
    async fn restore(
        &self,
        call: Call,
        volume: VolumeId,
        restore: Restore,
    ) -> Result<Captured<Restored>, VolumeError>;

    /// Changes an entry's pin, label or place. Returns when saved.
    async fn edit_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
        edit: EntryEdit,
    ) -> Result<EntryView, VolumeError>;

    /// Replaces the project document (a rename). Returns when saved.
    async fn describe(
        &self,
        call: Call,
        volume: VolumeId,
        document: ProjectDocument,
    ) -> Result<VolumeStatus, VolumeError>;

    /// Changes what is asked of a volume; with a document, what its project is, in the same step. A quota holds
    /// when this returns, and so does the rest when it is saved. A quota below what is charged already
    /// refuses writes and takes nothing away.
    async fn specify(
        &self,
        call: Call,
        volume: VolumeId,
        change: SpecChange,
        document: Option<ProjectDocument>,
    ) -> Result<Captured<VolumeStatus>, VolumeError>;

    /// Moves a volume to the trash or back. Returns when saved. To the trash goes none whose files are mounted in the
    /// node's mount namespace.
    async fn set_trashed(
        &self,
        call: Call,
        volume: VolumeId,
        trashed: bool,
    ) -> Result<VolumeStatus, VolumeError>;

    /// Deletes a volume for ever, without the trash: its files, and all entries but those of kind `csi`, which stay
    /// in a head that is in no list of volumes but the one of [`list`](Self::list). Once this returns nobody
    /// reaches its files; its head is gone when it is saved. What was not saved goes with it.
    ///
    /// One of which only entries are left is success, and so is a call that has deleted its volume before. One of which
    /// nothing is left is not here for any other call. One whose files are mounted in the node's mount namespace, or
    /// swapped to, is refused.
    async fn delete(&self, call: Call, volume: VolumeId) -> Result<Captured<()>, VolumeError>;

    /// Takes an entry out of its volume for ever, without the trash; with the last entry of a deleted volume, what
    /// is left of that. Returns when saved. One that is gone already is success.
    async fn remove_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
    ) -> Result<(), VolumeError>;

    /// Makes an entry of the present state of each volume, all of one instant: whatever was written in the order
    /// of one program is in all of them up to one point. Each volume once, with a call of its own. All or none
    /// are made. Programs that have files of several of them open for writing stand still meanwhile, some 10 ms. At
    /// most [`TOGETHER_MAX`].
    async fn snapshot_together(
        &self,
        calls: Vec<(Call, VolumeId)>,
        entry: NewEntry,
    ) -> Result<Captured<Vec<Snapshot>>, VolumeError>;

    /// Saves what has changed since the last commit, and all that is captured; gives what is saved then.
    async fn store(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError>;

    /// Makes the directory in which one service of the workspace keeps its data, durable on return, and gives its
    /// absolute path on this machine; one that is there is the answer. `service`: 1 to 40 of `[a-z0-9-]`, beginning
    /// with a letter or digit.
    async fn make_service_directory(
        &self,
        volume: &VolumeId,
        service: &str,
    ) -> Result<PathBuf, VolumeError>;

    /// The room for new volumes.
    async fn capacity(&self) -> Result<Capacity, VolumeError>;

    /// Waits until all that the volume had captured when this was called is saved.
    async fn wait_saved(&self, volume: &VolumeId) -> Result<(), VolumeError>;

    /// All volumes, trashed ones and what is left of deleted ones included.
    async fn list(&self) -> Result<Vec<VolumeStatus>, VolumeError>;

    /// Some of [`list`](Self::list), in the order of their ids. Costs as much as the volumes that are found, and a look
    /// into memory for each of the others.
    async fn find(&self, wanted: &VolumeFilter) -> Result<Vec<VolumeStatus>, VolumeError> {
        let mut all = self.list().await?;
        all.retain(|one| wanted.includes(&one.volume, one.spec.name.as_ref(), &one.document.slug));
        Ok(all)
    }

    /// One volume.
    async fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError>;

    /// The entries of a volume, newest first, trashed ones included; without those that nobody can
    /// read, which [`VolumeStatus::unread_entries`] counts.
    async fn entries(&self, volume: &VolumeId) -> Result<Vec<EntryView>, VolumeError>;

    /// The live entries of kind `csi` with this message, of all volumes, deleted and trashed ones included; without
    /// those that nobody can read, as [`entries`](Self::entries). Costs a request to the store for each volume whose
    /// older entries have not been read since the node began.
    ///
    /// # Errors
    ///
    /// The store did not say what the older entries of a volume are: none is taken for absent then.
    async fn find_entries(&self, message: &str) -> Result<Vec<(VolumeId, EntryView)>, VolumeError> {
        let mut found = Vec::new();
        for volume in self.list().await? {
            let entries = self.entries(&volume.volume).await?;
            let meant = entries.into_iter().filter(|entry| entry.is_asked_for(message));
            found.extend(meant.map(|entry| (volume.volume.clone(), entry)));
        }
        Ok(found)
    }

    /// What differs between two moments, in the order of paths (from the project's root).
    async fn diff(
        &self,
        before: (VolumeId, Moment),
        after: (VolumeId, Moment),
    ) -> Result<Vec<wire::Change>, VolumeError>;

    /// One file.
    async fn file(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
    ) -> Result<FileView, VolumeError>;

    /// The children of a directory, or everything below it when `recursive`, in the order of paths.
    async fn files(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Vec<FileView>, VolumeError>;

    /// Reads bytes of a file (all of it without a range), with its view. A range goes no further than the file, and one
    /// that ends before it begins has no bytes.
    async fn read(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(FileView, FileReader), VolumeError>;

    /// Writes a path with everything below as a tar stream; names in it begin with the path's last name
    /// (`.` for the root). The result says in a line each what is not as it was.
    async fn export(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        to: Box<dyn Write + Send>,
    ) -> Result<Vec<String>, VolumeError>;

    /// Changes files.
    async fn edit(&self, volume: &VolumeId, edit: FileEdit) -> Result<Edited, VolumeError>;

    /// Checks a volume in the store.
    async fn verify(&self, volume: &VolumeId, level: VerifyLevel) -> Result<Verified, VolumeError>;

    /// Checks what the store has beside its volumes: the record of who holds it.
    async fn verify_store(&self) -> Result<Option<wire::VerifyProblem>, VolumeError>;

    /// Takes the store over and makes copies here of all its volumes whose heads are there; whoever awaits the
    /// rest looks for the others. `take`: although its holder lives.
    async fn recover(&self, take: bool, progress: Progress) -> Result<Recovered, VolumeError>;

    /// What is well and what is not with pool, store and node.
    async fn doctor(&self) -> Vec<wire::Check>;
}

/// Why a call on a volume did not do what it was to do.
///
/// `NotFound`-like variants leave everything as it was. After [`VolumeError::Unknown`] the call may or may
/// not have taken effect; the same operation id tells.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("volume {volume} is not on this node")]
    NotHere { volume: VolumeId },
    #[error("volume {volume} exists already")]
    Exists { volume: VolumeId },
    #[error("entry {entry} is not in this project's timeline")]
    NoEntry { entry: EntryId },
    #[error("{count} of the older entries cannot be read: the list of them is lost or damaged")]
    EntriesUnread { count: u32 },
    #[error("label {label} names entry {entry} already")]
    LabelTaken { label: Label, entry: EntryId },
    #[error("{path} does not exist")]
    NoPath { path: TreePath },
    #[error("{path} is {found}, not {wanted}")]
    WrongKind { path: TreePath, found: &'static str, wanted: &'static str },
    #[error("{path} exists already")]
    PathExists { path: TreePath },
    #[error("directory {path} is not empty")]
    NotEmpty { path: TreePath },
    #[error("{program} (pid {pid}) has {path} open for writing")]
    InUse { pid: u32, program: String, path: String },
    #[error("the same operation id was used for another request")]
    OtherRequest,
    #[error("the operation id is too old to know what became of it: look at the timeline")]
    TooOld,
    #[error("whether it took effect is not known yet: ask again with operation id {operation}")]
    Unknown { operation: OperationId },
    /// What was accepted goes on after the next start.
    #[error("cove is stopping")]
    Stopping,
    #[error("the store is held by another Cove")]
    HeldByAnother,
    #[error("a project has at most 256 entries in its timeline, and this one has that many")]
    TooManyEntries,
    #[error("{what}")]
    Refused { kind: ErrorKind, what: String },
    #[error("{what}")]
    Failed {
        kind: ErrorKind,
        what: String,
        source: Box<dyn std::error::Error + Send + Sync + 'static>,
    },
}

impl VolumeError {
    /// Whether a look at a volume failed because it is not on this machine: nowhere, or in a store of another Cove.
    #[must_use]
    pub fn is_not_here(&self) -> bool {
        matches!(self, Self::NotHere { .. } | Self::HeldByAnother)
    }

    /// A failure of the kind of its cause.
    pub fn failed(
        what: impl Into<String>,
        source: impl std::error::Error + Classify + Send + Sync + 'static,
    ) -> Self {
        Self::Failed { kind: source.kind(), what: what.into(), source: Box::new(source) }
    }

    /// Whether the system refused something with an error of this kind, and that is the cause.
    #[must_use]
    pub fn is_caused_by(&self, kind: std::io::ErrorKind) -> bool {
        let first: &(dyn std::error::Error + 'static) = self;
        std::iter::successors(Some(first), |&error| error.source()).any(|error| {
            error.downcast_ref::<std::io::Error>().is_some_and(|cause| cause.kind() == kind)
        })
    }
}

impl Classify for VolumeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotHere { .. } | Self::NoEntry { .. } | Self::NoPath { .. } => {
                ErrorKind::NotFound
            }
            Self::Exists { .. } | Self::LabelTaken { .. } | Self::PathExists { .. } => {
                ErrorKind::AlreadyExists
            }
            Self::WrongKind { .. }
            | Self::NotEmpty { .. }
            | Self::InUse { .. }
            | Self::TooManyEntries
            | Self::HeldByAnother => ErrorKind::Precondition,
            Self::EntriesUnread { .. } => ErrorKind::Corrupt,
            Self::OtherRequest | Self::TooOld => ErrorKind::Conflict,
            Self::Unknown { .. } => ErrorKind::TimedOut,
            Self::Stopping => ErrorKind::Unavailable,
            Self::Refused { kind, .. } | Self::Failed { kind, .. } => *kind,
        }
    }
}
