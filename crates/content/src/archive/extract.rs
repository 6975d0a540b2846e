//! Making a tree of a tar stream.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use cove_btrfs::{Dir, FileKind, Metadata, PathError};
use cove_types::{Classify, ErrorKind, FileTime, TreePath, escape_bytes};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::names;
use super::place::{self, KEPT_MODE, Obstacle, Place, failed};
use super::reader::{Entry, Reader, What};
use super::remarks::Remarks;

/// How much an archive may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of all files together, holes included.
    pub bytes: u64,
    /// Names in a path, from the archive's top.
    pub depth: usize,
}

/// How a tree is made of an archive.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// Who owns all of it; whoever extracts, when absent. The archive's owners never count.
    pub owner: Option<(u32, u32)>,
    /// How much it may hold.
    pub limits: Limits,
    /// Refuses an archive one of whose top names is there already. Else it merges as
    /// `docker cp` does: a directory with a directory, anything else replaces anything else.
    pub new_names_only: bool,
}

/// What came out of an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// The path extracted at with each of the first names in the archive, in the order met.
    pub files: Vec<TreePath>,
    /// The directories that are entries themselves and not only parts of other names, as `files` are.
    pub directories: Vec<TreePath>,
    /// How many entries were made.
    pub entries: u64,
    /// Bytes of all files together, holes included.
    pub bytes: u64,
    /// What was not taken as it is.
    pub remarks: Vec<String>,
}

/// Why an archive was not extracted to its end.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The archive is broken, hostile or over a limit; the name is escaped.
    #[error("the archive is refused at \"{entry}\": {why}")]
    Refused { entry: String, why: String },
    /// A directory would replace something else, or something else a directory.
    #[error("\"{path}\" is {} and cannot be replaced by {}", found.as_str(), wanted.as_str())]
    Conflict { path: TreePath, found: FileKind, wanted: FileKind },
    /// A top name is there already and was to be new.
    #[error("\"{path}\" exists already")]
    Exists { path: TreePath },
    /// The stream could not be read further.
    #[error("failed to read the archive")]
    Stream { source: io::Error },
    /// The tree could not be written.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl Classify for ExtractError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { .. } => ErrorKind::Invalid,
            Self::Conflict { .. } => ErrorKind::Precondition,
            Self::Exists { .. } => ErrorKind::AlreadyExists,
            Self::Stream { .. } => ErrorKind::Unavailable,
            Self::Path(source) => source.kind(),
        }
    }
}

/// Content is read, and looked through for zeros, in pieces of this many bytes.
const BUFFER_BYTES: usize = 128 << 10;
/// What of a file is a hole when it is all zeros: a block of every file system in use.
const HOLE_BYTES: usize = 4096;
/// The most bytes that are kept about directories until the end, so that an archive of
/// directories alone does not fill the memory.
const LATER_BYTES_MAX: usize = 96 << 20;
/// The longest name and value of an xattr that the kernel takes.
const XATTR_NAME_BYTES_MAX: usize = 255;
const XATTR_BYTES_MAX: usize = 64 << 10;
/// How the value of an ACL begins (`POSIX_ACL_XATTR_VERSION`); entries of 8 bytes follow.
const ACL_VERSION: [u8; 4] = 2_u32.to_le_bytes();
/// How large an attribute every file system takes that has any.
const XATTR_BYTES_SURE: usize = 2 << 10;
/// How often a name that comes and goes is tried again.
const TRIES: usize = 16;

