//! Entries that go, with all that is below them.

use std::os::fd::OwnedFd;

use cove_types::TreePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Dir, TEMPORARY_PREFIX, failed, names};
use crate::PathError;

/// How deep removing goes with open directories; what is deeper is first moved up.
const REMOVE_DEPTH: usize = 64;

impl Dir {
    /// Removes an entry, and what is below it when `recursive`. `false`: it was gone.
    /// Links are removed, never followed; nested subvolumes are not entered. Durable on
    /// return.
    ///
    /// # Errors
    ///
    /// A directory has entries and `recursive` is false, or what the kernel says; then
    /// some of what is below may be gone.
    pub fn remove(&self, path: &TreePath, recursive: bool) -> Result<bool, PathError> {
        const VERB: &str = "remove";
        let refused = failed(VERB, path);
        let (parent, name) = match self.parent_to_change(path, VERB) {
            Ok(found) => found,
            Err(error) if error.is_absent() => return Ok(false),
            Err(error) => return Err(error),
        };
        let stat = match rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(refused(errno)),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if recursive {
                if stat.st_dev != self.device {
                    return Err(PathError::OtherDevice { path: path.clone() });
                }
                let top = self.child_to_empty(&parent, name, path)?;
                let mut moved_up = 0;
                loop {
                    self.empty(&top, &top, 0, &mut moved_up, path)?;
                    if names(&top).map_err(&refused)?.is_empty() {
                        break;
                    }
                }
            }
            self.unlink(&parent, name, AtFlags::REMOVEDIR).map_err(&refused)?;
        } else {
            self.unlink(&parent, name, AtFlags::empty()).map_err(&refused)?;
        }
        rustix::fs::fsync(&parent).map_err(&refused)?;
        Ok(true)
    }

    /// Opens a directory that is to be emptied: never another subvolume, nor what is mounted there, be
    /// it of this subvolume.
    fn child_to_empty(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        path: &TreePath,
    ) -> Result<OwnedFd, PathError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let fd = match rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve) {
            Err(Errno::XDEV) => return Err(PathError::OtherDevice { path: path.clone() }),
            opened => opened.map_err(failed("remove", path))?,
        };
        if rustix::fs::fstat(&fd).map_err(failed("remove", path))?.st_dev != self.device {
            return Err(PathError::OtherDevice { path: path.clone() });
        }
        Ok(fd)
    }

    /// Whether something is mounted at a directory, of whatever file system.
    ///
    /// # Errors
    ///
    /// It could not be looked up.
    pub fn is_mount(&self, path: &TreePath) -> Result<bool, PathError> {
        const VERB: &str = "look up";
        if path.is_top() {
            return Ok(false);
        }
        let (parent, name) = self.parent(path, OFlags::PATH, VERB)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&parent, name, flags, Mode::empty(), resolve) {
            Ok(_) => Ok(false),
            Err(Errno::XDEV) => Ok(true),
            Err(errno) => Err(failed(VERB, path)(errno)),
        }
    }

    /// Empties the directory `fd`, `depth` below `top`. What is too deep for one open
    /// descriptor per level is moved into `top`, which the caller empties again.
    fn empty(
        &self,
        top: &OwnedFd,
        fd: &OwnedFd,
        depth: usize,
        moved_up: &mut u64,
        path: &TreePath,
    ) -> Result<(), PathError> {
        let refused = failed("remove", path);
        for name in names(fd).map_err(&refused)? {
            match self.unlink(fd, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(errno) => return Err(refused(errno)),
            }
            if depth >= REMOVE_DEPTH {
                loop {
                    *moved_up += 1;
                    let above = format!("{TEMPORARY_PREFIX}deep-{moved_up}");
                    let flags = rustix::fs::RenameFlags::NOREPLACE;
                    let moved = self.unlocked(&[(fd, &name), (fd, b"."), (top, b".")], || {
                        rustix::fs::renameat_with(fd, &*name, top, &above, flags)
                    });
                    match moved {
                        Ok(()) => break,
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(refused(errno)),
                    }
                }
                continue;
            }
            let below = self.child_to_empty(fd, &name, path)?;
            self.empty(top, &below, depth + 1, moved_up, path)?;
            self.unlink(fd, &name, AtFlags::REMOVEDIR).map_err(&refused)?;
        }
        Ok(())
    }

    /// Takes a name away, in spite of flags on it or on its directory.
    fn unlink(&self, parent: &OwnedFd, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
        self.unlocked(&[(parent, name), (parent, b".")], || {
            rustix::fs::unlinkat(parent, name, flags)
        })
    }
}
