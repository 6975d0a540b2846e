//! Who may call, and what each call is known by.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cove_types::ErrorKind;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::draining::Draining;
use crate::problem::Problem;
use crate::routes::App;

/// How a connection came in. A request without it is taken for one from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Through the unix socket, by its owner or root.
    Owner,
    /// Through the unix socket, by another user.
    Stranger,
    /// Over TCP.
    Network,
}

/// What a request is known by, in the log and in its answer.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// The header that tells it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The names of this machine by which a browser may call it.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// A host without its port.
fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

fn is_ours(host: &str, hosts: &[String]) -> bool {
    let host = bare(host).to_ascii_lowercase();
    LOOPBACK.contains(&host.as_str()) || hosts.contains(&host)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// Headers of which a call has one at most: of two, others may have looked at the other one.
const ONCE: [HeaderName; 9] = [
    header::HOST,
    header::ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::RANGE,
    header::IF_RANGE,
    HeaderName::from_static("idempotency-key"),
];

/// Looks at how a request is put together, whoever sends it.
///
/// Of a body with two lengths hyper takes the one of `Transfer-Encoding` and closes the connection
/// behind the answer (RFC 9112, section 6.3): what others took for the next call is none here.
fn check_form(headers: &HeaderMap) -> Result<(), Problem> {
    for name in &ONCE {
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(Problem::invalid(format!("a call has one header {name}")));
        }
    }
    // The bytes would be taken as they are, and not for what they stand for.
    if text(headers, &header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.eq_ignore_ascii_case("identity"))
    {
        let problem = Problem::invalid("a body is sent as it is, without content-encoding");
        return Err(problem.status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    Ok(())
}

/// Looks at a request from the network: its host, its origin, its token.
fn check(headers: &HeaderMap, authority: Option<&str>, app: &App) -> Result<(), Problem> {
    let hosts = &app.options.hosts;
    // Before the token, so that a page that found its way to this port learns nothing.
    let host = text(headers, &header::HOST).or(authority).unwrap_or_default();
    if !is_ours(host, hosts) || authority.is_some_and(|host| !is_ours(host, hosts)) {
        let problem = Problem::new(ErrorKind::Denied, "this host is not served here");
        return Err(problem.status(StatusCode::MISDIRECTED_REQUEST));
    }
    let foreign = || Problem::new(ErrorKind::Denied, "a page of another site may not call");
    if let Some(origin) = text(headers, &header::ORIGIN) {
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        if !is_ours(host, hosts) {
            return Err(foreign());
        }
    }
    let site = HeaderName::from_static("sec-fetch-site");
    if matches!(text(headers, &site), Some("cross-site" | "same-site")) {
        return Err(foreign());
    }
    let token = text(headers, &header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let refused = |detail: &str| {
        Problem::new(ErrorKind::Denied, detail)
            .status(StatusCode::UNAUTHORIZED)
            .hint("send `Authorization: Bearer TOKEN`; it is in the file `token` in Cove's home")
    };
    let Some(token) = token else { return Err(refused("the call has no token")) };
    let given: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    match bool::from(given.ct_eq(&app.options.token_sha256)) {
        true => Ok(()),
        false => Err(refused("the token is not this Cove's")),
    }
}

/// Lets a request through when it may, names it, and gives errors their body.
pub(crate) async fn guard(
    State(app): State<App>,
    mut request: Request<Body>,
    next: Next,
) -> Response {
    let id: [u8; 8] = app.options.env.random();
    let id: Arc<str> = format!("{:016x}", u64::from_be_bytes(id)).into();
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer::Network);
    let may_call = match peer {
        Peer::Owner => Ok(()),
        Peer::Stranger => {
            let problem = Problem::new(ErrorKind::Denied, "this Cove belongs to another user");
            Err(problem.hint("Cove serves the owner of its home, and root"))
        }
        Peer::Network => {
            let authority = request.uri().authority().map(|authority| authority.as_str());
            check(request.headers(), authority, &app)
        }
    };
    let allowed = may_call.and_then(|()| check_form(request.headers()));
    let (head, body) = request.into_parts();
    let body = Body::new(Draining::new(body, &head.headers));
    let request = Request::from_parts(head, body);
    let mut response = match allowed {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let mut answer = problem.answer(&id);
        // The one header that a refusal has of its own.
        if let Some(range) = response.headers_mut().remove(header::CONTENT_RANGE) {
            answer.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        response = answer;
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_sent_as_it_is_and_says_so_once_at_most() {
        let said = |codings: &[&str]| {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(header::CONTENT_ENCODING, coding.parse().unwrap());
            }
            check_form(&headers).is_ok()
        };
        for as_it_is in [&[][..], &["identity"], &["Identity"]] {
            assert!(said(as_it_is), "{as_it_is:?}");
        }
        for packed in [&["gzip"][..], &["identity, gzip"], &["identity", "gzip"], &["", "gzip"]] {
            assert!(!said(packed), "{packed:?}");
        }
    }

    #[test]
    fn a_host_is_ours_with_any_port_and_no_other() {
        for host in ["localhost", "LOCALHOST:7070", "127.0.0.1:7070", "[::1]:7070", "[::1]"] {
            assert!(is_ours(host, &[]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:7070", "", "::1"] {
            assert!(!is_ours(host, &[]), "{host}");
        }
        assert!(is_ours("cove.lan:80", &["cove.lan".to_owned()]));
    }
}