/// Makes a tree of a tar stream in the directory `at` below `dir`, and says how it goes
/// (entries, bytes of content).
///
/// The archive decides nothing but names, bytes, modes, times, links, `user.*` attributes
/// and ACLs below `at`. A name is refused that is absolute, climbs or passes a symbolic
/// link; so is a device, and a hard link to anything but what this archive made before.
/// Set-uid and set-gid bits are cleared and named. Blocks of zeros become holes.
///
/// A file that is there is replaced by one whose content is complete: in one step when
/// `dir` is a subvolume's top and `at` lies below it, else its name is absent for an
/// instant. Its other hard links keep their content. What is made is not durable until the caller has seen to it
/// (`syncfs`, or `fsync` of what counts).
///
/// # Errors
///
/// [`ExtractError`]. What was extracted until then stays: whoever makes a new volume
/// throws the whole away, whoever merges into one has the entries before the one named,
/// with the times and modes of directories not yet set.
pub fn extract(
    tar: &mut dyn Read,
    dir: &Dir,
    at: &TreePath,
    options: &ExtractOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<Extracted, ExtractError> {
    let mut reader = Reader::new(tar);
    let mut extraction = Extraction {
        options,
        at,
        progress,
        place: Place::new(dir, at, options.owner)?,
        made: HashSet::new(),
        tops: HashSet::new(),
        later: BTreeMap::new(),
        later_bytes: 0,
        remarks: Remarks::default(),
        extracted: Extracted::default(),
    };
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Some(entry) = reader.next()? {
        extraction.make(&entry, &mut reader, &mut buffer)?;
    }
    extraction.finish()
}

/// What of a directory is set only when nothing more is made in it.
struct Later {
    mode: u32,
    mtime: FileTime,
    acls: Vec<(Vec<u8>, Vec<u8>)>,
}

struct Extraction<'a> {
    options: &'a ExtractOptions,
    at: &'a TreePath,
    progress: &'a dyn Fn(u64, u64),
    place: Place,
    /// Device and inode of all that this archive made and that is no directory.
    made: HashSet<(u64, u64)>,
    /// The top names met.
    tops: HashSet<Vec<u8>>,
    /// By path from the archive's top.
    later: BTreeMap<TreePath, Later>,
    later_bytes: usize,
    remarks: Remarks,
    extracted: Extracted,
}

/// An entry's place: the open directory in which its name is to be.
struct Spot<'a> {
    parent: OwnedFd,
    name: &'a [u8],
    /// From the top of the `Dir`, for errors.
    path: TreePath,
}

/// What a hard link is to be another name of.
struct LinkSource {
    parent: OwnedFd,
    name: Vec<u8>,
    /// Device and inode.
    inode: (u64, u64),
}

