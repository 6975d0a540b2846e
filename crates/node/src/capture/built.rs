//! What is being made beside the others and has no place yet.

use std::sync::Arc;

use cove_btrfs::{Dir, SubvolumePath};
use cove_content::volumes::VolumeError;
use cove_types::VolumeId;

use crate::capture::pool_failed;
use crate::node::{Inner, chain};

/// A new writable subvolume. Dropped before it has its place, it is deleted: a call that fails, or whose
/// caller goes away, leaves nothing. A crash leaves it to the next start.
pub(crate) struct Built {
    inner: Arc<Inner>,
    place: SubvolumePath,
    is_placed: bool,
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
        Self { inner: Arc::clone(inner), place, is_placed: false }
    }

    /// Its top.
    pub fn open(&self) -> Result<Dir, VolumeError> {
        self.inner.pool.open(&self.place).map_err(pool_failed("failed to open the new files"))
    }

    /// Gives it the place `to`, of which whatever an interrupted attempt left there is cleared.
    pub fn put(mut self, to: &SubvolumePath) -> Result<(), VolumeError> {
        let pool = &self.inner.pool;
        pool.delete(to).map_err(pool_failed("failed to clear the place for the files"))?;
        pool.rename(&self.place, to)
            .map_err(pool_failed("failed to put the files in their place"))?;
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        if self.is_placed {
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
