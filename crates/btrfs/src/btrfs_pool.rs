//! A pool on a btrfs directory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cove_types::{Digest, TreePath, VolumeId};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::dir::TEMPORARY_PREFIX;
use crate::{
    Access, Changes, ChangesError, Dir, Pool, PoolError, Space, Subvolume, SubvolumePath, Usage,
    changes, ioctl,
};

/// `f_type` of btrfs.
const BTRFS_MAGIC: i64 = 0x9123_683E;
/// The inode of the top of a subvolume.
const SUBVOLUME_TOP: u64 = 256;
/// The subvolume that every btrfs has, `BTRFS_FS_TREE_OBJECTID`.
const FIRST_SUBVOLUME: u64 = 5;
/// The tree of quotas, `BTRFS_QUOTA_TREE_OBJECTID`, and two kinds of items in it.
const QUOTA_TREE: u64 = 8;
const QGROUP_INFO: u32 = 242;
const QGROUP_LIMIT: u32 = 244;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`
const LIMITS_REFERENCED: u64 = 1;
/// Two kinds of items that name an inode.
const INODE_REF: u32 = 12;
const INODE_EXTREF: u32 = 13;

/// A pool on a btrfs directory that is there. Needs root.
///
/// It holds the directories `volumes`, `stored`, `incoming` and `trash`. A volume's quota
/// group is the one of level 1 whose number follows from the volume's id.
#[derive(Debug)]
pub struct BtrfsPool {
    path: PathBuf,
    root: OwnedFd,
    /// Whether simple quotas are on, so that groups can be made and joined.
    has_quotas: bool,
}

/// Makes a kernel's refusal an error about a place.
fn failed(verb: &'static str, place: impl ToString) -> impl Fn(Errno) -> PoolError {
    let place = place.to_string();
    move |errno| PoolError::Io { verb, place: place.clone(), source: errno.into() }
}

/// The quota group of a volume: level 1 and 48 bits of the digest of its id.
fn group_of(volume: &VolumeId) -> u64 {
    let Digest(bytes) = Digest::of(volume.as_str().as_bytes());
    let number = bytes[..6].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    1 << 48 | number
}

impl BtrfsPool {
    /// Opens the pool in `dir`, an existing directory on btrfs, and makes what it lacks.
    ///
    /// When `dir` is the top of a file system, simple quotas are switched on there; below
    /// that the file system is somebody else's, and quotas stay as they are.
    ///
    /// # Errors
    ///
    /// [`PoolError::Missing`] when we are not root or `dir` is not on btrfs, or what the
    /// kernel says.
    pub fn open(dir: &Path) -> Result<Self, PoolError> {
        let shown = dir.display().to_string();
        if !rustix::process::geteuid().is_root() {
            let what = "a btrfs pool needs root".into();
            return Err(PoolError::Missing { what });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::openat(CWD, dir, flags, Mode::empty()).map_err(failed("open", &shown))?;
        let kind = rustix::fs::fstatfs(&root).map_err(failed("look up", &shown))?.f_type;
        if kind != BTRFS_MAGIC {
            let what = format!("{shown} is not on btrfs");
            return Err(PoolError::Missing { what });
        }
        let made = failed("create the directories of", &shown);
        for name in SubvolumePath::DIRECTORIES {
            match rustix::fs::mkdirat(&root, name, Mode::from_raw_mode(0o711)) {
                Ok(()) => {
                    rustix::fs::chmodat(&root, name, Mode::from_raw_mode(0o711), AtFlags::empty())
                        .map_err(&made)?;
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(made(errno)),
            }
        }
        rustix::fs::fsync(&root).map_err(&made)?;

        let mut pool = Self { path: dir.to_owned(), root, has_quotas: false };
        pool.has_quotas = pool.look_for_quotas()?;
        if !pool.has_quotas && pool.is_whole_file_system().map_err(failed("look up", &shown))? {
            match ioctl::enable_simple_quotas(&pool.root) {
                Ok(()) => pool.has_quotas = true,
                Err(errno) => {
                    tracing::warn!(%errno, pool = shown, "the pool keeps no quotas");
                }
            }
        }
        pool.sweep_temporary_names()?;
        Ok(pool)
    }

    /// Whether the quota tree is there.
    fn look_for_quotas(&self) -> Result<bool, PoolError> {
        match ioctl::search(&self.root, QUOTA_TREE, 0, QGROUP_INFO..=QGROUP_INFO, 0..=0) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("look up the quotas of", self.path.display())(errno)),
        }
    }

    /// Whether the pool's directory is the top of its file system.
    fn is_whole_file_system(&self) -> Result<bool, Errno> {
        Ok(rustix::fs::fstat(&self.root)?.st_ino == SUBVOLUME_TOP
            && ioctl::subvolume(&self.root)?.id == FIRST_SUBVOLUME)
    }

    /// Removes the names that a killed [`Dir::write_file`] left in the tops of volumes.
    fn sweep_temporary_names(&self) -> Result<(), PoolError> {
        for place in self.list()? {
            let SubvolumePath::Volume(_) = place else { continue };
            let dir = self.open(&place)?;
            let Ok(entries) = dir.list(&TreePath::top()) else { continue };
            for (name, _) in entries {
                if !name.starts_with(TEMPORARY_PREFIX.as_bytes()) {
                    continue;
                }
                if let Ok(path) = TreePath::from_bytes(&name)
                    && let Err(error) = dir.remove(&path, false)
                {
                    tracing::warn!(%error, %place, "a temporary name of a file stays behind");
                }
            }
        }
        Ok(())
    }

    /// Opens one of the pool's directories, which nobody but us can replace.
    fn directory(&self, name: &str, verb: &'static str) -> Result<OwnedFd, PoolError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, name, flags, Mode::empty()).map_err(failed(verb, name))
    }

    /// Opens a subvolume; `None` when nothing is there.
    fn find_descriptor(
        &self,
        place: &SubvolumePath,
        verb: &'static str,
    ) -> Result<Option<OwnedFd>, PoolError> {
        let parent = self.directory(place.directory(), verb)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&parent, place.name(), flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(PoolError::NotSubvolume { place: place.to_string() });
            }
            Err(errno) => return Err(failed(verb, place)(errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(failed(verb, place))?;
        if stat.st_ino != SUBVOLUME_TOP {
            return Err(PoolError::NotSubvolume { place: place.to_string() });
        }
        Ok(Some(fd))
    }

    /// Opens a subvolume that the caller says is there.
    fn descriptor(&self, place: &SubvolumePath, verb: &'static str) -> Result<OwnedFd, PoolError> {
        self.find_descriptor(place, verb)?
            .ok_or_else(|| PoolError::NotFound { place: place.to_string() })
    }

    /// The volume's quota group, made if it was not there; `None` without quotas.
    fn ensure_group(&self, volume: &VolumeId) -> Result<Option<u64>, PoolError> {
        if !self.has_quotas {
            return Ok(None);
        }
        let id = group_of(volume);
        match ioctl::create_group(&self.root, id) {
            Ok(()) | Err(Errno::EXIST) => Ok(Some(id)),
            Err(errno) => Err(failed("create the quota group of volume", volume)(errno)),
        }
    }

    /// Renames with `flags` and makes it durable.
    fn rename_with(
        &self,
        from: &SubvolumePath,
        to: &SubvolumePath,
        flags: RenameFlags,
        verb: &'static str,
    ) -> Result<(), PoolError> {
        let from_parent = self.directory(from.directory(), verb)?;
        let to_parent = self.directory(to.directory(), verb)?;
        rustix::fs::renameat_with(&from_parent, from.name(), &to_parent, to.name(), flags)
            .map_err(|errno| match errno {
                Errno::EXIST => PoolError::Exists { place: to.to_string() },
                errno => failed(verb, from)(errno),
            })?;
        rustix::fs::fsync(&to_parent).map_err(failed(verb, to))?;
        rustix::fs::fsync(&from_parent).map_err(failed(verb, from))
    }

    /// Refuses what the kernel would refuse with EROFS, in clear words.
    fn refuse_read_only_move(
        &self,
        from: &SubvolumePath,
        to: &SubvolumePath,
        verb: &'static str,
    ) -> Result<(), PoolError> {
        let fd = self.descriptor(from, verb)?;
        let subvolume = ioctl::subvolume(&fd).map_err(failed(verb, from))?;
        if subvolume.read_only && from.directory() != to.directory() {
            return Err(PoolError::ReadOnlyMove { place: from.to_string() });
        }
        Ok(())
    }

    /// Ids and paths of the subvolumes directly in the one of `top`.
    fn nested_in(top: &OwnedFd) -> Result<Vec<(u64, Vec<u8>)>, Errno> {
        let mut found = Vec::new();
        for (id, dir) in ioctl::nested_subvolumes(top)? {
            match ioctl::path_of_nested(top, id, dir) {
                Ok(path) => found.push((id, path)),
                // Deleted meanwhile.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(found)
    }

    /// Deletes the subvolumes in the one of `top`, innermost first. A user makes them as
    /// deep as he likes; each level costs us a descriptor and no stack to speak of.
    fn delete_nested(&self, top: &OwnedFd) -> Result<(), Errno> {
        for (id, path) in Self::nested_in(top)? {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = rustix::fs::openat2(
                top,
                path,
                flags,
                Mode::empty(),
                rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS,
            );
            match below {
                Ok(below) => self.delete_nested(&below)?,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            match ioctl::destroy_subvolume_by_id(&self.root, id) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Whether the live subvolume `uuid` is itself a snapshot of `ancestor`.
    fn descends_from(&self, uuid: [u8; 16], ancestor: [u8; 16]) -> Result<bool, PoolError> {
        for place in self.list()? {
            if let Some(subvolume) = self.find(&place)?
                && subvolume.uuid == uuid
            {
                return Ok(subvolume.parent_uuid == Some(ancestor));
            }
        }
        Ok(false)
    }

    /// A number that sysfs shows of a quota group; `None` when sysfs does not know it.
    fn shown_of_group(&self, id: u64, name: &str) -> Option<u64> {
        let fsid = ioctl::file_system_id(&self.root).ok()?;
        let hex: String = fsid.iter().map(|byte| format!("{byte:02x}")).collect();
        let fsid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let (level, number) = (id >> 48, id & ((1 << 48) - 1));
        let path = format!("/sys/fs/btrfs/{fsid}/qgroups/{level}_{number}/{name}");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    }
}

impl Pool for BtrfsPool {
    fn create(&self, place: &SubvolumePath, group: &VolumeId) -> Result<(), PoolError> {
        const VERB: &str = "create";
        let group = self.ensure_group(group)?;
        let parent = self.directory(place.directory(), VERB)?;
        ioctl::create_subvolume(&parent, place.name().as_bytes(), group).map_err(
            |errno| match errno {
                Errno::EXIST => PoolError::Exists { place: place.to_string() },
                errno => failed(VERB, place)(errno),
            },
        )
    }

    fn snapshot(
        &self,
        source: &SubvolumePath,
        target: &SubvolumePath,
        access: Access,
        group: &VolumeId,
    ) -> Result<(), PoolError> {
        const VERB: &str = "snapshot";
        let fd = self.descriptor(source, VERB)?;
        let group = self.ensure_group(group)?;
        let parent = self.directory(target.directory(), VERB)?;
        let read_only = access == Access::ReadOnly;
        ioctl::create_snapshot(&parent, target.name().as_bytes(), &fd, read_only, group).map_err(
            |errno| match errno {
                Errno::EXIST => PoolError::Exists { place: target.to_string() },
                Errno::TXTBSY => PoolError::SwapFile { place: source.to_string() },
                errno => failed(VERB, source)(errno),
            },
        )
    }

    fn delete(&self, place: &SubvolumePath) -> Result<bool, PoolError> {
        const VERB: &str = "delete";
        let Some(fd) = self.find_descriptor(place, VERB)? else { return Ok(false) };
        self.delete_nested(&fd).map_err(failed(VERB, place))?;
        drop(fd);
        let parent = self.directory(place.directory(), VERB)?;
        match ioctl::destroy_subvolume(&parent, place.name().as_bytes()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed(VERB, place)(errno)),
        }
    }

    fn exchange(&self, a: &SubvolumePath, b: &SubvolumePath) -> Result<(), PoolError> {
        const VERB: &str = "exchange";
        self.refuse_read_only_move(a, b, VERB)?;
        self.refuse_read_only_move(b, a, VERB)?;
        self.rename_with(a, b, RenameFlags::EXCHANGE, VERB)
    }

    fn rename(&self, from: &SubvolumePath, to: &SubvolumePath) -> Result<(), PoolError> {
        const VERB: &str = "rename";
        self.refuse_read_only_move(from, to, VERB)?;
        self.rename_with(from, to, RenameFlags::NOREPLACE, VERB)
    }

    fn find(&self, place: &SubvolumePath) -> Result<Option<Subvolume>, PoolError> {
        const VERB: &str = "look up";
        let Some(fd) = self.find_descriptor(place, VERB)? else { return Ok(None) };
        match ioctl::subvolume(&fd) {
            Ok(subvolume) => Ok(Some(subvolume)),
            // Deleted between the two calls.
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(VERB, place)(errno)),
        }
    }

    fn list(&self) -> Result<Vec<SubvolumePath>, PoolError> {
        const VERB: &str = "list";
        let mut places = Vec::new();
        for directory in SubvolumePath::DIRECTORIES {
            let fd = self.directory(directory, VERB)?;
            let entries = rustix::fs::Dir::read_from(&fd).map_err(failed(VERB, directory))?;
            for entry in entries {
                let entry = entry.map_err(failed(VERB, directory))?;
                let name = entry.file_name().to_string_lossy();
                places.extend(format!("{directory}/{name}").parse::<SubvolumePath>().ok());
            }
        }
        places.sort_unstable();
        Ok(places)
    }

    fn open(&self, place: &SubvolumePath) -> Result<Dir, PoolError> {
        const VERB: &str = "open";
        let fd = self.descriptor(place, VERB)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&fd, c".", flags, Mode::empty());
        root.and_then(Dir::from_descriptor).map_err(failed(VERB, place))
    }

    fn nested(&self, place: &SubvolumePath) -> Result<Vec<Vec<u8>>, PoolError> {
        const VERB: &str = "look for nested subvolumes in";
        let fd = self.descriptor(place, VERB)?;
        let found = Self::nested_in(&fd).map_err(failed(VERB, place))?;
        let mut paths: Vec<_> = found.into_iter().map(|(_, path)| path).collect();
        paths.sort_unstable();
        Ok(paths)
    }

    fn usage(&self, volume: &VolumeId) -> Result<Usage, PoolError> {
        if !self.has_quotas {
            return Ok(Usage::default());
        }
        let id = group_of(volume);
        let items = ioctl::search(&self.root, QUOTA_TREE, 0, QGROUP_INFO..=QGROUP_LIMIT, id..=id)
            .map_err(failed("read the quota of volume", volume))?;
        let mut usage = Usage::default();
        for item in items {
            // Both begin with generation or flags and then what is referenced (u64 each).
            let field = |at: usize| {
                let bytes = item.bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u64::from_le_bytes)
            };
            match item.kind {
                QGROUP_INFO => usage.charged_bytes = field(8),
                QGROUP_LIMIT if field(0) & LIMITS_REFERENCED != 0 => {
                    usage.limit_bytes = Some(field(8));
                }
                _ => {}
            }
        }
        // The tree is as of the last commit; sysfs, where it is mounted, is as of now.
        if let Some(charged) = self.shown_of_group(id, "referenced") {
            usage.charged_bytes = charged;
        }
        Ok(usage)
    }

    fn set_limit(&self, volume: &VolumeId, limit_bytes: Option<u64>) -> Result<(), PoolError> {
        let Some(id) = self.ensure_group(volume)? else {
            let what = format!("{} keeps no quotas", self.path.display());
            return Err(PoolError::Missing { what });
        };
        ioctl::limit_group(&self.root, id, limit_bytes)
            .map_err(failed("limit the quota of volume", volume))
    }

    fn flush(&self) -> Result<(), PoolError> {
        rustix::fs::syncfs(&self.root).map_err(failed("flush", self.path.display()))
    }

    fn space(&self) -> Result<Space, PoolError> {
        let stat = rustix::fs::fstatvfs(&self.root)
            .map_err(failed("look up the room of", self.path.display()))?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    fn absolute(&self, place: &SubvolumePath) -> PathBuf {
        self.path.join(place.directory()).join(place.name())
    }

    fn changes(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
    ) -> Result<Changes, ChangesError> {
        const VERB: &str = "look up";
        let not_found = |place: &SubvolumePath| PoolError::NotFound { place: place.to_string() };
        let older = self.find(parent)?.ok_or_else(|| not_found(parent))?;
        let newer = self.find(child)?.ok_or_else(|| not_found(child))?;
        changes::refuse_unrelated((parent, &older), (child, &newer), &|live, ancestor| {
            self.descends_from(live, ancestor)
        })?;
        let descriptor = self.descriptor(child, VERB)?;
        changes::read(
            &changes::Sides {
                parent,
                child,
                parent_dir: &self.open(parent)?,
                child_dir: &self.open(child)?,
            },
            &|pipe| ioctl::send_changes(&descriptor, older.id, pipe).map_err(io::Error::from),
            &|inode| self.names_of_inode(child, inode),
        )
    }

    fn names_of_inode(&self, place: &SubvolumePath, inode: u64) -> Result<Vec<Vec<u8>>, PoolError> {
        const VERB: &str = "look up names in";
        let fd = self.descriptor(place, VERB)?;
        let items = ioctl::search(&fd, 0, inode, INODE_REF..=INODE_EXTREF, 0..=u64::MAX)
            .map_err(failed(VERB, place))?;
        let mut names = Vec::new();
        for item in items {
            for (parent, name) in refs(&item) {
                let mut path = match ioctl::path_of_directory(fd.as_fd(), parent) {
                    Ok(path) => path,
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(failed(VERB, place)(errno)),
                };
                path.extend_from_slice(name);
                names.push(path);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// The directories and names in an item that names an inode.
///
/// ```text
/// INODE_REF     key offset: directory;  index u64, length u16, name; again until the end
/// INODE_EXTREF  directory u64, index u64, length u16, name; again until the end
/// ```
fn refs(item: &ioctl::Item) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    let mut rest = item.bytes.as_slice();
    loop {
        let directory = if item.kind == INODE_EXTREF {
            let Some((directory, after)) = rest.split_first_chunk::<8>() else { break };
            rest = after;
            u64::from_le_bytes(*directory)
        } else {
            item.offset
        };
        let Some((_, after)) = rest.split_first_chunk::<8>() else { break };
        let Some((length, after)) = after.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((name, after)) = after.split_at_checked(length) else { break };
        found.push((directory, name));
        rest = after;
    }
    found
}
