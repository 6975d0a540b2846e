//! Projects, and the trash they go to.

use std::time::Duration;

use cove_types::wire;
use cove_types::{At, ErrorKind, Slug, VolumeId};
use hyper::StatusCode;
use serde_json::json;

use super::{Answer, Client, Payload, TAR};
use crate::target::Target;
use crate::{ClientError, Finished, Upload, Wait, routes};

impl Client {
    /// The projects, or those in the trash.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn list(&self, trashed: bool) -> Result<wire::ProjectsReply, ClientError> {
        self.get(Target::new(routes::LIST, &[]).query_some("state", trashed.then_some("trashed")))
            .await
    }

    /// One project.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn show(&self, project: &Slug) -> Result<wire::ProjectReply, ClientError> {
        self.get(Target::new(routes::SHOW, &[project.as_str()])).await
    }

    /// Makes a project, empty or of a volume that is no project's, to which at most `quota_bytes` may be written.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. Repeated with the same name it is refused, unless the answer was lost.
    pub async fn create(
        &self,
        project: &Slug,
        volume: Option<&VolumeId>,
        quota_bytes: Option<u64>,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::ProjectReply>, ClientError> {
        let mut body = json!({ "slug": project, "quota_bytes": quota_bytes });
        if let Some(volume) = volume {
            body["volume"] = json!(volume);
        }
        let body = Payload::json(&body);
        self.follow(Target::new(routes::CREATE, &[]), 0, body, wait).await
    }

    /// Makes a project of a tar stream.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. A stream that breaks off leaves no project. After
    /// [`Stopped`](ClientError::Stopped) there is none either: Cove ended while it was made.
    pub async fn create_from(
        &self,
        project: &Slug,
        quota_bytes: Option<u64>,
        archive: Upload,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::ProjectReply>, ClientError> {
        let key = self.env.operation_id(0);
        let target = Target::new(routes::CREATE, &[])
            .query("slug", project)
            .query_some("quota_bytes", quota_bytes)
            .query("until", wait.until)
            .query("wait_ms", 0);
        let first = match self.send(&target, Some(key), archive.0, TAR).await {
            // What became of it is asked, since the stream cannot be sent again.
            Err(lost @ ClientError::Lost { .. }) => match self.operation(key, &wait).await {
                Ok(operation) => Answer::Goes(Box::new(operation)),
                Err(ClientError::Problem(_)) => return Err(self.given_up(project, lost).await),
                Err(other) => return Err(self.given_up(project, other).await),
            },
            Err(other) => return Err(other),
            Ok(response) => self.answer(&target, response).await?,
        };
        match self.until_end(&target, key, None, first, wait).await {
            Err(error) => Err(self.given_up(project, error).await),
            finished => finished,
        }
    }

    /// What `error` means for a project that was being made of a stream, as far as that can be told:
    /// a Cove that ended meanwhile made the project whole or not at all.
    async fn given_up(&self, project: &Slug, error: ClientError) -> ClientError {
        let at = self.endpoint.name();
        match error {
            ClientError::Unreachable { .. } => ClientError::Stopped { at },
            ClientError::Lost { .. } => match self.show(project).await {
                Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::NotFound => {
                    ClientError::Stopped { at }
                }
                // Whose project it is cannot be told.
                _ => error,
            },
            _ => error,
        }
    }

    /// Gives a project another name.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn rename(
        &self,
        project: &Slug,
        to: &Slug,
    ) -> Result<wire::ProjectReply, ClientError> {
        self.change(routes::RENAME, project, &[], json!({ "slug": to })).await
    }

    /// Moves a project to the trash.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn trash(&self, project: &Slug) -> Result<wire::ProjectReply, ClientError> {
        let key = self.key(project).await?;
        let target = Target::new(routes::TRASH, &[project.as_str()]);
        self.once(&target, key, Payload::Nothing).await
    }

    /// Brings a project back from the trash, or one entry of a project.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn undelete(
        &self,
        project: &Slug,
        entry: Option<&At>,
    ) -> Result<wire::ProjectReply, ClientError> {
        let body = match entry {
            Some(entry) => json!({ "entry": entry.to_string() }),
            None => json!({}),
        };
        // A trashed project may not be shown; its head then counts from what the server knows.
        let key = match self.key(project).await {
            Ok(key) => key,
            Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::NotFound => {
                self.env.operation_id(self.trashed_seq(project).await?)
            }
            Err(other) => return Err(other),
        };
        let target = Target::new(routes::UNDELETE, &[project.as_str()]);
        self.once(&target, key, Payload::json(&body)).await
    }

    /// Makes `count` projects (one when absent) that begin at a moment of another.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn fork(
        &self,
        project: &Slug,
        at: &At,
        name: Option<&Slug>,
        count: Option<u32>,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::ProjectsReply>, ClientError> {
        let seq = self.seq(project).await?;
        let mut body = json!({ "at": at.to_string() });
        if let Some(name) = name {
            body["as"] = json!(name);
        }
        if let Some(count) = count {
            body["count"] = json!(count);
        }
        let target = Target::new(routes::FORK, &[project.as_str()]);
        self.follow(target, seq, Payload::json(&body), wait).await
    }

    /// Waits until all that the project had captured when this was called is saved.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn wait(
        &self,
        project: &Slug,
        pace: Duration,
        progress: &mut (dyn FnMut(&wire::Project) + Send),
    ) -> Result<wire::ProjectReply, ClientError> {
        let target =
            Target::new(routes::WAIT, &[project.as_str()]).query("wait_ms", pace.as_millis());
        loop {
            let response = self.repeat(&target, None, &Payload::Nothing).await?;
            let ended = response.status() == StatusCode::OK;
            let reply: wire::ProjectReply = self.read(&target, response).await?;
            if ended {
                return Ok(reply);
            }
            progress(&reply.project);
        }
    }

    /// The sequence number of the newest project of that name in the trash; 0 when there is none.
    async fn trashed_seq(&self, project: &Slug) -> Result<u32, ClientError> {
        let trash = self.list(true).await?.projects;
        let found = trash.iter().filter(|trashed| trashed.slug == project.as_str());
        Ok(found.max_by_key(|trashed| trashed.trashed_at.clone()).map_or(0, |found| found.seq))
    }
}
