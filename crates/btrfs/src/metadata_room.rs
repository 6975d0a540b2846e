//! Whether the kernel has room for names, attributes and small files: for metadata.
//!
//! Data and metadata are allocated apart, so that one may be full while the other is not. What statfs(2)
//! calls free is room for data.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::ioctl;

/// `BTRFS_BLOCK_GROUP_METADATA` and `BTRFS_SPACE_INFO_GLOBAL_RSV`
const METADATA: u64 = 4;
const GLOBAL_RESERVE: u64 = 1 << 49;
/// What is to be free beside the kernel's reserve. With less than some 4 MiB it refuses to create a file,
/// and with less than some 7 it commits at each removal (16 KiB nodes, Linux 6.18).
const ROOM_BYTES: u64 = 8 << 20;

/// What there is for metadata, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MetadataRoom {
    /// Allocated and not used.
    free: u64,
    /// Kept by the kernel for removals and for what it has begun.
    reserve: u64,
    /// Of the devices, allocated for nothing yet.
    unallocated: u64,
}

impl MetadataRoom {
    /// What the file system of `fd` has. Costs three calls of the kernel's, and one for each further
    /// device.
    pub fn of(fd: impl AsFd) -> Result<Self, Errno> {
        let mut room = Self { unallocated: ioctl::unallocated(&fd)?, ..Self::default() };
        for (flags, total, used) in ioctl::spaces(&fd)? {
            if flags & METADATA != 0 {
                room.free += total.saturating_sub(used);
            } else if flags & GLOBAL_RESERVE != 0 {
                room.reserve = total;
            }
        }
        Ok(room)
    }

    /// Whether files can hardly be made any more, and removals wait for commits.
    pub fn is_full(&self) -> bool {
        // metadata is kept twice, as a rule
        self.free + self.unallocated / 2 < self.reserve + ROOM_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_where_creating_a_file_was_refused_and_not_before_removals_are_slow() {
        // as seen in a pool of 256 MiB, in KiB
        let room = |used: u64, unallocated| MetadataRoom {
            free: (32 << 20) - (used << 10),
            reserve: 5632 << 10,
            unallocated,
        };
        assert!(room(23_245, 1 << 20).is_full(), "a file was refused");
        assert!(room(19_876, 1 << 20).is_full(), "removals were slow");
        assert!(!room(16_476, 1 << 20).is_full(), "removals were fast");
        assert!(!room(23_245, 32 << 20).is_full(), "there is more to be allocated");
    }
}
