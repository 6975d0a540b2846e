//! The first half of every change: what happens on this node.
//!
//! Each function here ends with a row of pending work whose subvolumes are durable, or
//! leaves the volume as it was. All of them block.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cove_btrfs::{Access, Dir, SubvolumePath};
use cove_content::archive::{ExtractOptions, Limits, extract};
use cove_content::document::ProjectDocument;
use cove_content::entry::EntryRecord;
use cove_content::head::{OpAnswer, RequestHash};
use cove_content::read::project_root;
use cove_content::restore::restore_tree;
use cove_content::volumes::{Call, Moment, NewEntry, Progress, Restore, Source, VolumeError};
use cove_database::{CopyRow, DiscardedRow, PendingRow, StoredRow};
use cove_types::{
    Classify, Consistency, Digest, EntryId, EntryKind, EntryState, ErrorKind, OperationId,
    TreePath, VolumeId,
};
use tokio::sync::oneshot;

use crate::in_use::refuse_writers;
use crate::node::{Inner, chain, stored_row};
use crate::save::{SaveError, bring_entry, bring_older, chunks_of};
use crate::volume::{Ended, Trouble, Volume, unknown_root};
use crate::work::{Pending, Work};

/// The workspace's user and group.
pub(crate) const OWNER: (u32, u32) = (1000, 1000);
/// What one archive may bring: as many files and bytes as a large workspace has, sparse ones included.
pub(crate) const LIMITS: Limits = Limits { entries: 20_000_000, bytes: 1 << 60, depth: 255 };
/// Where the data of services lies in a volume.
const SERVICES: &[u8] = b"services";
/// How the directories begin in which what is restored waits, before the operation id.
const STAGING: &[u8] = b".restoring-";

/// A further operation id that follows from one, for the subvolumes that it needs besides its own.
pub(crate) fn sub(operation: &OperationId, ordinal: u32) -> OperationId {
    let digest = Digest::of(&[&operation.0[..], &ordinal.to_be_bytes()].concat());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.0[..16]);
    OperationId(bytes)
}

/// How an operation stands that somebody asks for.
pub(crate) enum Asked {
    /// It is new.
    New,
    /// It is captured and on its way.
    Pending(oneshot::Receiver<Ended>),
    /// It ended.
    Ended(Box<Ended>),
}

