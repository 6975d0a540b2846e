//! Subvolumes, quotas, changes, encoded reads and writes, safe paths and pools.
//!
//! A [`Pool`] holds the subvolumes of one node: [`BtrfsPool`] on a btrfs directory that
//! is there, [`LoopPool`] on an image file of its own, [`FakePool`] on any directory, for
//! tests. A [`Dir`] reaches what lies below one directory, and nothing else. All of it
//! blocks; whoever is async calls it from a blocking thread.
//!
//! **Invariant:** a path of a workspace is only ever resolved by the kernel below a
//! directory's descriptor (`openat2`, `RESOLVE_BENEATH`); no prefix of text is trusted.
//!
//! **Invariant:** absence is an answer. Where something could not be looked up, that is
//! an error and never "it is not there".

mod attributes;
mod btrfs_pool;
mod changes;
#[cfg(test)]
mod contract;
mod dir;
mod encoded;
mod error;
mod fake;
mod ioctl;
#[cfg(test)]
mod live;
mod locks;
mod loop_pool;
mod metadata;
mod metadata_room;
mod mount_attributes;
mod mount_table;
mod overlay;
mod pool;
mod search;
mod stream;
mod subvolume;

pub use attributes::{Attributes, dress};
pub use btrfs_pool::BtrfsPool;
pub use changes::{Changes, ChangesError, Content, Touched};
pub use dir::{Dir, Flush};
pub use encoded::{ENCODED_PLAIN_BYTES_MAX, Encoded, read_encoded, write_encoded};
pub use error::{PathError, PoolError};
pub use fake::FakePool;
pub use loop_pool::{IMAGE_BYTES_MIN, LoopPool};
pub use metadata::{FileKind, Flags, Metadata, has_writers};
pub use mount_attributes::add_mount_flags;
pub use mount_table::{Mount, MountTable};
pub use pool::{GROW_BELOW_BYTES, Pool, Space, Usage};
pub use subvolume::{Access, Subvolume, SubvolumePath};

/// `f_type` of btrfs, as `linux/magic.h` has it.
const BTRFS_MAGIC: i64 = 0x9123_683E;
