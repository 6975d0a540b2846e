//! A change of the head that brings a snapshot.

use std::cell::RefCell;
use std::sync::Arc;

use cove_content::chunks::Chunks;
use cove_content::entry::EntryRecord;
use cove_content::gather::gather;
use cove_content::head::{Head, Op, RootFrame, Stamp, TransitionError};
use cove_content::locations::{Locations, PackRef};
use cove_content::root::Root;
use cove_content::session::{Session, SessionError};
use cove_content::volumes::Progress;
use cove_types::{Classify, Digest, EntryId, ErrorKind, chain};

use crate::node::Inner;
use crate::save::SaveError;
use crate::save::finish::finish;
use crate::save::head_put::{PUT_ATTEMPTS, put_head, put_or_begin_again, remember};
use crate::save::older::{chunks_of, moved_out};
use crate::save::snapshot::{StoredRoot, Turn, store_snapshot};
use crate::save::{document_in_turn, known_of, op, stamp};
use crate::volume::{Ended, Known, Volume};
use crate::work::{Pending, Work};

fn elapsed_ms(inner: &Inner, entry: &EntryRecord) -> u64 {
    let elapsed = inner.env.now().as_millisecond() - entry.time.as_millisecond();
    u64::try_from(elapsed).unwrap_or(0).max(entry.captured_ms)
}

/// What a transition made besides the head: the answer of the work.
pub(crate) struct Made {
    pub entry: Option<EntryId>,
    pub rolled_off: Vec<EntryId>,
}

impl Made {
    /// As the head's list of operations tells it: the entry asked for first.
    fn told(&self) -> Vec<EntryId> {
        self.entry.iter().chain(&self.rolled_off).copied().collect()
    }
}

/// Stores the work's snapshot and puts the head that `transition` makes of it.
///
/// A state that the head has already (`is_there`) is no reason for a PUT, unless all of it is put anew.
pub(crate) fn commit(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    mut ended: Ended,
    is_there: impl Fn(&Head, &Root) -> bool,
    transition: impl Fn(&Head, Root, &mut Made, Stamp, Option<Op>) -> Result<Head, TransitionError>,
) -> Result<Ended, SaveError> {
    for _ in 0..PUT_ATTEMPTS {
        let known = known_of(volume)?;
        let chunks = chunks_of(inner, &known.head.locations);
        let current = RefCell::new(known);
        let before = current.borrow().clone();
        // what was found damaged is put anew, and the younger place of a chunk is where it is read
        let is_present = matches!(pending.work, Work::Background | Work::Snapshot { .. });
        let mends = is_present && volume.state().mend;
        let nothing = chunks_of(inner, &Locations::default());
        let believed = if mends { &nothing } else { &chunks };
        let session =
            Session::new(believed, &inner.env, &volume.id, inner.options.pin, Progress::default());
        let list = |packs: &[PackRef]| list_packs(inner, volume, &chunks, &current, packs);
        let mut session = session.listing(Box::new(list));
        let StoredRoot { root, chunk_of_lacks } =
            store_snapshot(inner, volume, &before, pending, &mut session, &chunks, !mends)?;
        // the same state, though perhaps with packs listed meanwhile
        let known = current.borrow().clone();
        let joined = known
            .head
            .join(&known.older)
            .map_err(|error| SaveError::later("failed to read older entries", &error))?;
        if is_there(&joined, &root) && !mends {
            ended.entry = None;
            return finish(inner, volume, pending, &known, ended, true);
        }
        let stamp = stamp(inner);
        let mut made = Made { entry: ended.entry, rolled_off: Vec::new() };
        let told = made.told();
        let mut next =
            transition(&joined, root.clone(), &mut made, stamp, Some(op(pending, told.clone())))?;
        // the head carries the whole answer, also what only the transition could tell
        if made.told() != told {
            let op = op(pending, made.told());
            next = transition(&joined, root.clone(), &mut made, stamp, Some(op))?;
        }
        let known = match put_stored(
            &Turn { inner, volume, pending, known: &known },
            session,
            next,
            chunk_of_lacks,
            &chunks,
        )? {
            Some(known) => known,
            None => continue,
        };
        if mends {
            tracing::info!(volume = %volume.id, "all of the present state was put anew");
            volume.state().mend = false;
        }
        ended.entry = made.entry;
        ended.rolled_off = made.rolled_off;
        return finish(inner, volume, pending, &known, ended, true);
    }
    Err(SaveError::Later {
        kind: ErrorKind::Conflict,
        what: "the head changes all the time".into(),
    })
}

