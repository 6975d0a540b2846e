//! Reading a request: its path, query, body and key, each refused with the field's name.

mod input;

use std::str::FromStr;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use cove_content::spec::QUOTA_BYTES;
use cove_types::{At, ErrorKind, ParseError, ProjectReference, Slug, TreePath};
use cove_workspace::WorkspaceError;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use self::input::Input;
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
        let query = Input::query(parts.uri.query().unwrap_or_default());
        let read = query.and_then(T::deserialize).map(Self);
        read.map_err(|refused| Problem::invalid(refused.told("the query")))
    }
}

/// The query of a call that takes none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

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
    let bytes = tokio::time::timeout(JSON_WITHIN, collect(body)).await.map_err(|_| {
        let late = Problem::invalid("the body did not arrive within 30 s");
        late.status(StatusCode::REQUEST_TIMEOUT)
    })??;
    let bytes: &[u8] = match (bytes.is_empty(), is_of_type(&headers, "application/json")) {
        (true, _) => b"{}",
        (false, true) => &bytes,
        (false, false) => {
            return Err(Problem::invalid("the body's content-type is application/json"));
        }
    };
    let input: Input = serde_json::from_slice(bytes).map_err(|error| {
        let why = error.to_string();
        let why = match (error.is_eof(), why.starts_with("recursion")) {
            (true, _) => "it ends too soon".to_owned(),
            (_, true) => "it is nested too deep".to_owned(),
            // its own quotation marks are those of code
            _ => cove_types::escape_bytes(why.replace('`', "\"").as_bytes()),
        };
        Problem::invalid(format!("the body is not JSON: {why}"))
    })?;
    T::deserialize(input).map_err(|refused| Problem::invalid(refused.told("the body")))
}

/// Whether the body is said to be of a media type, whatever its parameters are.
pub(crate) fn is_of_type(headers: &HeaderMap, media_type: &str) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| {
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
    })
}

/// Reads a body that is to be a short one. One that says that it is too long is not waited for.
async fn collect(body: Body) -> Result<Vec<u8>, Problem> {
    let too_long = || {
        let problem = Problem::invalid("a JSON body is at most 1 MiB");
        problem.status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    if body.size_hint().lower() > JSON_BYTES_MAX as u64 {
        return Err(too_long());
    }
    let mut pieces = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Problem::invalid("the body broke off"))?;
        if bytes.len() + piece.len() > JSON_BYTES_MAX {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// What the path names.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::from_request_parts(parts, state).await;
        let Path(names) = read.map_err(|_| Problem::invalid("the path is not UTF-8"))?;
        Ok(Self(names))
    }
}

/// The project in the path.
pub(crate) struct Project(pub(crate) Slug);

impl<S: Send + Sync> FromRequestParts<S> for Project {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct InPath {
            slug: String,
        }
        let Named(InPath { slug }) = Named::from_request_parts(parts, state).await?;
        Ok(Self(slug.parse()?))
    }
}

/// Who asks and under which key; a key is made where none is given.
pub(crate) struct Asked(pub(crate) cove_workspace::Request);

/// The same for work on the whole store, whose keys [`Jobs`](crate::jobs::Jobs) has.
pub(crate) struct AskedOfStore(pub(crate) cove_workspace::Request);

/// Who calls: there is one user.
const PRINCIPAL: &str = "owner";

fn asked(parts: &Parts, app: &App) -> Result<cove_workspace::Request, Problem> {
    let key = match parts.headers.get("idempotency-key") {
        Some(key) => key
            .to_str()
            .map_err(|_| Problem::invalid("header Idempotency-Key is not visible ASCII"))?
            .to_owned(),
        // a text, and no operation id: which one it becomes follows from the head
        None => format!("call-{}", app.options.env.operation_id(0)),
    };
    let request_id = request_id(parts)?.0.to_string();
    let request = cove_workspace::Request { key, principal: PRINCIPAL.to_owned(), request_id };
    request.check()?;
    Ok(request)
}

fn other_request(key: String) -> Problem {
    WorkspaceError::OtherRequest { key }.into()
}

impl FromRequestParts<App> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let request = asked(parts, app)?;
        match app.jobs.knows(&request.key) {
            true => Err(other_request(request.key)),
            false => Ok(Self(request)),
        }
    }
}

impl FromRequestParts<App> for AskedOfStore {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let request = asked(parts, app)?;
        match app.workspaces.is_bound(&request).await? {
            true => Err(other_request(request.key)),
            false => Ok(Self(request)),
        }
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
            Err(serde::de::Error::custom(format!("is 0 to 60,000 ms, found {wait}")))
        }
        wait => Ok(wait),
    }
}

/// Reads the most bytes that may be written to something.
pub(crate) fn quota_bytes<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    match Option::<u64>::deserialize(deserializer)? {
        Some(bytes) if !QUOTA_BYTES.contains(&bytes) => {
            Err(serde::de::Error::custom(format!("is 1 MiB to 1 EiB, found {bytes} bytes")))
        }
        quota => Ok(quota),
    }
}

/// Tells a field that is null from one that is absent.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    async fn refused(body: Body) -> Problem {
        json::<Value>(HeaderMap::new(), body).await.unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_json_body_has_half_a_minute_and_a_mebibyte() {
        let never = futures::stream::pending::<std::io::Result<axum::body::Bytes>>();
        let late = refused(Body::from_stream(never)).await;
        assert_eq!(late.status, StatusCode::REQUEST_TIMEOUT);
        let endless = futures::stream::repeat_with(|| std::io::Result::Ok(vec![b'['; 1 << 16]));
        let long = refused(Body::from_stream(endless)).await;
        assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
        let declared = refused(Body::from(vec![b'['; JSON_BYTES_MAX + 1])).await;
        assert_eq!(declared, long);
    }
}
