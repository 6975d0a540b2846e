//! Projects that are made: empty, of a volume that is there already, and as forks.

use std::sync::Arc;

use cove_content::document::{ForkedFrom, ProjectDocument};
use cove_content::spec::{SpecChange, VolumeSpec};
use cove_content::volumes::{Moment, NewVolume, Source, VolumeError, VolumeStatus};
use cove_database::{ProjectRow, ProjectState};
use cove_types::{
    At, Classify, Digest, ErrorKind, ProjectId, ProjectReference, Slug, VolumeId, wire,
};
use serde_json::json;

use super::{entry_of, written};
use crate::error::is_quota;
use crate::operations::{Ask, Bound, Target};
use crate::workspaces::{Inner, Workspaces, about, row_of};
use crate::{Request, Saving, Started, WorkspaceError, names};

impl Workspaces {
    /// Makes a project, to which at most `quota_bytes` may be written. What a stream brings is not part of what its
    /// key is bound to.
    pub async fn create(
        &self,
        request: &Request,
        slug: &Slug,
        quota_bytes: Option<u64>,
        source: Source,
    ) -> Result<Started<wire::ProjectReply>, WorkspaceError> {
        let from = matches!(source, Source::Archive(_));
        let ask = Ask {
            request,
            kind: "project.create",
            resource: slug.to_string(),
            arguments: json!({ "slug": slug, "archive": from, "quota_bytes": quota_bytes }),
            removes: false,
        };
        let target = async { Ok(Target::default()) };
        let (inner, slug) = (Arc::clone(self.inner()), slug.clone());
        let work = |bound| create(inner, bound, slug, quota_bytes, source);
        self.inner().operations.start(ask, target, work).await
    }

    /// Makes a volume that stands alone the workspace of a new project, as it is; with `quota_bytes`, to that much.
    pub async fn adopt(
        &self,
        request: &Request,
        slug: &Slug,
        volume: &VolumeId,
        quota_bytes: Option<u64>,
    ) -> Result<Started<wire::ProjectReply>, WorkspaceError> {
        let ask = Ask {
            request,
            kind: "project.create",
            resource: slug.to_string(),
            arguments: json!({ "slug": slug, "volume": volume, "quota_bytes": quota_bytes }),
            removes: false,
        };
        let inner = Arc::clone(self.inner());
        let target = async {
            let status = alone(&inner, volume).await?;
            Ok(Target { volume: Some(volume.clone()), seq: status.seq })
        };
        let (inner, slug) = (Arc::clone(self.inner()), slug.clone());
        let work = |bound| adopt(inner, bound, slug, quota_bytes);
        self.inner().operations.start(ask, target, work).await
    }

    /// Makes projects that begin at one moment of another, all or none.
    ///
    /// Without `as_` the first free `<source>-<n>`; with a count `<as_>-1` to `<as_>-<count>`.
    pub async fn fork(
        &self,
        request: &Request,
        source: &ProjectReference,
        as_: Option<&Slug>,
        count: Option<u32>,
    ) -> Result<Started<wire::ProjectsReply>, WorkspaceError> {
        let ask = Ask {
            request,
            kind: "project.fork",
            resource: written(source),
            arguments: json!({ "source": written(source), "as": as_, "count": count }),
            removes: false,
        };
        let target = self.inner().target(&source.project);
        let (inner, source, wanted) = (Arc::clone(self.inner()), source.clone(), as_.cloned());
        let work = |bound| fork(inner, bound, source, wanted, count);
        self.inner().operations.start(ask, target, work).await
    }
}

/// The row of a project that is about to be made.
fn new_row(inner: &Inner, bound: &Bound, ordinal: u32, slug: Slug) -> ProjectRow {
    let call = &bound.call;
    ProjectRow {
        id: ProjectId::derive(&call.principal, &call.operation, ordinal),
        name: slug.to_string(),
        slug,
        volume: VolumeId::derive(&call.principal, &call.operation, ordinal),
        state: ProjectState::Creating,
        created_us: inner.env.now().as_microsecond(),
        trashed_us: None,
        document: "{}".to_owned(),
        verified: None,
    }
}

