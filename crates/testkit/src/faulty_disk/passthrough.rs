//! The file system that the kernel asks: each call is done in a directory behind it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::{Faults, Step, When};

/// The kernel is to ask each time.
const NOTHING_IS_CACHED: Duration = Duration::ZERO;

/// Each call is to come here, and a close is none: a process that serves its own disk would wait for
/// itself when it ends.
const DIRECT: FopenFlags = FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH);

/// A directory that is reached with faults.
pub(super) struct Passthrough {
    faults: Arc<Faults>,
    nodes: Mutex<Nodes>,
}

/// What the kernel knows by number.
///
/// Numbers are given by path and never again, so a number is one file for as long as the disk is
/// mounted.
struct Nodes {
    paths: HashMap<u64, PathBuf>,
    numbers: HashMap<PathBuf, u64>,
    open: HashMap<u64, Open>,
    last: u64,
}

struct Open {
    file: File,
    /// What was written since the last fsync: start and end.
    unsynced: Vec<(u64, u64)>,
}

type Answer<T> = Result<T, Errno>;

impl Nodes {
    fn path(&self, node: INodeNo) -> Answer<PathBuf> {
        self.paths.get(&node.0).cloned().ok_or(Errno::ESTALE)
    }

    fn child(&self, parent: INodeNo, name: &OsStr) -> Answer<PathBuf> {
        Ok(self.path(parent)?.join(name))
    }

    fn number(&mut self, path: &Path) -> u64 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(path.to_owned(), self.last);
        self.paths.insert(self.last, path.to_owned());
        self.last
    }

    fn open(&mut self, file: File) -> FileHandle {
        self.last += 1;
        self.open.insert(self.last, Open { file, unsynced: Vec::new() });
        FileHandle(self.last)
    }

    fn opened(&mut self, handle: FileHandle) -> Answer<&mut Open> {
        self.open.get_mut(&handle.0).ok_or(Errno::EBADF)
    }

    /// Gives what is at or below one path the other.
    fn renamed(&mut self, from: &Path, to: &Path) {
        self.removed(to);
        let moved: Vec<PathBuf> =
            self.numbers.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let Some(number) = self.numbers.remove(&path) else { continue };
            let below = path.strip_prefix(from).unwrap_or(Path::new(""));
            // `join` with nothing adds a slash
            let path = if below.as_os_str().is_empty() { to.to_owned() } else { to.join(below) };
            self.numbers.insert(path.clone(), number);
            self.paths.insert(number, path);
        }
    }

    fn removed(&mut self, path: &Path) {
        if let Some(number) = self.numbers.remove(path) {
            self.paths.remove(&number);
        }
    }

    fn attributes(&mut self, path: &Path) -> Answer<FileAttr> {
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(attributes(self.number(path), &metadata))
    }
}

