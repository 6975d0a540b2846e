//! What only reads.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;

use cove_content::volumes::{FileReader, FileView, VerifyLevel, VolumeError, VolumeStatus};
use cove_database::{DatabaseError, ProjectRow, ProjectState};
use cove_types::{
    Classify, ErrorKind, OperationId, ProjectReference, Slug, TreePath, VolumeId, wire,
};
use futures::future::join_all;

use super::faults::Reach;
use super::{Inner, Workspaces, about, within};
use crate::operations::Known;
use crate::search::{self, LinePattern, Lines, NamePattern};
use crate::{Failure, Listing, Request, WorkspaceError, shape, verification};

impl Workspaces {
    /// The live projects by name or, when `trashed`, those in the trash, the last one first.
    ///
    /// A project whose volume this node does not have is at risk, and says what brings it back.
    /// While a recovery runs a remark says so, since what it brings back is not among them yet.
    pub async fn list(&self, trashed: bool) -> Result<wire::ProjectsReply, WorkspaceError> {
        let inner = self.inner();
        let wanted = if trashed { ProjectState::Trashed } else { ProjectState::Live };
        let mut rows = inner.database.projects().await?;
        rows.retain(|row| row.state == wanted);
        if trashed {
            rows.sort_by_key(|row| std::cmp::Reverse(row.trashed_us));
        }
        let statuses = inner.volumes.list().await.map_err(WorkspaceError::OfStore)?;
        let statuses: HashMap<_, _> =
            statuses.iter().map(|status| (&status.volume, status)).collect();
        let until = within();
        let projects = rows.iter().map(async |row| match statuses.get(&row.volume) {
            Some(status) => inner.shape(row, status, &inner.rescues(status, until).await),
            None => inner.absent(row),
        });
        let projects = join_all(projects).await;
        Ok(wire::ProjectsReply { projects, remarks: inner.recovery().into_iter().collect() })
    }

    /// One project. Costs no request and no walk.
    pub async fn show(&self, slug: &Slug) -> Result<wire::ProjectReply, WorkspaceError> {
        let row = self.inner().live(slug).await?;
        let project = self.inner().shown(&row).await?;
        Ok(wire::ProjectReply { project, entry: None, remarks: Vec::new() })
    }

    /// The entries of a project, the newest first; those in the trash too when `include_trashed`.
    ///
    /// Entries that nobody can read are left out, and the project's health says so; the trash is
    /// not listed without them.
    pub async fn timeline(
        &self,
        slug: &Slug,
        include_trashed: bool,
    ) -> Result<wire::EntriesReply, WorkspaceError> {
        let row = self.inner().live(slug).await?;
        let entries = self.inner().volumes.entries(&row.volume).await.map_err(about(slug))?;
        if include_trashed {
            self.inner().refuse_unread(slug, &row.volume).await?;
        }
        let wanted = entries.iter().filter(|view| include_trashed || view.record.is_live());
        Ok(wire::EntriesReply { entries: wanted.map(shape::entry).collect() })
    }

    /// Waits until all that the project had captured is saved.
    pub async fn wait(&self, slug: &Slug) -> Result<wire::ProjectReply, WorkspaceError> {
        let row = self.inner().live(slug).await?;
        self.inner().operations.captured(&row.volume).await;
        self.inner().volumes.wait_saved(&row.volume).await.map_err(about(slug))?;
        self.show(slug).await
    }

    /// How far an operation is, or what it came to; `None` when it is not known here.
    pub async fn operation(&self, id: &OperationId) -> Result<Option<Known>, WorkspaceError> {
        self.inner().operations.find_operation(id).await
    }

    /// Whether a request's key is that of an operation.
    pub async fn is_bound(&self, request: &Request) -> Result<bool, WorkspaceError> {
        self.inner().operations.is_bound(request).await
    }

