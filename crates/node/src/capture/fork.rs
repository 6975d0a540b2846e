//! Forks: their subvolumes here; their heads follow when the source is saved.

use std::sync::Arc;
use std::sync::mpsc::channel;

use cove_btrfs::{Access, SubvolumePath};
use cove_content::volumes::{Call, Moment, NewVolume, Progress, VolumeError};
use cove_database::{CopyRow, Finished, StoredRow};
use cove_types::{Digest, EntryId, VolumeId};

use crate::capture::built::Built;
use crate::capture::entry::{LocalEntry, build_entry, entry_root, exact_entry};
use crate::capture::snapshot::freeze;
use crate::capture::specify::hold_to_quota;
use crate::capture::{
    Asked, asked, finish_here, generation_at, not_written, pending_of, pending_row, pool_failed,
    refuse_trashed, unlawful,
};
use crate::in_making::Making;
use crate::node::Inner;
use crate::volume::{Turn, Volume};
use crate::work::{Pending, Work};

/// Where an entry that is forked is on this disk.
pub(crate) enum Source {
    /// It is frozen when it is forked.
    Now,
    /// In its own snapshot, which stays as long as this.
    Local(#[expect(dead_code, reason = "held, not looked at")] LocalEntry),
    /// In a subvolume made for it.
    Built(Built),
}

/// Builds an entry that is forked and is not on this disk.
pub(crate) fn prepare_fork(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    call: &Call,
    entry: &EntryId,
) -> Result<Source, VolumeError> {
    match exact_entry(inner, volume, entry) {
        Some(local) => Ok(Source::Local(local)),
        None => build_entry(inner, volume, entry, &volume.id, &call.progress).map(Source::Built),
    }
}

/// Makes forks: their subvolumes now, their heads when the source is saved. The operation and the targets are this
/// call's to make.
pub(crate) fn fork(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    call: &Call,
    moment: &Moment,
    targets: &[NewVolume],
    source: Source,
    (_making, _turn): (Making, Turn),
) -> Result<Asked, VolumeError> {
    // the same call may have come twice
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_source(volume, moment)?;
    for new in targets {
        new.check().map_err(unlawful)?;
        if inner.find_volume(&new.volume).is_some() {
            return Err(VolumeError::Exists { volume: new.volume.clone() });
        }
    }
    let entry = match moment {
        Moment::Now => None,
        Moment::Entry(entry) => Some(*entry),
    };
    let is_exact = entry.is_some_and(|entry| entry_root(volume, &entry).is_ok());
    let work = Work::Fork { entry, is_exact, targets: targets.to_vec(), done: false };
    let mut pending = pending_of(call, &volume.id, work);
    let _held = volume.hold([call.operation]);
    let frozen = match entry {
        None => Some(freeze(inner, volume, &mut pending)?),
        Some(_) => None,
    };
    // kept to the end of the call: the forks are made of it
    let _local = match source {
        Source::Built(built) => {
            built.put(&SubvolumePath::Incoming(call.operation))?;
            None
        }
        local => Some(local),
    };
    let row = pending_row(inner, &pending)?;
    if let Err(error) = inner.wait(inner.database.insert_pending(&row)) {
        let incoming = SubvolumePath::Incoming(call.operation);
        inner.pool.delete(&incoming).map_err(pool_failed("failed to clear what was built"))?;
        return Err(not_written("failed to write down what is to be forked")(error));
    }
    let end = finish_here(inner, volume, pending)?;
    frozen.iter().for_each(|frozen| frozen.written(volume));
    Ok(Asked::Pending(end))
}

/// Makes the subvolumes of forks; may be repeated.
pub(crate) fn place_forks(
    inner: &Arc<Inner>,
    volume: &Arc<Volume>,
    pending: &Pending,
    progress: &Progress,
) -> Result<(), VolumeError> {
    let Work::Fork { entry, targets, .. } = &pending.work else { return Ok(()) };
    let incoming = SubvolumePath::Incoming(pending.operation);
    let mut source = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    let mut local = None;
    if let Some(entry) = entry {
        local = exact_entry(inner, volume, entry);
        match &local {
            Some(local) => source = local.place.clone(),
            None => {
                let built = inner.pool.find(&incoming);
                if built.map_err(pool_failed("failed to look at what was built"))?.is_none() {
                    build_entry(inner, volume, entry, &volume.id, progress)?.put(&incoming)?;
                }
                source = incoming.clone();
            }
        }
    }
    copy_to_forks(inner, pending, &source, targets)?;
    let mut forks = Vec::new();
    let mut written = Finished::default();
    for new in targets {
        let (fork, row) = describe_fork(inner, pending, new)?;
        written.stored.push(row.clone());
        forks.push((fork, row));
    }
    inner
        .wait(inner.database.finish(&written))
        .map_err(|error| VolumeError::failed("failed to write down the forks", error))?;
    for (fork, row) in &forks {
        fork.state().stored.insert(row.operation, row.clone());
        inner.adopt(fork);
    }
    drop(local);
    inner.pool.delete(&incoming).map_err(pool_failed("failed to clear what was built"))?;
    Ok(())
}

/// Makes the subvolumes of forks of what lies at `source`, where they are not there yet: a snapshot that
/// stays as it is, and the files that are a copy of it.
///
/// The kernel commits for each snapshot; those of two directories share a commit, so one thread
/// makes the first kind and another the second.
fn copy_to_forks(
    inner: &Inner,
    pending: &Pending,
    source: &SubvolumePath,
    targets: &[NewVolume],
) -> Result<(), VolumeError> {
    let copy = |from: &SubvolumePath, to: &SubvolumePath, access, target: &VolumeId| {
        let there = inner.pool.find(to).map_err(pool_failed("failed to look at a subvolume"))?;
        if there.is_some() {
            return Ok(());
        }
        let copied = inner.pool.snapshot(from, to, access, target);
        copied.map_err(pool_failed("failed to copy the files"))
    };
    let stored = |target: &VolumeId| SubvolumePath::Stored(target.clone(), pending.operation);
    let (taken, to_copy) = channel::<&VolumeId>();
    std::thread::scope(|scope| {
        let copying = scope.spawn(move || {
            to_copy.iter().try_for_each(|target| {
                let live = SubvolumePath::Volume(target.clone());
                copy(&stored(target), &live, Access::ReadWrite, target)
            })
        });
        let all_taken =
            targets.iter().try_for_each(|NewVolume { volume: target, spec, .. }| {
                copy(source, &stored(target), Access::ReadOnly, target)?;
                hold_to_quota(inner, target, spec)?;
                // it has failed when nobody listens any more, and says why
                let _ = taken.send(target);
                Ok(())
            });
        drop(taken);
        let copied = copying.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        all_taken.and(copied)
    })
}

/// What is known of a fork whose subvolumes are there, and the row of its snapshot.
fn describe_fork(
    inner: &Inner,
    pending: &Pending,
    new: &NewVolume,
) -> Result<(Arc<Volume>, StoredRow), VolumeError> {
    let target = &new.volume;
    let stored = SubvolumePath::Stored(target.clone(), pending.operation);
    let fork = inner.find_volume(target).unwrap_or_else(|| Arc::new(Volume::new(target.clone())));
    let copy = CopyRow {
        volume: target.clone(),
        base: pending.operation,
        tree: Digest::HOLE,
        seq: 0,
        // the snapshot gave it to the copy, which has a higher one since it was written to
        generation: generation_at(inner, &stored)?,
        unsaved_bytes: None,
        looked_us: inner.now_us(),
    };
    let row = StoredRow {
        volume: target.clone(),
        operation: pending.operation,
        entry: None,
        root: None,
        captured_us: inner.now_us(),
    };
    let mut state = fork.state();
    state.is_to_be(&new.document, &new.spec);
    state.copy = Some(copy);
    drop(state);
    Ok((fork, row))
}

/// Takes the forks of work that cannot be done away again, but for one whose head is there: it is a volume by now,
/// and used. May be repeated.
pub(crate) fn undo_forks(inner: &Arc<Inner>, pending: &Pending) -> Result<(), VolumeError> {
    let Work::Fork { targets, .. } = &pending.work else { return Ok(()) };
    for new in targets {
        match remove_new(inner, &new.volume, pending) {
            Err(VolumeError::Exists { volume }) => {
                tracing::warn!(%volume, operation = %pending.operation, "it stays, though its fork has failed");
            }
            removed => removed?,
        }
    }
    inner
        .pool
        .delete(&SubvolumePath::Incoming(pending.operation))
        .map_err(pool_failed("failed to clear what was built"))?;
    Ok(())
}

/// Refuses to fork what is in the trash, what is deleted but for the entries that are kept alone, and an entry that
/// is taken out by now.
pub(crate) fn refuse_source(volume: &Volume, moment: &Moment) -> Result<(), VolumeError> {
    let is_deleted = volume.state().will_be_deleted();
    match moment {
        Moment::Now if is_deleted => Err(VolumeError::NotHere { volume: volume.id.clone() }),
        Moment::Now => refuse_trashed(volume),
        Moment::Entry(entry) => {
            if !is_deleted {
                refuse_trashed(volume)?;
            }
            let views = volume.state().entries();
            match views.iter().any(|view| view.record.id == *entry) {
                true => Ok(()),
                false => Err(VolumeError::NoEntry { entry: *entry }),
            }
        }
    }
}

/// Takes a volume away that was made for `pending` and has no head, with what was captured of it since.
pub(crate) fn remove_new(
    inner: &Inner,
    id: &VolumeId,
    pending: &Pending,
) -> Result<(), VolumeError> {
    if inner.find_volume(id).is_some_and(|volume| volume.state().known.is_some()) {
        return Err(VolumeError::Exists { volume: id.clone() });
    }
    let volume = inner.find_volume(id);
    inner.forget(id);
    let stored = SubvolumePath::Stored(id.clone(), pending.operation);
    for place in [&SubvolumePath::Volume(id.clone()), &stored] {
        inner.pool.delete(place).map_err(pool_failed("failed to take a new volume away"))?;
    }
    let forgotten = |error| VolumeError::failed("failed to forget a new volume", error);
    inner.wait(inner.database.delete_stored(id, &pending.operation)).map_err(forgotten)?;
    let Some(volume) = volume else { return Ok(()) };
    for other in volume.others(&pending.operation) {
        inner.drop_stored(id, &other.operation);
        inner.wait(inner.database.delete_pending(&other.operation)).map_err(forgotten)?;
        volume.give_up(&other.operation);
    }
    volume.wake.notify_one();
    Ok(())
}
