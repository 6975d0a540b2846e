//! What only reads.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use cove_content::volumes::{FileReader, FileView, VerifyLevel, VolumeStatus};
use cove_database::{ProjectRow, ProjectState};
use cove_types::{OperationId, ProjectReference, Slug, TreePath, VolumeId, wire};

use super::Workspaces;
use crate::operations::Known;
use crate::search::{self, NamePattern};
use crate::{Failure, WorkspaceError, shape};

/// How far an operation is, as [`Workspaces::operation`] answers.
fn operation(id: &OperationId, known: Known) -> wire::Operation {
    let Known { state, progress, result, failure } = known;
    let error = failure.map(|failure| {
        let first = WorkspaceError::First(failure.clone());
        wire::ProblemDetails {
            type_: first.type_slug().to_owned(),
            title: first.type_slug().replace('-', " "),
            status: 0,
            kind: failure.kind,
            detail: failure.what,
            hint: failure.hint,
            request_id: String::new(),
            retry_after_s: None,
        }
    });
    wire::Operation {
        id: id.to_string(),
        state: state.as_str().to_owned(),
        progress,
        result,
        error,
    }
}

impl Workspaces {
    /// The live projects by name or, when `trashed`, those in the trash, the last one first.
    ///
    /// A project whose volume this node does not have is left out.
    pub async fn list(&self, trashed: bool) -> Result<wire::ProjectsReply, WorkspaceError> {
        let inner = self.inner();
        let wanted = if trashed { ProjectState::Trashed } else { ProjectState::Live };
        let mut rows = inner.database.projects().await?;
        rows.retain(|row| row.state == wanted);
        if trashed {
            rows.sort_by_key(|row| std::cmp::Reverse(row.trashed_us));
        }
        let statuses = inner.volumes.list().await?;
        let statuses: HashMap<_, _> =
            statuses.iter().map(|status| (&status.volume, status)).collect();
        let shown = |row: &ProjectRow| Some(inner.shape(row, statuses.get(&row.volume)?));
        Ok(wire::ProjectsReply { projects: rows.iter().filter_map(shown).collect() })
    }

    /// One project. Costs no request and no walk.
    pub async fn show(&self, slug: &Slug) -> Result<wire::ProjectReply, WorkspaceError> {
        let row = self.inner().live(slug).await?;
        let project = self.inner().shown(&row).await?;
        Ok(wire::ProjectReply { project, entry: None, remarks: Vec::new() })
    }

    /// The entries of a project, the newest first; those in the trash too when `include_trashed`.
    pub async fn timeline(
        &self,
        slug: &Slug,
        include_trashed: bool,
    ) -> Result<wire::EntriesReply, WorkspaceError> {
        let row = self.inner().live(slug).await?;
        let entries = self.inner().volumes.entries(&row.volume).await?;
        let wanted = entries.iter().filter(|view| include_trashed || view.record.is_live());
        Ok(wire::EntriesReply { entries: wanted.map(shape::entry).collect() })
    }

    /// Waits until all that the project had captured is saved.
    pub async fn wait(&self, slug: &Slug) -> Result<wire::ProjectReply, WorkspaceError> {
        let row = self.inner().live(slug).await?;
        self.inner().volumes.wait_saved(&row.volume).await?;
        self.show(slug).await
    }

    /// How far an operation is, or what it came to; `None` when it is not known here.
    ///
    /// The status, request id and full type of its error are the transport's.
    pub async fn operation(
        &self,
        id: &OperationId,
    ) -> Result<Option<wire::Operation>, WorkspaceError> {
        let found = self.inner().operations.find_operation(id).await?;
        Ok(found.map(|known| operation(id, known)))
    }

    /// What differs between two moments of one or two projects.
    pub async fn diff(
        &self,
        before: &ProjectReference,
        after: &ProjectReference,
    ) -> Result<wire::ChangesReply, WorkspaceError> {
        let before = self.inner().place_of(before).await?;
        let after = self.inner().place_of(after).await?;
        Ok(wire::ChangesReply { changes: self.inner().volumes.diff(before, after).await? })
    }

    /// One file, directory or link.
    pub async fn file(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
    ) -> Result<wire::FilesReply, WorkspaceError> {
        let (volume, moment) = self.inner().place_of(reference).await?;
        let view = self.inner().volumes.file(&volume, &moment, path).await?;
        Ok(files(&[view]))
    }

    /// The children of a directory, or everything below it; of what is no directory, itself.
    pub async fn files(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        recursive: bool,
    ) -> Result<wire::FilesReply, WorkspaceError> {
        Ok(files(&self.below(reference, path, recursive).await?.2))
    }

    async fn below(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        recursive: bool,
    ) -> Result<(VolumeId, cove_content::volumes::Moment, Vec<FileView>), WorkspaceError> {
        let (volume, moment) = self.inner().place_of(reference).await?;
        let volumes = &self.inner().volumes;
        let views = if path.is_top() {
            volumes.files(&volume, &moment, path, recursive).await?
        } else {
            let view = volumes.file(&volume, &moment, path).await?;
            match view.kind {
                "directory" => volumes.files(&volume, &moment, path, recursive).await?,
                _ => vec![view],
            }
        };
        Ok((volume, moment, views))
    }