    /// What differs between two moments of one or two projects.
    pub async fn diff(
        &self,
        before: &ProjectReference,
        after: &ProjectReference,
    ) -> Result<wire::ChangesReply, WorkspaceError> {
        let later = after.project.clone();
        let before = self.inner().place_of(before).await?;
        let after = self.inner().place_of(after).await?;
        let changes = self.inner().volumes.diff(before, after).await.map_err(about(&later))?;
        Ok(wire::ChangesReply { changes })
    }

    /// One file, directory or link.
    pub async fn file(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
    ) -> Result<wire::FilesReply, WorkspaceError> {
        let (volume, moment) = self.inner().place_of(reference).await?;
        let volumes = &self.inner().volumes;
        match volumes.file(&volume, &moment, path).await {
            Ok(view) => Ok(Listing::new(vec![view]).reply()),
            Err(error) => {
                let reach = Reach::read(&reference.project, &volume, &moment, path);
                Err(reach.failed(&**volumes, error).await)
            }
        }
    }

    /// The children of a directory, or everything below it; of what is no directory, itself.
    pub async fn files(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Listing, WorkspaceError> {
        Ok(Listing::new(self.below(reference, path, recursive).await?.2))
    }

    async fn below(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        recursive: bool,
    ) -> Result<(VolumeId, cove_content::volumes::Moment, Vec<FileView>), WorkspaceError> {
        let (volume, moment) = self.inner().place_of(reference).await?;
        let volumes = &self.inner().volumes;
        let views = async {
            if !path.is_top() {
                let view = volumes.file(&volume, &moment, path).await?;
                if view.kind != "directory" {
                    return Ok(vec![view]);
                }
            }
            volumes.files(&volume, &moment, path, recursive).await
        };
        match views.await {
            Ok(views) => Ok((volume, moment, views)),
            Err(error) => {
                let reach = Reach::read(&reference.project, &volume, &moment, path);
                Err(reach.failed(&**volumes, error).await)
            }
        }
    }

    /// What lies below `path` under a name that `pattern` means: a glob with `*`, `?` and `[…]`
    /// over the whole name, or a part of it; with a slash, over the whole path. Only those of
    /// a kind, where one is given.
    pub async fn find(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        pattern: &str,
        kind: Option<&str>,
    ) -> Result<Listing, WorkspaceError> {
        let pattern = NamePattern::parse(pattern)?;
        let (_, _, mut views) = self.below(reference, path, true).await?;
        views.retain(|view| {
            kind.is_none_or(|kind| view.kind == kind) && pattern.matches(view.path.as_bytes())
        });
        Ok(Listing::new(views))
    }

    /// The lines below `path` that match; at most 10,000. Binary files and those over 16 MiB are
    /// not searched, and counted in a remark.
    pub async fn grep(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        pattern: &LinePattern,
    ) -> Result<wire::MatchesReply, WorkspaceError> {
        let (volume, moment, views) = self.below(reference, path, true).await?;
        let (mut matches, mut remarks) = (Vec::new(), Vec::new());
        let (mut binary, mut large) = (0_u64, 0_u64);
        for view in views.iter().filter(|view| view.kind == "file" && view.bytes > 0) {
            if view.bytes > search::FILE_BYTES_MAX {
                large += 1;
                continue;
            }
            // One more than is given tells whether there are more.
            let room = search::MATCHES_MAX + 1 - matches.len();
            let read = self.inner().volumes.read(&volume, &moment, &view.path, None).await;
            let (_, reader) = match read {
                Ok(read) => read,
                // Removed since it was listed; the next file is as good as it was.
                Err(cove_content::volumes::VolumeError::NoPath { .. }) => continue,
                Err(error) => return Err(about(&reference.project)(error)),
            };
            let (path, pattern) = (view.path.to_string(), pattern.clone());
            let shown = path.clone();
            let found = tokio::task::spawn_blocking(move || {
                search::lines_with(&path, reader, &pattern, room)
            });
            let found = found
                .await
                .map_err(|_| WorkspaceError::NoResult { what: format!("search of {shown}") })?
                .map_err(|source| WorkspaceError::Read {
                    slug: reference.project.clone(),
                    path: shown,
                    source,
                })?;
            match found {
                Lines::Found(found) => matches.extend(found),
                Lines::Binary => binary += 1,
            }
            if matches.len() > search::MATCHES_MAX {
                matches.truncate(search::MATCHES_MAX);
                remarks.push(format!("only the first {} lines are given", search::MATCHES_MAX));
                break;
            }
        }
        let files = |number: u64, one: &str, many: &str| match number {
            0 => None,
            1 => Some(format!("1 {one} was not searched")),
            _ => Some(format!("{number} {many} were not searched")),
        };
        remarks.extend(files(binary, "binary file", "binary files"));
        remarks.extend(files(large, "file over 16 MiB", "files over 16 MiB"));
        Ok(wire::MatchesReply { matches, remarks })
    }

    /// Reads bytes of a file, all of it without a range, with what is known of it. The reader blocks.
    pub async fn read(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(wire::File, FileReader), WorkspaceError> {
        let (volume, moment) = self.inner().place_of(reference).await?;
        let volumes = &self.inner().volumes;
        match volumes.read(&volume, &moment, path, range).await {
            Ok((view, reader)) => Ok((shape::file(&view), reader)),
            Err(error) => {
                let reach = Reach::read(&reference.project, &volume, &moment, path);
                Err(reach.failed(&**volumes, error).await)
            }
        }
    }

    /// Writes a path with everything below as a tar stream; see
    /// [`Volumes::export`](cove_content::volumes::Volumes::export).
    pub async fn export(
        &self,
        reference: &ProjectReference,
        path: &TreePath,
        to: Box<dyn Write + Send>,
    ) -> Result<Vec<String>, WorkspaceError> {
        let (volume, moment) = self.inner().place_of(reference).await?;
        let volumes = &self.inner().volumes;
        match volumes.export(&volume, &moment, path, to).await {
            Ok(remarks) => Ok(remarks),
            Err(error) => {
                let reach = Reach::read(&reference.project, &volume, &moment, path);
                Err(reach.failed(&**volumes, error).await)
            }
        }
    }

    /// The directory of a project's files on this machine.
    pub async fn path(&self, slug: &Slug) -> Result<PathBuf, WorkspaceError> {
        let row = self.inner().live(slug).await?;
        let status = self.inner().volumes.status(&row.volume).await.map_err(about(slug))?;
        status.path.ok_or_else(|| WorkspaceError::NoCopy { slug: slug.clone() })
    }

    /// Checks one project in the store, or all volumes: those of projects, in the trash too, those that are no
    /// project's, and what is kept of deleted ones. How it ended is shown with the project from then on; what it
    /// found, until a check that looks at as much finds nothing. Of volumes that are no project's nothing is
    /// remembered.
    pub async fn verify(
        &self,
        slug: Option<&Slug>,
        level: VerifyLevel,
    ) -> Result<wire::VerifyReply, WorkspaceError> {
        let inner = self.inner();
        let mut reply = wire::VerifyReply {
            problems: Vec::new(),
            checked: wire::Checked::default(),
            not_captured: Vec::new(),
        };
        let Some(slug) = slug else {
            reply
                .problems
                .extend(inner.volumes.verify_store().await.map_err(WorkspaceError::OfStore)?);
            let mut rows = inner.database.projects().await?;
            rows.retain(|row| row.state != ProjectState::Creating);
            for row in &rows {
                let whole = |lost: wire::NotCaptured| wire::NotCaptured {
                    path: format!("{}:/{}", row.slug, lost.path),
                    ..lost
                };
                let lost = inner.verify_project(row, level, &mut reply).await?;
                reply.not_captured.extend(lost.into_iter().map(whole));
            }
            let mut volumes = inner.volumes.list().await.map_err(WorkspaceError::OfStore)?;
            volumes.retain(|status| status.is_deleted || status.spec.stands_alone);
            for status in volumes {
                inner.verify_volume(status, level, &mut reply).await?;
            }
            return Ok(reply);
        };
        let row = inner.live(slug).await?;
        reply.not_captured = inner.verify_project(&row, level, &mut reply).await?;
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
                hint: Some(database_hint(&error)),
                what: Failure::from(&WorkspaceError::from(error)).what,
            },
        });
        wire::DoctorReply { checks }
    }
}

