//! What a tree does not hold, where its root has no room to list all of it.

use std::sync::Arc;

use cove_content::chunks::Chunks;
use cove_content::root::NotCaptured;
use cove_types::chain;

use crate::node::Inner;
use crate::save::older::chunks_of;
use crate::volume::Volume;

/// Remembers the chunk that lists all that `listed` only counts, for those who show it.
pub(crate) fn note_lacks(volume: &Volume, listed: &NotCaptured, chunk: &[u8]) {
    let Some(digest) = listed.all else { return };
    match NotCaptured::decode_all(chunk) {
        Ok(paths) => volume.state().lacks = Some((digest, paths)),
        Err(error) => tracing::warn!(volume = %volume.id, error = chain(&error), "a list is left"),
    }
}

/// Reads that chunk, unless it is remembered. One that cannot be read is left: `verify` names it, and
/// what the root lists itself is shown.
pub(crate) fn read_lacks(volume: &Volume, listed: &NotCaptured, chunks: &Chunks) {
    let Some(digest) = listed.all else { return };
    if volume.state().lacks.as_ref().is_some_and(|(known, _)| *known == digest) {
        return;
    }
    match chunks.chunk(&digest) {
        Ok(chunk) => note_lacks(volume, listed, &chunk),
        Err(error) => tracing::info!(volume = %volume.id, error = chain(&error), "a list is left"),
    }
}

/// Reads it for the present state, in the background; asks the store for it at most once.
pub(crate) async fn bring_lacks(inner: &Arc<Inner>, volume: &Arc<Volume>) {
    let head = volume.state().known.as_ref().and_then(|known| {
        let listed = known.head.now.not_captured.clone();
        listed.all.map(|_| (listed, known.head.locations.clone()))
    });
    let Some((listed, locations)) = head else { return };
    let (inner, of) = (Arc::clone(inner), Arc::clone(volume));
    let reading = tokio::task::spawn_blocking(move || {
        read_lacks(&of, &listed, &chunks_of(&inner, &locations));
    });
    if let Err(error) = reading.await {
        tracing::error!(volume = %volume.id, %error, "reading a list ended without an answer");
    }
}
