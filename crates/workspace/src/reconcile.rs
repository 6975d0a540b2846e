//! The projects table against the volumes: after a crash, and after a lost machine.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cove_content::volumes::{Call, Progress, VolumeError, VolumeStatus};
use cove_database::{OperationState, ProjectRow, ProjectState};
use cove_types::{Durability, VolumeId, wire};
use serde_json::{Value, json};

use crate::operations::{Operations, RESTORE};
use crate::request::{parse_key, request_digest};
use crate::workspaces::{Inner, about, row_of, settle_names};
use crate::{Failure, Request, WorkspaceError, Workspaces, shape};

/// For how long the ends of calls are kept, in µs: 30 days.
const OPERATIONS_KEPT_US: i64 = 30 * 86_400 * 1_000_000;

/// How often those that are older are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(86_400);

/// How long until what was captured before a start is looked at again, when it was not saved.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What [`Workspaces::reconcile`] changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Projects whose rows are written anew or for the first time, by name.
    pub written: Vec<String>,
    /// Names that are free again because their projects were never made.
    pub dropped: Vec<String>,
    /// Projects of which this node has no volume, by name; their rows stay.
    pub missing: Vec<String>,
}

/// What is to be done with the rows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// The whole table. It is replaced at once, because names may have gone round in a circle.
    rows: Vec<ProjectRow>,
    reconciled: Reconciled,
}

/// What makes `rows` what the volumes are: a volume's document and place win over its row; a row
/// that is `creating` and has no volume goes; any other row without a volume stays.
fn plan(rows: &[ProjectRow], statuses: &[VolumeStatus]) -> Plan {
    let mut plan = Plan::default();
    for row in rows {
        if statuses.iter().any(|status| status.volume == row.volume) {
            continue;
        }
        match row.state {
            ProjectState::Creating => {
                plan.reconciled.dropped.push(row.slug.to_string());
            }
            ProjectState::Live | ProjectState::Trashed => {
                plan.reconciled.missing.push(row.slug.to_string());
                plan.rows.push(row.clone());
            }
        }
    }
    plan.rows.extend(statuses.iter().map(|status| row_of(known(rows, status), status)));
    settle_names(&mut plan.rows);
    let new = plan.rows.iter().filter(|row| !rows.contains(row));
    plan.reconciled.written.extend(new.map(|row| row.slug.to_string()));
    plan
}

/// The row that a volume has.
fn known<'a>(rows: &'a [ProjectRow], status: &VolumeStatus) -> Option<&'a ProjectRow> {
    rows.iter().find(|row| row.volume == status.volume)
}

impl Workspaces {
    /// Makes the projects table what the volumes are, and goes on with what was being saved. To be
    /// called at the start, before the first request.
    pub async fn reconcile(&self) -> Result<Reconciled, WorkspaceError> {
        let inner = self.inner();
        let _naming = inner.naming.lock().await;
        let statuses = inner.workspaces().await?;
        let rows = inner.database.projects().await?;
        let plan = plan(&rows, &statuses);
        if !plan.reconciled.written.is_empty() || !plan.reconciled.dropped.is_empty() {
            inner.database.replace_projects(&plan.rows).await?;
        }
        inner.forget_operations().await?;
        // None runs yet: what says so was interrupted, and nobody has asked again.
        inner.database.delete_interrupted_operations(inner.operations_kept_us()).await?;
        tokio::spawn(forget_daily(Arc::downgrade(inner)));
        for status in statuses.iter().filter(|status| status.durability != Durability::Saved) {
            tokio::spawn(follow(Arc::downgrade(inner), status.volume.clone()));
        }
        for row in inner.database.unfinished_operations().await? {
            let (OperationState::Captured, Some(result)) = (row.state, &row.result) else {
                continue;
            };
            let Ok(result) = serde_json::from_str::<Value>(result) else { continue };
            let request =
                Request { key: row.key, principal: row.principal, request_id: String::new() };
            tokio::spawn(finish(Arc::clone(inner), request, row.kind, row.volume, result));
        }
        Ok(plan.reconciled)
    }

    /// Takes the store over and makes the projects that its heads tell of, in place of those that
    /// the database had. Two live projects of one name: the older keeps it, the other gets
    /// the next free number and is named in `lost`, although nothing of it is.
    ///
    /// `take`: although the store's holder gave a sign of life.
    pub async fn recover(
        &self,
        request: &Request,
        take: bool,
        progress: Progress,
    ) -> Result<wire::RecoverReply, WorkspaceError> {
        parse_key(&request.key)?;
        let inner = self.inner();
        let _recovering = inner.tell_of_recovery(progress.clone());
        let recovered = recover(inner, request, take, progress).await;
        inner.operations.audit(request, "store.recover", "store", &recovered).await?;
        recovered
    }
}

