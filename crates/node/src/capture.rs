//! The first half of every change: what happens on this node.
//!
//! Each function here ends with a row of pending work whose subvolumes are durable, or
//! leaves the volume as it was. All of them block.

mod create;
mod entry;
mod fork;
mod late_writes;
mod look;
mod restore;
mod restore_paths;
mod resume;
mod snapshot;

pub(crate) use create::{LIMITS, create};
pub(crate) use fork::fork;
pub(crate) use look::{look_at_all, look_at_one};
pub(crate) use restore::restore;
pub(crate) use resume::resume;
pub(crate) use snapshot::{draft, snapshot};

use std::sync::Arc;

use cove_btrfs::SubvolumePath;
use cove_content::head::{OpAnswer, RequestHash};
use cove_content::volumes::{Call, Progress, VolumeError};
use cove_database::PendingRow;
use cove_types::{Digest, ErrorKind, OperationId, VolumeId};
use tokio::sync::oneshot;

use crate::capture::create::place_created;
use crate::capture::fork::place_forks;
use crate::capture::restore::swap;
use crate::capture::restore_paths::put_paths;
use crate::node::Inner;
use crate::save::bring_entry;
use crate::volume::{Ended, Volume};
use crate::work::{Pending, Work};

/// The workspace's user and group.
pub(crate) const OWNER: (u32, u32) = (1000, 1000);

/// Where the data of services lies in a volume.
pub(crate) const SERVICES: &[u8] = b"services";

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

pub(crate) fn pending_row(inner: &Inner, pending: &Pending) -> Result<PendingRow, VolumeError> {
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

pub(crate) fn pending_of(call: &Call, volume: &VolumeId, work: Work) -> Pending {
    Pending {
        operation: call.operation,
        generation: 0,
        volume: volume.clone(),
        principal: call.principal.clone(),
        request: call.request,
        work,
    }
}

pub(crate) fn pool_failed(what: &str) -> impl FnOnce(cove_btrfs::PoolError) -> VolumeError {
    let what = what.to_owned();
    move |error| VolumeError::failed(what, error)
}

pub(crate) fn path_failed(what: &str) -> impl FnOnce(cove_btrfs::PathError) -> VolumeError {
    let what = what.to_owned();
    move |error| VolumeError::failed(what, error)
}

/// A subvolume's generation.
pub(crate) fn generation_at(inner: &Inner, place: &SubvolumePath) -> Result<u64, VolumeError> {
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
pub(crate) fn generation(inner: &Inner, volume: &VolumeId) -> Result<u64, VolumeError> {
    generation_at(inner, &SubvolumePath::Volume(volume.clone()))
}

pub(crate) fn lock(mutex: &std::sync::Mutex<()>) -> std::sync::MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Refuses a volume that is in the trash, or will be once the work before this one is saved: what is
/// captured after that could never be.
pub(crate) fn refuse_trashed(volume: &Volume) -> Result<(), VolumeError> {
    if volume.state().will_be_trashed() {
        return Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!("volume {} is in the trash", volume.id),
        });
    }
    Ok(())
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

/// Finishes the node's half of work whose row is written, and hands it over whatever came of that: what
/// fails here is tried again before it is saved.
pub(crate) fn finish_here(
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