/// What became of an operation under this id before.
pub(crate) fn asked(inner: &Inner, volume: &Volume, call: &Call) -> Result<Asked, VolumeError> {
    {
        let mut state = volume.state();
        let pending = state.queue.iter().find(|other| other.operation == call.operation);
        if let Some(pending) = pending {
            if pending.request != call.request {
                return Err(VolumeError::OtherRequest);
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.entry(call.operation).or_default().push(sender);
            return Ok(Asked::Pending(receiver));
        }
    }
    let result = inner
        .wait(inner.database.find_result(&call.operation))
        .map_err(|error| VolumeError::failed("failed to look up an operation", error))?;
    if let Some(row) = result {
        if row.request != call.request {
            return Err(VolumeError::OtherRequest);
        }
        let ended = serde_json::from_str(&row.result).unwrap_or_default();
        return Ok(Asked::Ended(Box::new(ended)));
    }
    let state = volume.state();
    let Some(known) = &state.known else { return Ok(Asked::New) };
    match known.head.find_op(&call.operation, &RequestHash(call.request)) {
        OpAnswer::New => Ok(Asked::New),
        OpAnswer::OtherRequest => Err(VolumeError::OtherRequest),
        OpAnswer::TooOld => Err(VolumeError::TooOld),
        OpAnswer::First(result) => Ok(Asked::Ended(Box::new(Ended::from(result)))),
    }
}

/// Writes work down and hands it to the volume's task.
pub(crate) fn enqueue(
    inner: &Inner,
    volume: &Volume,
    pending: Pending,
) -> Result<oneshot::Receiver<Ended>, VolumeError> {
    let row = pending_row(inner, &pending)?;
    inner
        .wait(inner.database.insert_pending(&row))
        .map_err(|error| VolumeError::failed("failed to write down what is to be saved", error))?;
    Ok(hand_over(volume, pending))
}

pub(crate) fn hand_over(volume: &Volume, pending: Pending) -> oneshot::Receiver<Ended> {
    let (sender, receiver) = oneshot::channel();
    let mut state = volume.state();
    state.waiting.entry(pending.operation).or_default().push(sender);
    state.queue.retain(|other| other.operation != pending.operation);
    state.queue.push_back(pending);
    drop(state);
    volume.wake.notify_one();
    receiver
}

fn pending_row(inner: &Inner, pending: &Pending) -> Result<PendingRow, VolumeError> {
    let body = serde_json::to_string(pending).map_err(|error| VolumeError::Refused {
        kind: ErrorKind::Internal,
        what: format!("failed to write down what is to be saved: {error}"),
    })?;
    Ok(PendingRow {
        operation: pending.operation,
        volume: pending.volume.clone(),
        kind: pending.work.kind().to_owned(),
        principal: pending.principal.clone(),
        request: pending.request.to_vec(),
        body,
        created_us: inner.now_us(),
    })
}

fn pending_of(call: &Call, volume: &VolumeId, work: Work) -> Pending {
    Pending {
        operation: call.operation,
        generation: 0,
        volume: volume.clone(),
        principal: call.principal.clone(),
        request: call.request,
        work,
    }
}

fn pool_failed(what: &str) -> impl FnOnce(cove_btrfs::PoolError) -> VolumeError {
    let what = what.to_owned();
    move |error| VolumeError::failed(what, error)
}

fn path_failed(what: &str) -> impl FnOnce(cove_btrfs::PathError) -> VolumeError {
    let what = what.to_owned();
    move |error| VolumeError::failed(what, error)
}

/// A subvolume's generation.
fn generation_at(inner: &Inner, place: &SubvolumePath) -> Result<u64, VolumeError> {
    inner
        .pool
        .find(place)
        .map_err(pool_failed("failed to look at a subvolume"))?
        .map(|subvolume| subvolume.generation)
        .ok_or_else(|| VolumeError::Refused {
            kind: ErrorKind::Unavailable,
            what: format!("{place} is not there"),
        })
}

/// The live subvolume's generation.
fn generation(inner: &Inner, volume: &VolumeId) -> Result<u64, VolumeError> {
    generation_at(inner, &SubvolumePath::Volume(volume.clone()))
}

/// Makes the directories that every volume has.
fn furnish(dir: &Dir) -> Result<(), cove_btrfs::PathError> {
    let services = TreePath::from_bytes(SERVICES).map_err(|_| cove_btrfs::PathError::Top)?;
    for path in [project_root(), services] {
        dir.create_dir(&path, 0o755)?;
        dir.set_owner(&path, OWNER.0, OWNER.1)?;
    }
    Ok(())
}

/// Builds a new volume beside the others and moves it to its place.
pub(crate) fn create(
    inner: &Arc<Inner>,
    call: &Call,
    id: &VolumeId,
    document: ProjectDocument,
    source: Source,
) -> Result<(Arc<Volume>, Asked), VolumeError> {
    if let Some(volume) = inner.find_volume(id) {
        let asked = asked(inner, &volume, call)?;
        return match asked {
            Asked::New => Err(VolumeError::Exists { volume: id.clone() }),
            asked => Ok((volume, asked)),
        };
    }
    let incoming = SubvolumePath::Incoming(call.operation);
    // what an interrupted attempt of the same call left
    inner
        .pool
        .delete(&incoming)
        .map_err(pool_failed("failed to clear the place for the volume"))?;
    inner.pool.create(&incoming, id).map_err(pool_failed("failed to make the volume"))?;
    let built = fill(inner, call, &incoming, source);
    let remarks = match built {
        Ok(remarks) => remarks,
        Err(error) => {
            if let Err(left) = inner.pool.delete(&incoming) {
                tracing::warn!(error = chain(&left), "what was being built stays behind");
            }
            return Err(error);
        }
    };
    let volume = Arc::new(Volume::new(id.clone()));
    volume.state().document = Some(document.clone());
    let pending = pending_of(call, id, Work::Create { document, remarks });
    let row = pending_row(inner, &pending)?;
    inner
        .wait(inner.database.insert_pending(&row))
        .map_err(|error| VolumeError::failed("failed to write down what is to be saved", error))?;
    inner.adopt(&volume);
    let receiver = finish_here(inner, &volume, pending)?;
    Ok((volume, Asked::Pending(receiver)))
}

fn fill(
    inner: &Inner,
    call: &Call,
    incoming: &SubvolumePath,
    source: Source,
) -> Result<Vec<String>, VolumeError> {
    let dir = inner.pool.open(incoming).map_err(pool_failed("failed to open the new volume"))?;
    furnish(&dir).map_err(path_failed("failed to make the volume's directories"))?;
    let mut remarks = Vec::new();
    if let Source::Archive(mut stream) = source {
        call.progress.step("importing");
        let progress = call.progress.clone();
        let options = ExtractOptions { owner: Some(OWNER), limits: LIMITS, new_names_only: true };
        let extracted = extract(&mut *stream, &dir, &project_root(), &options, &|files, bytes| {
            progress.update(|progress| {
                progress.done_files = files;
                progress.done_bytes = bytes;
            });
        })
        .map_err(|error| VolumeError::failed("failed to import the files", error))?;
        remarks = extracted.remarks;
    }
    drop(dir);
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))?;
    Ok(remarks)
}

/// Moves what was built to its place and takes its first snapshot; may be repeated.
fn place_created(inner: &Inner, mut pending: Pending) -> Result<Pending, VolumeError> {
    let incoming = SubvolumePath::Incoming(pending.operation);
    let place = SubvolumePath::Volume(pending.volume.clone());
    let there = |place: &SubvolumePath| {
        inner.pool.find(place).map_err(pool_failed("failed to look at the volume"))
    };
    if there(&place)?.is_none() {
        inner
            .pool
            .rename(&incoming, &place)
            .map_err(pool_failed("failed to put the volume in its place"))?;
    }
    let stored = SubvolumePath::Stored(pending.volume.clone(), pending.operation);
    if there(&stored)?.is_none() {
        inner
            .pool
            .snapshot(&place, &stored, Access::ReadOnly, &pending.volume)
            .map_err(pool_failed("failed to take a snapshot"))?;
    }
    pending.generation = generation_at(inner, &stored)?;
    Ok(pending)
}

