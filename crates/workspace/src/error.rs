//! Why a call did not do what it was to do.

use std::error::Error;

use cove_content::read::kind_of_io;
use cove_content::volumes::VolumeError;
use cove_database::DatabaseError;
use cove_types::{Classify, ErrorKind, ParseError, Slug, TreePath, VolumeId};
use serde::{Deserialize, Serialize};

/// Why a call on a project did not do what it was to do. Unless it says otherwise, nothing changed.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// A value of the request is none.
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("project {slug} does not exist")]
    NoProject { slug: Slug },
    /// Somebody makes it, or what somebody began is being cleared away.
    #[error("project {slug} is being made, or cleared away after an interruption")]
    BeingCreated { slug: Slug },
    /// It may be one of those that are to come.
    #[error("project {slug} is not here yet: {recovery}")]
    NotRecovered { slug: Slug, recovery: String },
    #[error("project {slug} is not in the trash")]
    NotInTrash { slug: Slug },
    #[error("volume {volume} does not exist")]
    NoVolume { volume: VolumeId },
    #[error("volume {volume} is the workspace of project {slug}")]
    IsWorkspace { volume: VolumeId, slug: Slug },
    #[error("a project named {slug} exists already")]
    NameTaken { slug: Slug },
    /// What is in the trash comes back under its own name only.
    #[error("another project is named {slug} now")]
    NameTakenMeanwhile { slug: Slug },
    #[error("{slug}-{n} is longer than a project's name may be")]
    NameTooLong { slug: Slug, n: u32 },
    #[error("no entry of {slug} is {at}")]
    NoEntry { slug: Slug, at: String },
    #[error("{at} names several entries of {slug}: {candidates}", candidates = candidates.join(", "))]
    Ambiguous { slug: Slug, at: String, candidates: Vec<String> },
    #[error("{slug}@now is the present state, not an entry")]
    NowIsNoEntry { slug: Slug },
    #[error("entry {entry} of {slug} is in the trash")]
    EntryInTrash { slug: Slug, entry: String },
    #[error("entry {entry} of {slug} is not in the trash")]
    EntryNotInTrash { slug: Slug, entry: String },
    #[error("entry {entry} of {slug} is pinned")]
    EntryPinned { slug: Slug, entry: String },
    #[error("project {slug} has no copy on this machine")]
    NoCopy { slug: Slug },
    /// The key is bound.
    #[error("idempotency key {key} was used for another request")]
    OtherRequest { key: String },
    /// Something at a path is not what the call needs.
    #[error("{shown} is {found}, not {wanted}")]
    WrongKind { shown: String, found: &'static str, wanted: &'static str },
    #[error("directory {path} does not exist")]
    NoDirectory { slug: Slug, path: TreePath },
    #[error("{path} is a symbolic link that points out of the project")]
    PointsOut { path: TreePath },
    #[error("the pool is full{not_done}", not_done = not_done(Some(path)))]
    PoolFull { slug: Slug, path: TreePath },
    /// The project may hold no more, whatever room the pool has.
    #[error("the quota of project {slug} is used up{not_done}", not_done = not_done(path.as_ref()))]
    QuotaUsedUp { slug: Slug, path: Option<TreePath> },
    /// What it was to begin with is more than it may hold; it was not made.
    #[error("a quota of {} does not hold what project {slug} is to begin with", in_units(*quota_bytes))]
    QuotaTooSmall { slug: Slug, quota_bytes: u64 },
    /// Its volume is not on this machine.
    #[error("project {slug} is not on this machine")]
    NotHere { slug: Slug },
    /// A call was bound to a volume whose project is gone since.
    #[error("the project of volume {volume} does not exist any more")]
    NoProjectOf { volume: VolumeId },
    /// The call is not to be refused for what came after it.
    #[error("the change of {slug} took effect, but what it came to could not be read")]
    Unread { slug: Slug, source: Box<WorkspaceError> },
    /// It was on this node, and is not in the timeline any more.
    #[error("entry {entry} of {slug} was captured but could not be saved, and is gone")]
    GivenUp { slug: Slug, entry: String },
    /// Of no project, but of all.
    #[error(transparent)]
    OfStore(VolumeError),
    #[error("{source}")]
    OfProject { slug: Slug, source: VolumeError },
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("failed to read {path}")]
    Read { slug: Slug, path: String, source: std::io::Error },
    /// What the call came to when it was first made.
    #[error("{}", .0.what)]
    First(Failure),
    /// A bug of ours: the task that did the work is gone.
    #[error("the work on {what} ended without a result")]
    NoResult { what: String },
}

