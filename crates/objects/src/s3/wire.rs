//! Requests as they go out and answers as they come in.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use tokio::time::Instant;

/// The longest time in which a connection is made.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The most of an error's text that is read.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// The pieces in which a body goes out, so that its progress is seen.
const PIECE_BYTES: usize = 64 << 10;

/// What an answer said, beside the library's reading of it; empty when none came.
#[derive(Debug, Clone, Default)]
pub(super) struct Answer {
    /// The status.
    pub status: Option<u16>,
    /// The header `Date`, in seconds since 1970.
    date: Option<i64>,
    /// Whether the header `Server` names SeaweedFS.
    pub is_seaweed: bool,
    /// The text of an error.
    body: String,
}

impl Answer {
    /// The `Code` in the error's XML.
    pub fn code(&self) -> Option<&str> {
        self.body.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code.trim())
    }

    /// How long before this answer, by the clock of the store, `then` was.
    pub fn age_since(&self, then: i64) -> Option<Duration> {
        let age = self.date?.saturating_sub(then);
        Some(Duration::from_secs(u64::try_from(age).unwrap_or(0)))
    }

    /// The cause of an error: what the store said, or what went wrong before it could.
    pub fn cause(&self, error: object_store::Error) -> Box<dyn Error + Send + Sync> {
        match self.status {
            Some(status) if !(200..300).contains(&status) => {
                let code = self.code().unwrap_or("no code");
                format!(
                    "the store answered {status} ({})",
                    cove_types::escape_bytes(code.as_bytes())
                )
                .into()
            }
            _ => match NoAnswer::within(&error) {
                Some(away) => Box::new(away),
                None => Box::new(error),
            },
        }
    }
}

/// A store of which no whole answer came, in one line; the library would tell it three times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at} {what}: {why}")]
pub(super) struct NoAnswer {
    /// `http://host:port`.
    at: String,
    /// That it does not answer, or that its answer broke off.
    what: &'static str,
    why: String,
}

impl NoAnswer {
    fn new(error: &reqwest::Error) -> Self {
        let innermost = causes(error).last();
        let text = innermost.map(ToString::to_string).unwrap_or_default();
        // `Connection refused (os error 111)`: the number tells a person nothing.
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut letters = text.chars();
        let first = letters.next().map(|first| first.to_ascii_lowercase());
        let why: String = first.into_iter().chain(letters).collect();
        let what = if error.is_body() || error.is_decode() {
            "broke off its answer"
        } else {
            "does not answer"
        };
        Self { at: origin(error.url()), what, why: cove_types::escape_bytes(why.as_bytes()) }
    }

    /// The one that an error of the library carries.
    fn within(error: &(dyn Error + 'static)) -> Option<Self> {
        causes(error).find_map(|error| error.downcast_ref::<Self>()).cloned()
    }
}

/// An error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// A store as a person knows it: no key of an object and nothing that is signed.
fn origin(url: Option<&reqwest::Url>) -> String {
    url.map_or_else(
        || "the store".to_owned(),
        |url| cove_types::escape_bytes(url.origin().ascii_serialization().as_bytes()),
    )
}

/// Where the [`Answer`] to a request is put; travels in the request's extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Answer>>);

impl Slot {
    pub fn take(&self) -> Answer {
        std::mem::take(&mut *self.0.lock().expect("no holder of this lock panics"))
    }

    fn set(&self, answer: Answer) {
        *self.0.lock().expect("no holder of this lock panics") = answer;
    }
}

/// The HTTP client of one store.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    /// For requests without a body; ends one when nothing comes for a while.
    reader: reqwest::Client,
    /// For requests with a body. Its time-out would count from the request's start and
    /// end a long upload, so that [`Wire::send`] watches.
    writer: reqwest::Client,
    silence_max: Duration,
}