/// Freezes the present state for the call.
fn freeze(inner: &Inner, volume: &Volume, pending: &mut Pending) -> Result<u64, VolumeError> {
    let begun = inner.env.since_boot();
    let live = SubvolumePath::Volume(volume.id.clone());
    let stored = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    let snapshot = || inner.pool.snapshot(&live, &stored, Access::ReadOnly, &volume.id);
    let taken = match snapshot() {
        // an attempt of the same call that was never written down: its caller was told nothing
        Err(cove_btrfs::PoolError::Exists { .. }) => {
            inner.pool.delete(&stored).and_then(|_| snapshot())
        }
        taken => taken,
    };
    taken.map_err(pool_failed("failed to take a snapshot"))?;
    // a snapshot has the generation that it gives its source, and any later change a higher one
    pending.generation = generation_at(inner, &stored)?;
    let row = stored_row(inner, pending);
    inner
        .wait(inner.database.put_stored(&row))
        .map_err(|error| VolumeError::failed("failed to write down a snapshot", error))?;
    volume.state().stored.insert(row.operation, row);
    let taken = inner.env.since_boot().saturating_sub(begun);
    Ok(u64::try_from(taken.as_millis()).unwrap_or(u64::MAX))
}

fn draft(
    inner: &Inner,
    id: EntryId,
    kind: EntryKind,
    author: &str,
    cause: Option<String>,
) -> EntryRecord {
    EntryRecord {
        id,
        kind,
        author: author.to_owned(),
        cause,
        message: None,
        label: None,
        pinned: false,
        time: inner.env.now(),
        captured_ms: 0,
        saved_ms: None,
        consistency: Consistency::Instant,
        state: EntryState::Live,
        trashed_at: None,
        volume_snapshot: None,
        root: unknown_root(),
        unknown: serde_json::Map::new(),
    }
}

fn lock(mutex: &std::sync::Mutex<()>) -> std::sync::MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Refuses a volume that is in the trash, or will be once the work before this one is saved: what is
/// captured after that could never be.
fn refuse_trashed(volume: &Volume) -> Result<(), VolumeError> {
    if volume.state().will_be_trashed() {
        return Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!("volume {} is in the trash", volume.id),
        });
    }
    Ok(())
}

/// Captures the present state as an entry.
pub(crate) fn snapshot(
    inner: &Arc<Inner>,
    volume: &Volume,
    call: &Call,
    entry: &NewEntry,
) -> Result<Asked, VolumeError> {
    let _one = lock(&volume.capture);
    match asked(inner, volume, call)? {
        Asked::New => {}
        asked => return Ok(asked),
    }
    refuse_trashed(volume)?;
    if let Some(label) = &entry.label {
        bring_older(inner, volume).map_err(SaveError::for_caller)?;
        let entries = volume.state().entries();
        let taken = entries
            .iter()
            .find(|view| view.record.is_live() && view.record.label.as_ref() == Some(label));
        if let Some(taken) = taken {
            return Err(VolumeError::LabelTaken { label: label.clone(), entry: taken.record.id });
        }
    }
    let id = EntryId::derive(&call.operation, "snapshot");
    let mut record = draft(inner, id, entry.kind, &entry.author, None);
    record.message.clone_from(&entry.message);
    record.label.clone_from(&entry.label);
    let mut pending =
        pending_of(call, &volume.id, Work::Snapshot { entry: record, keep: entry.keep });
    let _held = volume.hold([call.operation]);
    let taken = freeze(inner, volume, &mut pending)?;
    if let Work::Snapshot { entry, .. } = &mut pending.work {
        entry.captured_ms = taken;
    }
    enqueue(inner, volume, pending).map(Asked::Pending)
}

/// Captures a change of the head alone.
pub(crate) fn change(
    inner: &Arc<Inner>,
    volume: &Volume,
    call: &Call,
    work: Work,
) -> Result<Asked, VolumeError> {
    let _one = lock(&volume.capture);
    match asked(inner, volume, call)? {
        Asked::New => {}
        asked => return Ok(asked),
    }
    enqueue(inner, volume, pending_of(call, &volume.id, work)).map(Asked::Pending)
}

/// The subvolume on this node that is exactly an entry, if there is one.
fn local_entry(inner: &Inner, volume: &Volume, entry: &EntryId) -> Option<SubvolumePath> {
    let state = volume.state();
    let record = state.known.as_ref()?.find_entry(entry)?;
    // what a tree does not hold is not to come back from a local snapshot either
    if record.root.not_captured.count > 0 {
        return None;
    }
    let tree = record.root.tree.to_string();
    let row = state
        .stored
        .values()
        .find(|row| row.entry == Some(*entry) && row.root.as_ref() == Some(&tree))?;
    let place = SubvolumePath::Stored(volume.id.clone(), row.operation);
    drop(state);
    inner.pool.find(&place).ok().flatten().map(|_| place)
}

/// The root of an entry that is saved.
fn entry_root(
    volume: &Volume,
    entry: &EntryId,
) -> Result<(Digest, cove_content::locations::Locations), VolumeError> {
    let state = volume.state();
    let known = state.known.as_ref().ok_or(VolumeError::NoEntry { entry: *entry })?;
    let record = known.find_entry(entry).ok_or(VolumeError::NoEntry { entry: *entry })?;
    Ok((record.root.tree, known.head.locations.clone()))
}

/// Makes `target` a writable subvolume of group `group` that holds an entry.
fn build_entry(
    inner: &Inner,
    volume: &Volume,
    entry: &EntryId,
    target: &SubvolumePath,
    group: &VolumeId,
    progress: &Progress,
) -> Result<(), VolumeError> {
    inner.pool.delete(target).map_err(pool_failed("failed to clear the place for an entry"))?;
    if let Some(local) = local_entry(inner, volume, entry) {
        return inner
            .pool
            .snapshot(&local, target, Access::ReadWrite, group)
            .map_err(pool_failed("failed to copy an entry"));
    }
    let (tree, locations) = entry_root(volume, entry)?;
    build_tree(inner, &tree, &locations, target, group, progress)
}

