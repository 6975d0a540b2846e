//! A pool on an image file of its own.
#![allow(unused, reason = "being filled")]
use std::path::{Path, PathBuf};

use cove_types::VolumeId;

use crate::{Access, Changes, ChangesError, Dir, Pool, PoolError, Space, Subvolume, SubvolumePath, Usage};

/// A pool on an image file of its own.
#[derive(Debug)]
pub struct LoopPool;

impl LoopPool {
    /// Makes or opens `<home>/pool.img` of at least so many bytes, mounted at `<home>/pool`.
    pub fn open(home: &Path, image_bytes: u64) -> Result<Self, PoolError> { todo!() }
    /// Grows the image; says how large it is then.
    pub fn grow(&self, by_bytes: u64) -> Result<u64, PoolError> { todo!() }
    /// Unmounts and detaches.
    pub fn close(self) -> Result<(), PoolError> { todo!() }
}

impl Pool for LoopPool {
    fn create(&self, place: &SubvolumePath, group: &VolumeId) -> Result<(), PoolError> { todo!() }
    fn snapshot(&self, source: &SubvolumePath, target: &SubvolumePath, access: Access, group: &VolumeId) -> Result<(), PoolError> { todo!() }
    fn delete(&self, place: &SubvolumePath) -> Result<bool, PoolError> { todo!() }
    fn exchange(&self, a: &SubvolumePath, b: &SubvolumePath) -> Result<(), PoolError> { todo!() }
    fn rename(&self, from: &SubvolumePath, to: &SubvolumePath) -> Result<(), PoolError> { todo!() }
    fn find(&self, place: &SubvolumePath) -> Result<Option<Subvolume>, PoolError> { todo!() }
    fn list(&self) -> Result<Vec<SubvolumePath>, PoolError> { todo!() }
    fn open(&self, place: &SubvolumePath) -> Result<Dir, PoolError> { todo!() }
    fn nested(&self, place: &SubvolumePath) -> Result<Vec<Vec<u8>>, PoolError> { todo!() }
    fn usage(&self, volume: &VolumeId) -> Result<Usage, PoolError> { todo!() }
    fn set_limit(&self, volume: &VolumeId, limit_bytes: Option<u64>) -> Result<(), PoolError> { todo!() }
    fn flush(&self) -> Result<(), PoolError> { todo!() }
    fn space(&self) -> Result<Space, PoolError> { todo!() }
    fn absolute(&self, place: &SubvolumePath) -> PathBuf { todo!() }
    fn changes(&self, parent: &SubvolumePath, child: &SubvolumePath) -> Result<Changes, ChangesError> { todo!() }
    fn names_of_inode(&self, place: &SubvolumePath, inode: u64) -> Result<Vec<Vec<u8>>, PoolError> { todo!() }
}
