//! Files, of now and of any entry.

pub(crate) mod archive;
pub(crate) mod content;
pub(crate) mod edits;

use axum::Json;
use axum::extract::State;
use cove_types::wire::{FilesReply, MatchesReply};
use cove_types::{ProjectReference, Slug, TreePath};
use cove_workspace::LinePattern;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, App, Refused, Reply};
use crate::listing;
use crate::problem::Problem;
use crate::reading::{self, Params, Project, moment};

/// Where and when something is read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Place {
    /// The path from the project's root; the root when absent.
    #[serde(default)]
    path: String,
    /// An entry id or a unique prefix of it, a label, ~n, or now, which is the default.
    at: Option<String>,
}

/// Reads where and when.
fn place(
    slug: Slug,
    path: &str,
    at: Option<&str>,
) -> Result<(ProjectReference, TreePath), Problem> {
    Ok((moment(slug, at)?, reading::path("path", path)?))
}

/// A listing.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// The path from the project's root; the root when absent.
    #[serde(default)]
    path: String,
    /// An entry id or a unique prefix of it, a label, ~n, or now, which is the default.
    at: Option<String>,
    /// With everything below.
    recursive: Option<bool>,
}

/// Lists a directory.
#[utoipa::path(get, path = "/projects/{slug}/files", operation_id = "list_files", tag = "files", params(("slug", description = "The project"), Listing), responses(
    (status = 200, description = "What is in it, in the order of paths", body = FilesReply),
    Refused,
))]
pub(crate) async fn list(
    State(app): State<App>,
    Project(slug): Project,
    Params(asked): Params<Listing>,
) -> Answer {
    let (reference, path) = place(slug, &asked.path, asked.at.as_deref())?;
    let recursive = asked.recursive.unwrap_or(false);
    Ok(listing::answer(app.workspaces.files(&reference, &path, recursive).await?).await)
}

/// Shows one file.
#[utoipa::path(get, path = "/projects/{slug}/files/stat", operation_id = "stat_file", tag = "files", params(("slug", description = "The project"), Place), responses(
    (status = 200, description = "The file", body = FilesReply),
    Refused,
))]
pub(crate) async fn stat(
    State(app): State<App>,
    Project(slug): Project,
    Params(at): Params<Place>,
) -> Reply<FilesReply> {
    let (reference, path) = place(slug, &at.path, at.at.as_deref())?;
    Ok(Json(app.workspaces.file(&reference, &path).await?))
}

/// A search by name.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Find {
    /// The path from the project's root; the root when absent.
    #[serde(default)]
    path: String,
    /// An entry id or a unique prefix of it, a label, ~n, or now, which is the default.
    at: Option<String>,
    /// A part of the file's name, or a pattern of `*`, `?` and `[…]`; any when absent. With a
    /// slash it is compared with the whole path.
    name: Option<String>,
    /// Only what is of this kind.
    #[param(inline)]
    kind: Option<Kind>,
}

/// A kind that can be looked for.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
        }
    }
}

/// Finds files by name.
#[utoipa::path(get, path = "/projects/{slug}/files/find", operation_id = "find_files", tag = "files", params(("slug", description = "The project"), Find), responses(
    (status = 200, description = "What was found, in the order of paths", body = FilesReply),
    Refused,
))]
pub(crate) async fn find(
    State(app): State<App>,
    Project(slug): Project,
    Params(find): Params<Find>,
) -> Answer {
    let (reference, path) = place(slug, &find.path, find.at.as_deref())?;
    let name = find.name.as_deref().unwrap_or("*");
    let kind = find.kind.map(Kind::as_str);
    Ok(listing::answer(app.workspaces.find(&reference, &path, name, kind).await?).await)
}

/// A search by text.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Grep {
    /// The path from the project's root; the root when absent.
    #[serde(default)]
    path: String,
    /// An entry id or a unique prefix of it, a label, ~n, or now, which is the default.
    at: Option<String>,
    /// The text that a line must hold, or the regular expression that it must match.
    pattern: String,
    /// Whether `pattern` is a regular expression, in the syntax of the Rust crate `regex`.
    regex: Option<bool>,
    /// Whether upper and lower case are the same.
    ignore_case: Option<bool>,
}

/// Finds lines by a text.
#[utoipa::path(get, path = "/projects/{slug}/files/grep", operation_id = "grep_files", tag = "files", params(("slug", description = "The project"), Grep), responses(
    (status = 200, description = "The lines", body = MatchesReply),
    Refused,
))]
pub(crate) async fn grep(
    State(app): State<App>,
    Project(slug): Project,
    Params(grep): Params<Grep>,
) -> Reply<MatchesReply> {
    let (reference, path) = place(slug, &grep.path, grep.at.as_deref())?;
    let is_expression = grep.regex.unwrap_or(false);
    let ignores_case = grep.ignore_case.unwrap_or(false);
    let pattern = LinePattern::parse(&grep.pattern, is_expression, ignores_case)?;
    Ok(Json(app.workspaces.grep(&reference, &path, &pattern).await?))
}