/// Makes `target` a writable subvolume of group `group` that holds a tree, from the store.
pub(crate) fn build_tree(
    inner: &Inner,
    tree: &Digest,
    locations: &cove_content::locations::Locations,
    target: &SubvolumePath,
    group: &VolumeId,
    progress: &Progress,
) -> Result<(), VolumeError> {
    inner
        .pool
        .create(target, group)
        .map_err(pool_failed("failed to make a place for the files"))?;
    progress.step("restoring");
    let dir = inner.pool.open(target).map_err(pool_failed("failed to open the new files"))?;
    let chunks = chunks_of(inner, locations);
    let top = TreePath::top();
    let built = restore_tree(&chunks, tree, &top, &dir, &top, progress)
        .map_err(|error| VolumeError::failed("failed to restore the files", error));
    let built = built.and_then(|()| {
        for path in [project_root(), TreePath::from_bytes(SERVICES).unwrap_or_default()] {
            let there = dir.find(&path).map_err(path_failed("failed to look at the files"))?;
            if there.is_none() {
                dir.create_dir(&path, 0o755).map_err(path_failed("failed to make a directory"))?;
                dir.set_owner(&path, OWNER.0, OWNER.1)
                    .map_err(path_failed("failed to make a directory"))?;
            }
        }
        Ok(())
    });
    drop(dir);
    if let Err(error) = built {
        if let Err(left) = inner.pool.delete(target) {
            tracing::warn!(error = chain(&left), "a part of a restore stays behind");
        }
        return Err(error);
    }
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

/// Waits until an entry that is only captured is saved.
fn wait_entry(volume: &Volume, inner: &Inner, entry: &EntryId) -> Result<(), VolumeError> {
    let receiver = {
        let mut state = volume.state();
        let operation = state.queue.iter().find_map(|pending| match &pending.work {
            Work::Snapshot { entry: record, .. } if record.id == *entry => Some(pending.operation),
            Work::Restore { before, .. } | Work::RestorePaths { before, .. }
                if before.id == *entry =>
            {
                Some(pending.operation)
            }
            _ => None,
        });
        let Some(operation) = operation else { return Ok(()) };
        let (sender, receiver) = oneshot::channel();
        state.waiting.entry(operation).or_default().push(sender);
        receiver
    };
    inner.wait(receiver).map(drop).map_err(|_| VolumeError::Refused {
        kind: ErrorKind::Unavailable,
        what: "cove is stopping".into(),
    })
}

/// Goes back to an entry: swaps a subvolume that holds it in, and keeps what was there.
pub(crate) fn restore(
    inner: &Arc<Inner>,
    volume: &Volume,
    call: &Call,
    restore: &Restore,
) -> Result<Asked, VolumeError> {
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_trashed(volume)?;
    wait_entry(volume, inner, &restore.entry)?;
    bring_entry(inner, volume, &restore.entry)?;
    entry_root(volume, &restore.entry)?;
    if !restore.paths.is_empty() {
        return restore_paths(inner, volume, call, restore);
    }
    let incoming = SubvolumePath::Incoming(call.operation);
    build_entry(inner, volume, &restore.entry, &incoming, &volume.id, &call.progress)?;
    let _one = lock(&volume.capture);
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    if let Err(error) = refuse_restore(inner, volume, restore) {
        inner.pool.delete(&incoming).map_err(pool_failed("failed to clear what was built"))?;
        return Err(error);
    }
    let uuid = inner
        .pool
        .find(&incoming)
        .map_err(pool_failed("failed to look at what was built"))?
        .map(|subvolume| subvolume.uuid)
        .unwrap_or_default();
    let id = EntryId::derive(&call.operation, "before");
    let before = draft(
        inner,
        id,
        EntryKind::BeforeRestore,
        &restore.author,
        Some(restore.entry.to_string()),
    );
    let base_before = volume.state().copy.as_ref().map(|copy| (copy.base, copy.tree));
    let held = [call.operation, sub(&call.operation, 1)];
    let _held = volume.hold(held.into_iter().chain(base_before.map(|(base, _)| base)));
    let work = Work::Restore {
        entry: restore.entry,
        before,
        keep: restore.keep,
        uuid,
        base_before,
        done: false,
    };
    let pending = pending_of(call, &volume.id, work);
    let row = pending_row(inner, &pending)?;
    inner.wait(inner.database.insert_pending(&row)).map_err(|error| {
        VolumeError::failed("failed to write down what is to be restored", error)
    })?;
    finish_here(inner, volume, pending).map(Asked::Pending)
}

/// Refuses what could not be saved after the swap, and programs that would go on writing into what is
/// swapped out.
fn refuse_restore(inner: &Inner, volume: &Volume, restore: &Restore) -> Result<(), VolumeError> {
    refuse_trashed(volume)?;
    let entries = volume.state().entries().len();
    if entries >= cove_content::entry::ENTRIES_MAX {
        return Err(VolumeError::TooManyEntries);
    }
    if restore.force {
        return Ok(());
    }
    refuse_writers(&inner.pool.absolute(&SubvolumePath::Volume(volume.id.clone())))
}

/// Finishes the node's half of work whose row is written, and hands it over whatever came of that: what
/// fails here is tried again before it is saved.
fn finish_here(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: Pending,
) -> Result<oneshot::Receiver<Ended>, VolumeError> {
    match complete(inner, volume, &pending) {
        Ok(completed) => Ok(hand_over(volume, completed)),
        Err(error) => {
            drop(hand_over(volume, pending));
            Err(error)
        }
    }
}

/// Finishes the node's half of work, if that is not done yet, and writes down that it is.
pub(crate) fn complete(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
) -> Result<Pending, VolumeError> {
    let mut completed = pending.clone();
    if let Work::Restore { entry, done: false, .. }
    | Work::RestorePaths { entry, done: false, .. }
    | Work::Fork { entry: Some(entry), done: false, .. } = &pending.work
    {
        bring_entry(inner, volume, entry)?;
    }
    match &pending.work {
        Work::Create { .. } => return place_created(inner, completed),
        Work::Restore { done: false, .. } => swap(inner, volume, pending)?,
        Work::RestorePaths { done: false, .. } => put_paths(inner, volume, pending)?,
        Work::Fork { done: false, .. } => {
            place_forks(inner, volume, pending, &Progress::default())?;
        }
        _ => return Ok(completed),
    }
    match &mut completed.work {
        Work::Restore { done, .. } | Work::RestorePaths { done, .. } | Work::Fork { done, .. } => {
            *done = true;
        }
        _ => {}
    }
    let row = pending_row(inner, &completed)?;
    inner
        .wait(inner.database.update_pending(&completed.operation, &row.body))
        .map_err(|error| VolumeError::failed("failed to write down what is done", error))?;
    let mut state = volume.state();
    if let Some(queued) =
        state.queue.iter_mut().find(|queued| queued.operation == completed.operation)
    {
        *queued = completed.clone();
    }
    drop(state);
    Ok(completed)
}

/// Swaps a restored subvolume in, snapshots what was swapped out and puts it aside; may be repeated from
/// any point.
fn swap(inner: &Inner, volume: &Volume, pending: &Pending) -> Result<(), VolumeError> {
    let Work::Restore { entry, uuid, .. } = &pending.work else { return Ok(()) };
    let _place = volume.place.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let find = |place: &SubvolumePath| {
        inner.pool.find(place).map_err(pool_failed("failed to look at a subvolume"))
    };
    let live = SubvolumePath::Volume(volume.id.clone());
    let incoming = SubvolumePath::Incoming(pending.operation);
    let base = sub(&pending.operation, 1);
    let base_place = SubvolumePath::Stored(volume.id.clone(), base);
    if find(&live)?.is_none_or(|live| live.uuid != *uuid) {
        // not swapped yet: the base of what will be stored next is the restored state itself
        if find(&base_place)?.is_none() {
            inner
                .pool
                .snapshot(&incoming, &base_place, Access::ReadOnly, &volume.id)
                .map_err(pool_failed("failed to take a snapshot"))?;
        }
        inner
            .pool
            .exchange(&live, &incoming)
            .map_err(pool_failed("failed to swap the files in"))?;
    }
    let stored = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    let trash = SubvolumePath::Trash(pending.operation);
    if find(&stored)?.is_none() {
        let from = if find(&incoming)?.is_some() { &incoming } else { &trash };
        inner
            .pool
            .snapshot(from, &stored, Access::ReadOnly, &volume.id)
            .map_err(pool_failed("failed to take a snapshot of the state before"))?;
    }
    if find(&incoming)?.is_some() {
        inner
            .pool
            .rename(&incoming, &trash)
            .map_err(pool_failed("failed to put the state before aside"))?;
    }
    let put_aside = generation_at(inner, &stored)?;
    let live_generation = generation_at(inner, &base_place)?;
    let (tree, _) = entry_root(volume, entry)?;
    let copy = CopyRow {
        volume: volume.id.clone(),
        base,
        tree,
        seq: volume.state().seq(),
        generation: live_generation,
        unsaved_bytes: Some(0),
        looked_us: inner.now_us(),
    };
    let base_row = StoredRow {
        volume: volume.id.clone(),
        operation: base,
        entry: None,
        root: Some(tree.to_string()),
        captured_us: inner.now_us(),
    };
    let finished = cove_database::Finished {
        copies: vec![copy.clone()],
        stored: vec![base_row, stored_row(inner, pending)],
        discarded: vec![DiscardedRow {
            operation: pending.operation,
            volume: volume.id.clone(),
            generation: put_aside,
            entry: None,
            moved_us: inner.now_us(),
        }],
        ..cove_database::Finished::default()
    };
    inner
        .wait(inner.database.finish(&finished))
        .map_err(|error| VolumeError::failed("failed to write down a restore", error))?;
    let mut state = volume.state();
    state.copy = Some(copy);
    for row in finished.stored {
        state.stored.insert(row.operation, row);
    }
    Ok(())
}

/// Makes some paths exactly as in an entry; what was there is in a snapshot first.
fn restore_paths(
    inner: &Arc<Inner>,
    volume: &Volume,
    call: &Call,
    restore: &Restore,
) -> Result<Asked, VolumeError> {
    let _one = lock(&volume.capture);
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_restore(inner, volume, restore)?;
    let place = SubvolumePath::Volume(volume.id.clone());
    // a path that is in neither state is the caller's mistake, found before anything is done
    let (tree, locations) = entry_root(volume, &restore.entry)?;
    let chunks = chunks_of(inner, &locations);
    let live = inner.pool.open(&place).map_err(pool_failed("failed to open the volume"))?;
    for path in &restore.paths {
        let in_volume = cove_content::read::in_volume(path)
            .map_err(|error| VolumeError::failed("failed to restore a path", error))?;
        let then = cove_content::tree::find_entry(&chunks, &tree, &in_volume)
            .map_err(|error| VolumeError::failed("failed to read the entry", error))?;
        refuse_others_above(&live, &in_volume, path)?;
        let now = live.find(&in_volume).map_err(path_failed("failed to look at the files"))?;
        if then.is_none() && now.is_none() {
            return Err(VolumeError::NoPath { path: path.clone() });
        }
    }
    drop(live);
    let id = EntryId::derive(&call.operation, "before");
    let before = draft(
        inner,
        id,
        EntryKind::BeforeRestore,
        &restore.author,
        Some(restore.entry.to_string()),
    );
    let work = Work::RestorePaths {
        entry: restore.entry,
        paths: restore.paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
        before,
        keep: restore.keep,
        done: false,
    };
    let mut pending = pending_of(call, &volume.id, work);
    let _held = volume.hold([call.operation]);
    let taken = freeze(inner, volume, &mut pending)?;
    if let Work::RestorePaths { before, .. } = &mut pending.work {
        before.captured_ms = taken;
    }
    let staged = stage_paths(inner, volume, &pending, &call.progress).and_then(|()| {
        let row = pending_row(inner, &pending)?;
        inner.wait(inner.database.insert_pending(&row)).map_err(|error| {
            VolumeError::failed("failed to write down what is to be restored", error)
        })
    });
    if let Err(error) = staged {
        // nothing of the volume has changed, and the same call may come again
        if let Err(left) = clear_staged(inner, volume, &[]) {
            tracing::warn!(error = chain(&left), "a part of a restore stays behind");
        }
        volume.state().stored.remove(&pending.operation);
        inner.drop_stored(&volume.id, &pending.operation);
        return Err(error);
    }
    let receiver = finish_here(inner, volume, pending)?;
    background(inner, volume)?;
    Ok(Asked::Pending(receiver))
}

/// Refuses a path below what is no directory now, a symbolic link above all: what is restored goes
/// to the place that its name says.
fn refuse_others_above(
    live: &Dir,
    in_volume: &TreePath,
    shown: &TreePath,
) -> Result<(), VolumeError> {
    let above = std::iter::successors(in_volume.parent(), TreePath::parent);
    let mut above: Vec<TreePath> = above.take_while(|path| !path.is_top()).collect();
    // from the top, so that none is looked for behind a link
    above.reverse();
    for path in above {
        let found = live.find(&path).map_err(path_failed("failed to look at the files"))?;
        let what = match found.map(|metadata| metadata.kind) {
            Some(cove_btrfs::FileKind::Directory) => continue,
            // nor is there anything below it
            None => break,
            Some(cove_btrfs::FileKind::Symlink) => "a symbolic link",
            Some(_) => "no directory",
        };
        return Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!("what was a directory above {shown} is {what} now"),
        });
    }
    Ok(())
}

