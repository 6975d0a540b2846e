//! The present state, frozen and named.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use cove_btrfs::SubvolumePath;
use cove_content::entry::{EntryRecord, room};
use cove_content::retention::roll_off;
use cove_content::volumes::{Call, NewEntry, VolumeError};
use cove_types::{Consistency, EntryId, EntryKind, EntryState, Label, chain};

use crate::capture::replaced::snapshot_without;
use crate::capture::restore_paths::tidy;
use crate::capture::{
    Asked, asked, enqueue, is_swap_file, pending_of, pool_failed, refuse_trashed, unlawful,
};
use crate::node::{Inner, make_room_in, stored_row};
use crate::save::unread;
use crate::volume::{Turn, Volume, unknown_root};
use crate::work::{Pending, Work};

/// A snapshot of the present state that was taken and is no work yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frozen {
    /// How long it took, in milliseconds.
    pub taken_ms: u64,
    /// The edits that had ended before it.
    edits: u64,
    /// When it was begun, since the machine started.
    begun: Duration,
}

impl Frozen {
    /// Notes that the work is written down for which it was taken: the state is captured now, and was not before.
    pub fn written(&self, volume: &Volume) {
        let mut state = volume.state();
        state.changes.looked(self.edits, false);
        state.stored_at = Some(self.begun);
    }
}

/// Freezes the present state for the call.
pub(crate) fn freeze(
    inner: &Inner,
    volume: &Volume,
    pending: &mut Pending,
) -> Result<Frozen, VolumeError> {
    tidy(inner, volume);
    let begun = inner.env.since_boot();
    let live = SubvolumePath::Volume(volume.id.clone());
    let stored = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    // an attempt of the same call that was never written down: its caller was told nothing
    inner.pool.delete(&stored).map_err(pool_failed("failed to take a snapshot"))?;
    let edits = volume.state().changes.begin();
    let taken = snapshot_without(inner, volume, &live, &pending.operation);
    let no_room = taken.as_ref().err().filter(|error| error.is_caused_by(ErrorKind::StorageFull));
    if no_room.is_some() {
        make_room_in(inner, volume);
    }
    volume.state().no_room = no_room.map(|error| (inner.env.since_boot(), chain(error)));
    {
        let mut state = volume.state();
        match &taken {
            Ok(_) => state.swap_file = None,
            Err(error) if is_swap_file(error) => {
                state.swap_file.get_or_insert(inner.env.now());
            }
            Err(_) => {}
        }
    }
    pending.generation = taken?;
    let row = stored_row(inner, pending);
    inner
        .wait(inner.database.put_stored(&row))
        .map_err(|error| VolumeError::failed("failed to write down a snapshot", error))?;
    volume.state().stored.insert(row.operation, row);
    let taken = inner.env.since_boot().saturating_sub(begun);
    let taken_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    Ok(Frozen { taken_ms, edits, begun })
}

/// The quota that holds the files of a volume now, as its entries note it. Costs a look at what is charged.
pub(crate) fn holding_quota(inner: &Inner, volume: &Volume) -> Option<u64> {
    let quota_bytes = volume.state().spec().quota_bytes?;
    // one that was made less than what was there holds nothing
    let usage = inner.pool.usage(&volume.id).ok()?;
    (usage.charged_bytes <= quota_bytes).then_some(quota_bytes)
}

pub(crate) fn draft(
    inner: &Inner,
    id: EntryId,
    kind: EntryKind,
    author: &str,
    cause: Option<String>,
) -> EntryRecord {
    EntryRecord {
        id,
        kind,
        author: author.to_owned(),
        cause,
        message: None,
        label: None,
        pinned: false,
        time: inner.env.now(),
        captured_ms: 0,
        saved_ms: None,
        consistency: Consistency::Instant,
        state: EntryState::Live,
        trashed_at: None,
        volume_snapshot: None,
        quota_bytes: None,
        root: unknown_root(),
        unknown: serde_json::Map::new(),
    }
}

/// Refuses a label that another live entry than `of` has, as far as the entries are known here.
pub(crate) fn refuse_label(
    volume: &Volume,
    label: &Label,
    of: Option<&EntryId>,
) -> Result<(), VolumeError> {
    let views = volume.state().entries();
    let taken = views.iter().map(|view| &view.record).find(|record| {
        record.is_live() && Some(&record.id) != of && record.label.as_ref() == Some(label)
    });
    match taken {
        Some(taken) => Err(VolumeError::LabelTaken { label: label.clone(), entry: taken.id }),
        None => Ok(()),
    }
}

/// Refuses a further entry of a kind where the list has no room for it, not even once retention has put
/// in the trash what it would: what is captured after that could not be saved.
pub(crate) fn refuse_full(volume: &Volume, kind: EntryKind, keep: u32) -> Result<(), VolumeError> {
    let records: Vec<EntryRecord> = {
        let state = volume.state();
        let queued = state.queue.iter().filter_map(|pending| match &pending.work {
            Work::Rescue { entry } => Some(entry.clone()),
            _ => None,
        });
        state.entries().into_iter().map(|view| view.record).chain(queued).collect()
    };
    let unread = unread(volume) as usize;
    let counted = records.first().cloned().map(|record| EntryRecord {
        kind,
        pinned: false,
        state: EntryState::Live,
        ..record
    });
    let trash = counted.map_or_else(Vec::new, |new| {
        let live: Vec<_> = records.iter().filter(|record| record.is_live()).cloned().collect();
        roll_off(&live, keep, &new, &[])
    });
    match room(&records, &trash) > unread {
        true => Ok(()),
        false => Err(VolumeError::TooManyEntries),
    }
}

/// The work of a call that names the present state, of which no snapshot is taken yet.
///
/// # Errors
///
/// The entry could not be saved.
pub(crate) fn drafted(
    inner: &Inner,
    volume: &Volume,
    call: &Call,
    entry: &NewEntry,
) -> Result<Pending, VolumeError> {
    entry.check().map_err(unlawful)?;
    refuse_trashed(volume)?;
    let keep = volume.state().keep_beside(entry);
    refuse_full(volume, entry.kind, keep)?;
    if let Some(label) = &entry.label {
        refuse_label(volume, label, None)?;
    }
    let id = EntryId::derive(&call.operation, "snapshot");
    let mut record = draft(inner, id, entry.kind, &entry.author, entry.cause.clone());
    record.message.clone_from(&entry.message);
    record.label.clone_from(&entry.label);
    record.quota_bytes = holding_quota(inner, volume);
    Ok(pending_of(call, &volume.id, Work::Snapshot { entry: record, keep }))
}

/// Captures the present state as an entry.
pub(crate) fn snapshot(
    inner: &Inner,
    volume: &Arc<Volume>,
    call: &Call,
    entry: &NewEntry,
    _turn: Turn,
) -> Result<Asked, VolumeError> {
    match asked(inner, volume, call)? {
        Asked::New => {}
        asked => return Ok(asked),
    }
    let mut pending = drafted(inner, volume, call, entry)?;
    let _held = volume.hold([call.operation]);
    let frozen = freeze(inner, volume, &mut pending)?;
    if let Work::Snapshot { entry, .. } = &mut pending.work {
        entry.captured_ms = frozen.taken_ms;
    }
    let end = enqueue(inner, volume, pending)?;
    frozen.written(volume);
    Ok(Asked::Pending(end))
}
