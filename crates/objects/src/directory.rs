//! Objects in a directory.
//!
//! ```text
//! <directory>/objects/<key>     the objects, each a file
//!            /temporary/<name>  files on their way there; never listed
//!            /lock              locked for each update and delete
//!            /users             locked (shared) while a process has the store open
//!            /clock             written to ask the file system for its time
//! ```
//!
//! **Invariant:** an object's file has all of its bytes on disk before it has its
//! name. A file whose fsync failed never gets a name: the kernel forgets the failure
//! and the bytes, and a second fsync would succeed without them. For the same reason a name
//! whose directory's fsync failed counts for nothing until a fresh file has taken it and
//! that was on disk.
//!
//! **Invariant:** nothing is said of objects while the directory that was opened is not the one
//! at its path, as when its disk was unmounted or another was mounted over it.
//!
//! **Invariant:** nobody but the owner reaches what was made here, though a workspace's user
//! may stand before the directory: directories are 0700 and files 0600.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cove_env::Env;
use rustix::fs::{FlockOperation, RenameFlags};

use crate::counts::Counters;
use crate::memory::version_of;
use crate::{
    Key, Listed, Location, Object, OpenError, Put, ReadError, Requests, Store, Version, WriteError,
};

/// Objects in a directory, for one machine or a shared file system with locks.
///
/// The lock keeps updates of several processes apart. Its version of an object is the
/// BLAKE3 of the bytes, so an update reads what it replaces.
#[derive(Debug)]
pub struct DirectoryStore {
    disk: Arc<Disk>,
    counters: Counters,
}

#[derive(Debug)]
struct Disk {
    objects: PathBuf,
    /// `objects` as it was opened; held, so that no other directory gets its number.
    opened: File,
    temporary: PathBuf,
    lock: PathBuf,
    clock: File,
    /// Locked while the store is open.
    _users: File,
    is_remote: bool,
    env: Env,
    /// Makes names differ even if chance repeats itself.
    names: AtomicU64,
    /// Directories whose own entry is known to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
    /// Files that have their name, though not for certain on disk: an fsync failed.
    doubtful: Mutex<HashSet<PathBuf>>,
    /// Which fsync from now on fails, for tests; 0 is none.
    fail_fsync: AtomicU64,
}

/// What is reached by its owner alone.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The longest object that is compared with the version that an update is for. Nobody who
/// read it within a bound has the version of a longer one.
const PRESENT_BYTES_MAX: u64 = 64 << 20;

/// The names that lie directly in a store's directory.
const OWN_NAMES: [&str; 5] = ["objects", "temporary", "lock", "users", "clock"];

/// Makes a directory that its owner alone reaches; one that is there stays as it is.
fn make_private(directory: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        made => made,
    }
}

/// Closes the store's directory to others when it is ours and holds nothing else: an operator may
/// keep more in a directory that was given.
fn make_own_private(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !OWN_NAMES.iter().any(|own| name == **own) {
            return Ok(());
        }
    }
    let metadata = std::fs::metadata(directory)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(DIRECTORY_MODE))
}

/// Why a step of a write failed, by what is known afterwards.
enum Failure {
    /// Nothing was changed.
    Before(io::Error),
    /// It may have been.
    Maybe(io::Error),
}

impl DirectoryStore {
    /// Opens the store in `directory`, which is made when it does not exist.
    ///
    /// What interrupted writes left behind is removed, if no other process has the
    /// store open.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, locked or written.
    pub fn open(directory: &Path, env: Env) -> Result<Self, OpenError> {
        Self::open_or_make(directory, env)
    }

    /// Opens the store in `directory`, where one was before: none is made.
    ///
    /// # Errors
    ///
    /// [`OpenError::Gone`] when there is none; otherwise as [`open`](Self::open).
    pub fn open_known(directory: &Path, env: Env) -> Result<Self, OpenError> {
        match std::fs::symlink_metadata(directory.join("objects")) {
            Err(error) if is_absence(&error) => Err(OpenError::Gone {
                directory: cove_types::escape_bytes(directory.as_os_str().as_encoded_bytes()),
            }),
            _ => Self::open_or_make(directory, env),
        }
    }

    fn open_or_make(directory: &Path, env: Env) -> Result<Self, OpenError> {
        let disk = Disk::open(directory, env).map_err(|source| OpenError::Directory {
            directory: cove_types::escape_bytes(directory.as_os_str().as_encoded_bytes()),
            source,
        })?;
        Ok(Self { disk: Arc::new(disk), counters: Counters::default() })
    }