impl Extraction<'_> {
    fn make(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<'_>,
        buffer: &mut [u8],
    ) -> Result<(), ExtractError> {
        let limits = self.options.limits;
        let below = names::parse(&entry.name, limits.depth).map_err(|why| entry.refused(why))?;
        let path = self.at.join_path(&below).map_err(|error| entry.refused(error.to_string()))?;
        if self.extracted.entries >= limits.entries {
            let why = format!("an archive has at most {} entries", limits.entries);
            return Err(entry.refused(why));
        }
        let bytes = self.extracted.bytes.checked_add(entry.size);
        let bytes = bytes.filter(|bytes| *bytes <= limits.bytes && i64::try_from(*bytes).is_ok());
        let bytes = bytes.ok_or_else(|| {
            entry.refused(format!("an archive has at most {} bytes", limits.bytes))
        })?;
        self.meet_top(&below)?;
        self.remark_on(entry, &path);
        if entry.what == What::Directory {
            self.directory(entry, &below, path)?;
        } else {
            let (Some(parent), Some(name)) = (below.parent(), below.name()) else {
                return Err(entry.refused("it is the top and no directory"));
            };
            let source_of_link = match &entry.what {
                What::HardLink(target) => Some(self.made_before(entry, &below, target)?),
                _ => None,
            };
            let parent = self.place.enter_or_make(&parent);
            let parent = parent.map_err(|obstacle| on_the_way(obstacle, entry, &path))?;
            let parent = parent.try_clone_to_owned().map_err(|e| failed("open", &path, e))?;
            let spot = Spot { parent, name, path };
            match &entry.what {
                What::File => self.file(entry, &spot, reader, buffer)?,
                What::Symlink(target) => self.symlink(entry, &spot, target)?,
                What::Fifo => self.node(entry, &spot, FileType::Fifo)?,
                What::Socket => self.node(entry, &spot, FileType::Socket)?,
                What::HardLink(_) => self.hard_link(&spot, source_of_link.as_ref())?,
                What::Directory => {}
            }
        }
        self.extracted.entries += 1;
        self.extracted.bytes = bytes;
        (self.progress)(self.extracted.entries, bytes);
        Ok(())
    }

    /// Notes the first name of a path, when it is new.
    fn meet_top(&mut self, below: &TreePath) -> Result<(), ExtractError> {
        let Some(first) = below.names().next() else { return Ok(()) };
        if self.tops.contains(first) {
            return Ok(());
        }
        let path = self.at.join(first).unwrap_or_else(|_| self.at.clone());
        if self.options.new_names_only {
            let top = self.place.enter(&TreePath::top()).map_err(|obstacle| match obstacle {
                Obstacle::Path(error) => error,
                _ => failed("look up", &path, Errno::NOENT),
            })?;
            if place::stat(top, first).map_err(|e| failed("look up", &path, e))?.is_some() {
                return Err(ExtractError::Exists { path });
            }
        }
        self.tops.insert(first.to_vec());
        self.extracted.files.push(path);
        Ok(())
    }

    fn remark_on(&mut self, entry: &Entry, path: &TreePath) {
        if entry.mode & 0o6000 != 0 && !matches!(entry.what, What::Symlink(_) | What::HardLink(_)) {
            self.remarks.push(|| format!("{path}: its set-uid and set-gid bits are not kept"));
        }
        if entry.has_foreign_attributes {
            self.remarks
                .push(|| format!("{path}: an ACL or attribute in an unknown form is left out"));
        }
    }

    fn directory(
        &mut self,
        entry: &Entry,
        below: &TreePath,
        path: TreePath,
    ) -> Result<(), ExtractError> {
        let fd = self.place.enter_or_make(below).map_err(|obstacle| match obstacle {
            Obstacle::Kind(found_at, found) if found_at == path => {
                ExtractError::Conflict { path: found_at, found, wanted: FileKind::Directory }
            }
            obstacle => on_the_way(obstacle, entry, &path),
        })?;
        place::set_owner(&fd, self.options.owner)
            .map_err(|e| failed("set the owner of", &path, e))?;
        // until the end it must let us in
        place::set_mode(&fd, entry.mode | 0o700)
            .map_err(|e| failed("set the mode of", &path, e))?;
        let (acls, plain): (Vec<_>, Vec<_>) =
            entry.xattrs.iter().partition(|(name, _)| name.starts_with(b"system."));
        for (name, value) in plain {
            set_xattr(&fd, entry, &path, name, value, &mut self.remarks)?;
        }
        let acls: Vec<_> = acls.into_iter().cloned().collect();
        let weight: usize = acls.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.later_bytes += below.as_bytes().len() + 128 + weight;
        if self.later_bytes > LATER_BYTES_MAX {
            return Err(entry.refused("there are too many directories"));
        }
        let later = Later { mode: entry.mode, mtime: entry.mtime, acls };
        self.later.insert(below.clone(), later);
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        reader: &mut Reader<'_>,
        buffer: &mut [u8],
    ) -> Result<(), ExtractError> {
        let length = reader.read(buffer)?;
        let (file, is_unnamed) = self.create(spot)?;
        let filled = self.fill(entry, spot, reader, buffer, length, &file);
        if let (Err(_), false) = (&filled, is_unnamed) {
            // half a file is none, and a full disk gets its room back
            let same = |found: &Metadata| {
                rustix::fs::fstat(&file).is_ok_and(|own| own.st_ino == found.inode)
            };
            let found = place::stat(&spot.parent, spot.name).ok().flatten();
            if found.as_ref().is_some_and(same)
                && let Err(errno) = rustix::fs::unlinkat(&spot.parent, spot.name, AtFlags::empty())
            {
                tracing::warn!(path = %spot.path, %errno, "a part of a file stays behind");
            }
        }
        filled?;
        let path = &spot.path;
        if is_unnamed {
            let replaced = match self.place.replace(&file, &spot.parent, spot.name) {
                // a directory came there meanwhile
                Err(Errno::ISDIR) => Ok(false),
                other => other,
            };
            if !replaced.map_err(|e| failed("replace", path, e))? {
                self.put(spot, FileKind::File, |parent, name| {
                    let file = place::by_descriptor(&file);
                    rustix::fs::linkat(CWD, file, parent, name, AtFlags::SYMLINK_FOLLOW)
                })?;
            }
        }
        Ok(())
    }

    /// Writes a file's content, attributes, mode and times.
    fn fill(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        reader: &mut Reader<'_>,
        buffer: &mut [u8],
        mut length: usize,
        file: &File,
    ) -> Result<(), ExtractError> {
        let path = &spot.path;
        let (mut offset, mut written) = (0, 0);
        while length > 0 {
            if let Some(end) = write_around_zeros(file, offset, &buffer[..length])
                .map_err(|source| failed("write", path, source))?
            {
                written = end;
            }
            offset += length as u64;
            (self.progress)(self.extracted.entries, self.extracted.bytes + offset);
            length = reader.read(buffer)?;
        }
        if written != offset {
            file.set_len(offset).map_err(|source| failed("write", path, source))?;
        }
        place::set_owner(file, self.options.owner)
            .map_err(|e| failed("set the owner of", path, e))?;
        // attributes need the right to write, which the mode may take; an ACL changes the mode
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| !name.starts_with(b"system.")) {
            set_xattr(file, entry, path, name, value, &mut self.remarks)?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode & KEPT_MODE))
            .map_err(|e| failed("set the mode of", path, e))?;
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| name.starts_with(b"system.")) {
            set_xattr(file, entry, path, name, value, &mut self.remarks)?;
        }
        rustix::fs::futimens(file, &place::times(entry.mtime))
            .map_err(|e| failed("set the time of", path, e))?;
        let stat = rustix::fs::fstat(file).map_err(|e| failed("look up", path, e))?;
        self.made.insert((stat.st_dev, stat.st_ino));
        Ok(())
    }

    /// A new file for writing: under its name where that is free, else without a name.
    ///
    /// Without one the old file stays whole until the new one is, and nothing temporary is
    /// in the workspace. Where the file system has no such files, the old file goes first.
    fn create(&self, spot: &Spot<'_>) -> Result<(File, bool), ExtractError> {
        let (parent, path) = (&spot.parent, &spot.path);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let new = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        match rustix::fs::openat(parent, spot.name, new, mode) {
            Ok(fd) => return Ok((File::from(fd), false)),
            Err(Errno::EXIST) => self.check_replaceable(spot, FileKind::File)?,
            Err(errno) => return Err(failed("create", path, errno).into()),
        };
        match rustix::fs::openat(parent, c".", flags | OFlags::TMPFILE, mode) {
            Ok(fd) => Ok((File::from(fd), true)),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let fd = self.put(spot, FileKind::File, |parent, name| {
                    rustix::fs::openat(parent, name, new, mode)
                })?;
                Ok((File::from(fd), false))
            }
            Err(errno) => Err(failed("create", path, errno).into()),
        }
    }

    /// Makes something under a name with `make`, which fails when the name is taken; what
    /// has the name and is no directory goes.
    fn put<T>(
        &self,
        spot: &Spot<'_>,
        wanted: FileKind,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, ExtractError> {
        for _ in 0..TRIES {
            match make(spot.parent.as_fd(), spot.name) {
                Ok(made) => return Ok(made),
                Err(Errno::EXIST) => self.check_replaceable(spot, wanted)?,
                Err(errno) => return Err(failed("create", &spot.path, errno).into()),
            }
            match rustix::fs::unlinkat(&spot.parent, spot.name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed("replace", &spot.path, errno).into()),
            }
        }
        Err(failed("replace", &spot.path, Errno::BUSY).into())
    }

    fn check_replaceable(&self, spot: &Spot<'_>, wanted: FileKind) -> Result<(), ExtractError> {
        let found = place::stat(&spot.parent, spot.name)
            .map_err(|errno| failed("look up", &spot.path, errno))?;
        match found {
            Some(Metadata { kind: found @ FileKind::Directory, .. }) => {
                Err(ExtractError::Conflict { path: spot.path.clone(), found, wanted })
            }
            _ => Ok(()),
        }
    }

    fn symlink(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        target: &[u8],
    ) -> Result<(), ExtractError> {
        if target.is_empty() || target.len() >= 4096 || target.contains(&0) {
            return Err(entry.refused("its target is no path of 1 to 4095 bytes"));
        }
        self.put(spot, FileKind::Symlink, |parent, name| {
            rustix::fs::symlinkat(target, parent, name)
        })?;
        self.finish_node(entry, spot, FileKind::Symlink)
    }

    fn node(&mut self, entry: &Entry, spot: &Spot<'_>, kind: FileType) -> Result<(), ExtractError> {
        let is = if kind == FileType::Fifo { FileKind::Fifo } else { FileKind::Socket };
        self.put(spot, is, |parent, name| {
            rustix::fs::mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, 0)
        })?;
        self.finish_node(entry, spot, is)
    }

    /// Sets what remains of something that was just made and cannot be opened.
    fn finish_node(
        &mut self,
        entry: &Entry,
        spot: &Spot<'_>,
        kind: FileKind,
    ) -> Result<(), ExtractError> {
        let path = &spot.path;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&spot.parent, spot.name, flags, Mode::empty())
            .map_err(|e| failed("look up", path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("look up", path, e))?;
        let found = Metadata::from(&stat);
        if found.kind != kind || found.links != 1 {
            // somebody else's, put there this moment: not to be given away
            return Err(failed("create", path, Errno::BUSY).into());
        }
        self.made.insert((found.device, found.inode));
        place::set_owner(&fd, self.options.owner)
            .map_err(|e| failed("set the owner of", path, e))?;
        if kind != FileKind::Symlink {
            place::set_mode(&fd, entry.mode).map_err(|e| failed("set the mode of", path, e))?;
            for (name, value) in &entry.xattrs {
                set_xattr(&fd, entry, path, name, value, &mut self.remarks)?;
            }
        }
        let times = place::times(entry.mtime);
        rustix::fs::utimensat(&spot.parent, spot.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| failed("set the time of", path, e))?;
        Ok(())
    }

    /// The directory and name of what a hard link points to, made by this archive.
    fn made_before(
        &mut self,
        entry: &Entry,
        below: &TreePath,
        target: &[u8],
    ) -> Result<LinkSource, ExtractError> {
        let refused = |why: &str| {
            let shown = escape_bytes(&target[..target.len().min(200)]);
            entry.refused(format!("it is a hard link to \"{shown}\", {why}"))
        };
        let target = names::parse(target, self.options.limits.depth)
            .map_err(|_| refused("which is no name in an archive"))?;
        if target == *below {
            return Err(refused("itself"));
        }
        let (Some(parent), Some(name)) = (target.parent(), target.name()) else {
            return Err(refused("the top"));
        };
        const NOT_MADE: &str = "which this archive has not made before";
        let parent = self.place.enter(&parent).map_err(|obstacle| match obstacle {
            Obstacle::Absent | Obstacle::Kind(..) => refused(NOT_MADE),
            Obstacle::Path(error) => error.into(),
        })?;
        let found = place::stat(parent, name).map_err(|e| failed("look up", &target, e))?;
        let inode = found.map(|found| (found.device, found.inode));
        match inode.filter(|inode| self.made.contains(inode)) {
            Some(inode) => {
                let parent = parent.try_clone_to_owned().map_err(|e| failed("open", &target, e))?;
                Ok(LinkSource { parent, name: name.to_vec(), inode })
            }
            None => Err(refused(NOT_MADE)),
        }
    }

    fn hard_link(
        &mut self,
        spot: &Spot<'_>,
        source: Option<&LinkSource>,
    ) -> Result<(), ExtractError> {
        let Some(source) = source else { return Ok(()) };
        let found = place::stat(&spot.parent, spot.name)
            .map_err(|errno| failed("look up", &spot.path, errno))?;
        if found.is_some_and(|found| (found.device, found.inode) == source.inode) {
            return Ok(());
        }
        self.put(spot, FileKind::File, |parent, name| {
            let from = source.name.as_slice();
            rustix::fs::linkat(&source.parent, from, parent, name, AtFlags::empty())
        })
    }

    /// Sets modes, ACLs and times of directories, each after all below it.
    fn finish(mut self) -> Result<Extracted, ExtractError> {
        while let Some((below, later)) = self.later.pop_last() {
            let path = self.at.join_path(&below).unwrap_or_else(|_| self.at.clone());
            let fd = match self.place.enter(&below) {
                Ok(fd) => fd,
                Err(Obstacle::Absent | Obstacle::Kind(..)) => {
                    self.remarks.push(|| format!("{path}: it was removed meanwhile"));
                    continue;
                }
                Err(Obstacle::Path(error)) => return Err(error.into()),
            };
            // the mode may forbid to go in
            rustix::fs::utimensat(fd, c".", &place::times(later.mtime), AtFlags::empty())
                .map_err(|e| failed("set the time of", &path, e))?;
            place::set_mode(&fd, later.mode).map_err(|e| failed("set the mode of", &path, e))?;
            let name = below.as_bytes().to_vec();
            for (xattr, value) in &later.acls {
                let shown = || ExtractError::Refused {
                    entry: escape_bytes(&name),
                    why: format!("attribute {} is malformed", escape_bytes(xattr)),
                };
                apply_xattr(&fd, xattr, value, FileKind::Directory)
                    .or_else(|fault| fault.settle(&path, xattr, &mut self.remarks, shown))?;
            }
            self.extracted.directories.push(path);
        }
        self.extracted.remarks = self.remarks.finish();
        Ok(self.extracted)
    }
}

