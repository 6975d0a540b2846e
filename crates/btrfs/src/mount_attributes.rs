//! What may be done through a mount, said before anybody sees it.
//!
//! A mount that is attached first and changed then is for a moment what it was before. And where the place is shared
//! with other namespaces, attaching makes copies there, which a later change of the mount does not change.
#![expect(unsafe_code, reason = "rustix has no mount_setattr")]

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::AtFlags;
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};

/// The flags that a mount of its own can have, and the attributes that they are.
const ATTRIBUTES: [(MountFlags, MountAttrFlags); 7] = [
    (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
    (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
    (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
    (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
    (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
    (MountFlags::RELATIME, MountAttrFlags::MOUNT_ATTR_RELATIME),
];

/// `mount_attr`, in its first and shortest form.
///
/// Source: `linux/mount.h` (`MOUNT_ATTR_SIZE_VER0`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const _: () = assert!(size_of::<Change>() == 32);

impl Change {
    /// What gives a mount some flags beside those that it has. Nothing where one is no mount's own.
    fn adding(flags: MountFlags) -> Option<Self> {
        let known: MountFlags = ATTRIBUTES.iter().map(|(flag, _)| *flag).collect();
        let asked = ATTRIBUTES.iter().filter(|(flag, _)| flags.contains(*flag));
        let set: MountAttrFlags = asked.map(|(_, attribute)| *attribute).collect();
        // when reading is noted is one number in these bits, of which 0 is `relatime`: it is cleared whole to be another
        let says_when = flags.intersects(MountFlags::NOATIME | MountFlags::RELATIME);
        let clear = says_when.then_some(MountAttrFlags::MOUNT_ATTR__ATIME);
        known.contains(flags).then(|| Self {
            set: set.bits().into(),
            clear: clear.map_or(0, |clear| clear.bits().into()),
            propagation: 0,
            user_namespace: 0,
        })
    }
}

/// Gives a mount flags beside those that it has: of `RDONLY`, `NOSUID`, `NODEV`, `NOEXEC`, `NODIRATIME`, and one of
/// `NOATIME` and `RELATIME`, which takes the place of what the mount has of these; of both it is `NOATIME`. `mount` is
/// a descriptor from open_tree(2) with `OPEN_TREE_CLONE`, or of a mount's top. All of them are set, or none.
///
/// Source: mount_setattr(2), which is there since Linux 5.12.
///
/// # Errors
///
/// `EINVAL` for other flags, and where `mount` is no mount's top; what the kernel refuses.
pub fn add_mount_flags(mount: impl AsFd, flags: MountFlags) -> Result<(), Errno> {
    let change = Change::adding(flags).ok_or(Errno::INVAL)?;
    let pointer: *const Change = &raw const change;
    // SAFETY: the descriptor is open, the path is empty and ends in NUL, and `pointer` is valid for the size that
    // is told; the kernel reads so much and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            AtFlags::EMPTY_PATH.bits(),
            pointer,
            size_of::<Change>(),
        )
    };
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(flags: MountFlags) -> Option<(u64, u64)> {
        Change::adding(flags).map(|change| (change.set, change.clear))
    }

    #[test]
    fn each_flag_is_its_attribute_and_times_take_the_place_of_times() {
        assert_eq!(added(MountFlags::empty()), Some((0, 0)));
        assert_eq!(added(MountFlags::RDONLY | MountFlags::NOSUID), Some((0x3, 0)));
        assert_eq!(added(MountFlags::NODEV | MountFlags::NOEXEC), Some((0xc, 0)));
        assert_eq!(added(MountFlags::NODIRATIME), Some((0x80, 0)));
        assert_eq!(added(MountFlags::NOATIME), Some((0x10, 0x70)));
        assert_eq!(added(MountFlags::RELATIME), Some((0, 0x70)));
        assert_eq!(added(MountFlags::NOATIME | MountFlags::RELATIME), Some((0x10, 0x70)));
    }

    #[test]
    fn flags_of_a_file_system_are_no_mounts_own() {
        assert_eq!(added(MountFlags::SYNCHRONOUS), None);
        assert_eq!(added(MountFlags::RDONLY | MountFlags::BIND), None);
    }

    mod live {
        use rustix::fs::{CWD, Mode, OFlags};
        use rustix::mount::{OpenTreeFlags, open_tree};

        use super::*;

        #[test]
        fn nothing_is_written_through_a_mount_that_is_attached_nowhere_yet() {
            if !rustix::process::geteuid().is_root() {
                eprintln!("skipped: a live test needs root");
                return;
            }
            let home = tempfile::tempdir().unwrap();
            let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(CWD, home.path(), clone).unwrap();
            let create = |name: &str| {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
                rustix::fs::openat(&tree, name, flags, Mode::RUSR).map(drop)
            };
            create("before").unwrap();
            add_mount_flags(&tree, MountFlags::RDONLY | MountFlags::NOATIME).unwrap();
            assert_eq!(create("after"), Err(Errno::ROFS));
            std::fs::write(home.path().join("beside"), "by another mount").unwrap();
            assert_eq!(add_mount_flags(&tree, MountFlags::DIRSYNC), Err(Errno::INVAL));
        }
    }
}