/// The document of a project that is about to be made.
fn new_document(row: &ProjectRow) -> ProjectDocument {
    ProjectDocument {
        id: row.id.clone(),
        name: row.name.clone(),
        slug: row.slug.clone(),
        config: serde_json::Map::new(),
        graph: serde_json::Map::new(),
        forked_from: None,
        created_at: jiff::Timestamp::from_microsecond(row.created_us).unwrap_or_default(),
        unknown: serde_json::Map::new(),
    }
}

/// Takes back the names of projects whose making failed, but not of those that are there, or of
/// which nobody knows yet.
async fn take_back(inner: &Inner, rows: &[ProjectRow], error: &VolumeError) {
    if matches!(error, VolumeError::Unknown { .. }) {
        return;
    }
    let mut gone = Vec::new();
    for row in rows {
        let status = inner.volumes.status(&row.volume).await;
        if status.is_err_and(|error| error.is_not_here()) {
            gone.push(row.id.clone());
        }
    }
    if let Err(error) = inner.database.delete_projects(&gone).await {
        tracing::warn!(%error, "failed to free the names of projects that were not made");
    }
}

async fn create(
    inner: Arc<Inner>,
    bound: Bound,
    slug: Slug,
    quota_bytes: Option<u64>,
    source: Source,
) -> Result<(wire::ProjectReply, Saving<wire::ProjectReply>), WorkspaceError> {
    let wanted = new_row(&inner, &bound, 0, slug);
    let id = wanted.id.clone();
    let rows = inner
        .reserve_rows(
            |taken| match taken.contains(&wanted.slug) {
                true => Err(WorkspaceError::NameTaken { slug: wanted.slug.clone() }),
                false => Ok(vec![wanted]),
            },
            &id,
            |row| row.id == id,
        )
        .await?;
    let gone = || WorkspaceError::NoResult { what: id.to_string() };
    let row = rows.into_iter().next().ok_or_else(gone)?;
    let new = NewVolume {
        volume: row.volume.clone(),
        document: new_document(&row),
        spec: VolumeSpec { quota_bytes, ..VolumeSpec::default() },
    };
    let created = inner.volumes.create(bound.call, new, source).await;
    let captured = match created {
        Ok(captured) => captured,
        Err(error) => {
            take_back(&inner, std::slice::from_ref(&row), &error).await;
            return Err(match quota_bytes {
                Some(quota_bytes) if is_quota(&error) => {
                    WorkspaceError::QuotaTooSmall { slug: row.slug, quota_bytes }
                }
                _ => about(&row.slug)(error),
            });
        }
    };
    let (status, remarks) = captured.value;
    let made = inner.made_or_later(vec![row_of(Some(&row), &status)]).await;
    let row = made.into_iter().next().unwrap_or(row);
    let project = inner.shape(&row, &status, &[]);
    let value = wire::ProjectReply { project, entry: None, remarks };
    let saved: Saving<wire::ProjectReply> = Box::pin(async move {
        match captured.saved.await {
            Ok((status, remarks)) => {
                inner.still_made(std::slice::from_ref(&row)).await;
                let project = inner.shape(&row, &status, &[]);
                Ok(wire::ProjectReply { project, entry: None, remarks })
            }
            Err(error) => {
                take_back(&inner, std::slice::from_ref(&row), &error).await;
                Err(about(&row.slug)(error))
            }
        }
    });
    Ok((value, saved))
}

/// Why a volume that a project is to be made of is not to be had.
fn of_adopted(slug: &Slug, error: VolumeError) -> WorkspaceError {
    match error {
        VolumeError::NotHere { volume } => WorkspaceError::NoVolume { volume },
        error => about(slug)(error),
    }
}

