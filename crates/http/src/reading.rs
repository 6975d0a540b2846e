//! Reading a request: its path, query, body and key, each refused with the field's name.

use std::str::FromStr;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use cove_types::{At, ErrorKind, ParseError, ProjectReference, Slug, TreePath};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::guard::RequestId;
use crate::problem::Problem;
use crate::routes::App;

/// The longest JSON body.
const JSON_BYTES_MAX: usize = 1 << 20;
/// How long a JSON body may take to arrive.
const JSON_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// A query, in which every field is known.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(value)| Self(value))
            .map_err(|error| Problem::invalid(format!("the query is refused: {}", cause(&error))))
    }
}

/// The text of the innermost cause, which names the field.
fn cause(error: &dyn std::error::Error) -> String {
    let innermost =
        std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string);
    cove_types::escape_bytes(innermost.unwrap_or_default().as_bytes())
}

/// A JSON body, in which every field is known. No body stands for an empty object.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        json(request.headers().clone(), request.into_body()).await.map(Self)
    }
}

/// Reads a JSON body.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    let bytes = tokio::time::timeout(JSON_WITHIN, to_bytes(body, JSON_BYTES_MAX))
        .await
        .map_err(|_| Problem::invalid("the body did not arrive within 30 s"))?
        .map_err(|error| match is_too_long(&error) {
            true => Problem::invalid("a JSON body is at most 1 MiB"),
            false => Problem::invalid("the body broke off"),
        })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = kind.is_some_and(|kind| {
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    });
    let bytes: &[u8] = match (bytes.is_empty(), is_json) {
        (true, _) => b"{}",
        (false, true) => &bytes,
        (false, false) => {
            return Err(Problem::invalid("the body's content-type is application/json"));
        }
    };
    serde_json::from_slice(bytes).map_err(|error| {
        let why = cove_types::escape_bytes(error.to_string().as_bytes());
        Problem::invalid(format!("the body is refused: {why}"))
    })
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// The project in the path.
pub(crate) struct Project(pub(crate) Slug);

impl<S: Send + Sync> FromRequestParts<S> for Project {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Named {
            slug: String,
        }
        let Path(Named { slug }) = Path::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::invalid("the path is not UTF-8"))?;
        Ok(Self(slug.parse()?))
    }
}

/// Who asks and under which key; a key is made where none is given.
pub(crate) struct Asked(pub(crate) cove_workspace::Request);

/// Who calls: there is one user.
const PRINCIPAL: &str = "owner";

impl FromRequestParts<App> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = match parts.headers.get("idempotency-key") {
            Some(key) => key
                .to_str()
                .map_err(|_| Problem::invalid("header Idempotency-Key is not visible ASCII"))?
                .to_owned(),
            // a text, and no operation id: which one it becomes follows from the head
            None => format!("call-{}", app.options.env.operation_id(0)),
        };
        let request_id = request_id(parts)?.0.to_string();
        Ok(Self(cove_workspace::Request { key, principal: PRINCIPAL.to_owned(), request_id }))
    }
}

fn request_id(parts: &Parts) -> Result<&RequestId, Problem> {
    let missing = || Problem::new(ErrorKind::Internal, "a call passed the guard without an id");
    parts.extensions.get::<RequestId>().ok_or_else(missing)
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        request_id(parts).cloned()
    }
}

/// Reads a field of a request.
pub(crate) fn field<T: FromStr<Err = ParseError>>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|error| Problem::invalid(format!("field \"{name}\": {error}")))
}

/// Reads a field that is a path from a project's root.
pub(crate) fn path(name: &str, value: &str) -> Result<TreePath, Problem> {
    TreePath::parse(value).map_err(|error| Problem::invalid(format!("field \"{name}\": {error}")))
}

/// A project at the moment that a query names; now when it names none.
pub(crate) fn moment(project: Slug, at: Option<&str>) -> Result<ProjectReference, Problem> {
    let at = at.map_or(Ok(At::Now), |at| field("at", at))?;
    Ok(ProjectReference { project, at })
}

/// The most milliseconds that an answer is held back.
pub(crate) const WAIT_MS_MAX: u64 = 60_000;

/// Reads how many milliseconds a caller waits.
pub(crate) fn wait_ms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        Some(wait) if wait > WAIT_MS_MAX => {
            Err(serde::de::Error::custom(format!("wait_ms is 0 to {WAIT_MS_MAX}, found {wait}")))
        }
        wait => Ok(wait),
    }
}

/// Tells a field that is null from one that is absent.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
