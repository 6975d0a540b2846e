//! Who connects, and until when.

use std::future::{pending, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tonic::transport::server::Connected;

use crate::authority::AnyAuthority;

/// How long to wait after a connection that could not be accepted: what is short is so for a while.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Resolves once `flag` is true, or whoever would say so is gone.
pub async fn is_true(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|flag| *flag).await;
}

/// The connections of root and of the user of this process; others are dropped, and what cannot be accepted is tried
/// again for ever.
pub fn connections(listener: UnixListener) -> impl Stream<Item = io::Result<Connection>> {
    accepted(listener, || Box::pin(pending()))
}

/// The same; each breaks off when `cut` is true.
pub(crate) fn connections_until(
    listener: UnixListener,
    cut: watch::Receiver<bool>,
) -> impl Stream<Item = io::Result<Connection>> {
    accepted(listener, move || Box::pin(is_true(cut.clone())))
}

fn accepted(
    listener: UnixListener,
    cut_off: impl Fn() -> CutOff + Send,
) -> impl Stream<Item = io::Result<Connection>> {
    let own = rustix::process::geteuid().as_raw();
    futures::stream::unfold((listener, cut_off), move |(listener, cut_off)| async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(peer) if may_call(peer.uid(), own) => {
                    let requests = AnyAuthority::new(stream);
                    let connection = Connection { requests, cut_off: cut_off() };
                    return Some((Ok(connection), (listener, cut_off)));
                }
                Ok(peer) => tracing::warn!(user = peer.uid(), "a stranger was turned away"),
                Err(error) => tracing::warn!(%error, "somebody unknown was turned away"),
            }
        }
    })
}

/// Whether a user may call a server of `own`, or listen where `own` calls.
pub(crate) fn may_call(user: u32, own: u32) -> bool {
    user == 0 || user == own
}

/// When a connection breaks off.
type CutOff = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that the server can break off, and whose requests may name a path as their authority.
pub struct Connection {
    requests: AnyAuthority,
    cut_off: CutOff,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    /// At its end once it is cut off. An HTTP/2 connection reads at all times, so that this wakes it.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut_off.as_mut().poll(context).is_ready() {
            self.cut_off = Box::pin(ready(()));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.requests).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.requests.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.requests.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.requests.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.requests.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.requests.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_user_of_the_process_may_call() {
        assert!(may_call(0, 1000) && may_call(1000, 1000));
        assert!(!may_call(1001, 1000) && !may_call(1000, 0));
    }
}
