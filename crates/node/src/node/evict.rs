//! Making room on a pool that can grow no more.
//!
//! Snapshots of entries that are saved make reading, forking and restoring fast, and keep what has been
//! removed from the files since. When room is short they go, the oldest first; the store has what they hold.
//!
//! The base, with which the next state is compared, shares its metadata with the files. Where there is
//! hardly any room for metadata, a removal of what is shared makes none, and the kernel commits for each
//! file (20 ms each, and 0.3 ms when nothing is shared). So the base of files that change goes then, too,
//! as soon as it is saved; what is saved next is stored in full.

use std::collections::HashSet;

use cove_btrfs::SubvolumePath;
use cove_types::{OperationId, chain};

use crate::capture::generation;
use crate::node::Inner;
use crate::save::needed_by_others;
use crate::volume::{State, Volume};

/// How much of a pool is to be free, as one part of so many; a pool that can grow has more.
const FREE_PART: u64 = 10;
/// How many snapshots go at one look: the kernel frees their room a moment later.
const AT_ONCE: usize = 8;

/// Drops some snapshots of saved entries when less than a tenth of the pool is free, and all of files that
/// have changed since their last one when there is hardly any room for metadata. Costs a look at the room,
/// and may be repeated.
pub(crate) fn make_room(inner: &Inner) {
    let space = match inner.pool.space() {
        Ok(space) => space,
        Err(error) => {
            tracing::warn!(error = chain(&error), "the room of the pool is not known");
            return;
        }
    };
    if space.is_metadata_full {
        for volume in inner.all_volumes().iter().filter(|volume| is_changed(inner, volume)) {
            make_room_in(inner, volume);
        }
    }
    if space.free >= space.total / FREE_PART && !space.is_metadata_full {
        return;
    }
    let mut evictable: Vec<(i64, std::sync::Arc<Volume>, OperationId)> = Vec::new();
    for volume in inner.all_volumes() {
        let found = evictable_of(&volume.state());
        evictable.extend(found.into_iter().map(|(at, operation)| (at, volume.clone(), operation)));
    }
    evictable.sort_by_key(|(captured_us, _, operation)| (*captured_us, *operation));
    for (_, volume, operation) in evictable.into_iter().take(AT_ONCE) {
        {
            let mut state = volume.state();
            // something may have come to need it meanwhile
            if !evictable_of(&state).iter().any(|(_, still)| *still == operation) {
                continue;
            }
            state.stored.remove(&operation);
        }
        tracing::info!(volume = %volume.id, %operation, "the snapshot of a saved entry makes room");
        inner.drop_stored(&volume.id, &operation);
    }
    // also of what has been dropped since the last look, because something newer is saved
    if let Err(error) = inner.pool.reclaim() {
        tracing::warn!(error = chain(&error), "what was dropped is not free yet");
    }
}

/// Whether the files of a volume have changed since the state that its base is of.
fn is_changed(inner: &Inner, volume: &Volume) -> bool {
    let then = volume.state().copy.as_ref().map(|copy| copy.generation);
    then.is_some_and(|then| generation(inner, &volume.id).is_ok_and(|now| now != then))
}

/// Drops what of a volume is in the store too, its base with it, and waits until that room is free. Costs
/// two commits where there is something. What is saved next is stored in full.
pub(crate) fn make_room_in(inner: &Inner, volume: &Volume) {
    let dropped: Vec<OperationId> = {
        let mut state = volume.state();
        let evictable = evictable_of(&state).into_iter().map(|(_, operation)| operation);
        let dropped = evictable.chain(saved_base(&state)).collect::<Vec<_>>();
        for operation in &dropped {
            state.stored.remove(operation);
        }
        dropped
    };
    for operation in &dropped {
        tracing::info!(volume = %volume.id, %operation, "a snapshot of what is saved makes room");
        // the kernel frees them in this order
        if Some(operation) == dropped.last() {
            let place = SubvolumePath::Stored(volume.id.clone(), *operation);
            if let Err(error) = inner.pool.delete_and_wait(&place) {
                tracing::warn!(%place, error = chain(&error), "a snapshot is not free yet");
            }
        }
        inner.drop_stored(&volume.id, operation);
    }
}

/// The base of a volume, when its state is saved and nothing needs it.
fn saved_base(state: &State) -> Option<OperationId> {
    let base = state.copy.as_ref()?.base;
    // what is being saved is compared with it
    if !state.queue.is_empty() {
        return None;
    }
    let is_saved = state.stored.get(&base).is_some_and(|row| row.root.is_some());
    let is_needed =
        needed_by_others(state, None).contains(&base) || state.replaced.contains_key(&base);
    (is_saved && !is_needed).then_some(base)
}

/// The snapshots of a volume whose entries are saved and that nothing else needs, and when they were taken.
fn evictable_of(state: &State) -> Vec<(i64, OperationId)> {
    let Some(known) = &state.known else { return Vec::new() };
    let base = state.copy.as_ref().map(|copy| copy.base);
    let needed: HashSet<OperationId> = needed_by_others(state, None);
    let is_saved = |row: &&cove_database::StoredRow| {
        let saved = row.entry.and_then(|entry| known.find_entry(&entry));
        saved.is_some_and(|entry| row.root == Some(entry.root.tree.to_string()))
    };
    let rows = state.stored.values().filter(is_saved);
    // what was replaced by a restore of paths is compared with the state before
    let is_needed = |operation: &OperationId| {
        Some(*operation) == base
            || needed.contains(operation)
            || state.replaced.contains_key(operation)
    };
    rows.filter(|row| !is_needed(&row.operation))
        .map(|row| (row.captured_us, row.operation))
        .collect()
}
