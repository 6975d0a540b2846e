//! A state beside the present one that would be lost without an entry.

use std::sync::atomic::Ordering;

use cove_content::chunks::Chunks;
use cove_content::entry::EntryRecord;
use cove_content::gather::gather;
use cove_content::head::{Head, TransitionError};
use cove_content::root::Root;
use cove_content::session::{Session, SessionError};
use cove_content::volumes::Progress;
use cove_objects::Version;
use cove_types::{Classify, Digest, EntryId, EntryKind, ErrorKind, OperationId, VolumeId};

use crate::capture::draft;
use crate::node::Inner;
use crate::save::SaveError;
use crate::save::head_put::{PUT_ATTEMPTS, put_head, read_head, remember};
use crate::save::lineage::{Lineage, lineage};
use crate::save::older::{chunks_of, moved_out, read_older};
use crate::save::stamp;
use crate::volume::{Known, Volume};

/// Why a rescue entry was made, as its record says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Another copy of this Cove saved the state, and this one replaced it.
    AnotherCopy,
    /// Not all of the state could be read when its project was recovered.
    Damage,
    /// The files were on this disk when a project was recovered, and they are others than the store's.
    FoundHere,
    /// A snapshot was on this disk when a project was recovered, and what it was taken for is not known.
    CapturedHere,
}

impl Cause {
    const ALL: [Self; 4] = [Self::AnotherCopy, Self::Damage, Self::FoundHere, Self::CapturedHere];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnotherCopy => "another copy",
            Self::Damage => "damage",
            Self::FoundHere => "found here",
            Self::CapturedHere => "captured here",
        }
    }

    /// For people who read the timeline.
    fn message(self) -> &'static str {
        match self {
            Self::AnotherCopy => "saved by another copy of this Cove",
            Self::Damage => "could not be read in full when the project was recovered",
            Self::FoundHere => "was on this machine when the project was recovered",
            Self::CapturedHere => "captured on this machine; what it was called is lost",
        }
    }

    /// For people who ask how the project is.
    pub fn problem(self) -> &'static str {
        match self {
            Self::AnotherCopy => {
                "another copy of this Cove has saved to this project, and its states are rescue entries"
            }
            Self::Damage => {
                "not everything could be read when the project was recovered, and the damaged state is a \
                 rescue entry"
            }
            Self::FoundHere => {
                "the files that were on this machine when the project was recovered are a rescue entry"
            }
            Self::CapturedHere => {
                "snapshots that were captured on this machine and not saved when its record of them was \
                 lost are rescue entries"
            }
        }
    }

    /// The cause of an entry that nobody has looked at yet: a pin or a label says that somebody has.
    pub fn of_unseen(record: &EntryRecord) -> Option<Self> {
        let is_seen = record.pinned || record.label.is_some();
        if record.kind != EntryKind::Rescue || !record.is_live() || is_seen {
            return None;
        }
        let cause = record.cause.as_deref()?;
        Self::ALL.into_iter().find(|known| known.as_str() == cause)
    }
}

/// The entry that keeps `state`.
pub(crate) fn rescue_of(inner: &Inner, id: EntryId, cause: Cause, state: Root) -> EntryRecord {
    EntryRecord { saved_ms: Some(0), root: state, ..rescue_draft(inner, id, cause) }
}

/// An entry that keeps a state which is still to be stored.
pub(crate) fn rescue_draft(inner: &Inner, id: EntryId, cause: Cause) -> EntryRecord {
    EntryRecord {
        message: Some(cause.message().to_owned()),
        ..draft(inner, id, EntryKind::Rescue, "cove", Some(cause.as_str().to_owned()))
    }
}

/// The id of the entry that keeps `state` for `cause`: repeated, the same one.
pub(crate) fn rescue_id(state: &Root, cause: Cause) -> EntryId {
    let mut id = [0; 16];
    id.copy_from_slice(&state.digest().0[..16]);
    EntryId::derive(&OperationId(id), cause.as_str())
}

