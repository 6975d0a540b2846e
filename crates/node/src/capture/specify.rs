//! What is asked of a volume as such: its half on this node, which is its quota.

use cove_content::document::ProjectDocument;
use cove_content::head::check_described;
use cove_content::spec::{SpecChange, VolumeSpec};
use cove_content::volumes::{Call, VolumeError};
use cove_types::{Classify, VolumeId, chain};

use crate::capture::{Asked, asked, enqueue, pending_of, pool_failed, refuse_trashed, unlawful};
use crate::node::Inner;
use crate::volume::{Turn, Volume};
use crate::work::Work;

/// Holds a volume, whose quota group is there, to its quota; one without a quota is left as it is, since
/// somebody else may limit it.
pub(crate) fn hold_to_quota(
    inner: &Inner,
    id: &VolumeId,
    spec: &VolumeSpec,
) -> Result<(), VolumeError> {
    match spec.quota_bytes {
        None => Ok(()),
        limit => inner.pool.set_limit(id, limit).map_err(pool_failed("failed to set the quota")),
    }
}

/// Changes what is asked of a volume. The quota comes first: where it cannot be set nothing is changed, and after a
/// crash before the change is written down the next start makes the limit what it was. The first quota of a volume
/// comes after that row instead, since a start leaves limits alone that others may have set, and sets this one.
///
/// The turn ends with this: another change that came in between would have its limit undone.
pub(crate) fn specify(
    inner: &Inner,
    volume: &Volume,
    call: &Call,
    wanted: SpecChange,
    document: Option<ProjectDocument>,
    _turn: Turn,
) -> Result<Asked, VolumeError> {
    match asked(inner, volume, call)? {
        Asked::New => {}
        asked => {
            hold_to_quota(inner, &volume.id, &volume.state().spec())?;
            return Ok(asked);
        }
    }
    refuse_trashed(volume)?;
    let before = volume.state().spec();
    let spec = before.changed(&wanted);
    spec.check().map_err(unlawful)?;
    let is_to_be = document.clone().or_else(|| volume.state().document_to_be().cloned());
    is_to_be.map_or(Ok(()), |is_to_be| check_described(&is_to_be, &spec)).map_err(unlawful)?;
    let set = |spec: &VolumeSpec| inner.pool.set_limit(&volume.id, spec.quota_bytes);
    let is_other = spec.quota_bytes != before.quota_bytes;
    let is_first = before.quota_bytes.is_none() && is_other;
    if is_first {
        // whether it can be set is known before anything is written
        let usage =
            inner.pool.usage(&volume.id).map_err(pool_failed("failed to read the quota"))?;
        let same = inner.pool.set_limit(&volume.id, usage.limit_bytes);
        same.map_err(pool_failed("failed to set the quota"))?;
    } else if is_other {
        set(&spec).map_err(pool_failed("failed to set the quota"))?;
    } else if wanted.quota_bytes.is_some() {
        // the first one that is asked for may not have been set yet
        hold_to_quota(inner, &volume.id, &spec)?;
    }
    let becomes = document.clone();
    let work = Work::Specify { change: wanted, document };
    let changed = enqueue(inner, volume, pending_of(call, &volume.id, work)).map(Asked::Pending);
    match &changed {
        Ok(_) => {
            volume.state().becomes(becomes);
            if is_first && let Err(error) = set(&spec) {
                let why = chain(&error);
                tracing::error!(volume = %volume.id, why, "it is not held to its quota");
                return Err(VolumeError::Unknown { operation: call.operation });
            }
        }
        Err(error) if is_other && !is_first => {
            if let Err(left) = set(&before) {
                let (kind, why) = (error.kind(), chain(&left));
                tracing::warn!(volume = %volume.id, ?kind, why, "the quota stays changed");
            }
        }
        Err(_) => {}
    }
    changed
}

/// Holds all volumes that are here to their quotas, as a start and a recovery do: the limits are the file
/// system's and not the store's. Costs a call each; what fails is in the log, and is tried at the next start.
pub(crate) fn hold_all_to_quotas(inner: &Inner) {
    for volume in inner.all_volumes() {
        let spec = volume.state().spec();
        if let Err(error) = hold_to_quota(inner, &volume.id, &spec) {
            tracing::warn!(volume = %volume.id, error = chain(&error), "it is not held to its quota");
        }
    }
}
