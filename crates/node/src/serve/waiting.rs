//! What a call waits for: blocking work, its turn to ask the store, and the end of what was captured.

use std::sync::Arc;

use cove_content::volumes::{Saving, VolumeError};
use cove_types::ErrorKind;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::capture::Asked;
use crate::node::{Inner, Node};
use crate::volume::{Ended, Volume};

/// Runs blocking work of a call.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(VolumeError::Stopping),
    }
}

/// Captures something, although whoever waits for it goes away.
pub(super) async fn whoever_waits<T: Send + 'static>(
    capture: impl Future<Output = Result<T, VolumeError>> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::spawn(capture.in_current_span()).await {
        Ok(captured) => captured,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(VolumeError::Stopping),
    }
}

/// The end of captured work.
pub(super) async fn end(inner: &Inner, asked: Asked) -> Result<Ended, VolumeError> {
    let ended = match asked {
        Asked::New => Ended::default(),
        Asked::Pending(receiver) => end_of(inner, receiver).await?,
        Asked::Ended(ended) => *ended,
    };
    match ended.failure {
        Some((kind, what)) => Err(VolumeError::Refused { kind, what }),
        None => Ok(ended),
    }
}

/// Waits for the end of work, or of the node.
pub(super) async fn end_of(
    inner: &Inner,
    end: oneshot::Receiver<Ended>,
) -> Result<Ended, VolumeError> {
    let mut ending = inner.ending.subscribe();
    tokio::select! {
        ended = end => ended.map_err(|_| VolumeError::Stopping),
        _ = ending.wait_for(|ending| *ending) => Err(VolumeError::Stopping),
    }
}

/// The future that ends when captured work is saved.
pub(super) fn saving<T: Send + 'static>(
    inner: &Arc<Inner>,
    asked: Asked,
    value: impl FnOnce(&Ended) -> Result<T, VolumeError> + Send + 'static,
) -> Saving<T> {
    let inner = Arc::clone(inner);
    Box::pin(async move {
        let ended = end(&inner, asked).await?;
        value(&ended)
    })
}

impl Node {
    /// Runs blocking work of a call that may ask the store: not many at once, since each may wait as
    /// long as the store lets it.
    pub(super) async fn asking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, VolumeError> {
        let asking = Arc::clone(&self.inner.asking).acquire_owned();
        let permit = asking.await.map_err(|_| VolumeError::Stopping)?;
        blocking(move || {
            let _permit = permit;
            work()
        })
        .await
    }

    /// Waits until all that is captured of a volume and can be saved is.
    pub(super) async fn saved(&self, volume: &Volume) -> Result<(), VolumeError> {
        // the head of a fork comes when its source is saved, and its own work after that
        while volume.state().is_empty_handed() {
            let Some(receiver) = self.inner.end_of_fork(&volume.id) else { break };
            end(&self.inner, Asked::Pending(receiver)).await?;
        }
        loop {
            let (waiting, was_aside) = {
                let mut state = volume.state();
                (state.end_of_all(), !state.aside.is_empty())
            };
            for receiver in waiting {
                end(&self.inner, Asked::Pending(receiver)).await?;
            }
            // what was aside may be in the queue by now
            if !was_aside || !volume.state().aside.is_empty() {
                break;
            }
        }
        match volume.state().known {
            Some(_) => Ok(()),
            None => Err(VolumeError::Refused {
                kind: ErrorKind::Unavailable,
                what: "nothing of it is saved, and nothing is on its way".to_owned(),
            }),
        }
    }
}
