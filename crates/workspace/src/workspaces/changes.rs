//! What changes something.

use std::sync::Arc;

use cove_content::document::{ForkedFrom, ProjectDocument};
use cove_content::entry::EntryRecord;
use cove_content::retention;
use cove_content::spec::{SpecChange, VolumeSpec};
use cove_content::volumes::{
    Call, EntryEdit, EntryView, FileEdit, Moment, NewEntry, NewVolume, Restore, Source,
    VolumeError, VolumeStatus,
};
use cove_database::{ProjectRow, ProjectState};
use cove_types::{
    At, Classify, Digest, EntryId, EntryKind, ErrorKind, Label, ProjectId, ProjectReference, Slug,
    TreePath, VolumeId, wire,
};
use serde_json::json;

use super::faults::Reach;
use super::sought::Sought;
use super::{Inner, Workspaces, about, resolve, row_of};
use crate::error::is_quota;
use crate::operations::{Ask, Bound, RESTORE, Target};
use crate::{Request, Saving, Started, WorkspaceError, names, shape};

/// The longest message of an entry, in bytes.
const MESSAGE_BYTES_MAX: usize = cove_content::entry::MESSAGE_BYTES_MAX;

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

    /// Makes an entry of the present state.
    pub async fn snapshot(
        &self,
        request: &Request,
        slug: &Slug,
        message: Option<&str>,
        label: Option<&Label>,
    ) -> Result<Started<wire::EntryReply>, WorkspaceError> {
        check_message(message)?;
        let ask = Ask {
            request,
            kind: "project.snapshot",
            resource: slug.to_string(),
            arguments: json!({ "slug": slug, "message": message, "label": label }),
            removes: false,
        };
        let entry = NewEntry {
            kind: EntryKind::Manual,
            author: request.principal.clone(),
            message: message.map(ToOwned::to_owned),
            label: label.cloned(),
            cause: None,
            keep: self.inner().keep,
        };
        let (inner, slug_) = (Arc::clone(self.inner()), slug.clone());
        let work = |bound: Bound| async move {
            let volume = bound.volume()?;
            let captured =
                inner.volumes.snapshot(bound.call, volume, entry).await.map_err(about(&slug_))?;
            let shaped = |snapshot: &cove_content::volumes::Snapshot| wire::EntryReply {
                entry: shape::entry(&snapshot.entry),
                rolled_off: snapshot.rolled_off.iter().map(shape::entry).collect(),
            };
            let reply = shaped(&captured.value);
            let saved = captured.saved;
            let saved: Saving<wire::EntryReply> =
                Box::pin(async move { Ok(shaped(&saved.await.map_err(about(&slug_))?)) });
            Ok((reply, saved))
        };
        self.inner().operations.start(ask, self.inner().target(slug), work).await
    }

    /// Goes back to an entry; the state before it stays in the timeline as the reply's entry.
    ///
    /// Only `paths`, exactly, when there are any. `force` goes on although programs have files
    /// open for writing.
    pub async fn restore(
        &self,
        request: &Request,
        slug: &Slug,
        at: &At,
        paths: &[TreePath],
        force: bool,
    ) -> Result<Started<wire::ProjectReply>, WorkspaceError> {
        let shown: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let ask = Ask {
            request,
            kind: RESTORE,
            resource: format!("{slug}@{at}"),
            arguments: json!({ "slug": slug, "at": at.to_string(), "paths": shown, "force": force }),
            removes: false,
        };
        let inner = Arc::clone(self.inner());
        let (slug_, at, paths) = (slug.clone(), at.clone(), paths.to_vec());
        let author = request.principal.clone();
        let work = |bound: Bound| async move {
            let volume = bound.volume()?;
            let wanted = entry_of(&inner, &slug_, &volume, &at);
            let entry = inner.operations.entry(&bound, wanted).await?;
            let restore = Restore { entry, paths, force, author, keep: inner.keep };
            let captured = inner.volumes.restore(bound.call, volume.clone(), restore).await;
            let captured = captured.map_err(about(&slug_))?;
            let reply = restored(&inner, &slug_, &volume, captured.value).await?;
            let saved = captured.saved;
            let saved: Saving<wire::ProjectReply> = Box::pin(async move {
                restored(&inner, &slug_, &volume, saved.await.map_err(about(&slug_))?).await
            });
            Ok((reply, saved))
        };
        self.inner().operations.start(ask, self.inner().target(slug), work).await
    }

    /// Pins an entry, so that retention leaves it alone, or unpins it. Saved when it returns.
    ///
    /// What is over the number then rolls off, as when a new entry comes.
    pub async fn pin(
        &self,
        request: &Request,
        reference: &ProjectReference,
        pinned: bool,
    ) -> Result<wire::EntryReply, WorkspaceError> {
        let kind = if pinned { "entry.pin" } else { "entry.unpin" };
        self.edit_entry(request, reference, kind, EntryEdit::Pin(pinned)).await
    }

    /// Gives an entry its name or, without one, takes it. Saved when it returns.
    pub async fn label(
        &self,
        request: &Request,
        reference: &ProjectReference,
        label: Option<&Label>,
    ) -> Result<wire::EntryReply, WorkspaceError> {
        let edit = EntryEdit::Label(label.cloned());
        self.edit_entry(request, reference, "entry.label", edit).await
    }

    /// Moves an entry to the trash; one that is pinned is refused. Saved when it returns.
    pub async fn trash_entry(
        &self,
        request: &Request,
        reference: &ProjectReference,
    ) -> Result<wire::EntryReply, WorkspaceError> {
        self.edit_entry(request, reference, "entry.trash", EntryEdit::Trash).await
    }

    async fn edit_entry(
        &self,
        request: &Request,
        reference: &ProjectReference,
        kind: &'static str,
        edit: EntryEdit,
    ) -> Result<wire::EntryReply, WorkspaceError> {
        let label = match &edit {
            EntryEdit::Label(label) => label.clone(),
            EntryEdit::Pin(_) | EntryEdit::Trash | EntryEdit::Undelete { .. } => None,
        };
        let ask = Ask {
            request,
            kind,
            resource: written(reference),
            arguments: json!({ "entry": written(reference), "label": label }),
            removes: edit == EntryEdit::Trash,
        };
        let target = self.inner().target(&reference.project);
        let (inner, reference_) = (Arc::clone(self.inner()), reference.clone());
        let work = |bound: Bound| async move {
            let volume = bound.volume()?;
            let ProjectReference { project, at } = reference_;
            let wanted = entry_of(&inner, &project, &volume, &at);
            let entry = inner.operations.entry(&bound, wanted).await?;
            let (frees, removes) = (edit == EntryEdit::Pin(false), edit == EntryEdit::Trash);
            let edited =
                inner.volumes.edit_entry(bound.call.clone(), volume.clone(), entry, edit).await;
            let mut view = match edited {
                Ok(view) => view,
                Err(error) => {
                    if removes && error.kind() == ErrorKind::Precondition {
                        refuse_pinned(&inner, &project, &volume, entry).await?;
                    }
                    return Err(about(&project)(error));
                }
            };
            let gone = match frees {
                true => roll_off(&inner, &bound.call, &project, &volume).await?,
                false => Vec::new(),
            };
            if let Some(own) = gone.iter().find(|gone| gone.record.id == entry) {
                view = own.clone();
            }
            let rolled_off = gone.iter().map(shape::entry).collect();
            Ok(wire::EntryReply { entry: shape::entry(&view), rolled_off })
        };
        self.inner().operations.complete(ask, target, work).await
    }

    /// Gives a project another name. Saved when it returns.
    pub async fn rename(
        &self,
        request: &Request,
        slug: &Slug,
        to: &Slug,
    ) -> Result<wire::ProjectReply, WorkspaceError> {
        let ask = Ask {
            request,
            kind: "project.rename",
            resource: slug.to_string(),
            arguments: json!({ "slug": slug, "to": to }),
            removes: false,
        };
        let (inner, to) = (Arc::clone(self.inner()), to.clone());
        let work = |bound| rename(inner, bound, to);
        self.inner().operations.complete(ask, self.inner().target(slug), work).await
    }

    /// Moves a project to the trash, which frees its name. Saved when it returns.
    pub async fn trash(
        &self,
        request: &Request,
        slug: &Slug,
    ) -> Result<wire::ProjectReply, WorkspaceError> {
        let ask = Ask {
            request,
            kind: "project.trash",
            resource: slug.to_string(),
            arguments: json!({ "slug": slug }),
            removes: true,
        };
        let (inner, slug_) = (Arc::clone(self.inner()), slug.clone());
        let work = |bound: Bound| async move {
            let volume = bound.volume()?;
            let trashed = inner.volumes.set_trashed(bound.call, volume.clone(), true).await;
            trashed.map_err(about(&slug_))?;
            Ok(reply(inner.written(&slug_, &volume).await?))
        };
        self.inner().operations.complete(ask, self.inner().target(slug), work).await
    }

    /// Brings a project back from the trash or, with an entry, an entry of a live project;
    /// the reply then has the entry. Saved when it returns.
    pub async fn undelete(
        &self,
        request: &Request,
        reference: &ProjectReference,
    ) -> Result<wire::ProjectReply, WorkspaceError> {
        let ask = Ask {
            request,
            kind: if reference.at == At::Now { "project.undelete" } else { "entry.undelete" },
            resource: written(reference),
            arguments: json!({ "what": written(reference) }),
            removes: false,
        };
        let inner = Arc::clone(self.inner());
        let ProjectReference { project, at } = reference.clone();
        if at == At::Now {
            let target = async {
                let row = self.inner().trashed(&project).await?;
                self.inner().target_of(&row).await
            };
            let work = |bound| undelete(inner, bound);
            return self.inner().operations.complete(ask, target, work).await;
        }
        let slug = project.clone();
        let work = |bound: Bound| async move {
            let volume = bound.volume()?;
            let wanted = trashed_entry(&inner, &slug, &volume, &at);
            let entry = inner.operations.entry(&bound, wanted).await?;
            let remarks = give_up_label(&inner, &bound.call, &slug, &volume, entry).await?;
            let edit = EntryEdit::Undelete { keep: inner.keep };
            let view = inner.volumes.edit_entry(bound.call, volume.clone(), entry, edit).await;
            let view = view.map_err(about(&slug))?;
            let project = inner.changed(&slug, &volume).await?;
            Ok(wire::ProjectReply { project, entry: Some(shape::entry(&view)), remarks })
        };
        self.inner().operations.complete(ask, self.inner().target(&project), work).await
    }

    /// Changes files of the present state; durable on this node when it returns.
    ///
    /// What brings a stream has the same effect when it is repeated, so its key is not bound. The
    /// key of a removal, a move or a new directory gives its first result; when an attempt was
    /// interrupted, the one that follows takes what is so already for its own, and does
    /// again what somebody has undone between them.
    pub async fn edit(
        &self,
        request: &Request,
        slug: &Slug,
        edit: FileEdit,
    ) -> Result<wire::FilesReply, WorkspaceError> {
        let (kind, path, more) = match &edit {
            FileEdit::Put(path, _) => ("file.put", path, json!(null)),
            FileEdit::MakeDirectory(path) => ("file.mkdir", path, json!(null)),
            FileEdit::Remove { path, recursive } => ("file.rm", path, json!(recursive)),
            FileEdit::Move { from, to } => ("file.mv", from, json!(to.to_string())),
            FileEdit::Extract(path, _) => ("file.extract", path, json!(null)),
        };
        let resource = format!("{slug}:/{path}");
        if matches!(edit, FileEdit::Put(..) | FileEdit::Extract(..)) {
            crate::request::parse_key(&request.key)?;
            let row = self.inner().live(slug).await?;
            let done = edit_files(self.inner(), slug, &row.volume, edit, false).await;
            self.inner().operations.audit(request, kind, &resource, &done).await?;
            return done;
        }
        let arguments = json!({ "path": resource, "more": more });
        let removes = matches!(edit, FileEdit::Remove { .. });
        let ask = Ask { request, kind, resource, arguments, removes };
        let (inner, slug_) = (Arc::clone(self.inner()), slug.clone());
        let work = |bound: Bound| async move {
            edit_files(&inner, &slug_, &bound.volume()?, edit, bound.is_again).await
        };
        self.inner().operations.complete(ask, self.inner().target(slug), work).await
    }
}

