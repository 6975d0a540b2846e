//! Owners, modes, times and extended attributes of entries.

use std::os::fd::OwnedFd;

use cove_types::{FileTime, TreePath};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::{Dir, failed, mode_bits};
use crate::PathError;
use crate::attributes::{self, Attributes, by_descriptor, modified_at};
use crate::locks::unlock;

impl Dir {
    /// Sets when an entry's content last changed, of a link the link's own.
    ///
    /// # Errors
    ///
    /// It is not there, or is not ours.
    pub fn set_times(&self, path: &TreePath, mtime: FileTime) -> Result<(), PathError> {
        const VERB: &str = "set the time of";
        let (parent, name) = self.parent(path, OFlags::PATH, VERB)?;
        let times = modified_at(mtime);
        self.unlocked(&[(&parent, name)], || {
            rustix::fs::utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        })
        .map_err(failed(VERB, path))
    }

    /// Sets an entry's owner and group, of a link the link's own. The kernel clears
    /// set-uid and set-gid bits of files.
    ///
    /// # Errors
    ///
    /// It is not there, or we are not root.
    pub fn set_owner(&self, path: &TreePath, uid: u32, gid: u32) -> Result<(), PathError> {
        const VERB: &str = "set the owner of";
        let (parent, name) = self.parent(path, OFlags::PATH, VERB)?;
        let uid = rustix::fs::Uid::from_raw(uid);
        let gid = rustix::fs::Gid::from_raw(gid);
        self.unlocked(&[(&parent, name)], || {
            rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        })
        .map_err(failed(VERB, path))
    }

    /// Sets an entry's mode (`07777`). A link has none.
    ///
    /// # Errors
    ///
    /// It is not there, a link, or not ours.
    pub fn set_mode(&self, path: &TreePath, mode: u32) -> Result<(), PathError> {
        const VERB: &str = "set the mode of";
        let (parent, name) = self.parent(path, OFlags::PATH, VERB)?;
        self.unlocked(&[(&parent, name)], || chmod_nofollow(&parent, name, mode))
            .map_err(failed(VERB, path))
    }

    /// Opens whatever is at `path` without reading it, for its xattrs.
    fn with_xattrs(&self, path: &TreePath, verb: &'static str) -> Result<OwnedFd, PathError> {
        let fd = self.open_below(path, OFlags::PATH).map_err(failed(verb, path))?;
        let stat = rustix::fs::fstat(&fd).map_err(failed(verb, path))?;
        if stat.st_dev != self.device {
            return Err(PathError::OtherDevice { path: path.clone() });
        }
        Ok(fd)
    }

    /// The xattrs of an entry, whatever it is; a link's own.
    ///
    /// # Errors
    ///
    /// It is not there or could not be opened.
    pub fn attributes(&self, path: &TreePath) -> Result<Attributes<'static>, PathError> {
        self.with_xattrs(path, "list the attributes of").map(Attributes::of_descriptor)
    }

    /// The names of all xattrs of an entry, sorted, as of [`Attributes::names`].
    ///
    /// # Errors
    ///
    /// It is not there or could not be read, or there are too many to be listed.
    pub fn list_xattrs(&self, path: &TreePath) -> Result<Vec<Vec<u8>>, PathError> {
        const VERB: &str = "list the attributes of";
        let names = self.with_xattrs(path, VERB).map(Attributes::of_descriptor)?.names();
        let names = names.and_then(|names| names.ok_or_else(|| Errno::TOOBIG.into()));
        names.map_err(|source| PathError::Io { verb: VERB, path: path.clone(), source })
    }

    /// An xattr of an entry; `None` when it has no such.
    ///
    /// # Errors
    ///
    /// The entry is not there or could not be read.
    pub fn find_xattr(&self, path: &TreePath, name: &[u8]) -> Result<Option<Vec<u8>>, PathError> {
        const VERB: &str = "read an attribute of";
        let value = self.with_xattrs(path, VERB).map(Attributes::of_descriptor)?.find(name);
        value.map_err(|source| PathError::Io { verb: VERB, path: path.clone(), source })
    }

    /// Sets an xattr of an entry that is not a link. Not durable by itself.
    ///
    /// # Errors
    ///
    /// The entry is not there or a link, or the file system refuses the name or value.
    pub fn set_xattr(&self, path: &TreePath, name: &[u8], value: &[u8]) -> Result<(), PathError> {
        const VERB: &str = "set an attribute of";
        let fd = self.with_xattrs(path, VERB)?;
        let set = || match attributes::set(&fd, name, value) {
            Err(Errno::PERM) if unlock(self.device, &fd) => attributes::set(&fd, name, value),
            result => result,
        };
        set().map_err(failed(VERB, path))
    }

    /// Removes an xattr of an entry. `false`: it had none.
    ///
    /// # Errors
    ///
    /// The entry is not there, or the file system refuses.
    pub fn remove_xattr(&self, path: &TreePath, name: &[u8]) -> Result<bool, PathError> {
        const VERB: &str = "remove an attribute of";
        let fd = self.with_xattrs(path, VERB)?;
        let remove = || match attributes::remove(&fd, name) {
            Err(Errno::PERM) if unlock(self.device, &fd) => attributes::remove(&fd, name),
            result => result,
        };
        remove().map_err(failed(VERB, path))
    }
}

/// Sets the mode of what a name is, and of nothing that a link there points to.
pub(super) fn chmod_nofollow(parent: &OwnedFd, name: &[u8], mode: u32) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    rustix::fs::chmod(by_descriptor(&fd), mode_bits(mode))
}
