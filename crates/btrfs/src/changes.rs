//! What differs in a snapshot from another, and how the kernel tells it of an ancestor.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::OwnedFd;

use cove_types::{Classify, DEPTH_MAX, ErrorKind, TreePath};
use rustix::pipe::PipeFlags;

use crate::overlay::{Outcome, Overlay};
use crate::stream::{self, Command, Decoded};
use crate::{Dir, FileKind, Metadata, PathError, PoolError, Subvolume, SubvolumePath};

/// What differs in a snapshot from another, mostly its ancestor. All paths are raw bytes relative to the
/// subvolume's top, which itself is the empty path.
///
/// To turn a listing of the old state into one of the new state: of each old path, look
/// for the longest of its prefixes (whole names; itself included) that is in `gone`. None:
/// it stays where it is. In `moved` too: that prefix is replaced by the new one. Otherwise
/// it is dropped. All old paths speak of the old state and all new ones of the new state,
/// so the order does not matter. Then each of `touched` is read again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Old paths whose subtrees were removed or moved away, in order.
    pub gone: Vec<Vec<u8>>,
    /// Old and new paths of subtrees that moved, in order of the old ones.
    pub moved: Vec<(Vec<u8>, Vec<u8>)>,
    /// What is to be read again, in order of the paths.
    pub touched: Vec<Touched>,
    /// How many bytes of file content that is, at most.
    pub plain_bytes: u64,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.moved.is_empty() && self.touched.is_empty()
    }
}

/// An entry whose metadata is to be read again, and perhaps its content. A file with
/// several names is there under each of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Where it is now.
    pub path: Vec<u8>,
    /// Where the same inode was in the old state; `None` when it is new.
    pub origin: Option<Vec<u8>>,
    /// What of its content is to be read again.
    pub content: Content,
}

/// What of a file's content is to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing; always so for what is not a regular file and is not new.
    Same,
    /// These bytes, in order and apart from each other; they may reach beyond the end of
    /// the file. What lies outside is as at `origin`, up to the new size.
    Ranges(Vec<Range<u64>>),
    /// All of it.
    Whole,
}

/// Why the changes between two snapshots are not known.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// What takes writes may differ from what was just read of it.
    #[error("{place} takes writes, so that nothing can be compared with it")]
    Writable { place: String },
    /// What lies on the disk is not what we know of its format.
    #[error("the metadata of {child} are not as expected: {why}")]
    Items { child: String, why: String },
    /// More changed, or was deleted, than is held in memory.
    #[error("more than {most} names of {child} changed or are gone")]
    TooMany { child: String, most: usize },
    /// The pool did not do its part.
    #[error("failed to look up what changed")]
    Pool(#[from] PoolError),
}

impl Classify for ChangesError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Writable { .. } => ErrorKind::Precondition,
            Self::TooMany { .. } => ErrorKind::Exhausted,
            Self::Items { .. } => ErrorKind::Internal,
            Self::Pool(source) => source.kind(),
        }
    }
}

/// Why what changed is not known by what the kernel sends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// The kernel cannot describe the change (a path is too long, for example).
    #[error("the kernel cannot tell what changed")]
    Kernel(#[source] io::Error),
    /// What it wrote is not what we know of its format.
    #[error("the stream of changes is not as expected: {0}")]
    Stream(String),
    /// It tells of more than is held in memory.
    #[error("more than {NAMES_MAX} names changed")]
    TooMany,
    /// The pool did not do its part.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// How many names the paths of a stream may have together, of those that are deeper than a tree can
/// hold.
///
/// The kernel walks up the whole path for each of its commands, name by name in the tree of the
/// snapshot: one directory in another, 1,000 times, took it 27 s and 2,000 times 84 s, where
/// comparing both snapshots took 0.2 and 0.6 s. This many take it about as long as that, and are some 340 directories one in another,
/// or a few files that changed far below.
const DEEP_NAMES_MAX: usize = 1 << 17;

/// How many names of what changed or is gone are held in memory, each with its path twice: some 100 MB.
pub(crate) const NAMES_MAX: usize = 1 << 17;

/// The two snapshots that are compared.
pub(crate) struct Sides<'s> {
    pub(crate) parent: &'s SubvolumePath,
    pub(crate) child: &'s SubvolumePath,
    pub(crate) parent_dir: &'s Dir,
    pub(crate) child_dir: &'s Dir,
}

