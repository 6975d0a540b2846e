//! The calls: how they are sent and followed here, what they ask for below.

mod download;
mod entries;
mod files;
mod projects;
mod store;
mod volumes;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cove_env::Env;
use cove_types::wire::{self, ProblemDetails};
use cove_types::{ErrorKind, OperationId, Slug};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use self::download::{Download, Origin, Remarks};
pub use self::files::Place;
pub use self::store::VerifyRequest;
use crate::connection::Endpoint;
use crate::target::Target;
use crate::{ClientError, Finished, Wait, routes};

/// The longest answer that is no stream, in bytes: a listing of some million files.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// After how long a call whose answer was lost is repeated: in all, what a restart takes.
const REPEAT_AFTER_MS: [u64; 5] = [100, 300, 1_000, 3_000, 6_000];

/// What an archive is announced as.
const TAR: &str = "application/x-tar";

/// A Cove that can be called. Each call has its own connection.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    token: Option<String>,
    env: Env,
    /// The key of the change that was sent last; clones share it.
    sent: Arc<Mutex<Option<OperationId>>>,
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

impl Client {
    /// The Cove that listens on the unix socket at `path`, of any length.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::of(Endpoint::Unix(path.into()), None)
    }

    /// The Cove at `http://HOST:PORT` on this machine.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`]: the URL is none, or leads beyond this machine.
    pub fn tcp(url: &str, token: impl Into<String>) -> Result<Self, ClientError> {
        Ok(Self::of(Endpoint::parse(url)?, Some(token.into())))
    }

    fn of(endpoint: Endpoint, token: Option<String>) -> Self {
        Self { endpoint, token, env: Env::system(), sent: Arc::default() }
    }

    /// How messages name where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.name()
    }

    /// The key of the change that was sent last, or begun to be; without one nothing that was asked of
    /// this client takes effect once its future is dropped.
    #[must_use]
    pub fn sent(&self) -> Option<OperationId> {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the change with that key, after waiting for at most `wait` until its result is on
    /// this node; `None` when it was refused before it began, has not begun, or is forgotten.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn find_operation(
        &self,
        key: OperationId,
        wait: Duration,
    ) -> Result<Option<wire::Operation>, ClientError> {
        let target = Target::new(routes::OPERATION, &[&key.to_string()])
            .query("until", crate::Until::Captured)
            .query("wait_ms", wait.as_millis());
        match self.get::<wire::OperationReply>(target).await {
            Ok(reply) => Ok(Some(reply.operation)),
            Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The sequence number of a project's head.
    async fn seq(&self, project: &Slug) -> Result<u32, ClientError> {
        Ok(self.show(project).await?.project.seq)
    }

    /// A fresh operation id for a change of `project`.
    async fn key(&self, project: &Slug) -> Result<OperationId, ClientError> {
        Ok(self.env.operation_id(self.seq(project).await?))
    }

    async fn get<T: DeserializeOwned>(&self, target: Target) -> Result<T, ClientError> {
        let response = self.repeat(&target, None, &Payload::Nothing).await?;
        self.read(&target, response).await
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
                // It has no memory of it, and nothing can be sent again.
                (Err(ClientError::Problem(problem)), None)
                    if problem.kind == ErrorKind::NotFound =>
                {
                    let source = "Cove was started again meanwhile".into();
                    return Err(ClientError::Lost { at: self.endpoint.name(), source });
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
        let response = self.repeat_after(&target, None, &Payload::Nothing, true).await?;
        let reply: wire::OperationReply = self.read(&target, response).await?;
        Ok(reply.operation)
    }

    /// Sends a call again, with the same key, when its answer was lost.
    async fn repeat(
        &self,
        target: &Target,
        key: Option<OperationId>,
        payload: &Payload,
    ) -> Result<Response<Incoming>, ClientError> {
        self.repeat_after(target, key, payload, false).await
    }

    /// Sends a call to a Cove that is known to have been there when `was_there`: one that is being
    /// started again is waited for.
    async fn repeat_after(
        &self,
        target: &Target,
        key: Option<OperationId>,
        payload: &Payload,
        was_there: bool,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut delays = REPEAT_AFTER_MS.iter();
        let mut was_lost = was_there;
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
        if let Some((first, last)) = target.range {
            let last = last.map(|last| last.to_string()).unwrap_or_default();
            request = request.header(header::RANGE, format!("bytes={first}-{last}"));
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(body).map_err(|error| ClientError::Address {
            what: format!("{}: {error}", target.call()),
        })?;
        if let Some(key) = key {
            *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        }
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
mod tests;