/// Where what a work restores waits beside `files/` until all of it is there. No snapshot sees it:
/// it comes and goes while captures wait, and a start clears it first.
fn staging(operation: &OperationId) -> Result<TreePath, VolumeError> {
    let name = [STAGING, operation.to_string().as_bytes()].concat();
    TreePath::from_bytes(&name)
        .map_err(|error| VolumeError::failed("failed to name a place for files", error))
}

/// Where the n-th path of a work waits, and the mark that it is to be gone instead.
fn staged(staging: &TreePath, n: usize) -> Result<(TreePath, TreePath), VolumeError> {
    let name = |text: String| {
        staging
            .join(text.as_bytes())
            .map_err(|error| VolumeError::failed("failed to name a place for files", error))
    };
    Ok((name(n.to_string())?, name(format!("{n}.gone"))?))
}

/// Brings all that a work restores to this disk, and changes nothing of the files yet.
fn stage_paths(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
    progress: &Progress,
) -> Result<(), VolumeError> {
    let Work::RestorePaths { entry, paths, .. } = &pending.work else { return Ok(()) };
    let (tree, locations) = entry_root(volume, entry)?;
    let chunks = chunks_of(inner, &locations);
    let live = inner
        .pool
        .open(&SubvolumePath::Volume(volume.id.clone()))
        .map_err(pool_failed("failed to open the volume"))?;
    let staging = staging(&pending.operation)?;
    live.create_dir(&staging, 0o700).map_err(path_failed("failed to make a directory"))?;
    progress.step("restoring");
    for (n, bytes) in paths.iter().enumerate() {
        let path = path_of(bytes)?;
        let (place, gone) = staged(&staging, n)?;
        let then = cove_content::tree::find_entry(&chunks, &tree, &path)
            .map_err(|error| VolumeError::failed("failed to read the entry", error))?;
        if then.is_none() {
            live.create_file(&gone, 0o600).map_err(path_failed("failed to make a file"))?;
            continue;
        }
        restore_tree(&chunks, &tree, &path, &live, &place, progress)
            .map_err(|error| VolumeError::failed("failed to restore a path", error))?;
    }
    drop(live);
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

fn path_of(bytes: &[u8]) -> Result<TreePath, VolumeError> {
    TreePath::from_bytes(bytes)
        .and_then(|path| cove_content::read::in_volume(&path))
        .map_err(|error| VolumeError::failed("failed to restore a path", error))
}

/// Removes what was staged for work that is not in `queue`: it was never written down, or is done.
fn clear_staged(inner: &Inner, volume: &Volume, queue: &[Pending]) -> Result<(), VolumeError> {
    let place = SubvolumePath::Volume(volume.id.clone());
    let there = inner.pool.find(&place).map_err(pool_failed("failed to look at the volume"))?;
    if there.is_none() {
        return Ok(());
    }
    let live = inner.pool.open(&place).map_err(pool_failed("failed to open the volume"))?;
    let top = TreePath::top();
    for (name, _) in live.list(&top).map_err(path_failed("failed to look at the files"))? {
        let Some(operation) = name.strip_prefix(STAGING) else { continue };
        let is_needed =
            queue.iter().any(|other| other.operation.to_string().as_bytes() == operation);
        if let Ok(path) = top.join(&name)
            && !is_needed
        {
            live.remove(&path, true).map_err(path_failed("failed to remove a file"))?;
        }
    }
    Ok(())
}

/// Puts the staged paths of a work in place, each once: what a person changed there since is not
/// replaced again when this is repeated.
fn put_paths(inner: &Inner, volume: &Volume, pending: &Pending) -> Result<(), VolumeError> {
    let Work::RestorePaths { paths, .. } = &pending.work else { return Ok(()) };
    let _place = volume.place.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    let live = inner
        .pool
        .open(&SubvolumePath::Volume(volume.id.clone()))
        .map_err(pool_failed("failed to open the volume"))?;
    let staging = staging(&pending.operation)?;
    let waits = |place: &TreePath| {
        let found = live.find(place).map_err(path_failed("failed to look at the files"))?;
        Ok::<_, VolumeError>(found.is_some())
    };
    if !waits(&staging)? {
        return Ok(());
    }
    let remove = |path: &TreePath| {
        live.remove(path, true).map(drop).map_err(path_failed("failed to remove a file"))
    };
    for (n, bytes) in paths.iter().enumerate() {
        let path = path_of(bytes)?;
        let (place, gone) = staged(&staging, n)?;
        if waits(&gone)? {
            remove(&path)?;
            remove(&gone)?;
        } else if waits(&place)? {
            remove(&path)?;
            if let Some(parent) = path.parent() {
                crate::files::make_owned(&live, &parent)
                    .map_err(path_failed("failed to make a directory"))?;
            }
            live.rename(&place, &path).map_err(path_failed("failed to put a file in place"))?;
        }
    }
    remove(&staging)?;
    drop(live);
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))
}

