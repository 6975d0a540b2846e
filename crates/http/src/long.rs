//! Work that may outlive its call: waited for a while, then answered with 202.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cove_types::{ErrorKind, OperationId, wire};
use cove_workspace::{Known, Request, Started, WorkspaceError};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::reading;
use crate::routes::App;

/// How long until a call that was begun is known under its id.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// The longest between two looks at an operation that somebody waits for.
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(100);

/// How far a call is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Until {
    /// The result is on this node.
    Captured,
    /// The result is in the object store.
    #[default]
    Saved,
}

/// How long a call is waited for.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Waiting {
    /// Milliseconds to wait before the answer is 202 with the operation; at most 60,000.
    #[serde(default, deserialize_with = "reading::wait_ms")]
    #[param(maximum = 60_000)]
    pub(crate) wait_ms: Option<u64>,
    /// What is waited for.
    pub(crate) until: Option<Until>,
}

impl Waiting {
    fn deadline(self) -> Instant {
        Instant::now() + Duration::from_millis(self.wait_ms.unwrap_or(0))
    }

    fn until(self) -> Until {
        self.until.unwrap_or_default()
    }
}

/// Answers a call with its reply when it ends in time, else with 202 and its operation.
///
/// A call under a key that is no operation id is waited for until it is captured at least:
/// nobody knows its operation before.
pub(crate) async fn answer<T>(
    app: &App,
    request: &Request,
    waiting: Waiting,
    status: StatusCode,
    call: impl Future<Output = Result<Started<T>, WorkspaceError>> + Send + 'static,
) -> Result<Response, Problem>
where
    T: Serialize + Send + 'static,
{
    let deadline = waiting.deadline();
    // In a task of its own: a caller who goes away stops nothing.
    let mut call = tokio::spawn(call);
    let operation = request.key.parse::<OperationId>().ok();
    let started = match (timeout_at(deadline, &mut call).await, operation) {
        (Ok(ended), _) => ended,
        (Err(_), None) => call.await,
        (Err(_), Some(operation)) => loop {
            if let Some(known) = app.workspaces.operation(&operation).await? {
                return Ok(accepted(told(&operation, known, &request.request_id)));
            }
            // It is not bound yet, or was refused before.
            if let Ok(ended) = tokio::time::timeout(LOOK_AGAIN, &mut call).await {
                break ended;
            }
        },
    };
    let started = started.map_err(|_| {
        Problem::new(ErrorKind::Internal, "the task of a call ended without a result")
    })??;
    let Started { operation, captured, saved, .. } = started;
    if waiting.until() == Until::Captured {
        return Ok((status, Json(captured)).into_response());
    }
    match timeout_at(deadline, saved).await {
        Ok(reply) => Ok((status, Json(reply?)).into_response()),
        Err(_) => match app.workspaces.operation(&operation).await? {
            Some(known) => Ok(accepted(told(&operation, known, &request.request_id))),
            None => Ok((status, Json(captured)).into_response()),
        },
    }
}

/// Waits for an operation and tells how far it is.
pub(crate) async fn look(
    app: &App,
    id: &str,
    waiting: Waiting,
    request_id: &str,
) -> Result<wire::OperationReply, Problem> {
    let deadline = waiting.deadline();
    let mut pause = LOOK_AGAIN;
    loop {
        let operation = find(app, id, request_id).await?;
        let is_enough = match operation.state.as_str() {
            "done" | "failed" => true,
            "captured" => waiting.until() == Until::Captured,
            _ => false,
        };
        if is_enough || Instant::now() >= deadline {
            return Ok(wire::OperationReply { operation });
        }
        sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        pause = (pause * 2).min(LOOK_AGAIN_MAX);
    }
}

async fn find(app: &App, id: &str, request_id: &str) -> Result<wire::Operation, Problem> {
    if let Some(job) = app.jobs.operation(id, request_id) {
        return Ok(job);
    }
    let parsed: OperationId = id.parse()?;
    let known = app.workspaces.operation(&parsed).await?;
    let missing = || {
        Problem::new(ErrorKind::NotFound, format!("operation {parsed} is not known"))
            .hint("if Cove ended while it ran, the same request with the same key goes on with it")
    };
    known.map(|known| told(&parsed, known, request_id)).ok_or_else(missing)
}

/// What is known of an operation, in the words of this transport.
fn told(id: &OperationId, known: Known, request_id: &str) -> wire::Operation {
    let Known { state, progress, result, failure } = known;
    wire::Operation {
        id: id.to_string(),
        state: state.as_str().to_owned(),
        progress,
        result,
        error: failure.map(|failure| Problem::from(failure).told(request_id)),
    }
}

/// The answer 202.
pub(crate) fn accepted(operation: wire::Operation) -> Response {
    (StatusCode::ACCEPTED, Json(wire::OperationReply { operation })).into_response()
}