impl Inner {
    /// Checks a project and remembers how it ended; gives what its present state could not hold.
    async fn verify_project(
        &self,
        row: &ProjectRow,
        level: VerifyLevel,
        reply: &mut wire::VerifyReply,
    ) -> Result<Vec<wire::NotCaptured>, WorkspaceError> {
        let verified = match self.volumes.verify(&row.volume, level).await {
            Ok(verified) => verified,
            Err(error) => {
                let project = Some(row.slug.to_string());
                let problem = unverified(about(&row.slug)(error))?;
                reply.problems.push(wire::VerifyProblem { project, ..problem });
                return Ok(Vec::new());
            }
        };
        let problems = verified.problems.len() as u64;
        let new = verification::verified(level, self.env.now().as_microsecond(), problems);
        let verifying = self.verifying.lock().await;
        let known = self.database.find_project(&row.id).await?.and_then(|row| row.verified);
        self.database.set_verified(&row.id, &verification::remembered(known, new)).await?;
        drop(verifying);
        let of_project =
            |problem| wire::VerifyProblem { project: Some(row.slug.to_string()), ..problem };
        reply.problems.extend(verified.problems.into_iter().map(of_project));
        reply.checked += wire::Checked { projects: 1, ..verified.checked };
        let status = self.volumes.status(&row.volume).await.map_err(about(&row.slug))?;
        Ok(status.not_captured)
    }

