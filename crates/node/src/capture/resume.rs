//! Finishing, at start, what a crash interrupted.

use std::sync::Arc;

use crate::capture::complete;
use crate::capture::restore_paths::clear_staged;
use crate::node::{Inner, chain};
use crate::volume::Volume;
use crate::work::Pending;

/// Finishes, at start, what was captured when Cove was interrupted.
pub(crate) fn resume(inner: &Arc<Inner>, volume: &Volume) {
    let queue: Vec<Pending> = volume.state().queue.iter().cloned().collect();
    if let Err(error) = clear_staged(inner, volume, &queue) {
        tracing::warn!(volume = %volume.id, error = chain(&error), "a part of a restore stays behind");
    }
    for pending in queue {
        if let Err(error) = complete(inner, volume, &pending) {
            tracing::error!(
                volume = %volume.id,
                operation = %pending.operation,
                error = chain(&error),
                "what was interrupted could not be finished"
            );
        }
    }
}
