//! What a node asks of the place where its volumes are.

use std::path::PathBuf;

use cove_types::VolumeId;

use crate::{Access, Changes, ChangesError, Dir, PoolError, Subvolume, SubvolumePath};

/// What a volume's quota group is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of extents that were written in the group and still live somewhere.
    pub charged_bytes: u64,
    /// The most it may be charged; `None` when nothing limits it.
    pub limit_bytes: Option<u64>,
}

/// The room of a whole pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total: u64,
    /// What is free, in bytes.
    pub free: u64,
    /// What of it is promised to writes that have not reached the disk yet, in bytes, as if none of them
    /// compressed; a write is refused once all that is free is promised. 0 where that is not known.
    ///
    /// Source: `bytes_may_use` in `/sys/fs/btrfs/<fsid>/allocation/data`, which statfs(2) calls free.
    pub promised: u64,
    /// Nothing can be written to it: the kernel makes a file system so, until it is mounted again,
    /// when its disk has failed.
    pub is_read_only: bool,
    /// There is hardly any room for metadata, whatever is free for data: to create a file is refused, and
    /// removing what a snapshot shares waits for the disk, file by file.
    pub is_metadata_full: bool,
}

impl Space {
    /// What is free and promised to nobody, in bytes.
    #[must_use]
    pub fn unpromised(&self) -> u64 {
        self.free.saturating_sub(self.promised)
    }
}

/// A pool that can grow does so when less than this is free of it, or a quarter, in bytes.
pub const GROW_BELOW_BYTES: u64 = 2 << 30;