/// A volume that is no project's workspace.
async fn alone(inner: &Inner, volume: &VolumeId) -> Result<VolumeStatus, WorkspaceError> {
    let missing = |error| match error {
        VolumeError::NotHere { volume } => WorkspaceError::NoVolume { volume },
        error => WorkspaceError::OfStore(error),
    };
    let status = inner.volumes.status(volume).await.map_err(missing)?;
    if status.is_deleted {
        return Err(WorkspaceError::NoVolume { volume: volume.clone() });
    }
    match status.spec.stands_alone {
        true => Ok(status),
        false => {
            Err(WorkspaceError::IsWorkspace { volume: volume.clone(), slug: status.document.slug })
        }
    }
}

async fn adopt(
    inner: Arc<Inner>,
    bound: Bound,
    slug: Slug,
    quota_bytes: Option<u64>,
) -> Result<(wire::ProjectReply, Saving<wire::ProjectReply>), WorkspaceError> {
    let volume = bound.volume()?;
    // of a repeated call it may be the workspace already
    let status = inner.volumes.status(&volume).await;
    let status = status.map_err(|error| of_adopted(&slug, error))?;
    let wanted = ProjectRow {
        id: status.document.id.clone(),
        volume: volume.clone(),
        created_us: status.document.created_at.as_microsecond(),
        ..new_row(&inner, &bound, 0, slug.clone())
    };
    let id = wanted.id.clone();
    let reserved = inner.reserve_rows(
        |taken| match taken.contains(&wanted.slug) {
            true => Err(WorkspaceError::NameTaken { slug: wanted.slug.clone() }),
            false => Ok(vec![wanted]),
        },
        &id,
        |row| row.id == id,
    );
    let rows = reserved.await?;
    let gone = || WorkspaceError::NoResult { what: id.to_string() };
    let row = rows.into_iter().next().ok_or_else(gone)?;
    if row.slug != slug {
        return Err(WorkspaceError::IsWorkspace { volume, slug: row.slug });
    }
    let document =
        ProjectDocument { name: row.name.clone(), slug: row.slug.clone(), ..status.document };
    let change = SpecChange {
        stands_alone: Some(false),
        quota_bytes: quota_bytes.map(Some),
        ..SpecChange::default()
    };
    let specified = inner.volumes.specify(bound.call, volume.clone(), change, Some(document)).await;
    let captured = match specified {
        Ok(captured) => captured,
        Err(error) => {
            give_back(&inner, &row, &error).await;
            return Err(of_adopted(&row.slug, error));
        }
    };
    let status = captured.value;
    let made = inner.made_or_later(vec![row_of(Some(&row), &status)]).await;
    let row = made.into_iter().next().unwrap_or(row);
    let shape = |inner: &Inner, row: &ProjectRow, status: &VolumeStatus| wire::ProjectReply {
        project: inner.shape(row, status, &[]),
        entry: None,
        remarks: Vec::new(),
    };
    let value = shape(&inner, &row, &status);
    let saved: Saving<wire::ProjectReply> = Box::pin(async move {
        match captured.saved.await {
            Ok(status) => {
                inner.still_made(std::slice::from_ref(&row)).await;
                Ok(shape(&inner, &row, &status))
            }
            Err(error) => {
                give_back(&inner, &row, &error).await;
                Err(of_adopted(&row.slug, error))
            }
        }
    });
    Ok((value, saved))
}

/// Takes back the name of a project that a volume did not become; not where that is not known, nor
/// where another call is at the volume, which may make it that project.
async fn give_back(inner: &Inner, row: &ProjectRow, error: &VolumeError) {
    if matches!(error, VolumeError::Unknown { .. }) || error.kind() == ErrorKind::Conflict {
        return;
    }
    match alone(inner, &row.volume).await {
        // it stands alone still, or was deleted meanwhile
        Ok(_) | Err(WorkspaceError::NoVolume { .. }) => {}
        Err(_) => return,
    }
    if let Err(error) = inner.database.delete_projects(std::slice::from_ref(&row.id)).await {
        tracing::warn!(%error, "failed to free the name of a project that was not made");
    }
}

