//! Where in the tree the extraction is: the directories from the top to there, open.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use cove_btrfs::{Dir, FileKind, Metadata, PathError};
use cove_types::TreePath;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// The mode of a directory that an archive names only as a part of other names.
const UNNAMED_DIRECTORY_MODE: u32 = 0o755;

/// Why a directory was not reached.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// It is not there, and was not to be made.
    Absent,
    /// This on the way, or itself, is no directory.
    Kind(TreePath, FileKind),
    /// The kernel refused, or it is on another file system.
    Path(PathError),
}

/// The directories from the top down to one of them.
///
/// Invariant: each was opened by one name, without following a link, in the one before
/// it; so none of them is reached through a link, whatever is renamed meanwhile.
pub(super) struct Place {
    /// The path of the top, for errors.
    at: TreePath,
    device: u64,
    owner: Option<(u32, u32)>,
    /// The top of the subvolume, when that is not the top of what is extracted: what has a
    /// temporary name there is in no workspace.
    beside: Option<OwnedFd>,
    top: OwnedFd,
    below: Vec<(Vec<u8>, OwnedFd)>,
}

/// The inode of the top of a btrfs subvolume.
const SUBVOLUME_TOP: u64 = 256;
/// How temporary names at the top of a subvolume begin; the pool removes what a crash left there.
const TEMPORARY_PREFIX: &str = ".cove-writing-tar-";

impl Place {
    /// Begins at a directory, where new ones will belong to `owner`.
    pub fn new(dir: &Dir, at: &TreePath, owner: Option<(u32, u32)>) -> Result<Self, PathError> {
        let opened = dir.open_dir(at)?;
        let owned = |dir: &Dir| {
            dir.descriptor().try_clone_to_owned().map_err(|source| failed("open", at, source))
        };
        let is_subvolume = dir.metadata(&TreePath::top())?.inode == SUBVOLUME_TOP;
        let beside = (is_subvolume && !at.is_top() && opened.device() == dir.device())
            .then(|| owned(dir))
            .transpose()?;
        let top = owned(&opened)?;
        let device = opened.device();
        Ok(Self { at: at.clone(), device, owner, beside, top, below: Vec::new() })
    }

    /// Goes to a directory.
    pub fn enter(&mut self, path: &TreePath) -> Result<BorrowedFd<'_>, Obstacle> {
        self.go(path, false)
    }

    /// Goes to a directory, making it and those above it where they are missing.
    pub fn enter_or_make(&mut self, path: &TreePath) -> Result<BorrowedFd<'_>, Obstacle> {
        self.go(path, true)
    }

    fn go(&mut self, path: &TreePath, make: bool) -> Result<BorrowedFd<'_>, Obstacle> {
        let shared = self.below.iter().zip(path.names()).take_while(|(a, b)| a.0 == **b).count();
        self.below.truncate(shared);
        for name in path.names().skip(shared) {
            let opened = self.open(name, make)?;
            self.below.push((name.to_vec(), opened));
        }
        Ok(self.here())
    }

    /// Gives an open file without a name this one, in one step, replacing what has it.
    /// `false`: there is no place to do that in one step.
    pub fn replace(&self, file: &impl AsFd, parent: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
        let Some(beside) = &self.beside else { return Ok(false) };
        let source = by_descriptor(file);
        let process = rustix::process::getpid().as_raw_nonzero();
        let mut count = 0_u64;
        let temporary = loop {
            let temporary = format!("{TEMPORARY_PREFIX}{process}-{count}");
            let flags = AtFlags::SYMLINK_FOLLOW;
            match rustix::fs::linkat(CWD, &*source, beside, &*temporary, flags) {
                Ok(()) => break temporary,
                Err(Errno::EXIST) => count += 1,
                Err(errno) => return Err(errno),
            }
        };
        if let Err(errno) = rustix::fs::renameat(beside, &*temporary, parent, name) {
            if let Err(error) = rustix::fs::unlinkat(beside, &*temporary, AtFlags::empty()) {
                tracing::warn!(%error, "a temporary name of a file stays behind");
            }
            return Err(errno);
        }
        Ok(true)
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.below.last().map_or(self.top.as_fd(), |(_, fd)| fd.as_fd())
    }

    /// The path of a name in the present directory.
    fn path_of(&self, name: &[u8]) -> TreePath {
        let names = self.below.iter().map(|(name, _)| name.as_slice()).chain([name]);
        names.fold(self.at.clone(), |path, name| path.join(name).unwrap_or(path))
    }

    fn open(&self, name: &[u8], make: bool) -> Result<OwnedFd, Obstacle> {
        let parent = self.here();
        let refused = |verb| {
            move |errno: Errno| {
                let path = self.path_of(name);
                Obstacle::Path(PathError::Io { verb, path, source: errno.into() })
            }
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
        let mut made = false;
        let opened = match open() {
            Err(Errno::NOENT) if make => {
                match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                    Ok(()) => made = true,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(refused("create directory")(errno)),
                }
                open()
            }
            other => other,
        };
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Err(Obstacle::Absent),
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                return Err(match stat(parent, name) {
                    Ok(Some(found)) if found.kind != FileKind::Directory => {
                        Obstacle::Kind(self.path_of(name), found.kind)
                    }
                    _ => refused("open directory")(errno),
                });
            }
            Err(errno) => return Err(refused("open directory")(errno)),
        };
        let found = rustix::fs::fstat(&fd).map_err(refused("look up"))?;
        if found.st_dev != self.device {
            return Err(Obstacle::Path(PathError::OtherDevice { path: self.path_of(name) }));
        }
        if made {
            set_owner(&fd, self.owner)
                .and_then(|()| set_mode(&fd, UNNAMED_DIRECTORY_MODE))
                .map_err(refused("create directory"))?;
        }
        Ok(fd)
    }
}

/// What a name is, without following it; `None` when nothing is there.
pub(super) fn stat(parent: impl AsFd, name: &[u8]) -> Result<Option<Metadata>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Metadata::from(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A path that means a descriptor's own file, whatever became of its name. It serves
/// descriptors opened with `O_PATH`, which the calls on descriptors refuse.
pub(super) fn by_descriptor(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Sets the owner of what is open; also of a link that is.
pub(super) fn set_owner(fd: &impl AsFd, owner: Option<(u32, u32)>) -> Result<(), Errno> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::fs::chownat(fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
}

/// Sets the permission bits of what is open and no link.
pub(super) fn set_mode(fd: &impl AsFd, mode: u32) -> Result<(), Errno> {
    rustix::fs::chmod(by_descriptor(fd), Mode::from_raw_mode(mode & KEPT_MODE))
}

/// The permission bits that are kept: never set-uid and set-gid.
pub(super) const KEPT_MODE: u32 = 0o1777;

/// The times of something last modified then.
pub(super) fn times(mtime: cove_types::FileTime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: i64::from(mtime.nanoseconds.min(999_999_999)),
        },
    }
}

/// A kernel's refusal as an error about a path.
pub(super) fn failed(
    verb: &'static str,
    path: &TreePath,
    source: impl Into<io::Error>,
) -> PathError {
    PathError::Io { verb, path: path.clone(), source: source.into() }
}
