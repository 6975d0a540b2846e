//! A file's bytes.

use std::ops::Range;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use cove_content::volumes::FileEdit;
use cove_types::wire::{FilesReply, ProblemDetails};
use cove_types::{ErrorKind, Slug, TreePath};
use cove_workspace::WorkspaceError;

use super::edits::{Target, change};
use super::{Place, place};
use crate::body;
use crate::precondition::{self, CheckedBody, Expected, etag};
use crate::problem::Problem;
use crate::reading::{self, Asked, Params, Project, moment};
use crate::routes::{Answer, App, Keyed, Octets, Refused};

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
    Refused,
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
                    let problem =
                        Problem::invalid(detail).status(StatusCode::RANGE_NOT_SATISFIABLE);
                    let size = [(header::CONTENT_RANGE, format!("bytes */{}", file.bytes))];
                    return Ok((size, problem).into_response());
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

/// Replaces a file by the body, with the old file's mode, else 0644.
#[utoipa::path(put, path = "/projects/{slug}/files/content", operation_id = "put_file", tag = "files", params(
    ("slug", description = "The project"),
    Target,
    ("If-Match" = Option<String>, Header, description = "Replaces the file only while it has one of these ETags; * while there is one"),
    ("If-None-Match" = Option<String>, Header, description = "With * writes only where no file is yet"),
    Keyed,
), request_body(content = Octets, content_type = "application/octet-stream"), responses(
    (status = 200, description = "The file, durable on this node, and its new ETag", body = FilesReply),
    (status = 412, description = "The file is not what was expected, and stays", body = ProblemDetails, content_type = "application/problem+json"),
    Refused,
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
    let (content, refusal) = body::reader(request.into_body()).await;
    let content = CheckedBody::new(content, look, refusal.clone());
    let ended = change(app, asked, slug, FileEdit::Put(path, Box::new(content))).await;
    let Json(reply) = ended.map_err(|problem| refusal.or(problem))?;
    let tag = reply.files.first().map(|file| [(header::ETAG, etag(file))]);
    Ok((tag, Json(reply)).into_response())
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
