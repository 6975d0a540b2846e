//! The bodies of the HTTP API and of the command line's `--json`.
//!
//! A field's doc is the API's documentation. Clients tolerate unknown fields and
//! unknown values of enums. Paths are escaped as in [`escape_bytes`](crate::escape_bytes);
//! times are RFC 3339 in UTC; sizes are bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Consistency, Durability, EntryKind, EntryState};

/// A project with the state of its workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// What people call it.
    pub name: String,
    /// Its name in addresses and commands.
    pub slug: String,
    /// Its identifier, for ever.
    pub id: String,
    /// The volume that holds its workspace.
    pub volume: String,
    /// The absolute directory of its files on this machine; null when no copy is here.
    pub path: Option<String>,
    /// What it was forked from.
    pub forked_from: Option<ForkedFrom>,
    /// Whether its present state is in the object store, as of the last look.
    pub durability: Durability,
    /// When its state was last saved; null before the first time.
    pub saved_at: Option<String>,
    /// `this_disk` or the URL of the object store.
    pub saved_to: String,
    /// Plain bytes of what changed since the last commit, as of the last look; 0
    /// exactly when the head is that state, null when unknown.
    pub unsaved_bytes: Option<u64>,
    /// Its sizes.
    pub bytes: Bytes,
    /// The most bytes that may be written to it, of which `unique` are taken; null when nothing limits it.
    pub quota_bytes: Option<u64>,
    /// Its health, with what a person can do.
    pub health: Health,
    /// `live` or `trashed`.
    pub state: String,
    /// When it was created.
    pub created_at: String,
    /// When it was moved to the trash, if it is there.
    pub trashed_at: Option<String>,
    /// How often its head has changed; the first part of a new operation id.
    pub seq: u32,
    /// How many entries its timeline has.
    pub entries: u32,
}

/// A volume, whoever made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// Its id, for ever.
    pub id: String,
    /// What it was called when it was made; of one that was made with its project, the project's name.
    pub name: String,
    /// The project whose workspace it is; null when it is none's.
    pub project: Option<String>,
    /// The node that takes its writes.
    pub node: String,
    /// The absolute directory of its files on that node; null while no copy is there.
    pub path: Option<String>,
    /// The most bytes that may be written to it, of which `unique` are taken; null when nothing limits it.
    pub quota_bytes: Option<u64>,
    /// Its sizes.
    pub bytes: Bytes,
    /// Whether its present state is in the object store, as of the last look.
    pub durability: Durability,
    /// When its state was last saved; null before the first time.
    pub saved_at: Option<String>,
    /// Where saved states are: `this_disk` or the URL of the object store. Empty from a server that does not tell.
    #[serde(default)]
    pub saved_to: String,
    /// Plain bytes of what changed since the last commit, as of the last look; null when unknown.
    pub unsaved_bytes: Option<u64>,
    /// How it is.
    pub health: VolumeHealth,
    /// How many entries it has, snapshots that programs made among them.
    pub snapshots: u32,
    /// What whoever made it wants to find again.
    pub labels: BTreeMap<String, String>,
    /// How it is kept, as far as that can change.
    pub parameters: BTreeMap<String, String>,
    /// The id of the volume, or of the snapshot, that it began as; null when it began empty.
    pub source: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// How often its head has changed.
    pub seq: u32,
    /// Counts owners.
    pub epoch: u64,
}

/// The health of a volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VolumeHealth {
    /// `ok`, `attention` or `at_risk`.
    pub state: String,
    /// What is wrong, the gravest first.
    pub problems: Vec<Problem>,
}

/// All volumes, by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VolumesReply {
    /// They.
    pub volumes: Vec<Volume>,
}

/// One volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VolumeReply {
    /// It.
    pub volume: Volume,
}

/// What a project was forked from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkedFrom {
    /// The id of the source project.
    pub project: String,
    /// The entry it was forked from; null when that was the state of the moment.
    pub entry: Option<String>,
    /// The digest of the tree it began with.
    pub tree: String,
}

/// Sizes of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bytes {
    /// The sizes of the files, added up, each inode once.
    pub logical: u64,
    /// What the volume's quota group is charged on this node.
    pub unique: u64,
    /// What else its files take that other volumes and snapshots share.
    pub shared: u64,
}

