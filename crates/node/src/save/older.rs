//! The entries that a head only names.
//!
//! The list of them may be lost or damaged. Then the head goes on naming it, what needs one of its entries is
//! refused, and everything else goes on without them; each save tries to read it again.

use std::sync::Arc;

use cove_content::chunks::Chunks;
use cove_content::entry::EntryRecord;
use cove_content::head::{Head, Older, OlderEntries};
use cove_content::locations::Locations;
use cove_content::volumes::VolumeError;
use cove_types::{Classify, EntryId, ErrorKind, chain};

use crate::node::Inner;
use crate::save::SaveError;
use crate::volume::{Known, Volume};

/// Brings the entries that the head only names, once; those that could not be read are tried again.
pub(crate) fn bring_older(inner: &Inner, volume: &Volume) -> Result<(), SaveError> {
    let known = volume.state().known.clone();
    let Some(known) = known else { return Ok(()) };
    if known.is_whole() {
        return Ok(());
    }
    let older = read_older(inner, &known.head)?;
    // the head may have been changed meanwhile
    if let Some(now) = volume.state().known.as_mut()
        && now.head.lists().eq(known.head.lists())
    {
        now.older = older;
    }
    Ok(())
}

/// Reads the lists that a head names; tells which are lost, damaged or kept from us.
///
/// # Errors
///
/// The store did not answer: whether they can be read is not known.
pub(crate) fn read_older(inner: &Inner, head: &Head) -> Result<OlderEntries, SaveError> {
    let mut older = OlderEntries::default();
    let chunks = chunks_of(inner, &head.locations);
    for list in head.lists() {
        match read_list(&chunks, list)? {
            Ok(entries) => older.entries.extend(entries),
            Err(why) => {
                let (volume, digest) = (&head.volume, list.digest);
                tracing::warn!(%volume, %digest, why, "a list of older entries cannot be read");
                older.unread.push(*list);
            }
        }
    }
    Ok(older)
}

/// The entries of a list, or why nobody can read it.
fn read_list(chunks: &Chunks, list: &Older) -> Result<Result<Vec<EntryRecord>, String>, SaveError> {
    const WHAT: &str = "failed to read older entries";
    let chunk = match chunks.chunk(&list.digest) {
        Ok(chunk) => chunk,
        Err(error) if error.is_lasting() => return Ok(Err(chain(&error))),
        Err(error) => return Err(SaveError::later(WHAT, &error)),
    };
    match Head::decode_list(list, &chunk) {
        Ok(entries) => Ok(Ok(entries)),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Err(chain(&error))),
        Err(error) => Err(SaveError::later(WHAT, &error)),
    }
}

/// The older entries after some were moved out of `head`, to `chunk`.
pub(crate) fn moved_out(head: &Head, chunk: &[u8]) -> Result<OlderEntries, SaveError> {
    let entries = Head::decode_older(chunk)
        .map_err(|error| SaveError::later("failed to move older entries", &error))?;
    Ok(OlderEntries { entries, unread: head.unread.clone() })
}

/// The older entries when `entry` is not among the newest: after a start nobody has them yet.
///
/// # Errors
///
/// The store did not answer, or the entry may be in a list that cannot be read.
pub(crate) fn bring_entry(
    inner: &Inner,
    volume: &Volume,
    entry: &EntryId,
) -> Result<(), VolumeError> {
    let is_here = || volume.state().entries().iter().any(|view| view.record.id == *entry);
    if is_here() {
        return Ok(());
    }
    bring_older(inner, volume).map_err(SaveError::for_caller)?;
    match unread(volume) {
        0 => Ok(()),
        _ if is_here() => Ok(()),
        count => Err(VolumeError::EntriesUnread { count }),
    }
}

/// How many entries of a volume are known to be in lists that cannot be read.
pub(crate) fn unread(volume: &Volume) -> u32 {
    volume.state().known.as_ref().map_or(0, Known::unread)
}

pub(crate) fn chunks_of(inner: &Inner, locations: &Locations) -> Chunks {
    Chunks::new(inner.remote.clone(), Arc::clone(&inner.cache), locations.clone())
}