/// An error as it is kept for whoever repeats the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who acts on it.
    pub kind: ErrorKind,
    /// One line, with its causes.
    pub what: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Failure {
    /// Whether a repetition would come to the same: what was refused stays refused.
    pub(crate) fn is_final(&self) -> bool {
        match self.kind {
            ErrorKind::Invalid
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::Precondition
            | ErrorKind::Corrupt
            | ErrorKind::Denied => true,
            ErrorKind::Exhausted
            | ErrorKind::Unavailable
            | ErrorKind::TimedOut
            | ErrorKind::Internal => false,
        }
    }
}

impl From<&WorkspaceError> for Failure {
    fn from(error: &WorkspaceError) -> Self {
        let mut what = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // A transparent error is its own cause's text.
            if !what.ends_with(&text) {
                what = format!("{what}: {text}");
            }
            cause = error.source();
        }
        if let WorkspaceError::OfProject { slug, .. } = error {
            what = in_project(&what, slug);
        }
        Self { kind: error.kind(), what, hint: error.hint() }
    }
}

/// A text of the node's in the words of a project: its name in place of its subvolume, and paths
/// from its root in place of those from the subvolume's top.
pub(crate) fn in_project(text: &str, slug: &Slug) -> String {
    let text = text.replace("\"files/", "\"").replace("\"files\"", "\".\"");
    let mut parts = text.split(SUBVOLUME);
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        told.push_str(slug.as_str());
        told.push_str(&part[end.unwrap_or(part.len())..]);
    }
    told
}

/// How the path of a volume's subvolume begins.
const SUBVOLUME: &str = "volumes/vol-";

impl Classify for WorkspaceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::NameTooLong { .. } | Self::NowIsNoEntry { .. } => {
                ErrorKind::Invalid
            }
            Self::Parse(error) => error.kind(),
            Self::NoProject { .. } | Self::NotInTrash { .. } | Self::NoEntry { .. } => {
                ErrorKind::NotFound
            }
            Self::NotHere { .. } | Self::NoProjectOf { .. } | Self::NoVolume { .. } => {
                ErrorKind::NotFound
            }
            Self::IsWorkspace { .. } => ErrorKind::Precondition,
            Self::Unread { .. } => ErrorKind::TimedOut,
            Self::GivenUp { .. } => ErrorKind::Precondition,
            Self::NameTaken { .. } | Self::NameTakenMeanwhile { .. } => ErrorKind::AlreadyExists,
            Self::NoDirectory { .. } | Self::EntryInTrash { .. } => ErrorKind::NotFound,
            Self::WrongKind { .. } | Self::PointsOut { .. } => ErrorKind::Precondition,
            Self::PoolFull { .. } | Self::QuotaUsedUp { .. } | Self::QuotaTooSmall { .. } => {
                ErrorKind::Exhausted
            }
            Self::Ambiguous { .. } => ErrorKind::Invalid,
            Self::BeingCreated { .. } | Self::OtherRequest { .. } => ErrorKind::Conflict,
            Self::EntryNotInTrash { .. } | Self::EntryPinned { .. } | Self::NoCopy { .. } => {
                ErrorKind::Precondition
            }
            Self::OfStore(error) | Self::OfProject { source: error, .. } => error.kind(),
            Self::Database(error) => error.kind(),
            Self::Read { source, .. } => kind_of_io(source),
            Self::NotRecovered { .. } => ErrorKind::Unavailable,
            Self::NoResult { .. } => ErrorKind::Internal,
            Self::First(failure) => failure.kind,
        }
    }
}

