//! Looking for changes and capturing them for nobody in particular.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cove_content::volumes::VolumeError;
use cove_types::{Classify, ErrorKind, chain};
use tokio::sync::oneshot;

use crate::capture::late_writes::rescue_late_writes;
use crate::capture::replaced::look_at_replaced;
use crate::capture::snapshot::freeze;
use crate::capture::{enqueue, generation, is_swap_file, pool_failed};
use crate::node::Inner;
use crate::volume::{Ended, Trouble, Turn, Volume};
use crate::work::{Pending, Work};

/// How long no look takes a snapshot after the one before, while there is hardly any room for metadata,
/// or was none for a snapshot. What is removed meanwhile shares its metadata with none, as soon as that one
/// is saved and gone, and makes room at once.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(10);

/// Captures the present state when it has changed since it was last stored, for nobody in particular.
pub(crate) fn background(
    inner: &Inner,
    volume: &Arc<Volume>,
) -> Result<oneshot::Receiver<Ended>, VolumeError> {
    let mut pending = Pending {
        operation: inner.env.operation_id(volume.state().seq()),
        generation: 0,
        volume: volume.id.clone(),
        principal: "cove".into(),
        request: [0; 8],
        failed: None,
        work: Work::Background,
    };
    let _held = volume.hold([pending.operation]);
    let frozen = freeze(inner, volume, &mut pending)?;
    let end = enqueue(inner, volume, pending)?;
    frozen.written(volume);
    Ok(end)
}

/// Looks at every volume once and captures those that changed.
pub(crate) fn look_at_all(inner: &Arc<Inner>) {
    if inner.stopping.load(Ordering::SeqCst) {
        return;
    }
    let now = inner.env.since_boot();
    let volumes = inner.all_volumes().into_iter().map(|volume| {
        let begun = volume.state().changes.begin();
        (volume, begun)
    });
    // before the files reach the disk, where a look sees them
    let volumes: Vec<_> = volumes.collect();
    if let Err(error) = inner.pool.flush() {
        tracing::error!(error = chain(&error), "the pool cannot be written to");
    }
    let is_short = inner.pool.space().is_ok_and(|space| space.is_metadata_full);
    let pause = if is_short { NO_ROOM_PAUSE } else { Duration::ZERO };
    let at = Moment { now, pause };
    for (volume, begun) in volumes {
        if inner.stopping.load(Ordering::SeqCst) {
            return;
        }
        let looked = caught(|| look_at(inner, &volume, begun, at));
        // a swap file is told by itself
        if let Err(error) =
            looked.or_else(|error| if is_swap_file(&error) { Ok(()) } else { Err(error) })
        {
            let what = chain(&error);
            tracing::warn!(volume = %volume.id, what, "a volume was not looked at");
            let mut state = volume.state();
            let since = state.looking.as_ref().map_or(inner.env.now(), |old| old.since);
            state.looking = Some(Trouble { what, kind: error.kind(), since });
        } else {
            volume.state().looking = None;
        }
    }
}

/// Looks at one volume. A look that panics, which the log has, is an error of that volume and keeps no other from being
/// looked at.
fn caught(look: impl FnOnce() -> Result<(), VolumeError>) -> Result<(), VolumeError> {
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| {
        let what = "looking ended without an answer; the log has why".to_owned();
        Err(VolumeError::Refused { kind: ErrorKind::Internal, what })
    })
}

/// When a look begins, and the least time since the last snapshot.
#[derive(Clone, Copy)]
struct Moment {
    now: Duration,
    pause: Duration,
}

fn look_at(inner: &Inner, volume: &Arc<Volume>, begun: u64, at: Moment) -> Result<(), VolumeError> {
    {
        let state = volume.state();
        // what is captured already will be saved in its turn, and a look comes after it
        if !state.is_live() || !state.queue.is_empty() || state.fenced {
            return Ok(());
        }
    }
    // somebody captures now; the next look comes soon
    let Ok(_turn) = volume.capture.try_lock() else { return Ok(()) };
    refuse_without_room(volume, at.now)?;
    // what cannot be looked at beside the files keeps them from nothing
    let beside = rescue_late_writes(inner, volume).and(look_at_replaced(inner, volume));
    let is_due = is_due(inner, volume, at);
    capture_changed(inner, volume, begun, is_due).and(beside)
}

/// Refuses a look soon after there was no room for a snapshot.
fn refuse_without_room(volume: &Volume, now: Duration) -> Result<(), VolumeError> {
    match &volume.state().no_room {
        Some((at, what)) if now.saturating_sub(*at) < NO_ROOM_PAUSE => {
            Err(VolumeError::Refused { kind: ErrorKind::Exhausted, what: what.clone() })
        }
        _ => Ok(()),
    }
}

/// Whether what has changed is captured by a look, or left to a later one.
fn is_due(inner: &Inner, volume: &Volume, at: Moment) -> bool {
    let options = &inner.options;
    let state = volume.state();
    let is_over =
        |wait: Duration| state.stored_at.is_none_or(|stored| at.now.saturating_sub(stored) >= wait);
    let store_every = state.spec().storing_interval().unwrap_or(options.store_every);
    // what could not be captured is tried at each look
    let is_late = state.swap_file.is_some() || is_over(store_every);
    is_over(at.pause) && (store_every <= options.look_every || is_late)
}

/// Captures the present state when the head is another and it is due; `begun` is of before the files
/// were written to disk. It is the caller's turn to capture.
fn capture_changed(
    inner: &Inner,
    volume: &Arc<Volume>,
    begun: u64,
    is_due: bool,
) -> Result<(), VolumeError> {
    if volume.state().will_be_deleted() {
        return Ok(());
    }
    let live = generation(inner, &volume.id)?;
    let unchanged = {
        let state = volume.state();
        let tree = state.known.as_ref().map(|known| known.head.now.tree);
        state.queue.is_empty()
            && !state.mend
            && state
                .copy
                .as_ref()
                .is_some_and(|copy| copy.generation == live && Some(copy.tree) == tree)
    };
    if !unchanged && is_due {
        return background(inner, volume).map(drop);
    }
    let mut state = volume.state();
    state.changes.looked(begun, !unchanged);
    if unchanged {
        state.swap_file = None;
    }
    Ok(())
}

/// Captures one volume when it has changed, after whatever is being captured now; for whoever needs
/// all that was written before this call in the store.
pub(crate) fn look_at_one(
    inner: &Inner,
    volume: &Arc<Volume>,
    _turn: Turn,
) -> Result<(), VolumeError> {
    let begun = volume.state().changes.begin();
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))?;
    let goes_on = {
        let state = volume.state();
        state.is_live() && !state.fenced
    };
    if goes_on { capture_changed(inner, volume, begun, true) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_panics_is_an_error_of_its_volume_alone() {
        caught(|| Ok(())).unwrap();
        let error = caught(|| panic!("as a bug does")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(chain(&error), "looking ended without an answer; the log has why");
    }
}