/// Takes the label from an entry in the trash when a live one has it by now, so that it can come
/// back; says so. A step of its own before `call`, under an id that is derived of it.
async fn give_up_label(
    inner: &Inner,
    call: &Call,
    slug: &Slug,
    volume: &VolumeId,
    entry: EntryId,
) -> Result<Vec<String>, WorkspaceError> {
    let entries = inner.volumes.entries(volume).await.map_err(about(slug))?;
    let own = entries.iter().find(|view| view.record.id == entry);
    let Some(label) = own.and_then(|view| view.record.label.clone()) else { return Ok(Vec::new()) };
    let holder = entries.iter().find(|view| {
        view.record.is_live()
            && view.record.id != entry
            && view.record.label.as_ref() == Some(&label)
    });
    let Some(holder) = holder else { return Ok(Vec::new()) };
    let step = Call { operation: call.operation.step("label"), ..call.clone() };
    let edited =
        inner.volumes.edit_entry(step, volume.clone(), entry, EntryEdit::Label(None)).await;
    edited.map_err(about(slug))?;
    let holder = holder.record.id;
    Ok(vec![format!("label {label} names entry {holder} now: {entry} came back without it")])
}

/// Says that an entry was not moved to the trash because somebody wants it kept.
async fn refuse_pinned(
    inner: &Inner,
    slug: &Slug,
    volume: &VolumeId,
    entry: EntryId,
) -> Result<(), WorkspaceError> {
    let entries = inner.volumes.entries(volume).await.map_err(about(slug))?;
    match entries.iter().any(|view| view.record.id == entry && view.record.pinned) {
        true => Err(WorkspaceError::EntryPinned { slug: slug.clone(), entry: entry.to_string() }),
        false => Ok(()),
    }
}

