//! Whether the driver is well, for whoever restarts it otherwise: `GET /healthz` over HTTP/1.1.
//!
//! Nobody proves who they are, so that nothing is told that is of use to others: texts of errors stay in the log.
//! What a caller can take is bounded: one request for each connection, its head, its time, and the number of
//! connections.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::csi::Csi;
use crate::registration::{Registered, RegistrationState};

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How long a connection lasts at most: a head, an answer, and a second to take that.
const CONNECTION_WITHIN: Duration = Duration::from_secs(9);

/// The longest head that is read, in bytes. It is the least that the parser can be told.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// The most connections at once. The next one takes the place of the oldest that has not sent a whole head; where all
/// have, it waits for the first of them to end.
const CONNECTIONS_MAX: usize = 64;

/// What is waited after a connection was not accepted, for descriptors to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is looked at.
struct Health {
    csi: Csi,
    registration: Option<RegistrationState>,
}

impl Health {
    /// Looks whether the driver is well; if not it says why, in words that anybody may read.
    ///
    /// A registration that failed is told and is nothing to restart for: kubelet is asked again as it is, and a restart
    /// would end the Hub and the node, which are well.
    async fn check(&self) -> Result<&'static str, &'static str> {
        self.csi.0.check_well().await.map_err(|unwell| unwell.line())?;
        Ok(match self.registration.as_ref().map(RegistrationState::get) {
            Some(Registered::Failed(_)) => {
                "ok, but kubelet has not registered the driver and is asked again: the log says why"
            }
            Some(Registered::NotYet | Registered::Done) | None => "ok",
        })
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let (status, line) = match (request.uri().path(), request.method()) {
            ("/healthz", &Method::GET) => match self.check().await {
                Ok(line) => (StatusCode::OK, line),
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

    /// Answers one request, in the time that there is, and notes when its head is there.
    async fn serve(self: Arc<Self>, connection: TcpStream, has_asked: Arc<AtomicBool>) {
        let answer = service_fn(|request| {
            has_asked.store(true, Ordering::Relaxed);
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

/// A connection that was accepted. The oldest comes first.
struct Open {
    task: AbortHandle,
    /// Whether a whole head has come.
    has_asked: Arc<AtomicBool>,
}

impl Open {
    fn is_open(&self) -> bool {
        !self.task.is_finished()
    }

    fn is_silent(&self) -> bool {
        !self.has_asked.load(Ordering::Relaxed)
    }
}

/// Answers probes until `shutdown` ends, and closes the connections that are open then.
///
/// `GET /healthz` is 200 and `ok` when the Hub tells the room of the driver's node within 3 s, else 503 and one line that
/// says why. That kubelet has said last that it does not register the driver stands behind the `ok`. Other methods are
/// 405, other paths 404. A probe's own limit should be longer than 3 s.
pub async fn serve_healthz(
    listener: TcpListener,
    csi: Csi,
    registration: Option<RegistrationState>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let health = Arc::new(Health { csi, registration });
    let mut tasks = JoinSet::new();
    let mut open: Vec<Open> = Vec::new();
    let accept = async {
        loop {
            let connection = match listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => {
                    tracing::warn!(%error, "a probe was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while tasks.try_join_next().is_some() {}
            open.retain(Open::is_open);
            while open.len() >= CONNECTIONS_MAX {
                if let Some(silent) = open.iter().position(Open::is_silent) {
                    open.remove(silent).task.abort();
                    tracing::debug!("a probe that asked for nothing has given way");
                } else {
                    tasks.join_next().await;
                    open.retain(Open::is_open);
                }
            }
            let has_asked = Arc::new(AtomicBool::new(false));
            let task = tasks.spawn(Arc::clone(&health).serve(connection, Arc::clone(&has_asked)));
            open.push(Open { task, has_asked });
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
}

#[cfg(test)]
mod tests;