/// What kept an entry from its directory.
fn on_the_way(obstacle: Obstacle, entry: &Entry, path: &TreePath) -> ExtractError {
    match obstacle {
        Obstacle::Absent => failed("open the directory of", path, Errno::NOENT).into(),
        Obstacle::Kind(found_at, found) => {
            entry.refused(format!("\"{found_at}\" on its way is {}", found.as_str()))
        }
        Obstacle::Path(error) => error.into(),
    }
}

/// Writes what is not zeros, by whole blocks; says where the last of it ended.
fn write_around_zeros(file: &File, offset: u64, bytes: &[u8]) -> io::Result<Option<u64>> {
    const ZEROS: [u8; HOLE_BYTES] = [0; HOLE_BYTES];
    let mut end = None;
    let mut run = 0..0;
    let mut write = |run: &std::ops::Range<usize>| {
        if run.is_empty() {
            return Ok(());
        }
        end = Some(offset + run.end as u64);
        file.write_all_at(&bytes[run.clone()], offset + run.start as u64)
    };
    for (index, block) in bytes.chunks(HOLE_BYTES).enumerate() {
        let start = index * HOLE_BYTES;
        if *block == ZEROS[..block.len()] {
            write(&run)?;
            run = 0..0;
        } else if run.is_empty() {
            run = start..start + block.len();
        } else {
            run.end = start + block.len();
        }
    }
    write(&run)?;
    Ok(end)
}

