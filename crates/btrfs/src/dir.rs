//! Safe access to what lies below one directory.
//!
//! Each call resolves its path in the kernel, below the directory's descriptor:
//! `openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)`. Against a thread that swaps a
//! directory for a link it let 0 of 600,000 tries escape, where comparing prefixes let
//! 46 %. The last name is never followed; links before it are, as long
//! as they stay inside.
//!
//! What the flags immutable and append-only forbid is done nevertheless: whoever changes an
//! entry through a [`Dir`] owns the workspace. The flags of the entry, and of the directories
//! that it is in or comes to, are cleared then and stay so.

mod attributes;
mod cached;
mod create;
mod remove;
mod rename;
mod resolve;
mod write;

pub use write::Flush;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cove_types::TreePath;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

pub(crate) use self::cached::CACHED;
use crate::locks::{Place, unlock, unlocked};
use crate::{BTRFS_MAGIC, FileKind, Metadata, PathError};

/// How names that exist for a moment while a file is replaced begin.
pub(crate) const TEMPORARY_PREFIX: &str = ".cove-writing-";
/// The inode of the top of a btrfs subvolume.
const SUBVOLUME_TOP: u64 = 256;

/// A directory, and access to what lies below it and nowhere else.
///
/// Nested subvolumes and other mounts are seen as entries ([`Metadata::device`] tells
/// them) and not entered. Cloning is a `dup`.
#[derive(Debug)]
pub struct Dir {
    root: OwnedFd,
    device: u64,
    is_subvolume: bool,
}

/// Makes a kernel's refusal an error about a path.
fn failed(verb: &'static str, path: &TreePath) -> impl Fn(Errno) -> PathError {
    let path = path.clone();
    move |errno| match errno {
        Errno::XDEV => PathError::Escapes { path: path.clone() },
        errno => PathError::Io { verb, path: path.clone(), source: errno.into() },
    }
}

/// What the kernel tells of a name in a directory, or of the descriptor when the name is empty.
fn look(fd: impl AsFd, name: &[u8]) -> Result<Metadata, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(fd, name, flags, StatxFlags::BASIC_STATS)?;
    Ok(Metadata::from(&stat))
}

/// Permission bits.
fn mode_bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// The names in a directory, without `.` and `..`.
fn names(fd: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => names.push(name.to_vec()),
        }
    }
    Ok(names)
}

impl Dir {
    /// Opens any directory of the host's. Links in `path` are followed: it is the
    /// caller's own and not a workspace's.
    ///
    /// # Errors
    ///
    /// It is not there or not a directory.
    pub fn from_path(path: &Path) -> Result<Self, PathError> {
        let top = TreePath::top();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(failed("open directory", &top))?;
        Self::from_descriptor(root).map_err(failed("open directory", &top))
    }

