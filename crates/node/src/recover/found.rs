//! Snapshots on this disk of which no row here tells what they were taken for.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cove_btrfs::{PoolError, Subvolume, SubvolumePath};
use cove_content::entry::EntryRecord;
use cove_content::volumes::VolumeError;
use cove_database::{DiscardedRow, Finished, StoredRow};
use cove_types::{Digest, EntryId, OperationId, VolumeId, chain, wire};
use tokio::sync::oneshot;

use crate::capture::pending_row;
use crate::node::{Inner, stored_row};
use crate::recover::lost::Subject;
use crate::save::{Cause, head_row, rescue_draft};
use crate::volume::{Ended, Known, Volume, unknown_root};
use crate::work::{Pending, Work};

/// What a snapshot is that no row here knows.
#[derive(Debug, PartialEq, Eq)]
enum Snapshot {
    /// The one that was taken for an entry of the head.
    Entry(EntryId, Digest),
    /// One whose work took effect otherwise.
    Done,
    /// What no head tells of: it may be all that there is of a state.
    Unsaved,
}

/// Tells by its name what a snapshot is.
fn recognise(known: &Known, operation: &OperationId) -> Snapshot {
    for what in ["snapshot", "before"] {
        if let Some(entry) = known.find_entry(&EntryId::derive(operation, what)) {
            return Snapshot::Entry(entry.id, entry.root.tree);
        }
    }
    match known.head.ops.iter().any(|op| op.id == *operation) {
        true => Snapshot::Done,
        false => Snapshot::Unsaved,
    }
}

/// How often it is looked whether the store still takes what a recovery waits for.
const LOOK: Duration = Duration::from_secs(1);

/// A snapshot that is being saved, for the answer of the recovery.
pub(crate) struct Rescue {
    volume: Arc<Volume>,
    subject: Subject,
    entry: EntryId,
    end: oneshot::Receiver<Ended>,
}

impl Rescue {
    /// Waits until it is saved, the first attempt has failed, or the node ends. Tells what is lost of it;
    /// nothing is when the head has its state already.
    pub async fn lost(self, inner: &Inner) -> Option<wire::Lost> {
        const WHY: &str =
            "it was captured on this machine and not saved when the record of it was lost";
        let Self { volume, subject, entry, mut end } = self;
        let part = format!("the label and message of entry {entry}");
        let waits = |what: &str| {
            let why = format!("{WHY}; its files stay on this machine until they are saved: {what}");
            Some(subject.lost_part(&part, why))
        };
        let mut ending = inner.ending.subscribe();
        loop {
            let ended = tokio::select! {
                ended = &mut end => ended,
                _ = ending.wait_for(|ending| *ending) => return waits("cove is stopping"),
                () = tokio::time::sleep(LOOK) => {
                    let trouble = volume.state().saving.clone();
                    match trouble {
                        Some(trouble) => return waits(&trouble.what),
                        None => continue,
                    }
                }
            };
            return match ended {
                Ok(Ended { failure: Some((_, what)), .. }) => {
                    Some(subject.lost_part(&format!("entry {entry}"), what))
                }
                Ok(Ended { entry: None, .. }) => None,
                Ok(_) => {
                    let why = format!("{WHY}; its files are in the timeline as a rescue");
                    Some(subject.lost_part(&part, why))
                }
                Err(_) => waits("cove is stopping"),
            };
        }
    }
}

