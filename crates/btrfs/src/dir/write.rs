//! A file that is written whole, or not at all.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use cove_types::TreePath;
use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;

use super::{Dir, TEMPORARY_PREFIX, failed, look, mode_bits};
use crate::attributes::by_descriptor;
use crate::{FileKind, Metadata, PathError};

/// The uid and gid of a workspace's user, to whom new files belong.
const WORKSPACE_ID: u32 = 1000;
/// The mode of a new file whose caller names none.
const NEW_FILE_MODE: u32 = 0o644;

/// Makes what was done to a file or a directory durable.
pub type Flush<'f> = dyn Fn(BorrowedFd<'_>) -> io::Result<()> + 'f;

/// Flushes it alone.
fn alone(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::fs::fsync(file)?)
}

impl Dir {
    /// Makes a file of this content, or replaces the one that is there, atomically and
    /// durably: a reader and a power cut see the old content or the new one.
    ///
    /// It gets `mode`, else that of the file it replaces, else 0644; the owner of the file
    /// it replaces, else uid and gid 1000 (when not root: the caller). The content is
    /// written to a file without a name. A new file gets its name at once; one that is
    /// replaced needs a temporary name for a moment, which is in the top of the subvolume
    /// (outside `files/`), or beside it when the root is no subvolume.
    ///
    /// # Errors
    ///
    /// A directory is there, the parent is not, `content` fails, or no room is left.
    pub fn write_file(
        &self,
        path: &TreePath,
        mode: Option<u32>,
        content: &mut dyn Read,
    ) -> Result<(), PathError> {
        const VERB: &str = "write";
        let refused = failed(VERB, path);
        let replaced = self.replaced(path)?;
        let parent = &replaced.parent;
        let (mut file, temporary) = match self.nameless(parent).map_err(&refused)? {
            Some(file) => (file, None),
            // Some file systems (a laptop's, not a pool's) have no nameless files.
            None => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
                let (fd, name) = with_temporary_name(|name| {
                    rustix::fs::openat(parent, name, flags, mode_bits(0o600))
                })
                .map_err(&refused)?;
                (File::from(fd), Some(Temporary { dir: parent.as_fd(), name }))
            }
        };
        io::copy(content, &mut file).map_err(|source| PathError::Io {
            verb: VERB,
            path: path.clone(),
            source,
        })?;
        self.put(path, &replaced, mode, &file, temporary, &alone)
    }

    /// A file without a name in this directory's file system, for [`place_file`](Self::place_file); `None`
    /// when that has no such files. It goes with its last descriptor.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn nameless_file(&self) -> Result<Option<File>, PathError> {
        self.nameless(&self.root).map_err(failed("write", &TreePath::top()))
    }

    /// Gives a nameless file of this directory's file system a name, or the place of the file that has it,
    /// in one step and durably. Mode and owner are as of [`write_file`](Self::write_file). `flush` makes a file
    /// or a directory durable with what was done to it before: for itself, as fsync(2), or with others.
    ///
    /// # Errors
    ///
    /// A directory is there, the parent is not, or the file is of another subvolume; then nothing has
    /// changed.
    pub fn place_file(
        &self,
        path: &TreePath,
        mode: Option<u32>,
        file: &File,
        flush: &Flush<'_>,
    ) -> Result<(), PathError> {
        let replaced = self.replaced(path)?;
        self.put(path, &replaced, mode, file, None, flush)
    }

    /// Looks at what a file is to replace.
    fn replaced<'p>(&self, path: &'p TreePath) -> Result<Replaced<'p>, PathError> {
        const VERB: &str = "write";
        let (parent, name) = self.parent_to_change(path, VERB)?;
        let old = match look(&parent, name) {
            Ok(metadata) => Some(metadata),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed(VERB, path)(errno)),
        };
        if let Some(Metadata { kind: found @ FileKind::Directory, .. }) = old {
            return Err(PathError::Kind { path: path.clone(), found, wanted: FileKind::File });
        }
        Ok(Replaced { parent, name, old: old.filter(|old| old.kind == FileKind::File) })
    }

    fn nameless(&self, parent: &OwnedFd) -> Result<Option<File>, Errno> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let made = self.unlocked(&[(parent, b".")], || {
            rustix::fs::openat(parent, c".", flags, mode_bits(0o600))
        });
        match made {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Makes a file that is written, and has a temporary name at most, the one at `path`.
    fn put<'t>(
        &'t self,
        path: &TreePath,
        Replaced { parent, name, old }: &'t Replaced<'_>,
        mode: Option<u32>,
        file: &File,
        mut temporary: Option<Temporary<'t>>,
        flush: &Flush<'_>,
    ) -> Result<(), PathError> {
        let refused = failed("write", path);
        let unflushed = |source| PathError::Io { verb: "write", path: path.clone(), source };
        let mode = mode.or(old.as_ref().map(|old| old.mode)).unwrap_or(NEW_FILE_MODE);
        let owner = old.as_ref().map_or((WORKSPACE_ID, WORKSPACE_ID), |old| (old.uid, old.gid));
        if rustix::process::geteuid().is_root() {
            let uid = rustix::fs::Uid::from_raw(owner.0);
            let gid = rustix::fs::Gid::from_raw(owner.1);
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(&refused)?;
        }
        rustix::fs::fchmod(file, mode_bits(mode)).map_err(&refused)?;
        // before it takes the place of another, which would be lost with it
        flush(file.as_fd()).map_err(unflushed)?;

        if temporary.is_none() {
            let nameless = by_descriptor(file);
            let link = |dir: BorrowedFd<'_>, name: &[u8]| {
                rustix::fs::linkat(CWD, &*nameless, dir, name, AtFlags::SYMLINK_FOLLOW)
            };
            match link(parent.as_fd(), name) {
                Ok(()) => return flush(parent.as_fd()).map_err(unflushed),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(refused(errno)),
            }
            let beside = if self.is_subvolume { self.root.as_fd() } else { parent.as_fd() };
            let ((), name) = with_temporary_name(|name| link(beside, name)).map_err(&refused)?;
            temporary = Some(Temporary { dir: beside, name });
        }
        if let Some(temporary) = temporary {
            self.unlocked(&[(parent, name), (parent, b".")], || {
                rustix::fs::renameat(temporary.dir, &*temporary.name, parent, *name)
            })
            .map_err(&refused)?;
            // Renamed away: there is nothing to clean up.
            std::mem::forget(temporary);
        }
        flush(parent.as_fd()).map_err(unflushed)
    }
}

/// A place that a file is to have, and the file that has it.
struct Replaced<'p> {
    parent: OwnedFd,
    name: &'p [u8],
    old: Option<Metadata>,
}

/// A name that goes when the file it was for did not get its own.
struct Temporary<'d> {
    dir: BorrowedFd<'d>,
    name: Vec<u8>,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::unlinkat(self.dir, &*self.name, AtFlags::empty()) {
            tracing::warn!(%error, "a temporary name of a file stays behind");
        }
    }
}

/// Tries `make` with temporary names until one is free.
fn with_temporary_name<T>(make: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<(T, Vec<u8>), Errno> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let process = rustix::process::getpid().as_raw_nonzero();
    loop {
        let name = format!("{TEMPORARY_PREFIX}{process}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        match make(name.as_bytes()) {
            Ok(made) => return Ok((made, name.into_bytes())),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
}
