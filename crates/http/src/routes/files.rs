//! Files, of now and of any entry.

use std::ops::Range;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use cove_content::volumes::FileEdit;
use cove_types::wire::{FilesReply, MatchesReply, ProblemDetails};
use cove_types::{ErrorKind, ProjectReference, Slug, TreePath};
use cove_workspace::{LinePattern, WorkspaceError};
use futures::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde::Deserialize;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::{IntoParams, ToSchema};

use super::{Answer, App, Octets, Reply};
use crate::body::{self, Written};
use crate::guard::RequestId;
use crate::precondition::{self, CheckedBody, Expected, etag};
use crate::problem::Problem;
use crate::reading::{self, Asked, Params, Project, moment};
use crate::trailers::Ending;

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
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn list(
    State(app): State<App>,
    Project(slug): Project,
    Params(listing): Params<Listing>,
) -> Reply<FilesReply> {
    let (reference, path) = place(slug, &listing.path, listing.at.as_deref())?;
    let recursive = listing.recursive.unwrap_or(false);
    Ok(Json(app.workspaces.files(&reference, &path, recursive).await?))
}

/// Shows one file.
#[utoipa::path(get, path = "/projects/{slug}/files/stat", operation_id = "stat_file", tag = "files", params(("slug", description = "The project"), Place), responses(
    (status = 200, description = "The file", body = FilesReply),
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
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
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn find(
    State(app): State<App>,
    Project(slug): Project,
    Params(find): Params<Find>,
) -> Reply<FilesReply> {
    let (reference, path) = place(slug, &find.path, find.at.as_deref())?;
    let name = find.name.as_deref().unwrap_or("*");
    Ok(Json(app.workspaces.find(&reference, &path, name, find.kind.map(Kind::as_str)).await?))
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
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
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

/// What part of `size` bytes a `Range` header asks for: `None` when it is no single range of
/// bytes and does not count, `Err` when nothing of it is there.
fn range(header: Option<&str>, size: u64) -> Option<Result<Range<u64>, ()>> {
    let (from, to) = header?.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.parse::<u64>().ok();
    let range = match (from, to) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (from, "") => number(from)?..size,
        (from, to) => number(from)?..number(to)?.saturating_add(1).min(size),
    };
    Some(if range.start < range.end { Ok(range) } else { Err(()) })
}

/// Reads a file's bytes, all or a range.
///
/// An answer that breaks off before its length has a reason that the rest tells, asked for as a
/// range.
#[utoipa::path(get, path = "/projects/{slug}/files/content", operation_id = "read_file", tag = "files", params(
    ("slug", description = "The project"),
    Place,
    ("Range" = Option<String>, Header, description = "One range of bytes"),
    ("If-Range" = Option<String>, Header, description = "The range counts only while the file has this ETag; else all of it comes"),
    ("If-Match" = Option<String>, Header, description = "Answers 412 unless the file has one of these ETags"),
    ("If-None-Match" = Option<String>, Header, description = "Answers 304 when the file still has one of these ETags"),
), responses(
    (status = 200, description = "The bytes; the ETag is made of the file's size and time", body = Octets, content_type = "application/octet-stream"),
    (status = 206, description = "The range", body = Octets, content_type = "application/octet-stream"),
    (status = 304, description = "It has not changed"),
    (status = 412, description = "It is not what was expected", body = ProblemDetails, content_type = "application/problem+json"),
    (status = 416, description = "It has none of the range", body = ProblemDetails, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn read(
    State(app): State<App>,
    Project(slug): Project,
    Params(at): Params<Place>,
    headers: HeaderMap,
) -> Answer {
    let (reference, path) = place(slug, &at.path, at.at.as_deref())?;
    let expected = Expected::parse(&headers)?;
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let mut wanted = text(header::RANGE);
    let mut looked: Option<(String, Option<Range<u64>>)> = None;
    if wanted.is_some() || expected.is_something() {
        let found = app.workspaces.file(&reference, &path).await?;
        if let Some(file) = found.files.first() {
            let tag = etag(file);
            if !expected.is_match(Some(&tag)) {
                return Err(precondition::failed(&file.path, true));
            }
            if !expected.is_news(Some(&tag)) {
                return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
            }
            // A part of another file than the caller has the rest of is worth nothing to it.
            if text(header::IF_RANGE).is_some_and(|range_of| range_of != tag) {
                wanted = None;
            }
            let part = match range(wanted, file.bytes) {
                Some(Err(())) => {
                    let detail =
                        format!("the file has {} bytes and none of this range", file.bytes);
                    return Err(Problem::invalid(detail).status(StatusCode::RANGE_NOT_SATISFIABLE));
                }
                Some(Ok(range)) => Some(range),
                None => None,
            };
            looked = Some((tag, part));
        }
    }
    let part = looked.as_ref().and_then(|(_, part)| part.clone());
    let (file, reader) = app.workspaces.read(&reference, &path, part.clone()).await?;
    let tag = etag(&file);
    if looked.is_some_and(|(seen, _)| seen != tag) {
        let detail = format!("{} was replaced while it was being read", file.path);
        return Err(Problem::new(ErrorKind::Conflict, detail).hint("read it again"));
    }
    let content = body::of_reader(reader).await.map_err(|source| {
        let slug = reference.project.clone();
        WorkspaceError::Read { slug, path: file.path.clone(), source }
    })?;
    let size = file.bytes;
    let whole = 0..size;
    let (status, sent) = match &part {
        Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        None => (StatusCode::OK, &whole),
    };
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, (sent.end - sent.start).to_string()),
            (header::ETAG, tag),
            (header::ACCEPT_RANGES, "bytes".to_owned()),
        ],
        content,
    )
        .into_response();
    if part.is_some() {
        let range = format!("bytes {}-{}/{size}", sent.start, sent.end - 1);
        if let Ok(range) = HeaderValue::from_str(&range) {
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
    }
    Ok(response)
}

