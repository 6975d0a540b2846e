//! Making a tree of a tar stream.

mod file;
mod node;
mod spot;
mod xattr;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read};

use cove_btrfs::{Dir, FileKind, PathError};
use cove_types::{Classify, ErrorKind, FileTime, TreePath, escape_bytes};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use self::spot::Spot;
use self::xattr::{apply_xattr, set_xattr};
use super::names;
use super::place::{self, Obstacle, Place, failed};
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
/// The most bytes that are kept about directories until the end, so that an archive of
/// directories alone does not fill the memory.
const LATER_BYTES_MAX: usize = 96 << 20;

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
        takes_frames: dir.is_on_btrfs(),
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
    /// Whether the disk may take content compressed, as btrfs does.
    takes_frames: bool,
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
