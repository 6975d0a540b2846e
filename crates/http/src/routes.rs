//! The calls, by what they are about.

mod entries;
mod files;
mod projects;
mod store;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use cove_env::Env;
use cove_hub::VolumeHub;
use cove_types::ErrorKind;
use cove_workspace::Workspaces;
use tokio::sync::Notify;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::guard;
use crate::jobs::Jobs;
use crate::precondition::Turns;
use crate::problem::Problem;

/// What the API is told by the program that serves it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The SHA-256 of the token that callers over TCP must send.
    pub token_sha256: [u8; 32],
    /// Hosts, in lower case and without port, under which it may be called over TCP besides
    /// `localhost`, `127.0.0.1` and `[::1]`.
    pub hosts: Vec<String>,
    /// What `GET /v1/health` tells.
    pub version: String,
    /// Notified when a caller asks Cove to stop.
    pub down: Arc<Notify>,
    /// Time and chance.
    pub env: Env,
}

/// What [`Options::token_sha256`] is for a token.
#[must_use]
pub fn token_digest(token: &str) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    Sha256::digest(token.as_bytes()).into()
}

/// What every call reaches.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) workspaces: Arc<Workspaces>,
    pub(crate) hub: Arc<dyn VolumeHub>,
    pub(crate) options: Arc<Options>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) turns: Arc<Turns>,
}

/// The calls with their documentation.
pub(crate) fn calls() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::show, projects::rename, projects::trash))
        .routes(routes!(projects::undelete))
        .routes(routes!(projects::fork))
        .routes(routes!(projects::wait))
        .routes(routes!(volumes::list))
        .routes(routes!(volumes::show))
        .routes(routes!(entries::timeline, entries::snapshot))
        .routes(routes!(entries::edit, entries::trash))
        .routes(routes!(entries::restore))
        .routes(routes!(entries::diff))
        .routes(routes!(files::list, files::edits::remove))
        .routes(routes!(files::stat))
        .routes(routes!(files::find))
        .routes(routes!(files::grep))
        .routes(routes!(files::content::read, files::content::put))
        .routes(routes!(files::edits::rename))
        .routes(routes!(files::edits::make_directory))
        .routes(routes!(files::archive::export, files::archive::extract))
        .routes(routes!(store::verify))
        .routes(routes!(store::doctor))
        .routes(routes!(store::recover))
        .routes(routes!(store::operation))
        .routes(routes!(store::down))
        .routes(routes!(store::health))
        .routes(routes!(store::openapi))
}

/// The whole API. Serve it with [`serve_unix`](crate::serve_unix) and
/// [`serve_tcp`](crate::serve_tcp): a request that neither of them marked needs the token.
pub fn router(workspaces: Arc<Workspaces>, hub: Arc<dyn VolumeHub>, options: Options) -> Router {
    let app = App {
        workspaces,
        hub,
        options: Arc::new(options),
        jobs: Arc::default(),
        turns: Arc::default(),
    };
    let (calls, _) = OpenApiRouter::new().nest("/v1", calls()).split_for_parts();
    calls
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

async fn unknown() -> Problem {
    Problem::new(ErrorKind::NotFound, "this API has no such call")
        .hint("GET /v1/openapi.json lists the calls")
}

async fn not_allowed() -> Problem {
    Problem::invalid("this call has no such method").status(StatusCode::METHOD_NOT_ALLOWED)
}

/// Bytes as they are.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it stands in the API's description only")]
pub(crate) struct Octets(Vec<u8>);

/// What every call may answer besides.
#[derive(utoipa::IntoResponses)]
#[response(status = "default", description = "An error", content_type = "application/problem+json")]
#[expect(dead_code, reason = "it stands in the API's description only")]
pub(crate) struct Refused(cove_types::wire::ProblemDetails);

/// What every call takes that changes something.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it stands in the API's description only")]
pub(crate) struct Keyed {
    /// Under which the call may be repeated
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

/// What a handler gives.
pub(crate) type Answer = Result<Response, Problem>;

/// What a handler gives that answers in JSON.
pub(crate) type Reply<T> = Result<axum::Json<T>, Problem>;

#[cfg(test)]
mod tests;
