//! Serving connections.

use std::net::SocketAddr;
use std::time::Duration;

use axum::{Extension, Router};
use cove_types::{Classify, ErrorKind};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::guard::Peer;

/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(15);
/// How many bytes of heads are kept at most.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long calls may go on after Cove is told to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing is accepted after the system had no room for a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Why the API does not listen somewhere.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{address} is beyond this machine, where plain HTTP is not served")]
    BeyondLoopback { address: SocketAddr },
}

impl Classify for ListenError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::BeyondLoopback { .. } => ErrorKind::Precondition,
        }
    }
}

/// Whether the API may listen at an address: plain HTTP stays on this machine.
///
/// # Errors
///
/// The address is no loopback address.
pub fn check_listen(address: SocketAddr) -> Result<(), ListenError> {
    match address.ip().to_canonical().is_loopback() {
        true => Ok(()),
        false => Err(ListenError::BeyondLoopback { address }),
    }
}

/// Serves the unix socket, whose callers are its owner, until `shutdown` ends; then lets calls
/// end for a few seconds.
///
/// `users` are the user ids that may call; the kernel says whose a connection is. Others are
/// told that they may not.
pub async fn serve_unix(
    listener: UnixListener,
    router: Router,
    users: &[u32],
    shutdown: impl Future<Output = ()> + Send,
) {
    let owner = router.clone().layer(Extension(Peer::Owner));
    let stranger = router.layer(Extension(Peer::Stranger));
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        let user = stream.peer_cred().map(|peer| peer.uid());
        let is_owner = user.is_ok_and(|user| users.contains(&user));
        Ok((stream, if is_owner { owner.clone() } else { stranger.clone() }))
    };
    serve(accept, shutdown).await;
}

/// Serves a TCP port, whose callers need the token, until `shutdown` ends; then lets calls end
/// for a few seconds.
pub async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let router = router.layer(Extension(Peer::Network));
    let accept = || async {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((stream, router.clone()))
    };
    serve(accept, shutdown).await;
}

async fn serve<S, A>(accept: impl Fn() -> A, shutdown: impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Future<Output = std::io::Result<(S, Router)>>,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_concurrent_streams(128)
        .keep_alive_interval(HEAD_WITHIN);
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, router) = tokio::select! {
            accepted = accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let service = TowerToHyperService::new(router);
        let connection = server.serve_connection(TokioIo::new(stream), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &*error, "a connection broke off");
            }
        });
    }
    if tokio::time::timeout(STOP_WITHIN, graceful.shutdown()).await.is_err() {
        tracing::info!("calls that were still going on are left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for address in ["127.0.0.1:7070", "127.8.0.1:0", "[::1]:7070", "[::ffff:127.0.0.1]:1"] {
            assert!(check_listen(address.parse().unwrap()).is_ok(), "{address}");
        }
        for address in ["0.0.0.0:7070", "192.168.1.2:80", "[::]:7070"] {
            let refused = check_listen(address.parse().unwrap()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Precondition);
        }
    }
}
