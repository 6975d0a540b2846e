//! A server that does nothing: how fast calls go when nobody works.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What each call is answered with.
const ANSWER: [u8; 4096] = [b'x'; 4096];

async fn answer(
    request: Request<Incoming>,
    calls: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off ends the connection by itself.
    let _ = request.into_body().collect().await;
    calls.fetch_add(1, Ordering::SeqCst);
    Ok(Response::new(Full::new(Bytes::from_static(&ANSWER))))
}

async fn serve(listener: TcpListener, calls: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        // It answers all the same, a little later.
        let _ = stream.set_nodelay(true);
        let calls = Arc::clone(&calls);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&calls)));
            // Whoever hangs up has had what it wanted.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Serves in this process until it is ended, with as many threads as there are processors; says its
/// address on standard output first.
pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("failed to listen")?;
        println!("{}", listener.local_addr()?);
        serve(listener, Arc::default()).await;
        Ok(())
    })
}

/// A server on a thread of this process, and how many calls it has answered.
#[cfg(test)]
pub struct Served {
    pub address: String,
    pub calls: Arc<AtomicU64>,
}

/// Serves on a thread of this process, as long as that lasts.
#[cfg(test)]
pub fn spawn_thread() -> Result<Served> {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            serve(TcpListener::from_std(listener)?, counted).await;
            Ok(())
        })
    });
    Ok(Served { address, calls })
}
