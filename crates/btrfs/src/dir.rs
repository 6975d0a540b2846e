//! Safe access to what lies below one directory.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use cove_types::{FileTime, TreePath};

use crate::{Metadata, PathError};

/// A directory, and access to what lies below it and nowhere else.
#[derive(Debug)]
pub struct Dir {
    root: OwnedFd,
    device: u64,
}

impl Dir {
    /// Opens any directory of the host's; symbolic links in `path` are followed.
    pub fn from_path(_path: &Path) -> Result<Self, PathError> { todo!() }
    /// Opens a directory below as a `Dir` of its own.
    pub fn open_dir(&self, _path: &TreePath) -> Result<Dir, PathError> { todo!() }
    /// Opens a regular file for reading.
    pub fn open_file(&self, _path: &TreePath) -> Result<File, PathError> { todo!() }
    /// Opens a regular file for reading and writing.
    pub fn open_file_writable(&self, _path: &TreePath) -> Result<File, PathError> { todo!() }
    /// Creates an empty regular file that must not exist, for writing; not durable by itself.
    pub fn create_file(&self, _path: &TreePath, _mode: u32) -> Result<File, PathError> { todo!() }
    /// Metadata; never follows the last link.
    pub fn metadata(&self, _path: &TreePath) -> Result<Metadata, PathError> { todo!() }
    /// `None` when nothing is there.
    pub fn find(&self, _path: &TreePath) -> Result<Option<Metadata>, PathError> { todo!() }
    /// The target of a link.
    pub fn read_link(&self, _path: &TreePath) -> Result<Vec<u8>, PathError> { todo!() }
    /// Names and metadata, sorted by the names' bytes.
    pub fn list(&self, _path: &TreePath) -> Result<Vec<(Vec<u8>, Metadata)>, PathError> { todo!() }
    /// Makes one directory; must not exist.
    pub fn create_dir(&self, _path: &TreePath, _mode: u32) -> Result<(), PathError> { todo!() }
    /// Makes a directory and its parents where they are missing.
    pub fn create_dirs(&self, _path: &TreePath, _mode: u32) -> Result<(), PathError> { todo!() }
    /// Replaces or makes a file, durably.
    pub fn write_file(&self, _path: &TreePath, _mode: Option<u32>, _content: &mut dyn Read) -> Result<(), PathError> { todo!() }
    /// Removes; `false`: it was gone.
    pub fn remove(&self, _path: &TreePath, _recursive: bool) -> Result<bool, PathError> { todo!() }
    /// Renames, replacing.
    pub fn rename(&self, _from: &TreePath, _to: &TreePath) -> Result<(), PathError> { todo!() }
    /// Makes a symbolic link.
    pub fn symlink(&self, _path: &TreePath, _target: &[u8]) -> Result<(), PathError> { todo!() }
    /// Makes another name.
    pub fn hard_link(&self, _existing: &TreePath, _new: &TreePath) -> Result<(), PathError> { todo!() }
    /// Makes a named pipe.
    pub fn mkfifo(&self, _path: &TreePath, _mode: u32) -> Result<(), PathError> { todo!() }
    /// Makes a socket's name.
    pub fn mksocket(&self, _path: &TreePath, _mode: u32) -> Result<(), PathError> { todo!() }
    /// Sets the mtime.
    pub fn set_times(&self, _path: &TreePath, _mtime: FileTime) -> Result<(), PathError> { todo!() }
    /// Sets owner and group.
    pub fn set_owner(&self, _path: &TreePath, _uid: u32, _gid: u32) -> Result<(), PathError> { todo!() }
    /// Sets the mode.
    pub fn set_mode(&self, _path: &TreePath, _mode: u32) -> Result<(), PathError> { todo!() }
    /// All names of xattrs, sorted.
    pub fn list_xattrs(&self, _path: &TreePath) -> Result<Vec<Vec<u8>>, PathError> { todo!() }
    /// `None`: no such.
    pub fn find_xattr(&self, _path: &TreePath, _name: &[u8]) -> Result<Option<Vec<u8>>, PathError> { todo!() }
    /// Sets one.
    pub fn set_xattr(&self, _path: &TreePath, _name: &[u8], _value: &[u8]) -> Result<(), PathError> { todo!() }
    /// fsync of a directory or file.
    pub fn sync(&self, _path: &TreePath) -> Result<(), PathError> { todo!() }
}