/// Whether `older` is an ancestor of `newer`, both of them read-only; between others the kernel's
/// answer would be silently wrong.
///
/// It is when both are snapshots of one live subvolume, `newer` is a snapshot of `older`, or of
/// a live one that is (after a local restore): then an inode number and generation mean the same
/// inode in both. Between forks they do not. `descends(live, ancestor)` says whether the
/// subvolume `live` is a snapshot of `ancestor`.
pub(crate) fn is_ancestor(
    older: &Subvolume,
    newer: &Subvolume,
    descends: &dyn Fn([u8; 16], [u8; 16]) -> Result<bool, PoolError>,
) -> Result<bool, PoolError> {
    Ok(match newer.parent_uuid {
        None => false,
        Some(live) => {
            older.parent_uuid == Some(live) || live == older.uuid || descends(live, older.uuid)?
        }
    })
}

/// Reads what `send` writes into a pipe and makes changes of it. `names` gives all names of
/// an inode of the child's.
pub(crate) fn read(
    sides: &Sides<'_>,
    send: &(dyn Fn(&OwnedFd) -> io::Result<()> + Sync),
    names: &dyn Fn(u64) -> Result<Vec<Vec<u8>>, PoolError>,
) -> Result<Changes, SendError> {
    let broken = |source: io::Error| {
        let place = sides.child.to_string();
        SendError::Pool(PoolError::Io { verb: "read the changes of", place, source })
    };
    let (reader, writer) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|errno| broken(errno.into()))?;
    let (sent, overlay) = std::thread::scope(|scope| {
        let reading = scope.spawn(move || follow(File::from(reader)));
        let sent = send(&writer);
        // The reader comes to the end of the pipe when its last writer is closed.
        drop(writer);
        (sent, reading.join().expect("the reader of a stream does not panic"))
    });
    let overlay = match overlay {
        // what was refused is closed, and the kernel says no more than that
        Ok(Err(why)) => return Err(why),
        other => other,
    };
    sent.map_err(SendError::Kernel)?;
    let overlay = overlay.map_err(broken)??;
    Ok(complete(sides, overlay.outcome(), names)?)
}

/// Reads a stream to its end. One that is refused is closed: then its writer ends too.
fn follow(mut pipe: File) -> io::Result<Result<Overlay, SendError>> {
    match apply_all(&mut pipe, NAMES_MAX) {
        Err(Refused::Io(error)) => Err(error),
        Err(Refused::Stream(why)) => Ok(Err(SendError::Stream(why))),
        Err(Refused::TooMany) => Ok(Err(SendError::TooMany)),
        Ok(overlay) => {
            // so that the writer never waits
            io::copy(&mut pipe, &mut io::sink())?;
            Ok(Ok(overlay))
        }
    }
}

/// Why a stream was not followed to its end.
#[derive(Debug)]
enum Refused {
    Io(io::Error),
    Stream(String),
    TooMany,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Stream("it is cut off".into()),
            _ => Self::Io(error),
        }
    }
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Stream(why)
    }
}

/// Applies each command as it comes in, as long as they speak of at most `names_max` names.
fn apply_all(pipe: &mut impl Read, names_max: usize) -> Result<Overlay, Refused> {
    let mut header = [0; stream::HEADER_BYTES];
    pipe.read_exact(&mut header)?;
    stream::decode_header(&header)?;
    let mut pipe = io::BufReader::with_capacity(256 << 10, pipe);
    let mut overlay = Overlay::new();
    let mut deep_names = 0;
    let mut bytes = Vec::new();
    loop {
        match stream::decode(&bytes)? {
            Decoded::Partial(needed) => {
                let have = bytes.len();
                bytes.resize(needed, 0);
                pipe.read_exact(&mut bytes[have..])?;
            }
            Decoded::Command(Command::End, _) => return Ok(overlay),
            Decoded::Command(command, _) => {
                overlay.apply(&command)?;
                let names = command.paths().map(|path| path.split(|b| *b == b'/').count());
                deep_names += names.filter(|names| *names > DEPTH_MAX).sum::<usize>();
                if deep_names > DEEP_NAMES_MAX {
                    return Err(Refused::Stream("much of it lies very deep".into()));
                }
                if overlay.count_names() > names_max {
                    return Err(Refused::TooMany);
                }
                bytes.clear();
            }
        }
    }
}

