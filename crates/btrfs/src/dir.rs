//! Safe access to what lies below one directory.
//!
//! Each call resolves its path in the kernel, below the directory's descriptor:
//! `openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)`. Against a thread that swaps a
//! directory for a link it let 0 of 600,000 tries escape, where comparing prefixes let
//! 46 % (`facts/btrfs.md`). The last name is never followed; links before it are, as long
//! as they stay inside.
//!
//! What the flags immutable and append-only forbid is done nevertheless: whoever changes an
//! entry through a [`Dir`] owns the workspace. The flags of the entry, and of the directories
//! that it is in or comes to, are cleared then and stay so.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cove_types::{FileTime, TreePath};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, Timespec, Timestamps,
};
use rustix::io::Errno;

use crate::attributes::{self, Attributes, by_descriptor};
use crate::locks::{Place, unlock, unlocked};
use crate::{FileKind, Metadata, PathError};

/// The uid and gid of a workspace's user, to whom new files belong.
const WORKSPACE_ID: u32 = 1000;
/// The mode of a new file whose caller names none.
const NEW_FILE_MODE: u32 = 0o644;
/// How names that exist for a moment while a file is replaced begin.
pub(crate) const TEMPORARY_PREFIX: &str = ".cove-writing-";
/// The inode of the top of a btrfs subvolume.
const SUBVOLUME_TOP: u64 = 256;
/// How often a path is resolved again when something was renamed meanwhile.
const RESOLVE_TRIES: u32 = 10_000;
/// How deep removing goes with open directories; what is deeper is first moved up.
const REMOVE_DEPTH: usize = 64;

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

