//! Bytes that come in pieces, between async connections and threads that block.
//!
//! Their end is said. Whoever reads is at the end when he is told so and never before: a stream that ends otherwise
//! is an error, then and at each later read.

use std::io::{self, Read, Write};
use std::pin::Pin;

use bytes::Bytes;
use futures::executor::block_on;
use futures::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tonic::{Status, Streaming};

use crate::connection::{Effect, Peer};
use crate::failure::{broken, wire_broken};
use crate::pb;

/// How many bytes are gathered before they are sent.
pub(crate) const PIECE_BYTES: usize = 128 << 10;

/// How many pieces may wait between the two sides of a channel.
pub(crate) const PIECES_MAX: usize = 4;

/// The most streams of bytes at once, of a server and of a client each. Each may hold a thread that blocks: others
/// wait for their turn, and threads are left for calls without bytes.
pub(crate) const STREAMS_MAX: usize = 256;

/// A turn of a stream, as long as this lives.
pub(crate) type Turn = Option<OwnedSemaphorePermit>;

/// What one side of a stream tells the other.
pub(crate) enum Piece {
    Bytes(Bytes),
    End,
    Broken(pb::Broken),
}

/// A message that may be a piece.
pub(crate) trait Pieces: prost::Message + Default + Sized + 'static {
    fn of(piece: Piece) -> Self;

    /// The piece; none when it is something else, or something that only a newer version knows.
    fn piece(self) -> Option<Piece>;
}

macro_rules! pieces {
    ($($message:ident in $module:ident),+ $(,)?) => { $(
        impl Pieces for pb::$message {
            fn of(piece: Piece) -> Self {
                let part = match piece {
                    Piece::Bytes(bytes) => pb::$module::Part::Piece(bytes),
                    Piece::End => pb::$module::Part::End(pb::End {}),
                    Piece::Broken(broken) => pb::$module::Part::Broken(broken),
                };
                Self { part: Some(part) }
            }

            fn piece(self) -> Option<Piece> {
                match self.part? {
                    pb::$module::Part::Piece(bytes) => Some(Piece::Bytes(bytes)),
                    pb::$module::Part::End(pb::End {}) => Some(Piece::End),
                    pb::$module::Part::Broken(broken) => Some(Piece::Broken(broken)),
                    _ => None,
                }
            }
        }
    )+ };
}

pieces! {
    CreateRequest in create_request,
    EditRequest in edit_request,
    ReadResponse in read_response,
}

/// The side of a stream that a thread reads which may block.
pub(crate) struct PieceReader<M> {
    from: Streaming<M>,
    piece: Bytes,
    /// How it ended, once it has.
    ended: Option<Result<(), io::ErrorKind>>,
    /// Ends when no more is read.
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Who sends; none of a caller.
    peer: Option<Peer>,
    _turn: Turn,
}

impl<M: Pieces> PieceReader<M> {
    /// What a caller sends, until `stopped`.
    pub(crate) fn of_caller(
        from: Streaming<M>,
        stopped: impl Future<Output = ()> + Send + 'static,
        turn: Turn,
    ) -> Self {
        let (piece, ended) = (Bytes::new(), None);
        Self { from, piece, ended, stopped: Box::pin(stopped), peer: None, _turn: turn }
    }

    /// What a node sends.
    pub(crate) fn of_node(from: Streaming<M>, peer: Peer) -> Self {
        let stopped = Box::pin(std::future::pending());
        Self { from, piece: Bytes::new(), ended: None, stopped, peer: Some(peer), _turn: None }
    }

    /// Waits for the next piece.
    fn next(&mut self) -> Result<Piece, io::Error> {
        loop {
            let message = std::pin::pin!(self.from.message());
            let message = match block_on(select(self.stopped.as_mut(), message)) {
                Either::Left(((), _)) => return Err(aborted("the node is stopping")),
                Either::Right((message, _)) => message,
            };
            match (message, &self.peer) {
                (Ok(Some(message)), _) => {
                    if let Some(piece) = message.piece() {
                        return Ok(piece);
                    }
                }
                (Ok(None) | Err(_), None) => return Err(aborted("the stream broke off")),
                (Ok(None), Some(peer)) => return Err(aborted(peer.lost(Effect::Nothing))),
                (Err(status), Some(peer)) => {
                    return Err(aborted(peer.error(Effect::Nothing, &status)));
                }
            }
        }
    }
}

fn aborted(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

impl<M: Pieces> Read for PieceReader<M> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.piece.is_empty() {
            match self.ended {
                None => {}
                Some(Ok(())) => return Ok(0),
                Some(Err(kind)) => return Err(kind.into()),
            }
            let error = match self.next() {
                Ok(Piece::Bytes(piece)) => {
                    self.piece = piece;
                    continue;
                }
                Ok(Piece::End) => {
                    self.ended = Some(Ok(()));
                    continue;
                }
                Ok(Piece::Broken(why)) => broken(why),
                Err(error) => error,
            };
            self.ended = Some(Err(error.kind()));
            return Err(error);
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Reads to the end in a thread that blocks, and sends what there is until nobody takes it.
pub(crate) fn feed(
    mut reader: Box<dyn Read + Send>,
    turn: Turn,
    mut send: impl FnMut(Piece) -> bool + Send + 'static,
) {
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let (count, ended) = fill(&mut reader, &mut buffer);
            if count > 0 && !send(Piece::Bytes(Bytes::copy_from_slice(&buffer[..count]))) {
                return;
            }
            let last = match ended {
                None => continue,
                Some(Ok(())) => Piece::End,
                Some(Err(error)) => Piece::Broken(wire_broken(&error)),
            };
            send(last);
            return;
        }
    });
}

/// Reads until the buffer is full or there is no more, and how that ended.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Result<()>>) {
    let mut count = 0;
    while count < buffer.len() {
        match reader.read(&mut buffer[count..]) {
            Ok(0) => return (count, Some(Ok(()))),
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (count, Some(Err(error))),
        }
    }
    (count, None)
}

/// The side of an archive that a thread writes which may block.
pub(crate) struct PieceWriter {
    to: mpsc::Sender<Result<pb::ExportResponse, Status>>,
    piece: Vec<u8>,
    _turn: Turn,
}

impl PieceWriter {
    pub(crate) fn new(to: mpsc::Sender<Result<pb::ExportResponse, Status>>, turn: Turn) -> Self {
        Self { to, piece: Vec::with_capacity(PIECE_BYTES), _turn: turn }
    }
}

impl Write for PieceWriter {
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
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let part = Some(pb::export_response::Part::Piece(piece.into()));
        let sent = block_on(self.to.send(Ok(pb::ExportResponse { part })));
        let nobody = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the archive");
        sent.map_err(nobody)
    }
}

impl Drop for PieceWriter {
    fn drop(&mut self) {
        // Whoever wrote to its end flushed; after a failure the archive is broken off anyhow.
        drop(self.flush());
    }
}