    /// Lets the fsync after the next `n` fail; 0 is the next one.
    #[cfg(test)]
    fn fail_fsync_after(&self, n: u64) {
        self.disk.fail_fsync.store(n + 1, Ordering::SeqCst);
    }

    /// Runs `work` where it may block. It goes on when the caller stops waiting.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> T + Send + 'static,
    ) -> io::Result<T> {
        let disk = self.disk.clone();
        tokio::task::spawn_blocking(move || work(&disk)).await.map_err(io::Error::other)
    }

    async fn read<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Disk) -> io::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let work = move |disk: &Disk| (work(disk), disk.check_is_here());
        let (result, is_here) = match self.blocking(work).await {
            Ok(done) => done,
            Err(error) => (Err(error), Ok(())),
        };
        let key = key.to_owned();
        if let Err(error) = is_here {
            return Err(ReadError::Unknown { key, source: error.into() });
        }
        result.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ReadError::NotFound { key },
            io::ErrorKind::PermissionDenied => ReadError::Denied { key, source: error.into() },
            _ => match error.downcast::<ReadError>() {
                Ok(error) => error,
                Err(error) => ReadError::Unknown { key, source: error.into() },
            },
        })
    }

    async fn write<T: Send + 'static>(
        &self,
        key: &Key,
        work: impl FnOnce(&Disk) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, WriteError> {
        let work = move |disk: &Disk| {
            let away = |error: io::Error| Failure::Maybe(error);
            disk.check_is_here().map_err(away)?;
            let done = work(disk)?;
            // what was done elsewhere meanwhile is not done
            disk.check_is_here().map_err(away)?;
            Ok(done)
        };
        let result = self.blocking(work).await;
        let key = key.to_string();
        match result {
            Ok(Ok(done)) => Ok(done),
            Err(error) | Ok(Err(Failure::Maybe(error))) => {
                Err(WriteError::Unknown { key, source: error.into() })
            }
            Ok(Err(Failure::Before(error))) => Err(match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    WriteError::Exhausted { key, source: error.into() }
                }
                io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::IsADirectory => WriteError::Denied { key, source: error.into() },
                _ => WriteError::Unknown { key, source: error.into() },
            }),
        }
    }
}

