//! Heads that the node's database has lost, from the store again.

use std::sync::Arc;

use cove_content::head::Head;
use cove_types::{ErrorKind, VolumeId};

use crate::claim::Holding;
use crate::node::Inner;
use crate::save::{SaveError, find_head, keep_unknown, read_older, remember};
use crate::volume::{Known, Trouble, Volume};
use crate::work::Work;

/// As [`reread_heads_alone`], unless a recovery is running, which does the same first. Blocks.
pub(crate) fn reread_heads(inner: &Arc<Inner>) {
    if let Ok(_only) = inner.recovering.try_lock() {
        reread_heads_alone(inner);
    }
}

/// Reads the heads again that were kept and could not be read; what the store does not give now is asked
/// for another time. Its caller is the only one that takes volumes from the store. Blocks.
pub(crate) fn reread_heads_alone(inner: &Arc<Inner>) {
    let unread: Vec<VolumeId> = inner.unread().iter().cloned().collect();
    for id in unread {
        if inner.holding() != Holding::Held {
            return;
        }
        match reread(inner, &id) {
            Ok(()) => {
                inner.unread().remove(&id);
                tracing::warn!(volume = %id, "what the store says of a head was read again");
            }
            Err(
                SaveError::Later { what, .. }
                | SaveError::Refused { what, .. }
                | SaveError::Fenced { what },
            ) => {
                tracing::warn!(volume = %id, what, "a head is not read again yet");
            }
        }
    }
}

/// Forgets one that is deleted: of its head nothing comes back, and no name is kept for it. Files that are here stay.
fn forget(inner: &Inner, id: &VolumeId) -> Result<(), SaveError> {
    inner.give_up(id);
    let volume = inner.find_volume(id);
    if volume.is_some_and(|volume| !volume.state().queue.is_empty()) {
        return Err(SaveError::Fenced { what: format!("volume {id} is deleted") });
    }
    inner
        .wait(inner.database.delete_head(id))
        .map_err(|error| SaveError::later("failed to forget a head", &error))?;
    inner.forget(id);
    Ok(())
}

/// Whether the copy here is known to be of another state than a head's, and not because a restore is being made.
pub(crate) fn is_other_state(volume: &Volume, head: &Head) -> bool {
    let state = volume.state();
    let restores = |work: &Work| matches!(work, Work::Restore { .. });
    let is_between = state.queue.iter().any(|pending| restores(&pending.work));
    !is_between && state.copy.as_ref().is_some_and(|copy| copy.tree != head.now.tree)
}

fn reread(inner: &Arc<Inner>, id: &VolumeId) -> Result<(), SaveError> {
    let Some((head, version)) = find_head(inner, id)? else { return forget(inner, id) };
    if head.volume != *id {
        let what = format!("the object there is the head of volume {}", head.volume);
        return Err(SaveError::Refused { kind: ErrorKind::Corrupt, what });
    }
    let older = read_older(inner, &head)?;
    let mut known = Known { head, older, version };
    let volume = inner.find_volume(id).unwrap_or_else(|| Arc::new(Volume::new(id.clone())));
    let is_ours = known.head.holder == inner.options.node;
    if is_ours && is_other_state(&volume, &known.head) {
        // nothing tells any more whether this copy's next state comes after it
        known = keep_unknown(inner, id, &known)?;
    }
    let (document, saved_at) = (known.head.document.clone(), known.head.time);
    remember(inner, &volume, known)?;
    {
        let mut state = volume.state();
        if state.document.is_none() {
            state.document = document;
        }
        state.saved_at = Some(saved_at);
        state.fenced = !is_ours;
        state.reread = Some(Trouble {
            what:
                "what this machine remembered of its head was damaged, and was read from the store \
                   again"
                    .into(),
            kind: ErrorKind::Corrupt,
            since: inner.env.now(),
        });
    }
    inner.adopt(&volume);
    Ok(())
}
