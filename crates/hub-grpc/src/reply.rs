//! Replies: of the domain into those of the wire, and back.

use std::path::PathBuf;

use cove_hub::volume_hub::{
    Capacity, HealthState, Move, Placement, RestoredVolume, Snapshot, Synced, Volume, VolumeEvent,
    VolumeReport, VolumeSource,
};
use cove_types::{Durability, NodeId, wire};
use jiff::Timestamp;

use crate::field::{
    FieldError, instant, message, optional, optional_instant, optional_message, optional_path,
    path, required, text, wire_instant, wire_path,
};
use crate::pb;

impl TryFrom<Volume> for pb::Volume {
    type Error = FieldError;

    fn try_from(volume: Volume) -> Result<Self, FieldError> {
        let path = volume.path.map(|path| wire_path("path", &path)).transpose()?;
        Ok(Self {
            id: volume.id.to_string(),
            name: volume.name,
            node: volume.node.to_string(),
            project: volume.project.map(|slug| slug.to_string()).unwrap_or_default(),
            quota_bytes: volume.quota_bytes,
            labels: volume.labels,
            parameters: volume.parameters,
            source: volume.source.map(Into::into),
            created_at: Some(wire_instant(volume.created_at)),
            seq: volume.seq,
            path: path.unwrap_or_default(),
        })
    }
}

impl TryFrom<pb::Volume> for Volume {
    type Error = FieldError;

    fn try_from(volume: pb::Volume) -> Result<Self, FieldError> {
        let source: Option<VolumeSource> = optional_message("source", volume.source)?;
        if let Some(VolumeSource::Template(_)) = source {
            let law = "a volume began as a volume or a snapshot";
            return Err(FieldError::unlawful("source.template", law));
        }
        Ok(Self {
            id: required("id", &volume.id)?,
            name: text("name", volume.name)?,
            node: required("node", &volume.node)?,
            project: optional("project", &volume.project)?,
            quota_bytes: volume.quota_bytes,
            labels: volume.labels,
            parameters: volume.parameters,
            source,
            created_at: instant("created_at", volume.created_at)?,
            seq: volume.seq,
            path: optional_path("path", &volume.path)?,
        })
    }
}

pub(crate) fn wire_durability(durability: Durability) -> i32 {
    let durability = match durability {
        Durability::OnThisNode => pb::Durability::OnNode,
        Durability::Saved => pb::Durability::Saved,
    };
    durability.into()
}

pub(crate) fn durability(field: &str, durability: i32) -> Result<Durability, FieldError> {
    match pb::Durability::try_from(durability) {
        Ok(pb::Durability::OnNode) => Ok(Durability::OnThisNode),
        Ok(pb::Durability::Saved) => Ok(Durability::Saved),
        Ok(pb::Durability::Unspecified) => Err(FieldError::missing(field)),
        Err(unknown) => Err(FieldError::unlawful(field, unknown)),
    }
}

impl From<Snapshot> for pb::Snapshot {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            id: snapshot.id.to_string(),
            volume: snapshot.id.volume.to_string(),
            name: snapshot.name.unwrap_or_default(),
            created_at: Some(wire_instant(snapshot.created_at)),
            bytes: snapshot.bytes,
            durability: wire_durability(snapshot.durability),
            group: snapshot.group.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::Snapshot> for Snapshot {
    type Error = FieldError;

    fn try_from(snapshot: pb::Snapshot) -> Result<Self, FieldError> {
        let id: cove_types::SnapshotId = required("id", &snapshot.id)?;
        if snapshot.volume != id.volume.as_str() {
            return Err(FieldError::unlawful("volume", format!("snapshot {id} is of another")));
        }
        Ok(Self {
            id,
            name: Some(snapshot.name).filter(|name| !name.is_empty()),
            created_at: instant("created_at", snapshot.created_at)?,
            bytes: snapshot.bytes,
            durability: durability("durability", snapshot.durability)?,
            group: Some(snapshot.group).filter(|group| !group.is_empty()),
        })
    }
}

impl TryFrom<wire::Problem> for pb::Problem {
    type Error = FieldError;

