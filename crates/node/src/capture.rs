//! The first half of every change: what happens on this node.
//!
//! Each function here ends with a row of pending work whose subvolumes are durable, or
//! leaves the volume as it was. All of them block.

mod built;
mod complete;
mod create;
mod delete;
mod entry;
mod fork;
mod late_writes;
mod look;
mod replaced;
mod restore;
mod restore_paths;
mod resume;
mod snapshot;
mod specify;
mod together;

pub(crate) use built::Built;
pub(crate) use complete::{
    asks_store, complete, finish_here, give_up, is_lasting, is_unfinished, undo,
};
pub(crate) use create::{LIMITS, create};
pub(crate) use delete::{delete, end_of_removal, remove_entry, take_files};
pub(crate) use entry::{furnish, local_entry, strip_volume};
pub(crate) use fork::{Source as ForkSource, fork, prepare_fork, refuse_source};
pub(crate) use look::{background, look_at_all, look_at_one};
pub(crate) use replaced::Looked;
pub(crate) use restore::{prepare_restore, restore};
pub(crate) use restore_paths::{litter, prepare_paths, restore_paths, staging_of};
pub(crate) use resume::resume;
pub(crate) use snapshot::{draft, refuse_label, snapshot};
pub(crate) use specify::{hold_all_to_quotas, hold_to_quota, specify};
pub(crate) use together::snapshot_together;

use cove_btrfs::SubvolumePath;
use cove_content::head::{OpAnswer, RequestHash, check_described};
use cove_content::volumes::{Call, VolumeError};
use cove_database::{DatabaseError, PendingRow};
use cove_types::{Classify, Digest, ErrorKind, OperationId, ParseError, VolumeId};
use tokio::sync::oneshot;

use crate::node::Inner;
use crate::volume::{Ended, Turn, Volume};
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
///
/// # Errors
///
/// As of [`ended_here`]; it has failed here and is to be undone before how it ended is known
/// ([`Unknown`](VolumeError::Unknown)); nobody remembers one that is so old.
pub(crate) fn asked(inner: &Inner, volume: &Volume, call: &Call) -> Result<Asked, VolumeError> {
    {
        let mut state = volume.state();
        let pending = state.queue.iter().find(|other| other.operation == call.operation);
        if let Some(pending) = pending {
            if pending.request != call.request {
                return Err(VolumeError::OtherRequest);
            }
            if pending.failed.is_some() {
                // what is captured of it is to be taken back
                return Err(VolumeError::Unknown { operation: call.operation });
            }
            return Ok(Asked::Pending(state.end_of(&call.operation)));
        }
    }
    if let Some(ended) = ended_here(inner, call)? {
        return Ok(ended);
    }
    let state = volume.state();
    let Some(known) = &state.known else { return Ok(Asked::New) };
    let find = |operation: &OperationId| known.head.find_op(operation, &RequestHash(call.request));
    if call.operation.twin().is_some_and(|twin| matches!(find(&twin), OpAnswer::OtherRequest)) {
        return Err(VolumeError::OtherRequest);
    }
    match find(&call.operation) {
        OpAnswer::New => Ok(Asked::New),
        OpAnswer::OtherRequest => Err(VolumeError::OtherRequest),
        OpAnswer::TooOld => Err(VolumeError::TooOld),
        OpAnswer::First(result) => ended(Ended::from(result)),
    }
}

/// Why work was not written down. An operation that is pending already is that of another volume, which came at once.
pub(crate) fn not_written(what: &'static str) -> impl FnOnce(DatabaseError) -> VolumeError {
    move |error| match error.kind() {
        ErrorKind::AlreadyExists => VolumeError::OtherRequest,
        _ => VolumeError::failed(what, error),
    }
}