/// The health of a project.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, `attention` or `at_risk`.
    pub state: String,
    /// The node that holds the copy.
    pub node: String,
    /// When the state was last saved.
    pub saved_at: Option<String>,
    /// As in the project.
    pub unsaved_bytes: Option<u64>,
    /// `reachable`, `unreachable`, `held_by_another` or `unknown`.
    pub store: String,
    /// The result of the last `verify`: when, and how many problems.
    pub last_verify: Option<LastVerify>,
    /// What the tree cannot hold and does not.
    pub not_captured: Vec<NotCaptured>,
    /// How many paths were not captured in all; the list may be shorter.
    pub not_captured_count: u64,
    /// What is wrong, the gravest first.
    pub problems: Vec<Problem>,
}

/// The result of the last check of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastVerify {
    /// When it ended.
    pub at: String,
    /// How many problems it found.
    pub problems: u64,
}

/// One path that a tree does not hold, or holds without a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotCaptured {
    /// The path, from the project's root.
    pub path: String,
    /// What is missing: `nested subvolume`, `device`, `setuid bit`, …
    pub what: String,
}

/// Something wrong with a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What it is, one line.
    pub what: String,
    /// Since when.
    pub since: String,
    /// `you`, `operator` or `nobody`.
    pub who_acts: String,
    /// What to do.
    pub hint: Option<String>,
}

/// An entry of a timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// 12 digits of base32.
    pub id: String,
    /// Why it was made.
    pub kind: EntryKind,
    /// What its author said.
    pub message: Option<String>,
    /// Its name.
    pub label: Option<String>,
    /// Who made it.
    pub author: String,
    /// The moment that it holds.
    pub time: String,
    /// Whether retention leaves it alone.
    pub pinned: bool,
    /// How far its files are of one moment.
    pub consistency: Consistency,
    /// Where it is safe.
    pub durability: Durability,
    /// Milliseconds until it was on the node.
    pub captured_ms: u64,
    /// Milliseconds until it was in the object store; null until then.
    pub saved_ms: Option<u64>,
    /// The digest of its tree; null until its content is known.
    pub tree: Option<String>,
    /// How many files, directories and links it has.
    pub tree_entries: Option<u64>,
    /// The sizes of its files, added up.
    pub logical_bytes: Option<u64>,
    /// The Kubernetes VolumeSnapshot that it is, if it is one.
    pub volume_snapshot: Option<String>,
    /// Whether it is in the timeline or in the trash.
    pub state: EntryState,
}

/// One difference of two trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The path, in the later tree unless it was removed.
    pub path: String,
    /// What happened.
    pub change: ChangeKind,
    /// Where it was before, when it was renamed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Its size before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_before: Option<u64>,
    /// Its size after.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes_after: Option<u64>,
    /// Its mode before, octal, when that changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode_before: Option<String>,
    /// Its mode after, octal, when that changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mode_after: Option<String>,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content differs.
    Modified,
    /// The same content is at another path.
    Renamed,
    /// Only its mode, owner, times or attributes differ.
    Metadata,
}

/// A file of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct File {
    /// The path from the project's root.
    pub path: String,
    /// `file`, `directory`, `symlink`, `fifo` or `socket`.
    pub kind: String,
    /// Its size; 0 for what is no file.
    pub bytes: u64,
    /// Permission bits, octal, such as `0644`.
    pub mode: String,
    /// When it was last modified.
    pub modified: String,
    /// Where a symlink points.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
}

/// A line that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Match {
    /// The file.
    pub path: String,
    /// The line's number, from 1.
    pub line: u64,
    /// The line, escaped.
    pub text: String,
}

/// Something that could not be recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lost {
    /// What it is.
    pub what: String,
    /// Why it could not be recovered.
    pub why: String,
}

/// A project whose head was lost: made from what the packs of its volume record, or its head put again by the
/// machine that remembered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rebuilt {
    /// The project, as it is called now.
    pub project: String,
    /// Its volume: a new one, or `lost_volume` itself where its head was put again.
    pub volume: String,
    /// The volume whose head was lost. It is left as it is where another was made.
    pub lost_volume: String,
    /// When its state was recorded. What was changed later is lost where another was made.
    pub recorded_at: String,
}

/// Something that `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyProblem {
    /// What is wrong, one line.
    pub what: String,
    /// The project it concerns.
    pub project: Option<String>,
    /// The id of the volume that it concerns and that is no project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The entry it concerns; null for the present state.
    pub entry: Option<String>,
    /// The object that is damaged or missing.
    pub object: Option<String>,
    /// The files whose bytes it holds, at most 100.
    pub paths: Vec<String>,
    /// The nearest entry that is whole.
    pub nearest_good: Option<String>,
}

impl VerifyProblem {
    /// A problem of which nothing but itself is known.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            project: None,
            volume: None,
            entry: None,
            object: None,
            paths: Vec::new(),
            nearest_good: None,
        }
    }
}

