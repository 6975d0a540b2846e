//! A pool on a btrfs directory.
#![allow(unused, reason = "being filled")]
use std::path::{Path, PathBuf};

use cove_types::VolumeId;

use crate::{Access, Changes, ChangesError, Dir, Pool, PoolError, Space, Subvolume, SubvolumePath, Usage};

/// A pool on a btrfs directory.
#[derive(Debug)]
pub struct BtrfsPool;

impl BtrfsPool {
    /// Opens.
    pub fn open(dir: &Path) -> Result<Self, PoolError> { todo!() }
}

impl Pool for BtrfsPool {
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
