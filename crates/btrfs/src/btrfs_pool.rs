//! A pool on a btrfs directory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use cove_types::{Digest, TreePath, VolumeId};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, StatVfsMountFlags, StatxFlags};
use rustix::io::Errno;

use crate::changes::SendError;
use crate::dir::{CACHED, TEMPORARY_PREFIX};
use crate::ioctl::Item;
use crate::locks::unlock;
use crate::metadata_room::MetadataRoom;
use crate::search::{self, INODE_EXTREF, INODE_REF, SearchError, refs};
use crate::{
    Access, BTRFS_MAGIC, Changes, ChangesError, Dir, MountTable, Pool, PoolError, Space, Subvolume,
    SubvolumePath, Usage, changes, ioctl,
};

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
/// The tree of roots, `BTRFS_ROOT_TREE_OBJECTID`, and the items in it that name the subvolumes
/// nested in another.
const ROOT_TREE: u64 = 1;
const ROOT_REF: u32 = 156;
/// The item that a subvolume has there until the last block of it is free, `BTRFS_ROOT_ITEM_KEY`.
const ROOT_ITEM: u32 = 132;
/// How long a deleted subvolume is waited for, and how often it is looked for. The cleaner frees
/// some GiB a second, one subvolume after the other.
const FREE_WITHIN: Duration = Duration::from_secs(10);
const FREE_PAUSE: Duration = Duration::from_millis(5);
/// How many names a path has at most, so that one in a circle ends.
const PATH_NAMES_MAX: usize = 1 << 20;
/// The longest path that is opened at once, in bytes (`PATH_MAX` counts a NUL).
const OPEN_BYTES_MAX: usize = 4000;

/// A pool on a btrfs directory that is there. Needs root.
///
/// It holds the directories `volumes`, `stored`, `incoming` and `trash`. A volume's quota
/// group is the one of level 1 whose number follows from the volume's id.
#[derive(Debug)]
pub struct BtrfsPool {
    path: PathBuf,
    root: OwnedFd,
    /// The file system's directory in sysfs, once it has been found.
    sysfs: OnceLock<OwnedFd>,
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

