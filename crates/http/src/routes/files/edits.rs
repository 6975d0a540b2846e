//! Changes of files.

use axum::Json;
use axum::extract::State;
use cove_content::volumes::FileEdit;
use cove_types::wire::FilesReply;
use cove_types::{ErrorKind, Slug};
use cove_workspace::WorkspaceError;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;
use crate::reading::{self, Asked, Nothing, Params, Project};
use crate::routes::{App, Keyed, Refused, Reply};

/// Where something changes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Target {
    /// The path from the project's root.
    pub(super) path: String,
}

/// Does an edit in a task of its own, so that a caller who goes away does not stop it half-way.
pub(super) async fn change(
    app: App,
    asked: cove_workspace::Request,
    slug: Slug,
    edit: FileEdit,
) -> Reply<FilesReply> {
    in_task(async move { app.workspaces.edit(&asked, &slug, edit).await }).await.map(Json)
}

/// What a call gives that goes on when its caller goes away.
pub(super) async fn in_task<T: Send + 'static>(
    call: impl Future<Output = Result<T, WorkspaceError>> + Send + 'static,
) -> Result<T, Problem> {
    let ended = tokio::spawn(call).await.map_err(|_| {
        Problem::new(ErrorKind::Internal, "the task of a call ended without a result")
    })?;
    Ok(ended?)
}

/// What is removed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Remove {
    /// The path from the project's root.
    path: String,
    /// With everything below.
    recursive: Option<bool>,
}

/// Removes a path.
#[utoipa::path(delete, path = "/projects/{slug}/files", operation_id = "remove_path", tag = "files", params(
    ("slug", description = "The project"),
    Remove,
    Keyed,
), responses(
    (status = 200, description = "What was removed", body = FilesReply),
    Refused,
))]
pub(crate) async fn remove(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(remove): Params<Remove>,
) -> Reply<FilesReply> {
    let path = reading::path("path", &remove.path)?;
    let recursive = remove.recursive.unwrap_or(false);
    change(app, asked, slug, FileEdit::Remove { path, recursive }).await
}

/// A move.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    /// The path that moves.
    from: String,
    /// The path where it is then.
    to: String,
}

/// Moves a path, into the target when that is a directory; a file at the target is replaced.
#[utoipa::path(post, path = "/projects/{slug}/files/move", operation_id = "move_path", tag = "files", params(
    ("slug", description = "The project"),
    Keyed,
), request_body = Move, responses(
    (status = 200, description = "What is at the target", body = FilesReply),
    Refused,
))]
pub(crate) async fn rename(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(Nothing {}): Params<Nothing>,
    reading::Json(moved): reading::Json<Move>,
) -> Reply<FilesReply> {
    let from = reading::path("from", &moved.from)?;
    let to = reading::path("to", &moved.to)?;
    change(app, asked, slug, FileEdit::Move { from, to }).await
}

/// A new directory.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewDirectory {
    /// Its path; those above it are made too.
    path: String,
}

/// Makes a directory and those above it.
#[utoipa::path(post, path = "/projects/{slug}/files/directory", operation_id = "make_directory", tag = "files", params(
    ("slug", description = "The project"),
    Keyed,
), request_body = NewDirectory, responses(
    (status = 200, description = "The directory", body = FilesReply),
    Refused,
))]
pub(crate) async fn make_directory(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(Nothing {}): Params<Nothing>,
    reading::Json(new): reading::Json<NewDirectory>,
) -> Reply<FilesReply> {
    let path = reading::path("path", &new.path)?;
    change(app, asked, slug, FileEdit::MakeDirectory(path)).await
}
