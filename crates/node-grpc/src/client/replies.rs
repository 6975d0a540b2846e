//! Replies of a node that come in several messages.

use std::io::Write;

use cove_content::volumes::{Captured, Progress, VolumeError};
use cove_types::ErrorKind;
use futures::executor::block_on;
use futures::future::{Either, select};
use tokio::sync::oneshot;
use tonic::Streaming;

use crate::connection::{Effect, Peer};
use crate::field::FieldError;
use crate::list::Batch;
use crate::pb;
use crate::pb::Mark;
use crate::pb::export_response::Part;
use crate::pieces::Turn;
use crate::steps::{Parts, Reply, Step};

/// A reply in steps.
pub(super) struct Steps<R> {
    pub(super) from: Streaming<R>,
    pub(super) peer: Peer,
    pub(super) effect: Effect,
    /// Where to say how far the call is, or each of the calls that are made together.
    pub(super) progress: Vec<Progress>,
}

impl<R: Reply> Steps<R> {
    /// What the call came to, up to a mark.
    pub(super) async fn until<T: Parts<R>>(&mut self, mark: Mark) -> Result<T, VolumeError> {
        let mut parts = Vec::new();
        loop {
            let reply = match self.from.message().await {
                Ok(Some(reply)) => reply,
                Ok(None) => return Err(self.peer.lost(self.effect)),
                Err(status) => return Err(self.peer.error(self.effect, &status)),
            };
            match reply.step() {
                // a step that only a newer node knows
                None => {}
                Some(Step::Part(part)) => parts.push(part),
                Some(Step::Progress(index, now)) => {
                    if let Some(progress) = self.progress.get(index) {
                        progress.update(|progress| *progress = now);
                    }
                }
                Some(Step::Mark(found)) if found == i32::from(mark) => {
                    return T::gather(parts).map_err(|error| self.peer.unlawful(&error));
                }
                Some(Step::Mark(found)) => {
                    let law = format!("{} comes first, found {found}", mark.as_str_name());
                    return Err(self.peer.unlawful(&FieldError::unlawful("mark", law)));
                }
            }
        }
    }

    /// What is captured now, and saved later. Nothing is read meanwhile, and so nothing is said of how far it is,
    /// unless somebody awaits that.
    pub(super) async fn captured<T>(mut self) -> Result<Captured<T>, VolumeError>
    where
        T: Parts<R> + Send + 'static,
    {
        let value = self.until(Mark::Captured).await?;
        let saved = Box::pin(async move { self.until(Mark::Saved).await });
        Ok(Captured { value, saved })
    }
}

/// A list, which is whole when that is said.
pub(super) async fn list<B: Batch>(
    mut from: Streaming<B>,
    peer: &Peer,
    effect: Effect,
) -> Result<B::List, VolumeError> {
    let mut list = B::List::default();
    loop {
        let mut batch = match from.message().await {
            Ok(Some(batch)) => batch,
            Ok(None) => return Err(peer.lost(effect)),
            Err(status) => return Err(peer.error(effect, &status)),
        };
        let is_last = *batch.last();
        batch.gather(&mut list).map_err(|error| peer.unlawful(&error))?;
        if is_last {
            return Ok(list);
        }
    }
}

/// Writes an archive as it comes, in a thread that blocks, and gives the remarks. Dropping this ends it.
pub(super) async fn write(
    from: Streaming<pb::ExportResponse>,
    peer: Peer,
    to: Box<dyn Write + Send>,
    turn: Turn,
) -> Result<Vec<String>, VolumeError> {
    let (_wanted, gone) = oneshot::channel::<()>();
    let written = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        write_until(from, &peer, to, gone)
    });
    written.await.unwrap_or_else(|error| {
        let (kind, what) = (ErrorKind::Internal, "failed to write the archive".into());
        Err(VolumeError::Failed { kind, what, source: Box::new(error) })
    })
}

fn write_until(
    mut from: Streaming<pb::ExportResponse>,
    peer: &Peer,
    mut to: Box<dyn Write + Send>,
    mut gone: oneshot::Receiver<()>,
) -> Result<Vec<String>, VolumeError> {
    let failed = |source: std::io::Error| VolumeError::Failed {
        kind: ErrorKind::Unavailable,
        what: "failed to write the archive".into(),
        source: Box::new(source),
    };
    let mut remarks = Vec::new();
    loop {
        let message = std::pin::pin!(from.message());
        let message = match block_on(select(&mut gone, message)) {
            Either::Left(_) => return Err(peer.lost(Effect::Nothing)),
            Either::Right((message, _)) => message,
        };
        let part = match message {
            Ok(Some(message)) => message.part,
            Ok(None) => return Err(peer.lost(Effect::Nothing)),
            Err(status) => return Err(peer.error(Effect::Nothing, &status)),
        };
        match part {
            // a part that only a newer node knows
            None => {}
            Some(Part::Piece(bytes)) => to.write_all(&bytes).map_err(failed)?,
            Some(Part::Remark(remark)) => remarks.push(remark),
            Some(Part::End(pb::End {})) => {
                to.flush().map_err(failed)?;
                return Ok(remarks);
            }
        }
    }
}