async fn recover(
    inner: &Arc<Inner>,
    request: &Request,
    take: bool,
    progress: Progress,
) -> Result<wire::RecoverReply, WorkspaceError> {
    let recovered = inner.volumes.recover(take, progress).await.map_err(WorkspaceError::OfStore)?;
    let mut lost = recovered.lost;
    lost.extend(register(inner, request).await?);
    // what came back is used from here on, however long others are looked for
    let found = recovered.rest.await.map_err(WorkspaceError::OfStore)?;
    lost.extend(found.lost);
    if !found.volumes.is_empty() {
        lost.extend(register(inner, request).await?);
    }
    let statuses: Vec<VolumeStatus> = recovered.volumes.into_iter().chain(found.volumes).collect();
    let is_alone = |status: &&VolumeStatus| status.spec.stands_alone && !status.is_deleted;
    let volumes = statuses.iter().filter(is_alone).count() as u64;
    let back: HashSet<VolumeId> = statuses.into_iter().map(|status| status.volume).collect();
    let rows = inner.database.projects().await?;
    let here = |row: &&ProjectRow| back.contains(&row.volume) && row.state == ProjectState::Live;
    let mut projects = Vec::new();
    for row in rows.iter().filter(here) {
        projects.push(inner.shown(row).await?);
    }
    projects.sort_by(|a, b| a.slug.cmp(&b.slug));
    let rebuilt = found.rebuilt.iter().filter_map(|rebuilt| {
        let row = rows.iter().find(|row| row.volume == rebuilt.volume)?;
        Some(wire::Rebuilt {
            project: row.slug.to_string(),
            volume: rebuilt.volume.to_string(),
            lost_volume: rebuilt.lost.to_string(),
            recorded_at: rebuilt.recorded_at.to_string(),
        })
    });
    let rebuilt = rebuilt.collect();
    Ok(wire::RecoverReply { projects, lost, rebuilt, volumes })
}

/// Makes the projects of the volumes that are here, in place of those that the database had. Names what gets
/// another name.
async fn register(
    inner: &Arc<Inner>,
    request: &Request,
) -> Result<Vec<wire::Lost>, WorkspaceError> {
    let _naming = inner.naming.lock().await;
    let statuses = inner.workspaces().await?;
    let known_rows = inner.database.projects().await?;
    let mut rows: Vec<ProjectRow> =
        statuses.iter().map(|status| row_of(known(&known_rows, status), status)).collect();
    // Who makes a project now has its name, though its volume is not there yet.
    let is_there = |row: &ProjectRow| statuses.iter().any(|status| status.volume == row.volume);
    let creating = |row: &ProjectRow| row.state == ProjectState::Creating && !is_there(row);
    rows.extend(known_rows.into_iter().filter(creating));
    let renamed = settle_names(&mut rows);
    inner.database.replace_projects(&rows).await?;
    let mut lost = Vec::new();
    for (from, to) in &renamed {
        lost.push(wire::Lost {
            what: format!("the name of a project {from}, which is {to} now"),
            why: "another live project has that name".to_owned(),
        });
        let row = rows.iter().find(|row| row.slug == *to);
        let status = row.and_then(|row| statuses.iter().find(|status| status.volume == row.volume));
        if let (Some(row), Some(status)) = (row, status)
            && let Err(error) = describe(inner, request, row, status).await
        {
            tracing::warn!(project = %to, %error, "failed to write a project's new name to the store");
        }
    }
    Ok(lost)
}

/// Writes the name that a project has now into its volume.
async fn describe(
    inner: &Inner,
    request: &Request,
    row: &ProjectRow,
    status: &VolumeStatus,
) -> Result<(), VolumeError> {
    let document = cove_content::document::ProjectDocument {
        name: row.name.clone(),
        slug: row.slug.clone(),
        ..status.document.clone()
    };
    let call = Call {
        operation: inner.env.operation_id(status.seq),
        principal: request.principal.clone(),
        request: request_digest("store.recover", &json!({ "slug": row.slug })),
        progress: Progress::default(),
    };
    inner.volumes.describe(call, row.volume.clone(), document).await.map(|_| ())
}

