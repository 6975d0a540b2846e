//! Why the Hub did not do what it was asked.

use std::path::PathBuf;

use cove_content::volumes::VolumeError;
use cove_types::{
    Classify, ErrorKind, NodeId, ParseError, Slug, SnapshotId, VolumeId, VolumeName, escape_bytes,
};

use crate::in_flight::Busy;

/// Why a call on the Hub did not do what it was to do.
///
/// All but [`Volumes`](HubError::Volumes) and [`Remote`](HubError::Remote) leave everything as it was; of these two,
/// the kind tells: after `TimedOut` the same operation id finds out.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A field breaks its law.
    #[error(transparent)]
    Invalid(#[from] ParseError),
    #[error("volume {volume} does not exist")]
    NoVolume { volume: VolumeId },
    #[error("no volume is called \"{name}\"")]
    NoName { name: String },
    #[error("no volume is the workspace of a project {project}")]
    NoProject { project: Slug },
    /// What is looked for, and the volumes that it may mean.
    #[error("there is more than one {what}: {volumes}")]
    SeveralCalled { what: String, volumes: String },
    #[error("snapshot {snapshot} does not exist")]
    NoSnapshot { snapshot: SnapshotId },
    #[error("there is no template \"{name}\"")]
    NoTemplate { name: String },
    #[error("node {node} does not exist")]
    NoNode { node: NodeId },
    /// A live volume has the name and was asked for otherwise.
    #[error("volume {volume} is called \"{}\" and was made with another {field}", shown(.name))]
    NameTaken { name: VolumeName, volume: VolumeId, field: &'static str },
    /// A live snapshot has the name and is of other volumes.
    #[error("snapshot {snapshot} is called \"{}\" and is of another volume", shown(.name))]
    SnapshotNameTaken { name: VolumeName, snapshot: SnapshotId },
    /// Another call on the same thing is under way.
    #[error("another call on {what} is under way")]
    Busy { what: String },
    /// The quota does not hold what the volume begins as, or is none that a volume can have.
    #[error("{what}")]
    QuotaOutOfRange { what: String },
    #[error("volume {volume} is the workspace of project {project}")]
    IsWorkspace { volume: VolumeId, project: String },
    #[error(
        "volume {volume} is in use: it is published on node {node}; unpublish it there first, or, if whoever published \
         it is gone for good, take its label {label} away with ModifyVolume"
    )]
    IsPublished { volume: VolumeId, node: String, label: &'static str },
    /// An id is wanted, and a live volume has it as its name.
    #[error("field \"{field}\": \"{name}\" is the name of volume {volume}; its id is wanted")]
    NameForId { field: &'static str, name: VolumeId, volume: VolumeId },
    #[error(
        "node {known} at {} is the node of this hub, which has one for now: end this one; to have it instead, end \
         that one and start the hub again", .socket.display()
    )]
    AnotherNode { known: NodeId, socket: PathBuf },
    #[error("of {asked} candidates none is node {owner}, which owns volume {volume}")]
    OwnedElsewhere { volume: VolumeId, owner: NodeId, asked: usize },
    /// The same operation id was used for another request.
    #[error("the same operation id was used for another request")]
    OtherRequest,
    /// A page token that is none.
    #[error("field \"page_token\": it is no token of this list")]
    BadPageToken,
    /// The node refused or failed.
    #[error("failed to {what}")]
    Volumes { what: String, source: VolumeError },
    /// A Hub in another process refused or failed.
    #[error("{message}")]
    Remote { kind: ErrorKind, message: String },
}

/// A name on one line.
pub(crate) fn shown(name: &VolumeName) -> String {
    escape_bytes(name.as_str().as_bytes())
}

impl Classify for HubError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_)
            | Self::QuotaOutOfRange { .. }
            | Self::NameForId { .. }
            | Self::BadPageToken => ErrorKind::Invalid,
            Self::NoVolume { .. }
            | Self::NoName { .. }
            | Self::NoProject { .. }
            | Self::NoSnapshot { .. }
            | Self::NoTemplate { .. }
            | Self::NoNode { .. } => ErrorKind::NotFound,
            Self::NameTaken { .. } | Self::SnapshotNameTaken { .. } => ErrorKind::AlreadyExists,
            Self::Busy { .. } | Self::OtherRequest => ErrorKind::Conflict,
            Self::IsWorkspace { .. }
            | Self::IsPublished { .. }
            | Self::AnotherNode { .. }
            | Self::OwnedElsewhere { .. }
            | Self::SeveralCalled { .. } => ErrorKind::Precondition,
            Self::Volumes { source, .. } => source.kind(),
            Self::Remote { kind, .. } => *kind,
        }
    }
}

impl HubError {
    /// Why a node did not do something to a volume, or to an entry of it.
    pub(crate) fn of(what: impl Into<String>, volume: &VolumeId, error: VolumeError) -> Self {
        match error {
            VolumeError::NoEntry { entry } => {
                Self::NoSnapshot { snapshot: SnapshotId { volume: volume.clone(), entry } }
            }
            error => Self::of_several(what, error),
        }
    }

    /// Why a node did not do something to several volumes at once. Of which one an entry is, it does not say.
    pub(crate) fn of_several(what: impl Into<String>, error: VolumeError) -> Self {
        match error {
            VolumeError::NotHere { volume } => Self::NoVolume { volume },
            VolumeError::OtherRequest => Self::OtherRequest,
            source => Self::Volumes { what: what.into(), source },
        }
    }

    /// Why nothing is done any more.
    pub(crate) fn stopping(what: impl Into<String>) -> Self {
        Self::Volumes { what: what.into(), source: VolumeError::Stopping }
    }
}

impl From<Busy> for HubError {
    fn from(Busy(what): Busy) -> Self {
        Self::Busy { what }
    }
}
