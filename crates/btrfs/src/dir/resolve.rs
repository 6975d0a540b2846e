//! A path becomes a descriptor: by the kernel, below the root.

use std::os::fd::OwnedFd;

use cove_types::TreePath;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Dir, failed};
use crate::{FileKind, PathError};

/// How often a path is resolved again when something was renamed meanwhile.
const RESOLVE_TRIES: u32 = 10_000;

impl Dir {
    /// Resolves a path below the root.
    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Something was renamed meanwhile, so that the kernel is not sure.
                Err(Errno::AGAIN | Errno::INTR) if tries < RESOLVE_TRIES => tries += 1,
                result => return result,
            }
        }
    }

    /// Resolves a path below the root, never following its last name.
    pub(super) fn open_below(&self, path: &TreePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let bytes: &[u8] = if path.is_top() { b"." } else { path.as_bytes() };
        self.resolve(bytes, flags | OFlags::NOFOLLOW)
    }

    /// Opens a directory below and checks that it is on the same device.
    pub(super) fn directory(
        &self,
        path: &TreePath,
        flags: OFlags,
        verb: &'static str,
    ) -> Result<OwnedFd, PathError> {
        let flags = flags | OFlags::DIRECTORY;
        let fd = match self.open_below(path, flags) {
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(self.not_a(path, FileKind::Directory, verb, Errno::NOTDIR));
            }
            other => other.map_err(failed(verb, path))?,
        };
        let stat = rustix::fs::fstat(&fd).map_err(failed(verb, path))?;
        if stat.st_dev != self.device {
            return Err(PathError::OtherDevice { path: path.clone() });
        }
        Ok(fd)
    }

    /// The error for something that is there and of another kind; the kernel's own when
    /// it is not even there.
    pub(super) fn not_a(
        &self,
        path: &TreePath,
        wanted: FileKind,
        verb: &'static str,
        errno: Errno,
    ) -> PathError {
        match self.metadata(path) {
            Ok(metadata) if metadata.kind != wanted => {
                PathError::Kind { path: path.clone(), found: metadata.kind, wanted }
            }
            _ => failed(verb, path)(errno),
        }
    }

    /// The directory in which `path`'s last name is, and that name. The top is `.` in itself.
    pub(super) fn parent<'p>(
        &self,
        path: &'p TreePath,
        flags: OFlags,
        verb: &'static str,
    ) -> Result<(OwnedFd, &'p [u8]), PathError> {
        let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
            return Ok((self.directory(path, flags, verb)?, b"."));
        };
        // Unlike the last name of a path asked for, a parent may be a link that stays inside.
        let fd = self.resolve(&parent_bytes(&parent), flags | OFlags::DIRECTORY);
        let fd = fd.map_err(failed(verb, path))?;
        let stat = rustix::fs::fstat(&fd).map_err(failed(verb, path))?;
        if stat.st_dev != self.device {
            return Err(PathError::OtherDevice { path: path.clone() });
        }
        Ok((fd, name))
    }

    /// As [`parent`](Self::parent), for what replaces or removes a name: not for the top.
    pub(super) fn parent_to_change<'p>(
        &self,
        path: &'p TreePath,
        verb: &'static str,
    ) -> Result<(OwnedFd, &'p [u8]), PathError> {
        if path.is_top() {
            return Err(PathError::Top);
        }
        self.parent(path, OFlags::RDONLY, verb)
    }
}

/// A directory's path with a dot behind it, so that its last name is followed too.
fn parent_bytes(path: &TreePath) -> Vec<u8> {
    let mut bytes = path.as_bytes().to_vec();
    bytes.extend_from_slice(if path.is_top() { b"." } else { b"/." });
    bytes
}