/// Makes forks: their subvolumes now, their heads when the source is saved.
pub(crate) fn fork(
    inner: &Arc<Inner>,
    volume: &Volume,
    call: &Call,
    moment: &Moment,
    targets: &[(VolumeId, ProjectDocument)],
) -> Result<Asked, VolumeError> {
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_trashed(volume)?;
    let entry = match moment {
        Moment::Now => None,
        Moment::Entry(entry) => {
            wait_entry(volume, inner, entry)?;
            bring_entry(inner, volume, entry)?;
            entry_root(volume, entry)?;
            Some(*entry)
        }
    };
    let _one = lock(&volume.capture);
    // the same call may have come twice
    if let asked @ (Asked::Pending(_) | Asked::Ended(_)) = asked(inner, volume, call)? {
        return Ok(asked);
    }
    refuse_trashed(volume)?;
    for (target, _) in targets {
        if inner.find_volume(target).is_some() {
            return Err(VolumeError::Exists { volume: target.clone() });
        }
    }
    let work = Work::Fork { entry, targets: targets.to_vec(), done: false };
    let mut pending = pending_of(call, &volume.id, work);
    let _held = volume.hold([call.operation]);
    if entry.is_none() {
        freeze(inner, volume, &mut pending)?;
    }
    let row = pending_row(inner, &pending)?;
    inner
        .wait(inner.database.insert_pending(&row))
        .map_err(|error| VolumeError::failed("failed to write down what is to be forked", error))?;
    finish_here(inner, volume, pending).map(Asked::Pending)
}