        let sysfs = OnceLock::new();
        let mut pool = Self { path: dir.to_owned(), root, sysfs, has_quotas: false };
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
        let key = (0, QGROUP_INFO, 0);
        match ioctl::find_item(&self.root, QUOTA_TREE, key, &[QGROUP_INFO]) {
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
        let rename =
            || rustix::fs::renameat_with(&from_parent, from.name(), &to_parent, to.name(), flags);
        rename()
            .or_else(|errno| {
                let is_other = errno == Errno::PERM
                    && [from, to].into_iter().fold(false, |any, place| {
                        let top = self.find_descriptor(place, verb);
                        any | top.is_ok_and(|top| top.is_some_and(|top| unlock_top(&top)))
                    });
                if is_other { rename() } else { Err(errno) }
            })
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

    /// The subvolumes directly in the one of `top`.
    fn nested_in(&self, top: &OwnedFd) -> Result<Vec<Nested>, Errno> {
        let id = ioctl::subvolume(top)?.id;
        let items = ioctl::items_of(&self.root, ROOT_TREE, id, &[ROOT_REF])?;
        Ok(items.iter().filter_map(|item| Nested::of(&item.bytes)).collect())
    }

    /// Deletes the subvolumes in the one of `top`, innermost first. A user makes them as
    /// deep as he likes; each level costs us two descriptors and no stack to speak of.
    fn delete_nested(&self, top: &OwnedFd) -> Result<(), Errno> {
        let nested = self.nested_in(top)?;
        if !nested.is_empty() && ioctl::subvolume(top)?.read_only {
            ioctl::make_writable(top)?;
        }
        for Nested { directory, name } in nested {
            let opened = path_of_directory(top, directory).and_then(|path| open_far(top, &path));
            let parent = match opened {
                Ok(parent) => parent,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            match open_directory(&parent, &name) {
                Ok(below) => self.delete_nested(&below)?,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            }
            destroy(&parent, &name)?;
        }
        Ok(())
    }

    /// Waits until the kernel's cleaner has taken a deleted subvolume apart and a commit has
    /// accounted for it, or until [`FREE_WITHIN`] is over.
    fn wait_until_free(&self, id: u64) -> Result<(), Errno> {
        ioctl::commit(&self.root)?;
        let mut waited = Duration::ZERO;
        while !ioctl::items_of(&self.root, ROOT_TREE, id, &[ROOT_ITEM])?.is_empty() {
            if waited >= FREE_WITHIN {
                return Ok(());
            }
            #[expect(clippy::disallowed_methods, reason = "the kernel tells its end to nobody")]
            std::thread::sleep(FREE_PAUSE);
            waited += FREE_PAUSE;
        }
        ioctl::commit(&self.root)
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

    /// Two subvolumes that do not change any more.
    fn read_only_pair(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
    ) -> Result<(Subvolume, Subvolume), ChangesError> {
        let find = |place: &SubvolumePath| match self.find(place)? {
            None => Err(PoolError::NotFound { place: place.to_string() }.into()),
            Some(found) if found.read_only => Ok(found),
            Some(_) => Err(ChangesError::Writable { place: place.to_string() }),
        };
        Ok((find(parent)?, find(child)?))
    }

    /// What differs between two read-only snapshots, whatever they have to do with each other,
    /// by what their trees say. As [`changes`](Pool::changes) tells it where the kernel does
    /// not; here for comparing the two.
    ///
    /// Costs a read of all metadata of both, about 10 µs an inode.
    ///
    /// # Errors
    ///
    /// [`ChangesError`].
    pub fn changes_by_search(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
    ) -> Result<Changes, ChangesError> {
        const VERB: &str = "compare";
        self.read_only_pair(parent, child)?;
        let (old, new) = (self.descriptor(parent, VERB)?, self.descriptor(child, VERB)?);
        search::compare(search::items(&old), search::items(&new)).map_err(|error| match error {
            SearchError::Read(errno) => failed(VERB, child)(errno).into(),
            SearchError::Form(why) => ChangesError::Items { child: child.to_string(), why },
        })
    }

    /// What changed since an ancestor, as the kernel tells it.
    pub(crate) fn changes_by_send(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
        parent_id: u64,
    ) -> Result<Changes, SendError> {
        let descriptor = self.descriptor(child, "look up")?;
        changes::read(
            &changes::Sides {
                parent,
                child,
                parent_dir: &self.open(parent)?,
                child_dir: &self.open(child)?,
            },
            &|pipe| ioctl::send_changes(&descriptor, parent_id, pipe).map_err(io::Error::from),
            &|inode| self.names_of_inode(child, inode),
        )
    }

    /// A number that sysfs has of this file system; `None` when it has none, or is not mounted.
    fn sysfs_number(&self, name: &str) -> Option<u64> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.sysfs()?, name, flags, Mode::empty()).ok()?;
        // the longest number and its end of line
        let mut text = [0; 24];
        let length = rustix::io::read(&fd, &mut text).ok()?;
        str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
    }

    /// The directory, which is looked for again as long as it was not found.
    fn sysfs(&self) -> Option<&OwnedFd> {
        if let Some(found) = self.sysfs.get() {
            return Some(found);
        }
        let fsid = ioctl::file_system_id(&self.root).ok()?;
        let hex: String = fsid.iter().map(|byte| format!("{byte:02x}")).collect();
        let fsid = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(format!("/sys/fs/btrfs/{fsid}"), flags, Mode::empty()).ok()?;
        Some(self.sysfs.get_or_init(|| fd))
    }

    /// What sysfs says of a volume's group; `None` when it does not know it, or is just being told another limit. Costs two or
    /// three reads of what the kernel has in memory, whatever the number of groups.
    pub(crate) fn usage_by_sysfs(&self, volume: &VolumeId) -> Option<Usage> {
        let id = group_of(volume);
        let (level, number) = (id >> 48, id & ((1 << 48) - 1));
        let read = |name: &str| self.sysfs_number(&format!("qgroups/{level}_{number}/{name}"));
        let is_limited = read("limit_flags")? & LIMITS_REFERENCED != 0;
        // A limit that is taken away between the two reads leaves 0; whether it is 0, the tree tells at once.
        let limit = || read("max_referenced").filter(|most| *most != 0);
        let limit_bytes = if is_limited { Some(limit()?) } else { None };
        Some(Usage { charged_bytes: read("referenced")?, limit_bytes })
    }

    /// What the quota tree says of a volume's group, its charge as of the last commit. Costs two searches, each of which
    /// looks at its leaf to the end.
    ///
    /// # Errors
    ///
    /// The tree could not be read.
    pub(crate) fn usage_by_tree(&self, volume: &VolumeId) -> Result<Usage, PoolError> {
        let id = group_of(volume);
        let find = |kind| {
            ioctl::find_item(&self.root, QUOTA_TREE, (0, kind, id), &[QGROUP_INFO, QGROUP_LIMIT])
                .map_err(failed("read the quota of volume", volume))
        };
        // Both begin with generation or flags and then what is referenced (u64 each).
        let field = |item: &Item, at: usize| {
            let bytes = item.bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let limit = find(QGROUP_LIMIT)?.filter(|item| field(item, 0) & LIMITS_REFERENCED != 0);
        Ok(Usage {
            charged_bytes: find(QGROUP_INFO)?.map_or(0, |item| field(&item, 8)),
            limit_bytes: limit.map(|item| field(&item, 8)),
        })
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
        destroy(&parent, place.name().as_bytes()).map_err(failed(VERB, place))
    }

    fn delete_and_wait(&self, place: &SubvolumePath) -> Result<bool, PoolError> {
        let Some(subvolume) = self.find(place)? else { return Ok(false) };
        let is_deleted = self.delete(place)?;
        self.wait_until_free(subvolume.id).map_err(failed("free what was in", place))?;
        Ok(is_deleted)
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

    fn open_cached(&self, place: &SubvolumePath) -> Option<Dir> {
        let path = format!("{}/{}", place.directory(), place.name());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), CACHED).ok()?;
        Dir::from_descriptor(fd).ok().filter(Dir::is_subvolume)
    }

    fn nested(&self, place: &SubvolumePath) -> Result<Vec<Vec<u8>>, PoolError> {
        const VERB: &str = "look for nested subvolumes in";
        let fd = self.descriptor(place, VERB)?;
        let mut paths = Vec::new();
        for Nested { directory, name } in self.nested_in(&fd).map_err(failed(VERB, place))? {
            match path_of_directory(&fd, directory) {
                Ok(path) => paths.push([path, name].concat()),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(VERB, place)(errno)),
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    fn usage(&self, volume: &VolumeId) -> Result<Usage, PoolError> {
        if !self.has_quotas {
            return Ok(Usage::default());
        }
        match self.usage_by_sysfs(volume) {
            Some(usage) => Ok(usage),
            None => self.usage_by_tree(volume),
        }
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

    fn reclaim(&self) -> Result<(), PoolError> {
        ioctl::commit(&self.root).map_err(failed("free what is deleted in", self.path.display()))
    }

    fn space(&self) -> Result<Space, PoolError> {
        let stat = rustix::fs::fstatvfs(&self.root)
            .map_err(failed("look up the room of", self.path.display()))?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            promised: self.sysfs_number("allocation/data/bytes_may_use").unwrap_or(0),
            is_read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
            // where that cannot be asked it is not known to be
            is_metadata_full: MetadataRoom::of(&self.root).is_ok_and(|room| room.is_full()),
        })
    }

    fn growable_bytes(&self) -> Result<u64, PoolError> {
        Ok(0)
    }

    fn absolute(&self, place: &SubvolumePath) -> PathBuf {
        self.path.join(place.directory()).join(place.name())
    }

    fn mounts(&self, place: &SubvolumePath) -> Result<Vec<PathBuf>, PoolError> {
        let look = |error: io::Error| PoolError::Io {
            verb: "look for mounts of",
            place: place.to_string(),
            source: error,
        };
        let table = MountTable::read().map_err(look)?;
        let at = rustix::fs::statx(&self.root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .map_err(|errno| look(errno.into()))?;
        let path = std::fs::canonicalize(&self.path).map_err(look)?;
        let own = table.find(at.stx_mnt_id);
        let inside = own.and_then(|own| Some((own, path.strip_prefix(&own.point).ok()?)));
        let (own, inside) = inside.ok_or_else(|| look(io::ErrorKind::NotFound.into()))?;
        // from the top of the file system, of which the pool itself may show a part
        let subvolume = own.root.join(inside).join(place.directory()).join(place.name());
        Ok(table.showing(own, &subvolume).map(|mount| mount.point.clone()).collect())
    }

    fn count_changed(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
        most: u64,
    ) -> Result<u64, PoolError> {
        const VERB: &str = "look for changes in";
        let since = ioctl::subvolume(self.descriptor(parent, VERB)?)
            .map_err(failed(VERB, parent))?
            .generation;
        let changed = search::changed_since(self.descriptor(child, VERB)?, since);
        let limit = usize::try_from(most).unwrap_or(usize::MAX);
        changed
            .take(limit)
            .try_fold(0, |count, inode| inode.map_err(failed(VERB, child)).map(|()| count + 1))
    }

    fn changes(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
    ) -> Result<Changes, ChangesError> {
        let (older, newer) = self.read_only_pair(parent, child)?;
        let is_ancestor = changes::is_ancestor(&older, &newer, &|live, ancestor| {
            self.descends_from(live, ancestor)
        })?;
        if is_ancestor {
            match self.changes_by_send(parent, child, older.id) {
                Ok(changes) => return Ok(changes),
                // a comparison would hold as much
                Err(SendError::TooMany) => {
                    let most = changes::NAMES_MAX;
                    return Err(ChangesError::TooMany { child: child.to_string(), most });
                }
                Err(error) => {
                    tracing::debug!(?error, %parent, %child, "two snapshots are compared");
                }
            }
        }
        self.changes_by_search(parent, child)
    }

    fn names_of_inode(&self, place: &SubvolumePath, inode: u64) -> Result<Vec<Vec<u8>>, PoolError> {
        const VERB: &str = "look up names in";
        let fd = self.descriptor(place, VERB)?;
        let items = ioctl::items_of(&fd, 0, inode, &[INODE_REF, INODE_EXTREF])
            .map_err(failed(VERB, place))?;
        let mut names = Vec::new();
        // A file may have 65,535 names, mostly in few directories.
        let mut directories = HashMap::new();
        for item in items {
            for (parent, name) in refs(&item) {
                let above = match directories.entry(parent) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place_of) => match path_of_directory(&fd, parent) {
                        Ok(path) => place_of.insert(path),
                        Err(Errno::NOENT) => continue,
                        Err(errno) => return Err(failed(VERB, place)(errno)),
                    },
                };
                names.push([above, name].concat());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// A subvolume in another.
struct Nested {
    /// The inode of the directory in which it is.
    directory: u64,
    name: Vec<u8>,
}

impl Nested {
    /// What a `ROOT_REF` says: directory u64, sequence u64, length u16, name.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (directory, rest) = bytes.split_first_chunk::<8>()?;
        let name = rest.get(10..)?.to_vec();
        Some(Self { directory: u64::from_le_bytes(*directory), name })
    }
}

/// The path of a directory in the subvolume of `top`, however long, with a slash behind it
/// unless it is the top.
fn path_of_directory(top: &OwnedFd, inode: u64) -> Result<Vec<u8>, Errno> {
    match ioctl::path_of_directory(top, inode) {
        // The kernel's answer ends at 4,080 bytes.
        Err(Errno::NAMETOOLONG) => {}
        result => return result,
    }
    let mut names = Vec::new();
    let mut at = inode;
    while at != SUBVOLUME_TOP {
        let items = ioctl::items_of(top, 0, at, &[INODE_REF, INODE_EXTREF])?;
        let (parent, name) = items.iter().find_map(|item| refs(item).pop()).ok_or(Errno::NOENT)?;
        if names.len() >= PATH_NAMES_MAX {
            return Err(Errno::LOOP);
        }
        names.push([name, b"/"].concat());
        at = parent;
    }
    names.reverse();
    Ok(names.concat())
}

/// Opens one directory, whatever subvolume it may be the top of.
fn open_directory(parent: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(parent, path, flags, Mode::empty(), resolve)
}

/// Opens the directory at a path of any length, in pieces that the kernel takes.
fn open_far(top: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut at = open_directory(top, b".")?;
    let mut rest = path;
    while !rest.is_empty() {
        let piece = match rest.get(..OPEN_BYTES_MAX) {
            None => rest,
            Some(most) => {
                let end = most.iter().rposition(|b| *b == b'/').ok_or(Errno::NAMETOOLONG)?;
                &rest[..=end]
            }
        };
        at = open_directory(&at, piece)?;
        rest = &rest[piece.len()..];
    }
    Ok(at)
}

/// Clears what forbids to change the top of a subvolume; whether anything did.
fn unlock_top(top: &OwnedFd) -> bool {
    rustix::fs::fstat(top).is_ok_and(|stat| unlock(stat.st_dev, top))
}

/// Deletes the subvolume `name` in `parent`, whatever flags it or that directory has. `false`:
/// it was gone.
fn destroy(parent: &OwnedFd, name: &[u8]) -> Result<bool, Errno> {
    let mut result = ioctl::destroy_subvolume(parent, name);
    if result == Err(Errno::PERM) {
        if let Ok(top) = open_directory(parent, name) {
            // On a read-only subvolume no flag can be cleared; this one goes anyway.
            ioctl::make_writable(&top).ok();
            unlock_top(&top);
        }
        unlock_top(parent);
        result = ioctl::destroy_subvolume(parent, name);
    }
    match result {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