/// Moves what is over the number to the trash, with the newest counted entry as the one that came
/// last. Each is a step of its own after `call`, under an id that is derived of it.
async fn roll_off(
    inner: &Inner,
    call: &Call,
    slug: &Slug,
    volume: &VolumeId,
) -> Result<Vec<EntryView>, WorkspaceError> {
    let entries = inner.volumes.entries(volume).await.map_err(about(slug))?;
    let mut live: Vec<EntryRecord> =
        entries.into_iter().map(|view| view.record).filter(EntryRecord::is_live).collect();
    let counted = live.iter().enumerate().filter(|(_, record)| record.kind.is_asked_for());
    let newest = counted.max_by_key(|(_, record)| (record.time, record.id)).map(|(at, _)| at);
    let Some(newest) = newest else { return Ok(Vec::new()) };
    let newest = live.swap_remove(newest);
    let spec = inner.volumes.status(volume).await.map_err(about(slug))?.spec;
    let keep = spec.retention().unwrap_or(inner.keep);
    let mut gone = Vec::new();
    for entry in retention::roll_off(&live, keep, &newest, &[]) {
        let step = Call { operation: call.operation.step(entry.as_str()), ..call.clone() };
        match inner.volumes.edit_entry(step, volume.clone(), entry, EntryEdit::Trash).await {
            // Somebody has pinned it since.
            Err(error) if error.kind() == ErrorKind::Precondition => {}
            edited => gone.push(edited.map_err(about(slug))?),
        }
    }
    Ok(gone)
}

