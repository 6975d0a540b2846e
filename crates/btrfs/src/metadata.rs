//! What a directory entry is, and who writes it.

use cove_types::FileTime;
use rustix::fs::{FileType, Stat, Statx, StatxAttributes};

/// The inode of what stands, in a snapshot, for a subvolume that was nested there
/// (`BTRFS_EMPTY_SUBVOL_DIR_OBJECTID` in `linux/btrfs_tree.h`).
const NESTED_SUBVOLUME_INODE: u64 = 2;

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
    /// What `chattr` set.
    pub flags: Flags,
}

/// What `chattr` can set on a file or directory, as far as the kernel tells it with the rest
/// (`statx`), at no cost. A file system that has no such flags says that none is set.
///
/// The others (`A`, `C`, `D`, `S`, `c`, `m`) are told by an ioctl on an open file only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// `i`: nobody changes, renames, links or removes it.
    pub is_immutable: bool,
    /// `a`: it only grows; entries of a directory are added and never removed.
    pub is_append_only: bool,
    /// `d`: backups are asked to leave it out.
    pub is_no_dump: bool,
}

impl Metadata {
    /// Whether it stands, in a snapshot, for a subvolume that was nested at its place: an empty
    /// directory that can only be removed.
    #[must_use]
    pub fn stands_for_subvolume(&self) -> bool {
        self.kind == FileKind::Directory && self.inode == NESTED_SUBVOLUME_INODE
    }
}

impl From<FileType> for FileKind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::RegularFile => Self::File,
            _ => Self::Device,
        }
    }
}

/// Without flags, which `stat` does not tell.
impl From<&Stat> for Metadata {
    fn from(stat: &Stat) -> Self {
        let time = |seconds: i64, nanoseconds: u64| FileTime {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        };
        Self {
            kind: FileType::from_raw_mode(stat.st_mode).into(),
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
            flags: Flags::default(),
        }
    }
}

impl From<&Statx> for Metadata {
    fn from(stat: &Statx) -> Self {
        let time = |time: rustix::fs::StatxTimestamp| FileTime {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec,
        };
        let mode = u32::from(stat.stx_mode);
        Self {
            kind: FileType::from_raw_mode(mode).into(),
            mode: mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
            inode: stat.stx_ino,
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            links: u64::from(stat.stx_nlink),
            flags: Flags {
                is_immutable: stat.stx_attributes.contains(StatxAttributes::IMMUTABLE),
                is_append_only: stat.stx_attributes.contains(StatxAttributes::APPEND),
                is_no_dump: stat.stx_attributes.contains(StatxAttributes::NODUMP),
            },
        }
    }
}

/// Whether anybody has a regular file, open here for reading alone, open for writing or mapped so: by
/// whatever mount, process, thread, socket or device.
///
/// A read lease is taken and given back. May be repeated; costs two calls.
///
/// # Errors
///
/// The file is not regular, or the file system or `/proc/sys/fs/leases-enable` allows no lease: it is
/// not known.
pub fn has_writers(file: &std::fs::File) -> std::io::Result<bool> {
    crate::ioctl::has_writers(file).map_err(Into::into)
}
