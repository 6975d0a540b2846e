//! What a directory entry is.

use cove_types::FileTime;
use rustix::fs::{FileType, Stat};

/// What kind of thing a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A unix socket's name.
    Socket,
    /// A character or block device.
    Device,
}

impl FileKind {
    /// The kind as messages name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::File => "a regular file",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a named pipe",
            Self::Socket => "a socket",
            Self::Device => "a device",
        }
    }
}

/// What the kernel tells of one directory entry, never of what a link points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// The permission bits, with set-uid, set-gid and sticky: `07777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes; of a symbolic link the length of its target.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// When the content last changed; anyone who owns the file can set it.
    pub mtime: FileTime,
    /// When the inode last changed; only the kernel sets it.
    pub ctime: FileTime,
    /// The inode; 256 is the top of a btrfs subvolume.
    pub inode: u64,
    /// The device; each subvolume has its own.
    pub device: u64,
    /// How many names it has.
    pub links: u64,
}

impl From<&Stat> for Metadata {
    fn from(stat: &Stat) -> Self {
        let time = |seconds: i64, nanoseconds: u64| FileTime {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        };
        Self {
            kind: match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => FileKind::Directory,
                FileType::Symlink => FileKind::Symlink,
                FileType::Fifo => FileKind::Fifo,
                FileType::Socket => FileKind::Socket,
                FileType::RegularFile => FileKind::File,
                _ => FileKind::Device,
            },
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
            links: stat.st_nlink,
        }
    }
}
