//! What nodes tell, in the words of the Hub and in those of its decisions.

use cove_content::entry::EntryRecord;
use cove_content::spec::SpecSource;
use cove_content::volumes::{EntryView, VolumeStatus};
use cove_types::{EntryKind, NodeId, SnapshotId, VolumeId};

use crate::plan::{SnapshotView, VolumeState, VolumeView};
use crate::request::name_in;
use crate::volume_hub::{Snapshot, Volume, VolumeReport, VolumeSource};

/// A volume, for a decision.
pub(crate) fn volume_view(node: &NodeId, status: &VolumeStatus) -> VolumeView {
    VolumeView {
        node: node.clone(),
        name: name(status),
        state: state(status),
        slug: status.document.slug.clone(),
        spec: status.spec.clone(),
        held_bytes: status.bytes.unique.saturating_add(status.bytes.shared),
        unread_entries: status.unread_entries,
        path: status.path.clone(),
    }
}

/// Whether a volume can be used.
pub(crate) fn state(status: &VolumeStatus) -> VolumeState {
    match (status.is_deleted, status.trashed_at) {
        (true, _) => VolumeState::Deleted,
        (false, Some(_)) => VolumeState::Trashed,
        (false, None) => VolumeState::Live,
    }
}

/// A volume, for callers.
pub(crate) fn volume(node: &NodeId, status: &VolumeStatus) -> Volume {
    Volume {
        id: status.volume.clone(),
        name: name(status),
        node: node.clone(),
        project: (!status.spec.stands_alone).then(|| status.document.slug.clone()),
        quota_bytes: status.spec.quota_bytes,
        labels: status.spec.labels.clone(),
        parameters: status.spec.parameters.clone(),
        source: status.spec.source.as_ref().map(|source| match source {
            SpecSource::Volume(volume) => VolumeSource::Volume(volume.clone()),
            SpecSource::Snapshot(volume, entry) => {
                VolumeSource::Snapshot(SnapshotId { volume: volume.clone(), entry: *entry })
            }
        }),
        created_at: status.document.created_at,
        seq: status.seq,
        path: status.path.clone(),
    }
}

/// Everything about a volume, for callers.
pub(crate) fn report(node: &NodeId, status: &VolumeStatus) -> VolumeReport {
    VolumeReport {
        volume: volume(node, status),
        copies: status.path.iter().map(|_| (node.clone(), true)).collect(),
        epoch: status.epoch,
        durability: status.durability,
        unsaved_bytes: status.unsaved_bytes,
        saved_at: status.saved_at,
        problems: status.problems.clone(),
        bytes: status.bytes,
        snapshots: status.entries,
        moves: Vec::new(),
    }
}

/// What a volume is called: as it was asked for, or as its project is.
fn name(status: &VolumeStatus) -> String {
    let asked = status.spec.name.as_ref().map(|name| name.as_str().to_owned());
    asked.unwrap_or_else(|| status.document.slug.to_string())
}

/// An entry, for a decision.
pub(crate) fn snapshot_view(entry: &EntryView) -> SnapshotView {
    SnapshotView {
        kind: entry.record.kind,
        name: snapshot_name(&entry.record),
        group: group(&entry.record),
        needs_bytes: entry.record.needs_bytes(entry.known),
    }
}

/// An entry, for callers.
pub(crate) fn snapshot(volume: &VolumeId, entry: &EntryView) -> Snapshot {
    Snapshot {
        id: SnapshotId { volume: volume.clone(), entry: entry.record.id },
        name: snapshot_name(&entry.record),
        created_at: entry.record.time,
        bytes: if entry.known { entry.record.root.counts.logical_bytes } else { 0 },
        durability: entry.durability,
        group: group(&entry.record),
    }
}

fn snapshot_name(record: &EntryRecord) -> Option<String> {
    let message = record.message.as_deref().filter(|_| record.kind == EntryKind::Csi)?;
    Some(name_in(message))
}

/// Entries of other kinds have causes that are no groups.
fn group(record: &EntryRecord) -> Option<String> {
    record.cause.clone().filter(|_| record.kind == EntryKind::Csi)
}