/// A directory's path with a dot behind it, so that its last name is followed too.
fn parent_bytes(path: &TreePath) -> Vec<u8> {
    let mut bytes = path.as_bytes().to_vec();
    bytes.extend_from_slice(if path.is_top() { b"." } else { b"/." });
    bytes
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
    fn open_below(&self, path: &TreePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let bytes: &[u8] = if path.is_top() { b"." } else { path.as_bytes() };
        self.resolve(bytes, flags | OFlags::NOFOLLOW)
    }

    /// Opens a directory below and checks that it is on the same device.
    fn directory(
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
    fn not_a(
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
    fn parent<'p>(
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
    fn parent_to_change<'p>(
        &self,
        path: &'p TreePath,
        verb: &'static str,
    ) -> Result<(OwnedFd, &'p [u8]), PathError> {
        if path.is_top() {
            return Err(PathError::Top);
        }
        self.parent(path, OFlags::RDONLY, verb)
    }

    /// Does `act` in spite of flags on `places` that forbid it.
    fn unlocked<T>(
        &self,
        places: &[Place<'_>],
        act: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        unlocked(self.device, places, act)
    }

    /// Takes a name away, in spite of flags on it or on its directory.
    fn unlink(&self, parent: &OwnedFd, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
        self.unlocked(&[(parent, name), (parent, b".")], || {
            rustix::fs::unlinkat(parent, name, flags)
        })
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

    /// Opens a regular file with `flags`.
    fn open_regular(&self, path: &TreePath, flags: OFlags) -> Result<File, PathError> {
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
        Ok(File::from(fd))
    }

    /// Opens a regular file for reading. A link is not followed.
    ///
    /// # Errors
    ///
    /// It is not there, not a regular file, or in another subvolume or mount.
    pub fn open_file(&self, path: &TreePath) -> Result<File, PathError> {
        self.open_regular(path, OFlags::RDONLY)
    }

    /// Opens a regular file for reading and writing in place.
    ///
    /// # Errors
    ///
    /// As of [`open_file`](Self::open_file).
    pub fn open_file_writable(&self, path: &TreePath) -> Result<File, PathError> {
        self.open_regular(path, OFlags::RDWR)
    }

    /// Creates an empty regular file where nothing is, open for writing. For building a
    /// tree: not durable by itself, and it belongs to whoever runs this.
    ///
    /// # Errors
    ///
    /// Something is there, or the parent is not.
    pub fn create_file(&self, path: &TreePath, mode: u32) -> Result<File, PathError> {
        const VERB: &str = "create";
        let (parent, name) = self.parent_to_change(path, VERB)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = self
            .unlocked(&[(&parent, b".")], || {
                rustix::fs::openat(&parent, name, flags | OFlags::NOFOLLOW, mode_bits(0o600))
            })
            .map_err(failed(VERB, path))?;
        rustix::fs::fchmod(&fd, mode_bits(mode)).map_err(failed(VERB, path))?;
        Ok(File::from(fd))
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
        self.put(path, &replaced, mode, &file, temporary)
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
    /// in one step and durably. Mode and owner are as of [`write_file`](Self::write_file).
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
    ) -> Result<(), PathError> {
        let replaced = self.replaced(path)?;
        self.put(path, &replaced, mode, file, None)
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
    ) -> Result<(), PathError> {
        let refused = failed("write", path);
        let mode = mode.or(old.as_ref().map(|old| old.mode)).unwrap_or(NEW_FILE_MODE);
        let owner = old.as_ref().map_or((WORKSPACE_ID, WORKSPACE_ID), |old| (old.uid, old.gid));
        if rustix::process::geteuid().is_root() {
            let uid = rustix::fs::Uid::from_raw(owner.0);
            let gid = rustix::fs::Gid::from_raw(owner.1);
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(&refused)?;
        }
        rustix::fs::fchmod(file, mode_bits(mode)).map_err(&refused)?;
        rustix::fs::fsync(file).map_err(&refused)?;

        if temporary.is_none() {
            let nameless = by_descriptor(file);
            let link = |dir: BorrowedFd<'_>, name: &[u8]| {
                rustix::fs::linkat(CWD, &*nameless, dir, name, AtFlags::SYMLINK_FOLLOW)
            };
            match link(parent.as_fd(), name) {
                Ok(()) => {
                    return rustix::fs::fsync(parent).map_err(&refused);
                }
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
        rustix::fs::fsync(parent).map_err(&refused)
    }

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

    /// Renames an entry, replacing a file (or an empty directory by a directory) that is
    /// at `to`. Durable on return.
    ///
    /// # Errors
    ///
    /// `from` is not there, a parent is not, or `to` is a directory with entries.
    pub fn rename(&self, from: &TreePath, to: &TreePath) -> Result<(), PathError> {
        const VERB: &str = "rename";
        let (from_parent, from_name) = self.parent_to_change(from, VERB)?;
        let (to_parent, to_name) = self.parent_to_change(to, VERB)?;
        let places: [Place<'_>; 4] = [
            (&from_parent, from_name),
            (&from_parent, b"."),
            (&to_parent, to_name),
            (&to_parent, b"."),
        ];
        self.unlocked(&places, || {
            rustix::fs::renameat(&from_parent, from_name, &to_parent, to_name)
        })
        .map_err(failed(VERB, from))?;
        rustix::fs::fsync(&to_parent).map_err(failed(VERB, to))?;
        rustix::fs::fsync(&from_parent).map_err(failed(VERB, from))
    }

    /// Renames an entry to a place; what is there already takes the place of the entry, in the same
    /// moment, and nobody finds neither of them. Whether that was so. Durable on return.
    ///
    /// A directory that stands for a nested subvolume in a snapshot goes from `to` and is not exchanged:
    /// it has no reference that the kernel could take back, and an exchange with it ends the transaction
    /// and leaves the whole filesystem read-only (`btrfs_rename_exchange`, Linux 6.18).
    ///
    /// # Errors
    ///
    /// `from` is not there or stands for a nested subvolume, or a parent is not there; nothing has moved.
    pub fn rename_or_exchange(&self, from: &TreePath, to: &TreePath) -> Result<bool, PathError> {
        use rustix::fs::RenameFlags;
        const VERB: &str = "rename";
        let (from_parent, from_name) = self.parent_to_change(from, VERB)?;
        let (to_parent, to_name) = self.parent_to_change(to, VERB)?;
        let places: [Place<'_>; 4] = [
            (&from_parent, from_name),
            (&from_parent, b"."),
            (&to_parent, to_name),
            (&to_parent, b"."),
        ];
        let rename = |flags| {
            self.unlocked(&places, || {
                rustix::fs::renameat_with(&from_parent, from_name, &to_parent, to_name, flags)
            })
        };
        let stands_for_subvolume = |parent: &OwnedFd, name: &[u8]| {
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|found| Metadata::from(&found).stands_for_subvolume())
        };
        if stands_for_subvolume(&from_parent, from_name) {
            return Err(failed(VERB, from)(Errno::INVAL));
        }
        let is_exchanged = loop {
            match rename(RenameFlags::NOREPLACE) {
                Ok(()) => break false,
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(VERB, from)(errno)),
            }
            if stands_for_subvolume(&to_parent, to_name) {
                self.unlocked(&places, || {
                    rustix::fs::unlinkat(&to_parent, to_name, AtFlags::REMOVEDIR)
                })
                .map_err(failed(VERB, to))?;
                continue;
            }
            match rename(RenameFlags::EXCHANGE) {
                Ok(()) => break true,
                // one of them went meanwhile: the other call tells which
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(VERB, from)(errno)),
            }
        };
        rustix::fs::fsync(&to_parent).map_err(failed(VERB, to))?;
        rustix::fs::fsync(&from_parent).map_err(failed(VERB, from))?;
        Ok(is_exchanged)
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

    /// Sets when an entry's content last changed, of a link the link's own.
    ///
    /// # Errors
    ///
    /// It is not there, or is not ours.
    pub fn set_times(&self, path: &TreePath, mtime: FileTime) -> Result<(), PathError> {
        const VERB: &str = "set the time of";
        let (parent, name) = self.parent(path, OFlags::PATH, VERB)?;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: mtime.seconds,
                tv_nsec: i64::from(mtime.nanoseconds),
            },
        };
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

/// Sets the mode of what a name is, and of nothing that a link there points to.
fn chmod_nofollow(parent: &OwnedFd, name: &[u8], mode: u32) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink {
        return Err(Errno::OPNOTSUPP);
    }
    rustix::fs::chmod(by_descriptor(&fd), mode_bits(mode))
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

#[cfg(test)]
mod tests;
