//! What is being made beside the others and has no place yet.

use std::sync::Arc;

use cove_btrfs::{Dir, Pool, PoolError, SubvolumePath};
use cove_content::volumes::VolumeError;
use cove_types::{Classify, ErrorKind, VolumeId, chain};

use crate::capture::pool_failed;
use crate::node::Inner;

/// A new writable subvolume. Dropped before it has its place, it is deleted: a call that fails, or whose
/// caller goes away, leaves nothing. A crash leaves it to the next start.
pub(crate) struct Built {
    inner: Arc<Inner>,
    place: SubvolumePath,
    /// It has its place, or is deleted.
    is_settled: bool,
}

/// Deletes what was built for a change that is refused with `kind`. Where there was no room for it, that
/// is waited for: who is refused goes on with as much as before, and at once.
pub(crate) fn discard(
    pool: &dyn Pool,
    place: &SubvolumePath,
    kind: ErrorKind,
) -> Result<bool, PoolError> {
    match kind {
        ErrorKind::Exhausted => pool.delete_and_wait(place),
        _ => pool.delete(place),
    }
}

impl Built {
    /// An empty one of quota group `group`.
    pub fn create(inner: &Arc<Inner>, group: &VolumeId) -> Result<Self, VolumeError> {
        let built = Self::nowhere(inner);
        inner
            .pool
            .create(&built.place, group)
            .map_err(pool_failed("failed to make a place for the files"))?;
        Ok(built)
    }

    /// A copy of the snapshot at `source`, of quota group `group`.
    pub fn copy(
        inner: &Arc<Inner>,
        source: &SubvolumePath,
        group: &VolumeId,
    ) -> Result<Self, VolumeError> {
        let built = Self::nowhere(inner);
        inner
            .pool
            .snapshot(source, &built.place, cove_btrfs::Access::ReadWrite, group)
            .map_err(pool_failed("failed to copy the files"))?;
        Ok(built)
    }

    fn nowhere(inner: &Arc<Inner>) -> Self {
        let place = SubvolumePath::Incoming(inner.env.operation_id(0));
        Self { inner: Arc::clone(inner), place, is_settled: false }
    }

    /// Its top.
    pub fn open(&self) -> Result<Dir, VolumeError> {
        self.inner.pool.open(&self.place).map_err(pool_failed("failed to open the new files"))
    }

    /// Has `work` fill it. When that fails, it is gone before the failure is told.
    pub fn filled<T>(
        mut self,
        work: impl FnOnce(&Dir) -> Result<T, VolumeError>,
    ) -> Result<(Self, T), VolumeError> {
        let error = match self.open().and_then(|dir| work(&dir)) {
            Ok(made) => return Ok((self, made)),
            Err(error) => error,
        };
        self.is_settled = true;
        if let Err(left) = discard(&*self.inner.pool, &self.place, error.kind()) {
            tracing::warn!(place = %self.place, error = chain(&left), "what was built stays behind");
        }
        Err(error)
    }

    /// Gives it the place `to`, of which whatever an interrupted attempt left there is cleared.
    pub fn put(mut self, to: &SubvolumePath) -> Result<(), VolumeError> {
        let pool = &self.inner.pool;
        pool.delete(to).map_err(pool_failed("failed to clear the place for the files"))?;
        pool.rename(&self.place, to)
            .map_err(pool_failed("failed to put the files in their place"))?;
        self.is_settled = true;
        Ok(())
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let (inner, place) = (Arc::clone(&self.inner), self.place.clone());
        // it may be dropped by a task, which must not wait for a disk
        drop(self.inner.runtime.spawn_blocking(move || {
            if let Err(error) = inner.pool.delete(&place) {
                tracing::warn!(%place, error = chain(&error), "what was built stays behind");
            }
        }));
    }
}