/// Why an attribute was not set.
enum Fault {
    /// It is none that an archive may set.
    NotTaken,
    /// The file system has none of this kind.
    Unsupported,
    /// The kernel takes no such value, or not so large a one.
    Malformed,
    Failed(Errno),
}

impl Fault {
    fn settle(
        self,
        path: &TreePath,
        name: &[u8],
        remarks: &mut Remarks,
        refused: impl FnOnce() -> ExtractError,
    ) -> Result<(), ExtractError> {
        match self {
            Self::NotTaken => {
                remarks.push(|| format!("{path}: attribute {} is left out", escape_bytes(name)));
                Ok(())
            }
            Self::Unsupported => {
                remarks.push(|| {
                    let name = escape_bytes(name);
                    format!("{path}: attribute {name} is left out: the file system takes none such")
                });
                Ok(())
            }
            Self::Malformed => Err(refused()),
            Self::Failed(errno) => Err(failed("set an attribute of", path, errno).into()),
        }
    }
}

/// Sets an attribute that an archive may set; names it in a remark when it may not.
fn set_xattr(
    fd: &impl AsFd,
    entry: &Entry,
    path: &TreePath,
    name: &[u8],
    value: &[u8],
    remarks: &mut Remarks,
) -> Result<(), ExtractError> {
    let kind = match entry.what {
        What::Directory => FileKind::Directory,
        What::File => FileKind::File,
        _ => FileKind::Fifo,
    };
    apply_xattr(fd, name, value, kind).or_else(|fault| {
        fault.settle(path, name, remarks, || {
            let name = escape_bytes(&name[..name.len().min(XATTR_NAME_BYTES_MAX)]);
            entry.refused(format!("attribute {name} is malformed or too large"))
        })
    })
}

