//! The store, this Cove, and work that goes on.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use cove_content::volumes::VerifyLevel;
use cove_types::Slug;
use cove_types::wire::{DoctorReply, OperationReply, RecoverReply, VerifyReply};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, App, Keyed, Refused, Reply};
use crate::guard::RequestId;
use crate::long::{self, Waiting};
use crate::problem::Problem;
use crate::reading::{self, AskedOfStore, Named, Nothing, Params, field};

/// A share of the packs.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Which part, from 1.
    part: u32,
    /// Of how many.
    of: u32,
}

/// What is checked and how deep.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    /// One project; all of them when absent.
    project: Option<String>,
    /// 0: heads and entries agree; 1 (the default): every chunk is located; 2: packs are read.
    level: Option<u8>,
    /// At level 2, only this share of the packs.
    read: Option<Part>,
}

fn level(verify: &Verify) -> Result<VerifyLevel, Problem> {
    match (verify.level.unwrap_or(1), &verify.read) {
        (0, None) => Ok(VerifyLevel::Agree),
        (1, None) => Ok(VerifyLevel::Located),
        (2, None) => Ok(VerifyLevel::Read { part: 1, of: 1 }),
        (2, Some(Part { part, of })) if (1..=*of).contains(part) => {
            Ok(VerifyLevel::Read { part: *part, of: *of })
        }
        (2, Some(_)) => Err(Problem::invalid("field \"read\": part is 1 to of")),
        (0 | 1, Some(_)) => Err(Problem::invalid("field \"read\" is for level 2")),
        _ => Err(Problem::invalid("field \"level\" is 0, 1 or 2")),
    }
}

/// Answers a job: its end when that comes in time, else 202.
async fn job(app: &App, key: &str, waiting: Waiting, id: &RequestId) -> Answer {
    let OperationReply { operation } = long::look(app, key, waiting, &id.0).await?;
    if let Some(error) = operation.error {
        let problem = Problem::new(error.kind, error.detail);
        return Err(Problem { hint: error.hint, ..problem });
    }
    match operation.result {
        Some(result) => Ok(Json(result).into_response()),
        None => Ok(long::accepted(operation)),
    }
}

/// Checks what is stored.
#[utoipa::path(post, path = "/verify", operation_id = "verify", tag = "store", params(
    Waiting,
    Keyed,
), request_body = Verify, responses(
    (status = 200, description = "What was found", body = VerifyReply),
    (status = 202, description = "It is being checked", body = OperationReply),
    Refused,
))]
pub(crate) async fn verify(
    State(app): State<App>,
    id: RequestId,
    AskedOfStore(asked): AskedOfStore,
    Params(waiting): Params<Waiting>,
    reading::Json(verify): reading::Json<Verify>,
) -> Answer {
    let level = level(&verify)?;
    let project: Option<Slug> =
        verify.project.as_deref().map(|text| field("project", text)).transpose()?;
    let workspaces = app.workspaces.clone();
    let request = format!("verify {project:?} {level:?}");
    app.jobs.start(&asked.key, request, |progress| {
        progress.step("checking");
        async move { workspaces.verify(project.as_ref(), level).await }
    })?;
    job(&app, &asked.key, waiting, &id).await
}

/// Tells what is well and what is not with this Cove and what it stands on.
#[utoipa::path(get, path = "/doctor", operation_id = "doctor", tag = "store", responses(
    (status = 200, description = "The checks", body = DoctorReply),
    Refused,
))]
pub(crate) async fn doctor(
    State(app): State<App>,
    Params(Nothing {}): Params<Nothing>,
) -> Json<DoctorReply> {
    Json(app.workspaces.doctor().await)
}

/// Whether a living holder is overruled.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recover {
    /// Also from a Cove that gave a sign of life within the last 60 s.
    #[serde(default)]
    take: bool,
}

/// Takes the object store over and brings its projects here.
#[utoipa::path(post, path = "/recover", operation_id = "recover", tag = "store", params(
    Waiting,
    Keyed,
), request_body = Recover, responses(
    (status = 200, description = "What is back and what is not", body = RecoverReply),
    (status = 202, description = "It is being recovered", body = OperationReply),
    Refused,
))]
pub(crate) async fn recover(
    State(app): State<App>,
    id: RequestId,
    AskedOfStore(asked): AskedOfStore,
    Params(waiting): Params<Waiting>,
    reading::Json(recover): reading::Json<Recover>,
) -> Answer {
    let (workspaces, request) = (app.workspaces.clone(), asked.clone());
    app.jobs.start(&asked.key, format!("recover {}", recover.take), |progress| async move {
        workspaces.recover(&request, recover.take, progress).await
    })?;
    job(&app, &asked.key, waiting, &id).await
}

/// Tells how far work is, after waiting for its end.
#[utoipa::path(get, path = "/operations/{id}", operation_id = "show_operation", tag = "store", params(
    ("id" = String, Path, description = "The operation id, which is the call's Idempotency-Key where that is one"),
    Waiting,
), responses(
    (status = 200, description = "The operation", body = OperationReply),
    Refused,
))]
pub(crate) async fn operation(
    State(app): State<App>,
    request: RequestId,
    Named(id): Named<String>,
    Params(waiting): Params<Waiting>,
) -> Reply<OperationReply> {
    Ok(Json(long::look(&app, &id, waiting, &request.0).await?))
}

/// That Cove stops.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DownReply {
    /// True.
    stopping: bool,
}

/// Stops Cove.
#[utoipa::path(post, path = "/down", operation_id = "down", tag = "cove", responses(
    (status = 202, description = "It begins to stop", body = DownReply),
    Refused,
))]
pub(crate) async fn down(
    State(app): State<App>,
    Params(Nothing {}): Params<Nothing>,
) -> (StatusCode, Json<DownReply>) {
    app.options.down.notify_one();
    (StatusCode::ACCEPTED, Json(DownReply { stopping: true }))
}

/// That Cove serves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthReply {
    /// `serving`.
    status: String,
    /// Its version.
    version: String,
}

/// Tells that Cove serves.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "cove", responses(
    (status = 200, description = "It serves", body = HealthReply),
    Refused,
))]
pub(crate) async fn health(
    State(app): State<App>,
    Params(Nothing {}): Params<Nothing>,
) -> Json<HealthReply> {
    let version = app.options.version.clone();
    Json(HealthReply { status: "serving".to_owned(), version })
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "cove", responses(
    (status = 200, description = "The OpenAPI 3.1 document", body = Object, content_type = "application/json"),
))]
pub(crate) async fn openapi(Params(Nothing {}): Params<Nothing>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], crate::openapi::document())
}