    fn try_from(problem: wire::Problem) -> Result<Self, FieldError> {
        let since: Timestamp = required("since", &problem.since)?;
        Ok(Self {
            what: problem.what,
            since: Some(wire_instant(since)),
            who_acts: problem.who_acts,
            hint: problem.hint.unwrap_or_default(),
        })
    }
}

impl TryFrom<pb::Problem> for wire::Problem {
    type Error = FieldError;

    fn try_from(problem: pb::Problem) -> Result<Self, FieldError> {
        Ok(Self {
            what: text("what", problem.what)?,
            since: instant("since", problem.since)?.to_string(),
            who_acts: text("who_acts", problem.who_acts)?,
            hint: Some(problem.hint).filter(|hint| !hint.is_empty()),
        })
    }
}

impl TryFrom<VolumeReport> for pb::VolumeStatusResponse {
    type Error = FieldError;

    fn try_from(report: VolumeReport) -> Result<Self, FieldError> {
        let state = match report.health_state() {
            HealthState::Ok => pb::health::State::Ok,
            HealthState::Attention => pb::health::State::Attention,
            HealthState::AtRisk => pb::health::State::AtRisk,
        };
        let copies = report.copies.into_iter();
        let problems = report.problems.into_iter();
        let health = pb::Health {
            state: state.into(),
            problems: problems
                .map(pb::Problem::try_from)
                .collect::<Result<_, _>>()
                .map_err(|error| error.within("health.problems"))?,
        };
        Ok(Self {
            volume: optional_message("volume", Some(report.volume))?,
            copies: copies
                .map(|(node, is_current)| pb::Copy { node: node.to_string(), is_current })
                .collect(),
            epoch: report.epoch,
            durability: wire_durability(report.durability),
            unsaved_bytes: report.unsaved_bytes,
            saved_at: report.saved_at.map(wire_instant),
            health: Some(health),
            logical_bytes: report.bytes.logical,
            charged_bytes: report.bytes.unique,
            shared_bytes: report.bytes.shared,
            snapshots: report.snapshots,
            moves: report.moves.into_iter().map(pb::Move::from).collect(),
        })
    }
}

impl TryFrom<pb::VolumeStatusResponse> for VolumeReport {
    type Error = FieldError;