impl WorkspaceError {
    /// Whether Cove ended before what was accepted was done: the next start goes on with it.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(
            self,
            Self::OfStore(VolumeError::Stopping)
                | Self::OfProject { source: VolumeError::Stopping, .. }
        )
    }

    /// What the caller can do, in the words of the command line.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoProject { .. } => {
                "`cove ls` lists the projects, `cove trash` the removed ones".into()
            }
            Self::BeingCreated { slug } => {
                format!("repeat it in a moment; `cove show {slug}` tells")
            }
            Self::NotRecovered { .. } => "repeat this when `cove recover` has ended".into(),
            Self::NoVolume { .. } => "`cove volume ls` lists the volumes".into(),
            Self::IsWorkspace { slug, .. } => {
                format!("a volume is one project's alone: `cove fork {slug}` makes a copy")
            }
            Self::NotInTrash { .. } => "`cove trash` lists what is in it".into(),
            Self::NameTaken { slug } => {
                format!(
                    "pick another name, or free it: `cove rename {slug} OTHER`, `cove rm {slug}`"
                )
            }
            Self::NameTakenMeanwhile { slug } => {
                format!("free it with `cove rename {slug} OTHER`, then repeat this")
            }
            Self::EntryInTrash { slug, entry } => format!("`cove undelete {slug}@{entry}`"),
            Self::Read { slug, .. } if self.kind() == ErrorKind::Corrupt => format!(
                "`cove verify {slug}` names what is hit and the nearest entry that is whole"
            ),
            Self::Read { .. } => "`cove doctor` tells whether the store answers".into(),
            Self::EntryPinned { slug, entry } => {
                format!("`cove unpin {slug}@{entry}` first, then it can go")
            }
            Self::NoDirectory { slug, path } => format!("`cove files mkdir {slug}:/{path}`"),
            Self::PoolFull { slug, .. } => format!(
                "make room: `cove files rm {slug}:/PATH`, `cove rm` of a project that nobody \
                 needs, or other things on this disk"
            ),
            Self::QuotaUsedUp { slug, .. } => format!(
                "nothing has changed: raise its quota (`ModifyVolume` of the Volume Hub; a limit that is \
                 not Cove's: `btrfs qgroup limit`), or make room with `cove files rm {slug}:/PATH`; \
                 then repeat this"
            ),
            Self::QuotaTooSmall { .. } => "nothing was made: give a larger --quota".into(),
            Self::Database(error) if error.kind() == ErrorKind::Exhausted => {
                "make room on the disk that Cove's home is on; some is kept for removals, which may \
                 work meanwhile"
                    .into()
            }
            Self::NameTooLong { .. } => "give a shorter name with `--as NAME`".into(),
            Self::NoEntry { slug, .. }
            | Self::NowIsNoEntry { slug, .. }
            | Self::EntryNotInTrash { slug, .. } => {
                format!("`cove timeline {slug}` lists the entries")
            }
            Self::Ambiguous { .. } => "write more characters of the id".into(),
            Self::OtherRequest { .. } => "use a fresh key for each request".into(),
            Self::NotHere { .. } => FROM_STORE.into(),
            Self::NoProjectOf { .. } => "`cove ls` and `cove trash` list the projects".into(),
            Self::Unread { .. } => SAME_KEY.into(),
            Self::GivenUp { slug, .. } => {
                format!("`cove show {slug}` tells what is wrong; then make another")
            }
            Self::OfStore(error) => return volume_hint(error, "NAME"),
            Self::OfProject { slug, source } => return volume_hint(source, slug.as_str()),
            Self::First(failure) => return failure.hint.clone(),
            Self::Invalid(_)
            | Self::Parse(_)
            | Self::WrongKind { .. }
            | Self::PointsOut { .. }
            | Self::NoCopy { .. }
            | Self::Database(_)
            | Self::NoResult { .. } => return None,
        };
        Some(hint)
    }

    /// Whether it says that a path does not exist, and nothing worse.
    #[must_use]
    pub fn is_absent_path(&self) -> bool {
        let source = match self {
            Self::NoDirectory { .. } => return true,
            Self::OfProject { source, .. } => source,
            _ => return false,
        };
        matches!(source, VolumeError::NoPath { .. })
    }
}

