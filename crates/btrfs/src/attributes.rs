//! The extended attributes of one entry.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use cove_types::FileTime;
use rustix::fs::{Mode, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

/// What the kernel gives of one value, or of all names, at most, in bytes (`XATTR_SIZE_MAX`
/// and `XATTR_LIST_MAX` in `linux/limits.h`).
const BYTES_MAX: usize = 64 << 10;

/// The extended attributes of one entry, which stays open meanwhile.
#[derive(Debug)]
pub struct Attributes<'f> {
    place: Place<'f>,
}

#[derive(Debug)]
enum Place<'f> {
    /// Open for reading.
    Open(BorrowedFd<'f>),
    /// Open by its name only (`O_PATH`): what calls on descriptors refuse.
    Named(OwnedFd),
}

impl<'f> Attributes<'f> {
    /// Those of a file that is open.
    #[must_use]
    pub fn of(file: &'f File) -> Self {
        Self { place: Place::Open(file.as_fd()) }
    }
}

impl Attributes<'_> {
    /// Those of whatever a descriptor, perhaps one of `O_PATH`, is of; a link's own.
    pub(crate) fn of_descriptor(fd: OwnedFd) -> Self {
        Self { place: Place::Named(fd) }
    }

    /// The names, sorted; all that the caller may see, `user.*` and `system.posix_acl_*` among
    /// them. None on a file system without attributes.
    ///
    /// `Ok(None)`: together they are over 64 KiB, and the kernel lists none.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn names(&self) -> io::Result<Option<Vec<Vec<u8>>>> {
        let mut buffer = Vec::with_capacity(1024);
        loop {
            let spare = rustix::buffer::spare_capacity(&mut buffer);
            let listed = match &self.place {
                Place::Open(fd) => rustix::fs::flistxattr(fd, spare),
                Place::Named(fd) => rustix::fs::listxattr(by_descriptor(fd), spare),
            };
            match listed {
                Ok(_) => break,
                Err(Errno::RANGE) if buffer.capacity() < BYTES_MAX => {
                    buffer = Vec::with_capacity(BYTES_MAX);
                }
                Err(Errno::TOOBIG) => return Ok(None),
                Err(Errno::OPNOTSUPP) => return Ok(Some(Vec::new())),
                Err(errno) => return Err(errno.into()),
            }
        }
        let mut names: Vec<Vec<u8>> =
            buffer.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect();
        names.sort_unstable();
        Ok(Some(names))
    }

    /// The value of one; `None` when there is no such attribute.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn find(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = Vec::with_capacity(256);
        loop {
            let spare = rustix::buffer::spare_capacity(&mut value);
            let read = match &self.place {
                Place::Open(fd) => rustix::fs::fgetxattr(fd, name, spare),
                Place::Named(fd) => rustix::fs::getxattr(by_descriptor(fd), name, spare),
            };
            match read {
                Ok(_) => return Ok(Some(value)),
                Err(Errno::RANGE) if value.capacity() < BYTES_MAX => {
                    value = Vec::with_capacity(BYTES_MAX);
                }
                Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Sets owner, mode (`07777`), extended attributes and, last, the time of the last change of a file
/// that is open for writing. Not durable by itself.
///
/// Costs a call each and no look at a path. An owner and a mode that are set clear set-uid bits as
/// the kernel does.
///
/// # Errors
///
/// What the kernel says; what came before is set then.
pub fn dress<'x>(
    file: &File,
    (uid, gid): (u32, u32),
    mode: u32,
    attributes: impl IntoIterator<Item = (&'x [u8], &'x [u8])>,
    mtime: FileTime,
) -> io::Result<()> {
    let owner = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::fchown(file, Some(owner.0), Some(owner.1))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())?;
    }
    rustix::fs::futimens(file, &modified_at(mtime))?;
    Ok(())
}

/// The times that set when something was last changed and nothing else.
pub(crate) fn modified_at(mtime: FileTime) -> Timestamps {
    let last_access = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    let last_modification =
        Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanoseconds) };
    Timestamps { last_access, last_modification }
}

/// Sets an attribute of what a descriptor of `O_PATH` is of.
pub(crate) fn set(fd: &OwnedFd, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::setxattr(by_descriptor(fd), name, value, XattrFlags::empty())
}

/// Removes an attribute of what a descriptor of `O_PATH` is of. `false`: there was none.
pub(crate) fn remove(fd: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::removexattr(by_descriptor(fd), name) {
        Ok(()) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Follows the descriptor itself, whatever happened to the name it was opened by.
pub(crate) fn by_descriptor(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}