    fn try_from(report: pb::VolumeStatusResponse) -> Result<Self, FieldError> {
        let copy = |copy: pb::Copy| {
            let node: NodeId = required("copies.node", &copy.node)?;
            Ok((node, copy.is_current))
        };
        let health = report.health.ok_or_else(|| FieldError::missing("health"))?;
        let problems = health.problems.into_iter().map(wire::Problem::try_from);
        Ok(Self {
            volume: message("volume", report.volume)?,
            copies: report.copies.into_iter().map(copy).collect::<Result<_, FieldError>>()?,
            epoch: report.epoch,
            durability: durability("durability", report.durability)?,
            unsaved_bytes: report.unsaved_bytes,
            saved_at: optional_instant("saved_at", report.saved_at)?,
            problems: problems
                .collect::<Result<_, _>>()
                .map_err(|error| error.within("health.problems"))?,
            bytes: wire::Bytes {
                logical: report.logical_bytes,
                unique: report.charged_bytes,
                shared: report.shared_bytes,
            },
            snapshots: report.snapshots,
            moves: report.moves.into_iter().map(Move::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Move> for pb::Move {
    fn from(Move { from, to, done_bytes, total_bytes }: Move) -> Self {
        Self { from: from.to_string(), to: to.to_string(), done_bytes, total_bytes }
    }
}

impl TryFrom<pb::Move> for Move {
    type Error = FieldError;

    fn try_from(
        pb::Move { from, to, done_bytes, total_bytes }: pb::Move,
    ) -> Result<Self, FieldError> {
        let (from, to) = (required("moves.from", &from)?, required("moves.to", &to)?);
        Ok(Self { from, to, done_bytes, total_bytes })
    }
}

impl TryFrom<Placement> for pb::EnsureCachedResponse {
    type Error = FieldError;

    fn try_from(placement: Placement) -> Result<Self, FieldError> {
        let path = wire_path("path", &placement.path)?;
        Ok(Self { node: placement.node.to_string(), path })
    }
}

impl TryFrom<pb::EnsureCachedResponse> for Placement {
    type Error = FieldError;

    fn try_from(reply: pb::EnsureCachedResponse) -> Result<Self, FieldError> {
        Ok(Self { node: required("node", &reply.node)?, path: path("path", &reply.path)? })
    }
}

impl From<Synced> for pb::TriggerSyncResponse {
    fn from(synced: Synced) -> Self {
        Self { saved_at: Some(wire_instant(synced.saved_at)), seq: synced.seq }
    }
}

impl TryFrom<pb::TriggerSyncResponse> for Synced {
    type Error = FieldError;

    fn try_from(reply: pb::TriggerSyncResponse) -> Result<Self, FieldError> {
        Ok(Self { saved_at: instant("saved_at", reply.saved_at)?, seq: reply.seq })
    }
}

impl TryFrom<PathBuf> for pb::CreateServiceVolumeResponse {
    type Error = FieldError;

    fn try_from(path: PathBuf) -> Result<Self, FieldError> {
        Ok(Self { path: wire_path("path", &path)? })
    }
}

impl From<Vec<Snapshot>> for pb::SnapshotResponse {
    fn from(snapshots: Vec<Snapshot>) -> Self {
        let group = snapshots.first().and_then(|first| first.group.clone());
        Self {
            snapshots: snapshots.into_iter().map(Into::into).collect(),
            group: group.unwrap_or_default(),
        }
    }
}

impl TryFrom<RestoredVolume> for pb::RestoreVolumeResponse {
    type Error = FieldError;

    fn try_from(restored: RestoredVolume) -> Result<Self, FieldError> {
        let volume = optional_message("volume", Some(restored.volume))?;
        Ok(Self { volume, before: restored.before.map(Into::into) })
    }
}

impl TryFrom<pb::RestoreVolumeResponse> for RestoredVolume {
    type Error = FieldError;

    fn try_from(reply: pb::RestoreVolumeResponse) -> Result<Self, FieldError> {
        Ok(Self {
            volume: message("volume", reply.volume)?,
            before: optional_message("before", reply.before)?,
        })
    }
}

impl TryFrom<VolumeEvent> for pb::WatchVolumesResponse {
    type Error = FieldError;

    fn try_from(event: VolumeEvent) -> Result<Self, FieldError> {
        use pb::watch_volumes_response::Event;
        let event = match event {
            VolumeEvent::Changed(report) => Event::Changed(Box::new((*report).try_into()?)),
            VolumeEvent::Deleted(id) => Event::Deleted(id.to_string()),
            VolumeEvent::Listed => Event::Listed(true),
        };
        Ok(Self { event: Some(event) })
    }
}

/// What happened; none when it is of a kind that only a newer Hub knows.
pub(crate) fn event(reply: pb::WatchVolumesResponse) -> Result<Option<VolumeEvent>, FieldError> {
    use pb::watch_volumes_response::Event;
    let Some(event) = reply.event else { return Ok(None) };
    Ok(Some(match event {
        Event::Changed(report) => {
            let report = VolumeReport::try_from(*report);
            VolumeEvent::Changed(Box::new(report.map_err(|error| error.within("changed"))?))
        }
        Event::Deleted(id) => VolumeEvent::Deleted(required("deleted", &id)?),
        Event::Listed(true) => VolumeEvent::Listed,
        Event::Listed(false) => return Err(FieldError::unlawful("listed", "it is always true")),
    }))
}

impl From<Capacity> for pb::GetCapacityResponse {
    fn from(capacity: Capacity) -> Self {
        Self { available_bytes: capacity.available_bytes, total_bytes: capacity.total_bytes }
    }
}

impl From<pb::GetCapacityResponse> for Capacity {
    fn from(reply: pb::GetCapacityResponse) -> Self {
        Self { available_bytes: reply.available_bytes, total_bytes: reply.total_bytes }
    }
}

#[cfg(test)]
mod tests;