/// What was not done for want of room, in a sentence about it. What came into the top has no name.
fn not_done(path: Option<&TreePath>) -> String {
    let named = path.filter(|path| !path.is_top());
    named.map_or_else(String::new, |path| format!(": {path} was not written"))
}

/// A number of bytes, in MiB where it is a whole number of them.
fn in_units(bytes: u64) -> String {
    match bytes % (1 << 20) {
        0 => format!("{} MiB", bytes >> 20),
        _ => format!("{bytes} bytes"),
    }
}

/// Whether the cause of an error is that a quota is used up, as opposed to a whole disk.
pub(crate) fn is_quota(error: &VolumeError) -> bool {
    error.is_caused_by(std::io::ErrorKind::QuotaExceeded)
}

/// What brings projects to this machine.
pub(crate) const FROM_STORE: &str = "`cove recover` brings the store's projects to this machine";

/// What tells how a call ended.
const SAME_KEY: &str = "the same command with the same key tells what became of it";

/// What the caller can do about an error of the project `name`.
fn volume_hint(error: &VolumeError, name: &str) -> Option<String> {
    let hint = match error {
        VolumeError::InUse { program, .. } => {
            format!(
                "close it in {program}, or go on with `--force`: what it writes later becomes a rescue entry"
            )
        }
        VolumeError::LabelTaken { entry, .. } => {
            format!("give another label, or free it: `cove label {name}@{entry} --remove`")
        }
        VolumeError::NotEmpty { .. } => "remove it with everything below: `--recursive`".into(),
        VolumeError::HeldByAnother => {
            "`cove recover` takes the store over; with `--take` although its holder lives".into()
        }
        VolumeError::Unknown { .. } => SAME_KEY.into(),
        VolumeError::TooOld => format!("`cove timeline {name}` tells what became of it"),
        VolumeError::NotHere { .. } => FROM_STORE.into(),
        VolumeError::TooManyEntries => {
            format!("put entries in the trash, which gives way to others: `cove rm {name}@ENTRY`")
        }
        VolumeError::NoEntry { .. } => format!("`cove timeline {name}` lists the entries"),
        VolumeError::EntriesUnread { .. } => {
            format!("`cove verify {name}` names the object; everything else goes on without them")
        }
        VolumeError::Exists { .. }
        | VolumeError::Stopping
        | VolumeError::NoPath { .. }
        | VolumeError::WrongKind { .. }
        | VolumeError::PathExists { .. }
        | VolumeError::OtherRequest
        | VolumeError::Refused { .. }
        | VolumeError::Failed { .. } => return None,
    };
    Some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_the_nodes_is_told_in_the_words_of_the_project() {
        let slug: Slug = "shop".parse().unwrap();
        for (text, told) in [
            (
                "volumes/vol-2k4n holds an active swap file, so no snapshot can be made of it",
                "shop holds an active swap file, so no snapshot can be made of it",
            ),
            ("failed to write \"files/a/files/b\"", "failed to write \"a/files/b\""),
            ("\"files\" is a directory", "\".\" is a directory"),
            ("no volumes here", "no volumes here"),
            ("at volumes/vol-2k4n", "at shop"),
        ] {
            assert_eq!(in_project(text, &slug), told);
        }
    }
}