/// Looks up what the stream does not say: sizes, and the other names of files.
fn complete(
    sides: &Sides<'_>,
    outcome: Outcome,
    names: &dyn Fn(u64) -> Result<Vec<Vec<u8>>, PoolError>,
) -> Result<Changes, PoolError> {
    let mut touched: BTreeMap<Vec<u8>, Touched> = BTreeMap::new();
    let mut linked: BTreeMap<u64, Vec<Touched>> = BTreeMap::new();
    let mut changes = Changes {
        gone: outcome.gone.into_iter().collect(),
        moved: outcome.moved.into_iter().collect(),
        ..Changes::default()
    };
    // Seen with Linux 6.18: a directory that went was left under its temporary name, which is not
    // in the snapshot. Then nothing of the stream is to be believed.
    for (_, new) in &changes.moved {
        look_up(sides.child_dir, sides.child, new)?;
    }
    for (path, (origin, touch)) in outcome.touched {
        let new = look_up(sides.child_dir, sides.child, &path)?;
        let is_file = new.as_ref().is_none_or(|new| new.kind == FileKind::File);
        let content = match (&origin, &new) {
            (None, _) => Content::Whole,
            _ if !is_file => Content::Same,
            (Some(origin), Some(new)) => {
                let mut ranges = touch.ranges;
                let old = look_up(sides.parent_dir, sides.parent, origin)?;
                match old {
                    Some(old) if old.kind == FileKind::File => {
                        ranges.extend(resized(old.size, new.size));
                        match merged(ranges) {
                            ranges if ranges.is_empty() => Content::Same,
                            ranges => Content::Ranges(ranges),
                        }
                    }
                    _ => Content::Whole,
                }
            }
            // A path that is too long or deep to look at; the caller refuses it anyway.
            (Some(_), None) => Content::Whole,
        };
        let entry = Touched { path: path.clone(), origin, content };
        match new {
            Some(new) if new.kind != FileKind::Directory && new.links > 1 => {
                linked.entry(new.inode).or_default().push(entry);
            }
            new => {
                let new = new.filter(|new| new.kind == FileKind::File);
                changes.plain_bytes += new.map_or(0, |new| plain_bytes(&entry.content, new.size));
                touched.insert(path, entry);
            }
        }
    }
    for (inode, entries) in linked {
        let origin = entries.iter().find_map(|entry| entry.origin.clone());
        let content = entries.into_iter().map(|entry| entry.content).reduce(both);
        let content = content.unwrap_or(Content::Whole);
        let mut counted = false;
        for path in names(inode)? {
            if !counted && let Some(new) = look_up(sides.child_dir, sides.child, &path)? {
                if new.kind == FileKind::File {
                    changes.plain_bytes += plain_bytes(&content, new.size);
                }
                counted = true;
            }
            let (origin, content) = (origin.clone(), content.clone());
            touched.insert(path.clone(), Touched { path, origin, content });
        }
    }
    changes.touched = touched.into_values().collect();
    Ok(changes)
}

/// What is at a raw path; `None` when the path is over our limits.
fn look_up(dir: &Dir, place: &SubvolumePath, path: &[u8]) -> Result<Option<Metadata>, PoolError> {
    let Ok(path) = TreePath::from_bytes(path) else { return Ok(None) };
    dir.metadata(&path).map(Some).map_err(|error| {
        let source = match error {
            PathError::Io { source, .. } => source,
            other => io::Error::other(other.to_string()),
        };
        let place = format!("{place}/{path}");
        PoolError::Io { verb: "look up", place, source }
    })
}

/// What a new size alone changes: what was added, or the last byte of what is left, so
/// that the chunk that now ends earlier is read again.
pub(crate) fn resized(old: u64, new: u64) -> Option<Range<u64>> {
    match old.cmp(&new) {
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Less => Some(old..new),
        std::cmp::Ordering::Greater => new.checked_sub(1).map(|last| last..new),
    }
}

/// Ranges in order, apart from each other, none of them empty.
pub(crate) fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// What is to be read again when both are.
fn both(a: Content, b: Content) -> Content {
    match (a, b) {
        (Content::Whole, _) | (_, Content::Whole) => Content::Whole,
        (Content::Same, other) | (other, Content::Same) => other,
        (Content::Ranges(mut a), Content::Ranges(b)) => {
            a.extend(b);
            Content::Ranges(merged(a))
        }
    }
}

/// How many bytes are to be read again of a file that has `size` bytes now.
pub(crate) fn plain_bytes(content: &Content, size: u64) -> u64 {
    match content {
        Content::Same => 0,
        Content::Whole => size,
        Content::Ranges(ranges) => {
            let within = |range: &Range<u64>| range.end.min(size).saturating_sub(range.start);
            ranges.iter().map(within).sum()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_speaks_of_more_names_than_are_held_is_not_followed() {
        let stream: &[u8] = include_bytes!("stream/golden.bin");
        let apply = |names_max| apply_all(&mut &*stream, names_max);
        let names = apply(usize::MAX).unwrap().count_names();
        assert!(names > 5, "{names}");
        assert!(apply(names).is_ok());
        assert!(matches!(apply(names - 1), Err(Refused::TooMany)));
    }
}