async fn fork(
    inner: Arc<Inner>,
    bound: Bound,
    source: ProjectReference,
    wanted: Option<Slug>,
    count: Option<u32>,
) -> Result<(wire::ProjectsReply, Saving<wire::ProjectsReply>), WorkspaceError> {
    let volume = bound.volume()?;
    let origin = inner.of_volume(&volume).await?;
    let moment = match source.at {
        At::Now => Moment::Now,
        ref at => {
            let wanted = entry_of(&inner, &source.project, &volume, at);
            Moment::Entry(inner.operations.entry(&bound, wanted).await?)
        }
    };
    let call = bound.call.clone();
    let derived = |n: u32| ProjectId::derive(&call.principal, &call.operation, n);
    let all: Vec<ProjectId> = (0..count.unwrap_or(1).min(names::FORKS_MAX)).map(derived).collect();
    let mut rows = inner
        .reserve_rows(
            |taken| {
                let names = names::fork_names(&source.project, wanted.as_ref(), count, taken)?;
                let rows = names.into_iter().zip(0..);
                Ok(rows.map(|(slug, n)| new_row(&inner, &bound, n, slug)).collect())
            },
            &derived(0),
            |row| all.contains(&row.id),
        )
        .await?;
    rows.sort_by_key(|row| all.iter().position(|id| *id == row.id));
    let entry = match &moment {
        Moment::Now => None,
        Moment::Entry(entry) => Some(*entry),
    };
    let status = inner.volumes.status(&volume).await.map_err(about(&source.project))?;
    let targets = rows
        .iter()
        .map(|row| {
            // The node fills in the tree that it forks.
            let from = ForkedFrom { project: origin.id.clone(), entry, tree: Digest::HOLE };
            let document = ProjectDocument {
                config: status.document.config.clone(),
                graph: status.document.graph.clone(),
                forked_from: Some(from),
                ..new_document(row)
            };
            // what was asked of the source as a volume is the source's; what it may take goes with its files
            let spec = VolumeSpec { quota_bytes: status.spec.quota_bytes, ..VolumeSpec::default() };
            NewVolume { volume: row.volume.clone(), document, spec }
        })
        .collect();
    let captured = match inner.volumes.fork(bound.call, volume, moment, targets).await {
        Ok(captured) => captured,
        Err(error) => {
            take_back(&inner, &rows, &error).await;
            return Err(about(&source.project)(error));
        }
    };
    let rows: Vec<ProjectRow> =
        paired(&rows, &captured.value).map(|(row, status)| row_of(Some(row), status)).collect();
    let rows = inner.made_or_later(rows).await;
    let shaped = |inner: &Inner, rows: &[ProjectRow], statuses: &[VolumeStatus]| {
        let projects = paired(rows, statuses).map(|(row, status)| inner.shape(row, status, &[]));
        wire::ProjectsReply { projects: projects.collect(), remarks: Vec::new() }
    };
    let value = shaped(&inner, &rows, &captured.value);
    let saved: Saving<wire::ProjectsReply> = Box::pin(async move {
        match captured.saved.await {
            Ok(statuses) => {
                inner.still_made(&rows).await;
                Ok(shaped(&inner, &rows, &statuses))
            }
            Err(error) => {
                take_back(&inner, &rows, &error).await;
                Err(about(&source.project)(error))
            }
        }
    });
    Ok((value, saved))
}

/// Rows with the statuses of their volumes, in the rows' order.
fn paired<'a>(
    rows: &'a [ProjectRow],
    statuses: &'a [VolumeStatus],
) -> impl Iterator<Item = (&'a ProjectRow, &'a VolumeStatus)> {
    rows.iter().filter_map(|row| {
        let status = statuses.iter().find(|status| status.volume == row.volume)?;
        Some((row, status))
    })
}