impl Disk {
    fn open(directory: &Path, env: Env) -> io::Result<Self> {
        let (objects, temporary) = (directory.join("objects"), directory.join("temporary"));
        if let Some(above) = directory.parent() {
            std::fs::create_dir_all(above)?;
        }
        make_private(directory)?;
        for made in [&objects, &temporary] {
            make_private(made)?;
            // An earlier Cove made them for everybody to read.
            std::fs::set_permissions(made, std::fs::Permissions::from_mode(DIRECTORY_MODE))?;
        }
        make_own_private(directory)?;
        // Every directory up to the root may be new.
        for above in objects.ancestors().filter(|above| !above.as_os_str().is_empty()) {
            // What is not ours to sync was not made by us.
            match File::open(above).and_then(|above| above.sync_all()).map_err(|e| (e.kind(), e)) {
                Ok(()) | Err((io::ErrorKind::PermissionDenied, _)) => {}
                Err((io::ErrorKind::InvalidInput | io::ErrorKind::ReadOnlyFilesystem, _)) => {}
                Err((_, error)) => return Err(error),
            }
        }
        let open = |name: &str| {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(FILE_MODE)
                .open(directory.join(name))?;
            file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE))?;
            Ok::<_, io::Error>(file)
        };
        open("lock")?;
        let users = open("users")?;
        if rustix::fs::flock(&users, FlockOperation::NonBlockingLockExclusive).is_ok() {
            for left in std::fs::read_dir(&temporary)? {
                std::fs::remove_file(left?.path())?;
            }
        }
        rustix::fs::flock(&users, FlockOperation::LockShared)?;
        Ok(Self {
            clock: open("clock")?,
            lock: directory.join("lock"),
            is_remote: is_remote(&objects)?,
            durable: Mutex::new(HashSet::from([objects.clone()])),
            doubtful: Mutex::default(),
            opened: File::open(&objects)?,
            objects,
            temporary,
            _users: users,
            env,
            names: AtomicU64::new(0),
            fail_fsync: AtomicU64::new(0),
        })
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.objects.join(key.as_str())
    }

    /// The object's file, open. A directory is no object.
    fn open_object(&self, key: &Key) -> io::Result<File> {
        let file = File::open(self.path(key))?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// All of an object; one that is longer than `bytes_max` is not read.
    fn read_object(&self, key: &Key, bytes_max: u64) -> io::Result<(Vec<u8>, std::fs::Metadata)> {
        let file = self.open_object(key)?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        let mut bytes = Vec::new();
        if size <= bytes_max {
            bytes.reserve_exact(usize::try_from(size).map_err(io::Error::other)?);
            file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
        }
        let size = size.max(bytes.len() as u64);
        if size > bytes_max {
            let key = key.to_string();
            return Err(io::Error::other(ReadError::TooLong { key, size, bytes_max }));
        }
        Ok((bytes, metadata))
    }

    /// Refuses to go on where the path of `objects` leads to another directory than it did, or
    /// to none. One look at an inode.
    fn check_is_here(&self) -> io::Result<()> {
        let away =
            || io::Error::other("the directory of the store is not there: is its disk mounted?");
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let opened = identity(self.opened.metadata()?);
        match std::fs::metadata(&self.objects) {
            Ok(there) if identity(there.clone()) == opened => Ok(()),
            Ok(_) => Err(away()),
            Err(error) if is_absence(&error) => Err(away()),
            Err(error) => Err(error),
        }
    }

    /// Has the object at `path` on disk when an earlier fsync of its name failed: the kernel
    /// has forgotten that failure, so a fresh file with the same bytes takes the name.
    fn settle(&self, path: &Path) -> io::Result<()> {
        if !self.doubtful().contains(path) {
            return Ok(());
        }
        let settle = || {
            let _lock = self.lock()?;
            match std::fs::read(path) {
                Ok(bytes) => {
                    let temporary = self.write_temporary(&bytes)?;
                    std::fs::rename(&temporary, path)?;
                    self.sync_name(path)?;
                }
                Err(error) if is_absence(&error) => {}
                Err(error) => return Err(error),
            }
            self.doubtful().remove(path);
            Ok(())
        };
        // whatever it was, it says nothing about the object
        settle().map_err(|error: io::Error| io::Error::other(error))
    }

    /// Has the name `path` on disk. When that fails the name is doubtful, and
    /// [`settle`](Self::settle) sees to it before anything else is said of the object.
    fn sync_name(&self, path: &Path) -> io::Result<()> {
        let synced = self.sync_directory(path.parent().unwrap_or(&self.objects));
        if synced.as_ref().is_err_and(|error| !is_absence(error)) {
            self.doubtful().insert(path.to_owned());
        }
        synced
    }

    fn doubtful(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.doubtful.lock().expect("no holder of this lock panics")
    }

    /// The time by the clock that stamps the files here, since 1970; our own clock may
    /// be another's, as on a network file system. `None` when it cannot be asked.
    fn now(&self) -> Option<Duration> {
        self.clock.write_all_at(b"c", 0).ok()?;
        modified(&self.clock.metadata().ok()?)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let counted =
            self.fail_fsync.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if counted == Ok(1) {
            return Err(io::Error::other("fsync failed"));
        }
        file.sync_all()
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.sync(&File::open(directory)?)
    }

    /// Waits for the lock, which ends with the value.
    fn lock(&self) -> io::Result<File> {
        // Opened each time: a lock belongs to the open file, so that threads exclude
        // each other as processes do.
        let lock = File::options().write(true).open(&self.lock)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))?;
        Ok(lock)
    }

    /// Writes a file with `bytes` that is on disk and has no name below `objects` yet.
    fn write_temporary(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let chance = u128::from_le_bytes(self.env.random());
        let name = format!("{chance:032x}.{}", self.names.fetch_add(1, Ordering::Relaxed));
        let path = self.temporary.join(name);
        refuse_oversize(&self.temporary, bytes.len() as u64)?;
        let mut file = File::options().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        let written = file.write_all(bytes).and_then(|()| self.sync(&file));
        match written {
            Ok(()) => Ok(path),
            Err(error) => {
                // Its name is not used again; what stays is swept at the next open.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Makes the directories above `path` and has each of them on disk.
    fn make_durable_parents(&self, path: &Path) -> io::Result<()> {
        let above = path.parent().unwrap_or(&self.objects);
        if self.durable.lock().expect("no holder of this lock panics").contains(above) {
            return Ok(());
        }
        self.make_durable_parents(above)?;
        match std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(above) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            // Who made it may not have come to the fsync.
            _ if std::fs::symlink_metadata(above)?.is_dir() => {}
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
        if let Err(error) = self.sync_directory(above.parent().unwrap_or(&self.objects)) {
            // made afresh by the next attempt: a second fsync of this one would prove nothing
            let _ = std::fs::remove_dir(above);
            return Err(error);
        }
        self.durable.lock().expect("no holder of this lock panics").insert(above.to_owned());
        Ok(())
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Put, Failure> {
        let path = self.path(key);
        self.make_durable_parents(&path).map_err(Failure::Before)?;
        if std::fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
            return Err(Failure::Before(io::ErrorKind::IsADirectory.into()));
        }
        self.settle(&path).map_err(Failure::Maybe)?;
        let temporary = self.write_temporary(bytes).map_err(Failure::Before)?;
        let named = rustix::fs::renameat_with(
            rustix::fs::CWD,
            &temporary,
            rustix::fs::CWD,
            &path,
            RenameFlags::NOREPLACE,
        );
        match named {
            Ok(()) => {
                self.sync_name(&path).map_err(Failure::Maybe)?;
                Ok(Put::Done(version_of(bytes)))
            }
            Err(rustix::io::Errno::EXIST) => {
                let _ = std::fs::remove_file(&temporary);
                self.refuse(&path)
            }
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                Err(Failure::Maybe(error.into()))
            }
        }
    }

    fn update(&self, key: &Key, bytes: &[u8], version: &Version) -> Result<Put, Failure> {
        let path = self.path(key);
        self.settle(&path).map_err(Failure::Maybe)?;
        // Written before the lock is taken, so that others wait for a rename only.
        let temporary = self.write_temporary(bytes).map_err(Failure::Before)?;
        let refuse = || {
            let _ = std::fs::remove_file(&temporary);
            self.refuse(&path)
        };
        let _lock = self.lock().map_err(Failure::Before)?;
        match self.read_object(key, PRESENT_BYTES_MAX) {
            Ok((present, _)) if version_of(&present) == *version => {}
            Ok(_) => return refuse(),
            Err(error) if is_absence(&error) => return refuse(),
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                return Err(Failure::Before(error));
            }
        }
        std::fs::rename(&temporary, &path).map_err(Failure::Maybe)?;
        self.sync_name(&path).map_err(Failure::Maybe)?;
        Ok(Put::Done(version_of(bytes)))
    }

    /// Refuses, once what the refusal is about is on disk: the caller may find its own
    /// write of before there and take it for done.
    fn refuse(&self, path: &Path) -> Result<Put, Failure> {
        match self.sync_name(path) {
            Err(error) if !is_absence(&error) => Err(Failure::Maybe(error)),
            _ => Ok(Put::Refused),
        }
    }

    fn delete(&self, key: &Key) -> Result<(), Failure> {
        let path = self.path(key);
        let _lock = self.lock().map_err(Failure::Before)?;
        match std::fs::symlink_metadata(&path) {
            Ok(there) if there.is_file() => std::fs::remove_file(&path).map_err(Failure::Maybe)?,
            Ok(_) => return Ok(()),
            Err(error) if is_absence(&error) => {}
            Err(error) => return Err(Failure::Before(error)),
        }
        match self.sync_directory(path.parent().unwrap_or(&self.objects)) {
            Err(error) if !is_absence(&error) => Err(Failure::Maybe(error)),
            _ => Ok(()),
        }
    }

    fn read_at(&self, key: &Key, at: impl FnOnce(u64) -> u64, bytes: u64) -> io::Result<Part> {
        self.settle(&self.path(key))?;
        let mut file = self.open_object(key)?;
        let size = file.metadata()?.len();
        let start = at(size);
        let wanted = bytes.min(size.saturating_sub(start));
        file.seek(SeekFrom::Start(start))?;
        let mut part = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
        file.read_exact(&mut part)?;
        Ok(Part { bytes: part.into(), size })
    }

    fn list(&self, prefix: &str, after: Option<&Key>, limit: usize) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        let after = after.map_or("", Key::as_str);
        let now = self.now();
        self.list_below("", prefix, after, limit, now, &mut listed)?;
        Ok(listed)
    }

    /// Lists what is below the directory `above`, which is empty or ends with `/`.
    fn list_below(
        &self,
        above: &str,
        prefix: &str,
        after: &str,
        limit: usize,
        now: Option<Duration>,
        listed: &mut Vec<Listed>,
    ) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.objects.join(above))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_directory = entry.file_type()?.is_dir();
            // A directory is ordered as its keys are: `a-b` comes before `a/`.
            names.push(format!("{above}{name}{}", if is_directory { "/" } else { "" }));
        }
        names.sort();
        for name in names {
            if listed.len() >= limit {
                break;
            }
            if name.ends_with('/') {
                let may_hold = prefix.starts_with(&name) || name.starts_with(prefix);
                let is_past = name.as_str() > after || after.starts_with(&name);
                if may_hold && is_past {
                    self.list_below(&name, prefix, after, limit, now, listed)?;
                }
            } else if name.starts_with(prefix) && name.as_str() > after {
                let Ok(key) = Key::parse(&name) else { continue };
                match std::fs::metadata(self.path(&key)) {
                    Ok(there) => {
                        let age = age(&there, now);
                        listed.push(Listed { key, bytes: there.len(), age });
                    }
                    // Deleted meanwhile.
                    Err(error) if is_absence(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Some bytes of an object, and its whole size.
struct Part {
    bytes: Bytes,
    size: u64,
}

/// Refuses what cannot fit before anything of it is written: each attempt would take, for its time, the
/// last room of a full disk from whoever else writes there. A disk that says nothing of its room is tried.
fn refuse_oversize(dir: &Path, bytes: u64) -> io::Result<()> {
    let Ok(room) = rustix::fs::statvfs(dir) else { return Ok(()) };
    match room.f_blocks > 0 && room.f_bfree.saturating_mul(room.f_frsize) < bytes {
        true => Err(rustix::io::Errno::NOSPC.into()),
        false => Ok(()),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn modified(metadata: &std::fs::Metadata) -> Option<Duration> {
    metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()
}

fn age(metadata: &std::fs::Metadata, now: Option<Duration>) -> Option<Duration> {
    Some(now?.saturating_sub(modified(metadata)?))
}

/// Whether a path is on another machine, by the type of its file system (statfs(2)).
fn is_remote(path: &Path) -> io::Result<bool> {
    const NFS: u64 = 0x6969;
    const CIFS: u64 = 0xff53_4d42;
    const SMB: u64 = 0x517b;
    const SMB2: u64 = 0xfe53_4d42;
    const CEPH: u64 = 0x00c3_6400;
    const P9: u64 = 0x0102_1997;
    const AFS: u64 = 0x5346_414f;
    let kind = rustix::fs::statfs(path)?.f_type;
    #[expect(clippy::cast_sign_loss, reason = "a magic number of 32 bits")]
    let kind = kind as u64 & 0xffff_ffff;
    Ok(matches!(kind, NFS | CIFS | SMB | SMB2 | CEPH | P9 | AFS))
}

#[async_trait]
impl Store for DirectoryStore {
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        self.counters.get();
        let asked = key.clone();
        self.read(key.as_str(), move |disk| {
            disk.settle(&disk.path(&asked))?;
            let (bytes, metadata) = disk.read_object(&asked, bytes_max)?;
            let version = version_of(&bytes);
            Ok(Object { bytes: bytes.into(), version, age: age(&metadata, disk.now()) })
        })
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.counters.get();
        let (asked, from, to) = (key.clone(), range.start, range.end);
        let part =
            self.read(key.as_str(), move |disk| disk.read_at(&asked, |_| from, to - from)).await?;
        if part.size < to {
            return Err(ReadError::Cut { key: key.to_string(), size: part.size, end: to });
        }
        Ok(part.bytes)
    }

    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        self.counters.get();
        let asked = key.clone();
        let at = move |size: u64| size.saturating_sub(bytes);
        let part = self.read(key.as_str(), move |disk| disk.read_at(&asked, at, bytes)).await?;
        Ok((part.bytes, part.size))
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        self.counters.put();
        let asked = key.clone();
        self.write(key, move |disk| disk.create(&asked, &bytes)).await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        self.counters.put();
        let (asked, version) = (key.clone(), version.clone());
        self.write(key, move |disk| disk.update(&asked, &bytes, &version)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        self.counters.list();
        let (asked, after) = (prefix.to_owned(), after.cloned());
        let listed = self.read(prefix, move |disk| disk.list(&asked, after.as_ref(), limit)).await;
        listed.map_err(|error| match error {
            // A directory of the store that is gone is no empty list.
            ReadError::NotFound { key } => {
                ReadError::Unknown { key, source: "a directory of the store is missing".into() }
            }
            error => error,
        })
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        self.counters.delete();
        let asked = key.clone();
        self.write(key, move |disk| disk.delete(&asked)).await
    }

    fn location(&self) -> Location {
        if self.disk.is_remote {
            let path = self.disk.objects.parent().unwrap_or(&self.disk.objects);
            Location::Url(crate::StoreUrl::Directory(path.to_owned()).to_string())
        } else {
            Location::ThisDisk
        }
    }

    fn requests(&self) -> Requests {
        self.counters.read()
    }
}

#[cfg(test)]
mod tests;
