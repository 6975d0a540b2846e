//! Entries that are made where nothing is.

use std::fs::File;
use std::os::fd::OwnedFd;

use cove_types::TreePath;
use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::attributes::chmod_nofollow;
use super::{Dir, failed, mode_bits};
use crate::{FileKind, PathError};

impl Dir {
    /// Creates an empty regular file where nothing is, open for writing. For building a
    /// tree: not durable by itself, and it belongs to whoever runs this.
    ///
    /// # Errors
    ///
    /// Something is there, or the parent is not.
    pub fn create_file(&self, path: &TreePath, mode: u32) -> Result<File, PathError> {
        const VERB: &str = "create";
        let (parent, name) = self.parent_to_change(path, VERB)?;
        self.create_in(&parent, name, mode).map_err(failed(VERB, path))
    }

    /// As [`create_file`](Self::create_file), directly in this directory, which is not resolved
    /// again: the last name of `path`, whose other names are for what errors say.
    ///
    /// # Errors
    ///
    /// Something of this name is there.
    pub fn create_child_file(&self, path: &TreePath, mode: u32) -> Result<File, PathError> {
        let name = path.name().ok_or(PathError::Top)?;
        self.create_in(&self.root, name, mode).map_err(failed("create", path))
    }

    fn create_in(&self, parent: &OwnedFd, name: &[u8], mode: u32) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = self.unlocked(&[(parent, b".")], || {
            rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW, mode_bits(0o600))
        })?;
        if mode != 0o600 {
            rustix::fs::fchmod(&fd, mode_bits(mode))?;
        }
        Ok(File::from(fd))
    }

    /// Makes one directory, with exactly this mode, where nothing is. Not durable by itself.
    ///
    /// # Errors
    ///
    /// Something is there, or the parent is not.
    pub fn create_dir(&self, path: &TreePath, mode: u32) -> Result<(), PathError> {
        const VERB: &str = "create directory";
        let (parent, name) = self.parent_to_change(path, VERB)?;
        self.unlocked(&[(&parent, b".")], || rustix::fs::mkdirat(&parent, name, mode_bits(mode)))
            .map_err(failed(VERB, path))?;
        chmod_nofollow(&parent, name, mode).map_err(failed(VERB, path))
    }

    /// Makes a directory and those above it where they are missing, each with this mode.
    /// What is there keeps its own. Says whether it made any.
    ///
    /// # Errors
    ///
    /// Something on the way is not a directory.
    pub fn create_dirs(&self, path: &TreePath, mode: u32) -> Result<bool, PathError> {
        let mut made = false;
        let mut at = TreePath::top();
        for name in path.names() {
            at = at.join(name).expect("a prefix of a path is a path");
            match self.create_dir(&at, mode) {
                Ok(()) => made = true,
                Err(PathError::Io { source, .. })
                    if Errno::from_io_error(&source) == Some(Errno::EXIST) =>
                {
                    let found = self.metadata(&at)?.kind;
                    if at == *path && found != FileKind::Directory {
                        let wanted = FileKind::Directory;
                        return Err(PathError::Kind { path: at, found, wanted });
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    /// Makes a symbolic link to `target`, which is kept as it is. Not durable by itself.
    ///
    /// # Errors
    ///
    /// Something is there, or the parent is not.
    pub fn symlink(&self, path: &TreePath, target: &[u8]) -> Result<(), PathError> {
        const VERB: &str = "create link";
        let (parent, name) = self.parent_to_change(path, VERB)?;
        self.unlocked(&[(&parent, b".")], || rustix::fs::symlinkat(target, &parent, name))
            .map_err(failed(VERB, path))
    }

    /// Gives an entry that is not a directory another name. Not durable by itself.
    ///
    /// # Errors
    ///
    /// `existing` is not there, or something is at `new`.
    pub fn hard_link(&self, existing: &TreePath, new: &TreePath) -> Result<(), PathError> {
        const VERB: &str = "link";
        let (from, from_name) = self.parent_to_change(existing, VERB)?;
        let (to, to_name) = self.parent_to_change(new, VERB)?;
        self.unlocked(&[(&from, from_name), (&to, b".")], || {
            rustix::fs::linkat(&from, from_name, &to, to_name, AtFlags::empty())
        })
        .map_err(failed(VERB, new))
    }

    /// Makes a named pipe. Not durable by itself.
    ///
    /// # Errors
    ///
    /// Something is there, or the parent is not.
    pub fn mkfifo(&self, path: &TreePath, mode: u32) -> Result<(), PathError> {
        self.mknod(path, FileType::Fifo, mode)
    }

    /// Makes a socket's name, to which nobody listens. Not durable by itself.
    ///
    /// # Errors
    ///
    /// Something is there, or the parent is not.
    pub fn mksocket(&self, path: &TreePath, mode: u32) -> Result<(), PathError> {
        self.mknod(path, FileType::Socket, mode)
    }

    fn mknod(&self, path: &TreePath, kind: FileType, mode: u32) -> Result<(), PathError> {
        const VERB: &str = "create";
        let (parent, name) = self.parent_to_change(path, VERB)?;
        self.unlocked(&[(&parent, b".")], || {
            rustix::fs::mknodat(&parent, name, kind, mode_bits(mode), 0)
        })
        .map_err(failed(VERB, path))?;
        chmod_nofollow(&parent, name, mode).map_err(failed(VERB, path))
    }
}