/// What `verify` looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// Projects.
    pub projects: u64,
    /// Volumes that are no project's.
    #[serde(default)]
    pub volumes: u64,
    /// Entries, the present states included.
    pub entries: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Packs whose bytes were read.
    pub packs_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

impl std::ops::AddAssign for Checked {
    fn add_assign(&mut self, more: Self) {
        let Self { projects, volumes, entries, chunks, packs_read, bytes_read } = more;
        self.projects += projects;
        self.volumes += volumes;
        self.entries += entries;
        self.chunks += chunks;
        self.packs_read += packs_read;
        self.bytes_read += bytes_read;
    }
}

/// One check of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub what: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

/// `{"project": …}`, with what else the act did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProjectReply {
    /// The project.
    pub project: Project,
    /// The entry that holds the state before, for `restore`; the entry brought back, for `undelete`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entry: Option<Entry>,
    /// Remarks on what was not taken as it is: padded, cut, left out.
    #[serde(default)]
    pub remarks: Vec<String>,
}

/// `{"projects": […]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProjectsReply {
    /// The projects.
    pub projects: Vec<Project>,
    /// Remarks on what is not among them yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// `{"entry": …, "rolled_off": […]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntryReply {
    /// The entry.
    pub entry: Entry,
    /// What retention moved to the trash for it.
    pub rolled_off: Vec<Entry>,
}

/// `{"entries": […]}`, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EntriesReply {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// `{"changes": […]}`, in the order of paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangesReply {
    /// The changes.
    pub changes: Vec<Change>,
}

/// `{"files": […]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FilesReply {
    /// The files.
    pub files: Vec<File>,
    /// Remarks on what was not taken as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// `{"matches": […]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MatchesReply {
    /// The matches.
    pub matches: Vec<Match>,
    /// Remarks on what was not searched or not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// `{"projects": […], "lost": […]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecoverReply {
    /// The projects that are back.
    pub projects: Vec<Project>,
    /// What is not.
    pub lost: Vec<Lost>,
    /// Which of the projects have lost their heads, and were made from packs or got them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rebuilt: Vec<Rebuilt>,
    /// How many volumes that are no project's are here now.
    #[serde(default)]
    pub volumes: u64,
}

/// `{"problems": […], "checked": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VerifyReply {
    /// What is wrong.
    pub problems: Vec<VerifyProblem>,
    /// What was looked at.
    pub checked: Checked,
    /// What the trees cannot hold, which is no problem.
    #[serde(default)]
    pub not_captured: Vec<NotCaptured>,
}

/// `{"checks": […]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DoctorReply {
    /// The checks.
    pub checks: Vec<Check>,
}

/// How far long work is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// The step, such as `uploading`.
    pub step: String,
    /// Done so far, in bytes.
    pub done_bytes: u64,
    /// In all, when known.
    pub total_bytes: Option<u64>,
    /// Files done so far.
    pub done_files: u64,
    /// Files in all, when known.
    pub total_files: Option<u64>,
}

/// The step of a recovery that comes after the projects whose heads are there.
pub const LOOKING_FOR_LOST: &str = "looking for lost projects";

impl Progress {
    /// How far a recovery is, in words: what it counts are projects, and packs while it looks for lost ones.
    #[must_use]
    pub fn of_recovery(&self) -> String {
        let (step, counted) = match self.step.as_str() {
            "" => ("recovering", "projects"),
            LOOKING_FOR_LOST => (LOOKING_FOR_LOST, "packs"),
            step => (step, "projects"),
        };
        match self.total_files {
            Some(total) => format!("{step}, {} of {total} {counted}", self.done_files),
            None => step.to_owned(),
        }
    }
}

/// Work that goes on after its call was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// The operation id, under which the call may be repeated.
    pub id: String,
    /// `running`, `captured` (on this node, being saved), `done` or `failed`.
    pub state: String,
    /// How far it is.
    pub progress: Progress,
    /// The reply of the call, once `captured` or `done`; null before.
    #[schema(value_type = Option<Object>)]
    pub result: Option<serde_json::Value>,
    /// Why it failed.
    pub error: Option<ProblemDetails>,
}

/// `{"operation": …}`: the answer 202 to work that goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationReply {
    /// The operation.
    pub operation: Operation,
}

/// An error, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// The address of the page about this kind of error.
    #[serde(rename = "type")]
    pub type_: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind as a word: `invalid`, `not_found`, … decides exit codes.
    pub kind: crate::ErrorKind,
    /// What happened, one line, with its causes.
    pub detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// The request, as in the log.
    pub request_id: String,
    /// Seconds after which a repetition may help.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retry_after_s: Option<u64>,
}
