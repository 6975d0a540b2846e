//! Making room on a pool that can grow no more.
//!
//! Snapshots of entries that are saved make reading, forking and restoring fast, and keep what has been
//! removed from the files since. When room is short they go, the oldest first; the store has what they hold.

use std::collections::HashSet;

use cove_types::OperationId;

use crate::node::{Inner, chain};
use crate::save::needed_by_others;
use crate::volume::{State, Volume};

/// How much of a pool is to be free, as one part of so many; a pool that can grow has more.
const FREE_PART: u64 = 10;
/// How many snapshots go at one look: the kernel frees their room a moment later.
const AT_ONCE: usize = 8;

/// Drops some snapshots of saved entries when less than a tenth of the pool is free. Costs a look at the
/// room, and may be repeated.
pub(crate) fn make_room(inner: &Inner) {
    let space = match inner.pool.space() {
        Ok(space) => space,
        Err(error) => {
            tracing::warn!(error = chain(&error), "the room of the pool is not known");
            return;
        }
    };
    if space.free >= space.total / FREE_PART {
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
