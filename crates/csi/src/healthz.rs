//! Whether the driver is well, for whoever restarts it otherwise: `GET /healthz` over HTTP/1.1.
//!
//! Nobody proves who they are, so that nothing is told that is of use to others: texts of errors stay in the log.
//! What a caller can take is bounded: one request for each connection, its head, its time, and the number of
//! connections.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::csi::Csi;
use crate::registration::{Registered, RegistrationState};

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How long a connection lasts at most: a head, an answer, and a second to take that.
const CONNECTION_WITHIN: Duration = Duration::from_secs(9);

/// The longest head that is read, in bytes. It is the least that the parser can be told.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The most connections at once; others wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;

/// What is waited after a connection was not accepted, for descriptors to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is looked at.
struct Health {
    csi: Csi,
    registration: Option<RegistrationState>,
}

impl Health {
    /// Why the driver is not well, in words that anybody may read; nothing when it is.
    async fn problem(&self) -> Result<(), &'static str> {
        if let Some(Registered::Failed(_)) = self.registration.as_ref().map(RegistrationState::get)
        {
            return Err("kubelet has not registered the driver: the log says why");
        }
        self.csi.0.check_well().await.map_err(|unwell| unwell.line())
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let (status, line) = match (request.uri().path(), request.method()) {
            ("/healthz", &Method::GET) => match self.problem().await {
                Ok(()) => (StatusCode::OK, "ok"),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            },
            ("/healthz", _) => (StatusCode::METHOD_NOT_ALLOWED, "the method is GET"),
            _ => (StatusCode::NOT_FOUND, "there is /healthz"),
        };
        let mut response = Response::new(format!("{line}\n"));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }

    /// Answers one request, in the time that there is.
    async fn serve(self: Arc<Self>, connection: TcpStream) {
        let answer = service_fn(|request| {
            let health = Arc::clone(&self);
            async move { Ok::<_, Infallible>(health.answer(&request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HEAD_BYTES_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(connection), answer);
        match tokio::time::timeout(CONNECTION_WITHIN, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a probe broke off"),
            Err(_) => tracing::debug!("a probe took too long"),
        }
    }
}

/// Answers probes until `shutdown` ends, and closes the connections that are open then.
///
/// `GET /healthz` is 200 and `ok` when the Hub tells the room of the driver's node within 3 s, and kubelet has not said
/// last that it does not register the driver; else 503 and one line that says why. Other methods are 405, other paths
/// 404. A probe's own limit should be longer than 3 s.
pub async fn serve_healthz(
    listener: TcpListener,
    csi: Csi,
    registration: Option<RegistrationState>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let health = Arc::new(Health { csi, registration });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let accept = async {
        // the semaphore is never closed
        while let Ok(place) = Arc::clone(&room).acquire_owned().await {
            match listener.accept().await {
                Ok((connection, _)) => {
                    let health = Arc::clone(&health);
                    connections.spawn(async move {
                        health.serve(connection).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a probe was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
}

#[cfg(test)]
mod tests;