/// Where something changes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Target {
    /// The path from the project's root.
    path: String,
}

/// Replaces a file by the body, with the old file's mode, else 0644.
#[utoipa::path(put, path = "/projects/{slug}/files/content", operation_id = "put_file", tag = "files", params(
    ("slug", description = "The project"),
    Target,
    ("If-Match" = Option<String>, Header, description = "Replaces the file only while it has one of these ETags; * while there is one"),
    ("If-None-Match" = Option<String>, Header, description = "With * writes only where no file is yet"),
    ("Idempotency-Key" = Option<String>, Header, description = "Under which the call may be repeated"),
), request_body(content = Octets, content_type = "application/octet-stream"), responses(
    (status = 200, description = "The file, durable on this node, and its new ETag", body = FilesReply),
    (status = 412, description = "The file is not what was expected, and stays", body = ProblemDetails, content_type = "application/problem+json"),
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn put(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(target): Params<Target>,
    request: Request,
) -> Answer {
    let path = reading::path("path", &target.path)?;
    let expected = Expected::parse(request.headers())?;
    // Said before the body comes, and looked at once more when it has come.
    expect(&app, &slug, &path, &expected).await?;
    let look = {
        let (app, slug, path) = (app.clone(), slug.clone(), path.clone());
        move || async move {
            let turn = app.turns.wait(slug.as_str(), &path.to_string()).await;
            expect(&app, &slug, &path, &expected).await?;
            Ok(turn)
        }
    };
    let (content, refusal) = CheckedBody::new(body::reader(request.into_body()), look);
    let ended = change(app, asked, slug, FileEdit::Put(path, Box::new(content))).await;
    match (ended, refusal.take()) {
        (Err(_), Some(problem)) => Err(problem),
        (Err(problem), None) => Err(problem),
        (Ok(Json(reply)), _) => {
            let tag = reply.files.first().map(|file| [(header::ETAG, etag(file))]);
            Ok((tag, Json(reply)).into_response())
        }
    }
}

/// Refuses to replace a file that is not what a call expects.
async fn expect(
    app: &App,
    slug: &Slug,
    path: &TreePath,
    expected: &Expected,
) -> Result<(), Problem> {
    if !expected.is_something() {
        return Ok(());
    }
    let now = moment(slug.clone(), None)?;
    let present = match app.workspaces.file(&now, path).await {
        Ok(found) => found.files.first().map(etag),
        Err(error) if error.is_absent_path() => None,
        Err(error) => return Err(error.into()),
    };
    match expected.is_match(present.as_deref()) && expected.is_news(present.as_deref()) {
        true => Ok(()),
        false => Err(precondition::failed(&path.to_string(), present.is_some())),
    }
}

/// Does an edit in a task of its own, so that a caller who goes away does not stop it half-way.
async fn change(
    app: App,
    asked: cove_workspace::Request,
    slug: Slug,
    edit: FileEdit,
) -> Reply<FilesReply> {
    in_task(async move { app.workspaces.edit(&asked, &slug, edit).await }).await.map(Json)
}

/// What a call gives that goes on when its caller goes away.
async fn in_task<T: Send + 'static>(
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
    ("Idempotency-Key" = Option<String>, Header, description = "Under which the call may be repeated"),
), responses(
    (status = 200, description = "What was removed", body = FilesReply),
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
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

/// Moves a path; a file at the target is replaced, a directory is not.
#[utoipa::path(post, path = "/projects/{slug}/files/move", operation_id = "move_path", tag = "files", params(
    ("slug", description = "The project"),
    ("Idempotency-Key" = Option<String>, Header, description = "Under which the call may be repeated"),
), request_body = Move, responses(
    (status = 200, description = "What is at the target", body = FilesReply),
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn rename(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
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
    ("Idempotency-Key" = Option<String>, Header, description = "Under which the call may be repeated"),
), request_body = NewDirectory, responses(
    (status = 200, description = "The directory", body = FilesReply),
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn make_directory(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    reading::Json(new): reading::Json<NewDirectory>,
) -> Reply<FilesReply> {
    let path = reading::path("path", &new.path)?;
    change(app, asked, slug, FileEdit::MakeDirectory(path)).await
}

/// Reads a path with everything below as a tar stream; names in it begin with the path's last
/// name, `.` for the root.
///
/// What goes wrong after the first byte stands in the trailer `Cove-Problem`, an error as JSON, and
/// what was not taken as it is in `Cove-Remarks`, a list of lines: for callers that send
/// `TE: trailers`. For others an answer that goes wrong breaks off.
#[utoipa::path(get, path = "/projects/{slug}/files/archive", operation_id = "export_archive", tag = "files", params(
    ("slug", description = "The project"),
    Place,
    ("TE" = Option<String>, Header, description = "With trailers the answer ends in them"),
), responses(
    (status = 200, description = "The archive; whole only without the trailer Cove-Problem", body = Octets, content_type = "application/x-tar"),
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn export(
    State(app): State<App>,
    Project(slug): Project,
    Params(at): Params<Place>,
    RequestId(request_id): RequestId,
    headers: HeaderMap,
) -> Answer {
    let (reference, path) = place(slug, &at.path, at.at.as_deref())?;
    let (writer, ending, mut from) = body::writer();
    tokio::spawn(async move {
        let call = async move { app.workspaces.export(&reference, &path, Box::new(writer)).await };
        // Nobody hears it when the caller has gone away.
        drop(ending.send(Written::Ended(in_task(call).await)).await);
    });
    let first = match from.recv().await {
        // A refusal comes before the first byte.
        Some(Written::Ended(Err(problem))) => return Err(problem),
        first => first,
    };
    let last = Ending::new(&headers, &request_id);
    let announcement = last.announcement();
    let pieces = futures::stream::iter(first).chain(ReceiverStream::new(from));
    let frames = pieces.filter_map(move |piece| {
        std::future::ready(match piece {
            Written::Bytes(bytes) => Some(Ok(Frame::data(bytes))),
            Written::Ended(ended) => last.frame(&ended),
        })
    });
    let kind = [(header::CONTENT_TYPE, "application/x-tar")];
    Ok((kind, announcement, Body::new(StreamBody::new(frames))).into_response())
}

/// Extracts a tar stream below a directory, merging directories.
#[utoipa::path(put, path = "/projects/{slug}/files/archive", operation_id = "extract_archive", tag = "files", params(
    ("slug", description = "The project"),
    Target,
    ("Idempotency-Key" = Option<String>, Header, description = "Under which the call may be repeated"),
), request_body(content = Octets, content_type = "application/x-tar"), responses(
    (status = 200, description = "The first names in it, durable on this node", body = FilesReply),
    (status = "default", description = "An error", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub(crate) async fn extract(
    State(app): State<App>,
    Project(slug): Project,
    Asked(asked): Asked,
    Params(target): Params<Target>,
    request: Request,
) -> Reply<FilesReply> {
    let path = reading::path("path", &target.path)?;
    let edit = FileEdit::Extract(path, Box::new(body::reader(request.into_body())));
    change(app, asked, slug, edit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_to_the_file_and_refused_behind_it() {
        assert_eq!(range(Some("bytes=2-4"), 10), Some(Ok(2..5)));
        assert_eq!(range(Some("bytes=8-"), 10), Some(Ok(8..10)));
        assert_eq!(range(Some("bytes=-3"), 10), Some(Ok(7..10)));
        assert_eq!(range(Some("bytes=-30"), 10), Some(Ok(0..10)));
        assert_eq!(range(Some("bytes=5-99"), 10), Some(Ok(5..10)));
        assert_eq!(range(Some("bytes=10-"), 10), Some(Err(())));
        assert_eq!(range(Some("bytes=4-2"), 10), Some(Err(())));
        assert_eq!(range(Some("bytes=0-0,5-6"), 10), None);
        assert_eq!(range(Some("lines=1-2"), 10), None);
    }
}
