//! What programs ask about volumes.
//!
//! The words of `api/proto/cove/hub/v1/hub.proto` as types. The Hub in this process and the client of
//! `hub-grpc` implement [`VolumeHub`]; the CSI controller and the servers call it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
pub use cove_content::volumes::Capacity;
use cove_types::{Durability, NodeId, OperationId, Slug, SnapshotId, VolumeId, VolumeName, wire};
use futures::stream::BoxStream;
use jiff::Timestamp;

use crate::HubError;

/// A volume.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Its id, for ever.
    pub id: VolumeId,
    /// What it is called: as it was asked for, or as its project is, when it was made with one. A project's may be that
    /// of another live volume.
    pub name: String,
    /// The node that takes its writes.
    pub node: NodeId,
    /// The project whose workspace it is.
    pub project: Option<Slug>,
    /// The most bytes that may be written to it; none when nothing limits it.
    pub quota_bytes: Option<u64>,
    /// What whoever made it wants to find again.
    pub labels: BTreeMap<String, String>,
    /// How it is kept, as far as that can change.
    pub parameters: BTreeMap<String, String>,
    /// What it began as; none when it began empty.
    pub source: Option<VolumeSource>,
    /// When it was made.
    pub created_at: Timestamp,
    /// How often its head has changed: the first part of a new operation id.
    pub seq: u32,
    /// The absolute directory of its files on its node; none while no copy is there.
    pub path: Option<PathBuf>,
}

/// What a volume began as, or is to begin as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A volume with the label `template`, by its name or its id: only asked for, never told.
    Template(String),
    /// Another volume as it is at the moment.
    Volume(VolumeId),
    /// A snapshot.
    Snapshot(SnapshotId),
}

/// The label whose value `true` makes a volume a template.
pub const TEMPLATE_LABEL: &str = "template";

/// How large a volume is to be.
///
/// A new one gets `required_bytes`, or else that of its source, or else `limit_bytes`; one that is there is what was
/// asked for when its quota lies between both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaRange {
    /// At least so much, in bytes.
    pub required_bytes: Option<u64>,
    /// At most so much, in bytes.
    pub limit_bytes: Option<u64>,
}

impl QuotaRange {
    /// Exactly so much, or whatever it may be.
    #[must_use]
    pub fn exact(bytes: Option<u64>) -> Self {
        Self { required_bytes: bytes, limit_bytes: bytes }
    }
}

/// A volume that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateVolume {
    /// Its name: a live volume of it that was asked for alike is the answer.
    pub name: VolumeName,
    /// The caller's id for it.
    pub operation: OperationId,
    /// What it begins as; empty without.
    pub source: Option<VolumeSource>,
    /// How large it is.
    pub quota: QuotaRange,
    /// At most as `cove_content::spec` has it.
    pub labels: BTreeMap<String, String>,
    /// As [`ModifyVolume::parameters`].
    pub parameters: BTreeMap<String, String>,
    /// Answer only when it is saved.
    pub wait_saved: bool,
}

/// What changes of a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct ModifyVolume {
    /// Which.
    pub volume: VolumeId,
    /// The caller's id for it.
    pub operation: OperationId,
    /// The quota from now on, or none; as it is when `None`.
    pub quota_bytes: Option<Option<u64>>,
    /// In place of all labels; as they are when `None`.
    pub labels: Option<BTreeMap<String, String>>,
    /// These are set, the others stay: [`STORING_INTERVAL`](cove_content::spec::STORING_INTERVAL) and
    /// [`RETENTION`](cove_content::spec::RETENTION).
    pub parameters: BTreeMap<String, String>,
}

/// A named point of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id, for ever.
    pub id: SnapshotId,
    /// What it was asked for as; none for entries of a timeline.
    pub name: Option<String>,
    /// The instant.
    pub created_at: Timestamp,
    /// The sizes of its files, added up, in bytes; 0 while that is not known.
    pub bytes: u64,
    /// Where it is safe.
    pub durability: Durability,
    /// The group that was snapshotted at one instant with it.
    pub group: Option<String>,
}