    /// What lies below `path` under a name that `pattern` means: a glob with `*`, `?` and `[…]`
    /// over the whole name, or a part of it.
    pub async fn find(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        pattern: &str,
    ) -> Result<wire::FilesReply, WorkspaceError> {
        let pattern = NamePattern::parse(pattern)?;
        let (_, _, mut views) = self.below(reference, path, true).await?;
        views.retain(|view| view.path.name().is_some_and(|name| pattern.matches(name)));
        Ok(files(&views))
    }

    /// The lines below `path` that hold `text`, byte for byte; at most 10,000. Binary files and
    /// those over 16 MiB are not searched.
    pub async fn grep(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        text: &str,
    ) -> Result<wire::MatchesReply, WorkspaceError> {
        let text = Arc::new(search::pattern_bytes(text)?);
        let (volume, moment, views) = self.below(reference, path, true).await?;
        let searched = |view: &&FileView| {
            view.kind == "file" && (1..=search::FILE_BYTES_MAX).contains(&view.bytes)
        };
        let mut matches = Vec::new();
        for view in views.iter().filter(searched) {
            let room = search::MATCHES_MAX - matches.len();
            if room == 0 {
                break;
            }
            let read = self.inner().volumes.read(&volume, &moment, &view.path, None).await;
            let (_, reader) = match read {
                Ok(read) => read,
                // Removed since it was listed; the next file is as good as it was.
                Err(cove_content::volumes::VolumeError::NoPath { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let (path, text) = (view.path.to_string(), Arc::clone(&text));
            let shown = path.clone();
            let found =
                tokio::task::spawn_blocking(move || search::lines_with(&path, reader, &text, room))
                    .await
                    .map_err(|_| WorkspaceError::NoResult { what: format!("search of {shown}") })?
                    .map_err(|source| WorkspaceError::Read { path: shown, source })?;
            matches.extend(found);
        }
        Ok(wire::MatchesReply { matches })
    }

    /// Reads bytes of a file, all of it without a range, with what is known of it. The reader blocks.
    pub async fn read(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(wire::File, FileReader), WorkspaceError> {
        let (volume, moment) = self.inner().place_of(reference).await?;
        let (view, reader) = self.inner().volumes.read(&volume, &moment, path, range).await?;
        Ok((shape::file(&view), reader))
    }

    /// Writes a path with everything below as a tar stream; see
    /// [`Volumes::export`](cove_content::volumes::Volumes::export).
    pub async fn export(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        to: Box<dyn Write + Send>,
    ) -> Result<(), WorkspaceError> {
        let (volume, moment) = self.inner().place_of(reference).await?;
        Ok(self.inner().volumes.export(&volume, &moment, path, to).await?)
    }

    /// The directory of a project's files on this machine.
    pub async fn path(&self, slug: &Slug) -> Result<PathBuf, WorkspaceError> {
        let row = self.inner().live(slug).await?;
        let status = self.inner().volumes.status(&row.volume).await?;
        status.path.ok_or_else(|| WorkspaceError::NoCopy { slug: slug.clone() })
    }

    /// Checks one project in the store, or all of them, those in the trash too. How it ended is shown
    /// with the project from then on.
    pub async fn verify(
        &self,
        slug: Option<&Slug>,
        level: VerifyLevel,
    ) -> Result<wire::VerifyReply, WorkspaceError> {
        let inner = self.inner();
        let rows = match slug {
            Some(slug) => vec![inner.live(slug).await?],
            None => {
                let mut rows = inner.database.projects().await?;
                rows.retain(|row| row.state != ProjectState::Creating);
                rows
            }
        };
        let mut reply = wire::VerifyReply {
            problems: Vec::new(),
            checked: wire::Checked::default(),
            not_captured: Vec::new(),
        };
        for row in &rows {
            let verified = inner.volumes.verify(&row.volume, level).await?;
            let problems = verified.problems.len() as u64;
            let at_us = inner.env.now().as_microsecond();
            inner.database.set_verified(&row.id, at_us, problems).await?;
            reply.problems.extend(verified.problems.into_iter().map(|problem| {
                wire::VerifyProblem { project: Some(row.slug.to_string()), ..problem }
            }));
            let checked = verified.checked;
            reply.checked.projects += 1;
            reply.checked.entries += checked.entries;
            reply.checked.chunks += checked.chunks;
            reply.checked.packs_read += checked.packs_read;
            reply.checked.bytes_read += checked.bytes_read;
            let status: VolumeStatus = inner.volumes.status(&row.volume).await?;
            reply.not_captured.extend(status.not_captured.into_iter().map(|missing| match slug {
                Some(_) => missing,
                None => {
                    wire::NotCaptured { path: format!("{}:/{}", row.slug, missing.path), ..missing }
                }
            }));
        }
        Ok(reply)
    }

    /// What is well and what is not with this machine, its pool, its store and the database.
    pub async fn doctor(&self) -> wire::DoctorReply {
        let mut checks = self.inner().volumes.doctor().await;
        checks.push(match self.inner().database.verify_audit().await {
            Ok(count) => wire::Check {
                name: "database".into(),
                ok: true,
                what: format!("readable; the audit log's {count} records follow each other"),
                hint: None,
            },
            Err(error) => wire::Check {
                name: "database".into(),
                ok: false,
                what: Failure::from(&WorkspaceError::from(error)).what,
                hint: Some("`cove recover` rebuilds the projects from the object store".into()),
            },
        });
        wire::DoctorReply { checks }
    }
}

fn files(views: &[FileView]) -> wire::FilesReply {
    wire::FilesReply { files: views.iter().map(shape::file).collect(), remarks: Vec::new() }
}