    /// Checks a volume that is no project's. One that is deleted meanwhile is no problem.
    async fn verify_volume(
        &self,
        status: VolumeStatus,
        level: VerifyLevel,
        reply: &mut wire::VerifyReply,
    ) -> Result<(), WorkspaceError> {
        let VolumeStatus { volume, not_captured, .. } = status;
        let verified = match self.volumes.verify(&volume, level).await {
            Ok(verified) => verified,
            Err(VolumeError::NotHere { .. }) => return Ok(()),
            Err(error) => {
                let problem = unverified(WorkspaceError::OfStore(error))?;
                let volume = Some(volume.to_string());
                reply.problems.push(wire::VerifyProblem { volume, ..problem });
                return Ok(());
            }
        };
        let of_volume =
            |problem| wire::VerifyProblem { volume: Some(volume.to_string()), ..problem };
        reply.problems.extend(verified.problems.into_iter().map(of_volume));
        reply.checked += wire::Checked { volumes: 1, ..verified.checked };
        let of_volume = |lost: wire::NotCaptured| wire::NotCaptured {
            path: format!("{volume}:/{}", lost.path),
            ..lost
        };
        reply.not_captured.extend(not_captured.into_iter().map(of_volume));
        Ok(())
    }
}

/// The problem of what could not be checked, so that the others are.
///
/// # Errors
///
/// Its cause is none of its own: it would meet the others too.
fn unverified(error: WorkspaceError) -> Result<wire::VerifyProblem, WorkspaceError> {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Denied => Err(error),
        _ => Ok(wire::VerifyProblem::new(Failure::from(&error).what)),
    }
}

/// What helps when the database does not hold what it must.
fn database_hint(error: &DatabaseError) -> String {
    match error {
        DatabaseError::BrokenChain { .. } => {
            "somebody or something changed `server.db`: no project depends on its audit log, but \
             keep a copy of it and find out who could write to it"
                .into()
        }
        _ => "`cove recover` rebuilds the projects from the object store".into(),
    }
}
