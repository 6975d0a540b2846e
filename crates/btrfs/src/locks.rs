//! Flags with which the kernel keeps even root from changing an entry.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, IFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::attributes::by_descriptor;

/// An entry: the directory in which it is and its name, `.` for that directory itself.
pub(crate) type Place<'p> = (&'p OwnedFd, &'p [u8]);

/// Does `act`; when the kernel forbids it (`EPERM`), once more, without the flags immutable and
/// append-only on whichever of `places` had them.
///
/// They stay cleared, whatever comes of `act`: to set them again would be one more step that a
/// crash can leave out, and a tree does not hold them anyway. What is not on `device` keeps its
/// flags.
pub(crate) fn unlocked<T>(
    device: u64,
    places: &[Place<'_>],
    act: impl Fn() -> Result<T, Errno>,
) -> Result<T, Errno> {
    match act() {
        Err(Errno::PERM) => {
            let mut is_other = false;
            for (directory, name) in places {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                if let Ok(fd) = rustix::fs::openat(directory, *name, flags, Mode::empty()) {
                    is_other |= unlock(device, &fd);
                }
            }
            if is_other { act() } else { Err(Errno::PERM) }
        }
        result => result,
    }
}

/// Clears the flags of what a descriptor, perhaps one of `O_PATH`, is of; whether it had any.
///
/// Only files and directories have flags, and nothing else is opened: that might wait (a named
/// pipe) or act (a device).
pub(crate) fn unlock(device: u64, fd: &impl AsFd) -> bool {
    let try_unlock = || -> Result<bool, Errno> {
        let stat = rustix::fs::fstat(fd)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if stat.st_dev != device || !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let open = rustix::fs::openat(CWD, by_descriptor(fd), flags, Mode::empty())?;
        let flags = rustix::fs::ioctl_getflags(&open)?;
        let locks = IFlags::IMMUTABLE | IFlags::APPEND;
        if !flags.intersects(locks) {
            return Ok(false);
        }
        rustix::fs::ioctl_setflags(&open, flags.difference(locks))?;
        Ok(true)
    };
    match try_unlock() {
        Ok(is_other) => is_other,
        Err(error) => {
            tracing::debug!(%error, "flags could not be cleared");
            false
        }
    }
}