async fn edit_files(
    inner: &Inner,
    slug: &Slug,
    volume: &VolumeId,
    edit: FileEdit,
    is_again: bool,
) -> Result<wire::FilesReply, WorkspaceError> {
    let reach = Reach::edit(slug, volume, &edit);
    let sought = Sought::of(&edit).filter(|_| is_again);
    let edited = match inner.volumes.edit(volume, edit).await {
        Ok(edited) => edited,
        Err(error) => {
            if let Some(sought) = sought
                && let Some(already) = sought.already(inner, volume, &error).await
            {
                return Ok(already);
            }
            return Err(reach.failed(&*inner.volumes, error).await);
        }
    };
    let files = edited.files.iter().map(shape::file).collect();
    Ok(wire::FilesReply { files, remarks: edited.remarks })
}

/// A reference as a person writes it.
fn written(reference: &ProjectReference) -> String {
    match &reference.at {
        At::Now => reference.project.to_string(),
        at => format!("{}@{at}", reference.project),
    }
}

fn reply(project: wire::Project) -> wire::ProjectReply {
    wire::ProjectReply { project, entry: None, remarks: Vec::new() }
}

/// Refuses a message that no head may hold.
fn check_message(message: Option<&str>) -> Result<(), WorkspaceError> {
    let Some(message) = message else { return Ok(()) };
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(WorkspaceError::Invalid(format!(
            "a message has at most {MESSAGE_BYTES_MAX} bytes, found {}",
            message.len()
        )));
    }
    if message.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(WorkspaceError::Invalid("a message has no control characters".into()));
    }
    Ok(())
}