fn apply_xattr(fd: &impl AsFd, name: &[u8], value: &[u8], kind: FileKind) -> Result<(), Fault> {
    let is_taken = match name {
        b"system.posix_acl_access" => true,
        b"system.posix_acl_default" => kind == FileKind::Directory,
        // the kernel keeps these on files and directories only
        _ => name.starts_with(b"user.") && matches!(kind, FileKind::File | FileKind::Directory),
    };
    if !is_taken {
        return Err(Fault::NotTaken);
    }
    if name.len() > XATTR_NAME_BYTES_MAX || name.contains(&0) || value.len() > XATTR_BYTES_MAX {
        return Err(Fault::Malformed);
    }
    // the kernel says of another version that the file system has no ACLs
    let is_acl = name.starts_with(b"system.");
    if is_acl && !(value.starts_with(&ACL_VERSION) && value.len() % 8 == 4) {
        return Err(Fault::Malformed);
    }
    match rustix::fs::setxattr(place::by_descriptor(fd), name, value, XattrFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP) => Err(Fault::Unsupported),
        Err(Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => Err(Fault::Malformed),
        // the same answer as for a full disk: a value over what a leaf of the tree holds
        Err(Errno::NOSPC) if name.len() + value.len() > XATTR_BYTES_SURE => Err(Fault::Malformed),
        Err(errno) => Err(Fault::Failed(errno)),
    }
}
