//! The entries that a head only names.

use std::sync::Arc;

use cove_content::chunks::Chunks;
use cove_content::entry::EntryRecord;
use cove_content::head::Head;
use cove_content::locations::Locations;
use cove_content::volumes::VolumeError;
use cove_types::EntryId;

use crate::node::Inner;
use crate::save::SaveError;
use crate::volume::Volume;

/// Brings the entries that the head only names, once.
pub(crate) fn bring_older(inner: &Inner, volume: &Volume) -> Result<(), SaveError> {
    let known = volume.state().known.clone();
    let Some(known) = known else { return Ok(()) };
    if known.is_whole() {
        return Ok(());
    }
    let older = read_older(inner, &known.head)?;
    if let Some(known) = volume.state().known.as_mut() {
        known.older = older;
    }
    Ok(())
}

pub(crate) fn read_older(inner: &Inner, head: &Head) -> Result<Vec<EntryRecord>, SaveError> {
    let Some(named) = head.older else { return Ok(Vec::new()) };
    let chunks = chunks_of(inner, &head.locations);
    let chunk = chunks
        .chunk(&named.digest)
        .map_err(|error| SaveError::later("failed to read older entries", &error))?;
    Head::decode_older(&chunk)
        .map_err(|error| SaveError::later("failed to read older entries", &error))
}

/// The older entries when `entry` is not among the newest: after a start nobody has them yet.
pub(crate) fn bring_entry(
    inner: &Inner,
    volume: &Volume,
    entry: &EntryId,
) -> Result<(), VolumeError> {
    let is_here = volume.state().entries().iter().any(|view| view.record.id == *entry);
    if is_here {
        return Ok(());
    }
    bring_older(inner, volume).map_err(SaveError::for_caller)
}

pub(crate) fn chunks_of(inner: &Inner, locations: &Locations) -> Chunks {
    Chunks::new(inner.remote.clone(), Arc::clone(&inner.cache), locations.clone())
}
