//! A change of the head alone.

use std::sync::Arc;

use cove_content::gather::gather;
use cove_content::head::{EntryEdit, Head, OlderEntries, Op, Stamp, TransitionError};
use cove_content::session::{Session, SessionError};
use cove_content::volumes::Progress;
use cove_types::{Digest, EntryId, EntryState, ErrorKind};

use crate::node::Inner;
use crate::save::SaveError;
use crate::save::finish::finish;
use crate::save::head_put::{PUT_ATTEMPTS, put_or_begin_again};
use crate::save::older::{chunks_of, moved_out};
use crate::save::{known_of, op, stamp};
use crate::volume::{Ended, Known, Volume};
use crate::work::{Edit, Pending};

pub(crate) fn entry_edit(
    known: &Known,
    entry: &EntryId,
    edit: &Edit,
) -> Result<EntryEdit, TransitionError> {
    Ok(match edit {
        Edit::Pin(pinned) => EntryEdit { pinned: Some(*pinned), ..EntryEdit::default() },
        Edit::Label(label) => EntryEdit { label: Some(label.clone()), ..EntryEdit::default() },
        Edit::Trash => EntryEdit { state: Some(EntryState::Trashed), ..EntryEdit::default() },
        Edit::Undelete { keep } => {
            let record = known.find_entry(entry).ok_or_else(|| TransitionError::NoSuchEntry {
                volume: known.head.volume.clone(),
                entry: *entry,
            })?;
            let counted = known
                .entries()
                .filter(|other| other.is_live() && !other.pinned && other.kind.is_asked_for())
                .count();
            let is_over = record.kind.is_asked_for() && counted as u64 >= u64::from(*keep);
            EntryEdit {
                state: Some(EntryState::Live),
                pinned: is_over.then_some(true),
                ..EntryEdit::default()
            }
        }
    })
}

/// Moves entries out of a head that would be too long, and stores them.
pub(crate) fn spill_head(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    mut next: Head,
    older: OlderEntries,
) -> Result<(Head, OlderEntries), SaveError> {
    let Some(chunk) = next.spill(older.clone()) else { return Ok((next, older)) };
    let chunks = chunks_of(inner, &known.head.locations);
    let mut session =
        Session::new(&chunks, &inner.env, &volume.id, inner.options.pin, Progress::default());
    let failed = |error: SessionError| SaveError::later("failed to store older entries", &error);
    session.put_meta(Digest::of(&chunk), &chunk).map_err(failed)?;
    let packed = session.finish(&next.record()).map_err(failed)?;
    next.locations.packs.extend(packed.packs.iter().map(|(pack, _)| *pack));
    let next = gather(&chunks, next, &inner.env, inner.options.pin)
        .map_err(|error| SaveError::later("failed to gather packs", &error))?;
    let older = moved_out(&next, &chunk)?;
    Ok((next, older))
}

/// A change of the head alone.
pub(crate) fn change_head(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    ended: Ended,
    transition: impl Fn(&Known, Stamp, Op) -> Result<(Head, OlderEntries), TransitionError>,
) -> Result<Ended, SaveError> {
    for _ in 0..PUT_ATTEMPTS {
        let known = known_of(volume)?;
        // after the head: a recovery takes this out of the queue before it makes another owner's head this node's
        if !volume.is_queued(&pending.operation) {
            return Ok(Ended::default());
        }
        let made = ended.entry.into_iter().collect();
        let (next, older) = transition(&known, stamp(inner), op(pending, made))?;
        let (next, older) = spill_head(inner, volume, &known, next, older)?;
        if let Some(known) =
            put_or_begin_again(inner, volume, &known, next, older, &pending.operation)?
        {
            return finish(inner, volume, pending, &known, ended, false);
        }
    }
    Err(SaveError::Later {
        kind: ErrorKind::Conflict,
        what: "the head changes all the time".into(),
    })
}