/// Makes the subvolumes of forks; may be repeated.
fn place_forks(
    inner: &Arc<Inner>,
    volume: &Volume,
    pending: &Pending,
    progress: &Progress,
) -> Result<(), VolumeError> {
    let Work::Fork { entry, targets, .. } = &pending.work else { return Ok(()) };
    let mut source = SubvolumePath::Stored(volume.id.clone(), pending.operation);
    if let Some(entry) = entry {
        source = match local_entry(inner, volume, entry) {
            Some(local) => local,
            None => {
                let built = SubvolumePath::Incoming(pending.operation);
                build_entry(inner, volume, entry, &built, &volume.id, progress)?;
                built
            }
        };
    }
    for (target, document) in targets {
        let stored = SubvolumePath::Stored(target.clone(), pending.operation);
        let live = SubvolumePath::Volume(target.clone());
        let find = |place: &SubvolumePath| {
            inner.pool.find(place).map_err(pool_failed("failed to look at a subvolume"))
        };
        if find(&stored)?.is_none() {
            inner
                .pool
                .snapshot(&source, &stored, Access::ReadOnly, target)
                .map_err(pool_failed("failed to copy the files"))?;
        }
        if find(&live)?.is_none() {
            inner
                .pool
                .snapshot(&stored, &live, Access::ReadWrite, target)
                .map_err(pool_failed("failed to copy the files"))?;
        }
        let fork =
            inner.find_volume(target).unwrap_or_else(|| Arc::new(Volume::new(target.clone())));
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
        inner
            .wait(inner.database.put_stored(&row))
            .map_err(|error| VolumeError::failed("failed to write down a fork", error))?;
        {
            let mut state = fork.state();
            state.document = Some(document.clone());
            state.copy = Some(copy);
            state.stored.insert(row.operation, row);
        }
        inner.adopt(&fork);
    }
    if let SubvolumePath::Incoming(_) = source {
        inner.pool.delete(&source).map_err(pool_failed("failed to clear what was built"))?;
    }
    Ok(())
}

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