    /// A directory that is open already.
    pub(crate) fn from_descriptor(root: OwnedFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&root)?;
        Ok(Self { root, device: stat.st_dev, is_subvolume: stat.st_ino == SUBVOLUME_TOP })
    }

    /// Whether it is the top of a subvolume.
    pub(crate) fn is_subvolume(&self) -> bool {
        self.is_subvolume
    }

    /// A second handle of the same directory.
    ///
    /// # Errors
    ///
    /// There are too many open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        let root = self.root.try_clone()?;
        Ok(Self { root, device: self.device, is_subvolume: self.is_subvolume })
    }

    /// The directory's descriptor (`O_PATH`).
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The device on which the directory is; each subvolume has its own.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Whether it is on btrfs, which takes frames ([`write_encoded`](crate::write_encoded)) as a rule.
    #[must_use]
    pub fn is_on_btrfs(&self) -> bool {
        rustix::fs::fstatfs(&self.root).is_ok_and(|found| found.f_type == BTRFS_MAGIC)
    }

    /// Does `act` in spite of flags on `places` that forbid it.
    fn unlocked<T>(
        &self,
        places: &[Place<'_>],
        act: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        unlocked(self.device, places, act)
    }

    /// Opens a directory below as a `Dir` of its own, out of which nothing leads.
    ///
    /// # Errors
    ///
    /// It is not there, not a directory, or in another subvolume or mount.
    pub fn open_dir(&self, path: &TreePath) -> Result<Self, PathError> {
        let fd = self.directory(path, OFlags::PATH, "open directory")?;
        Self::from_descriptor(fd).map_err(failed("open directory", path))
    }

    /// Opens a regular file with `flags`, and says what it is.
    fn open_regular(&self, path: &TreePath, flags: OFlags) -> Result<(File, Metadata), PathError> {
        const VERB: &str = "open";
        // A named pipe would block without O_NONBLOCK, a terminal become ours without O_NOCTTY.
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut opened = self.open_below(path, flags);
        if let Err(Errno::PERM) = opened
            && let Ok(fd) = self.open_below(path, OFlags::PATH)
            && unlock(self.device, &fd)
        {
            opened = self.open_below(path, flags);
        }
        let fd = match opened {
            Err(errno @ (Errno::LOOP | Errno::NXIO | Errno::ISDIR | Errno::NODEV)) => {
                return Err(self.not_a(path, FileKind::File, VERB, errno));
            }
            other => other.map_err(failed(VERB, path))?,
        };
        let metadata = look(&fd, b"").map_err(failed(VERB, path))?;
        if metadata.kind != FileKind::File {
            let (found, wanted) = (metadata.kind, FileKind::File);
            return Err(PathError::Kind { path: path.clone(), found, wanted });
        }
        if metadata.device != self.device {
            return Err(PathError::OtherDevice { path: path.clone() });
        }
        Ok((File::from(fd), metadata))
    }

    /// Opens a regular file for reading. A link is not followed.
    ///
    /// # Errors
    ///
    /// It is not there, not a regular file, or in another subvolume or mount.
    pub fn open_file(&self, path: &TreePath) -> Result<File, PathError> {
        self.open_regular(path, OFlags::RDONLY).map(|(file, _)| file)
    }

    /// Opens a regular file for reading and says what that file is, whatever has its name meanwhile.
    ///
    /// # Errors
    ///
    /// As of [`open_file`](Self::open_file).
    pub fn open_file_with_metadata(&self, path: &TreePath) -> Result<(File, Metadata), PathError> {
        self.open_regular(path, OFlags::RDONLY)
    }

    /// Opens a regular file for reading and writing in place.
    ///
    /// # Errors
    ///
    /// As of [`open_file`](Self::open_file).
    pub fn open_file_writable(&self, path: &TreePath) -> Result<File, PathError> {
        self.open_regular(path, OFlags::RDWR).map(|(file, _)| file)
    }

    /// What an entry is; of a link the link itself.
    ///
    /// # Errors
    ///
    /// It is not there or could not be looked up.
    pub fn metadata(&self, path: &TreePath) -> Result<Metadata, PathError> {
        const VERB: &str = "look up";
        if path.is_top() {
            return look(&self.root, b"").map_err(failed(VERB, path));
        }
        let (parent, name) = self.parent(path, OFlags::PATH, VERB)?;
        look(&parent, name).map_err(failed(VERB, path))
    }

    /// What an entry is; `None` when nothing is there.
    ///
    /// # Errors
    ///
    /// It could not be looked up.
    pub fn find(&self, path: &TreePath) -> Result<Option<Metadata>, PathError> {
        match self.metadata(path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a symbolic link points to, raw.
    ///
    /// # Errors
    ///
    /// It is not there or not a link.
    pub fn read_link(&self, path: &TreePath) -> Result<Vec<u8>, PathError> {
        const VERB: &str = "read link";
        let (parent, name) = self.parent(path, OFlags::PATH, VERB)?;
        match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(errno @ Errno::INVAL) => Err(self.not_a(path, FileKind::Symlink, VERB, errno)),
            Err(errno) => Err(failed(VERB, path)(errno)),
        }
    }

    /// The names in a directory and what they are, sorted by the names' bytes. What
    /// disappears while it is listed is left out.
    ///
    /// # Errors
    ///
    /// It is not there, not a directory, or could not be read.
    pub fn list(&self, path: &TreePath) -> Result<Vec<(Vec<u8>, Metadata)>, PathError> {
        const VERB: &str = "list";
        let fd = self.directory(path, OFlags::RDONLY, VERB)?;
        let mut names = names(&fd).map_err(failed(VERB, path))?;
        names.sort_unstable();
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            match look(&fd, &name) {
                Ok(metadata) => entries.push((name, metadata)),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(VERB, path)(errno)),
            }
        }
        Ok(entries)
    }

    /// Makes a file's content, or a directory's entries, durable.
    ///
    /// # Errors
    ///
    /// It is not there, neither file nor directory, or what the kernel says.
    pub fn sync(&self, path: &TreePath) -> Result<(), PathError> {
        const VERB: &str = "sync";
        match self.metadata(path)?.kind {
            FileKind::Directory => {
                let fd = self.directory(path, OFlags::RDONLY, VERB)?;
                rustix::fs::fsync(fd).map_err(failed(VERB, path))
            }
            _ => rustix::fs::fsync(self.open_file(path)?).map_err(failed(VERB, path)),
        }
    }
}

#[cfg(test)]
mod tests;
