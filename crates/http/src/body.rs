//! Bodies that are read and written as they come, between async connections and
//! threads that block.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::StatusCode;
use cove_content::volumes::FileReader;
use futures::StreamExt;
use futures::executor::block_on;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::timeout;

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
/// How much of a body that nobody wants is read, so that its sender hears the answer.
const UNWANTED_BYTES_MAX: usize = 64 << 20;

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

/// What one side hands the other.
type Piece = io::Result<Bytes>;

/// A request's body for a thread that may block. A body that breaks off ends in an error.
pub(crate) struct BodyReader {
    from: mpsc::Receiver<Piece>,
    piece: Bytes,
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

/// Reads a body in a task of its own, which goes on for a while after its reader has gone.
pub(crate) async fn reader(body: Body) -> (BodyReader, Refusal) {
    let turn = turn().await;
    let (to, from) = mpsc::channel(PIECES_MAX);
    tokio::spawn(pump(body, to));
    let refusal = Refusal::default();
    let reader = BodyReader { from, piece: Bytes::new(), refusal: refusal.clone(), _turn: turn };
    (reader, refusal)
}

async fn pump(body: Body, to: mpsc::Sender<Piece>) {
    let mut frames = body.into_data_stream();
    let mut unwanted = 0;
    loop {
        let piece = match tokio::time::timeout(SILENCE_MAX, frames.next()).await {
            Ok(Some(Ok(bytes))) => Ok(bytes),
            Ok(Some(Err(error))) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
            Ok(None) => return,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the sender fell silent")),
        };
        let is_broken = piece.is_err();
        let bytes = piece.as_ref().map_or(0, Bytes::len);
        if to.send(piece).await.is_err() {
            unwanted += bytes;
        }
        if is_broken || unwanted > UNWANTED_BYTES_MAX {
            return;
        }
    }
}

/// How long the rest of a body that nobody wants may take.
const UNWANTED_WITHIN: Duration = Duration::from_secs(30);

/// Reads what is left of a body that was refused, in a task of its own, so that its sender hears
/// the answer instead of a connection that is cut.
pub(crate) fn discard(mut rest: BodyDataStream) {
    let reading = async move {
        let mut bytes = 0;
        while let Some(Ok(piece)) = rest.next().await {
            bytes += piece.len();
            if bytes > UNWANTED_BYTES_MAX {
                return;
            }
        }
    };
    tokio::spawn(timeout(UNWANTED_WITHIN, reading));
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match block_on(self.from.recv()) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    self.refusal.set(broken_off(&error));
                    return Err(error);
                }
                None => return Ok(0),
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
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_broken = piece.is_err();
            if !hand_over(&runtime, &to, piece) || is_broken {
                return;
            }
        }
    });
    let first = from.recv().await.transpose()?;
    let rest = tokio_stream::wrappers::ReceiverStream::new(from);
    Ok(Body::from_stream(futures::stream::iter(first.map(Ok)).chain(rest)))
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
}