/// Remembers a head for the first time, and with it, in one transaction, what lies on this disk for its
/// volume: snapshots of its entries, snapshots that are in no head, which become rescue entries, and
/// subvolumes that restores had swapped out, which are looked at and kept as others are.
///
/// From then on nothing of it is taken for what an attempt left. Returns the rescues, which are saved in
/// their turn.
pub(crate) fn remember_with_found(
    inner: &Inner,
    volume: &Arc<Volume>,
    known: &Known,
    subject: &Subject,
) -> Result<Vec<Rescue>, String> {
    let failed = |error: PoolError| chain(&error);
    let places = inner.pool.list().map_err(failed)?;
    let mut snapshots: Vec<(OperationId, Subvolume)> = Vec::new();
    for place in &places {
        if let SubvolumePath::Stored(of, operation) = place
            && *of == volume.id
            && let Some(found) = inner.pool.find(place).map_err(failed)?
        {
            snapshots.push((*operation, found));
        }
    }
    // as they were captured
    snapshots.sort_by_key(|(_, found)| found.created_generation);
    let mut finished = Finished {
        heads: vec![head_row(inner, known).map_err(super::said)?],
        discarded: discarded(inner, &volume.id, known, &places, &snapshots)?,
        ..Finished::default()
    };
    let mut queue = Vec::new();
    for (operation, found) in &snapshots {
        match recognise(known, operation) {
            Snapshot::Entry(entry, tree) => finished.stored.push(StoredRow {
                volume: volume.id.clone(),
                operation: *operation,
                entry: Some(entry),
                root: Some(tree.to_string()),
                captured_us: inner.now_us(),
            }),
            Snapshot::Done => {}
            Snapshot::Unsaved => queue.push(rescue(inner, &volume.id, operation, found)),
        }
    }
    for pending in &queue {
        let row = pending_row(inner, pending).map_err(|error: VolumeError| chain(&error))?;
        finished.pending.push(row);
        finished.stored.push(stored_row(inner, pending));
    }
    inner.wait(inner.database.finish(&finished)).map_err(|error| chain(&error))?;
    let mut state = volume.state();
    state.known = Some(known.clone());
    for row in finished.stored {
        state.stored.insert(row.operation, row);
    }
    let mut rescues = Vec::new();
    for pending in queue {
        let Work::Rescue { entry: EntryRecord { id, .. } } = &pending.work else { continue };
        rescues.push(Rescue {
            volume: Arc::clone(volume),
            subject: subject.clone(),
            entry: *id,
            end: state.end_of(&pending.operation),
        });
        state.queue.push_back(pending);
    }
    Ok(rescues)
}

/// The work of saving a snapshot: under the id that its entry would have had.
fn rescue(inner: &Inner, volume: &VolumeId, operation: &OperationId, found: &Subvolume) -> Pending {
    let entry = EntryId::derive(operation, "snapshot");
    let draft = rescue_draft(inner, entry, Cause::CapturedHere);
    Pending {
        operation: *operation,
        generation: found.generation,
        volume: volume.clone(),
        principal: "cove".into(),
        request: [0; 8],
        failed: None,
        work: Work::Rescue { entry: EntryRecord { root: unknown_root(), ..draft } },
    }
}

/// What restores of this volume had swapped out: it is looked at for late writes, since when nobody knows.
fn discarded(
    inner: &Inner,
    volume: &VolumeId,
    known: &Known,
    places: &[SubvolumePath],
    snapshots: &[(OperationId, Subvolume)],
) -> Result<Vec<DiscardedRow>, String> {
    let rows = inner.wait(inner.database.discarded()).map_err(|error| chain(&error))?;
    let has_row: HashSet<OperationId> = rows.iter().map(|row| row.operation).collect();
    let sources: HashSet<[u8; 16]> =
        snapshots.iter().filter_map(|(_, found)| found.parent_uuid).collect();
    let mut discarded = Vec::new();
    for place in places {
        let SubvolumePath::Trash(operation) = place else { continue };
        let found = inner.pool.find(place).map_err(|error| chain(&error))?;
        let Some(found) = found.filter(|_| !has_row.contains(operation)) else { continue };
        let is_of_volume = sources.contains(&found.uuid)
            || snapshots.iter().any(|(other, _)| other == operation)
            || recognise(known, operation) != Snapshot::Unsaved;
        if is_of_volume {
            discarded.push(DiscardedRow {
                operation: *operation,
                volume: volume.clone(),
                generation: 0,
                entry: None,
                moved_us: inner.now_us(),
            });
        }
    }
    Ok(discarded)
}

/// Files on this disk whose volume neither the store nor this machine knows.
pub(crate) fn unknown(inner: &Inner, named: &[VolumeId]) -> Vec<wire::Lost> {
    let places = match inner.pool.list() {
        Ok(places) => places,
        Err(error) => {
            tracing::warn!(error = chain(&error), "what is on this disk was not looked at");
            return Vec::new();
        }
    };
    let unknown = places.into_iter().filter_map(|place| match &place {
        SubvolumePath::Volume(id) if !named.contains(id) && inner.find_volume(id).is_none() => {
            let files = inner.pool.absolute(&place);
            let why = format!(
                "the store has no project of it, and no record here tells its name: its files stay in {}",
                files.display()
            );
            Some(Subject::unknown(id).lost(why))
        }
        _ => None,
    });
    unknown.collect()
}