impl Inner {
    /// Since when the ends of calls are kept.
    fn operations_kept_us(&self) -> i64 {
        self.env.now().as_microsecond() - OPERATIONS_KEPT_US
    }

    async fn forget_operations(&self) -> Result<(), WorkspaceError> {
        Ok(self.database.delete_operations(self.operations_kept_us()).await?)
    }
}

/// Forgets the old ends of calls as long as the server lives.
async fn forget_daily(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.forget_operations().await {
            tracing::warn!(%error, "failed to forget the old ends of calls");
        }
    }
}

/// Waits for what a volume had captured when the server ended, and makes its row what it is then: an
/// `rm` that nobody waits for any more moves the project to the trash.
async fn follow(inner: Weak<Inner>, volume: VolumeId) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let settled = async {
            let row = inner.of_volume(&volume).await?;
            let saved = inner.volumes.wait_saved(&volume).await.map_err(about(&row.slug));
            // what failed for good is told by its health; what may yet be saved keeps nobody from seeing
            // what was
            let failure = saved.err().map(|error| Failure::from(&error));
            let is_over = failure.is_none_or(|failure| failure.is_final());
            let status = inner.volumes.status(&volume).await.map_err(about(&row.slug))?;
            // a call may have changed it meanwhile
            let row = inner.of_volume(&volume).await?;
            let found = row_of(Some(&row), &status);
            if (found.state, found.trashed_us) != (row.state, row.trashed_us) {
                inner.made(&[found]).await?;
            }
            Ok::<_, WorkspaceError>(is_over)
        };
        match settled.await {
            Ok(true) | Err(WorkspaceError::NoProjectOf { .. }) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(%volume, %error, "a project's row is not up to date yet"),
        }
        drop(inner);
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits for what was being saved when the server ended, and writes down how that ended.
async fn finish(
    inner: Arc<Inner>,
    request: Request,
    kind: String,
    volume: Option<VolumeId>,
    result: Value,
) {
    let end = loop {
        let end = refreshed(&inner, &kind, volume.as_ref(), result.clone()).await;
        let end = end.map_err(|error| Failure::from(&error));
        match &end {
            Err(failure) if !failure.is_final() => {
                tracing::warn!(%kind, error = failure.what, "what was captured is not saved yet");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            _ => break end,
        }
    };
    let operations: &Operations = &inner.operations;
    if let Err(error) = operations.end(&request, &kind, "after a restart", &end).await {
        tracing::warn!(%kind, %error, "failed to write down how a call ended");
    }
}

/// The reply of a call, as it is once its volumes are saved.
async fn refreshed(
    inner: &Inner,
    kind: &str,
    volume: Option<&VolumeId>,
    mut result: Value,
) -> Result<Value, WorkspaceError> {
    let one = result.get("project").cloned();
    let many = result.get("projects").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut fresh = Vec::new();
    for project in one.iter().chain(&many) {
        let Some(volume) = project.get("volume").and_then(Value::as_str) else { continue };
        let volume: VolumeId = volume.parse()?;
        let row = saved(inner, &volume).await?;
        fresh.push(json!(inner.shown(&row).await?));
    }
    if one.is_some() {
        result["project"] = fresh.into_iter().next().unwrap_or_default();
    } else if !many.is_empty() {
        result["projects"] = Value::Array(fresh);
    }
    let entry = result.get("entry").and_then(|entry| entry.get("id")).and_then(Value::as_str);
    if let (Some(volume), Some(entry)) = (volume, entry.map(ToOwned::to_owned)) {
        let slug = saved(inner, volume).await?.slug;
        let entries = inner.volumes.entries(volume).await.map_err(about(&slug))?;
        let view = entries.iter().find(|view| view.record.id.as_str() == entry);
        result["entry"] = match view {
            Some(view) => json!(shape::entry(view)),
            // a state that was an entry already got none
            None if kind == RESTORE => Value::Null,
            None => return Err(WorkspaceError::GivenUp { slug, entry }),
        };
    }
    Ok(result)
}

/// The project of a volume, once all that it had captured is saved.
async fn saved(inner: &Inner, volume: &VolumeId) -> Result<ProjectRow, WorkspaceError> {
    let row = inner.of_volume(volume).await?;
    inner.volumes.wait_saved(volume).await.map_err(about(&row.slug))?;
    Ok(row)
}

#[cfg(test)]
mod tests;
