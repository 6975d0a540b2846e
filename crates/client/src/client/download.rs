//! Answers that are read as they come.

use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cove_types::ErrorKind;
use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream};
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, StatusCode, header};
use tokio::io::AsyncRead;

use super::{Client, Payload};
use crate::ClientError;
use crate::target::Target;

/// How much is asked for at once, where longer answers break off with nothing in them.
const FAULT_PIECE_BYTES: u64 = 4096;

/// An answer that is read as it comes.
pub struct Download {
    body: Incoming,
    /// How long it is, when that is known before.
    pub bytes: Option<u64>,
    /// Where it comes from.
    pub origin: Origin,
    /// What was not taken as it is; known when all of it was read.
    pub remarks: Remarks,
}

/// What Cove says of a [`Download`] behind its last byte.
#[derive(Debug, Clone, Default)]
pub struct Remarks(Arc<OnceLock<Vec<String>>>);

impl Remarks {
    /// A line each; none before all of it was read.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        self.0.get().map_or(&[], Vec::as_slice)
    }
}

/// Where a [`Download`] comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    client: Client,
    target: Target,
}

impl Origin {
    /// What Cove says of a file that came no further than `offset`; `None` when all of the rest can
    /// be read now.
    pub async fn find_fault(&self, offset: u64) -> Option<ClientError> {
        let mut target = self.target.clone();
        let mut at = offset;
        let mut is_piece = false;
        loop {
            target.range = Some((at, is_piece.then(|| at + (FAULT_PIECE_BYTES - 1))));
            let sent = self.client.send(&target, None, BoxBody::default(), "").await;
            let mut body = match sent {
                Ok(response) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    response.into_body()
                }
                Ok(_) => return None,
                // There is nothing from there on.
                Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::Invalid => {
                    return None;
                }
                // It broke off so early that its head was lost with it.
                Err(ClientError::Lost { .. }) if !is_piece => {
                    is_piece = true;
                    continue;
                }
                Err(error) => return Some(error),
            };
            let before = at;
            // What comes before the fault is of no interest.
            let broke = loop {
                match body.frame().await {
                    Some(Ok(frame)) => at += frame.data_ref().map_or(0, Bytes::len) as u64,
                    Some(Err(_)) => break true,
                    None => break false,
                }
            };
            let no_further = at == before;
            match (is_piece, broke) {
                (false, false) => return None,
                (true, _) if no_further => return None,
                // What a server has read before the fault may be lost with the stream that breaks
                // off. A short piece either comes whole or is refused with the reason.
                (false, true) => is_piece = no_further,
                (true, _) => is_piece = false,
            }
        }
    }
}

impl Download {
    /// Its bytes. A stream that breaks off ends in an error, never as if it were whole; when Cove
    /// says why, [`ClientError::find_problem`] finds it there.
    pub fn reader(self) -> impl AsyncRead + Send + Unpin + 'static {
        let remarks = self.remarks;
        let piece = move |frame: hyper::Result<Frame<Bytes>>| {
            std::future::ready(match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => Some(Ok(bytes)),
                Ok(Err(last)) => heed(last.trailers_ref(), &remarks).err().map(Err),
                Err(error) => Some(Err(io::Error::other(error))),
            })
        };
        let pieces = BodyStream::new(self.body).filter_map(piece);
        tokio_util::io::StreamReader::new(pieces)
    }
}

/// Takes in what stands behind the last byte of an answer.
///
/// # Errors
///
/// The answer is not whole, for the reason that stands there.
fn heed(trailers: Option<&HeaderMap>, remarks: &Remarks) -> io::Result<()> {
    let said = |name| trailers?.get(name).map(hyper::header::HeaderValue::as_bytes);
    if let Some(problem) = said("cove-problem") {
        return Err(io::Error::other(match serde_json::from_slice(problem) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(error) => ClientError::Protocol {
                call: "an archive".to_owned(),
                what: format!("trailer Cove-Problem, {error}"),
            },
        }));
    }
    if let Some(Ok(lines)) = said("cove-remarks").map(serde_json::from_slice) {
        // Nothing else sets it.
        drop(remarks.0.set(lines));
    }
    Ok(())
}

impl Client {
    pub(super) async fn download(&self, target: Target) -> Result<Download, ClientError> {
        let origin = Origin { client: self.clone(), target: target.clone() };
        let response = self.repeat(&target, None, &Payload::Nothing).await?;
        let length = response.headers().get(header::CONTENT_LENGTH);
        let bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(Download { body: response.into_body(), bytes, origin, remarks: Remarks::default() })
    }
}
