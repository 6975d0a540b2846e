//! Projects.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use cove_content::volumes::Source;
use cove_types::wire::{OperationReply, ProjectReply, ProjectsReply};
use cove_types::{At, ErrorKind, ProjectReference, Slug, VolumeId};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, App, Keyed, Octets, Refused, Reply};
use crate::body;
use crate::long::{self, Until, Waiting};
use crate::problem::Problem;
use crate::reading::{self, Asked, Nothing, Params, Project, field};

/// Which projects are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// `live` (the default) or `trashed`.
    state: Option<String>,
}

/// Lists the projects.
#[utoipa::path(get, path = "/projects", operation_id = "list_projects", tag = "projects", params(Which), responses(
    (status = 200, description = "The projects", body = ProjectsReply),
    Refused,
))]
pub(crate) async fn list(
    State(app): State<App>,
    Params(which): Params<Which>,
) -> Reply<ProjectsReply> {
    let trashed = match which.state.as_deref() {
        None | Some("live") => false,
        Some("trashed") => true,
        Some(_) => return Err(Problem::invalid("field \"state\" is live or trashed")),
    };
    Ok(Json(app.workspaces.list(trashed).await?))
}

/// A new project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProject {
    /// Its name in addresses and commands.
    slug: String,
    /// The most bytes that may be written to it, 1 MiB to 1 EiB; absent: nothing limits it.
    #[serde(default, deserialize_with = "reading::quota_bytes")]
    #[schema(minimum = 1_048_576, maximum = 1_152_921_504_606_846_976_i64)]
    quota_bytes: Option<u64>,
    /// A volume that is no project's, by its id: it becomes the workspace as it is. Absent: it begins empty.
    volume: Option<String>,
}

/// How a project is made of an archive, and how long that is waited for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NewProjectFrom {
    /// Its name, when the body is an archive.
    slug: Option<String>,
    /// The most bytes that may be written to it, the archive's included, when the body is an archive; 1 MiB to 1
    /// EiB.
    #[serde(default, deserialize_with = "reading::quota_bytes")]
    #[param(minimum = 1_048_576, maximum = 1_152_921_504_606_846_976_i64)]
    quota_bytes: Option<u64>,
    /// Milliseconds to wait before the answer is 202 with the operation; at most 60,000. An
    /// archive is read to its end first.
    #[serde(default, deserialize_with = "reading::wait_ms")]
    #[param(maximum = 60_000)]
    wait_ms: Option<u64>,
    /// What is waited for.
    until: Option<Until>,
}

/// Makes a project: empty or of a volume that is no project's (JSON), or of a tar stream (`application/x-tar`).
#[utoipa::path(post, path = "/projects", operation_id = "create_project", tag = "projects", params(
    NewProjectFrom,
    Keyed,
), request_body(content((NewProject = "application/json"), (Octets = "application/x-tar"))), responses(
    (status = 201, description = "It is made", body = ProjectReply),
    (status = 202, description = "It is being made", body = OperationReply),
    Refused,
))]
pub(crate) async fn create(
    State(app): State<App>,
    Asked(asked): Asked,
    Params(from): Params<NewProjectFrom>,
    request: Request,
) -> Answer {
    let waiting = Waiting { wait_ms: from.wait_ms, until: from.until };
    if !reading::is_of_type(request.headers(), "application/x-tar") {
        for (name, is_given) in
            [("slug", from.slug.is_some()), ("quota_bytes", from.quota_bytes.is_some())]
        {
            if is_given {
                let what = format!("field \"{name}\" of the query goes with a tar stream");
                return Err(Problem::invalid(what));
            }
        }
        let (parts, body) = request.into_parts();
        let new: NewProject = reading::json(parts.headers, body).await?;
        let slug: Slug = field("slug", &new.slug)?;
        let volume = new.volume.as_deref().map(|volume| field("volume", volume)).transpose()?;
        return make(&app, asked, waiting, slug, new.quota_bytes, volume).await;
    }
    let slug =
        from.slug.ok_or_else(|| Problem::invalid("field \"slug\" of the query is missing"))?;
    let slug: Slug = field("slug", &slug)?;
    let quota_bytes = from.quota_bytes;
    let (archive, refusal) = body::reader(request.into_body()).await;
    let source = Source::Archive(Box::new(archive));
    // The body is read while this call lasts, so its end is waited for whatever the caller says.
    let call = {
        let (workspaces, asked, slug) = (app.workspaces.clone(), asked.clone(), slug.clone());
        async move { workspaces.create(&asked, &slug, quota_bytes, source).await }
    };
    let started = tokio::spawn(call).await.map_err(|_| {
        Problem::new(ErrorKind::Internal, "the task of a call ended without a result")
    })?;
    let started = started.map_err(|error| refusal.or(error.into()))?;
    long::answer(&app, &asked, waiting, StatusCode::CREATED, async move { Ok(started) }).await
}

async fn make(
    app: &App,
    asked: cove_workspace::Request,
    waiting: Waiting,
    slug: Slug,
    quota_bytes: Option<u64>,
    volume: Option<VolumeId>,
) -> Answer {
    let (workspaces, request) = (app.workspaces.clone(), asked.clone());
    let call = async move {
        match volume {
            Some(volume) => workspaces.adopt(&request, &slug, &volume, quota_bytes).await,
            None => workspaces.create(&request, &slug, quota_bytes, Source::Empty).await,
        }
    };
    long::answer(app, &asked, waiting, StatusCode::CREATED, call).await
}