impl Wire {
    pub fn new(silence_max: Duration, may_be_plain: bool) -> reqwest::Result<Self> {
        // Fails when a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_WITHIN.min(silence_max))
                .redirect(reqwest::redirect::Policy::none())
                // reqwest repeats what a server refuses on a protocol level; a conditional
                // write must not be repeated by anyone.
                .retry(reqwest::retry::never())
                .https_only(!may_be_plain)
        };
        Ok(Self {
            reader: client().read_timeout(silence_max).build()?,
            writer: client().build()?,
            silence_max,
        })
    }

    /// The status and text of the answer to a GET of `url`.
    pub async fn ask(&self, url: &str) -> Result<(u16, String), String> {
        let work = async {
            let response = self.reader.get(url).send().await?;
            Ok((response.status().as_u16(), response.text().await?))
        };
        match tokio::time::timeout(self.silence_max, work).await {
            Ok(result) => result.map_err(|error: reqwest::Error| NoAnswer::new(&error).to_string()),
            Err(_) => Err(self.silence(origin(url.parse().ok().as_ref())).to_string()),
        }
    }

    /// Sends, and waits for the head of the answer while the body still moves.
    async fn send(&self, request: HttpRequest) -> Result<reqwest::Response, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts
            .uri
            .to_string()
            .parse::<reqwest::Url>()
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let at = origin(Some(&url));
        let mut sent = reqwest::Request::new(parts.method, url);
        *sent.headers_mut() = parts.headers;
        let moved = Arc::new(Mutex::new(Instant::now()));
        if sent.method() != reqwest::Method::PUT {
            return self.reader.execute(sent).await.map_err(http_error);
        }
        if body.content_length() > 0 {
            sent.headers_mut()
                .insert(reqwest::header::CONTENT_LENGTH, body.content_length().into());
            *sent.body_mut() = Some(pieces(HttpResponseBody::new(body), moved.clone()));
        } else {
            *sent.body_mut() = Some(Bytes::new().into());
        }

        let mut answer = std::pin::pin!(self.writer.execute(sent));
        loop {
            let last = *moved.lock().expect("no holder of this lock panics");
            match tokio::time::timeout_at(last + self.silence_max, &mut answer).await {
                Ok(answer) => return answer.map_err(http_error),
                Err(_) if *moved.lock().expect("no holder of this lock panics") > last => {}
                Err(_) => return Err(HttpError::new(HttpErrorKind::Timeout, self.silence(at))),
            }
        }
    }

    fn silence(&self, at: String) -> NoAnswer {
        let why = format!("nothing moved for {} s", self.silence_max.as_secs_f32());
        NoAnswer { at, what: "does not answer", why }
    }
}

/// A body in pieces, each of which says when it was taken.
fn pieces(body: HttpResponseBody, moved: Arc<Mutex<Instant>>) -> reqwest::Body {
    let pieces = body.bytes_stream().flat_map(move |whole| {
        let moved = moved.clone();
        let pieces: Vec<_> = match whole {
            Ok(whole) => (0..whole.len())
                .step_by(PIECE_BYTES)
                .map(|at| Ok(whole.slice(at..whole.len().min(at + PIECE_BYTES))))
                .collect(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(pieces).inspect(move |_| {
            *moved.lock().expect("no holder of this lock panics") = Instant::now();
        })
    });
    reqwest::Body::wrap_stream(pieces)
}

fn http_error(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() { HttpErrorKind::Timeout } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, NoAnswer::new(&error))
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let slot = request.extensions().get::<Slot>().cloned().unwrap_or_default();
        let is_read = request.method() == reqwest::Method::GET;
        let response = self.send(request).await?;
        let status = response.status();
        let date = response
            .headers()
            .get(reqwest::header::DATE)
            .and_then(|date| date.to_str().ok())
            .and_then(|date| jiff::fmt::rfc2822::parse(date).ok())
            .map(|date| date.timestamp().as_second());

        let is_seaweed = response
            .headers()
            .get(reqwest::header::SERVER)
            .is_some_and(|server| server.as_bytes().starts_with(b"SeaweedFS"));
        let mut answer =
            Answer { status: Some(status.as_u16()), date, is_seaweed, body: String::new() };

        let (mut parts, body) = hyper::Response::<reqwest::Body>::from(response).into_parts();
        let body = HttpResponseBody::new(body.map_err(http_error));
        if status.is_success() && is_read {
            slot.set(answer);
            return Ok(HttpResponse::from_parts(parts, body));
        }
        // The status is definite even when the text that explains it is cut off.
        let mut text = Vec::new();
        let mut stream = body.bytes_stream();
        while let Ok(Some(Ok(chunk))) = tokio::time::timeout(self.silence_max, stream.next()).await
        {
            let room = ERROR_BYTES_MAX - text.len();
            text.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if text.len() == ERROR_BYTES_MAX {
                break;
            }
        }
        answer.body = String::from_utf8_lossy(&text).into_owned();
        slot.set(answer);
        parts.headers.remove(reqwest::header::CONTENT_LENGTH);
        Ok(HttpResponse::from_parts(parts, text.into()))
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
