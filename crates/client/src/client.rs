//! The calls.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cove_env::Env;
use cove_types::wire::{self, ProblemDetails};
use cove_types::{At, ErrorKind, Label, OperationId, Slug, TreePath};
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream, Full, Limited};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncRead;

use crate::connection::Endpoint;
use crate::target::Target;
use crate::{ClientError, Finished, Upload, Wait, routes};

/// The longest answer that is no stream, in bytes: a listing of some million files.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// After how long a call whose answer was lost is repeated: in all, what a restart takes.
const REPEAT_AFTER_MS: [u64; 5] = [100, 300, 1_000, 3_000, 6_000];

/// What an archive is announced as.
const TAR: &str = "application/x-tar";
/// What a file's bytes are announced as.
const BYTES: &str = "application/octet-stream";

/// A Cove that can be called. Each call has its own connection.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<String>,
    env: Env,
}

/// What a request carries and can carry again.
#[derive(Debug, Clone)]
enum Payload {
    Nothing,
    Json(Bytes),
}

impl Payload {
    fn json(value: &Value) -> Self {
        Self::Json(Bytes::from(value.to_string()))
    }
}

/// A path of a project at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The project.
    pub project: &'a Slug,
    /// When.
    pub at: &'a At,
    /// Where.
    pub path: &'a TreePath,
}

impl Place<'_> {
    fn target(&self, route: routes::Route) -> Target {
        Target::new(route, &[self.project.as_str()]).query("path", self.path).query("at", self.at)
    }
}

/// How deep `verify` looks.
#[derive(Debug, Clone, Default)]
pub struct VerifyRequest {
    /// One project; all of them when absent.
    pub project: Option<Slug>,
    /// 0, 1 or 2; the server's default when absent.
    pub level: Option<u8>,
    /// Which part of how many parts of the packs is read at level 2.
    pub read: Option<(u32, u32)>,
}

/// An answer that is read as it comes.
pub struct Download {
    body: Incoming,
    /// How long it is, when that is known before.
    pub bytes: Option<u64>,
    /// Where it comes from.
    pub origin: Origin,
    /// What was not taken as it is; known when all of it was read.
    pub remarks: Remarks,
}

/// What Cove says of a [`Download`] behind its last byte.
#[derive(Debug, Clone, Default)]
pub struct Remarks(Arc<OnceLock<Vec<String>>>);

impl Remarks {
    /// A line each; none before all of it was read.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

/// Where a [`Download`] comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    client: Client,
    target: Target,
}

impl Origin {
    /// What Cove says of a file that came no further than `offset`; `None` when all of the rest can
    /// be read now.
    pub async fn find_fault(&self, offset: u64) -> Option<ClientError> {
        let mut target = self.target.clone();
        let mut at = offset;
        loop {
            target.from = Some(at);
            let sent = self.client.send(&target, None, BoxBody::default(), "").await;
            let mut body = match sent {
                Ok(response) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    response.into_body()
                }
                Ok(_) => return None,
                // There is nothing from there on.
                Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::Invalid => {
                    return None;
                }
                Err(error) => return Some(error),
            };
            let before = at;
            // What comes before the fault is of no interest.
            let broke = loop {
                match body.frame().await {
                    Some(Ok(frame)) => at += frame.data_ref().map_or(0, Bytes::len) as u64,
                    Some(Err(_)) => break true,
                    None => break false,
                }
            };
            if !broke || at == before {
                return None;
            }
        }
    }
}

impl Download {
    /// Its bytes. A stream that breaks off ends in an error, never as if it were whole; when Cove
    /// says why, [`ClientError::find_problem`] finds it there.
    pub fn reader(self) -> impl AsyncRead + Send + Unpin + 'static {
        let remarks = self.remarks;
        let piece = move |frame: hyper::Result<Frame<Bytes>>| {
            std::future::ready(match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => Some(Ok(bytes)),
                Ok(Err(last)) => heed(last.trailers_ref(), &remarks).err().map(Err),
                Err(error) => Some(Err(io::Error::other(error))),
            })
        };
        let pieces = BodyStream::new(self.body).filter_map(piece);
        tokio_util::io::StreamReader::new(pieces)
    }
}

