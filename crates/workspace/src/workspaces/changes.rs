//! What changes something.

mod making;

use std::sync::Arc;

use cove_content::document::ProjectDocument;
use cove_content::entry::EntryRecord;
use cove_content::retention;
use cove_content::volumes::{Call, EntryEdit, EntryView, FileEdit, Moment, NewEntry, Restore};
use cove_database::ProjectState;
use cove_types::{
    At, Classify, EntryId, EntryKind, ErrorKind, Label, ProjectReference, Slug, TreePath, VolumeId,
    wire,
};
use serde_json::json;

use super::faults::Reach;
use super::sought::Sought;
use super::{Inner, Workspaces, about, resolve};
use crate::operations::{Ask, Bound, RESTORE};
use crate::{Request, Saving, Started, WorkspaceError, shape};

/// The longest message of an entry, in bytes.
const MESSAGE_BYTES_MAX: usize = cove_content::entry::MESSAGE_BYTES_MAX;

impl Workspaces {
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
