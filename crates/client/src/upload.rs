//! Bodies that are written while they are sent.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

/// Ends a body before its last byte, from beside whoever writes it.
///
/// **Invariant:** a body either was handed over whole or was broken off, and whoever asks learns which: of
/// one that was broken off the receiver never sees the end.
#[derive(Debug, Clone, Default)]
pub struct Breaker(Arc<AtomicU8>);

/// What becomes of a body: more is to come, it was handed over whole, it was broken off.
const OPEN: u8 = 0;
const WHOLE: u8 = 1;
const BROKEN: u8 = 2;

impl Breaker {
    /// Breaks the body off unless all of it was handed over; whether it is broken off.
    #[must_use]
    pub fn break_off(&self) -> bool {
        self.settle(BROKEN)
    }

    fn end(&self) -> bool {
        self.settle(WHOLE)
    }

    fn settle(&self, state: u8) -> bool {
        let set = self.0.compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire);
        set.is_ok() || set == Err(state)
    }

    fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire) == BROKEN
    }
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the body broke off")
}

/// A request's body that is read once, as it is sent.
pub struct Upload(pub(crate) BoxBody<Bytes, io::Error>);

/// How much is gathered before it is handed over.
const PIECE_BYTES: usize = 128 << 10;
/// How many pieces may wait to be sent.
const PIECES_MAX: usize = 8;

impl Upload {
    /// What `reader` gives until it ends or is broken off.
    pub fn reader(reader: impl AsyncRead + Send + Sync + 'static, breaker: Breaker) -> Self {
        let stream = tokio_util::io::ReaderStream::with_capacity(reader, PIECE_BYTES);
        Self(BodyExt::boxed(StreamBody::new(Reading { stream: Box::pin(stream), breaker })))
    }

    /// A body and the writer that fills it, for a thread that may block.
    #[must_use]
    pub fn channel(breaker: Breaker) -> (UploadWriter, Self) {
        let (to, from) = mpsc::channel(PIECES_MAX);
        let piece = BytesMut::with_capacity(PIECE_BYTES);
        let writer = UploadWriter { to: Some(to), piece, breaker };
        (writer, Self(BodyExt::boxed(StreamBody::new(Pieces(from)))))
    }
}

/// What a reader gives as a stream of frames, which ends in an error where it is broken off.
struct Reading<S> {
    stream: Pin<Box<S>>,
    breaker: Breaker,
}

impl<S: Stream<Item = io::Result<Bytes>>> Stream for Reading<S> {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = self.stream.as_mut().poll_next(context);
        piece.map(|piece| match piece {
            None if self.breaker.end() => None,
            Some(piece) if !self.breaker.is_broken() => Some(piece.map(Frame::data)),
            _ => Some(Err(broken_off())),
        })
    }
}

/// The receiving end as a stream of frames.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Pieces {
    type Item = io::Result<Frame<Bytes>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Writes an upload. Dropped before [`finish`](Self::finish), it breaks the call off, so
/// that a half-written body is never taken for a whole one.
pub struct UploadWriter {
    to: Option<mpsc::Sender<io::Result<Bytes>>>,
    piece: BytesMut,
    breaker: Breaker,
}

impl UploadWriter {
    /// Ends the body.
    ///
    /// # Errors
    ///
    /// The call ended before its body did, or it was broken off.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        if !self.breaker.end() {
            return Err(broken_off());
        }
        self.to = None;
        Ok(())
    }
}

impl Write for UploadWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        if self.breaker.is_broken() {
            return Err(broken_off());
        }
        let piece = self.piece.split().freeze();
        self.piece.reserve(PIECE_BYTES);
        let over = || io::Error::new(io::ErrorKind::BrokenPipe, "the call has ended");
        let to = self.to.as_ref().ok_or_else(over)?;
        futures::executor::block_on(to.send(Ok(piece))).map_err(|_| over())
    }
}

impl Drop for UploadWriter {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            // Nobody hears it when the call has ended before.
            drop(futures::executor::block_on(to.send(Err(broken_off()))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_is_broken_off_never_ends_and_one_that_ended_is_not_broken_off() {
        let whole = async |upload: Upload| upload.0.collect().await.map(|all| all.to_bytes());
        for is_broken in [false, true] {
            let breaker = Breaker::default();
            assert!(!is_broken || breaker.break_off());
            let read = whole(Upload::reader(&b"abc"[..], breaker.clone())).await;
            assert_eq!(read.ok(), (!is_broken).then(|| Bytes::from_static(b"abc")));
            assert_eq!(breaker.break_off(), is_broken);

            let breaker = Breaker::default();
            let (mut writer, upload) = Upload::channel(breaker.clone());
            writer.write_all(b"abc").unwrap();
            assert!(!is_broken || breaker.break_off());
            assert_eq!(writer.finish().is_err(), is_broken);
            assert_eq!(whole(upload).await.is_err(), is_broken);
            assert_eq!(breaker.break_off(), is_broken);
        }
    }
}
