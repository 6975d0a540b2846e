//! The task of one volume.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use cove_types::ErrorKind;
use futures::FutureExt;
use tokio::sync::oneshot;

use crate::claim::Holding;
use crate::node::{Inner, RETRY};
use crate::save;
use crate::save::SaveError;
use crate::volume::{Ended, Trouble, Volume};
use crate::work::{Pending, Work};

/// What is said of work whose saving panicked.
const NO_ANSWER: &str = "saving ended without an answer; the log has why";

/// Runs a task of the node to its end. One that panics is told of, in the log and by `told`, and begun again after
/// `pause`: nobody else would before the next start.
pub(crate) async fn to_its_end<F: Future<Output = ()>>(
    what: &'static str,
    pause: Duration,
    begin: impl Fn() -> F,
    told: impl Fn(),
) {
    while AssertUnwindSafe(begin()).catch_unwind().await.is_err() {
        tracing::error!(what, "a task of the node has panicked, and is begun again");
        told();
        tokio::time::sleep(pause).await;
    }
}

/// Saves the work of a volume until nothing is left of it.
pub(crate) async fn keep_saving(inner: Arc<Inner>, volume: Arc<Volume>) {
    let begin = || save_in_turn(Arc::clone(&inner), Arc::clone(&volume));
    let told = || {
        let mut state = volume.state();
        // where nothing waits, nothing is amiss that a user has to hear of
        if !state.queue.is_empty() {
            state.troubled(NO_ANSWER.to_owned(), ErrorKind::Internal, inner.env.now());
        }
    };
    to_its_end("save", RETRY.1, begin, told).await;
}

/// The task of one volume: saves its work in the order in which it was captured.
async fn save_in_turn(inner: Arc<Inner>, volume: Arc<Volume>) {
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
                volume.state().troubled(NO_ANSWER.to_owned(), ErrorKind::Internal, inner.env.now());
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_told_of_and_begun_again() {
        let (begun, told) = (AtomicU32::new(0), AtomicU32::new(0));
        let begin = || async {
            tokio::task::yield_now().await;
            assert!(begun.fetch_add(1, Ordering::SeqCst) == 2, "as a bug does");
        };
        let tell = || {
            told.fetch_add(1, Ordering::SeqCst);
        };
        to_its_end("save", Duration::ZERO, begin, tell).await;
        assert_eq!((begun.into_inner(), told.into_inner()), (3, 2));
    }
}
