//! Bodies that are read and written as they come, between async connections and
//! threads that block.

use std::future::ready;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use cove_content::volumes::FileReader;
use futures::executor::block_on;
use futures::{Stream, StreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use crate::problem::Problem;

/// How many pieces may wait between the two sides.
const PIECES_MAX: usize = 8;
/// How much is gathered before it is sent.
const PIECE_BYTES: usize = 128 << 10;
/// How long the other side may be silent within a body: send nothing of it, or take nothing of it.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How many bodies are on their way at once; each holds a thread that blocks. Others wait for
/// their turn, and threads are left for calls without a body.
const STREAMS_MAX: usize = 256;

/// The turns of bodies.
static STREAMS: Semaphore = Semaphore::const_new(STREAMS_MAX);

/// A turn of a body, as long as this lives.
type Turn = Option<SemaphorePermit<'static>>;

/// Waits for a turn.
async fn turn() -> Turn {
    // It fails only for one that is closed, and nobody closes this one.
    STREAMS.acquire().await.ok()
}

/// Hands a piece over from a thread that may block; false when the other side went away, or took
/// nothing for too long.
fn hand_over<T>(runtime: &Handle, to: &mpsc::Sender<T>, piece: T) -> bool {
    let _timers = runtime.enter();
    let sent = block_on(timeout(SILENCE_MAX, to.send(piece)));
    matches!(sent, Ok(Ok(())))
}

/// What one side of a body hands the other. The end is said: whoever is not told of it has lost the
/// other side in the middle.
#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
    Broken(io::Error),
}

/// What is said of a body whose other side went away without a word.
fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the body was left in the middle")
}

/// A request's body for a thread that may block. A body that breaks off ends in an error, and so does
/// each read after it.
pub(crate) struct BodyReader {
    from: mpsc::Receiver<Piece>,
    piece: Bytes,
    /// How it ended, once it has.
    ended: Option<Result<(), io::ErrorKind>>,
    refusal: Refusal,
    _turn: Turn,
}

/// Why the end of a body was not reached, for who gave it away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusal(Arc<Mutex<Option<Problem>>>);

impl Refusal {
    pub(crate) fn set(&self, problem: Problem) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }

    /// The refusal where there is one, in place of what the reader made of it.
    pub(crate) fn or(&self, problem: Problem) -> Problem {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(problem)
    }
}

/// What is said of a body that did not come to its end: nothing of this Cove has failed.
fn broken_off(error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            Problem::invalid("the body did not go on for 60 s").status(StatusCode::REQUEST_TIMEOUT)
        }
        _ => Problem::invalid("the body broke off"),
    }
}

/// Reads a body in a task of its own, until its reader goes.
pub(crate) async fn reader(body: Body) -> (BodyReader, Refusal) {
    let turn = turn().await;
    let (to, from) = mpsc::channel(PIECES_MAX);
    tokio::spawn(pump(body, to));
    let refusal = Refusal::default();
    let (piece, ended) = (Bytes::new(), None);
    let reader = BodyReader { from, piece, ended, refusal: refusal.clone(), _turn: turn };
    (reader, refusal)
}

async fn pump(body: Body, to: mpsc::Sender<Piece>) {
    let mut frames = body.into_data_stream();
    loop {
        let piece = match timeout(SILENCE_MAX, frames.next()).await {
            Ok(Some(Ok(bytes))) => Piece::Bytes(bytes),
            Ok(Some(Err(error))) => {
                Piece::Broken(io::Error::new(io::ErrorKind::ConnectionAborted, error))
            }
            Ok(None) => Piece::End,
            Err(_) => {
                Piece::Broken(io::Error::new(io::ErrorKind::TimedOut, "the sender fell silent"))
            }
        };
        let is_last = !matches!(piece, Piece::Bytes(_));
        if to.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.ended {
                None => {}
                Some(Ok(())) => return Ok(0),
                Some(Err(kind)) => return Err(kind.into()),
            }
            // The task that is to tell the end may be dropped before it: when Cove stops.
            match block_on(self.from.recv()).unwrap_or_else(|| Piece::Broken(cut())) {
                Piece::Bytes(piece) => self.piece = piece,
                Piece::End => self.ended = Some(Ok(())),
                Piece::Broken(error) => {
                    self.refusal.set(broken_off(&error));
                    self.ended = Some(Err(error.kind()));
                    return Err(error);
                }
            }
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// What a reader gives, as a body; read in a thread that may block.
///
/// # Errors
///
/// The reader failed before its first byte. One that fails later breaks the body off.
pub(crate) async fn of_reader(reader: FileReader) -> io::Result<Body> {
    let mut reader = match reader {
        FileReader::Whole(bytes) => return Ok(Body::from(bytes.into_inner())),
        FileReader::Stream(reader) => reader,
    };
    let (to, mut from) = mpsc::channel(PIECES_MAX);
    let (turn, runtime) = (turn().await, Handle::current());
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(0) => Piece::End,
                Ok(count) => Piece::Bytes(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Piece::Broken(error),
            };
            let is_last = !matches!(piece, Piece::Bytes(_));
            if !hand_over(&runtime, &to, piece) || is_last {
                return;
            }
        }
    });
    let first = match from.recv().await {
        Some(Piece::Broken(error)) => return Err(error),
        first => first,
    };
    Ok(told(stream::iter(first).chain(ReceiverStream::new(from))))
}

