//! Bodies that are written while they are sent.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::Stream;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;

/// A request's body that is read once, as it is sent.
pub struct Upload(pub(crate) BoxBody<Bytes, io::Error>);

/// How much is gathered before it is handed over.
const PIECE_BYTES: usize = 128 << 10;
/// How many pieces may wait to be sent.
const PIECES_MAX: usize = 8;

impl Upload {
    /// What `reader` gives until it ends.
    pub fn reader(reader: impl AsyncRead + Send + Sync + 'static) -> Self {
        let stream = tokio_util::io::ReaderStream::with_capacity(reader, PIECE_BYTES);
        Self(BodyExt::boxed(StreamBody::new(futures::TryStreamExt::map_ok(stream, Frame::data))))
    }

    /// A body and the writer that fills it, for a thread that may block.
    #[must_use]
    pub fn channel() -> (UploadWriter, Self) {
        let (to, from) = mpsc::channel(PIECES_MAX);
        let writer = UploadWriter { to: Some(to), piece: BytesMut::with_capacity(PIECE_BYTES) };
        (writer, Self(BodyExt::boxed(StreamBody::new(Pieces(from)))))
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
}

impl UploadWriter {
    /// Ends the body.
    ///
    /// # Errors
    ///
    /// The call ended before its body did.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
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
            let broken = io::Error::new(io::ErrorKind::ConnectionAborted, "the body broke off");
            // Nobody hears it when the call has ended before.
            drop(futures::executor::block_on(to.send(Err(broken))));
        }
    }
}