/// Snapshots that are wanted: one of each volume, all of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotVolumes {
    /// 1 to 64 volumes, each once.
    pub volumes: Vec<VolumeId>,
    /// Their name: live ones of it and of these volumes are the answer.
    pub name: VolumeName,
    /// Whether they are a group: then they have an id together.
    pub is_group: bool,
    /// The caller's id for it.
    pub operation: OperationId,
    /// Answer only when they are saved.
    pub wait_saved: bool,
}

/// The most volumes that are snapshotted at one instant.
pub const GROUP_MAX: usize = cove_content::volumes::TOGETHER_MAX;

/// Which snapshots are wanted; those that meet all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Those of this volume, which may be deleted.
    pub volume: Option<VolumeId>,
    /// This one.
    pub snapshot: Option<SnapshotId>,
    /// Those of this name.
    pub name: Option<String>,
    /// Those that were asked for by name; else entries of timelines too.
    pub only_named: bool,
    /// Those of this group.
    pub group: Option<String>,
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most so many; all that there are when 0.
    pub size: u32,
    /// The token of the page before; from the beginning when empty.
    pub token: String,
}

/// A part of a list, and where the next begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// Empty at the end. Holds although what it names is deleted meanwhile.
    pub next_token: String,
}

/// A node on which a volume is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnsureCached {
    /// Which volume.
    pub volume: VolumeId,
    /// The nodes that will do, the best first; any when empty.
    pub candidates: Vec<NodeId>,
    /// The most bytes that may be moved.
    pub budget_bytes: Option<u64>,
}

/// Where a volume is current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node.
    pub node: NodeId,
    /// The absolute directory of the files there.
    pub path: PathBuf,
}

/// What is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// When.
    pub saved_at: Timestamp,
    /// The head's sequence number.
    pub seq: u32,
}

/// Everything that is known of a volume.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeReport {
    /// What it is.
    pub volume: Volume,
    /// Where copies are, the owner's first; whether each is current.
    pub copies: Vec<(NodeId, bool)>,
    /// Counts owners.
    pub epoch: u64,
    /// Where its present state is safe, as of the last look.
    pub durability: Durability,
    /// Plain bytes changed since the last commit, as of the last look.
    pub unsaved_bytes: Option<u64>,
    /// When its state was last saved.
    pub saved_at: Option<Timestamp>,
    /// What is wrong, in no order.
    pub problems: Vec<wire::Problem>,
    /// Sizes, in bytes.
    pub bytes: wire::Bytes,
    /// How many live entries it has.
    pub snapshots: u32,
    /// Its moves to other nodes that are under way; none while there is one node.
    pub moves: Vec<Move>,
}

/// A volume on its way to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The node that it leaves.
    pub from: NodeId,
    /// The node that it goes to.
    pub to: NodeId,
    /// How much of it is there, in bytes.
    pub done_bytes: u64,
    /// How much that is in all, in bytes.
    pub total_bytes: u64,
}

/// How a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// Nothing is wrong.
    Ok,
    /// Somebody ought to act; nothing is at risk.
    Attention,
    /// Something may be lost if the node is.
    AtRisk,
}

impl VolumeReport {
    /// How it is: with something wrong, what is saved needs attention, and what is not is at risk.
    #[must_use]
    pub fn health_state(&self) -> HealthState {
        match (self.problems.is_empty(), self.durability) {
            (true, _) => HealthState::Ok,
            (false, Durability::Saved) => HealthState::Attention,
            (false, Durability::OnThisNode) => HealthState::AtRisk,
        }
    }
}

/// What a restore made.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredVolume {
    /// The volume.
    pub volume: Volume,
    /// The state before; none when it is not known here.
    pub before: Option<Snapshot>,
}

/// A restore that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreVolume {
    /// Which volume.
    pub volume: VolumeId,
    /// What to go back to: a snapshot of it.
    pub snapshot: SnapshotId,
    /// The caller's id for it.
    pub operation: OperationId,
    /// Goes on although programs have files open for writing, or have them mounted.
    pub force: bool,
    /// Answer only when it is saved.
    pub wait_saved: bool,
}

/// What a volume is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolve {
    /// What it is called.
    Name(String),
    /// Its project.
    Project(Slug),
}