fn attributes(number: u64, metadata: &Metadata) -> FileAttr {
    let at = |seconds: i64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    FileAttr {
        ino: INodeNo(number),
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: at(metadata.atime()),
        mtime: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        ctime: at(metadata.ctime()),
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::from_std(metadata.file_type()).unwrap_or(FileType::RegularFile),
        perm: u16::try_from(metadata.mode() & 0o7777).unwrap_or(0),
        nlink: u32::try_from(metadata.nlink()).unwrap_or(1),
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl Passthrough {
    pub(super) fn new(root: &Path, faults: Arc<Faults>) -> Self {
        let nodes = Nodes {
            paths: HashMap::from([(INodeNo::ROOT.0, root.to_owned())]),
            numbers: HashMap::from([(root.to_owned(), INodeNo::ROOT.0)]),
            open: HashMap::new(),
            last: INodeNo::ROOT.0,
        };
        Self { faults, nodes: Mutex::new(nodes) }
    }

    /// What is known, once the disk does not hang.
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.faults.wait();
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a step, or lets it fail by the plan.
    fn step<T>(&self, step: Step, work: impl FnOnce(&mut Nodes) -> Answer<T>) -> Answer<T> {
        let mut nodes = self.nodes();
        match self.faults.meet(step) {
            None => work(&mut nodes),
            Some((errno, When::BeforeEffect)) => Err(errno),
            Some((errno, When::AfterEffect)) => work(&mut nodes).and(Err(errno)),
        }
    }

    fn remove(
        &self,
        parent: INodeNo,
        name: &OsStr,
        remove: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Answer<()> {
        self.step(Step::Remove, |nodes| {
            let path = nodes.child(parent, name)?;
            remove(&path)?;
            nodes.removed(&path);
            Ok(())
        })
    }
}

/// Zeros where bytes were written that no fsync has confirmed: those are lost.
fn lose(open: &mut Open) -> io::Result<()> {
    for (start, end) in open.unsynced.drain(..) {
        let length = usize::try_from(end - start).map_err(io::Error::other)?;
        open.file.write_all_at(&vec![0; length], start)?;
    }
    Ok(())
}

fn empty(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn entry(answer: Answer<FileAttr>, reply: ReplyEntry) {
    match answer {
        Ok(attributes) => reply.entry(&NOTHING_IS_CACHED, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn attr(answer: Answer<FileAttr>, reply: ReplyAttr) {
    match answer {
        Ok(attributes) => reply.attr(&NOTHING_IS_CACHED, &attributes),
        Err(errno) => reply.error(errno),
    }
}

fn opened(answer: Answer<FileHandle>, flags: FopenFlags, reply: ReplyOpen) {
    match answer {
        Ok(handle) => reply.opened(handle, flags),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Passthrough {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut nodes = self.nodes();
        let found = nodes.child(parent, name).and_then(|path| nodes.attributes(&path));
        entry(found, reply);
    }

    fn getattr(&self, _: &Request, node: INodeNo, handle: Option<FileHandle>, reply: ReplyAttr) {
        let mut nodes = self.nodes();
        let of_handle = handle.and_then(|handle| nodes.open.get(&handle.0));
        let found = match of_handle {
            // it may have no name any more
            Some(open) => open
                .file
                .metadata()
                .map(|metadata| attributes(node.0, &metadata))
                .map_err(Errno::from),
            None => nodes.path(node).and_then(|path| nodes.attributes(&path)),
        };
        attr(found, reply);
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.step(Step::SetAttributes, |nodes| {
            let path = nodes.path(node)?;
            if let Some(mode) = mode {
                std::fs::set_permissions(&path, PermissionsExt::from_mode(mode & 0o7777))?;
            }
            if let Some(size) = size {
                OpenOptions::new().write(true).open(&path)?.set_len(size)?;
            }
            nodes.attributes(&path)
        });
        attr(set, reply);
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.step(Step::Create, |nodes| {
            let path = nodes.child(parent, name)?;
            std::fs::DirBuilder::new().mode(mode & !umask).create(&path)?;
            nodes.attributes(&path)
        });
        entry(made, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove(parent, name, |path| std::fs::remove_file(path)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove(parent, name, |path| std::fs::remove_dir(path)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.step(Step::Rename, |nodes| {
            let (from, to) = (nodes.child(parent, name)?, nodes.child(new_parent, new_name)?);
            let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
            let cwd = rustix::fs::CWD;
            rustix::fs::renameat_with(cwd, &from, cwd, &to, flags).map_err(io::Error::from)?;
            nodes.renamed(&from, &to);
            Ok(())
        });
        empty(renamed, reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.step(Step::Create, |nodes| {
            let path = nodes.child(parent, name)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).mode(mode & !umask);
            let file = match flags & libc::O_EXCL {
                0 => options.create(true).open(&path)?,
                _ => options.create_new(true).open(&path)?,
            };
            Ok((nodes.attributes(&path)?, nodes.open(file)))
        });
        match made {
            Ok((attributes, handle)) => {
                let (ttl, flags) = (NOTHING_IS_CACHED, DIRECT);
                reply.created(&ttl, &attributes, Generation(0), handle, flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mut nodes = self.nodes();
        let is_written = flags.0 & libc::O_ACCMODE != libc::O_RDONLY;
        let file = nodes.path(node).and_then(|path| {
            OpenOptions::new().read(true).write(is_written).open(path).map_err(Errno::from)
        });
        opened(file.map(|file| nodes.open(file)), DIRECT, reply);
    }

    fn read(
        &self,
        _: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.step(Step::Read, |nodes| {
            let mut bytes = vec![0; usize::try_from(size).map_err(|_| Errno::EINVAL)?];
            let mut filled = 0;
            while filled < bytes.len() {
                let at = offset + filled as u64;
                match nodes.opened(handle)?.file.read_at(&mut bytes[filled..], at)? {
                    0 => break,
                    count => filled += count,
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        _node: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.step(Step::Write, |nodes| {
            let open = nodes.opened(handle)?;
            open.file.write_all_at(data, offset)?;
            open.unsynced.push((offset, offset + data.len() as u64));
            u32::try_from(data.len()).map_err(|_| Errno::EINVAL)
        });
        match written {
            Ok(count) => reply.written(count),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(
        &self,
        _: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // The kernel does not ask again: a process that ends does not wait for what it serves itself.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.nodes().open.remove(&handle.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _: &Request,
        _node: INodeNo,
        handle: FileHandle,
        _data: bool,
        reply: ReplyEmpty,
    ) {
        let mut nodes = self.nodes();
        let fault = self.faults.meet(Step::Sync);
        let synced = nodes.opened(handle).and_then(|open| match fault {
            None => {
                open.unsynced.clear();
                Ok(())
            }
            Some((errno, _)) => lose(open).map_err(Errno::from).and(Err(errno)),
        });
        empty(synced, reply);
    }

    fn fsyncdir(
        &self,
        _: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _data: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.step(Step::SyncDirectory, |_| Ok(())), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut nodes = self.nodes();
        let listed = nodes.path(node).and_then(|path| {
            let mut names = Vec::new();
            for found in std::fs::read_dir(&path)? {
                let found = found?;
                let kind = FileType::from_std(found.file_type()?).unwrap_or(FileType::RegularFile);
                names.push((found.file_name(), kind));
            }
            // a name keeps its place while others come and go behind it
            names.sort_by(|one, other| one.0.cmp(&other.0));
            Ok((path, names))
        });
        match listed {
            Ok((path, names)) => {
                let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
                for (at, (name, kind)) in (offset + 1..).zip(names.into_iter().skip(skipped)) {
                    let number = nodes.number(&path.join(&name));
                    if reply.add(INodeNo(number), at, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _: &Request, _node: INodeNo, reply: ReplyStatfs) {
        self.faults.wait();
        // a gibibyte, all of it free
        let blocks = 1 << 18;
        reply.statfs(blocks, blocks, blocks, blocks, blocks, 4096, 255, 4096);
    }
}
