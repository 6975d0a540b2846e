//! Volumes, whoever made them.

use axum::Json;
use axum::extract::State;
use cove_hub::volume_hub::{HealthState, VolumeEvent, VolumeReport, VolumeSource};
use cove_types::wire::{Volume, VolumeHealth, VolumeReply, VolumesReply};
use cove_types::{VolumeId, escape_bytes};
use futures::StreamExt;
use serde::Deserialize;

use super::{App, Refused, Reply};
use crate::problem::Problem;
use crate::reading::{Named, Nothing, Params, field};

/// Lists the volumes: those of projects, and those that are none's. What is in the trash, or deleted, is left out.
#[utoipa::path(get, path = "/volumes", operation_id = "list_volumes", tag = "volumes", responses(
    (status = 200, description = "The volumes, by id", body = VolumesReply),
    Refused,
))]
pub(crate) async fn list(
    State(app): State<App>,
    Params(Nothing {}): Params<Nothing>,
) -> Reply<VolumesReply> {
    let mut volumes = Vec::new();
    let mut events = app.hub.watch_volumes().await.map_err(Problem::from)?;
    while let Some(event) = events.next().await {
        match event.map_err(Problem::from)? {
            VolumeEvent::Changed(report) => volumes.push(shown(&app, &report)),
            VolumeEvent::Deleted(gone) => volumes.retain(|volume| volume.id != gone.as_str()),
            VolumeEvent::Listed => break,
        }
    }
    Ok(Json(VolumesReply { volumes }))
}

/// The volume in the path.
#[derive(Deserialize)]
pub(crate) struct InPath {
    volume: String,
}

/// Shows a volume. Costs no request to the store.
#[utoipa::path(get, path = "/volumes/{volume}", operation_id = "show_volume", tag = "volumes", params(("volume", description = "The volume's id")), responses(
    (status = 200, description = "The volume", body = VolumeReply),
    Refused,
))]
pub(crate) async fn show(
    State(app): State<App>,
    Named(InPath { volume }): Named<InPath>,
    Params(Nothing {}): Params<Nothing>,
) -> Reply<VolumeReply> {
    let volume: VolumeId = field("volume", &volume)?;
    let report = app.hub.volume_status(volume).await.map_err(Problem::from)?;
    Ok(Json(VolumeReply { volume: shown(&app, &report) }))
}

fn shown(app: &App, report: &VolumeReport) -> Volume {
    let volume = &report.volume;
    let path = volume.path.as_ref();
    Volume {
        id: volume.id.to_string(),
        name: volume.name.clone(),
        project: volume.project.as_ref().map(ToString::to_string),
        node: volume.node.to_string(),
        path: path.map(|path| escape_bytes(path.as_os_str().as_encoded_bytes())),
        quota_bytes: volume.quota_bytes,
        bytes: report.bytes,
        durability: report.durability,
        saved_at: report.saved_at.map(|at| at.to_string()),
        saved_to: app.workspaces.saved_to(),
        unsaved_bytes: report.unsaved_bytes,
        health: VolumeHealth {
            state: match report.health_state() {
                HealthState::Ok => "ok",
                HealthState::Attention => "attention",
                HealthState::AtRisk => "at_risk",
            }
            .to_owned(),
            problems: report.problems.clone(),
        },
        snapshots: report.snapshots,
        labels: volume.labels.clone(),
        parameters: volume.parameters.clone(),
        source: volume.source.as_ref().map(|source| match source {
            VolumeSource::Template(name) => name.clone(),
            VolumeSource::Volume(volume) => volume.to_string(),
            VolumeSource::Snapshot(snapshot) => snapshot.to_string(),
        }),
        created_at: volume.created_at.to_string(),
        seq: volume.seq,
        epoch: report.epoch,
    }
}