/// Names packs of a long session in the head, same tree, so that an interrupted one goes on from them.
fn list_packs(
    inner: &Inner,
    volume: &Volume,
    chunks: &Chunks,
    current: &RefCell<Known>,
    packs: &[PackRef],
) -> Result<(), SessionError> {
    let failed = |error: SaveError| match error {
        SaveError::Refused { kind, what } | SaveError::Later { kind, what } => {
            SessionError::List { kind, what }
        }
        SaveError::Fenced { what } => SessionError::List { kind: ErrorKind::Conflict, what },
    };
    let known = current.borrow().clone();
    let mut locations = known.head.locations.clone();
    locations.packs.extend_from_slice(packs);
    let next = known
        .head
        .relocate(locations, known.head.root_frame, stamp(inner))
        .map_err(|error| failed(error.into()))?;
    let next = gather(chunks, next, &inner.env, inner.options.pin)
        .map_err(|error| SessionError::List { kind: error.kind(), what: chain(&error) })?;
    let known = put_head(inner, &volume.id, Some(&known), next, known.older.clone(), None)
        .map_err(failed)?;
    remember(inner, volume, known.clone()).map_err(failed)?;
    current.replace(known);
    Ok(())
}

/// Ends a session and puts the head; `None` when another change was faster and all begins again.
fn put_stored(
    Turn { inner, volume, pending, known }: &Turn<'_>,
    mut session: Session<'_>,
    mut next: Head,
    chunk_of_lacks: Option<Vec<u8>>,
    chunks: &Chunks,
) -> Result<Option<Known>, SaveError> {
    let failed = |error: SessionError| SaveError::later("failed to store", &error);
    let document = document_in_turn(volume, known);
    if let Some(document) = &document {
        let bytes = document.encode();
        // only an entry needs the document apart from the head
        if next.entries.iter().any(|entry| entry.root.document == Digest::of(&bytes)) {
            session.put_meta(Digest::of(&bytes), &bytes).map_err(failed)?;
        }
        next.document = Some(document.clone());
    }
    if let Some(lacks) = chunk_of_lacks {
        session.put_meta(Digest::of(&lacks), &lacks).map_err(failed)?;
    }
    let mut older = next.name_again(known.head.older.as_ref());
    if let Some(chunk) = next.spill(older.clone()) {
        session.put_meta(Digest::of(&chunk), &chunk).map_err(failed)?;
        older = moved_out(&next, &chunk)?;
    }
    let packed = session.finish(&next.record()).map_err(failed)?;
    // as late as a record can say it: only the head's own PUT is still to come
    for entry in next.entries.iter_mut().filter(|entry| entry.saved_ms.is_none()) {
        entry.saved_ms = Some(elapsed_ms(inner, entry));
    }
    next.locations = known.head.locations.clone();
    next.locations.packs.extend(packed.packs.iter().map(|(pack, _)| *pack));
    let tree = next.now.tree;
    next.root_frame = packed
        .find(&tree)
        .or_else(|| {
            let place = chunks.locate(&tree).ok().flatten()?;
            Some((place.pack, place.row))
        })
        .map(|(pack, row)| RootFrame { pack, offset: row.frame_offset, bytes: row.frame_bytes });
    let next = gather(chunks, next, &inner.env, inner.options.pin)
        .map_err(|error| SaveError::later("failed to gather packs", &error))?;
    put_or_begin_again(inner, volume, known, next, older, &pending.operation)
}