/// Captures the present state when it has changed since it was last stored, for nobody in particular.
fn background(inner: &Arc<Inner>, volume: &Volume) -> Result<(), VolumeError> {
    let mut pending = Pending {
        operation: inner.env.operation_id(volume.state().seq()),
        generation: 0,
        volume: volume.id.clone(),
        principal: "cove".into(),
        request: [0; 8],
        work: Work::Background,
    };
    let _held = volume.hold([pending.operation]);
    freeze(inner, volume, &mut pending)?;
    enqueue(inner, volume, pending).map(drop)
}

/// Looks at every volume once and captures those that changed.
pub(crate) fn look_at_all(inner: &Arc<Inner>) {
    if inner.stopping.load(Ordering::SeqCst) {
        return;
    }
    if let Err(error) = inner.pool.flush() {
        tracing::error!(error = chain(&error), "the pool cannot be written to");
    }
    for volume in inner.all_volumes() {
        if let Err(error) = look_at(inner, &volume) {
            let what = chain(&error);
            tracing::warn!(volume = %volume.id, what, "a volume was not looked at");
            let mut state = volume.state();
            let since = state.looking.as_ref().map_or(inner.env.now(), |old| old.since);
            state.looking = Some(Trouble { what, kind: error.kind(), since });
        } else {
            volume.state().looking = None;
        }
    }
}

fn look_at(inner: &Arc<Inner>, volume: &Volume) -> Result<(), VolumeError> {
    {
        let state = volume.state();
        // what is captured already will be saved in its turn, and a look comes after it
        if !state.is_live() || !state.queue.is_empty() || state.fenced {
            return Ok(());
        }
    }
    rescue_late_writes(inner, volume)?;
    // whoever captures now may be waiting for somebody else; the next look comes soon
    match volume.capture.try_lock() {
        Ok(_one) => capture_changed(inner, volume),
        Err(_) => Ok(()),
    }
}

/// Captures the present state when the head is another. The caller holds the volume's capture lock.
fn capture_changed(inner: &Arc<Inner>, volume: &Volume) -> Result<(), VolumeError> {
    let live = generation(inner, &volume.id)?;
    let unchanged = {
        let state = volume.state();
        let tree = state.known.as_ref().map(|known| known.head.now.tree);
        state.queue.is_empty()
            && state
                .copy
                .as_ref()
                .is_some_and(|copy| copy.generation == live && Some(copy.tree) == tree)
    };
    if unchanged { Ok(()) } else { background(inner, volume) }
}

/// What was written, through a descriptor that outlived a restore, into the subvolume that was swapped
/// out becomes a rescue entry.
fn rescue_late_writes(inner: &Arc<Inner>, volume: &Volume) -> Result<(), VolumeError> {
    let discarded = inner
        .wait(inner.database.discarded())
        .map_err(|error| VolumeError::failed("failed to look for late writes", error))?;
    for mut row in discarded.into_iter().filter(|row| row.volume == volume.id) {
        let place = SubvolumePath::Trash(row.operation);
        let found =
            inner.pool.find(&place).map_err(pool_failed("failed to look for late writes"))?;
        let Some(found) = found else { continue };
        if found.generation == row.generation {
            continue;
        }
        let _one = lock(&volume.capture);
        let id = EntryId::derive(&row.operation, "rescue");
        let record = draft(inner, id, EntryKind::Rescue, "cove", Some("late writes".into()));
        let mut pending = Pending {
            operation: inner.env.operation_id(volume.state().seq()),
            generation: 0,
            volume: volume.id.clone(),
            principal: "cove".into(),
            request: [0; 8],
            work: Work::Rescue { entry: record },
        };
        let _held = volume.hold([pending.operation]);
        inner
            .pool
            .snapshot(
                &place,
                &SubvolumePath::Stored(volume.id.clone(), pending.operation),
                Access::ReadOnly,
                &volume.id,
            )
            .map_err(pool_failed("failed to take a snapshot of late writes"))?;
        pending.generation = 0;
        let stored = stored_row(inner, &pending);
        inner
            .wait(inner.database.put_stored(&stored))
            .map_err(|error| VolumeError::failed("failed to write down a snapshot", error))?;
        volume.state().stored.insert(stored.operation, stored);
        let stored_place = SubvolumePath::Stored(volume.id.clone(), pending.operation);
        row.generation = generation_at(inner, &stored_place)?;
        row.entry = Some(id);
        let _receiver = enqueue(inner, volume, pending)?;
        inner
            .wait(inner.database.put_discarded(&row))
            .map_err(|error| VolumeError::failed("failed to write down late writes", error))?;
    }
    Ok(())
}

/// Captures one volume when it has changed, after whatever is being captured now; for whoever needs
/// all that was written before this call in the store.
pub(crate) fn look_at_one(inner: &Arc<Inner>, volume: &Volume) -> Result<(), VolumeError> {
    inner.pool.flush().map_err(pool_failed("failed to write the files to disk"))?;
    let _one = lock(&volume.capture);
    let goes_on = {
        let state = volume.state();
        state.is_live() && !state.fenced
    };
    if goes_on { capture_changed(inner, volume) } else { Ok(()) }
}
