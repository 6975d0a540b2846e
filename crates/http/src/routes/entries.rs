//! Timelines.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use cove_types::wire::{ChangesReply, EntriesReply, EntryReply, OperationReply, ProjectReply};
use cove_types::{At, Label, ProjectReference};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, App, Keyed, Refused, Reply};
use crate::long::{self, Waiting};
use crate::problem::Problem;
use crate::reading::{self, Asked, Named, Nothing, Params, Project, field};

/// Which entries are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Also those in the trash.
    all: Option<bool>,
}

/// Lists a timeline, newest first.
#[utoipa::path(get, path = "/projects/{slug}/entries", operation_id = "list_entries", tag = "timeline", params(("slug", description = "The project"), Which), responses(
    (status = 200, description = "The entries", body = EntriesReply),
    Refused,
))]
pub(crate) async fn timeline(
    State(app): State<App>,
    Project(slug): Project,
    Params(which): Params<Which>,
) -> Reply<EntriesReply> {
    Ok(Json(app.workspaces.timeline(&slug, which.all.unwrap_or(false)).await?))
}

/// A new entry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewEntry {
    /// What it is, at most 1,000 bytes.
    message: Option<String>,
    /// Its name, unique in the project.
    label: Option<String>,
}

/// Makes an entry of the present state.
#[utoipa::path(post, path = "/projects/{slug}/entries", operation_id = "snapshot", tag = "timeline", params(
    ("slug", description = "The project"),
    Waiting,
    Keyed,
), request_body = NewEntry, responses(
    (status = 201, description = "The entry", body = EntryReply),
    (status = 202, description = "It is being made", body = OperationReply),
    Refused,
))]
pub(crate) async fn snapshot(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(waiting): Params<Waiting>,
    reading::Json(new): reading::Json<NewEntry>,
) -> Answer {
    let label: Option<Label> = new.label.as_deref().map(|text| field("label", text)).transpose()?;
    let (workspaces, request) = (app.workspaces.clone(), asked.clone());
    let call = async move {
        workspaces.snapshot(&request, &slug, new.message.as_deref(), label.as_ref()).await
    };
    long::answer(&app, &asked, waiting, StatusCode::CREATED, call).await
}

/// A change of an entry: one field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EntryEdit {
    /// Whether retention leaves it alone.
    pinned: Option<bool>,
    /// Its new name; null takes it.
    #[serde(default, deserialize_with = "reading::present")]
    #[schema(value_type = Option<String>)]
    label: Option<Option<String>>,
}

/// Where an entry is.
#[derive(Debug, Deserialize)]
pub(crate) struct EntryPath {
    slug: String,
    at: String,
}

/// Pins or labels an entry.
#[utoipa::path(patch, path = "/projects/{slug}/entries/{at}", operation_id = "edit_entry", tag = "timeline", params(
    ("slug", description = "The project"),
    ("at", description = "An entry id or a unique prefix of it, a label, or ~n"),
    Keyed,
), request_body = EntryEdit, responses(
    (status = 200, description = "The entry", body = EntryReply),
    Refused,
))]
pub(crate) async fn edit(
    State(app): State<App>,
    Named(EntryPath { slug, at }): Named<EntryPath>,
    Asked(asked): Asked,
    Params(Nothing {}): Params<Nothing>,
    reading::Json(edit): reading::Json<EntryEdit>,
) -> Reply<EntryReply> {
    let reference = ProjectReference { project: slug.parse()?, at: at.parse()? };
    let reply = match (edit.pinned, edit.label) {
        (Some(pinned), None) => app.workspaces.pin(&asked, &reference, pinned).await?,
        (None, Some(label)) => {
            let label: Option<Label> =
                label.as_deref().map(|text| field("label", text)).transpose()?;
            app.workspaces.label(&asked, &reference, label.as_ref()).await?
        }
        _ => return Err(Problem::invalid("the body has one of \"pinned\" and \"label\"")),
    };
    Ok(Json(reply))
}

/// Moves an entry to the trash; one that is pinned is refused.
#[utoipa::path(delete, path = "/projects/{slug}/entries/{at}", operation_id = "trash_entry", tag = "timeline", params(
    ("slug", description = "The project"),
    ("at", description = "An entry id or a unique prefix of it, a label, or ~n"),
    Keyed,
), responses(
    (status = 200, description = "The entry, as it lies in the trash", body = EntryReply),
    Refused,
))]
pub(crate) async fn trash(
    State(app): State<App>,
    Named(EntryPath { slug, at }): Named<EntryPath>,
    Asked(asked): Asked,
    Params(Nothing {}): Params<Nothing>,
) -> Reply<EntryReply> {
    let reference = ProjectReference { project: slug.parse()?, at: at.parse()? };
    Ok(Json(app.workspaces.trash_entry(&asked, &reference).await?))
}

/// What is restored.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restore {
    /// The entry to go back to.
    entry: String,
    /// Only these paths, exactly; everything when absent or empty.
    #[serde(default)]
    paths: Vec<String>,
    /// Goes on although programs have files open for writing.
    #[serde(default)]
    force: bool,
}

/// Goes back to an entry; the state before stays in the timeline.
#[utoipa::path(post, path = "/projects/{slug}/restore", operation_id = "restore", tag = "timeline", params(
    ("slug", description = "The project"),
    Waiting,
    Keyed,
), request_body = Restore, responses(
    (status = 200, description = "The project, and the entry that holds the state before", body = ProjectReply),
    (status = 202, description = "It is being restored", body = OperationReply),
    Refused,
))]
pub(crate) async fn restore(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(waiting): Params<Waiting>,
    reading::Json(restore): reading::Json<Restore>,
) -> Answer {
    let at: At = field("entry", &restore.entry)?;
    let paths = restore
        .paths
        .iter()
        .map(|path| reading::path("paths", path))
        .collect::<Result<Vec<_>, _>>()?;
    let (workspaces, request) = (app.workspaces.clone(), asked.clone());
    let call = async move { workspaces.restore(&request, &slug, &at, &paths, restore.force).await };
    long::answer(&app, &asked, waiting, StatusCode::OK, call).await
}

/// The two sides of a difference.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Sides {
    /// `NAME@x`
    before: String,
    /// `NAME@x`
    after: String,
}

/// Tells what differs between two moments, in the order of paths.
#[utoipa::path(get, path = "/diff", operation_id = "diff", tag = "timeline", params(Sides), responses(
    (status = 200, description = "The changes", body = ChangesReply),
    Refused,
))]
pub(crate) async fn diff(
    State(app): State<App>,
    Params(sides): Params<Sides>,
) -> Reply<ChangesReply> {
    let before = field("before", &sides.before)?;
    let after = field("after", &sides.after)?;
    Ok(Json(app.workspaces.diff(&before, &after).await?))
}