/// The live entry that a person means; the present state is none.
async fn entry_of(
    inner: &Inner,
    slug: &Slug,
    volume: &VolumeId,
    at: &At,
) -> Result<EntryId, WorkspaceError> {
    match inner.moment(slug, volume, at).await? {
        Moment::Entry(entry) => Ok(entry),
        Moment::Now => Err(WorkspaceError::NowIsNoEntry { slug: slug.clone() }),
    }
}

/// The entry in the trash that a person means.
async fn trashed_entry(
    inner: &Inner,
    slug: &Slug,
    volume: &VolumeId,
    at: &At,
) -> Result<EntryId, WorkspaceError> {
    let entries = inner.volumes.entries(volume).await.map_err(about(slug))?;
    let found = match resolve(slug, at, &entries, |record| !record.is_live()) {
        // One that is live already is worth another message.
        Err(missing @ WorkspaceError::NoEntry { .. }) => {
            match resolve(slug, at, &entries, EntryRecord::is_live) {
                Ok(Moment::Entry(entry)) => Err(WorkspaceError::EntryNotInTrash {
                    slug: slug.clone(),
                    entry: entry.to_string(),
                }),
                Err(WorkspaceError::NoEntry { .. }) => {
                    Err(inner.missing_or_unread(slug, volume, missing).await?)
                }
                other => other,
            }
        }
        found => found,
    };
    match found? {
        Moment::Entry(entry) => Ok(entry),
        Moment::Now => Err(WorkspaceError::NowIsNoEntry { slug: slug.clone() }),
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

async fn restored(
    inner: &Inner,
    slug: &Slug,
    volume: &VolumeId,
    restored: cove_content::volumes::Restored,
) -> Result<wire::ProjectReply, WorkspaceError> {
    let project = inner.changed(slug, volume).await?;
    let entry = restored.before.as_ref().map(shape::entry);
    Ok(wire::ProjectReply { project, entry, remarks: Vec::new() })
}

async fn rename(
    inner: Arc<Inner>,
    bound: Bound,
    to: Slug,
) -> Result<wire::ProjectReply, WorkspaceError> {
    let volume = bound.volume()?;
    let row = inner.of_volume(&volume).await?;
    // An attempt that was interrupted after the row had been written has the name already.
    let reserved = match row.slug == to {
        true => None,
        false => Some(inner.reserve(&to).await?),
    };
    let status = inner.volumes.status(&volume).await.map_err(about(&row.slug))?;
    let document = ProjectDocument { name: to.to_string(), slug: to.clone(), ..status.document };
    let described = inner.volumes.describe(bound.call, volume.clone(), document).await;
    described.map_err(about(&row.slug))?;
    let project = inner.written(&row.slug, &volume).await?;
    drop(reserved);
    Ok(reply(project))
}

async fn undelete(inner: Arc<Inner>, bound: Bound) -> Result<wire::ProjectReply, WorkspaceError> {
    let volume = bound.volume()?;
    let row = inner.of_volume(&volume).await?;
    let reserved = match row.state {
        ProjectState::Trashed => match inner.reserve(&row.slug).await {
            Ok(reserved) => Some(reserved),
            Err(WorkspaceError::NameTaken { slug }) => {
                return Err(WorkspaceError::NameTakenMeanwhile { slug });
            }
            Err(error) => return Err(error),
        },
        ProjectState::Live | ProjectState::Creating => None,
    };
    let back = inner.volumes.set_trashed(bound.call, volume.clone(), false).await;
    back.map_err(about(&row.slug))?;
    let project = inner.written(&row.slug, &volume).await?;
    drop(reserved);
    Ok(reply(project))
}