/// The subvolumes of one node.
///
/// Each method blocks and is one step: after an error the pool is as before or as after
/// it. What is durable on return is said at each; [`flush`](Self::flush) makes all of it so.
pub trait Pool: Send + Sync + 'static {
    /// Makes an empty subvolume that belongs to the volume's quota group. Durable after
    /// a [`flush`](Self::flush). `files/` and `services/` in it are the caller's.
    ///
    /// # Errors
    ///
    /// [`PoolError::Exists`] when something is there, or what the kernel says.
    fn create(&self, place: &SubvolumePath, group: &VolumeId) -> Result<(), PoolError>;

    /// Makes `target` a snapshot of `source` at this instant, its dirty pages included, in
    /// the volume's quota group. Durable on return.
    ///
    /// # Errors
    ///
    /// `source` is not there, `target` is, a swap file is active, or what the kernel says.
    fn snapshot(
        &self,
        source: &SubvolumePath,
        target: &SubvolumePath,
        access: Access,
        group: &VolumeId,
    ) -> Result<(), PoolError>;

    /// Deletes a subvolume and first those nested in it. `false`: it was gone. It can come
    /// back after a power cut until a [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// What the kernel says; some nested subvolumes may be deleted then.
    fn delete(&self, place: &SubvolumePath) -> Result<bool, PoolError>;

    /// The same, durable on return, and waits, some seconds at most, until what it held is free and
    /// its group is charged no longer: the kernel begins with that up to half a minute after a
    /// [`delete`](Self::delete). Costs two commits.
    ///
    /// # Errors
    ///
    /// As there; and it may be deleted, but not free yet.
    fn delete_and_wait(&self, place: &SubvolumePath) -> Result<bool, PoolError>;

    /// Swaps two subvolumes' places atomically. Durable on return.
    ///
    /// # Errors
    ///
    /// One of them is not there, or a read-only one would change its directory.
    fn exchange(&self, a: &SubvolumePath, b: &SubvolumePath) -> Result<(), PoolError>;

    /// Moves a subvolume to a place where nothing is. Durable on return.
    ///
    /// # Errors
    ///
    /// `from` is not there, `to` is, or a read-only one would change its directory.
    fn rename(&self, from: &SubvolumePath, to: &SubvolumePath) -> Result<(), PoolError>;

    /// What the kernel tells of a subvolume; `None` when nothing is there.
    ///
    /// # Errors
    ///
    /// It could not be looked up, or what is there is not a subvolume.
    fn find(&self, place: &SubvolumePath) -> Result<Option<Subvolume>, PoolError>;

    /// All places that are taken, in order. Names that are no place are left out.
    ///
    /// # Errors
    ///
    /// One of the pool's directories could not be read.
    fn list(&self) -> Result<Vec<SubvolumePath>, PoolError>;

    /// The top directory of a subvolume.
    ///
    /// # Errors
    ///
    /// It is not there or could not be opened.
    fn open(&self, place: &SubvolumePath) -> Result<Dir, PoolError>;

    /// The same if the kernel has in its memory all that it takes to open it; `None` says nothing about what is there,
    /// and `Some` nothing about whether it can be read. Does not wait for a disk.
    fn open_cached(&self, place: &SubvolumePath) -> Option<Dir>;

    /// The paths of the subvolumes nested in one, relative to its top, in order; only
    /// those directly in it, not those nested deeper.
    ///
    /// # Errors
    ///
    /// It is not there or could not be read.
    fn nested(&self, place: &SubvolumePath) -> Result<Vec<Vec<u8>>, PoolError>;

    /// What a volume's quota group is charged and may be. A volume without a group is
    /// charged nothing. The number follows writes at the latest with the next commit.
    ///
    /// # Errors
    ///
    /// The quotas could not be read.
    fn usage(&self, volume: &VolumeId) -> Result<Usage, PoolError>;

    /// Limits what a volume's quota group may be charged. Durable after a
    /// [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// The pool keeps no quotas, or what the kernel says.
    fn set_limit(&self, volume: &VolumeId, limit_bytes: Option<u64>) -> Result<(), PoolError>;

    /// Makes everything done before durable (`syncfs`).
    ///
    /// # Errors
    ///
    /// What the kernel says; then nothing is known to be durable.
    fn flush(&self) -> Result<(), PoolError>;

    /// Has the room of what is deleted come back soon, which the kernel else begins with up to half a
    /// minute later. Costs a commit, and waits for no more.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn reclaim(&self) -> Result<(), PoolError>;

    /// The room of the pool.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn space(&self) -> Result<Space, PoolError>;

    /// By how many bytes the pool can still grow, whatever has it grow; 0 where it has one size for ever.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn growable_bytes(&self) -> Result<u64, PoolError>;

    /// Where a subvolume is in the host's file system, for mounts and messages.
    fn absolute(&self, place: &SubvolumePath) -> PathBuf;

    /// Where a subvolume, or a directory in it, is mounted by itself in this process's mount namespace; none for
    /// most. A pool that nothing can mount parts of says none.
    ///
    /// # Errors
    ///
    /// The mounts could not be read.
    fn mounts(&self, place: &SubvolumePath) -> Result<Vec<PathBuf>, PoolError>;

    /// How many inodes of `child` were made or changed since its ancestor `parent` was taken, up to
    /// `most`; a pool that cannot tell says 0. What was deleted does not count.
    ///
    /// Costs a read of the metadata that were written since, some 10 µs an inode.
    ///
    /// # Errors
    ///
    /// One of them is not there or could not be read.
    fn count_changed(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
        most: u64,
    ) -> Result<u64, PoolError>;

    /// What differs in `child` from `parent`, mostly its ancestor; both read-only.
    ///
    /// Costs what the changes do when `parent` is an ancestor (or both are snapshots of one
    /// subvolume) and the kernel can describe them; else a look at all metadata of both, which
    /// is right whatever the two have to do with each other.
    ///
    /// # Errors
    ///
    /// [`ChangesError`]; on any of them the caller stores in full.
    fn changes(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
    ) -> Result<Changes, ChangesError>;

    /// All names of an inode, as paths relative to the subvolume's top, in order; none
    /// when no such inode is there.
    ///
    /// # Errors
    ///
    /// The subvolume is not there or could not be read.
    fn names_of_inode(&self, place: &SubvolumePath, inode: u64) -> Result<Vec<Vec<u8>>, PoolError>;
}
