//! Finishing, at start, what a crash interrupted.

use std::sync::Arc;

use cove_types::chain;

use crate::capture::replaced::find_all;
use crate::capture::restore_paths::clear_staged;
use crate::capture::{asks_store, complete, is_unfinished, take_files};
use crate::node::Inner;
use crate::volume::Volume;
use crate::work::{Pending, Work};

/// Finishes, at start, what was captured when Cove was interrupted.
pub(crate) fn resume(inner: &Arc<Inner>, volume: &Arc<Volume>) {
    let queue: Vec<Pending> = volume.state().queue.iter().cloned().collect();
    if let Err(error) = clear_staged(inner, volume, &queue) {
        tracing::warn!(volume = %volume.id, error = chain(&error), "a part of a restore stays behind");
        volume.state().is_littered = true;
    }
    if let Err(error) = find_all(inner, volume) {
        tracing::warn!(volume = %volume.id, error = chain(&error), "what was replaced is not looked at");
    }
    // what has failed or needs the store is for the volume's task: a start does not wait for a store
    let here = queue.iter().filter(|pending| {
        is_unfinished(pending) && pending.failed.is_none() && !asks_store(inner, volume, pending)
    });
    for pending in here {
        if let Err(error) = complete(inner, volume, pending) {
            tracing::error!(
                volume = %volume.id,
                operation = %pending.operation,
                error = chain(&error),
                "what was interrupted could not be finished"
            );
        }
    }
    // after what came before it, which may need them
    if queue.iter().any(|pending| matches!(pending.work, Work::Delete))
        && let Err(error) = take_files(inner, volume)
    {
        tracing::warn!(volume = %volume.id, error = chain(&error), "the files of a deleted volume stay for now");
    }
}