/// How an operation ended, as far as this node has written it down.
///
/// # Errors
///
/// Something else was asked for under its id, or its [twin](OperationId::twin), of whichever volume
/// (`OtherRequest`); it ended with a failure, which is told again; how it ended cannot be read (`Corrupt`), which says
/// nothing of whether it took effect; the database.
pub(crate) fn ended_here(inner: &Inner, call: &Call) -> Result<Option<Asked>, VolumeError> {
    let (database, operation) = (&inner.database, &call.operation);
    let found = inner.wait(async {
        // what is pending ends as a result: looked for the other way round it might be found as neither
        let mut requests = Vec::new();
        requests.extend(database.find_pending(operation).await?.map(|row| row.request));
        let result = database.find_result(operation).await?;
        requests.extend(result.as_ref().map(|row| row.request.clone()));
        if let Some(twin) = operation.twin() {
            requests.extend(database.find_pending(&twin).await?.map(|row| row.request));
            requests.extend(database.find_result(&twin).await?.map(|row| row.request));
        }
        Ok((result, requests))
    });
    let failed =
        |error: DatabaseError| VolumeError::failed("failed to look up an operation", error);
    let (result, requests) = found.map_err(failed)?;
    if requests.iter().any(|request| *request != call.request) {
        return Err(VolumeError::OtherRequest);
    }
    let Some(row) = result else { return Ok(None) };
    let end = serde_json::from_str(&row.result).map_err(|error| VolumeError::Refused {
        kind: ErrorKind::Corrupt,
        what: format!(
            "how operation {operation} of volume {} ended is written down on this node and cannot be read: {error}",
            row.volume
        ),
    })?;
    ended(end).map(Some)
}

/// An end, for a call that comes again: one that failed fails as the first time.
fn ended(ended: Ended) -> Result<Asked, VolumeError> {
    match ended.failure {
        Some((kind, what)) => Err(VolumeError::Refused { kind, what }),
        None => Ok(Asked::Ended(Box::new(ended))),
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
        .map_err(not_written("failed to write down what is to be saved"))?;
    Ok(hand_over(volume, pending))
}

pub(crate) fn hand_over(volume: &Volume, pending: Pending) -> oneshot::Receiver<Ended> {
    let mut state = volume.state();
    let receiver = state.end_of(&pending.operation);
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
        failed: None,
        work,
    }
}

pub(crate) fn pool_failed(what: &str) -> impl FnOnce(cove_btrfs::PoolError) -> VolumeError {
    let what = what.to_owned();
    move |error| match error {
        cove_btrfs::PoolError::SwapFile { .. } => {
            VolumeError::Refused { kind: error.kind(), what: SWAP_FILE.to_owned() }
        }
        error => VolumeError::failed(what, error),
    }
}

/// What is told when the kernel makes no snapshot of a file that is swapped to.
pub(crate) const SWAP_FILE: &str =
    "a swap file in it is in use, so that no state of it can be captured";

/// Whether something was refused for a swap file that is in use.
pub(crate) fn is_swap_file(error: &VolumeError) -> bool {
    matches!(error, VolumeError::Refused { what, .. } if what == SWAP_FILE)
}

/// Refuses what breaks a law, which tells by itself what it is about.
pub(crate) fn unlawful(law: ParseError) -> VolumeError {
    VolumeError::Refused { kind: law.kind(), what: law.0 }
}

pub(crate) fn path_failed(what: &str) -> impl FnOnce(cove_btrfs::PathError) -> VolumeError {
    let what = what.to_owned();
    move |error| VolumeError::failed(what, error)
}

/// The files of a volume as they are now.
pub(crate) fn open_live(inner: &Inner, volume: &VolumeId) -> Result<cove_btrfs::Dir, VolumeError> {
    let live = SubvolumePath::Volume(volume.clone());
    inner.pool.open(&live).map_err(pool_failed("failed to open the files"))
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

/// Refuses a volume that is in the trash, or will be once the work before this one is saved: what is
/// captured after that could never be.
pub(crate) fn refuse_trashed(volume: &Volume) -> Result<(), VolumeError> {
    refuse_deleted(volume)?;
    if volume.state().will_be_trashed() {
        return Err(VolumeError::Refused {
            kind: ErrorKind::Precondition,
            what: format!("volume {} is in the trash", volume.id),
        });
    }
    Ok(())
}

/// Refuses a volume that is deleted, or will be: what is captured after that would wait for a head for ever.
pub(crate) fn refuse_deleted(volume: &Volume) -> Result<(), VolumeError> {
    match volume.state().will_be_deleted() {
        true => Err(VolumeError::NotHere { volume: volume.id.clone() }),
        false => Ok(()),
    }
}

/// Captures a change of the head alone.
pub(crate) fn change(
    inner: &Inner,
    volume: &Volume,
    call: &Call,
    work: Work,
    _turn: Turn,
) -> Result<Asked, VolumeError> {
    match asked(inner, volume, call)? {
        Asked::New => {}
        asked => return Ok(asked),
    }
    refuse_deleted(volume)?;
    if let Work::Describe { document } = &work {
        check_described(document, &volume.state().spec()).map_err(unlawful)?;
    }
    enqueue(inner, volume, pending_of(call, &volume.id, work)).map(Asked::Pending)
}
