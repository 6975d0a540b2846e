//! What changes of volumes and snapshots that are there.

use cove_content::spec::{SpecChange, VolumeSpec, check_quota_bytes};
use cove_types::{EntryKind, ErrorKind, NodeId, OperationId, SnapshotId, VolumeId, escape_bytes};

use super::{View, VolumeState, refused};
use crate::published::Published;
use crate::volume_hub::{ModifyVolume, RestoreVolume};
use crate::{HubError, parameters, request};

/// What becomes of a request to delete a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delete {
    /// It is gone, or was never there.
    Gone,
    /// It is to be deleted.
    Delete {
        /// Where.
        node: NodeId,
        /// Under which operation.
        operation: OperationId,
    },
}

/// Decides about a volume that is to be deleted. One that is a project's workspace is deleted with its project, one
/// that is published when it is no more, and one that is named by its name is not.
///
/// # Errors
///
/// [`HubError`].
pub fn delete(view: &View, volume: &VolumeId, operation: &OperationId) -> Result<Delete, HubError> {
    let Some(found) = view.find(volume)? else {
        check_no_name(view, "volume", volume)?;
        return Ok(Delete::Gone);
    };
    if found.state == VolumeState::Deleted {
        return Ok(Delete::Gone);
    }
    if let Some(project) = found.project() {
        return Err(HubError::IsWorkspace { volume: volume.clone(), project: project.to_string() });
    }
    check_unpublished(volume, &found.spec)?;
    let operation = request::whole_of(operation);
    Ok(Delete::Delete { node: found.node.clone(), operation })
}

/// Decides whether a volume may go to the trash. One that lies there already is as good.
///
/// # Errors
///
/// [`HubError`].
pub fn trash(volume: &VolumeId, state: VolumeState, spec: &VolumeSpec) -> Result<(), HubError> {
    match state {
        VolumeState::Live => check_unpublished(volume, spec),
        VolumeState::Trashed | VolumeState::Deleted => Ok(()),
    }
}

/// Refuses to take away what is used where it is published.
fn check_unpublished(volume: &VolumeId, spec: &VolumeSpec) -> Result<(), HubError> {
    let Some(published) = Published::of(&spec.labels) else { return Ok(()) };
    Err(HubError::IsPublished {
        volume: volume.clone(),
        node: escape_bytes(published.node.as_bytes()),
        label: published.label(),
    })
}

/// Refuses to call gone what is no id and is what a live volume is called.
fn check_no_name(view: &View, field: &'static str, id: &VolumeId) -> Result<(), HubError> {
    let called = view.live_called(id.as_str()).next();
    called.map_or(Ok(()), |(volume, _)| {
        Err(HubError::NameForId { field, name: id.clone(), volume: volume.clone() })
    })
}

/// What becomes of a request to delete a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteSnapshot {
    /// It is gone, or was never there.
    Gone,
    /// It is to be taken out of its volume.
    Remove {
        /// Where.
        node: NodeId,
        /// Under which operation.
        operation: OperationId,
    },
}

/// Decides about a snapshot that is to be deleted: one that was asked for by name. The others are entries of a
/// project's timeline and go to its trash.
///
/// # Errors
///
/// [`HubError`].
pub fn delete_snapshot(
    view: &View,
    snapshot: &SnapshotId,
    operation: &OperationId,
) -> Result<DeleteSnapshot, HubError> {
    let Some((volume, found)) = view.find_snapshot(snapshot)? else {
        if !view.volumes.contains_key(&snapshot.volume) {
            check_no_name(view, "snapshot", &snapshot.volume)?;
        }
        return Ok(DeleteSnapshot::Gone);
    };
    if found.kind != EntryKind::Csi {
        return Err(refused(
            ErrorKind::Precondition,
            format!("delete snapshot {snapshot}"),
            "it is an entry of a project's timeline",
        ));
    }
    let operation = request::whole_of(operation);
    Ok(DeleteSnapshot::Remove { node: volume.node.clone(), operation })
}

/// A restore that is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    /// Where.
    pub node: NodeId,
    /// How many counted entries stay.
    pub keep: u32,
}

/// Decides about a volume that is to go back to a snapshot, which has to be one of its own. Whether it is there is for
/// the node to say, which knows first whether this is a repetition of what was done while it was.
///
/// # Errors
///
/// [`HubError`].
pub fn restore(view: &View, wanted: &RestoreVolume) -> Result<Restore, HubError> {
    let volume = view.get_live(&wanted.volume)?;
    if wanted.snapshot.volume != wanted.volume {
        return Err(HubError::NoSnapshot { snapshot: wanted.snapshot.clone() });
    }
    Ok(Restore { node: volume.node.clone(), keep: parameters::keep(&volume.spec) })
}

/// What becomes of a request to change a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Modify {
    /// It is as it is to be.
    Unchanged,
    /// It is to be changed.
    Change {
        /// Where.
        node: NodeId,
        /// Under which operation.
        operation: OperationId,
        /// To what.
        change: SpecChange,
    },
}

/// Decides about a volume that is to be changed. A quota is asked of its node although it is as it is to be: what is
/// written down of a first one may not hold yet, which only the node sees to.
///
/// # Errors
///
/// [`HubError`].
pub fn modify(view: &View, wanted: &ModifyVolume) -> Result<Modify, HubError> {
    parameters::check(&wanted.parameters)?;
    if let Some(Some(bytes)) = wanted.quota_bytes {
        check_quota(bytes)?;
    }
    let volume = view.get_live(&wanted.volume)?;
    let change = SpecChange {
        quota_bytes: wanted.quota_bytes,
        labels: wanted.labels.clone(),
        parameters: wanted.parameters.clone(),
        stands_alone: None,
    };
    let changed = volume.spec.changed(&change);
    changed.check()?;
    let is_held = !matches!(wanted.quota_bytes, Some(Some(_)));
    if is_held && changed == volume.spec {
        return Ok(Modify::Unchanged);
    }
    let operation = request::whole_of(&wanted.operation);
    Ok(Modify::Change { node: volume.node.clone(), operation, change })
}

/// Refuses a quota that no volume can have.
pub(super) fn check_quota(bytes: u64) -> Result<(), HubError> {
    check_quota_bytes(bytes).map_err(|error| HubError::QuotaOutOfRange { what: error.to_string() })
}