/// Pieces that are at hand, as a body. It breaks off when nobody takes the next piece for too long,
/// and whatever the pieces hold is let go of.
pub(crate) async fn of_pieces(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let turn = turn().await;
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        let _turn = turn;
        for piece in pieces.map(Piece::Bytes).chain([Piece::End]) {
            if !matches!(timeout(SILENCE_MAX, to.send(piece)).await, Ok(Ok(()))) {
                return;
            }
        }
    });
    told(ReceiverStream::new(from))
}

/// Pieces as a body, which is whole only when its end is told.
fn told(pieces: impl Stream<Item = Piece> + Send + 'static) -> Body {
    let pieces = pieces.chain(stream::iter([Piece::Broken(cut())]));
    // A connection is closed over an error with what waits to be sent, the head among it: in the
    // pause it is sent.
    let pieces = pieces.then(async |piece| {
        if matches!(piece, Piece::Broken(_)) {
            tokio::task::yield_now().await;
        }
        piece
    });
    let taken = pieces.map(|piece| match piece {
        Piece::Bytes(bytes) => Some(Ok(bytes)),
        Piece::End => None,
        Piece::Broken(error) => Some(Err(error)),
    });
    let taken = taken.take_while(|piece| ready(piece.is_some()));
    Body::from_stream(taken.filter_map(ready))
}

/// A part of an answer that is written as it is sent.
pub(crate) enum Written {
    /// The next bytes.
    Bytes(Bytes),
    /// How it ended, which comes last: what was not taken as it is, or why it is not whole.
    Ended(Result<Vec<String>, Problem>),
}

/// The writing end of an answer.
pub(crate) struct BodyWriter {
    to: mpsc::Sender<Written>,
    piece: Vec<u8>,
    runtime: Handle,
    _turn: Turn,
}

/// An answer that is written as it is sent, and its two ends.
pub(crate) async fn writer() -> (BodyWriter, mpsc::Sender<Written>, mpsc::Receiver<Written>) {
    let turn = turn().await;
    let (to, from) = mpsc::channel(PIECES_MAX);
    let (piece, runtime) = (Vec::with_capacity(PIECE_BYTES), Handle::current());
    let writer = BodyWriter { to: to.clone(), piece, runtime, _turn: turn };
    (writer, to, from)
}

impl Write for BodyWriter {
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
        let piece =
            Bytes::from(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES)));
        match hand_over(&self.runtime, &self.to, Written::Bytes(piece)) {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the answer")),
        }
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        // Whoever wrote to its end flushed; after a failure the answer is broken off anyhow.
        drop(self.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_holds_a_thread_for_a_minute_only() {
        let (to, _from) = mpsc::channel(1);
        let runtime = Handle::current();
        let thread = std::thread::spawn(move || [1, 2].map(|n| hand_over(&runtime, &to, n)));
        while !thread.is_finished() {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(thread.join().unwrap(), [true, false]);
    }

    #[test]
    fn a_body_whose_runtime_goes_in_the_middle_breaks_off_for_good() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let half = stream::iter([Ok::<_, io::Error>("half")]).chain(stream::pending());
        let (mut reader, _) = runtime.block_on(reader(Body::from_stream(half)));
        let mut buffer = [0; 10];
        assert_eq!(reader.read(&mut buffer).unwrap(), 4);
        runtime.shutdown_background();
        for time in ["first", "second"] {
            let ended = reader.read(&mut buffer);
            assert!(ended.is_err(), "{time}: {ended:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_body_that_comes_to_its_end_is_at_its_end_for_good() {
        let (mut reader, _) = reader(Body::from("whole")).await;
        let read = move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            (all, reader.read(&mut [0; 10]).unwrap())
        };
        let read = tokio::task::spawn_blocking(read).await.unwrap();
        assert_eq!(read, ("whole".to_owned(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_that_nobody_takes_are_let_go_of_after_a_minute_and_break_off() {
        let held = Arc::new(());
        let hold = Arc::clone(&held);
        let pieces = (0..5).map(move |_| {
            let _held = &hold;
            Bytes::from_static(b"piece")
        });
        let body = of_pieces(pieces.clone()).await;
        let whole = axum::body::to_bytes(body, 100).await.unwrap();
        assert_eq!(whole, [&b"piece"[..]; 5].concat());
        let body = of_pieces(pieces).await;
        tokio::time::sleep(SILENCE_MAX + Duration::from_secs(1)).await;
        assert_eq!(Arc::strong_count(&held), 1, "the pieces are held");
        assert!(axum::body::to_bytes(body, 100).await.is_err(), "it ended as if it were whole");
    }
}
