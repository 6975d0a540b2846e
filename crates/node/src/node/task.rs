//! The task of one volume.

use std::sync::Arc;

use cove_types::ErrorKind;
use tokio::sync::oneshot;

use crate::claim::Holding;
use crate::node::{Inner, RETRY};
use crate::save;
use crate::save::SaveError;
use crate::volume::{Ended, Trouble, Volume};
use crate::work::{Pending, Work};

/// The task of one volume: saves its work in the order in which it was captured.
pub(crate) async fn save_in_turn(inner: Arc<Inner>, volume: Arc<Volume>) {
    let mut wait = RETRY.0;
    loop {
        let next = volume.state().queue.front().cloned();
        let Some(pending) = next else {
            if inner.find_volume(&volume.id).is_none() {
                // nothing is left of it
                return;
            }
            if inner.holding() == Holding::Held {
                let Ok(_permit) = Arc::clone(&inner.saving).acquire_owned().await else { return };
                save::bring_lacks(&inner, &volume).await;
            }
            volume.wake.notified().await;
            continue;
        };
        if inner.holding() != Holding::Held || volume.state().fenced {
            // a wake-up may be older than the hold: look again soon
            let _ = tokio::time::timeout(RETRY.0, volume.wake.notified()).await;
            continue;
        }
        let Ok(permit) = Arc::clone(&inner.saving).acquire_owned().await else { return };
        let saving = (Arc::clone(&inner), Arc::clone(&volume), pending.clone(), permit);
        let saved = tokio::task::spawn_blocking(move || {
            let (inner, volume, pending, _permit) = saving;
            save::save(&inner, &volume, &pending)
        })
        .await;
        let ended = match saved {
            Ok(Ok(ended)) => ended,
            Ok(Err(SaveError::Refused { kind, what })) if is_set_aside(&pending, kind) => {
                tracing::error!(volume = %volume.id, operation = %pending.operation, what, "a rescue waits");
                let (ended, waiting) = volume.set_aside(&pending, &what, inner.env.now());
                tell(waiting, &ended);
                continue;
            }
            Ok(Err(SaveError::Refused { kind, what })) => {
                Ended { failure: Some((kind, what)), ..Ended::default() }
            }
            Ok(Err(SaveError::Fenced { what })) => {
                tracing::error!(volume = %volume.id, what, "the volume belongs to another node");
                let waiting = {
                    let mut state = volume.state();
                    state.fenced = true;
                    let since = inner.env.now();
                    state.saving = Some(Trouble { what, kind: ErrorKind::Precondition, since });
                    std::mem::take(&mut state.waiting)
                };
                tell(waiting.into_values().flatten().collect(), &Ended::fenced());
                // the whole store is lost then, mostly: known now and not at the next renewal
                inner.hold.renew.notify_one();
                continue;
            }
            Ok(Err(SaveError::Later { kind, what })) => {
                tracing::warn!(volume = %volume.id, operation = %pending.operation, kind = ?kind, what, "saving waits");
                volume.state().troubled(what, kind, inner.env.now());
                // new work, or a head that was missing, may change the answer
                let _ = tokio::time::timeout(wait, volume.wake.notified()).await;
                wait = (wait * 2).min(RETRY.1);
                continue;
            }
            Err(error) => {
                tracing::error!(volume = %volume.id, %error, "saving ended without an answer");
                let what = "saving ended without an answer; the log has why".to_owned();
                volume.state().troubled(what, ErrorKind::Internal, inner.env.now());
                tokio::time::sleep(RETRY.1).await;
                continue;
            }
        };
        wait = RETRY.0;
        if ended.failure.is_some() {
            let failing = (Arc::clone(&inner), Arc::clone(&volume), pending.clone(), ended.clone());
            let recorded = tokio::task::spawn_blocking(move || {
                save::record_failure(&failing.0, &failing.1, &failing.2, &failing.3)
            })
            .await;
            let (what, kind) = match recorded {
                Ok(Ok(())) => (None, ErrorKind::Internal),
                Ok(Err(SaveError::Refused { kind, what } | SaveError::Later { kind, what })) => {
                    (Some(what), kind)
                }
                Ok(Err(SaveError::Fenced { what })) => (Some(what), ErrorKind::Precondition),
                Err(error) => (Some(error.to_string()), ErrorKind::Internal),
            };
            if let Some(what) = what {
                tracing::warn!(volume = %volume.id, operation = %pending.operation, what, "a failure is not written down yet");
                volume.state().troubled(what, kind, inner.env.now());
                tokio::time::sleep(RETRY.1).await;
                continue;
            }
        }
        let waiting = {
            let mut state = volume.state();
            state.queue.retain(|other| other.operation != pending.operation);
            state.saving = None;
            if let (Work::Background, Some((kind @ ErrorKind::Internal, what))) =
                (&pending.work, ended.failure.clone())
            {
                // nobody waits for it who would be told
                state.troubled(what, kind, inner.env.now());
            }
            state.waiting.remove(&pending.operation).unwrap_or_default()
        };
        tell(waiting, &ended);
        volume.bring_back();
    }
}

fn tell(waiting: Vec<oneshot::Sender<Ended>>, ended: &Ended) {
    for waiter in waiting {
        let _ = waiter.send(ended.clone());
    }
}

/// Whether work that is refused is kept until there is room: what it would save is in nothing else, and it
/// is the timeline that has none.
fn is_set_aside(pending: &Pending, kind: ErrorKind) -> bool {
    matches!(pending.work, Work::Rescue { .. }) && kind == ErrorKind::Exhausted
}
