//! Errors as they are answered.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cove_hub::HubError;
use cove_types::wire::ProblemDetails;
use cove_types::{Classify, ErrorKind, ParseError, chain};
use cove_workspace::{Failure, WorkspaceError};

/// Where the pages about errors are.
const PAGES: &str = "https://cove.dev/errors/";
/// After how many seconds what is away may be back.
const RETRY_AFTER_S: u64 = 5;

/// An error on its way out; it becomes a body where the request's id is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) kind: ErrorKind,
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    pub(crate) hint: Option<String>,
}

/// The status of a kind of error.
pub(crate) fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict | ErrorKind::Precondition => {
            StatusCode::CONFLICT
        }
        ErrorKind::Exhausted => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    }
}

/// A kind as its page is named, and in words.
fn names(kind: ErrorKind) -> (&'static str, &'static str) {
    match kind {
        ErrorKind::Invalid => ("invalid", "Invalid request"),
        ErrorKind::NotFound => ("not-found", "Not found"),
        ErrorKind::AlreadyExists => ("already-exists", "Exists already"),
        ErrorKind::Conflict => ("conflict", "Conflict"),
        ErrorKind::Precondition => ("precondition", "Not in this state"),
        ErrorKind::Exhausted => ("exhausted", "No room"),
        ErrorKind::Unavailable => ("unavailable", "Unavailable"),
        ErrorKind::Corrupt => ("corrupt", "Damaged data"),
        ErrorKind::Denied => ("denied", "Denied"),
        ErrorKind::TimedOut => ("timed-out", "Outcome not known yet"),
        ErrorKind::Internal => ("internal", "Internal error"),
    }
}

impl Problem {
    pub(crate) fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, status: status(kind), detail: detail.into(), hint: None }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, detail)
    }

    /// With another status of the same kind.
    pub(crate) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// With what the caller can do.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The body, for a request. What an internal error says stays in the log.
    pub(crate) fn details(&self, request_id: &str) -> ProblemDetails {
        let (page, title) = names(self.kind);
        let detail = match self.kind {
            ErrorKind::Internal => {
                format!("internal error; the log has it as request {request_id}")
            }
            _ => self.detail.clone(),
        };
        ProblemDetails {
            type_: format!("{PAGES}{page}"),
            title: title.to_owned(),
            status: self.status.as_u16(),
            kind: self.kind,
            detail,
            hint: self.hint.clone(),
            request_id: request_id.to_owned(),
            retry_after_s: (self.kind == ErrorKind::Unavailable).then_some(RETRY_AFTER_S),
        }
    }

    /// Logs it, where the error stops travelling.
    pub(crate) fn log(&self, request_id: &str) {
        match self.kind {
            ErrorKind::Internal | ErrorKind::Corrupt => {
                tracing::error!(request_id, kind = ?self.kind, error = %self.detail, "a call failed");
            }
            _ => {
                tracing::debug!(request_id, kind = ?self.kind, error = %self.detail, "a call was refused");
            }
        }
    }

    /// The body as a part of an answer that is none itself, as of work that somebody follows;
    /// logged, so that the log has it under the id that the body names.
    pub(crate) fn told(&self, request_id: &str) -> ProblemDetails {
        self.log(request_id);
        self.details(request_id)
    }

    /// The answer, for a request; logged.
    pub(crate) fn answer(&self, request_id: &str) -> Response {
        self.log(request_id);
        let details = self.details(request_id);
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let kind = HeaderValue::from_static("application/problem+json");
        let mut response = (self.status, [(header::CONTENT_TYPE, kind)], body).into_response();
        if let Some(seconds) = details.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { hint: failure.hint, ..Self::new(failure.kind, failure.what) }
    }
}

impl From<HubError> for Problem {
    fn from(error: HubError) -> Self {
        let problem = Self::new(error.kind(), chain(&error));
        match error {
            HubError::NoVolume { .. } => problem.hint("`cove volume ls` lists the volumes"),
            _ => problem,
        }
    }
}

impl From<WorkspaceError> for Problem {
    fn from(error: WorkspaceError) -> Self {
        Self::from(Failure::from(&error))
    }
}