/// Shows a project.
#[utoipa::path(get, path = "/projects/{slug}", operation_id = "show_project", tag = "projects", params(("slug", description = "The project")), responses(
    (status = 200, description = "The project", body = ProjectReply),
    Refused,
))]
pub(crate) async fn show(
    State(app): State<App>,
    Project(slug): Project,
    Params(Nothing {}): Params<Nothing>,
) -> Reply<ProjectReply> {
    Ok(Json(app.workspaces.show(&slug).await?))
}

/// A new name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rename {
    /// The new name in addresses and commands.
    slug: String,
}

/// Renames a project.
#[utoipa::path(patch, path = "/projects/{slug}", operation_id = "rename_project", tag = "projects", params(
    ("slug", description = "The project"),
    Keyed,
), request_body = Rename, responses(
    (status = 200, description = "The project", body = ProjectReply),
    Refused,
))]
pub(crate) async fn rename(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(Nothing {}): Params<Nothing>,
    reading::Json(rename): reading::Json<Rename>,
) -> Reply<ProjectReply> {
    let to: Slug = field("slug", &rename.slug)?;
    Ok(Json(app.workspaces.rename(&asked, &slug, &to).await?))
}

/// Moves a project to the trash.
#[utoipa::path(delete, path = "/projects/{slug}", operation_id = "trash_project", tag = "projects", params(
    ("slug", description = "The project"),
    Keyed,
), responses(
    (status = 200, description = "The project, as it lies in the trash", body = ProjectReply),
    Refused,
))]
pub(crate) async fn trash(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(Nothing {}): Params<Nothing>,
) -> Reply<ProjectReply> {
    Ok(Json(app.workspaces.trash(&asked, &slug).await?))
}

/// What is brought back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Undelete {
    /// An entry of the project; the project itself when absent.
    entry: Option<String>,
}

/// Brings a project or one of its entries back from the trash.
#[utoipa::path(post, path = "/projects/{slug}/undelete", operation_id = "undelete", tag = "projects", params(
    ("slug", description = "The project"),
    Keyed,
), request_body = Undelete, responses(
    (status = 200, description = "The project", body = ProjectReply),
    Refused,
))]
pub(crate) async fn undelete(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(Nothing {}): Params<Nothing>,
    reading::Json(undelete): reading::Json<Undelete>,
) -> Reply<ProjectReply> {
    let at = undelete.entry.as_deref().map_or(Ok(At::Now), |entry| field("entry", entry))?;
    let reference = ProjectReference { project: slug, at };
    Ok(Json(app.workspaces.undelete(&asked, &reference).await?))
}

/// Forks of a project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fork {
    /// The moment they begin at; now when absent.
    at: Option<String>,
    /// The new name; `<slug>-<n>` with the first free number when absent.
    #[serde(rename = "as")]
    name: Option<String>,
    /// How many; then the names are `<as>-1` to `<as>-<count>`.
    count: Option<u32>,
}

/// Makes projects that begin at a moment of another; all or none.
#[utoipa::path(post, path = "/projects/{slug}/fork", operation_id = "fork_project", tag = "projects", params(
    ("slug", description = "The source"),
    Waiting,
    Keyed,
), request_body = Fork, responses(
    (status = 201, description = "They are made", body = ProjectsReply),
    (status = 202, description = "They are being made", body = OperationReply),
    Refused,
))]
pub(crate) async fn fork(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(waiting): Params<Waiting>,
    reading::Json(fork): reading::Json<Fork>,
) -> Answer {
    let source = reading::moment(slug, fork.at.as_deref())?;
    let name: Option<Slug> = fork.name.as_deref().map(|name| field("as", name)).transpose()?;
    let (workspaces, request) = (app.workspaces.clone(), asked.clone());
    let call = async move { workspaces.fork(&request, &source, name.as_ref(), fork.count).await };
    long::answer(&app, &asked, waiting, StatusCode::CREATED, call).await
}

/// How long `wait` waits.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HowLong {
    /// Milliseconds to wait before the answer is 202; at most 60,000, which is the default.
    #[serde(default, deserialize_with = "reading::wait_ms")]
    #[param(maximum = 60_000)]
    wait_ms: Option<u64>,
}

/// Waits until everything that a project had captured is saved; 202 when that takes longer.
#[utoipa::path(get, path = "/projects/{slug}/wait", operation_id = "wait_saved", tag = "projects", params(("slug", description = "The project"), HowLong), responses(
    (status = 200, description = "It is saved", body = ProjectReply),
    (status = 202, description = "It is not saved yet", body = ProjectReply),
    Refused,
))]
pub(crate) async fn wait(
    State(app): State<App>,
    Project(slug): Project,
    Params(how_long): Params<HowLong>,
) -> Answer {
    let wait = std::time::Duration::from_millis(how_long.wait_ms.unwrap_or(reading::WAIT_MS_MAX));
    let answer = |status: StatusCode, reply: ProjectReply| -> Response {
        (status, Json(reply)).into_response()
    };
    match tokio::time::timeout(wait, app.workspaces.wait(&slug)).await {
        Ok(reply) => Ok(answer(StatusCode::OK, reply?)),
        Err(_) => Ok(answer(StatusCode::ACCEPTED, app.workspaces.show(&slug).await?)),
    }
}
