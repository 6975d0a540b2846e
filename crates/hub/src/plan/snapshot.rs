//! Which snapshots are to be taken, and under which operations.

use std::collections::BTreeSet;

use cove_types::{EntryKind, NodeId, OperationId, ParseError, SnapshotId, VolumeId};

use super::{View, refused, shown};
use crate::volume_hub::{GROUP_MAX, SnapshotVolumes};
use crate::{HubError, request};

/// What becomes of a request for snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshots {
    /// They are there; in the order of the request.
    Answer(Vec<SnapshotId>),
    /// They are to be taken.
    Take(Taken),
}

/// Snapshots of one instant that are to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where.
    pub node: NodeId,
    /// Of which volumes, each with the operation under which its node does it; in the order of the request.
    pub of: Vec<(VolumeId, OperationId)>,
    /// The id that they have together.
    pub group: Option<String>,
}

/// Decides about snapshots that are wanted. Their name binds: live ones of it and of these volumes, deleted or not,
/// are the answer. The name is not called free while one of the volumes has entries that nobody can read.
///
/// # Errors
///
/// [`HubError`].
pub fn snapshot(view: &View, wanted: &SnapshotVolumes) -> Result<Snapshots, HubError> {
    let volumes: BTreeSet<&VolumeId> = wanted.volumes.iter().collect();
    let count = wanted.volumes.len();
    if count == 0 || count > GROUP_MAX {
        return Err(ParseError(format!(
            "1 to {GROUP_MAX} volumes are snapshotted at one instant, found {count}"
        ))
        .into());
    }
    if volumes.len() < count {
        return Err(ParseError("a volume is to be snapshotted twice at one instant".into()).into());
    }
    view.check_whole(&format!("look for a snapshot called \"{}\"", shown(&wanted.name)))?;
    let is_named = |(_, snapshot): &(_, &super::SnapshotView)| {
        snapshot.kind == EntryKind::Csi && snapshot.name.as_deref() == Some(wanted.name.as_str())
    };
    let named: Vec<_> = view.snapshots.iter().filter(is_named).collect();
    let of: BTreeSet<&VolumeId> = named.iter().map(|(id, _)| &id.volume).collect();
    if of == volumes
        && named.iter().all(|(_, snapshot)| snapshot.group.is_some() == wanted.is_group)
    {
        let of_volume = |volume: &VolumeId| named.iter().find(|(id, _)| id.volume == *volume);
        let answer = wanted.volumes.iter().filter_map(of_volume).map(|(id, _)| (*id).clone());
        return Ok(Snapshots::Answer(answer.collect()));
    }
    for id in &wanted.volumes {
        let Some(volume) = view.volumes.get(id) else { continue };
        volume.check_read(|| {
            format!("look for snapshots of volume {id} called \"{}\"", shown(&wanted.name))
        })?;
    }
    match named.first() {
        None => take(view, wanted).map(Snapshots::Take),
        Some((first, _)) => {
            let (name, snapshot) = (wanted.name.clone(), (*first).clone());
            Err(HubError::SnapshotNameTaken { name, snapshot })
        }
    }
}

fn take(view: &View, wanted: &SnapshotVolumes) -> Result<Taken, HubError> {
    let mut of = Vec::new();
    let mut nodes = BTreeSet::new();
    // one of them has the caller's operation itself, so that nothing else is done under that
    let first = wanted.volumes.iter().min();
    for id in &wanted.volumes {
        let volume = view.get_live(id)?;
        let operation = match Some(id) == first {
            true => request::whole_of(&wanted.operation),
            false => request::part_of(&wanted.operation, id),
        };
        of.push((id.clone(), operation));
        nodes.insert(&volume.node);
    }
    let mut nodes = nodes.into_iter();
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(Taken {
            node: node.clone(),
            of,
            group: wanted.is_group.then(|| request::group_of(&wanted.operation)),
        }),
        _ => Err(refused(
            cove_types::ErrorKind::Precondition,
            "snapshot volumes at one instant",
            "they are on several nodes",
        )),
    }
}