/// What is seen of volumes.
#[derive(Debug, Clone)]
pub enum VolumeEvent {
    /// One as it is now: new, changed, or back from the trash.
    Changed(Box<VolumeReport>),
    /// One is deleted, or in the trash.
    Deleted(VolumeId),
    /// All that there were have been told; what follows are changes.
    Listed,
}

/// The Volume Hub. Each call may be repeated; one that changes something has one effect for its operation id, for as
/// long as the volume remembers that.
///
/// One call at a time for each name and each volume, until what it does is captured: a second one is refused at once
/// with the kind `Conflict`. A call that waits until something is saved waits as long as its future is not dropped.
#[async_trait]
pub trait VolumeHub: Send + Sync + 'static {
    /// Makes a volume, or gives the one that the operation made, or the live one of that name that was asked for alike.
    async fn create_volume(&self, request: CreateVolume) -> Result<(Volume, Durability), HubError>;

    /// Deletes a volume for ever. Its named snapshots stay. One that is gone, or was never there, is success; one
    /// that is mounted, published or a project's workspace is refused, and so is an id that is a live volume's name.
    async fn delete_volume(&self, volume: VolumeId, operation: OperationId)
    -> Result<(), HubError>;

    /// Gives a node on which the volume is current. Reads only, when its owner may.
    async fn ensure_cached(&self, request: EnsureCached) -> Result<Placement, HubError>;

    /// Saves what has changed and answers when it is saved.
    async fn trigger_sync(&self, volume: VolumeId) -> Result<Synced, HubError>;

    /// Makes the directory that one service keeps its data in; one that is there is the answer. Gives its absolute
    /// path on the volume's node. `service`: 1 to 40 of `[a-z0-9-]`, beginning with a letter or digit.
    async fn create_service_volume(
        &self,
        volume: VolumeId,
        service: String,
    ) -> Result<PathBuf, HubError>;

    /// Everything that is known of a volume. Its node asks the store when that was some seconds ago, and waits only a
    /// moment for it.
    async fn volume_status(&self, volume: VolumeId) -> Result<VolumeReport, HubError>;

    /// Changes what a volume was made with.
    async fn modify_volume(&self, request: ModifyVolume) -> Result<Volume, HubError>;

    /// Snapshots volumes at one instant; in the order of the request.
    async fn snapshot(&self, request: SnapshotVolumes) -> Result<Vec<Snapshot>, HubError>;

    /// Deletes a snapshot, and answers when that is saved. One that is gone, or was never there, is success.
    async fn delete_snapshot(
        &self,
        snapshot: SnapshotId,
        operation: OperationId,
    ) -> Result<(), HubError>;

    /// The snapshots that a filter names, in the order of their ids, without those that nobody can read. One that is
    /// asked for by its id and may be among those is refused with the kind `Corrupt`, and so is a group of which one
    /// may be.
    async fn list_snapshots(
        &self,
        filter: SnapshotFilter,
        page: PageRequest,
    ) -> Result<Page<Snapshot>, HubError>;

    /// Brings a volume back to one of its snapshots.
    async fn restore_volume(&self, request: RestoreVolume) -> Result<RestoredVolume, HubError>;

    /// Finds a volume. A name that several have is refused with the kind `Precondition`.
    async fn resolve_volume(&self, what: Resolve) -> Result<Volume, HubError>;

    /// All volumes that are neither deleted nor in the trash, in the order of their ids.
    async fn list_volumes(&self, page: PageRequest) -> Result<Page<Volume>, HubError>;

    /// The volumes as they are, [`VolumeEvent::Listed`], and then what has changed at each look, once a second while it
    /// is read: what changes twice in between is told once, what is made and deleted in between is not. Ends with the
    /// Hub, and with a node that does not answer.
    async fn watch_volumes(
        &self,
    ) -> Result<BoxStream<'static, Result<VolumeEvent, HubError>>, HubError>;

    /// The room for new volumes on a node, or on all.
    async fn capacity(&self, node: Option<NodeId>) -> Result<Capacity, HubError>;

    /// Resolves when nothing changes any more in this process for calls that were begun, those too whose callers are
    /// gone. A Hub in another process has nothing here.
    async fn wait_idle(&self) {}
}
