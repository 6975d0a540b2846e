//! Reading what the kernel has in memory, without ever waiting for a disk.

use std::io::IoSliceMut;
use std::ops::Range;

use cove_types::TreePath;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::ReadWriteFlags;

use super::{Dir, look};
use crate::{FileKind, Metadata};

/// How a path is resolved from what the kernel remembers of names (`EAGAIN` when that is not enough).
pub(crate) const CACHED: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::CACHED);

impl Dir {
    /// Bytes of a regular file, cut to what it has, if all that it takes is in the kernel's memory and
    /// they are at most `bytes_max`; all of the file without a range.
    ///
    /// `None` says nothing about the file: whoever gets it asks again in a way that may wait. Costs
    /// four calls, none of which waits, so that it may be asked by a thread that serves many.
    #[must_use]
    pub fn read_cached(
        &self,
        path: &TreePath,
        range: Option<Range<u64>>,
        bytes_max: u64,
    ) -> Option<(Metadata, Vec<u8>)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.root, path.as_bytes(), flags, Mode::empty(), CACHED);
        let file = file.ok()?;
        let metadata = look(&file, b"").ok()?;
        if metadata.kind != FileKind::File || metadata.device != self.device {
            return None;
        }
        let range = range.unwrap_or(0..metadata.size);
        let range = range.start.min(metadata.size)..range.end.min(metadata.size);
        let length = range.end.saturating_sub(range.start);
        if length > bytes_max {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        if length > 0 {
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let nowait = ReadWriteFlags::NOWAIT;
            let read = rustix::io::preadv2(&file, &mut buffers, range.start, nowait).ok()?;
            if read as u64 != length {
                return None;
            }
        }
        Some((metadata, bytes))
    }
}