/// Goes on from a head that was read instead of the one that was remembered.
///
/// What another copy of this Cove saved becomes an entry before anything replaces it; a head that is
/// our own is only written down.
///
/// # Errors
///
/// [`SaveError`]; the head that was remembered stays so, and the next attempt finds the other again.
pub(crate) fn take_head(
    inner: &Inner,
    volume: &Volume,
    remembered: &Head,
    (mut head, mut version): (Head, Version),
    operation: Option<&OperationId>,
) -> Result<(), SaveError> {
    for _ in 0..PUT_ATTEMPTS {
        if inner.stopping.load(Ordering::SeqCst) {
            // whoever is started next may be at work already, and goes on with this
            let what = "cove is stopping".to_owned();
            return Err(SaveError::Later { kind: ErrorKind::Unavailable, what });
        }
        if head.holder != inner.options.node {
            return Err(SaveError::Fenced {
                what: format!("volume {} is held by another node", volume.id),
            });
        }
        let older = read_older(inner, &head)?;
        let found = Known { head, older, version };
        let before = found.head.document.clone();
        match keep_foreign(inner, &volume.id, remembered, found, operation) {
            Ok((known, Lineage::Own)) => return remember(inner, volume, known),
            Ok((known, Lineage::Foreign { .. })) => {
                remember(inner, volume, known)?;
                if before.is_some() {
                    volume.state().document = before;
                }
                return Ok(());
            }
            Err(SaveError::Later { kind: ErrorKind::Conflict, .. }) => {
                (head, version) = read_head(inner, &volume.id)?;
            }
            Err(error) => return Err(error),
        }
    }
    Err(SaveError::Later {
        kind: ErrorKind::Conflict,
        what: "the head changes all the time".into(),
    })
}

/// Makes the state of a head an entry of it, when another copy saved it and it is none yet.
pub(crate) fn keep_foreign(
    inner: &Inner,
    volume: &VolumeId,
    remembered: &Head,
    found: Known,
    operation: Option<&OperationId>,
) -> Result<(Known, Lineage), SaveError> {
    let joined = found
        .head
        .join(&found.older)
        .map_err(|error| SaveError::later("failed to read older entries", &error))?;
    let lineage = lineage(remembered, &joined, operation);
    let Lineage::Foreign { is_kept } = lineage else { return Ok((found, lineage)) };
    let (remembered, seq) = (remembered.seq, found.head.seq);
    let entry = rescue_id(&found.head.now, Cause::AnotherCopy);
    tracing::warn!(%volume, remembered, seq, %entry, "another copy of this Cove has saved: its state is kept");
    if is_kept {
        return Ok((found, lineage));
    }
    let known = keep_unknown(inner, volume, &found)?;
    Ok((known, lineage))
}

/// Makes the state of a head an entry of it, because nobody here remembers where it comes from.
pub(crate) fn keep_unknown(
    inner: &Inner,
    volume: &VolumeId,
    found: &Known,
) -> Result<Known, SaveError> {
    let now = found.head.now.clone();
    let time = found.head.time;
    let record = rescue_of(inner, rescue_id(&now, Cause::AnotherCopy), Cause::AnotherCopy, now);
    let chunks = chunks_of(inner, &found.head.locations);
    let session = Session::new(&chunks, &inner.env, volume, inner.options.pin, Progress::default());
    put_beside(inner, found, EntryRecord { time, ..record }, session, &chunks)
}

/// Puts a head with one entry more, whose content is stored or in `session`.
pub(crate) fn put_beside(
    inner: &Inner,
    known: &Known,
    record: EntryRecord,
    mut session: Session<'_>,
    chunks: &Chunks,
) -> Result<Known, SaveError> {
    let failed = |error: SessionError| SaveError::later("failed to store", &error);
    let added = known.next(|head| head.add_entry(record.clone(), &[], None, stamp(inner)));
    let (mut next, mut older) = match added {
        // its own id: an earlier attempt has put it
        Err(TransitionError::EntryIsThere { .. }) => return Ok(known.clone()),
        Err(error @ TransitionError::TooManyEntries { .. }) => {
            return Err(SaveError::Later { kind: error.kind(), what: error.to_string() });
        }
        added => added?,
    };
    if let Some(document) = &next.document {
        let bytes = document.encode();
        if record.root.document == Digest::of(&bytes) {
            session.put_meta(Digest::of(&bytes), &bytes).map_err(failed)?;
        }
    }
    if let Some(chunk) = next.spill(older.clone()) {
        session.put_meta(Digest::of(&chunk), &chunk).map_err(failed)?;
        older = moved_out(&next, &chunk)?;
    }
    let packed = session.finish(&next.record()).map_err(failed)?;
    next.locations.packs.extend(packed.packs.iter().map(|(pack, _)| *pack));
    let next = gather(chunks, next, &inner.env, inner.options.pin)
        .map_err(|error| SaveError::later("failed to gather packs", &error))?;
    put_head(inner, &known.head.volume, Some(known), next, older, None).map_err(|error| match error
    {
        // it is for no work that could be given up
        SaveError::Refused { kind, what } => SaveError::Later { kind, what },
        error => error,
    })
}
