//! New volumes: built beside the others and moved to their place.

use std::sync::Arc;

use cove_btrfs::{Access, Dir, SubvolumePath};
use cove_content::archive::{ExtractOptions, Limits, extract};
use cove_content::read::project_root;
use cove_content::volumes::{Call, NewVolume, Source, VolumeError};

use crate::capture::built::Built;
use crate::capture::entry::furnish;
use crate::capture::fork::remove_new;
use crate::capture::specify::hold_to_quota;
use crate::capture::{
    Asked, OWNER, asked, ended_here, finish_here, generation_at, not_written, path_failed,
    pending_of, pending_row, pool_failed, unlawful,
};
use crate::in_making::Making;
use crate::node::Inner;
use crate::volume::Volume;
use crate::work::{Pending, Work};

/// What one archive may bring: as many files and bytes as a large workspace has, sparse ones included.
pub(crate) const LIMITS: Limits = Limits { entries: 20_000_000, bytes: 1 << 60, depth: 255 };

/// Builds a new volume beside the others and moves it to its place. The volume and the operation are this call's to
/// make: the same call that comes meanwhile waits, and finds what this one did.
pub(crate) fn create(
    inner: &Arc<Inner>,
    call: &Call,
    new: NewVolume,
    source: Source,
    _making: Making,
) -> Result<(Arc<Volume>, Asked), VolumeError> {
    let id = &new.volume;
    if let Some(volume) = inner.find_volume(id) {
        let asked = asked(inner, &volume, call)?;
        return match asked {
            Asked::New => Err(VolumeError::Exists { volume: id.clone() }),
            asked => Ok((volume, asked)),
        };
    }
    new.check().map_err(unlawful)?;
    // one that has failed for good fails as the first time, and one whose volume is gone made it then
    if ended_here(inner, call)?.is_some() {
        return Err(VolumeError::Exists { volume: id.clone() });
    }
    let (built, remarks) = Built::create(inner, id)?.filled(|dir| {
        hold_to_quota(inner, id, &new.spec)?;
        fill(inner, call, dir, source)
    })?;
    built.put(&SubvolumePath::Incoming(call.operation))?;
    let volume = Arc::new(Volume::new(id.clone()));
    let NewVolume { volume: id, document, spec } = new;
    volume.state().is_to_be(&document, &spec);
    let pending = pending_of(call, &id, Work::Create { document, spec, remarks });
    let row = pending_row(inner, &pending)?;
    if let Err(error) = inner.wait(inner.database.insert_pending(&row)) {
        let incoming = SubvolumePath::Incoming(call.operation);
        inner.pool.delete(&incoming).map_err(pool_failed("failed to clear what was built"))?;
        return Err(not_written("failed to write down what is to be saved")(error));
    }
    inner.adopt(&volume);
    let receiver = finish_here(inner, &volume, pending)?;
    Ok((volume, Asked::Pending(receiver)))
}

fn fill(inner: &Inner, call: &Call, dir: &Dir, source: Source) -> Result<Vec<String>, VolumeError> {
    furnish(dir).map_err(path_failed("failed to make the volume's directories"))?;
    let mut remarks = Vec::new();
    if let Source::Archive(mut stream) = source {
        call.progress.step("importing");
        let progress = call.progress.clone();
        let options = ExtractOptions { owner: Some(OWNER), limits: LIMITS, new_names_only: true };
        let extracted = extract(&mut *stream, dir, &project_root(), &options, &|files, bytes| {
            progress.update(|progress| {
                progress.done_files = files;
                progress.done_bytes = bytes;
            });
        })
        .map_err(|error| VolumeError::failed("failed to import the files", error))?;
        remarks = extracted.remarks;
    }
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))?;
    Ok(remarks)
}

/// Moves what was built to its place and takes its first snapshot; may be repeated. Where the snapshot is, the volume
/// was in its place, and is not put there again: it may be deleted since.
pub(crate) fn place_created(inner: &Inner, mut pending: Pending) -> Result<Pending, VolumeError> {
    let incoming = SubvolumePath::Incoming(pending.operation);
    let place = SubvolumePath::Volume(pending.volume.clone());
    let there = |place: &SubvolumePath| {
        inner.pool.find(place).map_err(pool_failed("failed to look at the volume"))
    };
    let stored = SubvolumePath::Stored(pending.volume.clone(), pending.operation);
    if there(&stored)?.is_none() {
        if there(&place)?.is_none() {
            inner
                .pool
                .rename(&incoming, &place)
                .map_err(pool_failed("failed to put the volume in its place"))?;
        }
        inner
            .pool
            .snapshot(&place, &stored, Access::ReadOnly, &pending.volume)
            .map_err(pool_failed("failed to take a snapshot"))?;
    }
    pending.generation = generation_at(inner, &stored)?;
    Ok(pending)
}

/// Takes a new volume away that cannot have its place; may be repeated.
pub(crate) fn undo_create(inner: &Inner, pending: &Pending) -> Result<(), VolumeError> {
    inner
        .pool
        .delete(&SubvolumePath::Incoming(pending.operation))
        .map_err(pool_failed("failed to clear what was built"))?;
    remove_new(inner, &pending.volume, pending)
}