/// Takes in what stands behind the last byte of an answer.
///
/// # Errors
///
/// The answer is not whole, for the reason that stands there.
fn heed(trailers: Option<&HeaderMap>, remarks: &Remarks) -> io::Result<()> {
    let said = |name| trailers?.get(name).map(hyper::header::HeaderValue::as_bytes);
    if let Some(problem) = said("cove-problem") {
        return Err(io::Error::other(match serde_json::from_slice(problem) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(error) => ClientError::Protocol {
                call: "an archive".to_owned(),
                what: format!("trailer Cove-Problem, {error}"),
            },
        }));
    }
    if let Some(Ok(lines)) = said("cove-remarks").map(serde_json::from_slice) {
        // Nothing else sets it.
        drop(remarks.0.set(lines));
    }
    Ok(())
}

impl Client {
    /// The Cove that listens on the unix socket at `path`, of any length.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { endpoint: Endpoint::Unix(path.into()), token: None, env: Env::system() }
    }

    /// The Cove at `http://HOST:PORT` on this machine.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`]: the URL is none, or leads beyond this machine.
    pub fn tcp(url: &str, token: impl Into<String>) -> Result<Self, ClientError> {
        let endpoint = Endpoint::parse(url)?;
        Ok(Self { endpoint, token: Some(token.into()), env: Env::system() })
    }

    /// How messages name where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.name()
    }

    /// Whether it serves, and its version.
    ///
    /// # Errors
    ///
    /// As every call: [`ClientError`].
    pub async fn health(&self) -> Result<Value, ClientError> {
        self.get(Target::new(routes::HEALTH, &[])).await
    }

    /// Stops it. Returns when it has begun to stop.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn down(&self) -> Result<(), ClientError> {
        let target = Target::new(routes::DOWN, &[]);
        self.once::<Value>(&target, self.env.operation_id(0), Payload::Nothing).await.map(drop)
    }

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

    /// Makes an empty project.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. Repeated with the same name it is refused, unless the answer was lost.
    pub async fn create(
        &self,
        project: &Slug,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::ProjectReply>, ClientError> {
        let body = Payload::json(&json!({ "slug": project }));
        self.follow(Target::new(routes::CREATE, &[]), 0, body, wait).await
    }

    /// Makes a project of a tar stream.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. A stream that breaks off leaves no project.
    pub async fn create_from(
        &self,
        project: &Slug,
        archive: Upload,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::ProjectReply>, ClientError> {
        let key = self.env.operation_id(0);
        let target = Target::new(routes::CREATE, &[])
            .query("slug", project)
            .query("until", wait.until)
            .query("wait_ms", 0);
        let first = match self.send(&target, Some(key), archive.0, TAR).await {
            // What became of it is asked, since the stream cannot be sent again.
            Err(lost @ ClientError::Lost { .. }) => match self.operation(key, &wait).await {
                Ok(operation) => Answer::Goes(Box::new(operation)),
                Err(ClientError::Problem(_)) => return Err(lost),
                Err(other) => return Err(other),
            },
            Err(other) => return Err(other),
            Ok(response) => self.answer(&target, response).await?,
        };
        self.until_end(&target, key, None, first, wait).await
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

    /// Moves an entry to the trash.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. One that is pinned is refused.
    pub async fn trash_entry(
        &self,
        project: &Slug,
        at: &At,
    ) -> Result<wire::EntryReply, ClientError> {
        let key = self.key(project).await?;
        let target = Target::new(routes::TRASH_ENTRY, &[project.as_str(), &at.to_string()]);
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

    /// The timeline, newest first; with what lies in the trash when `all`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn timeline(
        &self,
        project: &Slug,
        all: bool,
    ) -> Result<wire::EntriesReply, ClientError> {
        let target = Target::new(routes::TIMELINE, &[project.as_str()]);
        self.get(target.query_some("all", all.then_some(true))).await
    }

    /// Makes an entry of the present state.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn snapshot(
        &self,
        project: &Slug,
        message: Option<&str>,
        label: Option<&Label>,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::EntryReply>, ClientError> {
        let seq = self.seq(project).await?;
        let mut body = json!({});
        if let Some(message) = message {
            body["message"] = json!(message);
        }
        if let Some(label) = label {
            body["label"] = json!(label);
        }
        let target = Target::new(routes::SNAPSHOT, &[project.as_str()]);
        self.follow(target, seq, Payload::json(&body), wait).await
    }

    /// Sets whether retention leaves an entry alone.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn pin(
        &self,
        project: &Slug,
        at: &At,
        pinned: bool,
    ) -> Result<wire::EntryReply, ClientError> {
        let body = json!({ "pinned": pinned });
        self.change(routes::EDIT_ENTRY, project, &[&at.to_string()], body).await
    }

    /// Gives an entry a name, or takes it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn label(
        &self,
        project: &Slug,
        at: &At,
        label: Option<&Label>,
    ) -> Result<wire::EntryReply, ClientError> {
        let body = json!({ "label": label });
        self.change(routes::EDIT_ENTRY, project, &[&at.to_string()], body).await
    }

    /// Goes back to an entry, whole or only `paths`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn restore(
        &self,
        project: &Slug,
        entry: &At,
        paths: &[TreePath],
        force: bool,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::ProjectReply>, ClientError> {
        let seq = self.seq(project).await?;
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let body = json!({ "entry": entry.to_string(), "paths": paths, "force": force });
        let target = Target::new(routes::RESTORE, &[project.as_str()]);
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

    /// What differs between two moments.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn diff(
        &self,
        before: (&Slug, &At),
        after: (&Slug, &At),
    ) -> Result<wire::ChangesReply, ClientError> {
        let target = Target::new(routes::DIFF, &[])
            .query("before", format!("{}@{}", before.0, before.1))
            .query("after", format!("{}@{}", after.0, after.1));
        self.get(target).await
    }

    /// The children of a directory, or everything below it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn files(
        &self,
        place: Place<'_>,
        recursive: bool,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = place.target(routes::FILES);
        self.get(target.query_some("recursive", recursive.then_some(true))).await
    }

    /// One file.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn stat(&self, place: Place<'_>) -> Result<wire::FilesReply, ClientError> {
        self.get(place.target(routes::STAT)).await
    }

    /// What lies below a path whose names match a pattern of `*` and `?`, of one kind or any.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn find(
        &self,
        place: Place<'_>,
        name: Option<&str>,
        kind: Option<&str>,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = place.target(routes::FIND).query_some("name", name);
        self.get(target.query_some("kind", kind)).await
    }

    /// The lines below a path that hold a text, or match a regular expression.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn grep(
        &self,
        place: Place<'_>,
        pattern: &str,
        is_expression: bool,
        ignores_case: bool,
    ) -> Result<wire::MatchesReply, ClientError> {
        let target = place
            .target(routes::GREP)
            .query("pattern", pattern)
            .query_some("regex", is_expression.then_some(true))
            .query_some("ignore_case", ignores_case.then_some(true));
        self.get(target).await
    }

    /// A file's bytes.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn content(&self, place: Place<'_>) -> Result<Download, ClientError> {
        self.download(place.target(routes::READ)).await
    }

    /// A path with everything below as a tar stream; names in it begin with the path's last
    /// name, `.` for the root.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn archive(&self, place: Place<'_>) -> Result<Download, ClientError> {
        self.download(place.target(routes::EXPORT)).await
    }

    /// Replaces a file by what the body holds.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. A body that breaks off leaves the file as it was.
    pub async fn put(
        &self,
        project: &Slug,
        path: &TreePath,
        content: Upload,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = Target::new(routes::PUT, &[project.as_str()]).query("path", path);
        let response = self.send(&target, Some(self.key(project).await?), content.0, BYTES).await?;
        self.read(&target, response).await
    }

    /// Extracts a tar stream below a directory, merging directories.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. What was extracted before a failure stays.
    pub async fn extract(
        &self,
        project: &Slug,
        path: &TreePath,
        archive: Upload,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = Target::new(routes::EXTRACT, &[project.as_str()]).query("path", path);
        let response = self.send(&target, Some(self.key(project).await?), archive.0, TAR).await?;
        self.read(&target, response).await
    }

    /// Removes a path; a directory that is not empty only when `recursive`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn remove(
        &self,
        project: &Slug,
        path: &TreePath,
        recursive: bool,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = Target::new(routes::REMOVE, &[project.as_str()])
            .query("path", path)
            .query_some("recursive", recursive.then_some(true));
        self.once(&target, self.key(project).await?, Payload::Nothing).await
    }

    /// Moves a path.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn rename_path(
        &self,
        project: &Slug,
        from: &TreePath,
        to: &TreePath,
    ) -> Result<wire::FilesReply, ClientError> {
        let body = json!({ "from": from.to_string(), "to": to.to_string() });
        self.change(routes::MOVE, project, &[], body).await
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn make_directory(
        &self,
        project: &Slug,
        path: &TreePath,
    ) -> Result<wire::FilesReply, ClientError> {
        let body = json!({ "path": path.to_string() });
        self.change(routes::MAKE_DIRECTORY, project, &[], body).await
    }

    /// Checks what is stored.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. What it finds is in the reply, not here.
    pub async fn verify(
        &self,
        request: &VerifyRequest,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::VerifyReply>, ClientError> {
        let mut body = json!({});
        if let Some(project) = &request.project {
            body["project"] = json!(project);
        }
        if let Some(level) = request.level {
            body["level"] = json!(level);
        }
        if let Some((part, of)) = request.read {
            body["read"] = json!({ "part": part, "of": of });
        }
        self.follow(Target::new(routes::VERIFY, &[]), 0, Payload::json(&body), wait).await
    }

    /// What is well and what is not.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn doctor(&self) -> Result<wire::DoctorReply, ClientError> {
        self.get(Target::new(routes::DOCTOR, &[])).await
    }

    /// Takes the store over and makes copies of all its projects here.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. What was lost is in the reply, not here.
    pub async fn recover(
        &self,
        take: bool,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::RecoverReply>, ClientError> {
        let body = Payload::json(&json!({ "take": take }));
        self.follow(Target::new(routes::RECOVER, &[]), 0, body, wait).await
    }

    /// The sequence number of a project's head.
    async fn seq(&self, project: &Slug) -> Result<u32, ClientError> {
        Ok(self.show(project).await?.project.seq)
    }

    /// The sequence number of the newest project of that name in the trash; 0 when there is none.
    async fn trashed_seq(&self, project: &Slug) -> Result<u32, ClientError> {
        let trash = self.list(true).await?.projects;
        let found = trash.iter().filter(|trashed| trashed.slug == project.as_str());
        Ok(found.max_by_key(|trashed| trashed.trashed_at.clone()).map_or(0, |found| found.seq))
    }

    /// A fresh operation id for a change of `project`.
    async fn key(&self, project: &Slug) -> Result<OperationId, ClientError> {
        Ok(self.env.operation_id(self.seq(project).await?))
    }

    async fn get<T: DeserializeOwned>(&self, target: Target) -> Result<T, ClientError> {
        let response = self.repeat(&target, None, &Payload::Nothing).await?;
        self.read(&target, response).await
    }

    async fn download(&self, target: Target) -> Result<Download, ClientError> {
        let origin = Origin { client: self.clone(), target: target.clone() };
        let response = self.repeat(&target, None, &Payload::Nothing).await?;
        let length = response.headers().get(header::CONTENT_LENGTH);
        let bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(Download { body: response.into_body(), bytes, origin, remarks: Remarks::default() })
    }

    /// A change of a project that ends before it is answered.
    async fn change<T: DeserializeOwned>(
        &self,
        route: routes::Route,
        project: &Slug,
        parts: &[&str],
        body: Value,
    ) -> Result<T, ClientError> {
        let key = self.key(project).await?;
        let parts: Vec<&str> = [project.as_str()].iter().chain(parts).copied().collect();
        self.once(&Target::new(route, &parts), key, Payload::json(&body)).await
    }

    async fn once<T: DeserializeOwned>(
        &self,
        target: &Target,
        key: OperationId,
        payload: Payload,
    ) -> Result<T, ClientError> {
        let response = self.repeat(target, Some(key), &payload).await?;
        self.read(target, response).await
    }

    /// A change that may outlive its call, followed as far as `wait` says.
    async fn follow<T: DeserializeOwned>(
        &self,
        target: Target,
        seq: u32,
        payload: Payload,
        wait: Wait<'_>,
    ) -> Result<Finished<T>, ClientError> {
        let key = self.env.operation_id(seq);
        let target = target.query("until", wait.until).query("wait_ms", wait.pace.as_millis());
        let response = self.repeat(&target, Some(key), &payload).await?;
        let first = self.answer(&target, response).await?;
        self.until_end(&target, key, Some(payload), first, wait).await
    }

    async fn until_end<T: DeserializeOwned>(
        &self,
        target: &Target,
        key: OperationId,
        payload: Option<Payload>,
        mut answer: Answer,
        wait: Wait<'_>,
    ) -> Result<Finished<T>, ClientError> {
        loop {
            let operation = match answer {
                Answer::Reply(reply) => {
                    let reply = from_value(target, reply)?;
                    return Ok(Finished { operation: key, reply });
                }
                Answer::Goes(operation) => operation,
            };
            if let Some(error) = operation.error {
                return Err(ClientError::Problem(Box::new(error)));
            }
            let is_captured = operation.state == "captured" && wait.until == crate::Until::Captured;
            match operation.result {
                Some(reply) if operation.state == "done" || is_captured => {
                    answer = Answer::Reply(reply);
                    continue;
                }
                _ => (wait.progress)(&operation),
            }
            answer = match (self.operation(key, &wait).await, &payload) {
                (Ok(operation), _) => Answer::Goes(Box::new(operation)),
                // Cove was started anew and has no memory of it: the same id finds the result.
                (Err(ClientError::Problem(problem)), Some(payload))
                    if problem.kind == ErrorKind::NotFound =>
                {
                    let response = self.repeat(target, Some(key), payload).await?;
                    self.answer(target, response).await?
                }
                (Err(error), _) => return Err(error),
            };
        }
    }

    async fn operation(
        &self,
        key: OperationId,
        wait: &Wait<'_>,
    ) -> Result<wire::Operation, ClientError> {
        let target = Target::new(routes::OPERATION, &[&key.to_string()])
            .query("until", wait.until)
            .query("wait_ms", wait.pace.as_millis());
        let reply: wire::OperationReply = self.get(target).await?;
        Ok(reply.operation)
    }

    /// Sends a call again, with the same key, when its answer was lost.
    async fn repeat(
        &self,
        target: &Target,
        key: Option<OperationId>,
        payload: &Payload,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut delays = REPEAT_AFTER_MS.iter();
        let mut was_lost = false;
        loop {
            let (body, kind) = match payload {
                Payload::Nothing => (BoxBody::default(), None),
                Payload::Json(bytes) => {
                    let body = Full::new(bytes.clone()).map_err(|never| match never {});
                    (BodyExt::boxed(body), Some("application/json"))
                }
            };
            let error = match self.send(target, key, body, kind.unwrap_or_default()).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            // Who never answered is not waited for; who went away may come back.
            let is_worth_it = matches!(error, ClientError::Lost { .. })
                || was_lost && matches!(error, ClientError::Unreachable { .. });
            let Some(delay) = delays.next().filter(|_| is_worth_it) else { return Err(error) };
            was_lost = true;
            tokio::time::sleep(Duration::from_millis(*delay)).await;
        }
    }

    /// Sends a call once and returns its answer unless that is an error.
    async fn send(
        &self,
        target: &Target,
        key: Option<OperationId>,
        body: BoxBody<Bytes, io::Error>,
        kind: &str,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder()
            .method(target.route.method)
            .uri(target.uri())
            .header(header::HOST, self.endpoint.host())
            // An answer that goes wrong after it was begun says so behind its last byte.
            .header(header::TE, "trailers")
            .header(header::CONNECTION, "TE")
            .header(header::USER_AGENT, concat!("cove/", env!("CARGO_PKG_VERSION")));
        if !kind.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key.to_string());
        }
        if let Some(from) = target.from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(body).map_err(|error| ClientError::Address {
            what: format!("{}: {error}", target.call()),
        })?;
        let response = self.endpoint.send(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let value: Value = self.read(target, response).await?;
        Err(problem(target, status, value))
    }

    /// Reads an answer that is a reply or work that goes on.
    async fn answer(
        &self,
        target: &Target,
        response: Response<Incoming>,
    ) -> Result<Answer, ClientError> {
        if response.status() == StatusCode::ACCEPTED {
            let reply: wire::OperationReply = self.read(target, response).await?;
            return Ok(Answer::Goes(Box::new(reply.operation)));
        }
        Ok(Answer::Reply(self.read(target, response).await?))
    }

    async fn read<T: DeserializeOwned>(
        &self,
        target: &Target,
        response: Response<Incoming>,
    ) -> Result<T, ClientError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let bytes = body
            .collect()
            .await
            .map_err(|source| ClientError::Lost { at: self.endpoint.name(), source })?
            .to_bytes();
        // `204 No Content` and its like stand for an empty object.
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Protocol {
            call: target.call(),
            what: format!("status {status}, {error}"),
        })
    }
}

