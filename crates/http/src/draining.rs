//! A request's body whose rest is read by itself once nobody wants it any more.
//!
//! A refusal often comes before the body has been read: the path names no project, the token is
//! wrong, a limit is passed. A connection that is closed over bytes nobody took is reset by the
//! kernel, and the sender, who may be writing still, loses the answer that was on its way.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use futures::StreamExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::runtime::Handle;

/// How much of a body that nobody wants is read.
const UNWANTED_BYTES_MAX: usize = 64 << 20;
/// How long the rest of a body that nobody wants may take.
const UNWANTED_WITHIN: Duration = Duration::from_secs(30);

/// A body; dropped before its end, it reads the rest in a task of its own: 64 MiB and 30 s at most.
pub(crate) struct Draining {
    body: Body,
    /// Whether something is to come. A sender who waits to be asked for it sends nothing before.
    is_coming: bool,
}

impl Draining {
    pub(crate) fn new(body: Body, headers: &HeaderMap) -> Self {
        Self { body, is_coming: !headers.contains_key(header::EXPECT) }
    }
}

impl HttpBody for Draining {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_coming = true;
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.is_coming = matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        if !self.is_coming || self.body.is_end_stream() {
            return;
        }
        // Without a runtime nothing is served any more.
        let Ok(runtime) = Handle::try_current() else { return };
        let mut rest = std::mem::take(&mut self.body).into_data_stream();
        let reading = async move {
            let mut bytes = 0;
            while let Some(Ok(piece)) = rest.next().await {
                bytes += piece.len();
                if bytes > UNWANTED_BYTES_MAX {
                    return;
                }
            }
        };
        runtime.spawn(async move { tokio::time::timeout(UNWANTED_WITHIN, reading).await });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::HeaderValue;

    use super::*;

    /// How many of a body's ten pieces are read when it is dropped after `wanted` of them.
    async fn read_of(wanted: usize, headers: &HeaderMap, piece: usize) -> usize {
        let read = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&read);
        let pieces = futures::stream::iter(0..10).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from(vec![0; piece]))
        });
        let mut body =
            Body::new(Draining::new(Body::from_stream(pieces), headers)).into_data_stream();
        for _ in 0..wanted {
            body.next().await.unwrap().unwrap();
        }
        drop(body);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        read.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn the_rest_is_read_up_to_a_limit_and_only_when_it_is_coming() {
        let mut waits = HeaderMap::new();
        for wanted in [0, 3] {
            assert_eq!(read_of(wanted, &waits, 1).await, 10, "after {wanted}");
        }
        assert_eq!(read_of(0, &waits, 16 << 20).await, 5, "more than 64 MiB were read");
        waits.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        assert_eq!(read_of(0, &waits, 1).await, 0, "nobody asked for it");
        assert_eq!(read_of(1, &waits, 1).await, 10, "it was asked for");
    }
}