/// The first answer to work that may outlive its call.
enum Answer {
    Reply(Value),
    Goes(Box<wire::Operation>),
}

fn from_value<T: DeserializeOwned>(target: &Target, value: Value) -> Result<T, ClientError> {
    serde_json::from_value(value)
        .map_err(|error| ClientError::Protocol { call: target.call(), what: error.to_string() })
}

/// An error answer; a kind that this client does not know counts as internal.
fn problem(target: &Target, status: StatusCode, mut value: Value) -> ClientError {
    if let Ok(problem) = serde_json::from_value::<ProblemDetails>(value.clone()) {
        return ClientError::Problem(Box::new(problem));
    }
    value["kind"] = json!(ErrorKind::Internal);
    match serde_json::from_value::<ProblemDetails>(value) {
        Ok(problem) => ClientError::Problem(Box::new(problem)),
        Err(error) => {
            ClientError::Protocol { call: target.call(), what: format!("status {status}, {error}") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Until;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    /// Answers one connection after the other; an empty answer closes without a word.
    /// Returns what was asked.
    async fn serve(listener: UnixListener, answers: Vec<String>) -> Vec<String> {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let count = stream.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..count]);
            }
            asked.push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        asked
    }

    fn answer(status: &str, body: &Value) -> String {
        let body = body.to_string();
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    fn key_of(request: &str) -> &str {
        let line = request.lines().find(|line| line.starts_with("idempotency-key")).unwrap();
        line.split(": ").nth(1).unwrap()
    }

    #[tokio::test]
    async fn a_call_whose_answer_was_lost_is_repeated_with_the_same_key_and_followed() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("cove.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let running = json!({ "operation": { "id": "x", "state": "running",
            "progress": { "step": "checking", "done_bytes": 1, "done_files": 0 } } });
        let done = json!({ "operation": { "id": "x", "state": "done",
            "progress": { "step": "", "done_bytes": 2, "done_files": 0 },
            "result": { "projects": [], "lost": [], "a_later_field": 1 } } });
        let answers =
            vec![String::new(), answer("202 Accepted", &running), answer("200 OK", &done)];
        let server = tokio::spawn(serve(listener, answers));
        let mut steps = Vec::new();
        let mut progress =
            |operation: &wire::Operation| steps.push(operation.progress.step.clone());
        let wait = Wait { until: Until::Saved, pace: Duration::ZERO, progress: &mut progress };
        let finished = Client::unix(&socket).recover(false, wait).await.unwrap();
        assert_eq!(finished.reply.lost, []);
        assert_eq!(steps, ["checking"]);
        let asked = server.await.unwrap();
        assert_eq!(key_of(&asked[0]), key_of(&asked[1]));
        let look = format!("GET /v1/operations/{}?until=saved", key_of(&asked[0]));
        assert!(asked[2].starts_with(&look), "{}", asked[2]);
    }

    #[tokio::test]
    async fn why_a_file_breaks_off_is_asked_from_there_on() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("cove.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let body = json!({ "type": "https://cove.dev/errors/corrupt", "title": "Damaged data",
            "status": 500, "kind": "corrupt", "detail": "failed to read a", "request_id": "r" });
        let answers = vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabcd".to_owned(),
            "HTTP/1.1 206 Partial Content\r\ncontent-length: 6\r\n\r\nef".to_owned(),
            answer("500 Internal Server Error", &body),
            "HTTP/1.1 206 Partial Content\r\ncontent-length: 1\r\n\r\nj".to_owned(),
        ];
        let server = tokio::spawn(serve(listener, answers));
        let (project, path) = ("shop".parse().unwrap(), TreePath::parse("a").unwrap());
        let place = Place { project: &project, at: &At::Now, path: &path };
        let download = Client::unix(&socket).content(place).await.unwrap();
        let origin = download.origin.clone();
        let (mut reader, mut bytes) = (download.reader(), Vec::new());
        reader.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(bytes, b"abcd");
        let fault = origin.find_fault(4).await.unwrap();
        assert_eq!(cove_types::Classify::kind(&fault), ErrorKind::Corrupt);
        assert!(origin.find_fault(9).await.is_none(), "what is whole by now has no fault");
        let asked = server.await.unwrap();
        for (asked, from) in asked[1..].iter().zip([4, 6, 9]) {
            assert!(asked.contains(&format!("range: bytes={from}-")), "{asked}");
        }
    }

    /// What comes of an archive that ends in `trailers`.
    async fn archive_that_ends_in(trailers: &str) -> (io::Result<Vec<u8>>, Remarks) {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("cove.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = format!("{head}4\r\nabcd\r\n0\r\n{trailers}\r\n");
        let server = tokio::spawn(serve(listener, vec![answer]));
        let (project, path) = ("shop".parse().unwrap(), TreePath::top());
        let place = Place { project: &project, at: &At::Now, path: &path };
        let download = Client::unix(&socket).archive(place).await.unwrap();
        let remarks = download.remarks.clone();
        let (mut reader, mut bytes) = (download.reader(), Vec::new());
        let read = reader.read_to_end(&mut bytes).await.map(|_| bytes);
        assert!(server.await.unwrap()[0].contains("te: trailers"));
        (read, remarks)
    }

    #[tokio::test]
    async fn an_archive_that_is_not_whole_is_an_error_with_the_reason_behind_it() {
        let problem = json!({ "type": "https://cove.dev/errors/corrupt", "title": "Damaged data",
            "status": 500, "kind": "corrupt", "detail": "failed to read a", "request_id": "r" });
        let (read, _) = archive_that_ends_in(&format!("cove-problem: {problem}\r\n")).await;
        let error = read.unwrap_err();
        let found = ClientError::find_problem(&error).expect("the reason is behind the last byte");
        assert_eq!((found.kind, &*found.detail), (ErrorKind::Corrupt, "failed to read a"));
        // What cannot be read is no end either.
        let (read, _) = archive_that_ends_in("cove-problem: x\r\n").await;
        assert!(ClientError::find_problem(&read.unwrap_err()).is_none());
        let (read, remarks) = archive_that_ends_in("cove-remarks: [\"a: left out\"]\r\n").await;
        assert_eq!(
            (read.unwrap(), remarks.lines()),
            (b"abcd".to_vec(), &["a: left out".to_owned()][..])
        );
        let (read, remarks) = archive_that_ends_in("").await;
        assert!(read.is_ok() && remarks.lines().is_empty());
    }

    #[tokio::test]
    async fn an_error_of_an_unknown_kind_is_internal() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("cove.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let body = json!({ "type": "https://cove.dev/errors/new", "title": "New", "status": 418,
            "kind": "new", "detail": "the pot is a teapot", "request_id": "r" });
        tokio::spawn(serve(listener, vec![answer("418 I'm a teapot", &body)]));
        let error = Client::unix(&socket).doctor().await.unwrap_err();
        assert_eq!(cove_types::Classify::kind(&error), ErrorKind::Internal);
        assert_eq!(error.to_string(), "the pot is a teapot");
    }
}
